"""Strict packets: nothing altered passes, nothing old moves anybody, and nobody is locked out."""

import random
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_protocol.auth import StrictDigest
from carp_protocol.config import Authentication
from carp_protocol.counter import Identity
from carp_protocol.election import Standing
from carp_protocol.errors import BadPacket
from carp_protocol.heard import Heard, Kind, Trust
from carp_protocol.packet import HEADER_LENGTH, checksum, decode_untrusted, signed_part
from carp_protocol.strict import Extension, StrictCodec
from simulation.members import STRICT_KEY, make_config, origin_of, parse

MINE = Standing(1, 100)
OTHER_KEY = bytes(32)


def make_codec(number: int = 1, epoch: int = 1, **fields: Any) -> StrictCodec:
    return StrictCodec(make_config(**fields), Identity(number, epoch), random.Random(number).getrandbits)


def receive(codec: StrictCodec, data: bytes, source: int = 2, now: float = 0.0) -> Heard:
    return codec.receive_untrusted(data, origin_of(source), now)


def reason_of(codec: StrictCodec, data: bytes) -> str:
    with pytest.raises(BadPacket) as caught:
        receive(codec, data)
    return caught.value.reason


def signed(packet: bytes, key: bytes = STRICT_KEY) -> bytes:
    """The packet with the right digest and checksum for what is in it now: what only a member can do."""
    data = packet[:16] + StrictDigest(key).sign(signed_part(packet)) + packet[HEADER_LENGTH:]
    return data[:6] + struct.pack("!H", checksum(data[:6] + b"\0\0" + data[8:])) + data[8:]


def with_checksum(data: bytes) -> bytes:
    return data[:6] + struct.pack("!H", checksum(data[:6] + b"\0\0" + data[8:])) + data[8:]


def acquainted(asker: StrictCodec, other: StrictCodec) -> None:
    """``asker`` has ``other`` on record: one question, one answer."""
    question = receive(other, asker.question(MINE, 0.0), source=1)
    assert receive(asker, other.notice(MINE, question)).trust is Trust.FRESH


U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@given(st.builds(Extension, st.sampled_from(Kind), st.integers(10, 60_000), U64, U32, U32, U64, U64, U64, U64))
def test_extensions_come_back_as_they_were(extension: Extension) -> None:
    assert Extension.decode_untrusted(extension.encode()) == extension
    assert Extension.decode_untrusted(extension.encode() + b"later") == extension


@pytest.mark.parametrize("interval_ms", [0, 9, 60_001, 2**32 - 1])
def test_an_interval_that_no_configuration_can_have_is_refused(interval_ms: int) -> None:
    with pytest.raises(BadPacket, match="interval"):
        Extension.decode_untrusted(Extension(Kind.ADVERT, interval_ms, 1, 1).encode())


def test_a_master_for_longer_than_fits_says_the_most_that_fits() -> None:
    extension = Extension(Kind.ADVERT, 1000, 1, 1, master_for_ms=2**40)
    assert Extension.decode_untrusted(extension.encode()).master_for_ms == 2**32 - 1


def test_the_whole_packet_has_92_bytes_and_reads_as_carp() -> None:
    packet = make_codec().advert(MINE, 0, 0)
    assert len(packet) == 92
    header = decode_untrusted(packet)
    assert (packet[0], packet[3], header.advskew, header.advbase) == (0x21, 7, 100, 1)


@pytest.mark.parametrize("at", range(92))
def test_no_byte_can_be_altered(at: int) -> None:
    packet = make_codec(2).advert(MINE, 0, 0)
    for bits in (0x01, 0x80, 0xFF):
        altered = packet[:at] + bytes([packet[at] ^ bits]) + packet[at + 1 :]
        codec = make_codec()
        assert reason_of(codec, altered) in ("checksum", "version", "vrrp", "bad-digest")
        if at not in (6, 7):
            repaired = with_checksum(altered)
            assert reason_of(codec, repaired) in (("version", "vrrp") if at == 0 and (altered[0] >> 4) != 2 else ("bad-digest", "vhid"))
        assert codec.peers == {}


