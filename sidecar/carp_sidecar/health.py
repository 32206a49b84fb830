"""Health checks of one group: asks on a schedule, applies the thresholds of a Kubernetes probe, reports changes.

What a failing check costs the group is the caller's business.
"""

__all__ = ["CheckState", "HealthChecker", "OnChange", "Thresholds"]

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from carp_protocol.config import Exec, HealthCheck, HttpGet, TcpSocket
from carp_protocol.errors import BadPacket
from carp_sidecar.children import run_program

_START_SPREAD_S = 0.1
"""Seconds over which first checks are spread, so that a start with many groups is not one burst."""
_STATUS_LINE_BYTES = 8192
"""A longer HTTP status line is no answer; the headers and the body are never read."""
_MESSAGE_LENGTH = 200

OnChange = Callable[[str, bool, str], None]
"""Called with the check's name, whether it passes now, and why."""

_log = logging.getLogger(__name__)


class CheckFailed(Exception):
    """One attempt did not pass; the text is a phrase that says why."""


class Thresholds:
    """Turns single results into passing or failing; pending (None) until one of the thresholds is first reached."""

    def __init__(self, success_threshold: int, failure_threshold: int) -> None:
        self._needed = {True: success_threshold, False: failure_threshold}
        self._last: bool | None = None
        self.passing: bool | None = None
        self.consecutive = 0

    def observe(self, passed: bool) -> bool:
        """Count one result; true if ``passing`` changed by it."""
        self.consecutive = self.consecutive + 1 if passed is self._last else 1
        self._last = passed
        if passed is self.passing or self.consecutive < self._needed[passed]:
            return False
        self.passing = passed
        return True


class CheckState:
    """One check: its thresholds and the message of its last attempt."""

    def __init__(self, check: HealthCheck) -> None:
        self.check = check
        self.thresholds = Thresholds(check.success_threshold, check.failure_threshold)
        self.message = "not checked yet"

    def snapshot(self) -> dict[str, Any]:
        """The entry of the status document."""
        return {
            "name": self.check.name,
            "passing": self.thresholds.passing,
            "message": self.message,
            "consecutive": self.thresholds.consecutive,
        }


class HealthChecker:
    """Runs the checks of one group, each in its own task, from ``update`` until ``close``."""

    def __init__(self, on_change: OnChange, *, spread: Callable[[], float] = random.random) -> None:
        self._on_change = on_change
        self._spread = spread
        self._states: dict[str, CheckState] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def update(self, checks: Sequence[HealthCheck]) -> None:
        """Run exactly these checks: unchanged ones keep their result and schedule, changed ones start anew as pending."""
        wanted = {check.name: check for check in checks}
        for name in list(self._states):
            if self._states[name].check != wanted.get(name):
                del self._states[name]
                self._tasks.pop(name).cancel()
        for name, check in wanted.items():
            if name not in self._states:
                state = CheckState(check)
                self._states[name] = state
                self._tasks[name] = asyncio.create_task(self._run(state), name=f"health check {name}")
                self._tasks[name].add_done_callback(_report_crash)
        self._states = {name: self._states[name] for name in wanted}

    def snapshot(self) -> list[dict[str, Any]]:
        """``health_checks`` of the status document, in the order of the configuration."""
        return [state.snapshot() for state in self._states.values()]

    def passing(self, name: str) -> bool | None:
        """Whether the check passes; None while it is pending or unknown."""
        state = self._states.get(name)
        return state.thresholds.passing if state else None

    async def close(self) -> None:
        """Stop every check; a running program is killed first."""
        tasks = list(self._tasks.values())
        self._states.clear()
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, state: CheckState) -> None:
        check = state.check
        loop = asyncio.get_running_loop()
        await asyncio.sleep(check.initial_delay_s + self._spread() * min(_START_SPREAD_S, check.period_s))
        due = loop.time()
        while True:
            passed, message = await _attempt(check)
            state.message = message
            if state.thresholds.observe(passed):
                self._on_change(check.name, passed, message)
            due = max(due + check.period_s, loop.time())
            await asyncio.sleep(due - loop.time())


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("%s stopped because of an internal error: %r", task.get_name(), error)


async def _attempt(check: HealthCheck) -> tuple[bool, str]:
    """One attempt, never longer than the timeout; whether it passed, and a phrase."""
    try:
        match check.action:
            case Exec(command=command):
                return True, await _exec(command, check.timeout_s)
            case TcpSocket() as action:
                async with asyncio.timeout(check.timeout_s):
                    return True, await _tcp_socket(action)
            case HttpGet() as action:
                async with asyncio.timeout(check.timeout_s):
                    return True, await _http_get(action)
    except TimeoutError:
        return False, f"no answer within {check.timeout_s:g} s"
    except CheckFailed as error:
        return False, str(error)
    except BadPacket as error:
        return False, error.detail
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that is none
        return False, _phrase(error)


def _phrase(error: OSError | UnicodeError) -> str:
    """``Connection refused`` instead of asyncio's ``Connect call failed ('127.0.0.1', 80)``."""
    if isinstance(error, OSError) and error.errno and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return str(getattr(error, "strerror", None) or error)[:_MESSAGE_LENGTH]


async def _exec(command: Sequence[str], timeout_s: float) -> str:
    outcome = await run_program(command, timeout_s=timeout_s)
    if outcome.problem:
        raise CheckFailed(f"{outcome.problem}: {outcome.last_line}" if outcome.last_line else outcome.problem)
    return outcome.last_line or "exit code 0"


async def _tcp_socket(action: TcpSocket) -> str:
    _, writer = await asyncio.open_connection(action.host, action.port)
    writer.transport.abort()
    return "connected"


async def _http_get(action: HttpGet) -> str:
    tls = _unverified_tls() if action.scheme.upper() == "HTTPS" else None
    reader, writer = await asyncio.open_connection(action.host, action.port, ssl=tls, limit=_STATUS_LINE_BYTES)
    try:
        writer.write(_request(action))
        try:
            line = await reader.readuntil(b"\n")
        except (asyncio.LimitOverrunError, asyncio.IncompleteReadError) as error:
            raise CheckFailed("the answer is not HTTP") from error
    finally:
        writer.transport.abort()
    status = _parse_status_line_untrusted(line)
    if not 200 <= status < 400:
        raise CheckFailed(f"HTTP status {status}")
    return f"HTTP status {status}"


def _unverified_tls() -> ssl.SSLContext:
    """TLS that believes every certificate, as the kubelet does: the check asks whether the service lives, not who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _request(action: HttpGet) -> bytes:
    host = f"[{action.host}]" if ":" in action.host else action.host
    headers = {"host": ("Host", f"{host}:{action.port}"), "user-agent": ("User-Agent", "kubecarp-probe"), "accept": ("Accept", "*/*")}
    headers |= {name.lower(): (name, value) for name, value in action.headers}
    headers["connection"] = ("Connection", "close")
    lines = [f"GET {action.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.values()), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


def _parse_status_line_untrusted(line: bytes) -> int:
    """The status of ``HTTP/1.1 200 OK``."""
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or len(words[1]) != 3 or not words[1].isdigit():
        raise BadPacket("not-http", "the answer is not HTTP")
    return int(words[1])
