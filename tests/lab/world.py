"""A cluster in memory: objects with their schemas, the operator's cache and planner, and agents that follow as fast as a test wants.

Every body goes through ``admit`` on its way in, so what the operator writes must fit its own definitions. Time stands still
until a test moves ``now``.
"""

__all__ = ["KEY", "NAMESPACE", "NODES", "Agent", "Cluster", "Lost"]

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from carp_agent.carpnode import CarpNode
from carp_agent.document import Settings, keys_named_untrusted, render_untrusted
from carp_agent.errors import BadNode
from carp_operator.api.group import format_time
from carp_operator.api.group_schema import group_crd
from carp_operator.api.names import KEY_RING_TYPE, key_ring_name
from carp_operator.api.node_schema import node_crd
from carp_operator.handlers.cache import Cache, Kind
from carp_operator.kube.bodies import carp_node_body, ring_body, status_body
from carp_operator.plan.events import Event
from carp_operator.plan.planner import Plan, Planner
from carp_protocol.config import Mode, SidecarConfig
from carp_protocol.config_reader import read_document
from carp_protocol.errors import ConfigError
from lab.admission import admit

Json = dict[str, Any]
Lost = Callable[[Kind, str], bool]
"""Whether the write of an object is lost."""

NAMESPACE = "kubecarp-system"
NODES = ("a", "b", "c")
KEY = "9f" * 32
_SCHEMAS = {
    Kind.GROUP: group_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
    Kind.CARP_NODE: node_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
}
_ROUNDS = 40
"""More than any change takes to settle; a plan that never ends is a bug."""


def never(kind: Kind, name: str) -> bool:
    return False


class Agent:
    """The agent and the sidecar of one node. ``follow`` runs what the CarpNode says, ``report`` tells."""

    def __init__(self, cluster: "Cluster", name: str, addresses: Iterable[str]) -> None:
        self.cluster = cluster
        self.name = name
        self.interfaces: list[Json] = [{"name": "eth0", "state": "Up", "addresses": list(addresses)}]
        self.up = True
        """The sidecar runs."""
        self.reporting = True
        self.running: dict[str, Json] = {}
        """The entries that run, by group."""
        self.keys: dict[str, tuple[str, frozenset[str]]] = {}
        """What signs and what is believed, by group."""
        self.generation = 0
        self.problems: list[str] = []
        self.states: dict[str, Json] = {}
        """State, since and reason, by group."""
        self.seen: dict[str, Json] = {}
        """Whatever else it says, by group."""

    @property
    def carp_node(self) -> Json | None:
        return self.cluster.objects[Kind.CARP_NODE].get(self.name)

    def follow(self) -> None:
        """Run the newest version, if the keys are there and the sidecar takes it."""
        body = self.carp_node
        if body is None or not self.up:
            return
        node = CarpNode(self.name, body["metadata"]["uid"], body["metadata"]["generation"], body.get("spec") or {}, {})
        try:
            rings = {secret: self.cluster.secret(secret) for secret in keys_named_untrusted(node)}
            text = render_untrusted(node, rings, Settings(self.name, metrics_address="127.0.0.1:9120", probe_port=9112))
            config = read_document(json.loads(text), load_key=lambda _path: b"")
        except BadNode as error:
            self.problems = [str(error)]
            return
        except ConfigError as error:
            raise AssertionError(f"the sidecar of {self.name} refuses what the operator wrote: {error}") from error
        self.problems = []
        self.generation = node.generation
        self._run(node, config, rings)

    def _run(self, node: CarpNode, config: SidecarConfig, rings: Mapping[str, Mapping[str, str]]) -> None:
        assert len(config.groups) == len(node.groups)
        self.running = {entry["name"]: entry for entry in node.groups}
        self.keys = {}
        for name, entry in self.running.items():
            authentication = entry["authentication"]
            ring = rings[authentication["secretName"]]
            sign = ring[authentication["sign"]]
            self.keys[name] = (sign, frozenset({sign, *(ring[key] for key in authentication.get("accept", ()))}))
        for name in self.running:
            self.states.setdefault(name, {"state": "Backup", "since": self.cluster.time, "reason": "started"})
        for name in self.states.keys() - self.running.keys():
            del self.states[name]
            self.seen.pop(name, None)

    def set_state(self, group: str, state: str, reason: str = "", since: str = "") -> None:
        if self.states.get(group, {}).get("state") != state or since or reason:
            self.states[group] = {"state": state, "since": since or self.cluster.time} | ({"reason": reason} if reason else {})

    def report(self) -> None:
        """Write the status, if it differs."""
        if self.carp_node is None or not self.reporting:
            return
        status: Json = {
            "agent": {"version": "0.1.0"},
            "sidecar": {"running": self.up},
            "interfaces": self.interfaces,
            "groups": [self._group(name) for name in sorted(self.running)],
        }
        if self.generation:
            status["observedGeneration"] = self.generation
        if self.problems:
            status["problems"] = list(self.problems)
        self.cluster.write_status(Kind.CARP_NODE, self.name, status)

    def _group(self, name: str) -> Json:
        entry, state = self.running[name], self.states[name]
        holds = state["state"] in {"Master", "Handover"} and self.up
        shown: Json = {
            "name": name,
            "version": entry["version"],
            "vhid": entry["vhid"],
            "interface": "eth0",
            "interfaceState": "Up",
            "advskew": entry["advskew"],
            "demotion": {"total": entry.get("demotion", 0), "excluded": False, "reasons": []},
            "addresses": [{"address": address, "held": holds} for address in entry["addresses"]],
            "mastersSeen": 1,
            "transitions": 1,
            "splitBrains": 0,
        }
        return shown | (state if self.up else state | {"state": "Init"}) | self.seen.get(name, {})


