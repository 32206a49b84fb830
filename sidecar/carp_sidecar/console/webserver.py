"""A small HTTP server in threads: bounded in clients, in time per client and in what it reads. Knows no page.

Expensive to import, so only the endpoints' thread does.
"""

__all__ = ["WebServer"]

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from carp_sidecar.console.metrics import render  # noqa: F401  loaded here, while nobody waits for a page
from carp_sidecar.console.pages import Page

_CLIENTS = 8
"""Requests served at one time; a scraper and two probes need three."""
_READ_S = 5.0
"""Seconds a client may stay silent."""
_CONNECTION_S = 10.0
"""Seconds a connection may last in all, so that eight clients who drip bytes do not keep the scraper out."""
_POLL_S = 0.25
"""Seconds between looks at the stop flag and at old connections."""


class _Handler(BaseHTTPRequestHandler):
    server: "WebServer"
    timeout = _READ_S
    server_version = "kubecarp"
    sys_version = ""

    def do_GET(self) -> None:
        page = self.server.page(self.path.partition("?")[0], self.headers.get("Accept", ""))
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_HEAD = do_GET  # noqa: N815  the name http.server calls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """A request is no event."""


class WebServer(ThreadingHTTPServer):
    """Serves ``page(path, accept)`` for GET and HEAD. Raises OSError if it cannot bind."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, host: str, port: int, page: Callable[[str, str], Page]) -> None:
        self.page = page
        self._slots = threading.BoundedSemaphore(_CLIENTS)
        self._opened: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self.address_family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        super().__init__((str(address[0]), port), _Handler)

    @property
    def bound(self) -> tuple[str, int]:
        """Address and port it really listens on."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def server_bind(self) -> None:
        # HTTPServer would ask the DNS for its own name here, which can take many seconds on a host without one.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.bound

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set."""
        self.timeout = _POLL_S
        with self:
            while not stop.is_set():
                self.handle_request()
                self._drop_old_connections()

    def _drop_old_connections(self) -> None:
        too_old = time.monotonic() - _CONNECTION_S
        with self._lock:
            for request, opened in self._opened.items():
                if opened < too_old:
                    _hang_up(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        with self._lock:
            self._opened[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._opened.pop(request, None)
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no event."""


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
