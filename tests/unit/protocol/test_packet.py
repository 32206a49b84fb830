"""The 36-byte header: what is sent, what is accepted, and how VRRP is told apart (protocol.md 1)."""

import struct
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_protocol.errors import BadPacket
from carp_protocol.packet import HEADER_LENGTH, PROTOCOL, Header, checksum, decode_untrusted, looks_like_vrrp_untrusted, signed_part
from vectors.pcap import VECTORS, ip_payloads

V1 = bytes.fromhex("2101000700019912775b60296dca1fb203eed267d437f26a6c12e6385884f018d526d3da")
UCARP = sorted(VECTORS.glob("ucarp-*.pcap"))
HEADERS = st.builds(
    Header,
    vhid=st.integers(1, 255),
    advskew=st.integers(0, 255),
    advbase=st.integers(0, 255),
    demotion=st.integers(0, 255),
    counter=st.integers(0, 2**64 - 1),
    digest=st.binary(min_size=20, max_size=20),
)


def reason_of(data: bytes, **addresses: str) -> str:
    with pytest.raises(BadPacket) as caught:
        decode_untrusted(data, **addresses)
    return caught.value.reason


def with_checksum(data: bytes) -> bytes:
    return data[:6] + struct.pack("!H", checksum(data[:6] + b"\0\0" + data[8:])) + data[8:]


def vrrp2(addresses: int, auth: bytes = b"", kind: int = 0) -> bytes:
    body = b"".join(bytes([192, 168, 0, number]) for number in range(addresses))
    return with_checksum(bytes([0x21, 1, 100, addresses, kind, 1, 0, 0]) + body + auth)


def test_v1_has_the_documented_fields() -> None:
    header = decode_untrusted(V1)
    assert (header.vhid, header.advskew, header.advbase, header.demotion) == (1, 0, 1, 0)
    assert header.counter == 0x775B60296DCA1FB2
    assert header.digest.hex() == "03eed267d437f26a6c12e6385884f018d526d3da"
    assert not header.is_bow_out


@pytest.mark.parametrize("path", UCARP, ids=lambda path: path.stem)
def test_what_ucarp_sent_is_what_we_would_send(path: "object") -> None:
    packets = list(ip_payloads(path))  # type: ignore[arg-type]
    assert packets
    for packet in packets:
        assert decode_untrusted(packet).encode() == packet


@given(HEADERS, st.binary(max_size=60))
def test_encoded_headers_decode(header: Header, trailer: bytes) -> None:
    packet = header.encode(trailer)
    assert packet[0] == 0x21
    assert packet[3] == 7
    assert decode_untrusted(packet) == header


@given(HEADERS, st.binary(max_size=60))
def test_the_signed_part_leaves_out_checksum_and_digest_only(header: Header, trailer: bytes) -> None:
    packet = header.encode(trailer)
    signed = signed_part(packet)
    assert len(signed) == len(packet)
    assert [at for at in range(len(packet)) if signed[at] != packet[at] and at not in (6, 7, *range(16, 36))] == []
    assert signed == signed_part(packet[:6] + b"xx" + packet[8:16] + bytes(20) + packet[36:])


def test_bow_out() -> None:
    assert Header(1, 255, 255, 0, 1).is_bow_out
    assert not Header(1, 255, 254, 0, 1).is_bow_out


