"""One line per event, as text for people or JSON for machines, written by a thread so that a stuck reader never stops the election.

Knows formats and rates; the sentences are the callers'.
"""

__all__ = ["Logs", "RejectedPackets", "configure", "iso_time", "log_change", "log_event"]

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, Full, Queue
from typing import Any, TextIO

from carp_sidecar.changes import LOUD_EVENTS, describe_change

_QUEUED_LINES = 1000
"""Lines that wait for a slow reader; beyond it lines are dropped and counted."""
_FLUSH_S = 1.0
"""Seconds ``close`` waits for the last lines to be written."""
_SUMMARY_INTERVAL_S = 60.0
"""Seconds between two lines about rejected packets of one group and reason: a flood of forged packets fills no disk."""
_REJECTED_KEYS = 1024
"""(group, reason) pairs that are counted apart; bounds the memory a hostile neighbour can claim."""

_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m", logging.DEBUG: "\x1b[2m"}
_RESET = "\x1b[0m"
_QUOTED = frozenset(' "=')
"""Characters that make a value of the text format need quotes."""


def log_event(logger: logging.Logger, level: int, sentence: str, /, **fields: Any) -> None:
    """Log one event with its fields (``group``, ``vhid``, ``interface``, ``from_``, ``to``, ``reason``...); None is left out."""
    if logger.isEnabledFor(level):
        kept = {name.rstrip("_"): value for name, value in fields.items() if value is not None}
        logger.log(level, "%s", sentence, extra={"fields": kept})


def log_change(logger: logging.Logger, change: Mapping[str, Any]) -> None:
    """Log a change of the daemon (docs/control-socket.md) in one line, as a warning if a person should look."""
    loud = (
        change["event"] in LOUD_EVENTS
        or change.get("passing") is False
        or bool(change.get("problems"))
        or change.get("state") in {"down", "missing"}
    )
    fields = {name: value for name, value in change.items() if name not in {"time", "problems", "message", "interfaces"}}
    log_event(logger, logging.WARNING if loud else logging.INFO, describe_change(change), **fields)


def iso_time(at: float | None = None) -> str:
    """RFC 3339 in UTC with milliseconds, of a wall clock reading or of now."""
    moment = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    # Without its zone: asking that for utcoffset leaves a name in the interpreter's cache of methods (see together.py).
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _error(record: logging.LogRecord, *, full: bool) -> str:
    """The exception of a record: with its traceback on one line in JSON and at debug level, else only what happened."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    if full:
        return logging.Formatter().formatException(record.exc_info)
    return f"{record.exc_info[1].__class__.__name__}: {record.exc_info[1]}"


class _JsonFormatter(logging.Formatter):
    """One JSON object per line with stable keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": iso_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        for name, value in getattr(record, "fields", {}).items():
            line.setdefault(name, value)
        if error := _error(record, full=True):
            line["exception"] = error
        return json.dumps(line, ensure_ascii=False, default=str)


class _TextFormatter(logging.Formatter):
    """``12:00:00.123 INFO    intranet: sentence  key=value``, coloured on a terminal."""

    def __init__(self, *, colour: bool, tracebacks: bool) -> None:
        super().__init__()
        self._colour = colour
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        fields = dict(getattr(record, "fields", {}))
        group = fields.pop("group", None)
        sentence = record.getMessage()
        if group is not None:
            sentence = f"{group}: {sentence}"
        if error := _error(record, full=False):
            fields["error"] = error
        pairs = " ".join(f"{name}={_value(value)}" for name, value in fields.items())
        when = datetime.fromtimestamp(record.created, UTC).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]
        line = _one_line(f"{when} {record.levelname:<7} {sentence}{'  ' if pairs else ''}{pairs}")
        if self._tracebacks and error:
            line += "\n" + _error(record, full=True)
        colour = _COLOURS.get(record.levelno) if self._colour else None
        return f"{colour}{line}{_RESET}" if colour else line


