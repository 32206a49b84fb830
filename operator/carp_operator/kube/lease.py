"""Which of several operators acts: a Lease, as every Kubernetes component takes one.

Two operators that act at once come to the same plan, but for the VHIDs of new groups: both may find the same one free. The data
plane never looks at the lease.
"""

__all__ = ["Lease"]

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from carp_operator.api.names import MANAGER

from . import paths
from .api import Api, ApiError, Json

DURATION_S = 15
"""How long a holder that has gone without a word keeps others waiting."""
RENEW_S = 5.0
RETRY_S = 2.0

_log = logging.getLogger(__name__)


class Lease:
    """``acquire`` it, then ``hold`` it until it is lost, then ``release`` it."""

    def __init__(self, api: Api, namespace: str, identity: str) -> None:
        self._api = api
        self._namespace = namespace
        self._path = paths.lease(namespace, MANAGER)
        self._identity = identity
        self._said = ""
        """What the log has last; an outage is one line and not one each two seconds."""
        self._seen: tuple[str, float] = ("", 0.0)
        """The resourceVersion last seen, and when: a lease is over when it has not changed for its duration, by our own clock."""
        self._alone = threading.Lock()
        """A renewal goes on in its thread when its task is cancelled: what releases the lease waits for it, and has the last word."""

    async def acquire(self) -> None:
        """Returns when it is ours; tries for ever."""
        while not await self._attempt():  # noqa: ASYNC110  only the API server knows when
            await asyncio.sleep(RETRY_S * random.uniform(0.8, 1.2))  # noqa: S311  jitter
        _log.info("this operator is at work")

    async def hold(self) -> None:
        """Renews it; returns when it could not be renewed in time, however long the API server takes to say so."""
        ends_at = time.monotonic() + DURATION_S - RENEW_S
        while time.monotonic() < ends_at:
            await asyncio.sleep(RENEW_S)
            with contextlib.suppress(TimeoutError):
                if await asyncio.wait_for(self._attempt(), ends_at + RENEW_S / 2 - time.monotonic()):
                    ends_at = time.monotonic() + DURATION_S - RENEW_S
        _log.error("the lease could not be renewed; another operator may be at work now")

    async def release(self) -> None:
        """Let the next one in at once."""
        try:
            await asyncio.to_thread(self._give_back)
        except (ApiError, KeyError) as error:
            _log.warning("the lease was not released, the next operator waits %s s: %s", DURATION_S, error)

    def _give_back(self) -> None:
        with self._alone:
            current = self._api.get(self._path)
            if current["spec"].get("holderIdentity") == self._identity:
                current["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                self._api.replace(self._path, current)

    async def _attempt(self) -> bool:
        try:
            taken = await asyncio.to_thread(self._take_alone)
            sentence = "" if taken else "another operator is at work; waiting for its lease"
        except ApiError as error:
            taken, sentence = False, "" if error.is_conflict else f"the lease cannot be taken: {error}"
        if sentence and sentence != self._said:
            _log.info("%s", sentence)
        self._said = sentence
        return taken

    def _take_alone(self) -> bool:
        with self._alone:
            return self._take()

    def _take(self) -> bool:
        try:
            current = self._api.get(self._path)
        except ApiError as error:
            if not error.is_missing:
                raise
            metadata = {"name": MANAGER, "namespace": self._namespace}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": self._spec({})}
            self._api.create(paths.leases(self._namespace), body)
            return True
        spec = current.get("spec") or {}
        if not self._is_free(spec, current["metadata"]["resourceVersion"]):
            return False
        self._api.replace(self._path, current | {"spec": self._spec(spec)})
        return True

    def _is_free(self, spec: Mapping[str, Any], version: str) -> bool:
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        if self._seen[0] != version:
            self._seen = (version, time.monotonic())
        return time.monotonic() - self._seen[1] > float(spec.get("leaseDurationSeconds", DURATION_S))

    def _spec(self, before: Mapping[str, Any]) -> Json:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        ours = before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION_S,
            "acquireTime": before.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions", 0)) + (not ours),
        }
