"""Health checks: thresholds alone, then real attempts on loopback and real programs."""

import asyncio
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from carp_protocol.config import Exec, HealthCheck, HttpGet, TcpSocket
from carp_protocol.errors import BadPacket
from carp_sidecar import children
from carp_sidecar.health import HealthChecker, Thresholds, _attempt, _parse_status_line_untrusted
from unit.fake_daemon import DEADLINE_S, until

Changes = asyncio.Queue[tuple[str, bool, str]]


@pytest.mark.parametrize(
    "results, passing",
    [
        ("", None),
        ("s", None),
        ("ss", True),
        ("f", None),
        ("sfs", None),
        ("fff", False),
        ("ssff", True),
        ("ssfff", False),
        ("ssffsff", True),
        ("ssfffs", False),
        ("ssfffss", True),
    ],
)
def test_thresholds(results: str, passing: bool | None) -> None:
    thresholds = Thresholds(success_threshold=2, failure_threshold=3)
    for result in results:
        thresholds.observe(result == "s")
    assert thresholds.passing is passing


def test_only_changes_are_changes() -> None:
    thresholds = Thresholds(1, 2)
    assert [thresholds.observe(passed) for passed in (True, True, False, False, False, True)] == [True, False, False, True, False, True]
    assert thresholds.consecutive == 1


@asynccontextmanager
async def server(answer: bytes | None, tls: ssl.SSLContext | None = None, seen: list[bytes] | None = None) -> AsyncIterator[int]:
    """A server on loopback that reads a request and answers; with None it never does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            if seen is not None:
                seen.append(request)
            if answer is not None:
                writer.write(answer)
                await writer.drain()
            await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await listening.wait_closed()


def check(action: Exec | TcpSocket | HttpGet, **fields: float) -> HealthCheck:
    return HealthCheck(name="web", action=action, timeout_s=fields.pop("timeout_s", DEADLINE_S), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("status, passed", [(200, True), (204, True), (302, True), (399, True), (400, False), (503, False), (199, False)])
async def test_http_status(status: int, passed: bool) -> None:
    async with server(f"HTTP/1.1 {status} Whatever\r\n\r\n".encode()) as port:
        assert await _attempt(check(HttpGet(port=port))) == (passed, f"HTTP status {status}")


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1\r\n", b"x" * 100_000, b"HTTP/1.1 abc OK\r\n", b""])
async def test_an_answer_that_is_not_http(answer: bytes) -> None:
    async with server(answer) as port:
        passed, message = await _attempt(check(HttpGet(port=port), timeout_s=1.0 if not answer else DEADLINE_S))
    assert not passed
    assert message in ("the answer is not HTTP", "no answer within 1 s")


def test_status_line_raises_only_bad_packet() -> None:
    for line in (b"", b"\xff\xff", b"HTTP/1.1", b"HTTP/1.1 2000 x", b"HTTP/2 200"):
        with pytest.raises(BadPacket):
            _parse_status_line_untrusted(line)


async def test_http_request_is_what_was_configured() -> None:
    seen: list[bytes] = []
    async with server(b"HTTP/1.1 200 OK\r\n\r\n", seen=seen) as port:
        action = HttpGet(port=port, path="/ready?deep=1", headers=(("Host", "intranet.example"), ("X-Probe", "1")))
        assert (await _attempt(check(action)))[0]
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "GET /ready?deep=1 HTTP/1.1"
    assert "Host: intranet.example" in lines
    assert "X-Probe: 1" in lines
    assert "Connection: close" in lines
    assert sum(line.lower().startswith("host:") for line in lines) == 1


def self_signed(folder: Path) -> ssl.SSLContext:
    """TLS of a server whose certificate nobody believes."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=other", "-keyout"]
    made = subprocess.run([*command, str(key), "-out", str(cert)], capture_output=True, check=False, timeout=DEADLINE_S)
    assert made.returncode == 0, made.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@pytest.mark.needs("openssl")
