"""A small HTTPS client for the Kubernetes API: one connection, used by one thread.

Reads the token anew for every request and the CA for every connection, so rotation needs nothing. Every wait is bounded, and so is
everything that is read. Knows no object; how a list or a watch is followed is the watcher's.
"""

from __future__ import annotations

__all__ = ["APPLY_TIMEOUT_S", "Connection", "Contact", "Server"]

import json
import os
import re
import socket
import ssl
import threading
import time

from carp_agent.errors import ApiError, BadAnswer, UsageError
from carp_agent.http1 import Answer, request_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

    from carp_agent.logs import Log

APPLY_TIMEOUT_S = 10.0
"""Seconds for one request and its answer; an API server that is well takes milliseconds."""
_CONNECT_TIMEOUT_S = 5.0
"""Seconds for a connection and its handshake."""
_MAX_IDLE_S = 60.0
"""Seconds after which a kept connection is not trusted any more: servers and balancers drop idle ones after 90 s and more."""
_MAX_BODY_BYTES = 4 * 1024 * 1024
"""etcd holds at most 1.5 MB of an object."""
_MAX_LINE_BYTES = 4 * 1024 * 1024
_MAX_FILE_BYTES = 65_536
"""Of a token or a CA file."""
_READ_BYTES = 65_536
_KEEPALIVE_IDLE_S, _KEEPALIVE_EVERY_S, _KEEPALIVE_COUNT = 15, 5, 3
"""A server whose host died is noticed within 30 s, however long a watch is silent."""
_TOKEN = re.compile(r"[\x21-\x7e]+")
_SERVER = re.compile(r"https://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][-A-Za-z0-9._]*)(?::(\d{1,5}))?(/[^\s?#]*)?")
_RETRY_AFTER = re.compile(r"\d{1,4}")
_MAX_SAID_CHARS = 300


class Server:
    """Where the API server is, and the files that hold what it takes to speak with it."""

    def __init__(self, url: str, *, token_file: str, ca_file: str) -> None:
        found = _SERVER.fullmatch(url)
        if not found or int(found[2] or 443) > 65_535:
            raise UsageError(f"{url!r} is not an address of an API server; write it as https://HOST:PORT")
        self.host = found[1].strip("[]")
        self.ascii_host = self.host.encode("ascii")
        """As bytes: for text Python loads the tables of international domain names, 0.6 MB."""
        self.port = int(found[2] or 443)
        self.host_header = f"{found[1]}:{self.port}"
        self.prefix = (found[3] or "").rstrip("/")
        self._token_file = token_file
        self._ca_file = ca_file
        self._ca_state: tuple[int, ...] = ()
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def token(self) -> str:
        """The token as it is now. Raises ApiError."""
        text = _read(self._token_file).decode("latin-1").strip()
        if not _TOKEN.fullmatch(text):
            raise ApiError(f"{self._token_file} holds no token")
        return text

    def context(self) -> ssl.SSLContext:
        """TLS that believes the CA file as it is now. Raises ApiError."""
        with self._lock:
            try:
                found = os.stat(self._ca_file)
                state = (found.st_ino, found.st_size, found.st_mtime_ns)
                if self._context is None or state != self._ca_state:
                    self._context, self._ca_state = _trusting(self._ca_file), state
            except OSError as error:
                raise ApiError(f"the CA file {self._ca_file} cannot be used: {error.strerror or error}") from error
            return self._context


def _trusting(ca_file: str) -> ssl.SSLContext:
    """Believes what kubectl believes: any certificate of the file is an anchor, and old CAs without key identifiers are good.

    Not ``ssl.create_default_context``: from Python 3.13 on it refuses the CAs of many clusters (VERIFY_X509_STRICT).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(ca_file)
    return context


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ApiError(f"{path} cannot be read: {error.strerror}") from error


class Contact:
    """Whether the API server answers: counts requests, and logs an outage once when it begins and once when it ends."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._out_since: float | None = None
        self._requests: dict[tuple[str, int], int] = {}
        self.last: float | None = None
        """Monotonic time of the last answer."""

    def counts(self) -> dict[tuple[str, int], int]:
        """Requests by verb and HTTP status; 0: no answer."""
        with self._lock:
            return dict(self._requests)

    def note(self, verb: str, status: int, why: str = "") -> None:
        """One request has ended. Without an answer, or with one that says the server cannot work, an outage begins."""
        now = time.monotonic()
        out = status in {0, 401, 429} or status >= 500
        with self._lock:
            self._requests[verb, status] = self._requests.get((verb, status), 0) + 1
            began = self._out_since
            if not out:
                self.last, self._out_since = now, None
            elif began is None:
                self._out_since = now
        if out and began is None:
            self._log.warning(f"the API server cannot be used: {why}; what runs goes on without it")
        elif not out and began is not None:
            self._log.info(f"the API server answers again, after {now - began:.1f} s", outage_s=round(now - began, 1))


