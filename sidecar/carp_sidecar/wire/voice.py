"""What a group sends, encoded before it is needed: headers of adverts, announcements, the guardian's farewell. Pure."""

__all__ = ["Voice", "make_voice"]

from collections.abc import Sequence
from dataclasses import dataclass

from carp_protocol.config import GroupConfig, Mode
from carp_sidecar.kernel.links import Link, Links
from carp_sidecar.kernel.vip import AddressPlan, own_source
from carp_sidecar.wire.frames import AdvertHeader, gratuitous_arp_reply, gratuitous_arp_request, unsolicited_neighbor_advert

_UNSPECIFIED = {4: "0.0.0.0", 6: "::"}


@dataclass(frozen=True, slots=True)
class Voice:
    """The frames of one group on one interface; made anew when an address or a MAC changes."""

    sources: Sequence[str]
    """Our own address in each family that is used, or the unspecified one."""
    announcements: Sequence[bytes]
    _as_master: Sequence[AdvertHeader]
    _as_backup: Sequence[AdvertHeader]

    def frames(self, packet: bytes, *, master: bool) -> list[bytes]:
        """A packet as frames of every family. Only a master uses the virtual MAC: a switch believes whoever spoke last."""
        return [header.frame(packet) for header in (self._as_master if master else self._as_backup)]

    def source_towards(self, peer: str) -> str:
        """The source of a question to ``peer``."""
        version = 6 if ":" in peer else 4
        return next((source for source in self.sources if (":" in source) == (version == 6)), _UNSPECIFIED[version])


def make_voice(config: GroupConfig, plan: AddressPlan, link: Link, snapshot: Links) -> Voice:
    """Encode everything ``plan`` needs on ``link``."""
    versions = dict.fromkeys(address.version for address in config.addresses)
    if config.authentication.mode is Mode.STRICT:
        versions = {config.addresses[0].version: None}  # one advert says it all; carp(4) wants one in each family
    vips = set(plan.addresses)
    sources = [own_source(snapshot, link.index, version, vips) or _UNSPECIFIED[version] for version in versions]
    return Voice(
        sources,
        _announcements(plan, router=_forwards_ipv6(link.name)),
        [AdvertHeader(plan.mac, source) for source in sources],
        [AdvertHeader(link.mac, source) for source in sources],
    )


def _announcements(plan: AddressPlan, *, router: bool) -> list[bytes]:
    frames = []
    for address in plan.addresses:
        if ":" in address:
            frames.append(unsolicited_neighbor_advert(plan.mac, address, router=router))
        else:
            frames += [gratuitous_arp_request(plan.mac, address), gratuitous_arp_reply(plan.mac, address)]
    return frames


def _forwards_ipv6(interface: str) -> bool:
    try:
        with open(f"/proc/sys/net/ipv6/conf/{interface}/forwarding", "rb") as file:
            return file.read().strip() != b"0"
    except OSError:
        return False  # no IPv6 here
