"""Ethernet, ARP, neighbour discovery and IP frames, to and from bytes. Pure: opens nothing and knows no CARP field.

Frames from the network are judged only as far as this layer goes; TTL and payload are for the protocol to judge.
"""

__all__ = [
    "BROADCAST_MAC",
    "GROUP_IPV4",
    "GROUP_IPV6",
    "GROUP_MAC_IPV4",
    "GROUP_MAC_IPV6",
    "HOP_LIMIT",
    "LOW_DELAY",
    "PROTOCOL_CARP",
    "AdvertHeader",
    "ArpReply",
    "ArpRequest",
    "Frame",
    "NeighborAdvert",
    "ReceivedAdvert",
    "arp_request",
    "decode_frame_untrusted",
    "gratuitous_arp_reply",
    "gratuitous_arp_request",
    "mac_from_bytes",
    "mac_to_bytes",
    "neighbor_solicitation",
    "unsolicited_neighbor_advert",
]

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6, inet_ntop  # pure functions, ten times faster than ipaddress
from typing import NamedTuple

from carp_protocol.errors import BadPacket

BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
PROTOCOL_CARP = 112  # shared with VRRP
GROUP_IPV4 = IPv4Address("224.0.0.18")
GROUP_IPV6 = IPv6Address("ff02::12")
GROUP_MAC_IPV4 = bytes.fromhex("01005e000012")
GROUP_MAC_IPV6 = bytes.fromhex("333300000012")
ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")
HOP_LIMIT = 255  # proves that the packet crossed no router (carp(4), RFC 4861)
LOW_DELAY = 0x10  # IPv4 TOS that OpenBSD, NetBSD and ucarp send
DONT_FRAGMENT = 0x4000

_ETHERNET = struct.Struct("!6s6sH")
_ETHERTYPE_IPV4 = 0x0800
_ETHERTYPE_ARP = 0x0806
_ETHERTYPE_IPV6 = 0x86DD
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_KNOWN_HEADERS = 256
"""IPv4 headers whose meaning is remembered: one for each sender and kind of packet. A flood of others costs it only speed."""
_IPV6 = struct.Struct("!IHBB16s16s")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST = 1
_ARP_REPLY = 2
_ICMPV6 = 58
_SOLICITATION = 135
_ADVERTISEMENT = 136
_SOURCE_LINK_ADDRESS = 1
_TARGET_LINK_ADDRESS = 2
_NA_ROUTER = 0x80
_NA_SOLICITED = 0x40
_NA_OVERRIDE = 0x20


class ReceivedAdvert(NamedTuple):
    """An IP packet of protocol 112, sound as far as IP goes."""

    source: str
    source_mac: str
    destination: str
    ttl: int
    family: int
    """4 or 6."""
    payload: bytes


class ArpReply(NamedTuple):
    """Somebody says that ``address`` is at ``mac``."""

    address: str
    mac: str
    source_mac: str
    """The Ethernet source, which may differ from ``mac``."""


class ArpRequest(NamedTuple):
    """Somebody asks, and says in passing that its own ``address`` is at ``mac``; an announcement asks for itself."""

    address: str
    mac: str
    source_mac: str


class NeighborAdvert(NamedTuple):
    """Somebody says that the IPv6 ``address`` is at ``mac`` (the Ethernet source if the option is missing)."""

    address: str
    mac: str
    source_mac: str
    solicited: bool


_ARP_KINDS: dict[int, type[ArpReply | ArpRequest]] = {_ARP_REQUEST: ArpRequest, _ARP_REPLY: ArpReply}
Frame = ReceivedAdvert | ArpReply | ArpRequest | NeighborAdvert


def mac_to_bytes(mac: str) -> bytes:
    """Six bytes of aa:bb:cc:dd:ee:ff."""
    return bytes.fromhex(mac.replace(":", ""))


def mac_from_bytes(mac: bytes) -> str:
    """aa:bb:cc:dd:ee:ff of six bytes."""
    return mac.hex(":")


