"""The HTTP endpoints: real requests on loopback, a loop that hangs, an address that is taken."""

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from carp_protocol.config_reader import read_document
from carp_protocol.errors import ConfigError
from carp_sidecar.console import endpoints, webserver
from carp_sidecar.console.endpoints import Endpoints, parse_address
from carp_sidecar.kernel.netlink import NetlinkFailed
from carp_sidecar.measurements import Measurements
from unit.fake_daemon import DEADLINE_S, FakeDaemon, group_status, until


@asynccontextmanager
async def served(daemon: FakeDaemon) -> AsyncIterator[tuple[str, int]]:
    """Endpoints on a free port."""
    server = Endpoints("127.0.0.1:0", daemon, Measurements())
    server.start()
    try:
        yield await bound(server)
    finally:
        await server.close()


async def bound(server: Endpoints) -> tuple[str, int]:
    await until(lambda: server.bound is not None)
    assert server.bound
    return server.bound


def exchange(address: tuple[str, int], request: bytes) -> tuple[int, str]:
    """Status and body of one request; (0, "") if the server hung up."""
    with socket.create_connection(address, DEADLINE_S) as client:
        answer = b""
        try:
            client.sendall(request)
            while data := client.recv(65_536):
                answer += data
        except ConnectionError:
            pass
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


