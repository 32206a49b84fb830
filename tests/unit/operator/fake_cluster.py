"""A cluster in a dictionary, and a clock that stands still: what ``kubectl carp`` talks to in unit tests."""

__all__ = [
    "NODES",
    "NOW",
    "FakeApi",
    "FakeClock",
    "Refused",
    "ago",
    "carp_node",
    "entry",
    "event",
    "group",
    "lease",
    "member",
    "members",
    "node",
    "report",
    "run",
]

import copy
import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from carp_operator.api.errors import OperatorError
from carp_operator.api.group import format_time
from carp_operator.cli.cluster import Cluster
from carp_operator.cli.main import main
from carp_operator.cli.session import Session
from carp_operator.kube import paths

Json = dict[str, Any]

NOW = 1_772_366_400.0
"""2026-03-01T12:00:00Z."""
NODES = ("node-a", "node-b", "node-c")
_OURS = "kubecarp.io/v1alpha1"


class Refused(OperatorError):
    """What an API server says."""

    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class FakeClock:
    """Time passes only while somebody sleeps; what is due then happens."""

    def __init__(self) -> None:
        self.now = NOW
        self._due: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - NOW

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Something that happens later."""
        self._due.append((self.now + seconds, action))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        due = [one for one in self._due if one[0] <= self.now]
        self._due = [one for one in self._due if one[0] > self.now]
        for _, action in due:
            action()


class FakeApi:
    """Objects by path. ``forbidden`` paths are refused; ``changed`` is called after every write."""

    server = "https://fake:6443"

    def __init__(self, *bodies: Json) -> None:
        self.objects: dict[str, Json] = {}
        self.forbidden: set[str] = set()
        self.down = ""
        self.trouble: Refused | None = None
        """What is said to everything."""
        self.installed = True
        self.written: list[tuple[str, Json]] = []
        self.changed: Callable[[str, Json], object] = lambda _path, _body: None
        self.server_time = NOW
        self.put_all(bodies)

    def put(self, body: Json) -> None:
        self.objects[_path(body)] = body

    def put_all(self, bodies: Iterable[Json]) -> None:
        for body in bodies:
            self.put(body)

    def list(self, path: str) -> tuple[list[Json], int]:
        self._check(path)
        found = [copy.deepcopy(body) for place, body in sorted(self.objects.items()) if place.rpartition("/")[0] == path]
        return found, 1

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, kind: str = "json", query: Mapping[str, str] | None = None
    ) -> Any:
        self._check(path)
        if method == "GET" and query:
            assert path == paths.events("default")
            name = query["fieldSelector"].rpartition("=")[2]
            events = [one for place, one in self.objects.items() if place.startswith(path) and one["regarding"]["name"] == name]
            return {"items": copy.deepcopy(events)}
        if path not in self.objects:
            raise Refused(404, f"{path} not found")
        if method == "GET":
            return copy.deepcopy(self.objects[path])
        assert (method, kind) == ("PATCH", "merge")
        assert body is not None
        return self._patch(path, body, (query or {})["fieldManager"])

    def _patch(self, path: str, body: Mapping[str, Any], manager: str) -> Json:
        metadata = self.objects[path]["metadata"]
        annotations = metadata.setdefault("annotations", {})
        for key, value in body["metadata"]["annotations"].items():
            annotations.pop(key, None)
            if value is not None:
                annotations[key] = value
        metadata["managedFields"] = [{"manager": "kubelet"}, {"manager": manager, "time": format_time(self.server_time)}]
        self.written.append((path, dict(body)))
        self.changed(path, self.objects[path])
        return copy.deepcopy(self.objects[path])

    def _check(self, path: str) -> None:
        if self.down:
            raise Refused(0, f"the API server {self.server} cannot be reached: {self.down}", "Unreachable")
        if self.trouble is not None:
            raise self.trouble
        if path in self.forbidden:
            raise Refused(403, f"{path} is forbidden", "Forbidden")
        if not self.installed and "kubecarp.io" in path:
            raise Refused(404, "the server could not find the requested resource", "NotFound")


def _path(body: Json) -> str:
    name = body["metadata"]["name"]
    folders = {
        "CarpGroup": paths.carp_groups(),
        "CarpNode": paths.carp_nodes(),
        "Node": paths.nodes(),
        "Lease": paths.leases("kubecarp-system"),
        "Event": paths.events("default"),
    }
    return f"{folders[body['kind']]}/{name}"


def run(api: FakeApi, *argv: str, clock: FakeClock | None = None) -> tuple[int, str, str]:
    """One command: exit code, output, complaints."""
    session = Session(clock=clock or FakeClock(), connected=Cluster(api, "kubecarp-system"))
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(argv, session)
    return code, out.getvalue(), err.getvalue()


# ---- objects --------------------------------------------------------------------------------------------------


def ago(seconds: float) -> str:
    return format_time(NOW - seconds)


def node(name: str, *, ready: bool = True, cordoned: bool = False, maintenance: bool = False, address: str = "") -> Json:
    annotations = {"kubecarp.io/maintenance": "true"} if maintenance else {}
    status: Json = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    if address:
        status["addresses"] = [{"type": "InternalIP", "address": address}]
    spec = {"unschedulable": True} if cordoned else {}
    metadata = {"name": name, "annotations": annotations, "labels": {}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": status}


def member(name: str, state: str = "Backup", **fields: Any) -> Json:
    defaults = {"node": name, "state": state, "ready": True, "priority": 255, "advskew": 0, "demotion": 0, "interface": "eth0"}
    return defaults | {"since": ago(3600), "reason": "started"} | fields


def members(master: str = "node-a", **fields: Json) -> tuple[Json, ...]:
    """Three members, the best first; ``fields`` of each by its name with an underscore."""
    states = {name: {"state": "Master" if name == master else "Backup"} | fields.get(name.replace("-", "_"), {}) for name in NODES}
    return tuple(member(name, advskew=16 * place, **states[name]) for place, name in enumerate(NODES))


def group(name: str, *members: Json, addresses: tuple[str, ...] = ("10.0.0.5/24",), **fields: Any) -> Json:
    """A healthy group; its master is the member that says so. ``fields``: spec, conditions (by type), metadata, or of the status."""
    spec, metadata, conditions = fields.pop("spec", {}), fields.pop("metadata", {}), fields.pop("conditions", {})
    ready = [one["node"] for one in members if one["ready"]]
    master = next((one for one in members if one["state"] == "Master"), None)
    waiting = [one["node"] for one in members if one["ready"] and one is not master]
    told = {
        "Accepted": ("True", "Accepted", "runs"),
        "Programmed": ("True", "Programmed", f"runs on {len(members)} nodes"),
        "Ready": ("True", "MasterElected", f"{master['node']} has the addresses")
        if master
        else ("False", "NoMaster", "no member has the addresses"),
        "Degraded": ("False", "Healthy", "all is well"),
        "SplitBrain": ("False", "OneMaster", "one master"),
    } | conditions
    status = {
        "observedGeneration": 1,
        "vhid": 1,
        "interval": "1s",
        "addresses": list(addresses),
        "transitions": 3,
        "memberCount": len(members),
        "readyCount": len(ready),
        "members": list(members),
        "conditions": [
            {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(3600)}
            for kind, (status, reason, message) in told.items()
        ],
    }
    if master:
        status["master"] = {"node": master["node"], "since": master["since"], "interface": master["interface"]}
    if waiting:
        status["next"] = waiting[0]
    return {
        "apiVersion": _OURS,
        "kind": "CarpGroup",
        "metadata": {"name": name, "generation": 1, "creationTimestamp": ago(86400)} | metadata,
        "spec": {"addresses": list(addresses)} | spec,
        "status": status | fields,
    }


def entry(name: str, *, sign: str = "key-1", accept: tuple[str, ...] = (), version: str = "v1", **fields: Any) -> Json:
    """An entry of a CarpNode's spec."""
    authentication: Json = {"mode": "Strict", "secretName": f"kubecarp-key-{name}", "sign": sign}
    if accept:
        authentication["accept"] = list(accept)
    return {"name": name, "vhid": 1, "addresses": ["10.0.0.5/24"], "version": version, "authentication": authentication} | fields


