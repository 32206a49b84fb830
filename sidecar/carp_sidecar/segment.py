"""One interface and the groups on it: frames in, to the group they are for; questions about other hosts out."""

__all__ = ["Member", "Segment"]

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Protocol

from carp_protocol.effects import MasterDead
from carp_protocol.errors import BadPacket
from carp_protocol.heard import Origin
from carp_protocol.suspicion import Evidence
from carp_sidecar.kernel.links import Link
from carp_sidecar.memory import Memory
from carp_sidecar.wire.frames import ArpRequest, Frame, ReceivedAdvert
from carp_sidecar.wire.probe import Prober
from carp_sidecar.wire.sockets import Wire

_log = logging.getLogger(__name__)


_LOSS_GAP_S = 0.01
"""Between two tellings of one flood: the shortest interval of adverts."""


class Member(Protocol):
    """What a segment hands to a group."""

    def receive_packet(self, payload: bytes, origin: Origin) -> None: ...
    def believes(self, source: str) -> bool: ...
    def receive_evidence(self, evidence: Evidence, source: str) -> None: ...
    def address_claimed(self, mac: str) -> None: ...
    def hear_of_death(self, dead: MasterDead) -> None: ...


class Segment:
    """Open while a group uses its interface; raises WireFailed if the interface cannot be listened to."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, link: Link, probe_port: int, own_addresses: Callable[[], Collection[str]], memory: Memory
    ) -> None:
        self._loop = loop
        self._lost_told_at = 0.0
        self.index = link.index
        self.wire = Wire(link.name, link.index, link.mac, memory.state.members)
        self._memory = memory
        self.prober = Prober(loop, self.wire, probe_port, self._on_evidence)
        self._members: dict[int, Member] = {}
        self._watchers: dict[str, Member] = {}
        """Who wants to know whether anybody else has an address."""
        self._own_addresses = own_addresses
        self.wire.start(loop, self._on_frame, self._on_rejected, self._on_lost)

    def join(self, vhid: int, member: Member) -> bool:
        """Hand the packets of ``vhid`` to ``member``; False if another group has that VHID here."""
        return self._members.setdefault(vhid, member) is member

    def leave(self, vhid: int) -> bool:
        """A group goes; closes the segment after the last one, and says so."""
        gone = self._members.pop(vhid, None)
        if self._members and gone:
            self.watch(gone, ())
        if self._members:
            return False
        self.prober.close()
        self.wire.close()
        return True

    def watch(self, member: Member, addresses: Collection[str]) -> None:
        """``member`` hears from now on of everybody else who answers for one of ``addresses``, or claims it."""
        others = {address: one for address, one in self._watchers.items() if one is not member}
        self._watchers = others | dict.fromkeys(addresses, member)
        self.wire.watch(self._watchers)

    def use_mac(self, mac: str) -> None:
        """The interface may have another MAC now."""
        if mac != self.wire.mac:
            self.wire.use_mac(mac, self._watchers)

    def spread_death(self, dead: MasterDead) -> None:
        """One group found a host dead: the others that follow it need not wait until their own advert is late."""
        for member in list(self._members.values()):
            member.hear_of_death(dead)

    def use_probe_port(self, port: int) -> None:
        """Ask other sidecars at another port from now on."""
        self.prober.close()
        self.prober.port = port

    def _on_frame(self, frame: Frame) -> None:
        if isinstance(frame, ReceivedAdvert):
            # VHID or VRID, the second byte of both protocols; what is for no group of ours is not looked at further.
            member = self._members.get(frame.payload[1]) if len(frame.payload) > 1 else None
            if member:
                own = frame.source in self._own_addresses()
                member.receive_packet(frame.payload, Origin(frame.source, frame.destination, frame.ttl, own))
                if frame.source not in self.wire.known and member.believes(frame.source):
                    self.wire.know(frame.source)
                    self._memory.learn_member(frame.source)
            return
        if not isinstance(frame, ArpRequest):
            self.prober.answered(frame.address, frame.mac)
        watcher = self._watchers.get(frame.address)
        if watcher:
            watcher.address_claimed(frame.mac)

    def _on_rejected(self, error: BadPacket) -> None:
        _log.debug("%s: frame rejected: %s", self.wire.name, error)

    def _on_lost(self) -> None:
        """Somebody floods this host with adverts that pretend to come from a member: what members said may be among the lost."""
        now = self._loop.time()
        if now >= self._lost_told_at + _LOSS_GAP_S:
            self._lost_told_at = now
            for source in list(self.wire.known):
                self._on_evidence(Evidence.ADVERTS_LOST, source)

    def _on_evidence(self, evidence: Evidence, source: str) -> None:
        for member in list(self._members.values()):
            member.receive_evidence(evidence, source)