async def test_https_believes_any_certificate(tmp_path: Path) -> None:
    async with server(b"HTTP/1.1 200 OK\r\n\r\n", tls=self_signed(tmp_path)) as port:
        assert await _attempt(check(HttpGet(port=port, scheme="HTTPS"))) == (True, "HTTP status 200")


async def test_silence_times_out() -> None:
    async with server(None) as port:
        assert await _attempt(check(HttpGet(port=port), timeout_s=0.05)) == (False, "no answer within 0.05 s")


async def test_tcp_socket() -> None:
    async with server(None) as port:
        assert await _attempt(check(TcpSocket(port=port))) == (True, "connected")
    assert await _attempt(check(TcpSocket(port=port))) == (False, "Connection refused")


async def test_tls_to_a_server_without_it() -> None:
    async with server(b"HTTP/1.1 200 OK\r\n\r\n" * 10) as port:
        passed, message = await _attempt(check(HttpGet(port=port, scheme="HTTPS"), timeout_s=2.0))
    assert not passed
    assert message.isprintable()
    assert message


async def test_a_host_name_that_does_not_exist() -> None:
    passed, message = await _attempt(check(TcpSocket(port=1, host="nowhere.invalid")))
    assert not passed
    assert message
    assert (await _attempt(check(TcpSocket(port=1, host="x" * 300))))[0] is False


@pytest.mark.parametrize(
    "script, passed, message",
    [
        ("exit 0", True, "exit code 0"),
        ("echo fine", True, "fine"),
        ("echo first; echo 'disk full' >&2; exit 3", False, "exit code 3: disk full"),
        ("kill -9 $$", False, "ended by SIGKILL"),
        ("printf 'a\\033[2Jb'; exit 1", False, "exit code 1: a [2Jb"),
    ],
)
async def test_exec(script: str, passed: bool, message: str) -> None:
    assert await _attempt(check(Exec(command=("/bin/sh", "-c", script)))) == (passed, message)


async def test_exec_that_does_not_exist() -> None:
    passed, message = await _attempt(check(Exec(command=("/nonexistent/probe",))))
    assert not passed
    assert message.startswith("exit code 127: ")
    assert "/nonexistent/probe: not found" in message


async def test_exec_output_is_bounded() -> None:
    command = (sys.executable, "-c", "import sys; sys.stdout.write('x' * 3_000_000 + '\\nlast')")
    assert await _attempt(check(Exec(command=command))) == (True, "last")


async def test_a_child_that_keeps_the_output_open_does_not_hold_the_check_up() -> None:
    started = time.monotonic()
    passed, _ = await _attempt(check(Exec(command=("/bin/sh", "-c", "sleep 30 & exit 0"))))
    assert passed
    assert time.monotonic() - started < 15


