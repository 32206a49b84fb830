"""Frames to and from bytes: against frames of other programs, against hand-made ones, and against noise."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carp_protocol.errors import BadPacket
from carp_sidecar.wire import frames
from carp_sidecar.wire.frames import AdvertHeader, ArpReply, ArpRequest, NeighborAdvert, ReceivedAdvert, decode_frame_untrusted
from vectors import pcap

VMAC = "00:00:5e:00:01:07"
MAC = "02:00:00:00:00:01"
REASONS = {
    "truncated",
    "unexpected-frame",
    "bad-ip-header",
    "bad-ip-length",
    "bad-ip-checksum",
    "fragment",
    "bad-arp",
    "bad-neighbor-advert",
}


def rfc1071(data: bytes) -> int:
    """The Internet checksum, word by word."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def reason(frame: bytes) -> str:
    with pytest.raises(BadPacket) as caught:
        decode_frame_untrusted(frame)
    return caught.value.reason


def changed(frame: bytes, place: int, value: bytes, *, checksum: bool = True) -> bytes:
    """The IPv4 frame with some bytes replaced and, unless unwanted, a header checksum that fits again."""
    new = bytearray(frame)
    new[place : place + len(value)] = value
    if checksum:
        length = (new[14] & 0x0F) * 4
        new[24:26] = b"\0\0"
        new[24:26] = rfc1071(bytes(new[14 : 14 + length])).to_bytes(2, "big")
    return bytes(new)


def test_an_ipv4_advert_has_every_field_in_its_place() -> None:
    frame = AdvertHeader(VMAC, "10.0.0.1").frame(bytes(range(36)))
    assert frame.hex(" ") == (
        "01 00 5e 00 00 12 00 00 5e 00 01 07 08 00 "  # to the group, from the virtual MAC
        "45 10 00 38 00 00 40 00 ff 70 91 32 0a 00 00 01 e0 00 00 12 " + bytes(range(36)).hex(" ")
    )
    assert rfc1071(frame[14:34]) == 0


def test_an_ipv6_advert_has_every_field_in_its_place() -> None:
    frame = AdvertHeader(VMAC, "fe80::1").frame(b"payload!")
    assert frame[:14].hex(" ") == "33 33 00 00 00 12 00 00 5e 00 01 07 86 dd"
    assert frame[14:22].hex(" ") == "60 00 00 00 00 08 70 ff"
    assert frame[22:54] == IPv6Address("fe80::1").packed + IPv6Address("ff02::12").packed
    assert frame[54:] == b"payload!"


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6, network="fe80::/10"), st.ip_addresses(v=6, network="2000::/3"))


@given(addresses, st.binary(max_size=300))
def test_an_advert_comes_back_whole(source: IPv4Address | IPv6Address, payload: bytes) -> None:
    frame = AdvertHeader(VMAC, str(source)).frame(payload)
    group = "224.0.0.18" if source.version == 4 else "ff02::12"
    whole = ReceivedAdvert(str(source), VMAC, group, 255, source.version, payload)
    assert decode_frame_untrusted(frame) == whole
    assert decode_frame_untrusted(frame + bytes(20)) == whole, "padding of a short Ethernet frame is not payload"


@given(addresses, st.data())
def test_a_cut_advert_is_truncated(source: IPv4Address | IPv6Address, data: st.DataObject) -> None:
    frame = AdvertHeader(VMAC, str(source)).frame(bytes(36))
    assert reason(frame[: data.draw(st.integers(0, len(frame) - 1))]) == "truncated"


ADVERT = AdvertHeader(VMAC, "10.0.0.1").frame(bytes(36))
ADVERT6 = AdvertHeader(VMAC, "fe80::1").frame(bytes(36))


@pytest.mark.parametrize(
    "frame, expected",
    [
        pytest.param(changed(ADVERT, 22, b"\xfe", checksum=False), "bad-ip-checksum", id="altered header"),
        pytest.param(changed(ADVERT, 14, b"\x44", checksum=False), "bad-ip-header", id="header of 16 bytes"),
        pytest.param(changed(ADVERT, 14, b"\x65", checksum=False), "bad-ip-header", id="version 6 in IPv4"),
        pytest.param(changed(ADVERT, 16, b"\x00\x13"), "bad-ip-length", id="shorter than its header"),
        pytest.param(changed(ADVERT, 20, b"\x20\x00"), "fragment", id="first fragment"),
        pytest.param(changed(ADVERT, 20, b"\x00\x01"), "fragment", id="later fragment"),
        pytest.param(changed(ADVERT, 23, b"\x11"), "unexpected-frame", id="UDP"),
        pytest.param(ADVERT6[:14] + b"\x40" + ADVERT6[15:], "bad-ip-header", id="version 4 in IPv6"),
        pytest.param(ADVERT6[:20] + b"\x00" + ADVERT6[21:], "unexpected-frame", id="hop-by-hop options"),
        pytest.param(ADVERT[:12] + b"\x81\x00" + ADVERT[14:], "unexpected-frame", id="VLAN tag"),
    ],
)
def test_what_is_wrong_with_a_header_is_named(frame: bytes, expected: str) -> None:
    assert reason(frame) == expected


def test_ip_options_are_skipped() -> None:
    options = b"\x94\x04\x00\x00"  # router alert
    frame = changed(ADVERT[:34] + options + b"the payload" + bytes(5), 14, b"\x46")
    frame = changed(frame, 16, (24 + 11).to_bytes(2, "big"))
    advert = decode_frame_untrusted(frame)
    assert isinstance(advert, ReceivedAdvert)
    assert advert.payload == b"the payload"


