"""/healthz, /readyz and /metrics, over plain sockets in one thread: ``http.server`` would cost 3 MB.

A failing API server fails none of them: this process has no cure for it, and neither has a restart. Kubelet ends a container whose
page it does not get: so this host has a socket of its own, served first, and waits for one stranger at most.
"""

from __future__ import annotations

__all__ = ["Endpoints", "page"]

import contextlib
import select
import socket
import time
from functools import partial

from carp_agent import __version__
from carp_agent.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carp_agent.agent import Stats
    from carp_agent.logs import Log

_HUNG_S = 60.0
"""Seconds without a turn of the loop, which turns every 10 s, after which it counts as hung."""
_CLIENT_S = 2.0
"""Seconds a client may take in all; the next one waits meanwhile."""
_MAX_REQUEST_BYTES = 8192
_BIND_RETRY_S = 10.0
_WAITING = 16
_THIS_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where kubelet asks, when everybody may."""
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def page(path: str, stats: Stats, now: float) -> tuple[int, str]:
    """Status and text of a page."""
    if path == "/healthz":
        silent_s = now - stats.beat
        return (200, "ok\n") if silent_s < _HUNG_S else (503, f"the loop has not turned for {silent_s:.0f} s\n")
    if path == "/readyz":
        return (200, "ok\n") if stats.connected else (503, "the sidecar does not answer\n")
    if path == "/metrics":
        return 200, _metrics(stats, now)
    return 404, "not found; this server has /metrics, /healthz and /readyz\n"


def _metrics(stats: Stats, now: float) -> str:
    contact = stats.contact
    lines = [
        *_head("build_info", "gauge", "always 1"),
        f'carp_agent_build_info{{version="{__version__}"}} 1',
        *_head("sidecar_up", "gauge", "1 if the sidecar answers"),
        f"carp_agent_sidecar_up {int(stats.connected)}",
        *_head("api_requests_total", "counter", "requests to the API server, by verb and HTTP status; 0: no answer"),
        *(
            f'carp_agent_api_requests_total{{verb="{verb}",code="{code}"}} {count}'
            for (verb, code), count in sorted(contact.counts().items())
        ),
    ]
    if contact.last is not None:
        lines += _head("api_last_answer_seconds", "gauge", "time since the API server answered last; a watch alone is no answer")
        lines.append(f"carp_agent_api_last_answer_seconds {now - contact.last:.3f}")
    lines += _head("reports_total", "counter", "reports to the status of the CarpNode, by result")
    lines += [f'carp_agent_reports_total{{result="{result}"}} {count}' for result, count in stats.reports.items()]
    lines += _head("configurations_total", "counter", "attempts to make the sidecar run a configuration, by result")
    lines += [f'carp_agent_configurations_total{{result="{result}"}} {count}' for result, count in stats.applies.items()]
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP carp_agent_{name} {meaning}", f"# TYPE carp_agent_{name} {kind}"]


class Endpoints:
    """``run`` it in a thread of its own. Raises UsageError for an address that is none."""

    def __init__(self, address: str, stats: Stats, log: Log) -> None:
        host, colon, port = address.rpartition(":")
        self._host = host.removeprefix("[").removesuffix("]")
        if not colon or not self._host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
            raise UsageError(f'{address!r} is not HOST:PORT; write for example "127.0.0.1:9121", or "" for no endpoints')
        self._port = int(port)
        self._stats = stats
        self._log = log
        self.bound: tuple[str, int] | None = None
        """Where it listens, once it does."""

    def run(self) -> None:
        """For ever; an address that cannot be had is tried again."""
        complained = False
        while True:
            try:
                listening = self._listen()
            except OSError as error:
                if not complained:
                    self._log.warning(f"cannot listen on {self._host}:{self._port} for metrics: {error.strerror or error}; trying again")
                complained = True
                time.sleep(_BIND_RETRY_S)
                continue
            self.bound = listening[0].getsockname()[:2]
            while True:
                ready = select.select(listening, [], [])[0]
                self._serve_one(max(ready, key=listening.index))

    def _listen(self) -> list[socket.socket]:
        """For everybody and, at the same port, for this host: TCP prefers the socket whose address is the narrower."""
        # As bytes: for text Python loads its tables of all characters, 0.4 MB.
        family, *_, address = socket.getaddrinfo(self._host.encode(), self._port, type=socket.SOCK_STREAM)[0]
        listen = partial(socket.create_server, family=family, backlog=_WAITING, dualstack_ipv6=family == socket.AF_INET6)
        listening = [listen(address)]
        if this_host := _THIS_HOST.get(str(address[0])):
            # Only now: a port that another program has was refused, not shared.
            listening[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with contextlib.suppress(OSError):  # there is no such address on this host
                listening.append(listen((this_host, listening[0].getsockname()[1]), reuse_port=True))
        return listening

    def _serve_one(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except OSError:
            time.sleep(0.1)  # out of file descriptors, at worst
            return
        with client:
            try:
                self._answer(client)
            except OSError:
                return  # a client that goes away in the middle is no event

    def _answer(self, client: socket.socket) -> None:
        deadline = time.monotonic() + _CLIENT_S
        request = b""
        while b"\r\n\r\n" not in request and len(request) < _MAX_REQUEST_BYTES:
            client.settimeout(max(0.001, deadline - time.monotonic()))
            data = client.recv(_MAX_REQUEST_BYTES)
            if not data:
                return
            request += data
        status, text = self._choose_untrusted(request)
        body = text.encode()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {_METRICS}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        client.settimeout(max(0.001, deadline - time.monotonic()))
        client.sendall(head.encode() + (b"" if request.startswith(b"HEAD ") else body))

    def _choose_untrusted(self, request: bytes) -> tuple[int, str]:
        words = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return 400, "this is not HTTP/1.1\n"
        if words[0] not in {"GET", "HEAD"}:
            return 405, "only GET and HEAD are known here\n"
        return page(words[1].partition("?")[0], self._stats, time.monotonic())
