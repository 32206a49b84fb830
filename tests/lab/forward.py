"""A port of this machine that leads into a namespace, so that a person's own kubectl reaches a control plane of the lab."""

__all__ = ["Forward"]

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

CHUNK = 65536


class Forward:
    """Listens on 127.0.0.1 at ``port`` until ``close``; ``connect`` gives the other end of each connection."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="forward", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse new connections; those that are open end with the process."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = self._connect()
            except OSError:
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pour, args=(source, sink), name="forward-one-way", daemon=True).start()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    """Everything from one to the other; at the end both are closed."""
    with contextlib.suppress(OSError), source, sink:
        while data := source.recv(CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
