"""What somebody takes away from a member that holds addresses is put back at once, but not for ever."""

__all__ = ["Losses"]

import logging

from carp_protocol.counter import TokenBucket
from carp_protocol.engine import Engine
from carp_sidecar.logs import log_event

_log = logging.getLogger(__name__)


class Losses:
    """Of one group. ``restored`` follows when the kernel has taken back what the engine asked for."""

    def __init__(self, group: str, engine: Engine) -> None:
        self._group = group
        self._engine = engine
        self._bucket = TokenBucket(rate_per_s=1, burst=10)
        self._restoring = False

    def lost(self, what: str, now: float) -> None:
        """``what`` happened, a phrase. All that is lost together, such as 32 addresses of an interface, is put back together."""
        if self._restoring or not self._engine.state.holds_addresses:
            return
        if self._bucket.take(now):
            log_event(_log, logging.WARNING, f"{what} by somebody; putting it back", group=self._group)
            self._restoring = True
            self._engine.addresses_lost(now)
        else:
            log_event(_log, logging.ERROR, f"{what} again and again; stepping down", group=self._group)
            self._engine.addresses_failed(now)

    def restored(self) -> None:
        """The kernel has answered."""
        self._restoring = False