@pytest.mark.parametrize("length", [0, 35, 36, 37, 91])
def test_nothing_can_be_cut_off(length: int) -> None:
    packet = make_codec(2).advert(MINE, 0, 0)
    assert reason_of(make_codec(), packet[:length]) in ("short", "checksum", "bad-digest")


def test_nothing_can_be_added() -> None:
    assert reason_of(make_codec(), with_checksum(make_codec(2).advert(MINE, 0, 0) + b"tail")) == "bad-digest"


@pytest.mark.parametrize(
    "alter, reason",
    [
        (lambda p: p[:HEADER_LENGTH], "short"),
        (lambda p: p[:60], "short"),
        (lambda p: p[:36] + b"\2" + p[37:], "version"),
        (lambda p: p[:37] + b"\0" + p[38:], "kind"),
        (lambda p: p[:37] + b"\4" + p[38:], "kind"),
        (lambda p: p[:1] + b"\2" + p[2:], "vhid"),
    ],
    ids=["no extension", "half an extension", "later version", "kind 0", "kind 4", "other vhid"],
)
def test_a_member_that_speaks_otherwise(alter: Any, reason: str) -> None:
    assert reason_of(make_codec(), signed(alter(make_codec(2).advert(MINE, 0, 0)))) == reason


def test_the_wrong_key() -> None:
    stranger = make_codec(2, authentication=Authentication(key=OTHER_KEY))
    assert reason_of(make_codec(), stranger.advert(MINE, 0, 0)) == "bad-digest"


def test_what_was_recorded_in_another_group_with_the_same_key_and_vhid_is_a_strangers() -> None:
    """As on another segment. Its counter is later than that of the same host in this group."""
    here = make_codec(1)
    names = ("web", "db")
    of_host = {one: StrictCodec(make_config(name=one), Identity(2, 1).for_group(one), random.Random(2).getrandbits) for one in names}
    acquainted(here, of_host["web"])
    recorded = [of_host["db"].advert(MINE, 0, 0) for _ in range(50)][-1]
    assert receive(here, recorded).trust is Trust.UNKNOWN
    assert receive(here, of_host["web"].advert(MINE, 0, 0)).trust is Trust.FRESH


def test_vrrp_is_named() -> None:
    body = bytes([0x21, 1, 100, 8, 0, 1, 0, 0]) + bytes(range(32))
    assert reason_of(make_codec(), with_checksum(body)) == "vrrp"


def test_a_stranger_is_believed_after_it_answered() -> None:
    codec, other = make_codec(1), make_codec(2)
    heard = receive(codec, other.advert(MINE, 1.5, 0))
    assert heard.trust is Trust.UNKNOWN
    assert heard.master_for_s == 1.5
    assert codec.peers == {}
    question = receive(other, codec.question(MINE, 0, heard), source=1)
    assert (question.kind, question.peer_id, question.trust) == (Kind.SOLICIT, 2, Trust.UNKNOWN)
    assert receive(codec, other.notice(MINE, question)).trust is Trust.FRESH
    assert receive(codec, other.advert(MINE, 0, 0)).trust is Trust.FRESH
    assert codec.peers[2].source == "10.0.0.2"


def test_an_answer_to_somebody_else_proves_nothing() -> None:
    codec, third, other = make_codec(1), make_codec(3), make_codec(2)
    third._challenge = codec._open_challenge(0.0)
    question = receive(other, third.question(MINE, 0.0), source=3)
    assert receive(codec, other.notice(MINE, question)).trust is Trust.UNKNOWN


def test_an_answer_that_was_held_back_proves_nothing() -> None:
    codec, other = make_codec(1), make_codec(2)
    answer = other.notice(MINE, receive(other, codec.question(MINE, 0.0), source=1))
    assert receive(codec, answer, now=2.1).trust is Trust.UNKNOWN
    assert receive(codec, answer, now=2.0).trust is Trust.FRESH


