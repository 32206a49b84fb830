"""Waiting for a cluster to do what it was asked: looks again and again, for a bounded time, with a clock that tests can replace.

The address that moves may be the one by which the API server is reached: then the connection breaks just when there is something to see.
"""

__all__ = ["Clock", "Patience"]

import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from carp_operator.api.errors import OperatorError

_T = TypeVar("_T")


class Clock(Protocol):
    """What is needed of the module ``time``."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float, /) -> None: ...


_LOOK_S = 0.1
"""Between two looks: a handover takes less, and a report up to a second."""
_LONGEST_LOOK_S = 1.0
"""After some seconds nobody waits for milliseconds any more."""
_TOO_MANY, _SERVER_ERROR = 429, 500


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
            self._pause()

    def ask(self, look: Callable[[], _T]) -> _T:
        """What ``look`` gives; an API server that cannot be used just now is asked again until the time is over."""
        while True:
            try:
                return look()
            except OperatorError as error:
                if not _passes(error) or self.elapsed_s >= self._timeout_s:
                    raise
            self._pause()

    def _pause(self) -> None:
        pause_s = min(_LONGEST_LOOK_S, _LOOK_S + self.elapsed_s / 20)
        self._clock.sleep(max(0.001, min(pause_s, self._timeout_s - self.elapsed_s)))


def _passes(error: OperatorError) -> bool:
    """Whether it says something of the moment and not of what was asked."""
    status = getattr(error, "status", 0)
    return getattr(error, "reason", "") == "Unreachable" or status == _TOO_MANY or status >= _SERVER_ERROR
