"""Adverts as carp(4) exchanges them: the acceptance table of protocol.md 1.4, counters, echoes, and changes that roll out."""

import random
import struct
from dataclasses import replace
from ipaddress import IPv4Address, ip_interface
from typing import Any

import pytest

from carp_protocol.auth import CompatibleDigest
from carp_protocol.compatible import CompatibleCodec
from carp_protocol.config import Authentication, GroupConfig, Mode, PeerMode, Peers
from carp_protocol.effects import State
from carp_protocol.election import Standing
from carp_protocol.errors import BadPacket
from carp_protocol.heard import Heard, Kind, Trust
from carp_protocol.packet import Header, checksum, decode_untrusted
from simulation.members import PASSWORD, Member, make_config, origin_of

V1 = bytes.fromhex("2101000700019912775b60296dca1fb203eed267d437f26a6c12e6385884f018d526d3da")
V1_ADDRESS = ip_interface("10.99.0.100/24")
MINE = Standing(1, 100)


def make_codec(seed: int = 1, **fields: Any) -> CompatibleCodec:
    return CompatibleCodec(make_config(Mode.COMPATIBLE, **fields), random.Random(seed).getrandbits)


def config_with(*addresses: str, key: bytes = PASSWORD, accept: tuple[bytes, ...] = ()) -> GroupConfig:
    authentication = Authentication(mode=Mode.COMPATIBLE, key=key, accept=accept)
    return make_config(Mode.COMPATIBLE, addresses=tuple(map(ip_interface, addresses)), authentication=authentication)


def receive(codec: CompatibleCodec, data: bytes, now: float = 0.0, **origin: Any) -> Heard:
    return codec.receive_untrusted(data, origin_of(2, **origin), now)


def reason_of(codec: CompatibleCodec, data: bytes, now: float = 0.0, **origin: Any) -> str:
    with pytest.raises(BadPacket) as caught:
        receive(codec, data, now=now, **origin)
    return caught.value.reason


def altered(at: int, value: int, *, keep_checksum: bool = False) -> bytes:
    data = bytearray(V1)
    data[at] = value
    if not keep_checksum:
        data[6:8] = b"\0\0"
        data[6:8] = struct.pack("!H", checksum(bytes(data)))
    return bytes(data)