def _word_sum(data: bytes) -> int:
    """The one's complement sum of 16-bit words, not yet inverted (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    # 65536 is 1 modulo 65535, so the number itself has the remainder of the sum of its words.
    return int.from_bytes(data, "big") % 0xFFFF or (0xFFFF if any(data) else 0)


def _checksum(data: bytes) -> int:
    return ~_word_sum(data) & 0xFFFF


class AdvertHeader:
    """Ethernet and IP header of the adverts of one sender to the group, encoded once.

    The family is that of ``source``; 0.0.0.0 when the interface has no address of its own.
    """

    __slots__ = ("_destination", "_heads", "_link_head", "_source", "family")

    def __init__(self, source_mac: str, source: str) -> None:
        address = ip_address(source)
        self.family = address.version
        self._source = address.packed
        self._heads: dict[int, bytes] = {}
        """By length of the payload, of which a group has one or two."""
        if isinstance(address, IPv4Address):
            self._destination = GROUP_IPV4.packed
            self._link_head = _ETHERNET.pack(GROUP_MAC_IPV4, mac_to_bytes(source_mac), _ETHERTYPE_IPV4)
        else:
            self._destination = GROUP_IPV6.packed
            self._link_head = _ETHERNET.pack(GROUP_MAC_IPV6, mac_to_bytes(source_mac), _ETHERTYPE_IPV6)

    def frame(self, payload: bytes) -> bytes:
        """A whole frame around ``payload``."""
        head = self._heads.get(len(payload))
        if head is None:
            head = self._heads[len(payload)] = self._link_head + self._ip_header(len(payload))
        return head + payload

    def _ip_header(self, length: int) -> bytes:
        ends = (self._source, self._destination)
        if self.family == 6:
            return _IPV6.pack(0x6000_0000, length, PROTOCOL_CARP, HOP_LIMIT, *ends)
        # Identification 0, as NetBSD sends: what is never fragmented needs none (RFC 6864), and the header stays the same.
        fields = (0x45, LOW_DELAY, _IPV4.size + length, 0, DONT_FRAGMENT, HOP_LIMIT, PROTOCOL_CARP)
        return _IPV4.pack(*fields, _checksum(_IPV4.pack(*fields, 0, *ends)), *ends)


def _arp(operation: int, source_mac: str, sender: str, target: str, destination_mac: str) -> bytes:
    mac = mac_to_bytes(source_mac)
    return _ETHERNET.pack(mac_to_bytes(destination_mac), mac, _ETHERTYPE_ARP) + _ARP.pack(
        1, _ETHERTYPE_IPV4, 6, 4, operation, mac, IPv4Address(sender).packed, bytes(6), IPv4Address(target).packed
    )


def arp_request(sender_mac: str, sender: str, target: str, destination_mac: str = BROADCAST_MAC) -> bytes:
    """Asks who has ``target``; ``sender`` 0.0.0.0 asks without claiming an address (RFC 5227)."""
    return _arp(_ARP_REQUEST, sender_mac, sender, target, destination_mac)


def gratuitous_arp_request(mac: str, address: str) -> bytes:
    """Tells the segment as a request that ``address`` is at ``mac``."""
    return _arp(_ARP_REQUEST, mac, address, address, BROADCAST_MAC)


def gratuitous_arp_reply(mac: str, address: str) -> bytes:
    """The same as a reply: some devices listen to one kind only."""
    return _arp(_ARP_REPLY, mac, address, address, BROADCAST_MAC)


def _icmpv6_frame(macs: tuple[bytes, bytes], source: IPv6Address, destination: IPv6Address, body: bytes) -> bytes:
    """``macs`` are destination and source; ``body`` holds a zero checksum in bytes 2 and 3."""
    pseudo_header = source.packed + destination.packed + struct.pack("!I3xB", len(body), _ICMPV6)
    body = body[:2] + _checksum(pseudo_header + body).to_bytes(2, "big") + body[4:]
    header = _IPV6.pack(0x6000_0000, len(body), _ICMPV6, HOP_LIMIT, source.packed, destination.packed)
    return _ETHERNET.pack(*macs, _ETHERTYPE_IPV6) + header + body


def neighbor_solicitation(sender_mac: str, sender: str, target: str, destination_mac: str | None = None) -> bytes:
    """Asks who has ``target``: everybody, or with ``destination_mac`` only that host. ``sender`` :: claims nothing."""
    source, wanted = IPv6Address(sender), IPv6Address(target)
    body = struct.pack("!BBHI16s", _SOLICITATION, 0, 0, 0, wanted.packed)
    if not source.is_unspecified:
        body += struct.pack("!BB6s", _SOURCE_LINK_ADDRESS, 1, mac_to_bytes(sender_mac))
    if destination_mac is not None:
        return _icmpv6_frame((mac_to_bytes(destination_mac), mac_to_bytes(sender_mac)), source, wanted, body)
    group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + wanted.packed[13:])
    return _icmpv6_frame((b"\x33\x33" + group.packed[12:], mac_to_bytes(sender_mac)), source, group, body)


def unsolicited_neighbor_advert(mac: str, address: str, *, router: bool) -> bytes:
    """Tells all nodes that ``address`` is at ``mac`` and overrides what they remember."""
    target = IPv6Address(address)
    flags = _NA_OVERRIDE | (_NA_ROUTER if router else 0)
    body = struct.pack("!BBHB3x16sBB6s", _ADVERTISEMENT, 0, 0, flags, target.packed, _TARGET_LINK_ADDRESS, 1, mac_to_bytes(mac))
    return _icmpv6_frame((ALL_NODES_MAC, mac_to_bytes(mac)), target, ALL_NODES, body)


def decode_frame_untrusted(frame: bytes) -> Frame:
    """An advert, ARP or a neighbour advertisement; raises only BadPacket."""
    if len(frame) < _ETHERNET.size:
        raise BadPacket("truncated", f"{len(frame)} bytes are no Ethernet frame")
    _, source_mac, ethertype = _ETHERNET.unpack_from(frame)
    packet = frame[_ETHERNET.size :]
    if ethertype == _ETHERTYPE_IPV4:
        return _decode_ipv4_untrusted(packet, source_mac)
    if ethertype == _ETHERTYPE_IPV6:
        return _decode_ipv6_untrusted(packet, source_mac)
    if ethertype == _ETHERTYPE_ARP:
        return _decode_arp_untrusted(packet, source_mac)
    raise BadPacket("unexpected-frame", f"ethertype {ethertype:#06x}")


class _Ipv4Header(NamedTuple):
    """What an IPv4 header says, once it was found sound."""

    source: str
    destination: str
    ttl: int
    length: int
    total_length: int


@lru_cache(_KNOWN_HEADERS)
def _ipv4_header_untrusted(header: bytes) -> _Ipv4Header:
    """The meaning of a header with its options; the adverts of one sender all have the same bytes (see ``AdvertHeader``)."""
    first, _, total_length, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(header)
    length = (first & 0x0F) * 4
    if first >> 4 != 4 or length < _IPV4.size:
        raise BadPacket("bad-ip-header", f"first byte {first:#04x}")
    if total_length < length:
        raise BadPacket("bad-ip-length", f"total length {total_length} in a header of {length}")
    if length > len(header):
        raise BadPacket("truncated", f"a header of {length}, received {len(header)}")
    if _word_sum(header) != 0xFFFF:
        raise BadPacket("bad-ip-checksum")
    if fragment & ~DONT_FRAGMENT & 0x3FFF:
        raise BadPacket("fragment")
    if protocol != PROTOCOL_CARP:
        raise BadPacket("unexpected-frame", f"IPv4 protocol {protocol}")
    return _Ipv4Header(inet_ntop(AF_INET, source), inet_ntop(AF_INET, destination), ttl, length, total_length)


def _decode_ipv4_untrusted(packet: bytes, source_mac: bytes) -> ReceivedAdvert:
    if len(packet) < _IPV4.size:
        raise BadPacket("truncated", "no whole IPv4 header")
    header = _ipv4_header_untrusted(packet[: max(_IPV4.size, (packet[0] & 0x0F) * 4)])
    if header.total_length > len(packet):
        raise BadPacket("truncated", f"total length {header.total_length}, received {len(packet)}")
    payload = packet[header.length : header.total_length]
    return ReceivedAdvert(header.source, mac_from_bytes(source_mac), header.destination, header.ttl, 4, payload)


def _decode_ipv6_untrusted(packet: bytes, source_mac: bytes) -> ReceivedAdvert | NeighborAdvert:
    if len(packet) < _IPV6.size:
        raise BadPacket("truncated", "no whole IPv6 header")
    first, length, next_header, hop_limit, source, destination = _IPV6.unpack_from(packet)
    if first >> 28 != 6:
        raise BadPacket("bad-ip-header", f"version {first >> 28}")
    if _IPV6.size + length > len(packet):
        raise BadPacket("truncated", f"payload length {length}, received {len(packet) - _IPV6.size}")
    payload = packet[_IPV6.size : _IPV6.size + length]
    if next_header == _ICMPV6:
        return _decode_neighbor_advert_untrusted(payload, hop_limit, source + destination, source_mac)
    if next_header != PROTOCOL_CARP:
        raise BadPacket("unexpected-frame", f"IPv6 next header {next_header}")
    return ReceivedAdvert(
        source=inet_ntop(AF_INET6, source),
        source_mac=mac_from_bytes(source_mac),
        destination=inet_ntop(AF_INET6, destination),
        ttl=hop_limit,
        family=6,
        payload=payload,
    )


def _decode_neighbor_advert_untrusted(body: bytes, hop_limit: int, ends: bytes, source_mac: bytes) -> NeighborAdvert:
    if len(body) < 24:
        raise BadPacket("truncated", f"neighbour advertisement of {len(body)} bytes")
    if body[0] != _ADVERTISEMENT or body[1] != 0:
        raise BadPacket("unexpected-frame", f"ICMPv6 type {body[0]} code {body[1]}")
    if hop_limit != HOP_LIMIT:
        raise BadPacket("bad-neighbor-advert", f"hop limit {hop_limit}")
    if _word_sum(ends + struct.pack("!I3xB", len(body), _ICMPV6) + body) != 0xFFFF:
        raise BadPacket("bad-neighbor-advert", "checksum")
    mac = source_mac
    place = 24
    while place < len(body):
        length = body[place + 1] * 8 if place + 1 < len(body) else 0
        if length == 0 or place + length > len(body):
            raise BadPacket("bad-neighbor-advert", "option length")
        if body[place] == _TARGET_LINK_ADDRESS and length == 8:
            mac = body[place + 2 : place + 8]
        place += length
    return NeighborAdvert(
        address=inet_ntop(AF_INET6, body[8:24]),
        mac=mac_from_bytes(mac),
        source_mac=mac_from_bytes(source_mac),
        solicited=bool(body[4] & _NA_SOLICITED),
    )


def _decode_arp_untrusted(packet: bytes, source_mac: bytes) -> ArpReply | ArpRequest:
    if len(packet) < _ARP.size:
        raise BadPacket("truncated", f"ARP of {len(packet)} bytes")
    hardware, protocol, mac_length, address_length, operation, mac, sender, _, _ = _ARP.unpack_from(packet)
    if (hardware, protocol, mac_length, address_length) != (1, _ETHERTYPE_IPV4, 6, 4):
        raise BadPacket("bad-arp", "not Ethernet and IPv4")
    kind = _ARP_KINDS.get(operation)
    if kind is None:
        raise BadPacket("unexpected-frame", f"ARP operation {operation}")
    return kind(address=inet_ntop(AF_INET, sender), mac=mac_from_bytes(mac), source_mac=mac_from_bytes(source_mac))
