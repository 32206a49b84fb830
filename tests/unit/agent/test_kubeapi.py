"""The HTTPS client against a real server: rotation, dead and slow connections, bounds, and what it never tells."""

import json
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from carp_agent import kubeapi
from carp_agent.errors import ApiError, UsageError
from carp_agent.kubeapi import Connection, Contact, Server
from carp_agent.logs import Log
from lab.pki import Authority
from unit.agent.tls_server import DEADLINE_S, Handler, Request, TlsServer, answer, chunk, chunked, read_request, wait_for

TOKEN = "secret-token"


class Client:
    """A connection to a server, its token file, and the log of what became of it."""

    def __init__(self, server: TlsServer, folder: Path) -> None:
        self.token_file, self.log_file = folder / "token", folder / "log"
        self.token_file.write_text(TOKEN + "\n")
        self._log = self.log_file.open("a")
        self.contact = Contact(Log(fd=self._log.fileno()))
        self.ca_file = folder / "ca.crt"
        self.ca_file.write_bytes(server.ca.read_bytes())
        files = {"token_file": str(self.token_file), "ca_file": str(self.ca_file)}
        self.connection = Connection(Server(server.url, **files), self.contact, "test/1")

    def get(self, path: str = "/x") -> Any:
        return json.loads(self.connection.request("GET", path))

    @property
    def sentences(self) -> list[str]:
        return [json.loads(line)["msg"] for line in self.log_file.read_text().splitlines()]

    def close(self) -> None:
        self.connection.close()
        self._log.close()


def replying(*replies: bytes) -> Handler:
    """Answers the n-th request of a connection with the n-th reply, then hangs up."""

    def handle(connection: ssl.SSLSocket, _number: int) -> None:
        for reply in replies:
            if read_request(connection) is None:
                return
            connection.sendall(reply)

    return handle


