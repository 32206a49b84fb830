"""What should run on this node, and how far that is: when to try, and what is known to run. Pure; time is an argument.

A CarpNode that is gone for good means that nothing should run. Gone for good is only what the API server said definitely and did not take
back for a while; an API server that is silent says nothing.
"""

from __future__ import annotations

__all__ = ["Attempt", "Programme"]

import math

from carp_agent.backoff import Backoff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from carp_agent.carpnode import CarpNode
    from carp_agent.configurator import Outcome

    Version = tuple[str, int]
    Target = tuple[Version, str]
    """What should run, and the start of the sidecar that should run it (empty: there is none)."""

_RETRY_S = (0.25, 10.0)
"""Seconds before a configuration that did not work out is tried again: a Secret or a folder may come at any moment."""
_REFUSED_RETRY_S = (30.0, 300.0)
"""The same after the sidecar refused: only a new generation, which is tried at once, or a mended key can help."""
_NOTHING: Version = ("", 0)


class Attempt:
    """When something that failed may be tried again."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._backoff = Backoff(first_s, longest_s)
        self.due = 0.0

    def failed(self, now: float, *, longest_s: float | None = None) -> None:
        """It did not work; ``longest_s`` lowers the limit of the wait."""
        self.due = now + self._backoff.next_s(longest_s=longest_s)

    def reset(self) -> None:
        """It worked, or circumstances are new: no wait now, and a short one the next time."""
        self._backoff.reset()
        self.due = 0.0


class Programme:
    """``node`` is the CarpNode as it is, None if there is none or nobody knows."""

    def __init__(self, gone_after_s: float) -> None:
        self._gone_after_s = gone_after_s
        self._missing_since: float | None = None
        self._tried: Target | None = None
        self._settled: Target | None = None
        self._attempt = Attempt(*_RETRY_S)
        self._refused = Attempt(*_REFUSED_RETRY_S)
        self._running_uid: str | None = None
        self.node: CarpNode | None = None
        self.problems: tuple[str, ...] = ()
        """Why the last attempt did not work out."""
        self._versions: dict[str, str] = {}

    def found(self, node: CarpNode) -> None:
        """The API server tells the object."""
        self.node, self._missing_since = node, None
        if self._running_uid is None:  # after the agent's start: what runs is of this object, as far as anybody knows
            self._running_uid = node.uid
            self._versions = _versions_untrusted(node.status.get("groups"))

    def missing(self, now: float) -> None:
        """The API server says that there is no such object."""
        self.node = None
        self._running_uid = self._running_uid or ""
        if self._missing_since is None:
            self._missing_since = now

    def wanted(self, now: float) -> Version | None:
        """What should run; None: what runs should go on, because nobody has said otherwise."""
        if self.node:
            return self.node.version
        gone = self._missing_since is not None and now - self._missing_since >= self._gone_after_s
        return _NOTHING if gone else None

    def begin(self, started: str, now: float) -> bool:
        """Whether to try now; then the result goes to ``ended``. ``started``: of the sidecar, empty if there is none."""
        wanted = self.wanted(now)
        if wanted is None:
            return False
        target = (wanted, started)
        if target == self._settled or (target == self._tried and now < self._due):
            return False
        if target != self._tried:
            self._attempt.reset()
            self._refused.reset()
        self._tried = target
        return True

    def ended(self, outcome: Outcome, node: CarpNode | None, now: float) -> None:
        """What came of the attempt to run ``node``."""
        self.problems = outcome.problems
        if outcome.problems:
            (self._refused if outcome.refused else self._attempt).failed(now)
            return
        self._settled = self._tried
        self._running_uid = node.uid if node else ""
        self._versions = _versions_untrusted(node.groups) if node else {}

    def hurry(self) -> None:
        """The API server answers again: what failed without it may work now."""
        self._attempt.reset()

    def next_at(self, now: float) -> float:
        """When to look again although nothing happens."""
        if self._tried != self._settled and self._due > now:
            return self._due
        if self._missing_since is not None and now < self._missing_since + self._gone_after_s:
            return self._missing_since + self._gone_after_s
        return math.inf

    @property
    def _due(self) -> float:
        return max(self._attempt.due, self._refused.due)

    def running_generation(self, config: Mapping[str, Any]) -> int:
        """The generation of this CarpNode that the sidecar runs; 0 if it runs that of no or of another object."""
        generation = config.get("generation")
        if self.node is None or self._running_uid != self.node.uid or type(generation) is not int:
            return 0
        return generation if 0 < generation <= self.node.generation else 0

    def running_versions(self, config: Mapping[str, Any]) -> dict[str, str]:
        """By group: the version of the entry that runs, or that the sidecar will start from."""
        return _versions_untrusted(self.node.groups) if self.node and self._runs_newest(config) else self._versions

    def running_problems(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Why the newest version does not run."""
        return () if self._runs_newest(config) else self.problems

    def _runs_newest(self, config: Mapping[str, Any]) -> bool:
        """Whether the sidecar says so, perhaps before the attempt that made it has ended."""
        return self.node is not None and self.running_generation(config) == self.node.generation


def _versions_untrusted(groups: object) -> dict[str, str]:
    found = {}
    for group in groups if isinstance(groups, list) else []:
        if isinstance(group, dict) and isinstance(group.get("name"), str) and isinstance(group.get("version"), str):
            found[group["name"]] = group["version"]
    return found
