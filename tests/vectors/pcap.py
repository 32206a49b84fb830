"""Reads classic pcap files of Ethernet frames. Knows nothing of CARP."""

__all__ = ["VECTORS", "frames", "ip_payloads"]

import struct
from collections.abc import Iterator
from pathlib import Path

VECTORS = Path(__file__).resolve().parent


def frames(path: Path) -> Iterator[bytes]:
    """Every frame of a capture, in order."""
    data = path.read_bytes()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 24
    while at < len(data):
        (length,) = struct.unpack_from(f"{order}I", data, at + 8)
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def ip_payloads(path: Path, protocol: int = 112) -> Iterator[bytes]:
    """What follows the IP header of every packet of this protocol, IPv4 or IPv6."""
    for frame in frames(path):
        kind, packet = frame[12:14], frame[14:]
        if kind == b"\x08\x00" and packet[9] == protocol:
            yield packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4], "big")]
        elif kind == b"\x86\xdd" and packet[6] == protocol:
            yield packet[40 : 40 + int.from_bytes(packet[4:6], "big")]
