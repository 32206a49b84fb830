"""/metrics, /healthz and /readyz: the thread that serves them, and how it asks the event loop without ever holding it up.

Cheap to import: the HTTP server and the metrics library are loaded by the thread, not by the election.
"""

__all__ = ["Endpoints", "LoopHangs", "ServedDaemon", "parse_address"]

import asyncio
import concurrent.futures
import gc
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from carp_protocol.errors import CarpError, ConfigError, Problem
from carp_sidecar.console.pages import Page
from carp_sidecar.console.steps import StatusSource, groups_in_steps
from carp_sidecar.logs import log_event
from carp_sidecar.measurements import Measurements

_LOOP_ANSWER_S = 2.0
"""Seconds after which a loop that does not answer counts as hung: far above any lateness that leaves a master in office."""
_KERNEL_ANSWER_S = 0.5
"""Seconds a scrape waits for the kernel's list of addresses before it shows the last one known."""
_BIND_RETRY_S = 10.0
"""Seconds between attempts to bind: the address may belong to an interface that comes later."""
_STOP_S = 2.0
"""Seconds ``close`` waits for the thread."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class ServedDaemon(StatusSource, Protocol):
    """What the pages are made of; called in the event loop."""

    async def refresh_addresses(self) -> None:
        """Ask the kernel which addresses it holds, so that the next status says what is and not what was."""


class LoopHangs(Exception):
    """The event loop did not answer in time."""


def parse_address(text: str) -> tuple[str, int] | None:
    """``HOST:PORT`` or ``[IPV6]:PORT``; None for an empty text (no endpoints). Raises ConfigError."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535 or (":" in host and not bracketed):
        sentence = f'"{text}" is not HOST:PORT; write for example "127.0.0.1:9120", "[::1]:9120", or "" for no endpoints'
        raise ConfigError([Problem("metrics_address", sentence)])
    host = host[1:-1] if bracketed else host
    if not host:
        sentence = f'"{text}" names no host; write "0.0.0.0:{port}" to listen on every IPv4 address, "[::]:{port}" on every address'
        raise ConfigError([Problem("metrics_address", sentence)])
    return host, int(port)


class Endpoints:
    """Serves the pages from a thread of its own; a failure here is logged and never reaches the election.

    Start it after the first election: loading the HTTP and metrics libraries takes the interpreter about 0.1 s.
    """

    def __init__(self, address: str, daemon: ServedDaemon, measurements: Measurements, *, bind_retry_s: float = _BIND_RETRY_S) -> None:
        self._address = parse_address(address)
        self._daemon = daemon
        self._measurements = measurements
        self._bind_retry_s = bind_retry_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.bound: tuple[str, int] | None = None
        """Where it listens, once it does."""

    def start(self) -> None:
        """Begin to serve, if that has not begun; call it in the event loop that runs the daemon."""
        if self._address is None or self._thread is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, args=self._address, name="endpoints", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Stop serving; waits for the thread, but not for long."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        await asyncio.get_running_loop().run_in_executor(None, thread.join, _STOP_S)

    def _serve(self, host: str, port: int) -> None:
        from carp_sidecar.console.webserver import WebServer

        gc.freeze()  # what was loaded here stays: no later collection passes over it again

        complained = False
        while not self._stop.is_set():
            try:
                server = WebServer(host, port, self.page)
            except OSError as error:
                if not complained:
                    sentence = f"cannot listen on {host}:{port} for metrics: {error.strerror or error}; trying again"
                    log_event(_log, logging.WARNING, sentence, retry_s=self._bind_retry_s)
                complained = True
                self._stop.wait(self._bind_retry_s)
                continue
            self.bound = server.bound
            log_event(_log, logging.INFO, f"serving /metrics, /healthz and /readyz on {host}:{self.bound[1]}")
            server.run(self._stop)
            return

    def page(self, path: str, accept: str) -> Page:
        """The answer to GET ``path``; called by the server's threads."""
        pages: dict[str, Callable[[str], Page]] = {"/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz}
        make = pages.get(path)
        if make is None:
            return Page(404, b"not found; this server has /metrics, /healthz and /readyz\n")
        try:
            return make(accept)
        except LoopHangs as error:
            return Page(503, f"{error}\n".encode())
        except Exception:  # noqa: BLE001  a defect in a page must not kill its thread with a traceback
            _log.exception("the page %s failed because of an internal error", path)
            return Page(500, b"internal error; the log of the sidecar says more\n")

    def _healthz(self, _accept: str) -> Page:
        async def nothing() -> None:
            return None

        self._ask(nothing)
        return Page(200, b"ok\n")

    def _readyz(self, _accept: str) -> Page:
        problems = _not_ready(self._ask(self._status))
        return Page(503, "".join(f"{problem}\n" for problem in problems).encode()) if problems else Page(200, b"ok\n")

    def _metrics(self, accept: str) -> Page:
        async def snapshot() -> tuple[dict[str, Any], Measurements]:
            try:
                await asyncio.wait_for(self._daemon.refresh_addresses(), _KERNEL_ANSWER_S)
            except (TimeoutError, CarpError) as error:
                why = str(error) or "the kernel did not list its addresses in time"
                log_event(_log, logging.WARNING, f"{why}; metrics show the last list")
            return await self._status(), self._measurements.copy()

        from carp_sidecar.console.metrics import render

        body, content_type = render(*self._ask(snapshot), accept)
        return Page(200, body, content_type)

    async def _status(self) -> dict[str, Any]:
        """The status document, made in steps."""
        groups = [entry async for some in groups_in_steps(self._daemon, self._daemon.group_names()) for entry in some]
        return self._daemon.status(()) | {"groups": groups}

    def _ask(self, question: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run ``question`` in the event loop and wait for its answer in this thread."""
        if self._loop is None or self._loop.is_closed():
            raise LoopHangs("the sidecar is not running")
        future = asyncio.run_coroutine_threadsafe(question(), self._loop)
        try:
            return future.result(_LOOP_ANSWER_S)
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise LoopHangs(f"the event loop did not answer within {_LOOP_ANSWER_S:g} s") from error
        except concurrent.futures.CancelledError as error:
            raise LoopHangs("the sidecar is stopping") from error


def _not_ready(status: dict[str, Any]) -> list[str]:
    """Why this sidecar cannot do its work yet; a refused reload is not a reason, the old configuration runs on."""
    return [
        f"group {group['name']}: interface {group['interface'] or 'for its addresses'} does not exist"
        for group in status["groups"]
        if group["interface_state"] == "missing"
    ]
