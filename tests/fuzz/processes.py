"""Doors on the host: control socket, HTTP endpoint, state file, the guardian's pipe."""

import asyncio
import atexit
import contextlib
import json
import logging
import re
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from carp_sidecar.console.control import ControlSocket
from carp_sidecar.console.pages import Page
from carp_sidecar.console.webserver import _Handler
from carp_sidecar.kernel.guardian import Will, _read_until_the_end, encode_clear, encode_set
from carp_sidecar.state import State, StateDir
from unit.fake_daemon import FakeDaemon, group_status

TIMEOUT_S = 20.0

# ---- control socket -------------------------------------------------------------------------------------------


def control_seeds() -> list[bytes]:
    commands = ("status", "watch", "reload", "handover", "demote", "undemote", "resign")
    requests: list[dict[str, Any]] = [{"command": command, "group": "a"} for command in commands]
    requests += [{"command": "demote", "amount": 5}, {"command": "demote", "exclude": True}, {"command": "handover", "to": "10.0.0.2"}]
    lines = [json.dumps(one).encode() + b"\n" for one in requests]
    return [*lines, b"".join(lines), b"[" * 3000 + b"\n", b'{"command":"status","group":"\\ud800"}\n', b"\n\n{}"]


class _Daemon(FakeDaemon):
    """Its refusal quotes what was asked, as that of the real one."""

    def handover(self, group: str | None, to: str | None) -> str | None:
        return f"group {group} knows no member {to}" if to else None


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def control(data: bytes) -> None:
    answers = _loop().run_until_complete(asyncio.wait_for(_converse(data), TIMEOUT_S))
    lines = answers.split(b"\n")
    assert lines.pop() == b"", "the last answer is no whole line"
    for line in lines:
        answer = json.loads(line)
        assert isinstance(answer, dict)
        assert answer.get("ok") is True or (answer["ok"] is False and answer["error"])
    asked = data.split(b"\n")[:-1] + ([data.rpartition(b"\n")[2]] if not data.endswith(b"\n") and data else [])
    if all(len(line) < 60_000 for line in asked):
        assert len(lines) == len(asked), "one answer to each line"


async def _converse(data: bytes) -> bytes:
    """Everything at once, and the end; then what the server says until it hangs up."""
    ours, theirs = socket.socketpair()
    server = ControlSocket("unused", _Daemon(group_status("a"), group_status("b")))
    reader, writer = await asyncio.open_connection(sock=theirs, limit=65_536)
    serving = asyncio.create_task(server._serve(reader, writer))
    own_reader, own_writer = await asyncio.open_connection(sock=ours)
    try:
        own_writer.write(data)
        own_writer.write_eof()
        return await own_reader.read()
    finally:
        await serving
        own_writer.close()


# ---- HTTP endpoint --------------------------------------------------------------------------------------------


class _Server:
    """What a handler asks of its server."""

    def page(self, path: str, accept: str) -> Page:
        return Page(200 if path == "/metrics" else 404, f"{len(path)} {len(accept)}\n".encode())


def http_seeds() -> list[bytes]:
    heads = [
        b"GET /metrics HTTP/1.1\r\nAccept: text/plain\r\n\r\n",
        b"HEAD /healthz HTTP/1.0\r\n\r\n",
        b"GET /\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
    ]
    return [*heads, b"GET /readyz?x HTTP/1.1\r\nHost: [::1\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\n\r\n"]


def http(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(TIMEOUT_S)
        ours.sendall(data[:65_536])
        ours.shutdown(socket.SHUT_WR)
        handler: Any = _Handler
        with contextlib.suppress(OSError):
            handler(theirs, ("client", 0), _Server())
        theirs.shutdown(socket.SHUT_RDWR)
        answer = b""
        with contextlib.suppress(OSError):
            while more := ours.recv(65_536):
                answer += more
    old = not re.fullmatch(rb"[A-Z]+ /[!-~]* HTTP/1\.[01]\r?", data.split(b"\n")[0])  # taken for HTTP/0.9, whose answers have no head
    assert not answer or answer.startswith(b"HTTP/1.") or old, answer[:80]


# ---- state file -----------------------------------------------------------------------------------------------


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="kubecarp-fuzz-")
    atexit.register(folder.cleanup)
    logging.getLogger("carp_sidecar").setLevel(logging.CRITICAL)
    return Path(folder.name)


def state_seeds() -> list[bytes]:
    whole = {"sender_id": 2**64 - 1, "epoch": 7, "demotions": {"web": 5, "old": None}}
    return [json.dumps(whole).encode(), b"", b"null", b"[]", json.dumps(whole | {"epoch": 2**32 - 1}).encode()]


def state(data: bytes) -> None:
    """Whatever the file holds, a member starts, and what it then saves is what the next start finds, one epoch further."""
    (_folder() / "state.json").write_bytes(data)
    directory = StateDir(str(_folder()))
    try:
        loaded = directory.load()
        assert isinstance(loaded, State)
        assert 0 < loaded.sender_id < 2**64
        assert 0 <= loaded.epoch < 2**32
        directory.save(loaded)
        again = directory.load()
        assert (again.sender_id, again.demotions) == (loaded.sender_id, loaded.demotions)
        assert again.epoch == min(loaded.epoch + 1, 2**32 - 1)
    finally:
        directory.close()


# ---- the guardian's pipe --------------------------------------------------------------------------------------


def guardian_seeds() -> list[bytes]:
    return [b"\x00\x04abcd\x01\x02xy\x80", b"\xff" * 20, bytes(range(64)), b""]


def guardian(data: bytes) -> None:
    """The bytes choose wills that are left and taken back, and where the pipe ends: the sidecar may be killed in the middle of a write."""
    frames: list[tuple[bytes, bytes, Will | None]] = []
    for at in range(1, len(data), 5):
        name, size = f"g{data[at] % 8}", data[at + 1] if at + 1 < len(data) else 0
        content = data[at : at + size]
        will = None if data[at] & 0x80 else Will(((size, content), (1, content[:3])), size * 7, content, content[::-1])
        frames.append((encode_set(name, will) if will else encode_clear(name), name.encode(), will))
    stream = b"".join(frame for frame, _, _ in frames)
    cut = len(stream) * data[0] // 255 if data else 0
    expected: dict[bytes, Will] = {}
    place = 0
    for frame, name_bytes, will in frames:
        place += len(frame)
        if place > cut:
            break
        expected.pop(name_bytes, None)
        if will:
            expected[name_bytes] = will
    found = _through_a_pipe(stream[:cut])
    assert found.keys() == expected.keys()
    for name_bytes, one in found.items():
        other = expected[name_bytes]
        assert (*one.farewell, one.after_ms, one.drop, one.rest) == (*other.farewell, other.after_ms, other.drop, other.rest)


def _through_a_pipe(stream: bytes) -> dict[bytes, Will]:
    with tempfile.TemporaryFile() as file:
        file.write(stream)
        file.seek(0)
        return _read_until_the_end(file.fileno()).wills
