"""How long to wait before the next attempt. No clock: it gives seconds, the caller waits."""

from __future__ import annotations

__all__ = ["Backoff", "jittered"]

import os


def jittered(seconds: float) -> float:
    """Between half of it and all of it, so that a thousand agents do not come back in one moment."""
    return seconds * (0.5 + int.from_bytes(os.urandom(2)) / 131_072)


class Backoff:
    """Doubles from ``first_s`` to ``longest_s``, with jitter."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def next_s(self, *, longest_s: float | None = None) -> float:
        """Seconds to wait now; ``longest_s`` is a lower limit for this kind of failure."""
        wait_s = min(self._next_s, self._longest_s if longest_s is None else longest_s)
        self._next_s = min(2 * self._next_s, self._longest_s)
        return jittered(wait_s)

    def reset(self) -> None:
        """All is well again."""
        self._next_s = self._first_s
