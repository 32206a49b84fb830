"""Runs a group's hook on its transitions. Nothing ever waits for a hook, and no hook can pile up work.

Knows how programs are run and in which order; knows nothing of elections.
"""

__all__ = ["HookRunner"]

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from carp_sidecar.children import Outcome, run_program
from carp_sidecar.logs import log_event

_HOOK_TIMEOUT_S = 30.0
"""Seconds after which a hook is killed: long enough to restart a service, short enough not to miss the next transition."""
_PENDING_PER_GROUP = 4
"""Transitions that wait for a running hook; more are merged into the newest."""
_AT_ONCE = 16
"""Hooks of all groups that run at one time: starting a process takes about a millisecond of the election's thread."""

_log = logging.getLogger(__name__)

_Job = tuple[tuple[str, ...], dict[str, Any]]


class HookRunner:
    """The hooks of all groups of a process: per group one at a time and in order, the newest transition always told."""

    def __init__(self, *, timeout_s: float = _HOOK_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._pending: dict[str, deque[_Job]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def fire(self, hook: Sequence[str], change: Mapping[str, Any]) -> None:
        """Queue ``hook`` for a transition (the document of the change stream); returns at once."""
        if not hook:
            return
        group = str(change["group"])
        queue = self._pending.setdefault(group, deque())
        job = (tuple(hook), dict(change))
        if len(queue) >= _PENDING_PER_GROUP:
            # FROM of each call stays TO of the call before: a hook that keeps state is never lied to.
            _, skipped = queue.pop()
            job[1]["from"] = skipped["from"]
            log_event(_log, logging.WARNING, "hook is slower than the transitions; one was skipped", group=group, to=skipped["to"])
        queue.append(job)
        if group not in self._workers:
            self._workers[group] = asyncio.create_task(self._work(group), name=f"hooks of {group}")

    async def close(self, *, grace_s: float) -> None:
        """Let what is queued finish for at most ``grace_s``, then kill it."""
        workers = list(self._workers.values())
        if not workers:
            return
        _, late = await asyncio.wait(workers, timeout=grace_s)
        for worker in late:
            worker.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _work(self, group: str) -> None:
        try:
            while queue := self._pending[group]:
                async with self._slots:
                    hook, change = queue.popleft()
                    outcome = await run_program(_arguments(hook, change), timeout_s=self._timeout_s, environment=_environment(change))
                _report(hook, change, outcome)
        finally:
            del self._pending[group], self._workers[group]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _arguments(hook: tuple[str, ...], change: Mapping[str, Any]) -> list[str]:
    return [*hook, *(_text(change.get(name)) for name in ("group", "vhid", "interface", "from", "to", "reason"))]


def _environment(change: Mapping[str, Any]) -> dict[str, str]:
    names = ("group", "vhid", "interface", "from", "to", "reason", "master", "time")
    return {f"KUBECARP_{name.upper()}": _text(change.get(name)) for name in names}


def _report(hook: tuple[str, ...], change: Mapping[str, Any], outcome: Outcome) -> None:
    fields = {"group": change["group"], "to": change.get("to"), "hook": hook[0], "exit_code": outcome.exit_code}
    if outcome.last_line:
        fields["output"] = outcome.last_line
    if outcome.problem:
        log_event(_log, logging.WARNING, f"hook failed: {outcome.problem}", **fields)
    else:
        log_event(_log, logging.INFO, "hook ran", **fields)
