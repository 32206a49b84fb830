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
from carp_sidecar.wire.frames import Frame, ReceivedAdvert
from carp_sidecar.wire.probe import Prober
from carp_sidecar.wire.sockets import Wire

_log = logging.getLogger(__name__)


class Member(Protocol):
    """What a segment hands to a group."""

    def receive_packet(self, payload: bytes, origin: Origin) -> None: ...
    def receive_evidence(self, evidence: Evidence, source: str) -> None: ...
    def address_answered(self, address: str, mac: str) -> None: ...
    def hear_of_death(self, dead: MasterDead) -> None: ...


class Segment:
    """Open while a group uses its interface; raises WireFailed if the interface cannot be listened to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, link: Link, probe_port: int, own_addresses: Callable[[], Collection[str]]) -> None:
        self.index = link.index
        self.wire = Wire(link.name, link.index, link.mac)
        self.prober = Prober(loop, self.wire, probe_port, self._on_evidence)
        self._members: dict[int, Member] = {}
        self._askers: dict[str, Member] = {}
        """Who asked last whether anybody answers for an address."""
        self._own_addresses = own_addresses
        self.wire.start(loop, self._on_frame, self._on_rejected)

    def join(self, vhid: int, member: Member) -> bool:
        """Hand the packets of ``vhid`` to ``member``; False if another group has that VHID here."""
        return self._members.setdefault(vhid, member) is member

    def leave(self, vhid: int) -> bool:
        """A group goes; closes the segment after the last one, and says so."""
        gone = self._members.pop(vhid, None)
        self._askers = {address: member for address, member in self._askers.items() if member is not gone}
        if self._members:
            return False
        self.prober.close()
        self.wire.close()
        return True

    def ask_address(self, address: str, member: Member) -> None:
        """Ask whether anybody answers for ``address``; ``member`` hears of an answer."""
        self._askers[address] = member
        self.prober.ask_address(address)

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
            return
        self.prober.answered(frame.address, frame.mac)
        asker = self._askers.get(frame.address)
        if asker:
            asker.address_answered(frame.address, frame.mac)

    def _on_rejected(self, error: BadPacket) -> None:
        _log.debug("%s: frame rejected: %s", self.wire.name, error)

    def _on_evidence(self, evidence: Evidence, source: str) -> None:
        for member in list(self._members.values()):
            member.receive_evidence(evidence, source)
