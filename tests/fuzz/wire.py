"""Doors on the network and to the kernel: frames, adverts, probes, netlink."""

import contextlib
import socket
import struct
from collections.abc import Iterable
from functools import cache
from typing import Any

from carp_protocol.auth import CompatibleDigest
from carp_protocol.config import Mode
from carp_protocol.errors import BadPacket
from carp_protocol.heard import Origin
from carp_protocol.packet import decode_untrusted, looks_like_vrrp_untrusted
from carp_sidecar.health import _parse_status_line_untrusted
from carp_sidecar.kernel.decoder import Decoder
from carp_sidecar.wire.frames import (
    AdvertHeader,
    ReceivedAdvert,
    arp_request,
    decode_frame_untrusted,
    gratuitous_arp_reply,
    neighbor_solicitation,
    unsolicited_neighbor_advert,
)
from carp_sidecar.wire.probe import _DATAGRAM, Responder
from simulation.members import GROUP_ADDRESS, PASSWORD, Member
from vectors.pcap import VECTORS, ip_payloads
from vectors.pcap import frames as frames_of

MAC = "02:00:00:00:00:01"
SOURCES = ("10.0.0.9", "fe80::9")


def frames() -> list[bytes]:
    """Captured ones, and one of every kind that this program sends or receives."""
    captured = [frame for path in sorted(VECTORS.glob("*.pcap")) for frame in frames_of(path)]
    said = Member.make().start().packets()[0]
    ours = [AdvertHeader(MAC, source).frame(said) for source in SOURCES]
    ours += [arp_request(MAC, "10.0.0.1", GROUP_ADDRESS), gratuitous_arp_reply(MAC, GROUP_ADDRESS)]
    return [*captured, *ours, neighbor_solicitation(MAC, "fe80::1", "fe80::2"), unsolicited_neighbor_advert(MAC, "fe80::2", router=True)]


def frame(data: bytes) -> None:
    with contextlib.suppress(BadPacket):
        decoded = decode_frame_untrusted(data)
        if isinstance(decoded, ReceivedAdvert):
            assert len(decoded.payload) < len(data)
            family = socket.AF_INET if decoded.family == 4 else socket.AF_INET6
            socket.inet_pton(family, decoded.source)
        else:
            assert len(decoded.mac) == len(decoded.source_mac) == 17


def payloads() -> list[bytes]:
    captured = [payload for path in sorted(VECTORS.glob("*.pcap")) for payload in ip_payloads(path)]
    return [*captured, *genuine(Mode.STRICT), *genuine(Mode.COMPATIBLE)]


def header(data: bytes) -> None:
    looks_like_vrrp_untrusted(data)
    for source, destination in (("", ""), ("10.0.0.9", "224.0.0.18"), ("fe80::9%eth0", "ff02::12")):
        with contextlib.suppress(BadPacket):
            decoded = decode_untrusted(data, source=source, destination=destination)
            assert decode_untrusted(decoded.encode()) == decoded


# ---- whole path: frame, header, digest, engine ----------------------------------------------------------------


@cache
def genuine(mode: Mode) -> tuple[bytes, ...]:
    """What two members say to each other: all that the key has signed."""
    master, backup = Member.make(1, mode).become_master(), Member.make(2, mode, advskew=100)
    backup.now = master.now
    backup.start()
    said: list[bytes] = []
    for _ in range(4):
        for one, other in ((master, backup), (backup, master)):
            packets = one.packets()
            said += packets
            for packet in packets:
                other.hear(packet, one.number)
    return (*said, *(packet for _, packet in master.advance(3)), master.engine.farewell())


def strict_payloads() -> Iterable[bytes]:
    yield from (AdvertHeader(MAC, source).frame(payload) for source in SOURCES for payload in genuine(Mode.STRICT)[:4])


def compatible_payloads() -> Iterable[bytes]:
    yield from (AdvertHeader(MAC, source).frame(payload) for source in SOURCES for payload in genuine(Mode.COMPATIBLE)[:2])


def _engine_state(member: Member) -> tuple[Any, ...]:
    """All that decides anything later; refusals may be counted and told."""
    engine = member.engine
    peers = repr(engine.strict.peers) if engine.strict else ""
    return engine.state, engine.next_timer(), peers, engine.master


