"""A member that holds the key and sends nonsense: it can disturb an election, but break nobody."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_protocol.auth import CompatibleDigest, StrictDigest
from carp_protocol.config import Mode
from carp_protocol.effects import State
from carp_protocol.heard import Kind
from carp_protocol.packet import HEADER_LENGTH, Header, checksum, signed_part
from carp_protocol.strict import Extension
from simulation.members import PASSWORD, STRICT_KEY, Member, make_config

BYTE, U32, U64 = st.integers(0, 255), st.integers(0, 2**32 - 1), st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2, 2**64 - 1]))
IDS = st.sampled_from([0, 1, 2, 3, 2**64 - 1])
HEADERS = st.builds(Header, st.just(1), BYTE, BYTE, BYTE, U64)
EXTENSIONS = st.builds(Extension, st.sampled_from(Kind), U32, IDS, U32, U32, U64, U64, IDS, U64)


def strict_packet(header: Header, extension: Extension) -> bytes:
    plain = header.encode(extension.encode())
    data = plain[:16] + StrictDigest(STRICT_KEY).sign(signed_part(plain)) + plain[HEADER_LENGTH:]
    return data[:6] + struct.pack("!H", checksum(data[:6] + b"\0\0" + data[8:])) + data[8:]


def compatible_packet(header: Header) -> bytes:
    digest = CompatibleDigest(PASSWORD, 1, [interface.ip for interface in make_config(Mode.COMPATIBLE).addresses])
    return Header(1, header.advskew, header.advbase, header.demotion, header.counter, digest.sign(header.counter)).encode()


PACKETS: dict[Mode, st.SearchStrategy[bytes]] = {
    Mode.STRICT: st.builds(strict_packet, HEADERS, EXTENSIONS),
    Mode.COMPATIBLE: st.builds(compatible_packet, HEADERS),
}


def open_challenge_of(member: Member) -> int:
    strict = member.engine.strict
    return strict._challenge if strict else 0


@pytest.mark.parametrize("mode", Mode)
@given(data=st.data())
def test_nonsense_with_the_right_digest(mode: Mode, data: st.DataObject) -> None:
    member = Member.make(1, mode, advskew=50).start()
    for _ in range(data.draw(st.integers(1, 15))):
        packet = data.draw(PACKETS[mode])
        if mode is Mode.STRICT and data.draw(st.booleans()):
            packet = answer(data, open_challenge_of(member))
        member.hear(packet, data.draw(st.integers(1, 5)))
        member.advance(data.draw(st.sampled_from([0.0, 0.001, 0.03, 1.0, 5.0])))
        said = member.packets()
        assert all(len(one) in (36, 92) for one in said)
        member.effects()
        assert member.engine.next_timer() is not None
    assert member.state() in (State.BACKUP, State.MASTER)


def answer(data: Any, challenge: int) -> bytes:
    """What the member asked for, so that it believes the rest."""
    extension: Extension = data.draw(EXTENSIONS)
    fields = {"kind": extension.kind, "interval_ms": extension.interval_ms, "sender_id": 2, "generation": 0}
    return strict_packet(data.draw(HEADERS), Extension(**fields, answer=challenge, peer_id=1, peer_counter=extension.peer_counter))  # type: ignore[arg-type]
