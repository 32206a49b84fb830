"""One room for all reads: what was read before stays what it was."""

import socket

import pytest

from carp_sidecar.kernel.buffers import Room


def test_what_was_read_stays() -> None:
    room = Room(16)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for message in (b"longer", b"", b"less", b"x" * 20):
            theirs.send(message)
        assert [room.receive(ours), room.receive(ours), room.receive_from(ours)[0]] == [b"longer", b"", b"less"]
        assert room.receive(ours) == b"x" * 16, "more than there is room for is cut, as by recv"
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            room.receive(ours)
