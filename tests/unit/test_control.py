"""The control socket over a real unix socket: requests, refusals, watchers, bounds, and who owns the path."""

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_sidecar.console import control
from carp_sidecar.console.control import BadRequest, ControlSocket, ControlSocketError, Request, parse_request_untrusted
from carp_sidecar.kernel.netlink import NetlinkFailed
from unit.fake_daemon import DEADLINE_S, FakeDaemon, group_status, transition


class Connection:
    """A client that speaks lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> Any:
        return json.loads(await asyncio.wait_for(self.reader.readline(), DEADLINE_S))

    async def ask(self, **request: Any) -> Any:
        return await self.raw(json.dumps(request).encode() + b"\n")

    async def raw(self, data: bytes) -> Any:
        self.writer.write(data)
        return await self.line()

    async def ended(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), DEADLINE_S) == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def connect(path: Path) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_unix_connection(path, limit=2**24)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def opened(path: Path, daemon: FakeDaemon) -> AsyncIterator[ControlSocket]:
    server = ControlSocket(path, daemon)
    await server.open()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def client_of(tmp_path: Path, daemon: FakeDaemon) -> AsyncIterator[Connection]:
    path = tmp_path / "run" / "control.sock"
    async with opened(path, daemon), connect(path) as client:
        yield client


async def test_status(tmp_path: Path) -> None:
    daemon = FakeDaemon(group_status("a"), group_status("b"))
    async with client_of(tmp_path, daemon) as client:
        assert await client.ask(command="status") == {"ok": True, "result": daemon.document}
        one = await client.ask(command="status", group="b")
        assert [group["name"] for group in one["result"]["groups"]] == ["b"]
        assert daemon.refreshed == 2


async def test_many_groups_are_described_in_steps(tmp_path: Path) -> None:
    class Counting(FakeDaemon):
        def status(self, names: Collection[str] | None = None) -> dict[str, Any]:
            self.calls.append((len(self.document["groups"] if names is None else names),))
            return super().status(names)

    daemon = Counting(*(group_status(f"group-{number}") for number in range(40)))
    async with client_of(tmp_path, daemon) as client:
        assert await client.ask(command="status") == {"ok": True, "result": daemon.document}
    assert daemon.calls == [(0,), (16,), (16,), (8,)]


async def test_a_kernel_that_does_not_answer_does_not_keep_the_status(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = [TimeoutError(), NetlinkFailed("the kernel's links and addresses cannot be read: no descriptor is left")]

    class Deaf(FakeDaemon):
        async def refresh_addresses(self) -> None:
            raise errors[self.refreshed]

    daemon = Deaf()
    async with client_of(tmp_path, daemon) as client:
        for daemon.refreshed in range(2):
            for command in ("status", "watch"):
                assert (await client.ask(command=command))["ok"]
    first, _, second, _ = caplog.messages
    assert first == "the kernel did not list its addresses in time; the status shows the last list"
    assert second.endswith("no descriptor is left; the status shows the last list")


@pytest.mark.parametrize(
    "request_, call",
    [
        ({"command": "handover"}, ("handover", None, None)),
        ({"command": "handover", "group": "*", "to": "10.0.0.2"}, ("handover", None, "10.0.0.2")),
        ({"command": "handover", "group": "intranet"}, ("handover", "intranet", None)),
        ({"command": "demote", "group": "intranet"}, ("demote", "intranet", 128)),
        ({"command": "demote", "group": "intranet", "amount": 5}, ("demote", "intranet", 5)),
        ({"command": "demote", "exclude": True}, ("demote", None, None)),
        ({"command": "undemote", "group": "intranet"}, ("undemote", "intranet")),
        ({"command": "resign"}, ("resign", None)),
        ({"command": "reload"}, ("reload",)),
    ],
)
async def test_commands_reach_the_daemon(tmp_path: Path, request_: dict[str, Any], call: tuple[Any, ...]) -> None:
    daemon = FakeDaemon()
    async with client_of(tmp_path, daemon) as client:
        assert await client.ask(**request_) == {"ok": True, "result": None}
    assert daemon.calls == [call]


async def test_a_refusal_is_a_sentence(tmp_path: Path) -> None:
    daemon = FakeDaemon()
    daemon.refusal = "this host is not the master"
    async with client_of(tmp_path, daemon) as client:
        assert await client.ask(command="handover") == {"ok": False, "error": "this host is not the master"}


async def test_reload_with_problems(tmp_path: Path) -> None:
    daemon = FakeDaemon()
    daemon.problems = ["group[0].vhid: is 300"]
    async with client_of(tmp_path, daemon) as client:
        answer = await client.ask(command="reload")
    assert answer == {"ok": False, "error": "the new configuration has 1 problem; the old one runs on", "problems": daemon.problems}


@pytest.mark.parametrize(
    "line, words",
    [
        (b"\n", "not a line of JSON"),
        (b"status\n", "not a line of JSON"),
        (b"\xff\xfe\n", "not a line of JSON"),
        (b"[" * 60_000 + b"\n", "not a line of JSON"),
        (b"9" * 60_000 + b"\n", "not a"),
        (b"[]\n", "not a JSON object"),
        (b"{}\n", "no command null"),
        (b'{"command":["status"]}\n', "no command"),
        (b'{"command":"stauts"}\n', 'no command "stauts"; the commands are status, watch'),
        (b'{"command":"status","grup":"a"}\n', 'status has no field "grup"'),
        (b'{"command":"status","group":7}\n', "group is 7"),
        (b'{"command":"status","group":""}\n', "group is"),
        (b'{"command":"status","group":"nope"}\n', 'no group "nope"; the groups are intranet'),
        (b'{"command":"demote","amount":0}\n', "amount is 0; it must be a number from 1 to 254"),
        (b'{"command":"demote","amount":true}\n', "amount is true"),
        (b'{"command":"demote","amount":1e999}\n', "amount is"),
        (b'{"command":"demote","amount":1,"exclude":true}\n', "both given"),
        (b'{"command":"demote","exclude":1}\n', "exclude is 1"),
    ],
)
async def test_malformed_requests_get_a_sentence_and_the_connection_lives(tmp_path: Path, line: bytes, words: str) -> None:
    daemon = FakeDaemon()
    async with client_of(tmp_path, daemon) as client:
        answer = await client.raw(line)
        assert not answer["ok"]
        assert words in answer["error"]
        assert (await client.ask(command="status"))["ok"]
    assert daemon.calls == []


@given(st.binary(max_size=200) | st.text().map(str.encode) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["demote", "watch", "*"]),
    lambda inner: st.dictionaries(st.sampled_from(["command", "group", "amount", "exclude", "to"]), inner) | st.lists(inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_parsing_raises_only_bad_request(line: bytes) -> None:
    try:
        request = parse_request_untrusted(line)
    except BadRequest:
        return
    assert isinstance(request, Request)


async def test_a_line_that_is_too_long_ends_the_connection(tmp_path: Path) -> None:
    async with client_of(tmp_path, FakeDaemon()) as client:
        assert "longer than 65536 bytes" in (await client.raw(b"x" * 200_000))["error"]
        assert await client.ended()


async def test_a_last_line_without_its_end_is_answered(tmp_path: Path) -> None:
    async with client_of(tmp_path, FakeDaemon()) as client:
        client.writer.write(b'{"command":"status"}')
        client.writer.write_eof()
        assert (await client.line())["ok"]


async def test_watch_streams_changes_and_still_answers(tmp_path: Path) -> None:
    daemon = FakeDaemon()
    async with client_of(tmp_path, daemon) as client:
        assert (await client.ask(command="watch"))["result"] == daemon.document
        daemon.publish(transition())
        daemon.publish({"event": "config", "generation": 5, "problems": []})
        assert await client.line() == transition()
        assert (await client.line())["generation"] == 5
        assert (await client.ask(command="status"))["ok"]


async def test_changes_go_to_watchers_only(tmp_path: Path) -> None:
    daemon = FakeDaemon()
    async with client_of(tmp_path, daemon) as client:
        assert (await client.ask(command="status"))["ok"]
        daemon.publish(transition())
        assert "groups" in (await client.ask(command="status"))["result"]


async def test_a_slow_watcher_is_dropped_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "_WATCHER_BACKLOG_BYTES", 100_000)
    daemon, path = FakeDaemon(), tmp_path / "control.sock"
    async with opened(path, daemon), connect(path) as good:
        await good.ask(command="watch")
        with socket.socket(socket.AF_UNIX) as slow:
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(slow, str(path))
            await loop.sock_sendall(slow, b'{"command":"watch"}\n')
            assert await asyncio.wait_for(loop.sock_recv(slow, 10), DEADLINE_S)
            async with asyncio.timeout(DEADLINE_S):
                while "was dropped" not in caplog.text:
                    daemon.publish(transition() | {"padding": "x" * 10_000})
                    assert (await good.line())["padding"]
            daemon.publish(transition())
            assert await good.line() == transition()


async def test_too_many_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_MAX_CLIENTS", 2)
    path = tmp_path / "control.sock"
    async with opened(path, FakeDaemon()):
        async with connect(path) as first, connect(path) as second:
            assert (await first.ask(command="status"))["ok"]
            assert (await second.ask(command="status"))["ok"]
            async with connect(path) as third:
                assert "2 clients are connected already" in (await third.line())["error"]
                assert await third.ended()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with connect(path) as again:
                    if (await again.ask(command="status")).get("ok"):
                        break


async def test_a_silent_client_is_dropped_and_a_watcher_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_IDLE_S", 0.1)
    path, daemon = tmp_path / "control.sock", FakeDaemon()
    async with opened(path, daemon), connect(path) as watcher, connect(path) as silent:
        await watcher.ask(command="watch")
        assert await silent.ended()
        daemon.publish(transition())
        assert await watcher.line() == transition()


async def test_a_hung_reload_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hung(FakeDaemon):
        async def reload(self) -> list[str]:
            await asyncio.sleep(DEADLINE_S * 10)
            return []

    monkeypatch.setattr(control, "_RELOAD_S", 0.02)
    async with client_of(tmp_path, Hung()) as client:
        assert "took more than" in (await client.ask(command="reload"))["error"]


async def test_only_the_owner_may_use_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    async with opened(path, FakeDaemon()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_a_group_may_use_it_too(tmp_path: Path) -> None:
    path, group = tmp_path / "run" / "control.sock", os.getgid()
    server = ControlSocket(path, FakeDaemon(), group=group)
    await server.open()
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, group)
    assert (stat.S_IMODE(path.parent.stat().st_mode), path.parent.stat().st_gid) == (0o750, group)
    await server.close()


async def test_a_folder_the_group_may_not_enter(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    (folder / "other").touch()
    with pytest.raises(
        ControlSocketError, match=rf"control_socket: {folder} exists, but .*; run: chgrp {os.getgid()} {folder} && chmod 750"
    ):
        await ControlSocket(folder / "control.sock", FakeDaemon(), group=os.getgid()).open()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with opened(path, FakeDaemon()), connect(path) as client:
        assert (await client.ask(command="status"))["ok"]


async def test_a_living_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with opened(path, FakeDaemon()):
        with pytest.raises(ControlSocketError, match="another sidecar answers"):
            await ControlSocket(path, FakeDaemon()).open()
        async with connect(path) as client:
            assert (await client.ask(command="status"))["ok"]


async def test_a_file_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(ControlSocketError, match="is not a socket"):
        await ControlSocket(path, FakeDaemon()).open()
    assert path.read_text() == "precious"


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ControlSocketError, match=r"cannot be opened: .*; choose a path"):
        await ControlSocket(tmp_path / "file" / "control.sock", FakeDaemon()).open()


async def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(ControlSocketError, match="longer than the 107 bytes"):
        await ControlSocket(tmp_path / ("x" * 110), FakeDaemon()).open()


async def test_close_hangs_up_unsubscribes_and_spares_a_successor(tmp_path: Path) -> None:
    path, daemon = tmp_path / "control.sock", FakeDaemon()
    server = ControlSocket(path, daemon)
    await server.open()
    async with connect(path) as client:
        await client.ask(command="watch")
        path.unlink()
        path.touch()
        await server.close()
        assert await client.ended()
    assert daemon.callbacks == []
    assert path.exists(), "what another process put there is not ours to remove"


async def test_nothing_is_logged_for_ordinary_clients(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with client_of(tmp_path, FakeDaemon()) as client:
        await client.ask(command="status")
        await client.ask(command="watch")
    assert caplog.records == []
    assert os.listdir(tmp_path / "run") == []


async def test_who_reads_late_and_says_no_more_gets_whole_answers(tmp_path: Path) -> None:
    """``printf ... | nc -N -U``: the end of the requests is there before the first answer has been read."""
    daemon = FakeDaemon(*(group_status(f"group-{number}") for number in range(300)))
    path = tmp_path / "run" / "control.sock"
    async with opened(path, daemon):
        reader, writer = await asyncio.open_unix_connection(path, limit=1)
        writer.write(b'{"command":"status"}\n' * 3)
        writer.write_eof()
        await asyncio.sleep(0.1)
        answers = (await asyncio.wait_for(reader.read(), DEADLINE_S)).splitlines()
        writer.transport.abort()
    assert [json.loads(answer)["result"] for answer in answers] == [daemon.document] * 3