def _hear(data: bytes, mode: Mode, signed: bool) -> None:
    """``signed``: somebody who has the key may have made it."""
    with contextlib.suppress(BadPacket):
        heard = decode_frame_untrusted(data)
        if not isinstance(heard, ReceivedAdvert):
            return
        member = Member.make(3, mode, advskew=50).start()
        member.advance(0.01)
        member.packets()
        member.effects()
        before = _engine_state(member)
        member.engine.receive_packet(heard.payload, Origin(heard.source, heard.destination, heard.ttl), member.now)
        if not signed and heard.payload not in genuine(mode):
            assert _engine_state(member) == before, "bytes that nobody signed moved an election"
            assert not member.packets(), "bytes that nobody signed were answered"
        assert member.engine.next_timer() is not None
        member.advance(5)


def strict(data: bytes) -> None:
    _hear(data, Mode.STRICT, signed=False)


@cache
def _digest() -> CompatibleDigest:
    return CompatibleDigest(PASSWORD, 1, [Member.make(1, Mode.COMPATIBLE).engine.config.addresses[0].ip])


def compatible(data: bytes) -> None:
    """Its digest covers the counter only: the other fields of what was signed can be altered, which is CARP's own hole."""
    signed = False
    with contextlib.suppress(BadPacket):
        heard = decode_frame_untrusted(data)
        if isinstance(heard, ReceivedAdvert):
            found = decode_untrusted(heard.payload, source=heard.source, destination=heard.destination)
            signed = found.digest == _digest().sign(found.counter)
            known = [decode_untrusted(one) for one in genuine(Mode.COMPATIBLE)]
            assert not signed or (found.counter, found.digest) in [(one.counter, one.digest) for one in known], "a digest was forged"
    _hear(data, Mode.COMPATIBLE, signed)


# ---- probes, checks, the kernel -------------------------------------------------------------------------------


def probes() -> list[bytes]:
    return [_DATAGRAM.pack(b"carp", kind, b"12345678") for kind in (0, 1, 2)]


def probe(data: bytes) -> None:
    asker, answerer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with asker, answerer:
        asker.send(data[:4096])
        Responder._read(Responder.__new__(Responder), answerer)
        try:
            answer = asker.recv(4096)
        except BlockingIOError:
            answer = b""
    asked = len(data) == _DATAGRAM.size and data[:5] == b"carp\0"
    assert answer == (_DATAGRAM.pack(b"carp", 1, data[8:]) if asked else b"")


def status_lines() -> list[bytes]:
    return [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404\r\n", b"HTTP/1.1 503 Service Unavailable\r\n"]


def health(data: bytes) -> None:
    with contextlib.suppress(BadPacket):
        assert 0 <= _parse_status_line_untrusted(data) <= 999


def _attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


@cache
def _decoder() -> Decoder:
    return Decoder()


def netlink_messages() -> list[bytes]:
    return [b"\x03eth1", _attribute(20, b"kubecarp"), _attribute(52, bytes(8)), _attribute(18, _attribute(1, b"macvlan\0"))]


def netlink(data: bytes) -> None:
    """The kernel is believed, and every kernel adds attributes: a link and an address are the same with and without them."""
    kinds = {1, 2, 3, 5, 8, 11, 18, 20, 26}  # what the decoder looks at
    link_body = struct.pack("=BxHiII", 0, 1, 7, 0x10043, 0)
    address_body = struct.pack("=BBBBI", 2, 24, 0, 0, 7)
    name, own = _attribute(3, b"eth0\0"), _attribute(2, bytes((10, 0, 0, 9)))
    unknown = b"".join(
        _attribute(kind, data[place + 2 : place + 2 + size])
        for place in range(0, min(len(data), 64), 8)
        if (kind := data[place] + 30) not in kinds
        for size in [data[place + 1] % 64 if place + 1 < len(data) else 0]
    )
    for more in (b"", unknown):
        link = _decoder().link(struct.pack("=IHHII", 0, 16, 0, 1, 0) + link_body + name + more)
        assert (link.index, link.name, link.up, link.running, link.parent) == (7, "eth0", True, True, None)
        address = _decoder().address(struct.pack("=IHHII", 0, 20, 0, 1, 0) + address_body + own + more)
        assert (address.index, address.address, address.prefix, address.family) == (7, "10.0.0.9", 24, 4)
