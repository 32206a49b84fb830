"""The first moments of a master: its addresses are attached, then announced, then it speaks.

In this order, because a predecessor that hears it leaves at once: whoever asks then must find the addresses here already.
"""

__all__ = ["Arrival", "Awaited"]

import asyncio
from collections.abc import Callable, Iterable

from carp_sidecar.measurements import Measurements

Place = tuple[int, str]
"""A device, by its index, and an address."""
Awaited = dict[Place, Callable[[Place], None]]
"""Who waits for the kernel's word that it answers for an address there."""


class Arrival:
    """Of one group, from the decision to take over until the first advert is out. ``announce`` tells where the addresses are."""

    def __init__(
        self,
        group: str,
        loop: asyncio.AbstractEventLoop,
        measurements: Measurements,
        send: Callable[[list[bytes]], None],
        announce: Callable[[], None],
        awaited: Awaited,
    ) -> None:
        self.took_s: float | None = None
        """From the decision until the kernel had taken the addresses, the last time."""
        self._group = group
        self._loop = loop
        self._measurements = measurements
        self._send = send
        self._announce = announce
        self._decided_at: float | None = None
        self._attached_at: float | None = None
        self._packets: list[bytes] | None = None
        self._all_awaited = awaited
        self._awaited: set[Place] = set()
        self._limit: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> bool:
        """Whether a takeover was decided on that the kernel has not carried out yet."""
        return self._decided_at is not None and self._attached_at is None

    @property
    def silent(self) -> bool:
        """Whether what is to be said still waits."""
        return self._packets is not None

    def decided(self) -> None:
        """Begin: the addresses are about to be taken."""
        self._decided_at, self._attached_at = self._loop.time(), None

    def hold_back(self, places: Iterable[Place], limit_s: float) -> None:
        """Say nothing until the kernel answers for these addresses too, which it tells a moment after it took them; or for so long."""
        kept = self._packets or []
        self._forget()
        self._packets, self._awaited = kept, set(places)
        self._all_awaited.update(dict.fromkeys(self._awaited, self._answers))
        self._limit = self._loop.call_later(limit_s, self._speak)

    def keep(self, packets: list[bytes]) -> bool:
        """Whether these packets will be sent later."""
        if self._packets is None:
            return False
        self._packets += packets
        return True

    def attached(self) -> None:
        """The kernel has taken the addresses."""
        self._attached_at = self._loop.time()
        if not self._awaited:
            self._speak()

    def abandon(self) -> None:
        """The addresses go again, or never came: what was to be said is not true any more."""
        self._forget()
        self._decided_at = None

    def _answers(self, place: Place) -> None:
        self._awaited.discard(place)
        if not self._awaited and self._attached_at is not None:
            self._speak()

    def _speak(self) -> None:
        packets = self._packets or []
        self._forget()
        if self._attached_at is not None:
            self._announce()  # before the advert that makes a predecessor leave: then clients are here already
        self._send(packets)
        if self._attached_at is not None and self._decided_at is not None:  # else somebody had removed an address, and it was put back
            self.took_s = self._attached_at - self._decided_at
            self._measurements.observe_takeover(self._group, self.took_s)
            self._measurements.observe_step("addresses", self.took_s)
            self._measurements.observe_step("announcement", self._loop.time() - self._attached_at)
            self._decided_at = None

    def _forget(self) -> None:
        for place in self._awaited:
            self._all_awaited.pop(place, None)
        self._packets, self._awaited = None, set()
        if self._limit:
            self._limit.cancel()
            self._limit = None
