"""An API server with one CarpNode and some Secrets, over real TLS: lists, watches, patches of the status, outages, tokens."""

__all__ = ["NODE", "FakeApi", "group", "key_ring"]

import base64
import contextlib
import json
import queue
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from unit.agent.tls_server import Request, TlsServer, answer, chunk, chunked, read_request, wait_for

NODE = "router-003"
NODES = "/apis/kubecarp.io/v1alpha1/carpnodes"
SECRETS = "/api/v1/namespaces/kubecarp-system/secrets/"
TOKEN = "token-1"


def group(name: str = "intranet", **fields: Any) -> dict[str, Any]:
    """An entry of the spec, as the operator writes it."""
    return {
        "name": name,
        "version": "v1",
        "vhid": 1,
        "addresses": ["172.27.27.13/27"],
        "interface": "vmx0",
        "advskew": 100,
        "advertisementInterval": "200ms",
        "authentication": {"mode": "Strict", "secretName": f"kubecarp-key-{name}", "sign": "key-1"},
        "virtualMAC": True,
    } | fields


def key_ring(**keys: str) -> dict[str, str]:
    """The data of a Secret; ``key_1`` for key-1."""
    return {name.replace("_", "-"): base64.b64encode(key.encode()).decode() for name, key in keys.items()}


class FakeApi:
    """Start it with ``with``. ``node`` is the object as it is; ``requests`` what was asked."""

    def __init__(self) -> None:
        self.server = TlsServer(self._handle)
        self.node: dict[str, Any] | None = None
        self.secrets: dict[str, dict[str, str]] = {"kubecarp-key-intranet": key_ring(key_1="11" * 32)}
        self.requests: list[Request] = []
        self.reports: list[dict[str, Any]] = []
        self.token = TOKEN
        self.trouble: dict[str, tuple[int, bytes]] = {}
        """By the beginning of ``METHOD path``: what is answered instead."""
        self._version = 100
        self._watches: set[queue.Queue[bytes | None]] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert not self.server.errors, self.server.errors

    def stop(self) -> None:
        """A dead server; the data stays."""
        self.end_watches()
        self.server.stop()

    def start(self) -> None:
        self.server.start()

    def end_watches(self) -> None:
        """As a server does when the time of a watch is over."""
        for watch in list(self._watches):
            watch.put(None)

    def asked(self, start: str) -> list[Request]:
        """The requests that begin like this, such as ``GET /api``."""
        return [request for request in list(self.requests) if f"{request.method} {request.target}".startswith(start)]

    def wait_watching(self) -> None:
        wait_for(lambda: self._watches, "somebody watches")

    # ---- what happens to the object ---------------------------------------------------------------------------

    def set_node(self, *groups: Mapping[str, Any], uid: str = "uid-1", status: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Create the CarpNode, or change its spec."""
        with self._lock:
            before = self.node if self.node and self.node["metadata"]["uid"] == uid else None
            generation = before["metadata"]["generation"] + 1 if before else 1
            metadata = {"name": NODE, "uid": uid, "generation": generation}
            kept = status if status is not None else before["status"] if before else {}
            self.node = {"metadata": metadata, "spec": {"groups": list(groups)}, "status": dict(kept)}
            self._publish("MODIFIED" if before else "ADDED")
            return self.node

    def delete_node(self) -> None:
        with self._lock:
            self._publish("DELETED")
            self.node = None

    def send(self, kind: str, **content: Any) -> None:
        """Any line of a watch."""
        line = json.dumps({"type": kind, "object": content}).encode() + b"\n"
        for watch in list(self._watches):
            watch.put(line)

    def _publish(self, kind: str) -> None:
        assert self.node is not None
        self._version += 1
        self.node["metadata"]["resourceVersion"] = str(self._version)
        self.send(kind, **self.node)

    # ---- the server -------------------------------------------------------------------------------------------

    def _handle(self, connection: ssl.SSLSocket, _number: int) -> None:
        while request := read_request(connection):
            self.requests.append(request)
            line = f"{request.method} {request.target}"
            trouble = next((reply for start, reply in list(self.trouble.items()) if line.startswith(start)), None)
            path, query = urlsplit(request.target).path, parse_qs(urlsplit(request.target).query)
            if request.headers["authorization"] != f"Bearer {self.token}":
                connection.sendall(answer(b'{"message":"Unauthorized"}', 401))
            elif trouble:
                connection.sendall(answer(trouble[1], trouble[0]))
            elif "watch" in query:
                self._watch(connection, query["resourceVersion"][0])
            else:
                connection.sendall(self._answer(request, path))

    def _answer(self, request: Request, path: str) -> bytes:
        if path == NODES:
            with self._lock:
                items = [self.node] if self.node else []
                return answer(json.dumps({"metadata": {"resourceVersion": str(self._version)}, "items": items}).encode())
        if path == f"{NODES}/{NODE}/status":
            return self._patch(json.loads(request.body))
        secret = self.secrets.get(path.removeprefix(SECRETS))
        return answer(json.dumps({"data": secret}).encode()) if secret is not None else answer(b'{"message":"not found"}', 404)

    def _patch(self, patch: list[dict[str, Any]]) -> bytes:
        test, add = patch
        assert (test["op"], test["path"], add["op"], add["path"]) == ("test", "/metadata/uid", "add", "/status")
        with self._lock:
            if self.node is None:
                return answer(b'{"message":"not found"}', 404)
            if self.node["metadata"]["uid"] != test["value"]:
                return answer(b'{"message":"test failed"}', 422)
            self.node["status"] = add["value"]
            self.reports.append(add["value"])
            self._publish("MODIFIED")
            return answer()

    def _watch(self, connection: ssl.SSLSocket, version: str) -> None:
        watch: queue.Queue[bytes | None] = queue.Queue()
        with self._lock:
            self._watches.add(watch)
            if self.node and int(version) < int(self.node["metadata"]["resourceVersion"]):
                watch.put(json.dumps({"type": "MODIFIED", "object": self.node}).encode() + b"\n")
        try:
            connection.sendall(chunked(end=False))
            while self.server.running:
                with contextlib.suppress(queue.Empty):
                    line = watch.get(timeout=0.1)
                    connection.sendall(chunk(line) if line else b"0\r\n\r\n")
                    if line is None:
                        return
        finally:
            self._watches.discard(watch)

    def wait_report(self, predicate: Any, what: str = "a report") -> dict[str, Any]:
        """Until the newest report satisfies ``predicate``."""

        def found() -> dict[str, Any] | None:
            last = self.reports[-1] if self.reports else None
            return last if last is not None and predicate(last) else None

        report = wait_for(found, f"{what}; last: {self.reports[-1:]}")
        assert report is not None
        return report
