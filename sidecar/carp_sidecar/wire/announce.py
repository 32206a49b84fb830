"""When a new master tells the segment where the addresses are: at once, a burst, then a slow refresh."""

__all__ = ["Announcer"]

import asyncio
from collections.abc import Callable, Sequence

from carp_sidecar.alarms import Alarms

_BURST_S = (0.0, 0.001, 0.003, 0.007, 0.015, 0.031, 0.063, 1.0, 2.0, 4.0)
"""After a takeover. A predecessor that still answers for some ms pulls the switch back each time; the seconds are for a lossy one."""
_REFRESH_S = 60.0
"""Below the 300 s after which switches forget a MAC and far below the 20 minutes of a router's ARP cache."""


class Announcer:
    """Sends the announcements of one group while it is master. ``frames`` gives them, encoded ahead."""

    def __init__(self, loop: asyncio.AbstractEventLoop, alarms: Alarms, send: Callable[[bytes], bool]) -> None:
        self.armed_for: float | None = None
        self._loop = loop
        self._alarms = alarms
        self._send = send
        self._frames: Sequence[bytes] = ()
        self._since = 0.0
        self._step = 0

    def start(self, frames: Sequence[bytes]) -> None:
        """Announce now, and go on until ``stop``; a burst that runs already starts again."""
        self._frames, self._since, self._step = frames, self._loop.time(), 0
        self._announce()

    def stop(self) -> None:
        self._alarms.set(self, None)

    def on_alarm(self, _due: float) -> None:
        """Again; what is due earlier, such as the first announcement of another group, has gone before."""
        self._announce()

    def _announce(self) -> None:
        for frame in self._frames:
            self._send(frame)
        self._step += 1
        burst = self._step < len(_BURST_S)
        self._alarms.set(self, self._since + _BURST_S[self._step] if burst else self._loop.time() + _REFRESH_S)
