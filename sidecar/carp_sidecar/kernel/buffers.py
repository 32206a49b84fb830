"""Room in sockets for bursts: as much as wanted where the kernel lets us, else as much as it grants anybody."""

__all__ = ["widen"]

import contextlib
import socket

_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_SO_RCVBUFFORCE = 33


def widen(target: socket.socket, *, receive: int = 0, send: int = 0) -> None:
    """Ask for buffers of so many bytes. Without NET_ADMIN in the first user namespace (rootless containers) a limit of the host applies."""
    for size, limited, forced in ((receive, socket.SO_RCVBUF, _SO_RCVBUFFORCE), (send, socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
        if size:
            target.setsockopt(socket.SOL_SOCKET, limited, size)
            with contextlib.suppress(PermissionError):
                target.setsockopt(socket.SOL_SOCKET, forced, size)
