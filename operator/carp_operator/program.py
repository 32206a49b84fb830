"""One run of the operator: wait for the lease, learn the world, then watch and reconcile until told to stop."""

__all__ = ["Settings", "run"]

import asyncio
import logging
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from carp_operator import __version__
from carp_operator.console import serve
from carp_operator.handlers.cache import Cache
from carp_operator.handlers.reconciler import Reconciler
from carp_operator.handlers.watch import relist, watch
from carp_operator.kube.api import Api, ApiError
from carp_operator.kube.lease import Lease
from carp_operator.metrics import Metrics
from carp_operator.plan.planner import Planner
from carp_protocol.auth import PASSWORD_LENGTH, STRICT_KEY_LENGTH
from carp_protocol.config import Mode

_RELIST_S = 300.0
"""What a broken watch may have missed is made good by then."""
_HANGS_S = 180.0
"""The loop goes round at least each minute; three of them without is a hang."""
_RETRY_S = (0.5, 15.0)
_STOP_S = 3.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line says."""

    namespace: str
    first_vhid: int = 1
    last_vhid: int = 255
    metrics_address: str = ""
    leader_election: bool = True


def make_key(mode: Mode) -> bytes:
    """A new key as a ring holds it: 64 hexadecimal digits, or a password as long as carp(4) allows."""
    if mode is Mode.STRICT:
        return secrets.token_hex(STRICT_KEY_LENGTH).encode()
    return secrets.token_urlsafe(PASSWORD_LENGTH)[:PASSWORD_LENGTH].encode()


class _Term:
    """From taking the lease to losing it: what was learned before is not believed after it."""

    def __init__(self, settings: Settings, api: Api, metrics: Metrics, identity: str) -> None:
        self.cache = Cache(settings.first_vhid, settings.last_vhid)
        self.reconciler = Reconciler(api, self.cache, Planner(make_key), metrics, settings.namespace, identity)
        self.learnt = False
        """The world is known: from then on the loop is to turn."""
        self._namespace = settings.namespace
        self._api = api

    def trouble(self) -> str:
        """Why the process should be started anew; empty if it should not."""
        silent_s = time.monotonic() - self.reconciler.last_round_s
        return f"the loop hangs for {silent_s:.0f} s" if self.learnt and silent_s > _HANGS_S else ""

    async def serve(self, lease: Lease | None) -> None:
        """Until the lease is lost. Raises what a bug raises."""
        await _until_one_ends(self._work(), *([lease.hold()] if lease else []))

    async def _work(self) -> None:
        await _learn(self._api, self.cache, self._namespace)
        world = self.cache.world
        _log.info("carp-operator %s knows %d groups and %d nodes", __version__, len(world.groups), len(world.nodes))
        self.reconciler.last_round_s = time.monotonic()
        self.learnt = True
        await _until_one_ends(
            self.reconciler.run(),
            _relist_now_and_then(self._api, self.cache, self._namespace, self.reconciler),
            watch(self.cache, self.reconciler.wake, self._namespace),
        )


async def _until_one_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Then the others are cancelled. Raises what that one raises."""
    tasks = {asyncio.create_task(work) for work in works}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_STOP_S)
    for task in done:
        task.result()


async def run(settings: Settings, api: Api) -> int:
    """Until SIGTERM or SIGINT (0), or a bug (1). A lease that is lost, as when the API server is away, is waited for again."""
    identity = f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"
    metrics, stop = Metrics(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    lease = Lease(api, settings.namespace, identity) if settings.leader_election else None
    term: _Term | None = None
    async with serve(
        settings.metrics_address, lambda: metrics.text(term.cache.world if term else None), lambda: term.trouble() if term else ""
    ):
        while not lease or await _unless_stopped(lease.acquire(), stop):
            term = _Term(settings, api, metrics, identity)
            metrics.leader.set(1)
            try:
                lost = await _unless_stopped(term.serve(lease), stop)
            except Exception:  # noqa: BLE001  what is left is to say so, and to let the next one in
                _log.exception("the operator ends because of a bug; please report it")
                return 1
            finally:
                term = None
                metrics.leader.set(0)
                if lease:
                    await lease.release()
            if not lost:
                break
    return 0


async def _unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Whether ``work`` ended before the order to stop. Raises what it raises."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    done, pending = await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for one in pending:
        one.cancel()
    if pending:
        await asyncio.wait(pending, timeout=_STOP_S)
    if task in done:
        task.result()
    return task in done


async def _learn(api: Api, cache: Cache, namespace: str) -> None:
    """The whole world, however long the API server needs to come up."""
    delay_s = _RETRY_S[0]
    while True:
        try:
            await relist(api, cache, namespace)
        except ApiError as error:
            _log.warning("waiting for the API server: %s", error)
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311  jitter
            delay_s = min(_RETRY_S[1], delay_s * 2)
        else:
            return


async def _relist_now_and_then(api: Api, cache: Cache, namespace: str, reconciler: Reconciler) -> None:
    while True:
        await asyncio.sleep(_RELIST_S * random.uniform(0.9, 1.1))  # noqa: S311  jitter
        try:
            await relist(api, cache, namespace)
        except ApiError as error:
            _log.warning("what the watches say could not be checked: %s", error)
        else:
            reconciler.wake()
