"""Agents of many nodes in one thread, without sidecars: they report that everything runs, and that the best ranked member is master.

What the operator is measured and tested with where a hundred real nodes do not fit on one machine.
"""

__all__ = ["StubAgents"]

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self
from urllib.parse import urlencode

from lab.control_plane import ControlPlane
from lab.kube_client import ApiError, Json, KubeClient

API_VERSION = "kubecarp.io/v1alpha1"
COLLECTION = f"/apis/{API_VERSION}/carpnodes"
SINCE = "2026-01-01T00:00:00.000Z"
WATCH_S = 600
WRITERS = 4


class StubAgents:
    """Follow every CarpNode between entering and leaving; ``interfaces`` by node as status.interfaces has them."""

    def __init__(self, plane: ControlPlane, interfaces: Mapping[str, Sequence[Json]]) -> None:
        self._plane = plane
        self._interfaces = interfaces
        self._ending = threading.Event()
        self._local = threading.local()
        self._clients: list[KubeClient] = []
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="stub-agent")
        self._newest: dict[str, int] = {}
        self._writing = {name: threading.Lock() for name in interfaces}
        """A report is made and written before the next one is made: else an older one might arrive last."""
        self._thread = threading.Thread(target=self._follow, name="stub-agents", daemon=True)
        self._connection: http.client.HTTPConnection | None = None
        self.reports = 0
        self.down: set[str] = set()
        """Nodes whose agent is dead."""
        self.masters: dict[str, dict[str, str]] = {}
        """By group: who should say that it is master and since when, instead of the best."""

        self.handled: dict[str, dict[str, str]] = {}
        """By group and node: the handover that was carried out last."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._connection is not None and self._connection.sock is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._writers.shutdown()
        for client in self._clients:
            client.close()

    def report(self, *names: str) -> None:
        """Report of these nodes again, as after a change on the wire (``masters``)."""
        for name in names:
            body = self._client().request("GET", f"{COLLECTION}/{name}")
            self._newest[name] = max(body["metadata"]["generation"], self._newest.get(name, 0))  # the watch may be ahead of this answer
            self._report(name, body["metadata"]["generation"], body.get("spec") or {})

    def _follow(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, ApiError):
                self._watch()
            self._ending.wait(0.1)

    def _watch(self) -> None:
        listed = self._client().request("GET", COLLECTION)
        for body in listed["items"]:
            self._seen(body)
        query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"], "timeoutSeconds": str(WATCH_S)}
        self._connection = self._plane._connect(self._plane._admin_files, WATCH_S)
        with contextlib.closing(self._connection):
            self._connection.request("GET", f"{COLLECTION}?{urlencode(query)}")
            with self._connection.getresponse() as events:
                for event in map(json.loads, events):
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._seen(event["object"])
                    elif event["type"] == "DELETED":  # its generations begin anew
                        self._newest.pop(event["object"]["metadata"]["name"], None)

    def _seen(self, body: Json) -> None:
        name, generation = body["metadata"]["name"], body["metadata"]["generation"]
        if name in self.down or name not in self._interfaces or self._newest.get(name) == generation:
            return
        self._newest[name] = generation
        self._writers.submit(self._report, name, generation, body.get("spec") or {})

    def _client(self) -> KubeClient:
        if not hasattr(self._local, "client"):
            self._local.client = self._plane._client(self._plane._admin_files)
            self._clients.append(self._local.client)
        client: KubeClient = self._local.client
        return client

    def _report(self, name: str, generation: int, spec: Mapping[str, Any]) -> None:
        with self._writing[name]:
            if self._newest.get(name) != generation or name in self.down:
                return  # a newer one waits behind this
            groups = [self._group(name, entry) for entry in spec.get("groups") or ()]
            status = {
                "observedGeneration": generation,
                "sidecar": {"running": True},
                "interfaces": list(self._interfaces[name]),
                "groups": groups,
            }
            body = {"apiVersion": API_VERSION, "kind": "CarpNode", "metadata": {"name": name}, "status": status}
            self._client().apply(body, manager="agent", subresource="status")
            self.reports += 1

    def _group(self, node: str, entry: Mapping[str, Any]) -> Json:
        chosen = self.masters.get(entry["name"])
        master = node in chosen if chosen else entry["advskew"] == 0
        since = chosen.get(node, SINCE) if chosen else SINCE
        handled = self.handled.get(entry["name"], {}).get(node)
        return ({"handover": {"id": handled, "result": "Started"}} if handled else {}) | {
            "name": entry["name"],
            "version": entry["version"],
            "vhid": entry["vhid"],
            "state": "Master" if master else "Backup",
            "since": since,
            "reason": "nobody-there" if master else "started",
            "interface": "eth0",
            "interfaceState": "Up",
            "addresses": [{"address": address, "held": master} for address in entry["addresses"]],
        }
