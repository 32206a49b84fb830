"""Every function that reads bytes of others: whatever comes, only the one exception it promises gets out."""

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carp_protocol.config import Mode
from carp_protocol.errors import BadPacket
from carp_protocol.packet import HEADER_LENGTH, checksum, decode_untrusted, looks_like_vrrp_untrusted
from carp_protocol.strict import Extension
from carp_sidecar.console.control import BadRequest, Request, parse_request_untrusted
from carp_sidecar.health import _parse_status_line_untrusted
from carp_sidecar.wire.frames import (
    AdvertHeader,
    arp_request,
    decode_frame_untrusted,
    gratuitous_arp_reply,
    neighbor_solicitation,
    unsolicited_neighbor_advert,
)
from fuzz.mutations import mutated
from fuzz.wire import genuine
from simulation.members import GROUP_ADDRESS, Member
from vectors.pcap import VECTORS, frames, ip_payloads

CAPTURES = sorted(VECTORS.glob("*.pcap"))
MAC = "02:00:00:00:00:01"


def frames_of_ours() -> list[bytes]:
    """One of every kind that this program sends or receives."""
    payload = Member.make().start().packets()[0]
    return [
        AdvertHeader(MAC, "10.0.0.1").frame(payload),
        AdvertHeader(MAC, "fe80::1").frame(payload),
        arp_request(MAC, "10.0.0.1", GROUP_ADDRESS),
        gratuitous_arp_reply(MAC, GROUP_ADDRESS),
        neighbor_solicitation(MAC, "fe80::1", "fe80::2"),
        unsolicited_neighbor_advert(MAC, "fe80::2", router=True),
    ]


def with_checksum(data: bytes) -> bytes:
    """So that the fuzz gets behind the first door."""
    return data[:6] + struct.pack("!H", checksum(data[:6] + b"\0\0" + data[8:])) + data[8:] if len(data) > 8 else data


PAYLOADS = [payload for path in CAPTURES for payload in ip_payloads(path)] + [Member.make().start().packets()[0]]
FRAMES = [frame for path in CAPTURES for frame in frames(path)] + frames_of_ours()
ADDRESS = st.sampled_from(["", "10.0.0.1", "224.0.0.18", "fe80::1%eth0", "fe80::1", "ff02::12", "::", "0.0.0.0"])


@given(st.one_of(st.binary(max_size=200), mutated(PAYLOADS), mutated(PAYLOADS).map(with_checksum)), ADDRESS, ADDRESS)
@example(b"", "", "")
def test_headers(data: bytes, source: str, destination: str) -> None:
    assert looks_like_vrrp_untrusted(data) in (True, False)
    with suppress(BadPacket):
        header = decode_untrusted(data, source=source, destination=destination)
        assert len(data) >= HEADER_LENGTH
        assert data[0] >> 4 == 2
        assert 1 <= header.vhid <= 255
        assert decode_untrusted(header.encode()) == header


@given(st.one_of(st.binary(max_size=100), mutated([PAYLOADS[-1][HEADER_LENGTH:]])))
def test_extensions(data: bytes) -> None:
    with suppress(BadPacket):
        extension = Extension.decode_untrusted(data)
        assert Extension.decode_untrusted(extension.encode()) == extension


@given(st.one_of(st.binary(max_size=200), mutated(FRAMES)))
def test_frames(frame: bytes) -> None:
    with suppress(BadPacket):
        repr(decode_frame_untrusted(frame))


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_frames_of_captures_decode(path: Any) -> None:
    decoded = [decode_frame_untrusted(frame) for frame in frames(path) if frame[12:14] in (b"\x08\x00", b"\x86\xdd")]
    assert decoded


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(["status", "demote", "*", "a"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
REQUESTS = st.fixed_dictionaries(
    {"command": st.one_of(JSON, st.sampled_from(["status", "watch", "reload", "handover", "demote", "undemote"]))},
    optional={"group": JSON, "to": JSON, "amount": JSON, "exclude": JSON, "other": JSON},
)


@given(
    st.one_of(st.binary(max_size=100), JSON.map(lambda value: json.dumps(value).encode()), REQUESTS.map(lambda v: json.dumps(v).encode()))
)
@example(b"[" * 60_000)
@example(b'{"command":"demote","group":"a","amount":' + b"9" * 5000 + b"}")
@example(b'{"command":"status","group":"\\ud800"}')
@example(b'{"command":"demote","amount":NaN}')
def test_requests(line: bytes) -> None:
    with suppress(BadRequest):
        assert isinstance(parse_request_untrusted(line), Request)


@given(st.one_of(st.binary(max_size=60), mutated([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404\r\n"])))
def test_status_lines(line: bytes) -> None:
    with suppress(BadPacket):
        assert 0 <= _parse_status_line_untrusted(line) <= 999


SAID = {mode: list(genuine(mode)) for mode in Mode}


@pytest.mark.parametrize("mode", Mode)
@given(data=st.data())
def test_engines_live_on(mode: Mode, data: st.DataObject) -> None:
    """An engine in any state, fed what is nearly right: it raises nothing, keeps a deadline, and does not spin."""
    member = Member.make(3, mode, advskew=50)
    steps: dict[str, Callable[[], object]] = {
        "mutate": lambda: member.hear(data.draw(st.one_of(mutated(SAID[mode]), mutated(SAID[mode]).map(with_checksum))), 1),
        "replay": lambda: member.hear(data.draw(st.sampled_from(SAID[mode])), data.draw(st.integers(1, 5))),
        "invent": lambda: member.hear(data.draw(st.binary(max_size=120)), 1, own_address=data.draw(st.booleans())),
        "wait": lambda: member.advance(data.draw(st.sampled_from([0.001, 0.02, 0.5, 4.0]))),
        "late": lambda: setattr(member, "now", member.now + data.draw(st.sampled_from([0.5, 5.0]))),
    }
    member.start()
    for name in data.draw(st.lists(st.sampled_from(sorted(steps)), max_size=15)):
        steps[name]()
        member.packets()
        member.effects()
        assert member.engine.next_timer() is not None
