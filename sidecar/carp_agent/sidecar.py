"""The sidecar's control socket (docs/control-socket.md): commands, and a connection that follows its status for as long as it lives.

Asks for the whole status when something has changed, so that no event needs to be understood; only who answers for a foreign address is
told by nothing else.
"""

from __future__ import annotations

__all__ = ["Control", "Follower", "Update", "handover", "reload"]

import json
import math
import socket
import threading
import time
from collections.abc import Callable

from carp_agent.errors import BadAnswer, SidecarGone, SidecarRefused
from carp_agent.rhythm import Limiter, Rhythm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

_ANSWER_S = 5.0
"""Seconds the sidecar may take for an answer."""
_RELOAD_S = 35.0
"""Longer than the sidecar's own limit for a reload."""
_RETRY_S = 0.2
"""Seconds between attempts while there is no sidecar; one costs microseconds."""
_AGAIN_S = 0.01
"""Seconds before the first attempt after a connection broke: who was merely hung up on need not be told of."""
_START_GRACE_S = 3.0
"""Seconds after the agent's own start before a sidecar counts as absent: both start together."""
_MAX_LINE_BYTES = 16 * 1024 * 1024
"""255 groups are below 1 MB."""
_MAX_CONFLICTS = 1024


class Control:
    """One connection. Raises SidecarGone when it breaks and BadAnswer for what is no answer."""

    def __init__(self, path: str) -> None:
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_S)
        try:
            self._socket.connect(path)
        except (OSError, ValueError) as error:
            self._socket.close()
            plain = isinstance(error, (FileNotFoundError, ConnectionRefusedError))
            raise SidecarGone(
                "" if plain else f"the control socket {path} cannot be used: {getattr(error, 'strerror', None) or error}"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, **request: Any) -> None:
        """Send a request."""
        self._socket.settimeout(_ANSWER_S)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise SidecarGone("") from error

    def read(self, timeout_s: float) -> dict[str, Any] | None:
        """The next line, or None if none comes in time."""
        deadline = time.monotonic() + timeout_s
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            self._socket.settimeout(left_s)
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                return None
            except OSError as error:
                raise SidecarGone("") from error
            if not data:
                raise SidecarGone("")
            self._buffer += data
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise BadAnswer("the sidecar sent a line that is too long")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return _parse_line_untrusted(line)

    def ask(self, timeout_s: float, **request: Any) -> dict[str, Any]:
        """The answer to a request, on a connection that does not watch."""
        self.send(**request)
        answer = self.read(timeout_s)
        if answer is None:
            raise SidecarGone(f"the sidecar did not answer within {timeout_s:g} s")
        return answer


def _parse_line_untrusted(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("the sidecar sent a line that is not JSON") from error
    if not isinstance(document, dict):
        raise BadAnswer("the sidecar sent a line that is not an object")
    return document


def reload(path: str) -> None:
    """Have the configuration read again. Raises SidecarRefused with every problem, SidecarGone and BadAnswer."""
    with Control(path) as control:
        _expect_ok(control.ask(_RELOAD_S, command="reload"))


def handover(path: str, group: str, to: str | None) -> None:
    """Begin a handover. Raises SidecarRefused, SidecarGone and BadAnswer."""
    with Control(path) as control:
        _expect_ok(control.ask(_ANSWER_S, command="handover", group=group, **({"to": to} if to else {})))


def _expect_ok(answer: dict[str, Any]) -> None:
    if answer.get("ok") is not True:
        problems = answer.get("problems")
        found = problems if isinstance(problems, list) and problems else [answer.get("error", "the sidecar refused")]
        raise SidecarRefused([str(problem) for problem in found])


class Update:
    """What the follower tells: the status document, and who answered lately for an address that is not theirs."""

    __slots__ = ("conflicts", "document")

    def __init__(self, document: dict[str, Any] | None, conflicts: dict[str, tuple[str, str, float]]) -> None:
        self.document = document
        """None: there is no sidecar."""
        self.conflicts = conflicts
        """By group the last one: MAC, time, and monotonic time."""


class Follower:
    """``run`` it in a thread of its own: it tells every status, and once when there is no sidecar any more."""

    def __init__(self, path: str, tell: Callable[[Update], None], complain: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell
        self._complain = complain
        self._limiter = Limiter()
        self._conflicts: dict[str, tuple[str, str, float]] = {}
        self._tell_absence_at = time.monotonic() + _START_GRACE_S
        self._complaint = ""
        self._ended = threading.Event()

    def run(self) -> None:
        """Until ``end``."""
        while not self._ended.is_set():
            self.once()
            self._ended.wait(_RETRY_S)

    def end(self) -> None:
        """After the connection that is open now."""
        self._ended.set()

    def once(self) -> None:
        """Connect and follow until that ends. A connection that breaks is made again before anybody is told."""
        while self._follow_once():
            self._tell_absence_at = time.monotonic()
            time.sleep(_AGAIN_S)
        if time.monotonic() >= self._tell_absence_at:
            self._tell_absence_at = math.inf
            self._tell(Update(None, {}))

    def _follow_once(self) -> bool:
        """Whether there was an answer before it ended."""
        answers = 0
        try:
            with Control(self._path) as control:
                for _ in self._answers(control):
                    answers += 1
        except (SidecarGone, BadAnswer) as error:
            if str(error) not in {"", self._complaint}:
                self._complaint = str(error)
                self._complain(self._complaint)
        return answers > 0

    def _answers(self, control: Control) -> Iterator[None]:
        """Tells every status; yields after each. Ends with an exception."""
        control.send(command="watch")
        rhythm = Rhythm(self._limiter)
        asked_at: float | None = time.monotonic()
        while True:
            now = time.monotonic()
            if asked_at is not None:
                wait_s = asked_at + _ANSWER_S - now
                if wait_s <= 0:
                    raise SidecarGone(f"the sidecar did not answer within {_ANSWER_S:g} s")
            else:
                wait_s = rhythm.wait_s(now)
                if not wait_s:
                    control.send(command="status")
                    asked_at = now
                    continue
            line = control.read(wait_s)
            now = time.monotonic()
            if line is None:
                continue
            if "event" in line:
                rhythm.changed(now)
                self._note(line)
            else:
                # What was told before this line is in it: the sidecar makes and sends a status in one step.
                rhythm.answered(now, now - asked_at if asked_at is not None else 0.0)
                asked_at = None
                self._tell(Update(_document_untrusted(line), dict(self._conflicts)))
                self._complaint = ""
                yield

    def _note(self, change: dict[str, Any]) -> None:
        group = str(change.get("group"))
        if change["event"] == "address-conflict" and (group in self._conflicts or len(self._conflicts) < _MAX_CONFLICTS):
            self._conflicts[group] = (str(change.get("mac")), str(change.get("time")), time.monotonic())


def _document_untrusted(answer: dict[str, Any]) -> dict[str, Any]:
    document = answer.get("result")
    if answer.get("ok") is not True or not isinstance(document, dict):
        raise BadAnswer(f"the sidecar refused to tell its status: {str(answer.get('error'))[:200]}")
    return document
