"""A small HTTP server in threads: bounded in clients, in connections, in time per client and in what it reads. Knows no page.

Kubelet ends a container whose page it does not get, and whoever reaches the host may be a client. So this host has a door of its
own: eight strangers, or a crowd of them, keep out other strangers alone. Expensive to import, so only the endpoints' thread does.
"""

__all__ = ["WebServer"]

import contextlib
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from carp_sidecar.console.metrics import render  # noqa: F401  loaded here, while nobody waits for a page
from carp_sidecar.console.pages import Page

_CLIENTS = 8
"""Requests served at one time at a door, and connections taken in at it in ``_POLL_S``; a scraper and two probes need three."""
_READ_S = 5.0
"""Seconds a client may stay silent."""
_CONNECTION_S = 10.0
"""Seconds a connection may last in all, so that eight clients who drip bytes do not keep the scraper out."""
_POLL_S = 0.25
"""Seconds between looks at the stop flag and at old connections."""
_QUEUE = 16
"""Connections that wait to be taken in."""
_THIS_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where kubelet asks, when everybody may."""

_Pages = Callable[[str, str], Page]


class WebServer:
    """Serves ``page(path, accept)`` for GET and HEAD. Raises OSError if it cannot bind."""

    def __init__(self, host: str, port: int, page: _Pages) -> None:
        self._doors = [_Door(listening, page) for listening in _listen(host, port)]

    @property
    def bound(self) -> tuple[str, int]:
        """Address and port it really listens on."""
        return self._doors[0].bound

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set."""
        with contextlib.ExitStack() as stack:
            for door in self._doors:
                stack.enter_context(door)
            while not stop.is_set():
                self._let_in(_POLL_S)
                for door in self._doors:
                    door.drop_old_connections()

    def _let_in(self, for_s: float) -> None:
        """Take in who comes: at each door not more than there is room for, so that a crowd costs next to nothing."""
        until, taken = time.monotonic() + for_s, Counter[int]()
        with selectors.PollSelector() as waiting:
            for door in self._doors:
                waiting.register(door.socket, selectors.EVENT_READ, door)
            while (left_s := until - time.monotonic()) > 0:
                for key, _ in waiting.select(left_s):
                    key.data.handle_request()
                    taken[key.fd] += 1
                    if taken[key.fd] == _CLIENTS:
                        waiting.unregister(key.fileobj)


def _listen(host: str, port: int) -> list[socket.socket]:
    """A socket for everybody and, at the same port, one for this host: TCP prefers the one whose address is the narrower."""
    # As bytes: for text Python loads its tables of all characters, 0.4 MB.
    family, *_, address = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)[0]
    listen = partial(socket.create_server, family=family, backlog=_QUEUE, dualstack_ipv6=family == socket.AF_INET6)
    listening = [listen(address)]
    if this_host := _THIS_HOST.get(str(address[0])):
        # Only now: a port that another program has was refused, not shared.
        listening[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with contextlib.suppress(OSError):  # there is no such address on this host
            listening.append(listen((this_host, listening[0].getsockname()[1]), reuse_port=True))
    return listening


class _Handler(BaseHTTPRequestHandler):
    server: "_Door"
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


class _Door(ThreadingHTTPServer):
    """Whoever comes to one listening socket, ``_CLIENTS`` at a time."""

    daemon_threads = True
    block_on_close = False
    timeout = 0
    """``handle_request`` is called when somebody waits."""

    def __init__(self, listening: socket.socket, page: _Pages) -> None:
        self.page = page
        self._slots = threading.BoundedSemaphore(_CLIENTS)
        self._opened: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        # HTTPServer would ask the DNS for its own name, which can take many seconds on a host without one.
        self.server_name, self.server_port = self.bound

    @property
    def bound(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()[:2]
        return host, port

    def drop_old_connections(self) -> None:
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
