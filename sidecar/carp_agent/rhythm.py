"""When to ask the sidecar for its status: at once after a change, rarely without one, and never so often that it notices. Pure.

How often it is asked bounds how often anything is reported. A status of 255 groups costs the sidecar 40 ms (measured), in which it elects
nobody, so what an answer took decides how long a burst of changes is left to end and how seldom it is asked for nothing.
"""

from __future__ import annotations

__all__ = ["Limiter", "Rhythm"]

import math

_BURST, _EVERY_S = 3.0, 1.0
"""So many at once (a handover is three changes within milliseconds), then one a second."""
_QUIET_S, _LOUD_S = 0.05, 0.25
"""Longest wait for the end of a burst: seconds after its last change, and after its first."""
_SETTLE_S = 0.5
"""Seconds after a change to look once more: addresses are attached a moment after a transition is told."""
_POLL_S, _LONGEST_POLL_S = 10.0, 30.0
"""Seconds between two looks at what no change tells of: rejected adverts, warnings, what the kernel holds."""
_SHARE = 500.0
"""Polling costs the sidecar at most one part in so many of its time."""


class Limiter:
    """A bucket of tokens: ``take`` gives 0 and takes one, or gives the seconds until there is one."""

    def __init__(self, burst: float = _BURST, every_s: float = _EVERY_S) -> None:
        self._burst = burst
        self._every_s = every_s
        self._tokens = burst
        self._at = 0.0

    def take(self, now: float) -> float:
        """Seconds to wait; 0 if it may be done now, which is counted."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) / self._every_s)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) * self._every_s


class Rhythm:
    """Of one connection, which begins with a status."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._took_s = 0.0
        self._first_change: float | None = None
        self._last_change = 0.0
        self._look_at = math.inf

    def changed(self, now: float) -> None:
        """The sidecar told a change."""
        if self._first_change is None:
            self._first_change = now
        self._last_change = now

    def answered(self, now: float, took_s: float) -> None:
        """A status is here, with all changes that were told before it."""
        settling = self._first_change is not None
        self._took_s = took_s
        self._first_change = None
        self._look_at = now + (_SETTLE_S if settling else min(max(_POLL_S, _SHARE * took_s), _LONGEST_POLL_S))

    def wait_s(self, now: float) -> float:
        """Seconds until the next question; 0: ask now, which is counted."""
        due = self._look_at
        if self._first_change is not None:
            quiet_at = self._last_change + min(self._took_s, _QUIET_S)
            due = min(due, quiet_at, self._first_change + _LOUD_S)
        return due - now if due > now else self._limiter.take(now)
