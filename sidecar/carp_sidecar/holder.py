"""Holds the addresses of one group while it is master: attaches, announces, leaves a will, removes. Decides nothing."""

__all__ = ["FAREWELL_MS", "Holder"]

import asyncio
from collections.abc import Callable
from functools import partial

from carp_sidecar.gate import LeaseEnd
from carp_sidecar.kernel.guardian import Will
from carp_sidecar.kernel.rtnl import KEPT_S, LEASE_S
from carp_sidecar.kernel.vip import AddressPlan
from carp_sidecar.services import Services
from carp_sidecar.wire.announce import Announcer
from carp_sidecar.wire.voice import Voice

FAREWELL_MS = 100
"""Between a dead process's farewell and the removal of its addresses: the rank delay of a successor with an advskew up to 200."""

LINGER_S = 0.04
"""A successor announces itself 7, 15 and 31 ms after the first time: that takes a switch back which an answer of ours has just taken."""
_KEEP_SHARE = 0.3
"""Of the longer lifetime: three renewals fit into it."""


class Holder:
    """``plan`` and ``voice`` are renewed from outside; everything here only moves bytes that exist already.

    ``on_taken`` gets the plan of a take and the errno of each of its requests, ``on_released`` is called when the kernel has removed
    what it held, ``lease_ends_at`` by the gate.
    """

    def __init__(
        self,
        group: str,
        services: Services,
        send: Callable[[bytes], bool],
        on_taken: Callable[[AddressPlan, list[int]], None],
        on_released: Callable[[], None],
        lease_ends_at: LeaseEnd,
    ) -> None:
        self.plan: AddressPlan | None = None
        self.voice: Voice | None = None
        self._group = group
        self._services = services
        self._announcer = Announcer(services.loop, services.alarms, send)
        self._on_taken = on_taken
        self._on_released = on_released
        self._lease_ends_at = lease_ends_at
        self._holding = self._leaving = False
        self._settled_at = self._keep_at = self._silent_at = 0.0
        self._lingering: asyncio.TimerHandle | None = None
        self._releasing = 0

    @property
    def releasing(self) -> bool:
        """Whether the kernel still has addresses to remove."""
        return self._releasing > 0 or self._lingering is not None

    def take(self, farewell: bytes | None) -> None:
        """Attach the addresses; the will is left before, so that no death finds none."""
        self._stop_lingering()
        if self.plan:
            self.leave_will(farewell)
            self._holding, self._leaving = True, False
            self._settled_at = self._services.loop.time() + LEASE_S
            self._services.netlink.submit(self.plan.take, partial(self._on_taken, self.plan))
            self._hold(self.plan)

    def change(self, former: AddressPlan, farewell: bytes | None) -> None:
        """While holding: attach what ``plan`` has more than the former plan, remove what it has less, touch nothing else."""
        if self.plan:
            gone = [request for request in former.drop if request not in self.plan.drop]
            self.leave_will(farewell)
            self._settled_at = self._services.loop.time() + LEASE_S
            self._services.netlink.submit([*gone, *self.plan.take])
            if not self._leaving:  # else where they are is the successor's to say
                self._hold(self.plan)
                self.announce()

    def _hold(self, plan: AddressPlan) -> None:
        self._services.gate.hold(self._group, plan.claims, self._lease_end if plan.gated else None)

    def _lease_end(self, now: float) -> float | None:
        return self._silent_at if self._lingering else self._lease_ends_at(now)

    def renewals(self, now: float, *, gated: bool) -> tuple[bytes, ...]:
        """The requests that extend the lifetimes of the addresses. Where the gate silences a host that hangs, they need few."""
        if not self.plan or not (gated and self.plan.gated):
            self._keep_at = 0.0
            return self.plan.renew if self.plan else ()
        if self._settled_at <= now < self._keep_at:
            return ()
        self._keep_at = now + KEPT_S * _KEEP_SHARE
        return self.plan.keep

    def hand_over(self) -> None:
        """Answer packets as before, but leave it to the successor to say where the addresses are."""
        self._leaving = True
        self.stop_announcing()
        self._services.gate.mute(self._group)

    def announce(self) -> None:
        """Tell the segment where the addresses are: now, in a burst, then as long as they are held."""
        if self.voice:
            self._announcer.start(self.voice.announcements)

    def leave_will(self, farewell: bytes | None) -> None:
        """What the guardian does if this process dies: say goodbye with a packet signed ahead (None: nobody hears it), then remove."""
        if self.plan and self.voice:
            frames = self.voice.frames(farewell, master=True) if farewell else []
            goodbyes = tuple((self.plan.parent, frame) for frame in frames)
            self._services.guardian.set(self._group, Will(goodbyes, FAREWELL_MS, b"".join(self.plan.drop), b"".join(self.plan.rest)))

    def linger(self) -> None:
        """Release in a moment. A successor was heard, but packets may still be sent here for a while: they are answered, ARP is not."""
        if self.plan and self.plan.claims:
            self.hand_over()
            now = self._services.loop.time()
            self._silent_at = now + self.plan.claims[0].lease_ms / 1000
            self._lingering = self._lingering or self._services.loop.call_at(now + LINGER_S, self.release)
        else:
            self.release()

    def end_lingering(self) -> None:
        """Release now what would be released in a moment: soon nobody knows any more what that is."""
        if self._lingering:
            self.release()

    def _stop_lingering(self) -> None:
        if self._lingering:
            self._lingering.cancel()
        self._lingering = None

    def release(self) -> None:
        """Remove the addresses at once, and set the device down when nothing urgent waits."""
        self._stop_lingering()
        self.stop_announcing()
        self._services.guardian.clear(self._group)
        self._holding = False
        if self.plan:
            self._releasing += 1
            self._services.netlink.submit(self.plan.drop, self._released)
            self._services.netlink.submit(self.plan.rest, urgent=False)

    def stop_announcing(self) -> None:
        self._announcer.stop()

    def _released(self, _errnos: list[int]) -> None:
        self._releasing -= 1
        if not self._releasing and not self._holding:
            self._services.gate.let_go(self._group)  # not before: a late answer would be one
        self._on_released()
