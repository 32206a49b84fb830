"""What can wait until nothing urgent does: reports, and through them logs, hooks and watchers. Knows nothing of them."""

__all__ = ["Afterwards"]

import asyncio
from collections import deque
from collections.abc import Callable


class Afterwards:
    """Calls what was handed over, in order, one in each turn of the loop.

    Hundreds of groups take over together, and a report takes as long as a takeover: between two of them the loop looks at
    deadlines and at what has arrived.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()

    def call(self, function: Callable[[], None]) -> None:
        """Call ``function`` when its turn comes."""
        self._waiting.append(function)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._next)

    def flush(self) -> None:
        """Call everything that waits now: the end is near."""
        while self._waiting:
            self._waiting.popleft()()

    def _next(self) -> None:
        if not self._waiting:  # flushed
            return
        function = self._waiting[0]
        try:
            function()
        finally:
            self._waiting.popleft()
            if self._waiting:
                self._loop.call_soon(self._next)