async def get(address: tuple[str, int], path: str, method: str = "GET") -> tuple[int, str]:
    return await asyncio.to_thread(exchange, address, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def test_pages() -> None:
    daemon = FakeDaemon()
    async with served(daemon) as address:
        assert await get(address, "/healthz") == (200, "ok\n")
        assert await get(address, "/readyz?verbose") == (200, "ok\n")
        status, page = await get(address, "/metrics")
        assert status == 200
        assert 'carp_state{group="intranet",state="BACKUP"} 1.0' in page
        assert "process_resident_memory_bytes" in page
        assert daemon.refreshed == 1
        assert (await get(address, "/"))[0] == 404
        assert await get(address, "/healthz", "HEAD") == (200, "")
        assert (await get(address, "/healthz", "POST"))[0] == 501


async def test_not_ready_names_the_group_and_the_interface() -> None:
    daemon = FakeDaemon(group_status(), group_status("uplink", interface="vmx1", interface_state="missing"))
    async with served(daemon) as address:
        assert await get(address, "/readyz") == (503, "group uplink: interface vmx1 does not exist\n")
        assert (await get(address, "/healthz"))[0] == 200


async def test_a_hung_loop_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_LOOP_ANSWER_S", 0.05)
    answers: list[tuple[int, str]] = []
    async with served(FakeDaemon()) as address:
        asker = threading.Thread(target=lambda: answers.append(exchange(address, b"GET /healthz HTTP/1.0\r\n\r\n")))
        asker.start()
        asker.join(DEADLINE_S)  # blocks the loop, as a defect would
        assert answers == [(503, "the event loop did not answer within 0.05 s\n")]
        monkeypatch.undo()
        assert (await get(address, "/healthz"))[0] == 200


async def test_a_kernel_that_does_not_answer_does_not_stop_a_scrape(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(FakeDaemon):
        async def refresh_addresses(self) -> None:
            await asyncio.sleep(DEADLINE_S)

    class Refusing(FakeDaemon):
        async def refresh_addresses(self) -> None:
            raise NetlinkFailed("no descriptor is left")

    monkeypatch.setattr(endpoints, "_KERNEL_ANSWER_S", 0.02)
    for daemon, why in ((Slow(), "did not list its addresses"), (Refusing(), "no descriptor is left; metrics show the last list")):
        async with served(daemon) as address:
            assert (await get(address, "/metrics"))[0] == 200
        assert why in caplog.text


async def test_a_defect_in_a_page_is_a_500_and_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    daemon = FakeDaemon()
    async with served(daemon) as address:
        daemon.document = {}
        assert (await get(address, "/metrics"))[0] == 500
        assert (await get(address, "/healthz"))[0] == 200
    assert "/metrics failed because of an internal error" in caplog.text


async def test_bounded_clients() -> None:
    async with served(FakeDaemon()) as address:
        silent = [await asyncio.to_thread(socket.create_connection, address, DEADLINE_S) for _ in range(webserver._CLIENTS)]
        try:
            # The last of them is accepted before the next one, which finds every slot taken.
            assert await get(address, "/healthz") == (0, "")
        finally:
            for client in silent:
                client.close()
        await until(lambda: not any("process_request" in thread.name for thread in threading.enumerate()))
        assert await get(address, "/healthz") == (200, "ok\n")


@pytest.mark.parametrize("everywhere, near, far", [("0.0.0.0", "127.0.0.1", "127.0.0.2"), ("[::]", "::1", "127.0.0.1")])
async def test_strangers_keep_this_host_out_of_nothing(everywhere: str, near: str, far: str) -> None:
    """``far``, which is no less on this host, comes in where strangers do."""
    server = Endpoints(f"{everywhere}:0", FakeDaemon(), Measurements())
    server.start()
    strangers: list[socket.socket] = []
    try:
        _, port = await bound(server)
        for address in (near, far):
            assert await get((address, port), "/healthz") == (200, "ok\n")
        strangers += [await asyncio.to_thread(socket.create_connection, (far, port), DEADLINE_S) for _ in range(2 * webserver._CLIENTS)]
        assert await get((near, port), "/healthz") == (200, "ok\n")
        assert await get((far, port), "/healthz") == (0, "")
    finally:
        for stranger in strangers:
            stranger.close()
        await server.close()


async def test_a_door_is_shared_with_no_other_program() -> None:
    server = Endpoints("0.0.0.0:0", FakeDaemon(), Measurements())
    server.start()
    try:
        _, port = await bound(server)
        for address in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(OSError, match="Address already in use"):
                socket.create_server((address, port))
    finally:
        await server.close()


async def test_a_client_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webserver, "_CONNECTION_S", 0.3)

    def drip(address: tuple[str, int]) -> float:
        started = time.monotonic()
        with socket.create_connection(address, DEADLINE_S) as client:
            client.settimeout(0.05)
            while time.monotonic() - started < DEADLINE_S:
                try:
                    client.send(b"G")
                    if not client.recv(1):
                        break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
        return time.monotonic() - started

    async with served(FakeDaemon()) as address:
        assert await asyncio.to_thread(drip, address) < webserver._READ_S


async def test_a_taken_address_is_a_warning_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Endpoints(f"127.0.0.1:{port}", FakeDaemon(), Measurements(), bind_retry_s=0.02)
        server.start()
        await until(lambda: "cannot listen" in caplog.text)
    try:
        address = await bound(server)
        assert (await get(address, "/healthz"))[0] == 200
    finally:
        await server.close()
    assert caplog.text.count("cannot listen") == 1
    assert f"cannot listen on 127.0.0.1:{port} for metrics: Address already in use" in caplog.text


async def test_no_address_is_no_server() -> None:
    server = Endpoints("", FakeDaemon(), Measurements())
    server.start()
    assert server.bound is None
    await server.close()


@pytest.mark.parametrize(
    "text, address",
    [
        ("", None),
        ("127.0.0.1:9120", ("127.0.0.1", 9120)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:80", ("localhost", 80)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
    ],
)
def test_addresses(text: str, address: tuple[str, int] | None) -> None:
    assert parse_address(text) == address
    assert read_document({"metrics_address": text}, load_key=lambda _path: b"").metrics_address == text


@pytest.mark.parametrize(
    "text", ["9120", ":9120", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000", "::1:9120", "x:-1", "[]:1"]
)
def test_bad_addresses_are_problems_of_the_configuration(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Endpoints(text, FakeDaemon(), Measurements())
    [problem] = raised.value.problems
    assert problem.place == "metrics_address"
    assert text in problem.message
    with pytest.raises(ConfigError, match="metrics_address"):  # or a reload would break off in the middle of what is new
        read_document({"metrics_address": text}, load_key=lambda _path: b"")


def test_importing_the_endpoints_is_cheap() -> None:
    """The HTTP and metrics libraries must not delay the first election."""
    heavy = ("http.server", "prometheus_client", "email")
    script = f"import sys, carp_sidecar.console.endpoints; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout == "[]\n"


def test_listening_does_not_load_the_tables_of_all_characters() -> None:
    """0.4 MB for nothing (a sidecar with one group: 32.0 and 31.6 MB); the agent listens the same way."""
    script = """
import sys
from carp_agent.endpoints import Endpoints
from carp_sidecar.console.webserver import WebServer
WebServer("127.0.0.1", 0, print)
agent = Endpoints("127.0.0.1:0", None, None)
agent._listen()
print("unicodedata" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout == "False\n"
