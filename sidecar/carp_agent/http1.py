"""HTTP/1.1 for a client that speaks with one API server: requests as bytes, answers out of bytes. No socket, no clock.

``http.client`` does the same and costs 2 MB of memory, most of it for the mail parser it reads headers with; this process has to
stay small (see the package). Every length that the other side names is bounded.
"""

from __future__ import annotations

__all__ = ["Answer", "request_bytes"]

from carp_agent.errors import BadAnswer

_MAX_HEAD_BYTES = 65_536
"""Status line and headers, or trailers: an API server sends some hundred bytes."""
_MAX_SIZE_LINE_BYTES = 1024
"""The line before a chunk, with extensions nobody uses."""
_MAX_DIGITS = 15
"""Of a length: more is no length of anything."""
_HEX = frozenset(b"0123456789abcdefABCDEF")
_NO_BODY = frozenset({204, 304})

_READ_HEAD, _READ_LENGTH, _READ_SIZE, _READ_CHUNK, _READ_CHUNK_END, _READ_TRAILER, _READ_TO_CLOSE, _DONE = range(8)


def request_bytes(method: str, target: str, host: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    """A request; the values are the caller's and hold no line breaks."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


class Answer:
    """One answer, fed with bytes as they come. ``status`` is 0 until its head is complete."""

    __slots__ = ("_buffer", "_left", "_state", "headers", "keep_alive", "status")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._state = _READ_HEAD
        self._left = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        """By name in lower case; of several with one name the last."""
        self.keep_alive = False
        """Whether the connection can take another request once this answer is done."""

    @property
    def done(self) -> bool:
        """Whether the whole answer is here."""
        return self._state == _DONE

    def feed_untrusted(self, data: bytes) -> bytes:
        """Take bytes of the connection; gives what they hold of the body. Raises BadAnswer."""
        if self.done:
            raise BadAnswer("bytes after the end of the answer")
        self._buffer += data
        body = bytearray()
        while self._step(body):
            pass
        return bytes(body)

    def end_untrusted(self) -> None:
        """The connection was closed. Raises BadAnswer when the answer is not complete."""
        if self._state == _READ_TO_CLOSE:
            self._state = _DONE
        elif not self.done:
            raise BadAnswer("the connection was closed in the middle of an answer" if self.status else "the connection was closed")

    def _step(self, body: bytearray) -> bool:
        """Go on by one state; false when more bytes are needed, or none."""
        state = self._state
        if state == _READ_HEAD:
            return self._read_head()
        if state == _READ_SIZE:
            return self._read_size()
        if state == _READ_CHUNK_END:
            return self._read_chunk_end()
        if state == _READ_TRAILER:
            return self._read_trailer()
        if state != _DONE:
            return self._read_data(body)
        if self._buffer:
            raise BadAnswer("bytes after the end of the answer")
        return False

    def _line(self, limit: int) -> bytes | None:
        """The next line without its end; None when it is not here yet."""
        end = self._buffer.find(b"\n", 0, limit)
        if end < 0:
            if len(self._buffer) >= limit:
                raise BadAnswer("a line of the answer is too long")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, _MAX_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= _MAX_HEAD_BYTES:
                raise BadAnswer("the headers of the answer are too long")
            return False
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        status = _status_untrusted(lines[0])
        if 100 <= status < 200:
            return True  # an interim answer; the real one follows
        self.status = status
        self.headers = dict(_header_untrusted(line) for line in lines[1:])
        self.keep_alive = lines[0].startswith("HTTP/1.1") and self.headers.get("connection", "").lower() != "close"
        self._choose_body()
        return True

    def _choose_body(self) -> None:
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if self.status in _NO_BODY:
            self._state = _DONE
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise BadAnswer("the answer has an encoding nobody asked for")
            self._state = _READ_SIZE
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) <= _MAX_DIGITS):
                raise BadAnswer("the length of the answer is not a number")
            self._left = int(length)
            self._state = _READ_LENGTH if self._left else _DONE
        else:
            self.keep_alive = False
            self._state = _READ_TO_CLOSE

    def _read_data(self, body: bytearray) -> bool:
        count = len(self._buffer) if self._state == _READ_TO_CLOSE else min(self._left, len(self._buffer))
        if not count:
            return False
        body += self._buffer[:count]
        del self._buffer[:count]
        if self._state != _READ_TO_CLOSE:
            self._left -= count
            if not self._left:
                self._state = _READ_CHUNK_END if self._state == _READ_CHUNK else _DONE
        return True

    def _read_size(self) -> bool:
        line = self._line(_MAX_SIZE_LINE_BYTES)
        if line is None:
            return False
        digits = line.partition(b";")[0].strip()
        if not 1 <= len(digits) <= _MAX_DIGITS or not _HEX.issuperset(digits):
            raise BadAnswer("the size of a chunk is not a number")
        self._left = int(digits, 16)
        self._state = _READ_CHUNK if self._left else _READ_TRAILER
        return True

    def _read_chunk_end(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise BadAnswer("a chunk is longer than its size")
        del self._buffer[:2]
        self._state = _READ_SIZE
        return True

    def _read_trailer(self) -> bool:
        line = self._line(_MAX_HEAD_BYTES)
        if line is None:
            return False
        if not line:
            self._state = _DONE
        return True


def _status_untrusted(line: str) -> int:
    words = line.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or len(words[1]) != 3 or not (words[1].isascii() and words[1].isdigit()):
        raise BadAnswer("the answer is not HTTP")
    return int(words[1])


def _header_untrusted(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise BadAnswer("a header of the answer has no name")
    return name.lower(), value.strip()
