"""From CarpGroups and a list of nodes to the configuration of every sidecar, by the operator's own decisions, without a cluster. Pure.

The world is made up: every node has an agent that has reported the interfaces that were written down. So VHIDs, ranks, refusals and peers
are those that an operator would give.
"""

__all__ = ["Rendered", "StaticSettings", "render_static"]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Any

from carp_operator.api.group import CarpGroup
from carp_operator.api.node import CarpNode, Node, read_carp_node, read_node
from carp_operator.api.reasons import ConditionType, Reason
from carp_operator.cli.words import listed
from carp_operator.plan.membership import select_members
from carp_operator.plan.planner import Changes, Planner
from carp_operator.plan.world import World
from carp_protocol.config import Mode, SidecarConfig
from carp_protocol.config_reader import read_document
from carp_protocol.config_writer import snake
from carp_protocol.errors import ConfigError, Problem

from .manifests import Manifest
from .node_list import NodeAddress, StaticNode

Json = dict[str, Any]

_NOT_FOR_THE_SIDECAR = frozenset({"authentication", "handover", "version"})
_GUESSED_PREFIX = {4: 24, 6: 64}
_ANY_KEY = {Mode.STRICT: b"1" * 64, Mode.COMPATIBLE: b"any"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticSettings:
    """What the command line says about every sidecar."""

    key_file: str
    key_files: Mapping[str, str]
    """Those of single groups."""
    state_dir: str
    metrics_address: str
    probe_port: int

    def key_of(self, group: str) -> str:
        return self.key_files.get(group, self.key_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What every node should run."""

    documents: Mapping[str, Json]
    """By node: what a sidecar reads; keys are named by file."""
    configs: Mapping[str, SidecarConfig]
    """The same as a sidecar would understand it."""
    notes: tuple[str, ...]
    """What a person should know."""
    key_files: Mapping[str, Mode]


def render_static(manifests: Sequence[Manifest], nodes: Sequence[StaticNode], settings: StaticSettings) -> Rendered:
    """Raises ConfigError with every problem."""
    key_files = _key_files(manifests, settings)
    groups = [replace(manifest.group, secret=None) for manifest in manifests]
    world = _world(groups, nodes)
    changes = Changes(groups=set(world.groups), nodes=set(world.nodes))
    plan = Planner(lambda mode: _ANY_KEY[mode]).plan(world, changes, 0.0)
    _refuse(manifests, dict(plan.statuses))
    entries = {write.name: write.groups for write in plan.carp_nodes}
    documents = {node.name: _document(node.name, entries.get(node.name, ()), settings) for node in nodes}
    configs = {name: _understood(name, document, key_files) for name, document in documents.items()}
    notes = [*_notes(manifests, world), *_vhid_notes(manifests, configs)]
    return Rendered(documents=documents, configs=configs, notes=tuple(notes), key_files=key_files)


def _key_files(manifests: Sequence[Manifest], settings: StaticSettings) -> dict[str, Mode]:
    """The files that will be needed, and what is in each."""
    names = {manifest.group.name for manifest in manifests}
    problems = [Problem("--key-file", f"there is no group {name}") for name in settings.key_files if name not in names]
    found: dict[str, Mode] = {}
    for manifest in manifests:
        group = manifest.group
        path = settings.key_of(group.name)
        if found.setdefault(path, group.mode) is not group.mode:
            sentence = f"{path} cannot hold the key of a Strict and the password of a Compatible group; add --key-file {group.name}=FILE"
            problems.append(Problem(manifest.place, sentence))
    if problems:
        raise ConfigError(problems)
    return found


# ---- the world ------------------------------------------------------------------------------------------------


def _world(groups: Iterable[CarpGroup], nodes: Iterable[StaticNode]) -> World:
    world = World(groups={group.name: group for group in groups})
    for node in nodes:
        world.nodes[node.name] = _node(node)
        world.carp_nodes[node.name] = _carp_node(node, world.groups.values())
    return world


def _node(node: StaticNode) -> Node:
    addresses = [{"type": "InternalIP", "address": str(one.address.ip)} for one in node.addresses]
    status = {"conditions": [{"type": "Ready", "status": "True"}], "addresses": addresses}
    return read_node({"metadata": {"name": node.name, "labels": dict(node.labels)}, "status": status})


def _carp_node(node: StaticNode, groups: Iterable[CarpGroup]) -> CarpNode:
    wanted = sorted({group.interface for group in groups if group.interface}) or ["any"]
    interfaces: dict[str, list[str]] = {}
    for one in node.addresses:
        for name in [one.interface] if one.interface else wanted:
            interfaces.setdefault(name, []).append(_with_prefix(one, groups))
    reported = [{"name": name, "state": "Up", "addresses": addresses} for name, addresses in sorted(interfaces.items())]
    return read_carp_node({"metadata": {"name": node.name}, "status": {"sidecar": {"running": True}, "interfaces": reported}})


def _with_prefix(one: NodeAddress, groups: Iterable[CarpGroup]) -> str:
    """The address with its prefix length; one that was not given is that of a group's subnet which holds it, else the usual one."""
    if one.prefixed:
        return str(one.address)
    ip = one.address.ip
    subnets = [address.network for group in groups for address in group.addresses if address.network.prefixlen < ip.max_prefixlen]
    length = next((net.prefixlen for net in subnets if net.version == ip.version and ip in net), _GUESSED_PREFIX[ip.version])
    return str(ip_interface(f"{ip}/{length}"))


# ---- what it comes to -----------------------------------------------------------------------------------------


def _refuse(manifests: Iterable[Manifest], statuses: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ConfigError for groups that an operator would not accept."""
    problems = []
    for manifest in manifests:
        conditions = {one["type"]: one for one in statuses[manifest.group.name]["conditions"]}
        accepted = conditions[ConditionType.ACCEPTED]
        if accepted["status"] != "True":
            problems.append(
                Problem(manifest.place, f"{accepted['reason']}: {accepted['message']}{_hint(manifest.group, accepted['reason'])}")
            )
    if problems:
        raise ConfigError(problems)


def _hint(group: CarpGroup, reason: str) -> str:
    """What to do here about a refusal whose sentence is for a cluster."""
    if reason == Reason.INTERFACE_NOT_FOUND and group.interface_pattern:
        return "; name the interfaces of the nodes: --node NAME=ADDRESS@INTERFACE"
    if reason == Reason.INTERFACE_NOT_FOUND:
        return "; the prefix lengths of the nodes' addresses count: --node NAME=ADDRESS/PREFIX"
    if reason == Reason.NO_ELIGIBLE_NODE and group.node_selector.requirements:
        return "; labels of nodes come from --node-file"
    return ""


def _document(node: str, entries: Iterable[Mapping[str, Any]], settings: StaticSettings) -> Json:
    return {
        "node": node,
        "state_dir": settings.state_dir,
        "metrics_address": settings.metrics_address,
        "probe_port": settings.probe_port,
        "group": [_group(entry, settings) for entry in entries],
    }


def _group(entry: Mapping[str, Any], settings: StaticSettings) -> Json:
    """An entry of a CarpNode in the words of a configuration file, with a key file in the place of a Secret."""
    told = entry["authentication"]
    authentication = {key: told[key] for key in ("mode", "dialect") if key in told} | {"key_file": settings.key_of(entry["name"])}
    translated: Json = snake({key: value for key, value in entry.items() if key not in _NOT_FOR_THE_SIDECAR})
    return translated | {"authentication": authentication}


def _understood(node: str, document: Json, key_files: Mapping[str, Mode]) -> SidecarConfig:
    """The document as a sidecar reads it; raises ConfigError for what it would refuse."""
    try:
        return read_document(document, load_key=lambda path: _ANY_KEY[key_files[path]])
    except ConfigError as error:
        raise ConfigError([Problem(f"node {node}", str(problem)) for problem in error.problems]) from error


def _notes(manifests: Iterable[Manifest], world: World) -> Iterable[str]:
    for manifest in manifests:
        group = manifest.group
        membership = select_members(group, world)
        for node, why in sorted(membership.refused.items()):
            yield f"{group.name}: {node} is no member: {why}"
        if len(membership.nodes) == 1:
            yield f"{group.name}: {next(iter(membership.nodes))} is its only member: nobody takes over when it dies"
        if strangers := sorted(set(group.priorities) - set(world.nodes)):
            yield f"{group.name}: priorities names {listed(strangers)}, not among the nodes"
        if group.secret:
            yield f"{group.name}: there are no Secrets without a cluster; what would be in {group.secret} belongs into the key file"


def _vhid_notes(manifests: Iterable[Manifest], configs: Mapping[str, SidecarConfig]) -> Iterable[str]:
    given = {group.name: group.vhid for config in configs.values() for group in config.groups}
    for manifest in manifests:
        if manifest.group.vhid is None:
            vhid = given[manifest.group.name]
            yield f"{manifest.group.name}: got VHID {vhid}; write vhid: {vhid} into its manifest, so that it stays when groups come and go"
