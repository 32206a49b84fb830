"""A program that outlives the sidecar: when it dies, sends its farewells and removes its addresses.

Run as ``python -IS guardian.py`` with a pipe as standard input, whose end is the death of the sidecar (a clean stop kills
the guardian first). Standard library only and nothing of this package: what it does is handed to it in bytes.
"""

__all__ = ["Will", "encode_clear", "encode_set"]

import contextlib
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

READ_SIZE = 1 << 16  # bytes: the size of a pipe
SEND_BUFFER = 1 << 20  # bytes: the requests of 255 groups go out as one message

_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_LENGTH = struct.Struct("=I")
_SET = b"S"
_CLEAR = b"C"
_LAST = b"L"
_NETLINK_NETFILTER = 12  # linux/netlink.h


class Will:
    """What is to be done for one group. Neither a dataclass nor a named tuple: those cost 1 MB of memory here.

    ``farewell``: interface index and whole Ethernet frame, signed in advance, of every bow-out.
    ``after_ms``: from the farewell to the removal; the successor takes over in between.
    ``drop``: netlink requests that remove the addresses.
    ``rest``: netlink requests that take longer, devices down; after the ``drop`` of all groups.
    """

    __slots__ = ("after_ms", "drop", "farewell", "rest")

    def __init__(self, farewell: Sequence[tuple[int, bytes]], after_ms: int, drop: bytes, rest: bytes) -> None:
        self.farewell = farewell
        self.after_ms = after_ms
        self.drop = drop
        self.rest = rest


def _pack(*fields: bytes) -> bytes:
    return b"".join(_LENGTH.pack(len(field)) + field for field in fields)


def _unpack(data: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        end = place + _LENGTH.size + _LENGTH.unpack_from(data, place)[0]
        yield data[place + _LENGTH.size : end]
        place = end


def encode_set(group: str, will: Will) -> bytes:
    """The frame on the pipe that leaves or replaces the will of a group."""
    farewell = [_LENGTH.pack(index) + frame for index, frame in will.farewell]
    return _pack(_pack(_SET, group.encode(), _LENGTH.pack(will.after_ms), will.drop, will.rest, *farewell))


def encode_clear(group: str) -> bytes:
    """The frame on the pipe that takes the will of a group back."""
    return _pack(_pack(_CLEAR, group.encode()))


def encode_last(transaction: bytes) -> bytes:
    """The frame on the pipe that leaves the netfilter transaction to be sent when all wills have been carried out."""
    return _pack(_pack(_LAST, transaction))


class _Estate:
    """What has been left so far."""

    __slots__ = ("last", "wills")

    def __init__(self) -> None:
        self.wills: dict[bytes, Will] = {}
        self.last = b""


def _obey(frame: bytes, estate: _Estate) -> None:
    kind, group, *fields = _unpack(frame)
    wills = estate.wills
    if kind == _LAST:
        estate.last = group
    elif kind == _SET:
        after, drop, rest, *farewell = fields
        # A list: a tuple out of a generator grows to its length, and Python keeps thousands of each length when they are done with.
        frames = [(_LENGTH.unpack_from(item)[0], item[_LENGTH.size :]) for item in farewell]
        wills[group] = Will(frames, _LENGTH.unpack(after)[0], drop, rest)
    else:
        wills.pop(group, None)


def _read_until_the_end(source: int) -> _Estate:
    estate = _Estate()
    # One room for every read: a new one of this size for each, cut down to what came, tears holes into the heap for ever.
    room, buffer = bytearray(READ_SIZE), bytearray()
    # No timeout: the end of the pipe is the one event this program exists for.
    while length := os.readv(source, [room]):
        buffer += memoryview(room)[:length]
        while len(buffer) >= _LENGTH.size and len(buffer) >= (end := _LENGTH.size + _LENGTH.unpack_from(buffer)[0]):
            _obey(bytes(memoryview(buffer)[_LENGTH.size : end]), estate)
            del buffer[:end]
    return estate


def _say_farewell(packets: socket.socket, wills: Iterable[Will]) -> None:
    for will in wills:
        for index, frame in will.farewell:
            with contextlib.suppress(OSError):  # an interface that went away or down has nobody to tell
                packets.sendto(frame, (socket.if_indextoname(index), 0))


def _release(netlink: socket.socket, wills: Iterable[Will], start: float) -> None:
    """The kernel acts within ``send``; its answers are left unread, there is nothing to be done about them."""
    ordered = sorted(wills, key=lambda will: will.after_ms)
    for after_ms in sorted({will.after_ms for will in ordered}):
        time.sleep(max(0.0, start + after_ms / 1000 - time.monotonic()))
        with contextlib.suppress(OSError):
            netlink.send(b"".join(will.drop for will in ordered if will.after_ms == after_ms))
    for will in ordered:
        with contextlib.suppress(OSError):
            netlink.send(will.rest)


def main() -> None:
    """Waits for the end of standard input, then carries out every will."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write("carp-guardian")
    # Opened now: later the permission, or a free descriptor, may be gone.
    try:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except OSError as error:
        sys.exit(f"carp-guardian: no packet socket ({error.strerror}): NET_RAW and NET_ADMIN are needed")
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        netlink.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER)
    except PermissionError:  # in a user namespace: the host's limit has to do
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    netlink.bind((0, 0))
    netfilter = None
    with contextlib.suppress(OSError):  # a kernel without netfilter
        netfilter = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    estate = _read_until_the_end(sys.stdin.fileno())
    start, wills = time.monotonic(), estate.wills
    _say_farewell(packets, wills.values())
    _release(netlink, wills.values(), start)
    if netfilter is not None and estate.last:
        with contextlib.suppress(OSError):
            netfilter.send(estate.last)
    if wills:
        with contextlib.suppress(OSError):
            os.write(2, f"carp-guardian: the sidecar died; {len(wills)} group(s) bowed out and released their addresses\n".encode())


if __name__ == "__main__":
    main()
