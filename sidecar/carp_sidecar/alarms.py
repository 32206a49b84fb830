"""The deadlines of all groups on one timer of the event loop.

A timer of asyncio costs a group 20 us with every advert (measured with 255 groups: its heap compares objects in Python);
a tuple in a heap of our own costs 2 us.
"""

__all__ = ["Alarms", "Owner"]

import asyncio
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

_AT_ONCE = 64
"""Alarms in one turn of the loop: between turns it reads what has arrived, which may make the next alarm needless."""


class Owner(Protocol):
    """Who has a deadline: one, which replaces the one before."""

    armed_for: float | None
    """Kept by Alarms; None: nothing is due."""

    def on_alarm(self, due: float) -> None:
        """The deadline has come."""


class Alarms:
    """``set`` is all there is to it. A deadline that was replaced stays in the heap until it comes up, and is skipped then."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Owner]] = []
        self._serial = count()
        self._timer: asyncio.TimerHandle | None = None
        self._firing = False
        """The timer is armed for whatever is first when all that is due has been called."""

    def set(self, owner: Owner, due: float | None) -> None:
        """Call ``owner.on_alarm`` at ``due``; None: not at all."""
        if due == owner.armed_for:
            return
        owner.armed_for = due
        if due is not None:
            heappush(self._heap, (due, next(self._serial), owner))
            if not self._firing and (self._timer is None or due < self._timer.when()):
                self._arm(due)

    def _arm(self, due: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._fire, due)

    def _fire(self, armed_for: float) -> None:
        self._timer, self._firing = None, True
        now = max(armed_for, self._loop.time())
        try:
            for _ in range(_AT_ONCE):
                if not self._heap or self._heap[0][0] > now:
                    break
                due, _, owner = heappop(self._heap)
                if owner.armed_for == due:
                    owner.armed_for = None
                    owner.on_alarm(due)
        finally:
            self._firing = False
            while self._heap and self._heap[0][2].armed_for != self._heap[0][0]:
                heappop(self._heap)
            if self._heap:
                self._arm(self._heap[0][0])