def report(name: str, state: str = "Backup", *, version: str = "v1", since: float = 3600, **fields: Any) -> Json:
    """A group in a CarpNode's status."""
    return {"name": name, "version": version, "state": state, "since": ago(since), "interface": "eth0", "interfaceState": "Up"} | fields


def carp_node(
    name: str, *reports: Json, entries: tuple[Json, ...] = (), running: bool = True, reported: bool = True, problems: tuple[str, ...] = ()
) -> Json:
    status: Json = {}
    if reported:
        status = {"observedGeneration": 1, "sidecar": {"running": running}, "problems": list(problems), "groups": list(reports)}
    metadata = {"name": name, "generation": 1}
    return {"apiVersion": _OURS, "kind": "CarpNode", "metadata": metadata, "spec": {"groups": list(entries)}, "status": status}


def lease(*, silent_s: float = 3.0) -> Json:
    spec = {"holderIdentity": "operator-1", "renewTime": ago(silent_s), "leaseDurationSeconds": 15}
    return {"kind": "Lease", "metadata": {"name": "kubecarp-operator"}, "spec": spec}


def event(group_name: str, reason: str, note: str, *, age_s: float = 60, warning: bool = False) -> Json:
    return {
        "kind": "Event",
        "metadata": {"name": f"{group_name}.{reason}"},
        "regarding": {"kind": "CarpGroup", "name": group_name},
        "eventTime": ago(age_s),
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "note": note,
    }
