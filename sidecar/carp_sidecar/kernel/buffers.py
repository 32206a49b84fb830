"""Room for bursts in sockets, as much as wanted where the kernel lets us, else as much as it grants anybody; and room to read into."""

__all__ = ["Room", "widen"]

import contextlib
import socket
from typing import Any

_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_SO_RCVBUFFORCE = 33


def widen(target: socket.socket, *, receive: int = 0, send: int = 0) -> None:
    """Ask for buffers of so many bytes. Without NET_ADMIN in the first user namespace (rootless containers) a limit of the host applies."""
    for size, limited, forced in ((receive, socket.SO_RCVBUF, _SO_RCVBUFFORCE), (send, socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
        if size:
            target.setsockopt(socket.SOL_SOCKET, limited, size)
            with contextlib.suppress(PermissionError):
                target.setsockopt(socket.SOL_SOCKET, forced, size)


class Room:
    """Where sockets of one thread are read into, again and again.

    A new buffer of this size for each read, cut down to the few bytes that came, tears holes into the heap: it grew by 0.9 MB in an hour
    of failovers (measured in the guardian, which has a room of its own).
    """

    __slots__ = ("_room",)

    def __init__(self, size: int) -> None:
        self._room = memoryview(bytearray(size))

    def receive(self, source: socket.socket) -> bytes:
        """What ``recv`` would give."""
        return bytes(self._room[: source.recv_into(self._room)])

    def receive_from(self, source: socket.socket) -> tuple[bytes, Any]:
        """What ``recvfrom`` would give."""
        length, sender = source.recvfrom_into(self._room)
        return bytes(self._room[:length]), sender