class Cluster:
    """Nodes with one interface each, whose agents have reported, and an operator."""

    def __init__(self, nodes: Iterable[str] = NODES, *, first_vhid: int = 1, last_vhid: int = 255, checked: bool = True) -> None:
        self.checked = checked
        """Whether objects are held against their schemas; a large cluster is not."""
        self.now = 1_790_000_000.0
        self.objects: dict[Kind, dict[str, Json]] = {kind: {} for kind in Kind}
        self.agents: dict[str, Agent] = {}
        self.events: list[Event] = []
        self.writes: list[tuple[Kind, str]] = []
        """What the operator wrote in the last round."""
        self.lagging = False
        """The watches bring nothing until they are told to."""
        self._late: list[tuple[Kind, Json, bool]] = []
        """What the watches have to tell: an object, and whether it is gone."""
        self._range = (first_vhid, last_vhid)
        self._version = 0
        self._uids = 0
        self._keys = 0
        for number, name in enumerate(nodes, 1):
            self.add_node(name, f"10.77.0.{number}")
        self.restart()

    # ---- objects ----------------------------------------------------------------------------------------------

    @property
    def time(self) -> str:
        return format_time(self.now)

    def put(self, kind: Kind, body: Json, *, status: bool = False) -> Json:
        """Create or replace an object, its status left alone; with ``status`` only that."""
        name = body["metadata"]["name"]
        known = self.objects[kind].get(name)
        if known is None:
            self._uids += 1
            fresh = {"uid": f"uid-{self._uids}", "generation": 1, "creationTimestamp": self.time}
            stored = body | {"metadata": fresh | body["metadata"]}
        elif status:
            stored = known | {"status": body["status"]}
        else:
            stored = body | {"metadata": known["metadata"] | body["metadata"]} | ({"status": known["status"]} if "status" in known else {})
        stored = (
            admit(_SCHEMAS[kind], stored, name) if kind in _SCHEMAS and self.checked else stored | {"metadata": dict(stored["metadata"])}
        )
        if known is not None and known.get("spec") != stored.get("spec"):
            stored["metadata"]["generation"] += 1
        if known is not None and _without_version(known) == _without_version(stored):
            return known
        self._version += 1
        stored["metadata"]["resourceVersion"] = str(self._version)
        self.objects[kind][name] = stored
        self._late.append((kind, stored, False))
        return stored

    def write_status(self, kind: Kind, name: str, status: Json) -> Json:
        return self.put(kind, {"metadata": {"name": name}, "status": status}, status=True)

    def delete(self, kind: Kind, name: str) -> None:
        """And what it owns, as the garbage collector does."""
        gone = self.objects[kind].pop(name)
        uid = gone["metadata"]["uid"]
        self._version += 1
        self._late.append((kind, gone, True))
        for owned in (Kind.SECRET, Kind.CARP_NODE):
            for other, body in list(self.objects[owned].items()):
                if any(owner["uid"] == uid for owner in body["metadata"].get("ownerReferences", ())):
                    self.delete(owned, other)

    def add_node(
        self,
        name: str,
        *addresses: str,
        labels: Mapping[str, str] | None = None,
        ready: bool = True,
        cordoned: bool = False,
        maintenance: bool = False,
    ) -> None:
        """Or change it."""
        self.agents.setdefault(name, Agent(self, name, [f"{address}/24" for address in addresses]))
        own = addresses or [entry["address"] for entry in self.objects[Kind.NODE][name]["status"]["addresses"]]
        annotations = {"kubecarp.io/maintenance": "true"} if maintenance else {}
        body: Json = {
            "metadata": {"name": name, "labels": dict(labels or {}), "annotations": annotations},
            "spec": {"unschedulable": True} if cordoned else {},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address} for address in own],
                "conditions": [{"type": "Ready", "status": str(ready)}],
            },
        }
        self.put(Kind.NODE, body)
        self.put(Kind.NODE, body, status=True)

    def apply_group(self, name: str, *addresses: str, annotations: Mapping[str, str] | None = None, **spec: Any) -> None:
        """Create or change a CarpGroup."""
        metadata: Json = {"name": name, "annotations": dict(annotations or {})}
        given = spec | {"addresses": list(addresses or ("10.77.0.100",))}
        self.put(Kind.GROUP, {"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpGroup", "metadata": metadata, "spec": given})

    def apply_secret(self, name: str, **entries: str | bytes) -> None:
        data = {key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode() for key, value in entries.items()}
        self.put(Kind.SECRET, {"kind": "Secret", "type": "Opaque", "metadata": {"name": name}, "data": data})

    def secret(self, name: str) -> dict[str, str]:
        """The entries as text; empty if it is not there."""
        data = self.objects[Kind.SECRET].get(name, {}).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    # ---- the operator -----------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Another operator, that knows nothing but the objects."""
        self._late = []
        self.cache = Cache(*self._range)
        for kind in Kind:
            self.cache.replace_all(kind, list(self.objects[kind].values()), self._version)
        self.planner = Planner(self.make_key)

    def make_key(self, mode: Mode) -> bytes:
        self._keys += 1
        return f"{self._keys:064x}".encode() if mode is Mode.STRICT else f"password-{self._keys}".encode()

    def deliver(self) -> None:
        """What the watches have held back."""
        late, self._late = self._late, []
        for kind, body, deleted in late:
            if deleted:
                self.cache.drop(kind, body)
            else:
                self.cache.put(kind, body)

    def plan(self) -> Plan:
        """The next plan, and nothing of it written."""
        changes = self.cache.take_changes()
        plan = self.planner.plan(self.cache.world, changes, self.now)
        self.cache.give_back(changes)
        return plan

    def reconcile(self, lost: Lost = never) -> Plan:
        """One round, as in the reconciler: a write that is lost holds up no other, but no CarpNode may name a key that is not there."""
        if not self.lagging:
            self.deliver()
        self.writes = []
        changes = self.cache.take_changes()
        plan = self.planner.plan(self.cache.world, changes, self.now)
        rings = [(Kind.SECRET, key_ring_name(group.name), self._ring_writer(group, ring)) for group, ring in plan.rings]
        specs = [(Kind.CARP_NODE, write.name, self._spec_writer(carp_node_body(write))) for write in plan.carp_nodes]
        statuses = [(Kind.GROUP, name, self._status_writer(name, status)) for name, status in plan.statuses]
        complete = self._write(rings, lost)
        complete = complete and self._write(specs, lost)
        self.events += plan.events
        if not self._write(statuses, lost) or not complete:
            self.cache.give_back(changes)
        return plan

    def _write(self, step: list[tuple[Kind, str, Callable[[], None]]], lost: Lost) -> bool:
        """Whether nothing was lost."""
        kept = [write for kind, name, write in step if not lost(kind, name)]
        for write in kept:
            write()
        return len(kept) == len(step)

    def settle(self) -> None:
        """Until nothing is left to do for anybody."""
        self.lagging = False
        for _ in range(_ROUNDS):
            before = self._version
            self.reconcile()
            self.elect()
            for agent in self.agents.values():
                agent.follow()
                agent.report()
            if self._version == before:
                return
        raise AssertionError("it never settles")

    def elect(self) -> None:
        """Masters, as the sidecars choose them: whoever has it keeps it while it is not worse by demotion."""
        for group in {name for agent in self.agents.values() for name in agent.states}:
            alive = [agent for agent in self.agents.values() if agent.up and agent.states.get(group, {"state": "Init"})["state"] != "Init"]
            if not alive:
                continue
            best = min(alive, key=lambda agent: _standing(agent, group))
            for agent in alive:
                agent.set_state(group, "Master" if agent is best else "Backup")

    def _ring_writer(self, group: Any, ring: Any) -> Callable[[], None]:
        return lambda: self._written(Kind.SECRET, self.put(Kind.SECRET, ring_body(group, ring, NAMESPACE)))

    def _spec_writer(self, body: Json) -> Callable[[], None]:
        return lambda: self._written(Kind.CARP_NODE, self.put(Kind.CARP_NODE, body))

    def _status_writer(self, name: str, status: Json) -> Callable[[], None]:
        def write() -> None:
            if name in self.objects[Kind.GROUP]:
                self._written(Kind.GROUP, self.write_status(Kind.GROUP, name, status_body(name, status)["status"]))

        return write

    def _written(self, kind: Kind, stored: Json) -> None:
        self.writes.append((kind, stored["metadata"]["name"]))
        self.cache.put(kind, stored)

    # ---- looking ----------------------------------------------------------------------------------------------

    def status(self, group: str) -> Json:
        found: Json = self.objects[Kind.GROUP][group].get("status", {})
        return found

    def condition(self, group: str, kind: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        one = next(condition for condition in self.status(group)["conditions"] if condition["type"] == kind)
        return one["status"], one["reason"], one["message"]

    def entries(self, group: str) -> dict[str, Json]:
        """What the CarpNodes hold of a group, by node."""
        specs = {name: (body.get("spec") or {}).get("groups", ()) for name, body in self.objects[Kind.CARP_NODE].items()}
        return {name: entry for name, entries in specs.items() for entry in entries if entry["name"] == group}

    def rings(self) -> list[str]:
        """Names of the Secrets that are key rings."""
        return sorted(name for name, body in self.objects[Kind.SECRET].items() if body["type"] == KEY_RING_TYPE)


def _without_version(body: Json) -> Json:
    metadata = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
    return body | {"metadata": metadata}


def _standing(agent: Agent, group: str) -> tuple[int, bool, int]:
    entry = agent.running[group]
    return entry.get("demotion", 0), agent.states[group]["state"] != "Master", entry["advskew"]
