"""When the kernel does not hold what a member says it holds: what somebody takes away is put back, what the kernel refuses tried again.

Neither for ever at the same pace: a kernel without IPv6 refuses an IPv6 address each time, and somebody may remove one each time.
"""

__all__ = ["KERNEL", "Losses"]

import asyncio
import logging
from collections.abc import Callable

from carp_protocol.counter import TokenBucket
from carp_protocol.engine import Engine
from carp_sidecar.logs import log_event

_log = logging.getLogger(__name__)

KERNEL = "kernel"
"""The demotion of a group whose addresses the kernel refused."""
_PATIENCE = 2
"""Refusals in a row that may have been a lack of memory, or a device that was just being made."""
_LONGEST_PAUSE_S = 60.0


class Losses:
    """Of one group. ``after`` carries out what the engine wants then, ``demote`` takes the group out of the election for a while."""

    def __init__(
        self,
        group: str,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        after: Callable[[], None],
        demote: Callable[[str, int | None], None],
    ) -> None:
        self._group = group
        self._engine = engine
        self._loop = loop
        self._after = after
        self._demote = demote
        self._bucket = TokenBucket(rate_per_s=1, burst=10)
        self._restoring = False
        self._refusals = 0
        self.refusal = ""
        """What the kernel said to the last take, a sentence; empty if it took all."""
        self._pause: asyncio.TimerHandle | None = None

    def lost(self, what: str) -> None:
        """``what`` happened, a phrase. All that is lost together, such as 32 addresses of an interface, is put back together."""
        if self._restoring or not self._engine.state.holds_addresses:
            return
        now = self._loop.time()
        if self._bucket.take(now):
            log_event(_log, logging.WARNING, f"{what} by somebody; putting it back", group=self._group)
            self._restoring = True
            self._engine.addresses_lost(now)
        else:
            log_event(_log, logging.ERROR, f"{what} again and again; stepping down", group=self._group)
            self._engine.addresses_failed(now)
        self._after()

    def restored(self) -> None:
        """The kernel has answered."""
        self._restoring = False

    def refused(self, sentence: str) -> None:
        """It said no: let another member try, and after some times in a row do not even try for a while."""
        self.refusal = sentence
        log_event(_log, logging.ERROR, sentence, group=self._group)
        self._engine.addresses_failed(self._loop.time())
        self._after()
        self._refusals += 1
        if self._refusals > _PATIENCE:
            self.close()
            self._demote(KERNEL, None)
            pause_s = min(2.0 ** (self._refusals - _PATIENCE), _LONGEST_PAUSE_S)
            self._pause = self._loop.call_later(pause_s, self._demote, KERNEL, 0)

    def accepted(self) -> None:
        """It said yes."""
        self._refusals, self.refusal = 0, ""

    def forget(self) -> None:
        """The group is another one now: try at once."""
        self._refusals, self.refusal = 0, ""
        self.close()
        self._demote(KERNEL, 0)

    def close(self) -> None:
        """The group goes."""
        if self._pause:
            self._pause.cancel()
