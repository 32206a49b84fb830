"""Waiting for a cluster to do what it was asked: looks again and again, for a bounded time, with a clock that tests can replace."""

__all__ = ["Clock", "Patience"]

import time
from collections.abc import Iterator
from typing import Protocol


class Clock(Protocol):
    """What is needed of the module ``time``."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float, /) -> None: ...


_LOOK_S = 0.1
"""Between two looks: a handover takes less, and a report up to a second."""
_LONGEST_LOOK_S = 1.0
"""After some seconds nobody waits for milliseconds any more."""


class Patience:
    """``for _ in patience:`` runs at once, then again and again until the time is over, and once more after it."""

    def __init__(self, timeout_s: float, clock: Clock = time) -> None:
        self._clock = clock
        self._started = clock.monotonic()
        self._timeout_s = timeout_s

    @property
    def elapsed_s(self) -> float:
        return self._clock.monotonic() - self._started

    def __iter__(self) -> Iterator[None]:
        while True:
            last = self.elapsed_s >= self._timeout_s
            yield
            if last:
                return
            pause_s = min(_LONGEST_LOOK_S, _LOOK_S + self.elapsed_s / 20)
            self._clock.sleep(max(0.001, min(pause_s, self._timeout_s - self.elapsed_s)))