@pytest.fixture
def client(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """A client of the server that the test's parameter handles."""
    with TlsServer(request.param) as server:
        made = Client(server, tmp_path)
        yield made
        made.close()


def test_a_kept_connection_carries_many_requests(tmp_path: Path) -> None:
    seen: list[tuple[int, Request]] = []

    def handle(connection: ssl.SSLSocket, number: int) -> None:
        while request := read_request(connection):
            seen.append((number, request))
            connection.sendall(answer(b'{"a":1}'))

    with TlsServer(handle) as server:
        client = Client(server, tmp_path)
        assert client.get("/one") == {"a": 1}
        client.connection.request("PATCH", "/two?x=1", [{"ä": 1}], media_type="application/json-patch+json", accept="a/b")
        client.close()
    assert [number for number, _ in seen] == [0, 0]
    first, second = (request for _, request in seen)
    assert (first.method, first.target, first.headers["authorization"]) == ("GET", "/one", f"Bearer {TOKEN}")
    assert first.headers["user-agent"] == "test/1"
    assert (second.method, second.target, json.loads(second.body)) == ("PATCH", "/two?x=1", [{"ä": 1}])
    assert (second.headers["content-type"], second.headers["accept"]) == ("application/json-patch+json", "a/b")


def test_token_is_read_for_every_request(tmp_path: Path) -> None:
    good = [TOKEN]

    def handle(connection: ssl.SSLSocket, _number: int) -> None:
        while request := read_request(connection):
            known = request.headers["authorization"] == f"Bearer {good[0]}"
            connection.sendall(answer() if known else answer(b'{"message":"Unauthorized"}', 401))

    with TlsServer(handle) as server:
        client = Client(server, tmp_path)
        client.get()
        good[0] = "another"
        with pytest.raises(ApiError, match="401: Unauthorized") as refused:
            client.get()
        assert refused.value.status == 401
        client.token_file.write_text("another")
        client.get()
        client.close()
        assert client.sentences[0].startswith("the API server cannot be used: ")
        assert client.sentences[1].startswith("the API server answers again, after ")
        assert TOKEN not in client.log_file.read_text()


@pytest.mark.parametrize("text", ["", "two words", "line\r\nbreak", "x\u00e4"])
def test_what_is_no_token_is_not_sent(tmp_path: Path, text: str) -> None:
    with TlsServer(replying(answer())) as server:
        client = Client(server, tmp_path)
        client.token_file.write_text(text)
        with pytest.raises(ApiError, match="holds no token"):
            client.get()
        client.token_file.unlink()
        with pytest.raises(ApiError, match="cannot be read: No such file"):
            client.get()
        client.close()


def test_ca_is_read_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    new = Authority(tmp_path / "new")
    files = (new.certificate, *new.issue("server", "server", hosts=["127.0.0.1"]))
    with TlsServer(replying(answer()), files) as server:
        client = Client(server, tmp_path)
        (tmp_path / "other").mkdir()
        client.ca_file.write_bytes(Authority(tmp_path / "other").certificate.read_bytes())
        with pytest.raises(ApiError, match="certificate is not believed") as refused:
            client.get()
        assert refused.value.unreachable
        client.ca_file.write_bytes(new.certificate.read_bytes())
        client.get()
        client.ca_file.write_text("nonsense")
        client.connection.close()
        with pytest.raises(ApiError, match="cannot be used: "):
            client.get()
        client.close()


def test_a_dead_kept_connection_is_made_anew(tmp_path: Path) -> None:
    with TlsServer(replying(answer())) as server:
        client = Client(server, tmp_path)
        client.get()
        client.get()
        assert client.contact.counts() == {("get", 200): 2}
        assert not client.sentences
        client.close()


def test_an_outage_is_told_once_and_its_end_once(tmp_path: Path) -> None:
    with TlsServer(replying(answer())) as server:
        client = Client(server, tmp_path)
        client.get()
        server.stop()
        for _ in range(3):
            with pytest.raises(ApiError, match="Connection refused") as refused:
                client.get()
            assert (refused.value.status, refused.value.unreachable) == (0, True)
        server.start()
        client.get()
        client.close()
        assert len(client.sentences) == 2
        assert client.contact.counts() == {("get", 200): 2, ("get", 0): 3}


@pytest.mark.parametrize("client", [replying(answer(b'{"message":"try\\nlater"}', 429, Retry_After="7"))], indirect=True)
def test_a_refusal_has_status_sentence_and_delay(client: Client) -> None:
    with pytest.raises(ApiError, match="HTTP status 429: try later") as refused:
        client.get()
    assert (refused.value.status, refused.value.retry_after_s, refused.value.unreachable) == (429, 7.0, False)


@pytest.mark.parametrize("client", [replying(answer(b"[]", 404))], indirect=True)
def test_a_refusal_is_an_answer(client: Client) -> None:
    with pytest.raises(ApiError, match=r"^HTTP status 404$"):
        client.get()
    assert client.contact.last is not None
    assert not client.sentences


@pytest.mark.parametrize(
    "client, words",
    [
        (replying(b"SSH-2.0-x\r\n\r\n"), "not HTTP"),
        (replying(answer(b"hello")[:-1]), "closed in the middle"),
        (replying(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 5_000_000), "too long"),
    ],
    indirect=["client"],
)
def test_answers_that_are_none(client: Client, words: str) -> None:
    with pytest.raises(ApiError, match=words) as refused:
        client.get()
    assert refused.value.status in {0, 200}


def test_a_server_that_does_not_answer_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeapi, "APPLY_TIMEOUT_S", 0.2)
    released = threading.Event()

    def handle(connection: ssl.SSLSocket, _number: int) -> None:
        read_request(connection)
        connection.sendall(answer(b"hello")[:-1])
        released.wait(DEADLINE_S)

    with TlsServer(handle) as server:
        client = Client(server, tmp_path)
        with pytest.raises(ApiError, match="no answer in time"):
            client.get()
        released.set()
        client.close()


