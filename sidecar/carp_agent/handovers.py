"""Which handovers of the CarpNode are to be carried out: each once, and none that is old. Pure; time is an argument."""

from __future__ import annotations

__all__ = ["Handovers", "Request"]

from carp_agent.times import read_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

    from carp_agent.carpnode import CarpNode

_FRESH_S = 120.0
"""Seconds for which a request is good: an agent that was away for longer must not act on what was wanted then. Also of a clock ahead."""
_REMEMBERED = 4096
"""Ids kept in memory; beyond it the oldest are forgotten, which by then are old themselves."""


class Request:
    """A handover that is to be carried out now."""

    __slots__ = ("group", "id", "to")

    def __init__(self, group: str, id_: str, to: str) -> None:
        self.group = group
        self.id = id_
        self.to = to
        """The address of the member that should take over; empty: the best."""


class Handovers:
    """Remembers what was asked for, here and in the status of the CarpNode, so that a restart of the agent repeats nothing."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], None] = {}
        self.results: dict[str, dict[str, Any]] = {}
        """By group: the last one, as the status tells it."""

    def learn_untrusted(self, node: CarpNode) -> None:
        """Take what an agent before this one did from the status."""
        groups = node.status.get("groups")
        for group in groups if isinstance(groups, list) else []:
            handover = group.get("handover") if isinstance(group, dict) else None
            if isinstance(handover, dict) and isinstance(handover.get("id"), str) and isinstance(group.get("name"), str):
                self._remember(group["name"], handover["id"])
                self.results.setdefault(group["name"], handover)

    def next_untrusted(self, node: CarpNode, running: Container[str], now: float) -> Request | None:
        """The next one, which counts as done from now on; only of groups that run."""
        for group in node.groups:
            name, handover = group.get("name"), group.get("handover")
            if not isinstance(handover, dict) or not isinstance(name, str) or name not in running:
                continue
            id_, to, asked_at = handover.get("id"), handover.get("to", ""), read_time(handover.get("requestedAt"))
            if not isinstance(id_, str) or not isinstance(to, str) or (name, id_) in self._seen:
                continue
            self._remember(name, id_)
            if asked_at is not None and abs(now - asked_at) < _FRESH_S:
                return Request(name, id_, to)
        return None

    def done(self, request: Request, refusal: str) -> None:
        """What came of it; an empty refusal: it has begun."""
        result = {"id": request.id, "result": "Refused" if refusal else "Started"}
        self.results[request.group] = result | ({"message": refusal[:1024]} if refusal else {})

    def _remember(self, group: str, id_: str) -> None:
        self._seen[group, id_] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