# protocol.md 1.4: what ucarp was seen to accept and reject, one packet per row.
ACCEPTED = {
    "unchanged": V1,
    "type 0": altered(0, 0x20),
    "type 15": altered(0, 0x2F),
    "authlen 0": altered(3, 0),
    "byte 4 is 200": altered(4, 200),
    "advbase changed": altered(5, 9),
    "advskew changed": altered(2, 9),
    "12 trailing bytes": V1 + bytes(range(12)),
}
REJECTED = {
    "version 1": (altered(0, 0x11), "version"),
    "version 3": (altered(0, 0x31), "vrrp"),
    "other vhid": (altered(1, 2), "vhid"),
    "bad CARP checksum": (altered(7, 0xFF, keep_checksum=True), "checksum"),
    "one flipped md bit": (altered(20, V1[20] ^ 1), "bad-digest"),
    "counter changed without md": (altered(15, V1[15] ^ 1), "bad-digest"),
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(data: bytes) -> None:
    heard = receive(make_codec(addresses=(V1_ADDRESS,)), data)
    assert (heard.kind, heard.trust) == (Kind.ADVERT, Trust.FRESH)
    assert heard.standing == Standing(data[5], data[2], data[4])
    assert heard.interval_s == data[5]


@pytest.mark.parametrize("data, reason", REJECTED.values(), ids=REJECTED)
def test_rejected(data: bytes, reason: str) -> None:
    assert reason_of(make_codec(addresses=(V1_ADDRESS,)), data) == reason


@pytest.mark.parametrize("source", ["0.0.0.0", "10.99.0.100", "203.0.113.9"])
def test_any_source_but_our_own_is_accepted(source: str) -> None:
    codec = make_codec(addresses=(V1_ADDRESS,))
    assert receive(codec, V1, source=source).trust is Trust.FRESH
    assert reason_of(codec, V1, own_address=True) == "twin"


def test_ttl_is_checked_except_from_peers_that_are_named() -> None:
    member = Member.make(mode=Mode.COMPATIBLE, addresses=(V1_ADDRESS,)).start()
    member.hear(V1, ttl=254)
    assert member.rejections() == ["ttl"]
    member.hear(V1, ttl=255)
    assert member.rejections() == []
    assert member.engine.master is not None
    routed = Member.make(mode=Mode.COMPATIBLE, addresses=(V1_ADDRESS,), peers=Peers(mode=PeerMode.UNICAST, addresses=("10.0.0.9",))).start()
    routed.hear(V1, ttl=60)
    assert routed.rejections() == []
    assert routed.engine.master is not None


def test_vrrp_that_looks_like_carp_fails_at_the_digest() -> None:
    body = bytes([0x21, 1, 100, 8, 0, 1, 0, 0]) + bytes(range(32))
    packet = body[:6] + struct.pack("!H", checksum(body)) + body[8:]
    assert reason_of(make_codec(), packet) == "vrrp"


def test_counters_are_random_until_a_peer_is_heard_and_then_follow_it() -> None:
    codec, peer = make_codec(1), make_codec(2)
    first = [decode_untrusted(codec.advert(MINE, 0, 0)).counter for _ in range(3)]
    assert len({counter >> 32 for counter in first}) == 3
    heard = decode_untrusted(peer.advert(MINE, 0, 0))
    receive(codec, heard.encode())
    followed = [decode_untrusted(codec.advert(MINE, 0, 0)).counter for _ in range(3)]
    assert followed == [(heard.counter + number) % 2**64 for number in (1, 2, 3)]


def signed(counter: int) -> bytes:
    digest = CompatibleDigest(PASSWORD, 1, [IPv4Address("10.0.0.100")])
    return Header(1, 0, 1, 0, counter, digest.sign(counter)).encode()


def test_counters_wrap_and_go_backwards_when_a_peer_does() -> None:
    codec = make_codec()
    receive(codec, signed(2**64 - 1))
    assert decode_untrusted(codec.advert(MINE, 0, 0)).counter == 0
    receive(codec, signed(5))
    assert decode_untrusted(codec.advert(MINE, 0, 0)).counter == 6


def test_a_bad_digest_is_not_followed() -> None:
    codec = make_codec()
    receive(codec, signed(5))
    assert reason_of(codec, signed(77)[:-1] + b"x") in ("bad-digest", "checksum")
    assert decode_untrusted(codec.advert(MINE, 0, 0)).counter == 6


def test_an_echo_is_known_by_the_whole_packet() -> None:
    codec = make_codec()
    sent = codec.advert(MINE, 0, 0)
    assert reason_of(codec, sent, own_address=True) == "echo"
    assert reason_of(codec, sent, source="0.0.0.0") == "echo"
    assert reason_of(codec, sent, source="::") == "echo"
    assert receive(codec, sent).trust is Trust.FRESH, "an equal peer with our counter sends the same bytes"
    assert receive(codec, signed(4), source="0.0.0.0").trust is Trust.FRESH, "a peer without an address of its own"


def test_bow_outs_and_farewells() -> None:
    for packet in (make_codec().bow_out(MINE), make_codec().farewell(MINE)):
        header = decode_untrusted(packet)
        assert header.is_bow_out
        assert receive(make_codec(2), packet).standing.is_bow_out


def test_a_changed_address_list_believes_the_former_while_it_rolls_out() -> None:
    old, new, newest = config_with("10.0.0.1/24"), config_with("10.0.0.1/24", "10.0.0.2/24"), config_with("10.0.0.3/24")
    codec = CompatibleCodec(old, random.Random(1).getrandbits)
    adverts = [CompatibleCodec(config, random.Random(2).getrandbits).advert(MINE, 0, 0) for config in (old, new, newest)]
    assert reason_of(codec, adverts[1]) == "bad-digest"
    codec.reconfigure(new, now=0.0)
    codec.reconfigure(new, now=500.0)
    codec.reconfigure(newest, now=590.0)
    for advert in adverts:
        assert receive(codec, advert, now=1100.0).trust is Trust.FRESH
    assert [reason_of(codec, advert, now=1190.0) for advert in adverts[:2]] == ["bad-digest"] * 2
    assert receive(codec, adverts[2], now=1190.0).trust is Trust.FRESH


def test_a_changed_address_list_is_spoken_beside_the_former_while_it_rolls_out() -> None:
    old, new = config_with("10.0.0.1/24"), config_with("10.0.0.1/24", "10.0.0.2/24")
    unchanged, changed = (CompatibleCodec(config, random.Random(2).getrandbits) for config in (old, new))
    codec = CompatibleCodec(old, random.Random(1).getrandbits)
    assert codec.repeat(0.0) == []
    codec.reconfigure(new, now=0.0)
    for leaving, now in ((False, 1.0), (True, 599.0)):
        first = codec.bow_out(MINE) if leaving else codec.advert(MINE, 0, now)
        (second,) = codec.repeat(now)
        assert reason_of(unchanged, first) == "bad-digest"
        assert receive(unchanged, second).standing == receive(changed, first).standing
        assert reason_of(codec, second, own_address=True) == "echo"
    assert codec.repeat(600.0) == []


def test_a_master_repeats_itself_while_a_change_rolls_out() -> None:
    member = Member.make(mode=Mode.COMPATIBLE).become_master()
    member.engine.packets_to_send()
    member.engine.reconfigure(replace(member.engine.config, addresses=(V1_ADDRESS,)), member.now)
    assert len(member.engine.packets_to_send()) == 2
    member.engine.handover(member.now)
    assert [decode_untrusted(packet).is_bow_out for packet in member.engine.packets_to_send()] == [True, True]


def test_what_was_believed_long_ago_does_not_come_back_with_the_next_change() -> None:
    lists = [config_with(f"10.0.0.{number}/24") for number in range(1, 7)]
    codec = CompatibleCodec(lists[0], random.Random(1).getrandbits)
    advert = codec.advert(MINE, 0, 0)
    codec.reconfigure(lists[1], now=0.0)
    codec.reconfigure(lists[2], now=700.0)
    assert reason_of(codec, advert, now=700.0) == "bad-digest"
    for number in (3, 4, 5):
        codec.reconfigure(lists[number], now=700.0)
    assert len(codec._addresses) == 4


def test_a_key_that_is_taken_away_is_not_believed_a_moment_longer() -> None:
    old, new = config_with("10.0.0.1/24"), config_with("10.0.0.1/24", key=b"fresh")
    codec = CompatibleCodec(old, random.Random(1).getrandbits)
    with_old_key = make_codec(3, addresses=old.addresses).advert(MINE, 0, 0)
    codec.reconfigure(config_with("10.0.0.1/24", key=b"fresh", accept=(PASSWORD,)), now=0.0)
    assert receive(codec, with_old_key, now=0.0).trust is Trust.FRESH
    codec.reconfigure(new, now=1.0)
    assert reason_of(codec, with_old_key, now=1.0) == "bad-digest"


def test_reconfiguring_a_running_member_keeps_its_state() -> None:
    member = Member.make(mode=Mode.COMPATIBLE).become_master()
    other = make_codec(3, addresses=member.engine.config.addresses)
    member.engine.reconfigure(replace(member.engine.config, addresses=(V1_ADDRESS,)), member.now)
    member.hear(other.advert(Standing(1, 200), 0, 0))
    assert member.state() is State.MASTER
    assert member.rejections() == []
