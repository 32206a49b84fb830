"""Load, plan, apply: one loop for everything, woken by changes. What fails is tried again, later and later; what works is written once.

Order matters: a key ring before the CarpNodes that name its keys, the CarpNode of the node that should become master before
the others, and Events before the status from which it is known that they were told.
"""

__all__ = ["Reconciler"]

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from carp_operator.api.group import CarpGroup
from carp_operator.kube import paths
from carp_operator.kube.api import Api, ApiError, Json
from carp_operator.kube.bodies import carp_node_body, event_body, ring_body, status_body
from carp_operator.metrics import Metrics
from carp_operator.plan.events import Event
from carp_operator.plan.planner import CarpNodeWrite, Changes, Plan, Planner
from carp_operator.plan.world import KeyRing

from .cache import Cache, Kind

_PARALLEL = 4
"""Requests at a time: more gains nothing (one Python process encodes them all) and floods an API server after an outage."""
_RETRY_S = (0.2, 30.0)
"""First and longest wait after a failure."""
_LONGEST_WAIT_S = 60.0
"""The loop goes round at least this often, to show that it lives."""
_GATHER_S = 0.05
"""After a report the others' are on their way: one status for all of them is enough. What users ask for does not wait."""
_EVENTS_NAMESPACE = "default"
"""Where Events about cluster-scoped objects belong; the API server refuses them elsewhere."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Reconciler:
    """``run`` it; ``wake`` it after every change of the cache."""

    def __init__(self, api: Api, cache: Cache, planner: Planner, metrics: Metrics, namespace: str, identity: str) -> None:
        self._api = api
        self._cache = cache
        self._planner = planner
        self._metrics = metrics
        self._namespace = namespace
        self._identity = identity
        self._woken = asyncio.Event()
        self._failures = 0
        self._owed: list[Changes] = []
        self._retry_at = 0.0
        """When to try again what is owed (monotonic)."""
        self.last_round_s = time.monotonic()
        """When the loop last went round (monotonic): a loop that hangs is to be restarted."""

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """For ever."""
        again_in_s: float | None = 0.0
        while True:
            await self._wait(again_in_s)
            if self._cache.only_reports():
                await asyncio.sleep(_GATHER_S)
            self.last_round_s = time.monotonic()
            again_in_s = await self._round()

    async def _wait(self, longest_s: float | None) -> None:
        """Until woken, or until something must be looked at or tried again."""
        waits = [_LONGEST_WAIT_S] if longest_s is None else [_LONGEST_WAIT_S, longest_s]
        if self._owed:
            waits.append(self._retry_at - time.monotonic())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), max(0.0, min(waits)))
        self._woken.clear()

    async def _round(self) -> float | None:
        """Plans and applies what changed; gives the seconds after which to look again."""
        if self._owed and time.monotonic() >= self._retry_at:
            for owed in self._owed:
                self._cache.give_back(owed)
            self._owed = []
        changes = self._cache.take_changes()
        started = time.monotonic()
        plan = self._planner.plan(self._cache.world, changes, time.time())
        if not _writes_anything(plan):
            return plan.again_in_s
        errors = await self._apply(plan)
        self._metrics.reconciles.labels("error" if errors else "ok").inc()
        self._metrics.duration.observe(time.monotonic() - started)
        self._metrics.last_reconcile.set_to_current_time()
        if errors:
            self._owe(changes, errors[0])
        elif not self._owed:
            self._failures = 0
        return plan.again_in_s

    def _owe(self, changes: Changes, error: ApiError) -> None:
        """What could not be written is tried again later; what changes meanwhile does not wait for it."""
        self._failures += 1
        longest_s = min(_RETRY_S[1], _RETRY_S[0] * 2 ** min(self._failures, 10))
        delay_s = longest_s * random.uniform(0.5, 1.0)  # noqa: S311  jitter
        self._owed.append(changes)
        self._retry_at = time.monotonic() + delay_s
        _log.warning("not everything could be written, trying again in %.1f s: %s", delay_s, error)

    async def _apply(self, plan: Plan) -> list[ApiError]:
        """What went wrong. One object that cannot be written holds up no other, but no CarpNode may name a key that is not there."""
        errors = await _each(plan.rings, self._write_ring)
        if not errors:
            errors += await _each(plan.carp_nodes, self._write_carp_node)
        errors += await _each(plan.events, self._write_event)
        errors += await _each(plan.statuses, self._write_status)
        return errors

    async def _write_ring(self, item: tuple[CarpGroup, KeyRing]) -> None:
        group, ring = item
        body = ring_body(group, ring, self._namespace)
        version = self._cache.ring_versions.get(group.name)
        if version is None:
            made = await self._write(Kind.SECRET, self._api.create, paths.secrets(self._namespace), body)
        else:
            body["metadata"]["resourceVersion"] = version
            made = await self._write(Kind.SECRET, self._api.replace, paths.secret(self._namespace, body["metadata"]["name"]), body)
        self._cache.put(Kind.SECRET, made)
        steps = {True: "has a new key ring", False: "takes a step of its key rotation"}
        _log.info("group %s %s", group.name, steps[version is None], extra={"fields": {"group": group.name, "sign": ring.sign}})

    async def _write_carp_node(self, write: CarpNodeWrite) -> None:
        applied = await self._write(Kind.CARP_NODE, self._api.apply, paths.carp_node(write.name), carp_node_body(write))
        self._cache.put(Kind.CARP_NODE, applied)

    async def _write_status(self, item: tuple[str, Json]) -> None:
        name, status = item
        try:
            applied = await self._write(Kind.GROUP, self._api.apply, f"{paths.carp_group(name)}/status", status_body(name, status))
        except ApiError as error:
            if error.is_missing:
                return  # the group went meanwhile
            raise
        self._cache.put(Kind.GROUP, applied)

    async def _write_event(self, event: Event) -> None:
        body = event_body(event, _EVENTS_NAMESPACE, self._identity, time.time())
        log = _log.warning if event.warning else _log.info
        log("%s: %s: %s", event.group, event.reason, event.note, extra={"fields": {"group": event.group, "reason": str(event.reason)}})
        try:
            await self._write("Event", self._api.create, paths.events(_EVENTS_NAMESPACE), body)
        except ApiError as error:
            if not error.is_conflict:  # told already, by an operator before
                _log.warning("an Event was not written: %s", error)

    async def _write(self, kind: str, method: Callable[[str, Json], Json], path: str, body: Json) -> Json:
        try:
            answer = await asyncio.to_thread(method, path, body)
        except ApiError:
            self._metrics.writes.labels(str(kind), "error").inc()
            raise
        self._metrics.writes.labels(str(kind), "ok").inc()
        return answer


def _writes_anything(plan: Plan) -> bool:
    return bool(plan.rings or plan.carp_nodes or plan.statuses or plan.events)


async def _each(items: Iterable[_T], write: Callable[[_T], Awaitable[None]]) -> list[ApiError]:
    """Writes every item, in order, a few at a time; gives what went wrong."""
    queue = iter(items)
    errors: list[ApiError] = []

    async def work() -> None:
        for item in queue:
            try:
                await write(item)
            except ApiError as error:
                errors.append(error)

    await asyncio.gather(*(work() for _ in range(_PARALLEL)))
    return errors