class Connection:
    """One kept connection for requests one after the other. Its methods raise ApiError and nothing else."""

    def __init__(self, server: Server, contact: Contact, user_agent: str) -> None:
        self._server = server
        self._contact = contact
        self._user_agent = user_agent
        self._socket: ssl.SSLSocket | None = None
        self._used_at = 0.0

    def close(self) -> None:
        """Hang up; the next request connects anew."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def request(self, method: str, path: str, body: object = None, *, media_type: str = "", accept: str = "application/json") -> bytes:
        """Ask, and give the body of the answer."""
        deadline = time.monotonic() + APPLY_TIMEOUT_S
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        verb = method.lower()
        with _Counted(self._contact, verb) as counted:
            answer, first = self._begin(method, path, content, media_type, accept, deadline)
            data = bytearray(first)
            while not answer.done:
                data += self._more(answer, deadline)
                if len(data) > _MAX_BODY_BYTES:
                    raise self._broken("the answer is too long")
            counted.status = answer.status
            self._finish(answer)
            if not 200 <= answer.status < 300:
                raise _refusal(answer, bytes(data))
        return bytes(data)

    def stream(self, path: str, *, silence_s: float) -> Iterator[bytes]:
        """Ask for a stream; gives its lines as they come, until the server ends it. Silence for longer is an error."""
        deadline = time.monotonic() + APPLY_TIMEOUT_S
        with _Counted(self._contact, "watch") as counted:
            answer, data = self._begin("GET", path, None, "", "application/json", deadline)
            counted.status = answer.status
            if answer.status != 200:
                while not answer.done and len(data) < _MAX_BODY_BYTES:
                    data += self._more(answer, deadline)
                self._finish(answer)
                raise _refusal(answer, data)
        return self._lines(answer, data, silence_s)

    def _lines(self, answer: Answer, data: bytes, silence_s: float) -> Iterator[bytes]:
        buffer = bytearray(data)
        while True:
            while (end := buffer.find(b"\n")) >= 0:
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                yield line
            if answer.done:
                break
            buffer += self._more(answer, time.monotonic() + silence_s)
            if len(buffer) > _MAX_LINE_BYTES:
                raise self._broken("a line of the watch is too long")
        self._finish(answer)

    def _begin(self, method: str, path: str, content: bytes | None, media_type: str, accept: str, deadline: float) -> tuple[Answer, bytes]:
        """Send a request and read until the head of its answer; once more on a new connection if a kept one proves dead."""
        headers = {"Authorization": f"Bearer {self._server.token()}", "Accept": accept, "User-Agent": self._user_agent}
        if content is not None:
            headers["Content-Type"] = media_type
        request = request_bytes(method, self._server.prefix + path, self._server.host_header, headers, content)
        if self._socket is not None and time.monotonic() - self._used_at < _MAX_IDLE_S:
            try:
                return self._exchange(self._socket, request, deadline)
            except (OSError, BadAnswer):
                pass  # the server closed it meanwhile
        self.close()
        self._socket = self._connect(deadline)
        try:
            return self._exchange(self._socket, request, deadline)
        except (OSError, BadAnswer) as error:
            raise self._broken(_phrase(error)) from error

    def _connect(self, deadline: float) -> ssl.SSLSocket:
        server = self._server
        context = server.context()
        limit_s = min(_CONNECT_TIMEOUT_S, max(0.001, deadline - time.monotonic()))
        address: Any = (server.ascii_host, server.port)  # the types of socket know text only
        try:
            plain = socket.create_connection(address, limit_s)
        except OSError as error:
            raise ApiError(f"no connection to {server.host_header}: {_phrase(error)}", unreachable=True) from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_EVERY_S)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT)
            return context.wrap_socket(plain, server_hostname=server.ascii_host)
        except OSError as error:
            plain.close()
            raise ApiError(f"no TLS with {server.host_header}: {_phrase(error)}", unreachable=True) from error

    def _exchange(self, connection: ssl.SSLSocket, request: bytes, deadline: float) -> tuple[Answer, bytes]:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        connection.sendall(request)
        answer = Answer()
        body = b""
        while not answer.status:
            body += self._receive(connection, answer, deadline)
        return answer, body

    def _more(self, answer: Answer, deadline: float) -> bytes:
        assert self._socket is not None
        try:
            return self._receive(self._socket, answer, deadline)
        except (OSError, BadAnswer) as error:
            raise self._broken(_phrase(error)) from error

    def _receive(self, connection: ssl.SSLSocket, answer: Answer, deadline: float) -> bytes:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        data = connection.recv(_READ_BYTES)
        if data:
            return answer.feed_untrusted(data)
        answer.end_untrusted()
        return b""

    def _finish(self, answer: Answer) -> None:
        """Keep the connection for the next request if it can take one."""
        self._used_at = time.monotonic()
        if not answer.done or not answer.keep_alive:
            self.close()

    def _broken(self, why: str) -> ApiError:
        self.close()
        return ApiError(f"{self._server.host_header}: {why}")


class _Counted:
    """Tells the contact how a request ended; a refusal that is no outage is an answer."""

    def __init__(self, contact: Contact, verb: str) -> None:
        self._contact = contact
        self._verb = verb
        self.status = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, ApiError):
            self._contact.note(self._verb, self.status, str(error or ""))


def _refusal(answer: Answer, body: bytes) -> ApiError:
    """What the server said, as one sentence; the body of a refusal is a Status object."""
    after = answer.headers.get("retry-after", "")
    retry_after_s = float(after) if _RETRY_AFTER.fullmatch(after) else 0.0
    said = _message_untrusted(body)
    return ApiError(f"HTTP status {answer.status}{f': {said}' if said else ''}", status=answer.status, retry_after_s=retry_after_s)


def _message_untrusted(body: bytes) -> str:
    try:
        document: Any = json.loads(body)
        said = document["message"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return ""
    text = said if isinstance(said, str) else ""
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_SAID_CHARS]).strip()


def _phrase(error: Exception) -> str:
    """``Connection refused`` and its like, without numbers of files and lines."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno and not isinstance(error, (ssl.SSLError, socket.gaierror)):
        return os.strerror(error.errno)
    said = str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error)
    return said[:_MAX_SAID_CHARS] or type(error).__name__