def test_lines_of_a_watch_come_as_they_are_sent(tmp_path: Path) -> None:
    step = threading.Semaphore(0)

    def handle(connection: ssl.SSLSocket, _number: int) -> None:
        read_request(connection)
        connection.sendall(chunked(b'{"a"', b":1}\n{", end=False))
        step.acquire(timeout=DEADLINE_S)
        connection.sendall(chunk(b"}\n") + b"0\r\n\r\n")
        read_request(connection)
        connection.sendall(answer(b"[]"))

    with TlsServer(handle) as server:
        client = Client(server, tmp_path)
        lines = client.connection.stream("/watch", silence_s=DEADLINE_S)
        assert client.contact.counts() == {("watch", 200): 1}
        assert next(lines) == b'{"a":1}'
        step.release()
        assert list(lines) == [b"{}"]
        assert client.get() == [], "the connection goes on after a watch that ended well"
        client.close()


@pytest.mark.parametrize("client", [replying(answer(b'{"message":"too old"}', 410))], indirect=True)
def test_a_watch_that_is_refused(client: Client) -> None:
    with pytest.raises(ApiError, match="too old") as refused:
        client.connection.stream("/watch", silence_s=1)
    assert refused.value.status == 410


@pytest.mark.parametrize("client", [replying(chunked(b"{}\n{", end=False))], indirect=True)
def test_a_watch_that_breaks(client: Client) -> None:
    lines = client.connection.stream("/watch", silence_s=DEADLINE_S)
    assert next(lines) == b"{}"
    with pytest.raises(ApiError, match="closed in the middle"):
        next(lines)


def test_a_watch_that_is_silent(tmp_path: Path) -> None:
    released = threading.Event()

    def handle(connection: ssl.SSLSocket, _number: int) -> None:
        read_request(connection)
        connection.sendall(chunked(b"{}\n", end=False))
        released.wait(DEADLINE_S)

    with TlsServer(handle) as server:
        client = Client(server, tmp_path)
        lines = client.connection.stream("/watch", silence_s=0.1)
        assert next(lines) == b"{}"
        with pytest.raises(ApiError, match="no answer in time"):
            next(lines)
        released.set()
        client.close()


@pytest.mark.parametrize("client", [replying(chunked(b"x" * 5_000_000, end=False))], indirect=True)
def test_a_line_without_end(client: Client) -> None:
    with pytest.raises(ApiError, match="line of the watch is too long"):
        next(client.connection.stream("/watch", silence_s=DEADLINE_S))


@pytest.mark.parametrize(
    "url",
    ["http://x:1", "https://", "https://x:99999", "https://u@x y", "x:443", "https://[::1", "https://a:b:c", "https://.x", "https://ä"],
)
def test_what_is_no_server(url: str) -> None:
    with pytest.raises(UsageError, match="https://HOST:PORT"):
        Server(url, token_file="t", ca_file="c")


@pytest.mark.parametrize(
    "url, host, header, prefix",
    [
        ("https://10.96.0.1:443", "10.96.0.1", "10.96.0.1:443", ""),
        ("https://[fd77::1]:6443", "fd77::1", "[fd77::1]:6443", ""),
        ("https://rancher.example/k8s/clusters/c-1/", "rancher.example", "rancher.example:443", "/k8s/clusters/c-1"),
    ],
)
def test_servers(url: str, host: str, header: str, prefix: str) -> None:
    server = Server(url, token_file="t", ca_file="c")
    assert (server.host, server.host_header, server.prefix) == (host, header, prefix)


def test_no_server_listens_and_the_log_is_told(tmp_path: Path) -> None:
    with TlsServer(replying(answer())) as server:
        client = Client(server, tmp_path)
    with pytest.raises(ApiError, match="no connection to"):
        client.get()
    wait_for(lambda: client.sentences)
    client.close()