def test_a_ttl_is_reported_and_not_judged() -> None:
    advert = decode_frame_untrusted(changed(ADVERT, 22, b"\x01"))
    assert isinstance(advert, ReceivedAdvert)
    assert advert.ttl == 1


def test_arp_frames() -> None:
    assert frames.arp_request(MAC, "10.0.0.1", "10.0.0.9").hex(" ") == (
        "ff ff ff ff ff ff 02 00 00 00 00 01 08 06 00 01 08 00 06 04 00 01 02 00 00 00 00 01 0a 00 00 01 00 00 00 00 00 00 0a 00 00 09"
    )
    assert frames.arp_request(MAC, "0.0.0.0", "10.0.0.9", VMAC)[:6] == frames.mac_to_bytes(VMAC)
    request, reply = frames.gratuitous_arp_request(VMAC, "10.0.0.9"), frames.gratuitous_arp_reply(VMAC, "10.0.0.9")
    assert request[20:22] + reply[20:22] == b"\0\x01\0\x02"
    assert request[:20] + request[22:] == reply[:20] + reply[22:]
    assert request[32:38] == bytes(6), "the target MAC is zero"
    assert decode_frame_untrusted(reply) == ArpReply("10.0.0.9", VMAC, VMAC)
    assert decode_frame_untrusted(request) == ArpRequest("10.0.0.9", VMAC, VMAC)
    assert reason(request[:21] + b"\3" + request[22:]) == "unexpected-frame"
    assert reason(reply[:14] + b"\0\x06" + reply[16:]) == "bad-arp"


def icmpv6_sum(frame: bytes) -> int:
    """Zero if the checksum is right."""
    body = frame[54:]
    return rfc1071(frame[22:54] + struct.pack("!II", len(body), 58) + body)


def test_neighbor_solicitations() -> None:
    asked = frames.neighbor_solicitation(MAC, "fe80::1", "fd77::12:3456")
    assert asked[:6].hex() == "3333ff123456"
    assert asked[38:54] == IPv6Address("ff02::1:ff12:3456").packed
    assert asked[62:].hex() == IPv6Address("fd77::12:3456").packed.hex() + "0101" + MAC.replace(":", "")
    direct = frames.neighbor_solicitation(MAC, "fe80::1", "fd77::12:3456", VMAC)
    assert direct[:6] == frames.mac_to_bytes(VMAC)
    assert direct[38:54] == IPv6Address("fd77::12:3456").packed
    anonymous = frames.neighbor_solicitation(MAC, "::", "fd77::1")
    assert len(anonymous) == 54 + 24, "without a source there is no link address to tell"
    assert [icmpv6_sum(frame) for frame in (asked, direct, anonymous)] == [0, 0, 0]


@pytest.mark.parametrize("router, flags", [(False, 0x20), (True, 0xA0)])
def test_neighbor_adverts(router: bool, flags: int) -> None:
    told = frames.unsolicited_neighbor_advert(VMAC, "fd77::9", router=router)
    assert told[:6].hex() == "333300000001"
    assert (told[58], icmpv6_sum(told)) == (flags, 0)
    assert decode_frame_untrusted(told) == NeighborAdvert("fd77::9", VMAC, VMAC, solicited=False)


def test_bad_neighbor_adverts() -> None:
    told = frames.unsolicited_neighbor_advert(VMAC, "fd77::9", router=False)
    assert reason(told[:21] + b"\x40" + told[22:]) == "bad-neighbor-advert"  # it crossed a router
    assert reason(told[:62] + b"\xff" + told[63:]) == "bad-neighbor-advert"  # checksum
    endless = bytearray(told)
    endless[79] = 0  # an option of length 0
    endless[56:58] = (rfc1071_fix(bytes(endless))).to_bytes(2, "big")
    assert reason(bytes(endless)) == "bad-neighbor-advert"


def rfc1071_fix(frame: bytes) -> int:
    cleared = frame[:56] + b"\0\0" + frame[58:]
    return icmpv6_sum(cleared)


@given(st.binary(max_size=200), st.sampled_from([ADVERT, ADVERT6, frames.gratuitous_arp_reply(MAC, "10.0.0.1"), b""]), st.data())
@example(b"", b"", None)
def test_noise_raises_nothing_but_a_known_reason(noise: bytes, start: bytes, data: st.DataObject | None) -> None:
    kept = data.draw(st.integers(0, len(start))) if data else 0
    assert reason_or_none(start[:kept] + noise) in REASONS | {None}


def reason_or_none(frame: bytes) -> str | None:
    try:
        decode_frame_untrusted(frame)
    except BadPacket as problem:
        return problem.reason
    return None


@pytest.mark.parametrize("name", ["ucarp-v1.pcap", "ucarp-v2.pcap", "ucarp-v3.pcap"])
def test_adverts_of_ucarp_are_read(name: str) -> None:
    captured = [frame for frame in pcap.frames(pcap.VECTORS / name) if frame[12:14] == b"\x08\x00" and frame[23] == 112]
    assert captured
    for frame in captured:
        advert = decode_frame_untrusted(frame)
        assert isinstance(advert, ReceivedAdvert)
        assert (advert.destination, advert.ttl, len(advert.payload), advert.payload[0]) == ("224.0.0.18", 255, 36, 0x21)
