"""Typed values of the operator's plan, for tests of its single decisions: only what matters to a test has to be said."""

__all__ = ["carp_node", "group", "interface", "node", "report", "world"]

from collections.abc import Iterable, Mapping
from typing import Any

from carp_operator.api.group import CarpGroup, read_group
from carp_operator.api.node import CarpNode, GroupReport, Interface, Node, read_carp_node
from carp_operator.plan.world import World

SINCE = "2026-09-21T12:00:00Z"


def group(
    name: str = "web",
    *addresses: str,
    created: str = "2026-01-01T00:00:00Z",
    status: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> CarpGroup:
    """A CarpGroup as it comes from the API server; its uid follows from its name."""
    metadata = {"name": name, "uid": f"uid-{name}", "generation": 1, "creationTimestamp": created, "annotations": dict(annotations or {})}
    body = {"metadata": metadata, "spec": {"addresses": list(addresses or ("10.77.0.100",))} | spec}
    return read_group(body | ({"status": status} if status else {}))


def node(name: str = "a", *addresses: str, **fields: Any) -> Node:
    return Node(name=name, uid=f"uid-{name}", addresses=addresses, **fields)


def interface(name: str = "eth0", *addresses: str) -> Interface:
    status = {"interfaces": [{"name": name, "addresses": list(addresses)}]}
    return read_carp_node({"metadata": {"name": "x"}, "status": status}).interfaces[0]


def carp_node(name: str = "a", *interfaces: Interface, entries: Iterable[Mapping[str, Any]] = (), **fields: Any) -> CarpNode:
    """One that has reported."""
    spec_groups = {entry["name"]: entry for entry in entries}
    return CarpNode(name=name, spec_groups=spec_groups, interfaces=interfaces, **({"reported": True, "sidecar_running": True} | fields))


def report(name: str = "web", state: str = "Backup", since: str = SINCE, **fields: Any) -> GroupReport:
    return GroupReport(name=name, state=state, since=since, **({"interface": "eth0", "interface_state": "Up"} | fields))


def world(groups: Iterable[CarpGroup] = (), nodes: Iterable[Node] = (), carp_nodes: Iterable[CarpNode] = ()) -> World:
    return World(
        groups={one.name: one for one in groups},
        nodes={one.name: one for one in nodes},
        carp_nodes={one.name: one for one in carp_nodes},
    )