async def test_timeout_kills_the_whole_process_group(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 300 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"
    passed, message = await _attempt(check(Exec(command=("/bin/sh", "-c", script)), timeout_s=2.0))
    assert (passed, message) == (False, "killed after 2 s")
    grandchild = int(pid_file.read_text())
    await until(lambda: not alive(grandchild))


async def test_a_program_that_cannot_be_killed_fails_the_check_and_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file server is gone: whoever reads from it cannot even be killed."""
    monkeypatch.setattr(children, "_kill_group", lambda _: None)
    monkeypatch.setattr(children, "_LAST_S", 0.05)
    runs, hung = tmp_path / "runs", tmp_path / "hung"
    os.mkfifo(hung)
    probe = check(Exec(command=("/bin/sh", "-c", f"echo >> {runs}; read line < {hung}")), timeout_s=1.0)
    assert await _attempt(probe) == (False, "killed after 1 s")
    assert await _attempt(probe) == (False, "not run again: it was killed and does not end, something it uses hangs")
    assert len(runs.read_text()) == 1
    server = os.open(hung, os.O_RDWR)
    try:
        os.write(server, b"\n\n")  # it is back
        await until(lambda: all(process.returncode is not None for process in children._undead.values()))
        assert (await _attempt(probe))[0]
    finally:
        os.close(server)
    assert not children._undead


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that its new parent has not buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


async def test_programs_inherit_no_descriptor_and_no_systemd_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    number = os.dup2(0, 200, inheritable=True)
    try:
        script = f"test -e /proc/$$/fd/{number} && echo inherited && exit 1; echo ${{NOTIFY_SOCKET:-none}}"
        assert await _attempt(check(Exec(command=("/bin/sh", "-c", script)))) == (True, "none")
    finally:
        os.close(number)


async def checker_with(changes: Changes, *checks: HealthCheck) -> HealthChecker:
    checker = HealthChecker(lambda *change: changes.put_nowait(change), spread=lambda: 0.0)
    checker.update(checks)
    return checker


async def soon(awaitable: Awaitable[tuple[str, bool, str]]) -> tuple[str, bool, str]:
    return await asyncio.wait_for(awaitable, DEADLINE_S)


async def test_checker_reports_changes_and_shows_its_state(tmp_path: Path) -> None:
    flag, changes = tmp_path / "up", Changes()
    action = Exec(command=("/usr/bin/test", "-e", str(flag)))
    checker = await checker_with(changes, check(action, period_s=0.02, success_threshold=2, failure_threshold=2))
    assert checker.snapshot() == [{"name": "web", "passing": None, "message": "not checked yet", "consecutive": 0}]
    assert checker.passing("web") is None
    try:
        assert await soon(changes.get()) == ("web", False, "exit code 1")
        flag.touch()
        assert await soon(changes.get()) == ("web", True, "exit code 0")
        assert checker.passing("web") is True
        flag.unlink()
        assert await soon(changes.get()) == ("web", False, "exit code 1")
        assert checker.snapshot()[0]["passing"] is False
        assert checker.snapshot()[0]["consecutive"] >= 2
    finally:
        await checker.close()
    assert checker.snapshot() == []


async def test_initial_delay_is_kept() -> None:
    changes = Changes()
    started = time.monotonic()
    checker = await checker_with(changes, check(Exec(command=("/bin/true",)), initial_delay_s=0.2, period_s=5.0))
    try:
        await soon(changes.get())
    finally:
        await checker.close()
    assert time.monotonic() - started >= 0.2


async def test_update_keeps_unchanged_checks_and_restarts_changed_ones() -> None:
    changes = Changes()
    kept = HealthCheck(name="kept", action=Exec(command=("/bin/true",)), period_s=600.0, timeout_s=DEADLINE_S)
    old = HealthCheck(name="changed", action=Exec(command=("/bin/true",)), period_s=600.0, timeout_s=DEADLINE_S)
    new = HealthCheck(name="changed", action=Exec(command=("/bin/false",)), period_s=600.0, timeout_s=DEADLINE_S, failure_threshold=1)
    checker = await checker_with(changes, kept, old)
    try:
        assert {(await soon(changes.get()))[:2], (await soon(changes.get()))[:2]} == {("kept", True), ("changed", True)}
        checker.update((new, kept))
        assert [(state["name"], state["passing"]) for state in checker.snapshot()] == [("changed", None), ("kept", True)]
        assert (await soon(changes.get()))[:2] == ("changed", False)
        assert changes.empty()
        checker.update((kept,))
        assert [state["name"] for state in checker.snapshot()] == ["kept"]
        assert checker.passing("changed") is None
    finally:
        await checker.close()


async def test_close_kills_a_running_program(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 300"
    checker = await checker_with(Changes(), check(Exec(command=("/bin/sh", "-c", script))))
    await until(pid_file.exists)
    await checker.close()
    await until(lambda: not alive(int(pid_file.read_text())))
