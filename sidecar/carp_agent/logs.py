"""One JSON line per event on standard output, in the shape of the sidecar's log. Knows no event.

Without the ``logging`` module, which costs 1 MB. A reader that does not read stops nobody: what does not fit is dropped and counted.
"""

from __future__ import annotations

__all__ = ["LEVELS", "Log"]

import json
import os
import select
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_MAX_LINE_BYTES = 4096
"""A pipe that can be written at all takes so many bytes at once (PIPE_BUF), so a line never blocks."""
_MAX_VALUE_CHARS = 1000
_MAX_TRACEBACK_CHARS = 2500


class Log:
    """The log of the process; its methods may be called by every thread."""

    def __init__(self, level: str = "info", *, fd: int = 1) -> None:
        self._level = LEVELS[level]
        self._fd = fd
        self._lock = threading.Lock()
        self._dropped = 0

    def debug(self, sentence: str, **fields: Any) -> None:
        self._log("debug", sentence, fields)

    def info(self, sentence: str, **fields: Any) -> None:
        self._log("info", sentence, fields)

    def warning(self, sentence: str, **fields: Any) -> None:
        self._log("warning", sentence, fields)

    def error(self, sentence: str, **fields: Any) -> None:
        self._log("error", sentence, fields)

    def crash(self, what: str, error: BaseException) -> None:
        """An exception nobody expected: a defect, with its traceback."""
        import traceback

        self._log("error", f"{what} failed because of an internal error; please report it", {}, "".join(traceback.format_exception(error)))

    def _log(self, level: str, sentence: str, fields: dict[str, Any], exception: str = "") -> None:
        if LEVELS[level] < self._level:
            return
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        line = {"time": f"{moment}.{int(now % 1 * 1000):03d}Z", "level": level, "logger": "carp_agent", "msg": sentence[:_MAX_VALUE_CHARS]}
        line |= {name: value for name, value in fields.items() if value is not None and name not in line}
        if exception:
            line["exception"] = exception[-_MAX_TRACEBACK_CHARS:]
        self._write(json.dumps(line, ensure_ascii=False, default=str).encode("utf-8", "replace"))

    def _write(self, line: bytes) -> None:
        if len(line) >= _MAX_LINE_BYTES:
            line = json.dumps({"level": "error", "logger": "carp_agent", "msg": "a log line was too long"}).encode()
        with self._lock:
            if self._dropped and self._put(_line_of_loss(self._dropped)):
                self._dropped = 0
            if not self._put(line):
                self._dropped += 1

    def _put(self, line: bytes) -> bool:
        """Write a line if that does not block."""
        try:
            if not select.select([], [self._fd], [], 0)[1]:
                return False
            os.write(self._fd, line + b"\n")
        except (OSError, ValueError):
            return False  # the reader has gone; the work goes on without being read
        return True


def _line_of_loss(count: int) -> bytes:
    return json.dumps(
        {"level": "warning", "logger": "carp_agent", "msg": f"{count} log lines were dropped because nobody read them"}
    ).encode()