def _value(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or not _QUOTED.isdisjoint(text) else text


def _one_line(text: str) -> str:
    """Neither a second line nor an escape sequence comes from a value: some were sent by strangers."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


class Logs(logging.Handler):
    """The handler of the process: formats at once, writes in a thread, drops what a stuck reader does not take."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: Queue[str | None] = Queue(_QUEUED_LINES)
        self._dropped = 0
        self._writer = threading.Thread(target=self._write, name="logs", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except (TypeError, ValueError) as error:
            line = f"a log line could not be written: {error}"
        try:
            self._lines.put_nowait(line)
        except Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, for at most a second, and stop."""
        logging.getLogger().removeHandler(self)
        try:
            self._lines.put(None, timeout=_FLUSH_S)
        except Full:
            pass  # nobody reads: the lines are lost with the process, which must end all the same
        else:
            self._writer.join(_FLUSH_S)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            text = line + "\n"
            try:
                while (line := self._lines.get_nowait()) is not None:
                    text += line + "\n"
            except Empty:
                pass
            if dropped := self._dropped:
                self._dropped -= dropped
                text += f"{dropped} log lines were dropped because nobody read them\n"
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                pass  # the reader has gone; the election goes on without being read
            if line is None:
                return


def configure(log_format: str, level: str, *, stream: TextIO | None = None) -> Logs:
    """Log everything to ``stream`` (standard output by default); ``close`` the result at the end. Replaces an earlier one."""
    stream = stream or sys.stdout
    terminal = stream.isatty()
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, Logs):
            handler.close()
    handler = Logs(stream)
    if log_format == "text" or (log_format == "auto" and terminal):
        handler.setFormatter(_TextFormatter(colour=terminal, tracebacks=level == "debug"))
    else:
        handler.setFormatter(_JsonFormatter())
    root.addHandler(handler)
    root.setLevel(level.upper())
    for chatty in ("asyncio", "pyroute2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return handler


_QUIET_REASONS = frozenset({"unverified", "echo", "vrrp"})
"""Rejections that belong to a healthy network: counted, but logged at debug level only."""


@dataclass(slots=True)
class _Rejected:
    since: float
    count: int = 0


class RejectedPackets:
    """Logs rejected packets without following a flood: the first at once, then a count once a minute."""

    def __init__(self, logger: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._seen: dict[tuple[str, str], _Rejected] = {}

    def record(self, *, group: str, reason: str, source: str, detail: str = "", interface: str | None = None) -> None:
        """One packet was rejected."""
        if reason in _QUIET_REASONS:
            self._logger.debug("%s: packet of %s rejected: %s %s", group, source, reason, detail)
            return
        key = (group, reason)
        entry = self._seen.get(key)
        if entry is None and len(self._seen) >= _REJECTED_KEYS:
            key = ("", "other")
            entry = self._seen.get(key)
        if entry is None:
            self._seen[key] = _Rejected(self._clock())
            self._log("packet rejected", *key, interface=interface, source=source, detail=detail or None)
            return
        entry.count += 1
        self._summarise(key, entry)

    def flush(self) -> None:
        """Say what is due even though no packet comes any more; call it now and then (every minute)."""
        for key, entry in list(self._seen.items()):
            self._summarise(key, entry, forget=True)

    def _summarise(self, key: tuple[str, str], entry: _Rejected, *, forget: bool = False) -> None:
        now = self._clock()
        elapsed_s = now - entry.since
        if elapsed_s < _SUMMARY_INTERVAL_S:
            return
        if entry.count:
            self._log(f"{entry.count} more packets rejected in {elapsed_s:.0f} s", *key, count=entry.count)
            entry.since, entry.count = now, 0
        elif forget:
            del self._seen[key]

    def _log(self, sentence: str, group: str, reason: str, **fields: Any) -> None:
        log_event(self._logger, logging.WARNING, sentence, group=group or None, reason=reason, **fields)
