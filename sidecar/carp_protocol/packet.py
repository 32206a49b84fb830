"""The 36-byte CARP header (protocol.md 1.1), to and from bytes. Knows nothing of keys, clocks or states."""

__all__ = [
    "BOW_OUT",
    "HEADER_LENGTH",
    "PROTOCOL",
    "Header",
    "checksum",
    "decode_untrusted",
    "looks_like_vrrp_untrusted",
    "signed_part",
    "with_digest",
]

import struct
from ipaddress import IPv6Address
from typing import NamedTuple

from .errors import BadPacket

PROTOCOL = 112
"""IP protocol number, shared with VRRP."""
HEADER_LENGTH = 36
BOW_OUT = 255
"""advbase and advskew of an advert that says "I leave" (protocol.md 3.5)."""

_VERSION_AND_TYPE = 0x21
_AUTHLEN = 7  # 32-bit words of counter and digest; no receiver checks it (protocol.md 1.1)
_LAYOUT = struct.Struct("!BBBBBBHQ20s")
_CHECKSUM_AT = 6
_DIGEST_AT = 16
_NO_DIGEST = bytes(20)


class Header(NamedTuple):
    """The fields of an advert that carry meaning; ``digest`` is not yet verified after decoding."""

    vhid: int
    advskew: int
    advbase: int
    demotion: int
    counter: int
    digest: bytes = _NO_DIGEST

    @property
    def is_bow_out(self) -> bool:
        return self.advbase == BOW_OUT and self.advskew == BOW_OUT

    def encode(self, trailer: bytes = b"") -> bytes:
        """The header with its checksum, followed by ``trailer``, which the checksum covers too."""
        return with_digest(self.unsigned() + trailer, self.digest)

    def unsigned(self) -> bytes:
        """The header with checksum and digest zeroed: ``signed_part`` of what ``encode`` gives, but for the trailer."""
        vhid, advskew, advbase, demotion, counter, _ = self
        return _LAYOUT.pack(_VERSION_AND_TYPE, vhid, advskew, _AUTHLEN, demotion, advbase, 0, counter, _NO_DIGEST)


def with_digest(unsigned: bytes, digest: bytes) -> bytes:
    """``Header.unsigned`` and what follows it, with the digest and then the checksum filled in."""
    data = unsigned[:_DIGEST_AT] + digest + unsigned[HEADER_LENGTH:]
    return data[:_CHECKSUM_AT] + checksum(data).to_bytes(2, "big") + data[_CHECKSUM_AT + 2 :]


def checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071; zero over data that holds its own right checksum."""
    if len(data) % 2:
        data += b"\0"
    # 65536 is 1 modulo 65535, so the number as a whole has the remainder of the sum of its words.
    remainder = int.from_bytes(data, "big") % 0xFFFF
    return 0xFFFF - remainder if remainder else 0 if any(data) else 0xFFFF


def decode_untrusted(data: bytes, *, source: str = "", destination: str = "") -> Header:
    """The header at the start of an IP payload; any type, authlen, byte 4 and trailing bytes pass (protocol.md 8, rule 1).

    The checksum may cover the 36 bytes, the whole payload (Strict), or over IPv6 the pseudo header too (NetBSD); the
    addresses are needed for the last. Raises BadPacket: short, version, vrrp, checksum or vhid.
    """
    if len(data) < HEADER_LENGTH:
        raise BadPacket("vrrp" if looks_like_vrrp_untrusted(data) else "short", f"{len(data)} bytes")
    version = data[0] >> 4
    if version != 2:
        raise BadPacket("vrrp" if version == 3 else "version", str(version))
    if checksum(data) and checksum(data[:HEADER_LENGTH]) and not _netbsd_checksum_fits(data, source, destination):
        raise BadPacket("vrrp" if looks_like_vrrp_untrusted(data) else "checksum", data[_CHECKSUM_AT : _CHECKSUM_AT + 2].hex())
    _, vhid, advskew, _, demotion, advbase, _, counter, digest = _LAYOUT.unpack_from(data)
    if vhid == 0:
        raise BadPacket("vhid", "0")
    return Header(vhid, advskew, advbase, demotion, counter, digest)


def signed_part(data: bytes) -> bytes:
    """A packet with checksum and digest zeroed: what a Strict digest covers, every other byte of it."""
    return data[:_CHECKSUM_AT] + b"\0\0" + data[8:_DIGEST_AT] + _NO_DIGEST + data[HEADER_LENGTH:]


def looks_like_vrrp_untrusted(data: bytes) -> bool:
    """Whether the bytes have the shape of VRRP (protocol.md 1.5). CARP's own shape, 7 and 36, is never called VRRP."""
    if len(data) < 8 or data[0] not in (0x21, 0x31):
        return False
    if data[0] == 0x31:
        return True
    addresses = data[3]
    if addresses == _AUTHLEN and len(data) == HEADER_LENGTH:
        return False
    return data[4] <= 2 and len(data) in (8 + 4 * addresses, 16 + 4 * addresses)


def _netbsd_checksum_fits(data: bytes, source: str, destination: str) -> bool:
    if ":" not in source or ":" not in destination:
        return False
    pseudo = IPv6Address(source.partition("%")[0]).packed + IPv6Address(destination).packed
    pseudo += struct.pack("!II", len(data), PROTOCOL)
    return checksum(pseudo + data) == 0
