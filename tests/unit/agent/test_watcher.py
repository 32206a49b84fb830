"""Following one object: list, watch, and again, through everything that happens to a watch."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from carp_agent import watcher
from carp_agent.carpnode import CarpNode
from carp_agent.kubeapi import Connection, Contact, Server
from carp_agent.logs import Log
from carp_agent.watcher import Watcher
from unit.agent.fake_api import NODE, NODES, TOKEN, FakeApi, group
from unit.agent.tls_server import wait_for


class Ear:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int] | None] = []
        self.reaches = 0

    def found(self, node: CarpNode) -> None:
        self.told.append(node.version)

    def missing(self) -> None:
        self.told.append(None)

    def reached(self) -> None:
        self.reaches += 1


class Followed:
    """A watcher in its thread."""

    def __init__(self, api: FakeApi, folder: Path) -> None:
        self.ear = Ear()
        self.log_path = folder / "log"
        self.log_file = self.log_path.open("a")
        log = Log(fd=self.log_file.fileno())
        (folder / "token").write_text(TOKEN)
        server = Server(api.server.url, token_file=str(folder / "token"), ca_file=str(api.server.ca))
        self.connection = Connection(server, Contact(log), "test/1")
        self.watcher = Watcher(self.connection, NODE, self.ear, log)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ends.is_set():
            self._ends.wait(min(0.02, self.watcher.once()))

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(20)
        self.connection.close()
        self.log_file.close()

    def wait_told(self, *expected: tuple[str, int] | None) -> None:
        wait_for(lambda: self.ear.told[-len(expected) :] == list(expected), f"told {expected}; so far {self.ear.told}")


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as server:
        yield server


@pytest.fixture
def followed(api: FakeApi, tmp_path: Path) -> Iterator[Followed]:
    made = Followed(api, tmp_path)
    yield made
    made._ends.set()
    api.stop()
    made.end()


def test_created_changed_deleted(api: FakeApi, followed: Followed) -> None:
    followed.start()
    followed.wait_told(None)
    api.wait_watching()
    api.set_node(group())
    followed.wait_told(None, ("uid-1", 1))
    api.set_node(group(advskew=0))
    api.delete_node()
    followed.wait_told(("uid-1", 1), ("uid-1", 2), None)
    (listed,) = api.asked(f"GET {NODES}?fieldSelector=metadata.name%3D{NODE}")
    assert "watch" not in listed.target


def test_a_watch_that_ends_well_is_followed_by_a_list(api: FakeApi, followed: Followed) -> None:
    api.set_node(group())
    followed.start()
    api.wait_watching()
    api.end_watches()
    wait_for(lambda: len(api.asked(f"GET {NODES}?fieldSelector")) == 2, "a second list")


def test_a_watch_that_breaks_goes_on_where_it_was(api: FakeApi, followed: Followed) -> None:
    api.set_node(group())
    followed.start()
    api.wait_watching()
    api.send("BOOKMARK", metadata={"resourceVersion": "777"})
    followed.wait_told(("uid-1", 1))
    wait_for(lambda: followed.watcher._version == "777")
    api.server.hang_up()
    wait_for(
        lambda: api.asked(f"GET {NODES}?watch=1&fieldSelector=metadata.name%3D{NODE}&resourceVersion=777"), "a watch from the bookmark"
    )
    assert len(api.asked(f"GET {NODES}?fieldSelector")) == 1


def test_a_version_that_is_too_old(api: FakeApi, followed: Followed) -> None:
    api.set_node(group())
    followed.start()
    api.wait_watching()
    api.send("ERROR", code=410, message="too old resource version")
    wait_for(lambda: len(api.asked(f"GET {NODES}?fieldSelector")) == 2, "a second list")
    api.trouble[f"GET {NODES}?watch"] = (410, b'{"message":"Gone"}')
    api.end_watches()
    wait_for(lambda: len(api.asked(f"GET {NODES}?fieldSelector")) >= 4, "a list after each refusal")
    api.trouble.clear()
    api.wait_watching()


@pytest.mark.parametrize(
    "kind, content",
    [
        ("ERROR", {"code": 500}),
        ("MODIFIED", {"metadata": {"name": "another", "resourceVersion": "1"}}),
        ("MODIFIED", {"metadata": {"name": NODE, "resourceVersion": "../x"}}),
        ("MODIFIED", {}),
    ],
)
def test_a_line_that_cannot_be_read(api: FakeApi, followed: Followed, kind: str, content: dict[str, object]) -> None:
    api.set_node(group())
    followed.start()
    api.wait_watching()
    api.send(kind, **content)
    followed.wait_told(("uid-1", 1), ("uid-1", 1))
    assert len(api.asked(f"GET {NODES}?fieldSelector")) == 2
    assert "cannot be read" in followed.log_path.read_text()


def test_an_outage_says_nothing_about_the_object(api: FakeApi, followed: Followed) -> None:
    api.set_node(group())
    followed.start()
    followed.wait_told(("uid-1", 1))
    api.stop()
    wait_for(lambda: "cannot be used" in followed.log_path.read_text())
    reaches = followed.ear.reaches
    api.set_node(group(advskew=0))
    api.start()
    followed.wait_told(("uid-1", 1), ("uid-1", 2))
    assert followed.ear.reaches > reaches
    assert None not in followed.ear.told


@pytest.mark.parametrize(
    "status, body", [(403, b'{"message":"forbidden"}'), (404, b"404 page not found"), (500, b""), (200, b"[]"), (200, b'{"items":{}}')]
)
def test_a_refused_list_says_nothing_about_the_object(api: FakeApi, followed: Followed, status: int, body: bytes) -> None:
    api.trouble["GET "] = (status, body)
    followed.start()
    wait_for(lambda: len(api.requests) > 3)
    assert not followed.ear.told
    api.trouble.clear()
    followed.wait_told(None)
    lines = followed.log_path.read_text().splitlines()
    assert len(lines) == 1 + (status == 500), "said once, not with every attempt"


def test_waits_grow_and_are_short_while_nobody_listens(api: FakeApi, followed: Followed) -> None:
    api.trouble["GET "] = (503, b"")
    waits = [followed.watcher.once() for _ in range(10)]
    assert waits[0] <= 0.2
    assert 15 <= waits[-1] <= 30
    api.stop()
    assert max(followed.watcher.once() for _ in range(5)) <= watcher._UNREACHABLE_WAIT_S
