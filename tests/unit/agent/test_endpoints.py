"""The agent's pages: alive whatever the API server does."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carp_agent import endpoints
from carp_agent.agent import Stats
from carp_agent.endpoints import Endpoints, page
from carp_agent.errors import UsageError
from carp_agent.kubeapi import Contact
from carp_agent.logs import Log
from unit.agent.tls_server import DEADLINE_S, wait_for


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with (tmp_path / "log").open("a") as file:
        yield Log(fd=file.fileno())


@pytest.fixture
def stats(log: Log) -> Stats:
    return Stats(Contact(log))


def ask(bound: tuple[str, int], request: bytes) -> tuple[str, str]:
    """Status line and body."""
    with socket.create_connection(bound, DEADLINE_S) as client:
        client.sendall(request)
        data = b""
        while more := client.recv(65_536):
            data += more
    head, _, body = data.decode().partition("\r\n\r\n")
    return head.split("\r\n")[0], body


def test_healthz_looks_at_the_loop_alone(stats: Stats) -> None:
    assert page("/healthz", stats, stats.beat + 59) == (200, "ok\n")
    status, text = page("/healthz", stats, stats.beat + 61)
    assert (status, text) == (503, "the loop has not turned for 61 s\n")


def test_readyz_looks_at_the_sidecar(stats: Stats) -> None:
    assert page("/readyz", stats, 0.0)[0] == 503
    stats.connected = True
    assert page("/readyz", stats, 0.0) == (200, "ok\n")


def test_metrics(stats: Stats) -> None:
    assert "api_last_answer" not in page("/metrics", stats, 0.0)[1]
    stats.contact.note("get", 200)
    stats.contact.note("get", 404)
    stats.contact.note("watch", 0, "no connection")
    stats.connected = True
    stats.reports["ok"] = 7
    assert stats.contact.last is not None
    _, text = page("/metrics", stats, stats.contact.last + 1.5)
    lines = text.splitlines()
    assert 'carp_agent_api_requests_total{verb="get",code="200"} 1' in lines
    assert 'carp_agent_api_requests_total{verb="watch",code="0"} 1' in lines
    assert "carp_agent_sidecar_up 1" in lines
    assert "carp_agent_api_last_answer_seconds 1.500" in lines
    assert 'carp_agent_reports_total{result="ok"} 7' in lines
    assert {line.split()[2] for line in lines if line.startswith("# HELP")} == {
        line.split()[2] for line in lines if line.startswith("# TYPE")
    }
    named = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {line.partition("{")[0].split()[0] for line in lines if not line.startswith("#")} == named


def test_served_over_http(stats: Stats, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_CLIENT_S", 0.1)
    server = Endpoints("127.0.0.1:0", stats, log)
    threading.Thread(target=server.run, daemon=True).start()
    bound = wait_for(lambda: server.bound)
    assert bound
    assert ask(bound, b"GET /healthz?x=1 HTTP/1.1\r\nHost: x\r\n\r\n") == ("HTTP/1.1 200 OK", "ok\n")
    assert ask(bound, b"HEAD /healthz HTTP/1.1\r\n\r\n") == ("HTTP/1.1 200 OK", "")
    assert ask(bound, b"GET /x HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 404 Not Found"
    assert ask(bound, b"POST /healthz HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 405 Method Not Allowed"
    assert ask(bound, b"hello\r\n\r\n")[0] == "HTTP/1.1 400 Bad Request"
    assert ask(bound, b"x" * 8192)[0] == "HTTP/1.1 400 Bad Request"
    with socket.create_connection(bound, DEADLINE_S) as silent:
        assert silent.recv(1) == b"", "a client that says nothing is left after a while"
    socket.create_connection(bound, DEADLINE_S).close()
    assert ask(bound, b"GET /readyz HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 503 Service Unavailable"


@pytest.mark.parametrize("everywhere, near, far", [("0.0.0.0", "127.0.0.1", "127.0.0.2"), ("[::]", "::1", "127.0.0.1")])
def test_this_host_waits_for_one_stranger_at_most(
    stats: Stats, log: Log, monkeypatch: pytest.MonkeyPatch, everywhere: str, near: str, far: str
) -> None:
    """``far``, which is no less on this host, comes in where strangers do."""
    monkeypatch.setattr(endpoints, "_CLIENT_S", 1.0)
    server = Endpoints(f"{everywhere}:0", stats, log)
    threading.Thread(target=server.run, daemon=True).start()
    bound = wait_for(lambda: server.bound)
    assert bound
    assert ask((far, bound[1]), b"GET /healthz HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 200 OK"
    strangers = [socket.create_connection((far, bound[1]), DEADLINE_S) for _ in range(10)]
    began = time.monotonic()
    assert ask((near, bound[1]), b"GET /healthz HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 200 OK"
    assert time.monotonic() - began < 5.0, "ten of them take ten seconds"
    for stranger in strangers:
        stranger.close()


def test_an_address_that_is_taken_is_tried_again(stats: Stats, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_BIND_RETRY_S", 0.02)
    taken = socket.create_server(("127.0.0.1", 0))
    server = Endpoints(f"127.0.0.1:{taken.getsockname()[1]}", stats, log)
    threading.Thread(target=server.run, daemon=True).start()
    wait_for((tmp_path / "log").read_text)
    time.sleep(0.1)
    taken.close()
    wait_for(lambda: server.bound)
    lines: list[Any] = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(lines) == 1
    assert "cannot listen on 127.0.0.1" in lines[0]["msg"]


@pytest.mark.parametrize("address", ["9121", ":9121", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_what_is_no_address(address: str, stats: Stats, log: Log) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        Endpoints(address, stats, log)