def test_the_challenge_lives_for_a_second_and_then_changes() -> None:
    codec = make_codec()
    challenges = [parse(codec.question(MINE, now))[1].challenge for now in (0.0, 0.9, 1.1)]
    assert challenges[0] == challenges[1] != challenges[2]
    assert 0 not in challenges


def test_random_bits_that_are_all_zero_still_ask() -> None:
    codec = StrictCodec(make_config(), Identity(1, 1), lambda _: 0)
    assert parse(codec.question(MINE, 0.0))[1].challenge == 1
    assert reason_of(codec, make_codec(1, epoch=9).advert(MINE, 0, 0)) == "twin"
    assert codec.sender_id == 1


def test_what_was_heard_before_is_a_replay() -> None:
    codec, other = make_codec(1), make_codec(2)
    acquainted(codec, other)
    first, second = other.advert(MINE, 0, 0), other.advert(MINE, 0, 0)
    assert receive(codec, second).trust is Trust.FRESH
    on_record = replace(codec.peers[2])
    assert reason_of(codec, second) == "replay"
    assert receive(codec, first).trust is Trust.STALE
    assert codec.peers[2] == on_record


def test_recordings_of_a_former_life_are_strangers_after_everybody_restarted() -> None:
    other = make_codec(2)
    recorded = [other.advert(MINE, 0, 0), other.notice(MINE, receive(other, make_codec(1).question(MINE, 0.0))), other.farewell(MINE)]
    restarted = make_codec(1, epoch=2)
    restarted.question(MINE, 0.0)
    restarted._challenge += 1
    for packet in recorded:
        assert receive(restarted, packet).trust is Trust.UNKNOWN
    assert restarted.peers == {}


def test_a_member_whose_epoch_fell_behind_catches_up() -> None:
    codec, other = make_codec(1), make_codec(2, epoch=9)
    acquainted(codec, other)
    receive(codec, other.advert(MINE, 0, 0))
    returned = make_codec(2, epoch=1)
    question = receive(codec, returned.question(MINE, 0.0))
    assert question.trust is Trust.STALE
    assert receive(returned, codec.notice(MINE, question), source=1).trust is Trust.FRESH
    assert returned.counter.epoch == 10
    assert receive(codec, returned.advert(MINE, 0, 0)).trust is Trust.FRESH


def test_the_last_counter_of_all_is_not_jumped_past() -> None:
    codec, other = make_codec(1), make_codec(2)
    acquainted(other, codec)
    other.peers[1].counter = 2**64 - 1
    acquainted(codec, other)
    assert codec.counter.next() < 2**64
    codec.advert(MINE, 0, 0)


def test_what_peers_remember_less_of_us_than_we_sent_changes_nothing() -> None:
    codec, other = make_codec(1), make_codec(2)
    acquainted(codec, other)
    acquainted(other, codec)
    acquainted(codec, other)
    assert codec.counter.epoch == 1


def test_echo_and_twin() -> None:
    codec = make_codec(1, epoch=2)
    sent = codec.advert(MINE, 0, 0)
    assert reason_of(codec, sent) == "echo"
    assert reason_of(codec, codec.farewell(MINE)) == "echo"
    assert reason_of(codec, make_codec(1, epoch=1).advert(MINE, 0, 0)) == "echo"
    before = codec.sender_id
    assert reason_of(codec, make_codec(1, epoch=3).advert(MINE, 0, 0)) == "twin"
    assert codec.sender_id != before
    assert receive(codec, make_codec(1, epoch=3).advert(MINE, 0, 0)).trust is Trust.UNKNOWN


def test_a_farewell_says_goodbye_once_and_for_this_run_only() -> None:
    codec, other = make_codec(1), make_codec(2)
    acquainted(codec, other)
    farewell = other.farewell(MINE)
    assert receive(codec, other.advert(MINE, 0, 0)).trust is Trust.FRESH
    heard = receive(codec, farewell)
    assert heard.trust is Trust.FRESH
    assert heard.standing.is_bow_out
    assert codec.peers[2].advskew == 100, "how it ranks is what it said before"
    assert reason_of(codec, farewell) == "replay"
    assert receive(codec, other.advert(MINE, 0, 0)).trust is Trust.STALE
    assert receive(codec, make_codec(2, epoch=2).advert(MINE, 0, 0)).trust is Trust.FRESH


