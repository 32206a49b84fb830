"""The control socket from the agent's side, against the real server of it."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carp_agent import sidecar
from carp_agent.errors import BadAnswer, SidecarGone, SidecarRefused
from carp_agent.sidecar import Control, Follower, Update
from unit.agent.fake_sidecar import FakeSidecar
from unit.agent.tls_server import DEADLINE_S, wait_for


class Listener:
    """A follower in its thread, and what it told."""

    def __init__(self, path: Path) -> None:
        self.updates: list[Update] = []
        self.complaints: list[str] = []
        self.follower = Follower(str(path), self.updates.append, self.complaints.append)
        self.thread = threading.Thread(target=self.follower.run, daemon=True)

    def start(self) -> None:
        self.thread.start()
        wait_for(lambda: self.updates, "the first status")

    @property
    def states(self) -> list[str | None]:
        return [update.document["groups"][0]["state"] if update.document else None for update in list(self.updates)]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeSidecar]:
    with FakeSidecar(tmp_path) as made:
        made.config.write_text(json.dumps({"generation": 1, "group": [{"name": "intranet", "vhid": 1}]}))
        made.start()
        yield made


@pytest.fixture
def listener(fake: FakeSidecar) -> Iterator[Listener]:
    made = Listener(fake.socket_path)
    yield made
    made.follower.end()
    if fake._thread:
        fake.stop()
    if made.thread.ident:
        made.thread.join(DEADLINE_S)


def test_commands(fake: FakeSidecar) -> None:
    sidecar.reload(str(fake.socket_path))
    sidecar.handover(str(fake.socket_path), "intranet", "10.77.0.2")
    sidecar.handover(str(fake.socket_path), "intranet", "")
    assert fake.daemon.calls == [("reload",), ("handover", "intranet", "10.77.0.2"), ("handover", "intranet", None)]
    fake.daemon.problems = ["one", "two"]
    with pytest.raises(SidecarRefused) as refused:
        sidecar.reload(str(fake.socket_path))
    assert refused.value.problems == ["one", "two"]
    with pytest.raises(SidecarRefused, match="there is no group"):
        sidecar.handover(str(fake.socket_path), "intranett", None)


def test_no_sidecar(tmp_path: Path) -> None:
    with pytest.raises(SidecarGone, match=r"^$"):
        sidecar.reload(str(tmp_path / "none"))
    with pytest.raises(SidecarGone, match="AF_UNIX path too long"):
        sidecar.reload("/" + "x" * 200)


def test_a_change_is_told_at_once(fake: FakeSidecar, listener: Listener) -> None:
    listener.start()
    began = time.monotonic()
    fake.become(state="MASTER")
    wait_for(lambda: listener.states[-1] == "MASTER")
    assert time.monotonic() - began < 1.0
    wait_for(lambda: len(listener.updates) >= 3, "a second look, for what a change does not tell")


def test_many_changes_are_few_updates_and_the_last_one_is_told(fake: FakeSidecar, listener: Listener) -> None:
    listener.start()
    began = time.monotonic()
    for number in range(200):
        fake.become(state="MASTER" if number % 2 else "BACKUP", vhid=number)
        time.sleep(0.001)

    def last() -> Any:
        document = listener.updates[-1].document
        return document and document["groups"][0]["vhid"] == 199

    wait_for(last)
    took_s = time.monotonic() - began
    assert len(listener.updates) <= 1 + 3 + 1 + took_s, "three at once, then one a second, however long the machine takes"


def test_a_restart_is_told_and_a_mere_break_is_not(fake: FakeSidecar, listener: Listener) -> None:
    listener.start()
    fake.hang_up()
    wait_for(lambda: len(listener.updates) == 2)
    assert None not in listener.states
    fake.stop()
    wait_for(lambda: listener.states[-1] is None)
    fake.start()
    wait_for(lambda: listener.states[-1] == "BACKUP")
    assert listener.states.count(None) == 1
    assert not listener.complaints


def test_a_conflict_is_told_with_its_owner(fake: FakeSidecar, listener: Listener) -> None:
    listener.start()
    conflict = {"event": "address-conflict", "time": "t", "group": "intranet", "mac": "02:00:00:00:00:09"}
    fake.do(lambda: fake.daemon.publish(conflict))
    wait_for(lambda: listener.updates[-1].conflicts)
    assert listener.updates[-1].conflicts["intranet"][:2] == ("02:00:00:00:00:09", "t")


def test_absence_at_the_start_is_told_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar, "_START_GRACE_S", 0.1)
    began = time.monotonic()
    listener = Listener(tmp_path / "none")
    listener.start()
    assert time.monotonic() - began >= 0.1
    assert (listener.states, listener.complaints) == ([None], [])
    listener.follower.end()
    listener.thread.join(DEADLINE_S)


@pytest.mark.parametrize(
    "said, words",
    [
        (b"hello\n", "not JSON"),
        (b"[]\n", "not an object"),
        (b'{"ok":false,"error":"32 clients are connected already"}\n', "32 clients"),
        (b'{"ok":true,"result":7}\n', "refused to tell its status"),
        (b"x" * 2000, "too long"),
    ],
)
def test_what_is_no_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes, words: str) -> None:
    monkeypatch.setattr(sidecar, "_MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(sidecar, "_START_GRACE_S", 0.0)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            for _ in range(2):
                client, _ = listening.accept()
                with client:
                    client.recv(1000)
                    client.sendall(said)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        updates: list[Update] = []
        complaints: list[str] = []
        follower = Follower(str(path), updates.append, complaints.append)
        follower.once()
        follower.once()
        thread.join(DEADLINE_S)
    assert [update.document for update in updates] == [None]
    assert len(complaints) == 1
    assert words in complaints[0]


def test_a_sidecar_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar, "_ANSWER_S", 0.1)
    monkeypatch.setattr(sidecar, "_RELOAD_S", 0.1)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(SidecarGone, match="did not answer within"):
            sidecar.reload(str(path))
        complaints: list[str] = []
        Follower(str(path), lambda _update: None, complaints.append).once()
    assert complaints == ["the sidecar did not answer within 0.1 s"]


def test_lines_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with Control(str(path)) as control:
            server, _ = listening.accept()
            with server:
                server.sendall(b'{"a":1}\n{"b"')
                assert control.read(DEADLINE_S) == {"a": 1}
                assert control.read(0.01) is None
                server.sendall(b":2}\n")
                assert control.read(DEADLINE_S) == {"b": 2}
                server.sendall(b"\xff\n")
                with pytest.raises(BadAnswer):
                    control.read(DEADLINE_S)
            with pytest.raises(SidecarGone):
                control.read(DEADLINE_S)
