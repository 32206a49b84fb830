"""A TLS server in the test process that does to its clients what a test says: byte by byte, late, wrong, or not at all."""

__all__ = ["DEADLINE_S", "Handler", "Request", "TlsServer", "answer", "chunk", "chunked", "read_request", "wait_for"]

import contextlib
import functools
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from lab.pki import Authority

DEADLINE_S = 20.0
"""Longer than anything takes on a busy machine; only a failing test waits for it."""
T = TypeVar("T")

Handler = Callable[[ssl.SSLSocket, int], None]
"""Serves one connection; gets its number, from 0."""


def wait_for(condition: Callable[[], T], what: str = "it happens") -> T:
    """Until something in another thread has happened."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_S:g} s"
        time.sleep(0.002)
    return found


@functools.cache
def pki() -> tuple[Path, Path, Path]:
    """CA, certificate and key of a server at 127.0.0.1; made once, gone with the process."""
    directory = Path(_kept.name)
    authority = Authority(directory)
    certificate, key = authority.issue("server", "server", hosts=["127.0.0.1", "localhost"])
    return authority.certificate, certificate, key


_kept = tempfile.TemporaryDirectory(prefix="kubecarp-pki-")


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def read_request(connection: ssl.SSLSocket) -> Request | None:
    """The next request on a connection; None when the client hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65_536)
    method, target, _ = first.split(" ")
    return Request(method, target, headers, body)


def answer(body: bytes = b"{}", status: int = 200, **headers: str) -> bytes:
    """A whole answer with its length."""
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """A whole answer in chunks, or the beginning of one."""
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(map(chunk, pieces)) + (b"0\r\n\r\n" if end else b"")


class TlsServer:
    """Listens on 127.0.0.1, at a port that it keeps; a thread for each connection."""

    def __init__(self, handler: Handler, files: tuple[Path, Path, Path] | None = None) -> None:
        self._handler = handler
        self.ca, certificate, key = files or pki()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listening: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._count = 0
        self.port = 0
        self.errors: list[BaseException] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Between ``start`` and ``stop``."""
        return self._listening is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        if error is None:
            assert not self.errors, self.errors

    def start(self) -> None:
        """Listen, again at the same port after ``stop``."""
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=16)
        self.port = self._listening.getsockname()[1]
        self._spawn(self._accept, self._listening)

    def stop(self) -> None:
        """A dead server: connections break, new ones are refused."""
        if self._listening is None:
            return
        listening, self._listening = self._listening, None
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        self._threads.clear()
        listening.close()

    def hang_up(self) -> None:
        """Break every connection."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _spawn(self, function: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while self._listening is listening:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            self._open.add(plain)
            self._spawn(self._serve, plain, self._count)
            self._count += 1

    def _serve(self, plain: socket.socket, number: int) -> None:
        connection: ssl.SSLSocket | None = None
        try:
            connection = self._context.wrap_socket(plain, server_side=True)
            self._open.discard(plain)
            self._open.add(connection)
            if self._listening is not None:
                self._handler(connection, number)
        except OSError as error:
            if connection is None:
                _close_half_made(error)  # the client went away, or does not believe us
        except BaseException as error:  # noqa: BLE001  a failed assertion in a handler belongs to the test
            self.errors.append(error)
        finally:
            self._open.discard(connection or plain)
            (connection or plain).close()


def _close_half_made(error: OSError) -> None:
    """ssl.SSLSocket forgets to close itself when its client is gone before the handshake; pytest would complain in a test that follows."""
    trace = error.__traceback__
    while trace is not None:
        made = trace.tb_frame.f_locals.get("self")
        if isinstance(made, ssl.SSLSocket):
            made.close()
        trace = trace.tb_next