def test_keys_rotate_without_a_gap() -> None:
    old, new = STRICT_KEY, OTHER_KEY
    steps = [
        Authentication(key=old),
        Authentication(key=old, accept=(new,)),
        Authentication(key=new, accept=(old,)),
        Authentication(key=new),
    ]
    one, other = make_codec(1), make_codec(2)
    acquainted(one, other)
    acquainted(other, one)
    for step in steps[1:]:
        for changed in (one, other):
            changed.reconfigure(make_config(authentication=step))
            assert receive(one, other.advert(MINE, 0, 0)).trust is Trust.FRESH
            assert receive(other, one.advert(MINE, 0, 0), source=1).trust is Trust.FRESH
    assert reason_of(one, make_codec(3).advert(MINE, 0, 0)) == "bad-digest"


def test_peers_on_record_are_bounded_and_who_was_silent_longest_goes() -> None:
    codec = make_codec(1)
    for number in range(2, 300):
        other = make_codec(number)
        question = receive(other, codec.question(MINE, 0.0), source=1)
        codec.receive_untrusted(other.notice(MINE, question), origin_of(2), number / 1e6)
    assert len(codec.peers) == 256
    assert 2 not in codec.peers
    assert 299 in codec.peers


def test_a_master_that_answers_a_stranger_asks_back() -> None:
    master, stranger = make_codec(1), make_codec(2)
    question = receive(master, stranger.question(MINE, 0.0))
    _, answer = parse(master.advert(MINE, 3.0, 0.0, answer_to=question))
    assert (answer.kind, answer.answer, answer.peer_id) == (Kind.ADVERT, stranger._challenge, 2)
    assert answer.challenge != 0
    acquainted(master, stranger)
    _, answer = parse(master.advert(MINE, 3.0, 0.0, answer_to=receive(master, stranger.question(MINE, 0.1))))
    assert answer.challenge == 0


def test_only_those_meant_reply() -> None:
    codec, other = make_codec(1), make_codec(2)
    everybody = receive(codec, other.question(MINE, 0.0))
    assert codec.reply(MINE, everybody, None, 0.0) == []
    assert parse(codec.reply(MINE, everybody, 1.0, 0.0)[0])[1].kind is Kind.ADVERT
    for_us = everybody._replace(peer_id=1)
    assert parse(codec.reply(MINE, for_us, None, 0.0)[0])[1].kind is Kind.NOTICE
    assert parse(codec.reply(MINE, for_us, 1.0, 0.0)[0])[1].kind is Kind.ADVERT
    assert codec.reply(MINE, everybody._replace(peer_id=3), 1.0, 0.0) == []
    assert parse(codec.reply(MINE, everybody._replace(trust=Trust.STALE), None, 0.0)[0])[1].kind is Kind.NOTICE
    assert parse(codec.reply(MINE, for_us._replace(kind=Kind.ADVERT), 1.0, 0.0)[0])[1].kind is Kind.NOTICE
    assert codec.reply(MINE, everybody._replace(trust=Trust.STALE, peer_id=3), None, 0.0) == []


def test_a_flood_of_recorded_questions_leaves_room_for_the_real_ones() -> None:
    codec, other = make_codec(1), make_codec(2)
    recorded = receive(codec, other.question(MINE, 0.0))._replace(trust=Trust.STALE)
    assert sum(len(codec.reply(MINE, recorded, 1.0, 0.0)) for _ in range(1000)) <= 8
    assert codec.reply(MINE, recorded._replace(trust=Trust.FRESH), 1.0, 0.0)
    assert codec.reply(MINE, recorded._replace(standing=MINE._replace(sender_id=3)), 1.0, 0.0)
    assert sum(len(codec.challenge(MINE, recorded, 0.0)) for _ in range(1000)) <= 5
    assert codec.challenge(MINE, recorded._replace(standing=MINE._replace(sender_id=3)), 0.0)