def reference_checksum(data: bytes) -> int:
    """RFC 1071 word by word."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(st.one_of(st.binary(max_size=200), st.integers(0, 9).map(lambda n: b"\xff" * n), st.integers(0, 9).map(bytes)))
def test_checksum_is_that_of_rfc_1071(data: bytes) -> None:
    assert checksum(data) == reference_checksum(data)


def test_checksum_over_the_header_or_over_everything() -> None:
    header = Header(1, 0, 1, 0, 5)
    assert decode_untrusted(header.encode() + b"more") == header
    assert decode_untrusted(header.encode(b"more")) == header
    assert reason_of(header.encode()[:-1] + b"\1") == "checksum"


SOURCE, GROUP = "fe80::1%eth0", "ff02::12"


def netbsd(header: Header) -> bytes:
    """As NetBSD sends it over IPv6: with the pseudo header in the checksum."""
    plain = header.encode()[:6] + b"\0\0" + header.encode()[8:]
    pseudo = IPv6Address("fe80::1").packed + IPv6Address(GROUP).packed + struct.pack("!II", len(plain), PROTOCOL)
    return plain[:6] + struct.pack("!H", checksum(pseudo + plain)) + plain[8:]


def test_netbsd_pseudo_header_checksum_is_accepted_over_ipv6_only() -> None:
    header = Header(1, 0, 1, 0, 5)
    packet = netbsd(header)
    assert decode_untrusted(packet, source=SOURCE, destination=GROUP) == header
    assert reason_of(packet, source="10.0.0.1", destination="224.0.0.18") == "checksum"
    assert reason_of(packet, source=SOURCE, destination="224.0.0.18") == "checksum"
    assert reason_of(packet) == "checksum"
    assert reason_of(packet, source="fe80::2", destination=GROUP) == "checksum"


@pytest.mark.parametrize(
    "at, value",
    [(0, 0x20), (0, 0x2F), (2, 200), (3, 0), (4, 200), (5, 9)],
    ids=["type-0", "type-15", "advskew", "authlen-0", "byte-4", "advbase"],
)
def test_fields_that_no_receiver_checks(at: int, value: int) -> None:
    data = bytearray(V1)
    data[at] = value
    assert decode_untrusted(with_checksum(bytes(data))).vhid == 1


@pytest.mark.parametrize(
    "at, value, reason", [(0, 0x11, "version"), (0, 0x31, "vrrp"), (0, 0x41, "version"), (1, 0, "vhid")], ids=["v1", "v3", "v4", "vhid-0"]
)
def test_fields_that_matter(at: int, value: int, reason: str) -> None:
    data = bytearray(V1)
    data[at] = value
    assert reason_of(with_checksum(bytes(data))) == reason


@pytest.mark.parametrize("length", range(HEADER_LENGTH))
def test_short_packets(length: int) -> None:
    assert reason_of(V1[:length]) == "short"


def test_every_vrrp_sample_is_called_vrrp() -> None:
    packets = list(ip_payloads(VECTORS / "tcpdump-tests-vrrp.pcap"))
    assert len(packets) > 100
    for packet in packets:
        assert looks_like_vrrp_untrusted(packet)
        assert reason_of(packet) == "vrrp"


@pytest.mark.parametrize("addresses", [1, 2, 3, 6])
def test_short_vrrp2_is_called_vrrp(addresses: int) -> None:
    assert reason_of(vrrp2(addresses)) == "vrrp"


def test_long_vrrp2_is_left_to_the_digest_to_tell() -> None:
    for addresses in (8, 20):
        decode_untrusted(vrrp2(addresses))
        assert looks_like_vrrp_untrusted(vrrp2(addresses))
        assert looks_like_vrrp_untrusted(vrrp2(addresses, bytes(8), kind=1))


def test_vrrp2_with_a_wrong_checksum_is_still_vrrp() -> None:
    packet = bytearray(vrrp2(8))
    packet[-1] ^= 1
    assert reason_of(bytes(packet)) == "vrrp"


def test_the_one_shape_that_collides_is_not_called_vrrp() -> None:
    assert len(vrrp2(7)) == HEADER_LENGTH
    assert not looks_like_vrrp_untrusted(vrrp2(7))
    assert not looks_like_vrrp_untrusted(V1)
    assert not looks_like_vrrp_untrusted(V1[:7])
    assert not looks_like_vrrp_untrusted(b"\x41" + V1[1:])


def test_bad_packet_says_what_was_wrong() -> None:
    assert str(BadPacket("short", "3 bytes")) == "short: 3 bytes"
    assert str(BadPacket("short")) == "short"
