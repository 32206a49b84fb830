"""From a group and its members to the entries of their CarpNodes, and to what a sidecar reads. One contract: ``carp_protocol.config``."""

__all__ = ["Entry", "demotion_of", "entries_for", "refresh_entry", "refuse_invalid", "source_address", "with_handover"]

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from carp_operator.api.group import CarpGroup, HandoverRequest, format_time
from carp_operator.api.names import CORDON_DEMOTION, MAINTENANCE_DEMOTION, key_ring_name
from carp_operator.api.node import Interface, Node
from carp_operator.api.reasons import Reason
from carp_protocol.config import Authentication, GroupConfig, Mode, PeerMode, SidecarConfig
from carp_protocol.config_reader import read_document
from carp_protocol.config_writer import camel, group_to_document, key_texts, to_document
from carp_protocol.errors import ConfigError

from .world import KeyRing, Member, Refusal

_VERSION_LENGTH = 12
"""Hexadecimal digits: enough that two versions of one entry never look alike."""
_OWN = ("advskew", "demotion", "peers")
"""What differs from member to member."""
_ANY_KEY = {Mode.STRICT: b"\1" * 32, Mode.COMPATIBLE: b"any"}

Entry = dict[str, Any]


def refuse_invalid(group: CarpGroup) -> Refusal | None:
    """What a sidecar would say against the group; None if it would run it. The schema has said most of it before."""
    config = _config(group, group.vhid or 1)
    keyed = replace(config, authentication=replace(config.authentication, key=_ANY_KEY[group.mode]))
    try:
        read_document(to_document(SidecarConfig(groups=(keyed,)), key_texts), load_key=lambda _path: b"")
    except ConfigError as error:
        return Refusal(Reason.INVALID, "; ".join(f"{problem.place.partition('.')[2]}: {problem.message}" for problem in error.problems))
    return None


def _config(group: CarpGroup, vhid: int) -> GroupConfig:
    """What every member's sidecar should run, without keys and without what differs from member to member."""
    return GroupConfig(
        name=group.name,
        vhid=vhid,
        addresses=group.addresses,
        interface=group.interface,
        interface_pattern=group.interface_pattern,
        advertisement_interval_s=group.interval_s,
        authentication=Authentication(mode=group.mode, dialect=group.dialect),
        virtual_mac=group.virtual_mac,
        preemption=group.preemption,
        health_checks=group.health_checks,
        suspicion=group.mode is Mode.STRICT if group.suspicion is None else group.suspicion,
        fence=group.fence,
    )


def demotion_of(group: CarpGroup, node: Node | None) -> int:
    """The standing demotion of a member: maintenance, or a cordoned node."""
    if node is None:
        return 0
    if node.maintenance:
        return MAINTENANCE_DEMOTION
    return CORDON_DEMOTION if node.cordoned and group.hand_over_on_cordon else 0


def entries_for(
    group: CarpGroup,
    vhid: int,
    members: Mapping[str, Member],
    ring: KeyRing,
    nodes: Mapping[str, Node],
    before: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, Entry]:
    """The entry of each member's CarpNode; ``before``: what stands there now."""
    authentication: Entry = {"mode": group.mode.value, "secretName": key_ring_name(group.name), "sign": ring.sign}
    if group.mode is Mode.COMPATIBLE:
        authentication["dialect"] = group.dialect.value
    if ring.accept:
        authentication["accept"] = list(ring.accept)
    document = camel(group_to_document(_config(group, vhid)))
    document |= {"authentication": authentication, "addresses": list(group.written)}
    common = _common_digest(document)
    peers = _peers_of(group, members, nodes, before) if group.peer_mode is PeerMode.UNICAST else {}
    entries = {}
    for name, member in members.items():
        entry = document | {"advskew": member.advskew}
        if member.demotion:
            entry["demotion"] = member.demotion
        if peers.get(name):
            entry["peers"] = {"mode": PeerMode.UNICAST.value, "addresses": peers[name]}
        entries[name] = _stamp(entry, common)
    return entries


def _peers_of(
    group: CarpGroup, members: Mapping[str, Member], nodes: Mapping[str, Node], before: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Where each member finds the others. Nobody forgets a peer because its node does not tell an address just now."""
    sources = {name: source_address(group, member.interface, nodes.get(name)) for name, member in members.items()}
    known = {address for entry in before.values() for address in (entry.get("peers") or {}).get("addresses") or ()}
    everybody = {source for source in sources.values() if source} | (set() if all(sources.values()) else known)
    return {name: sorted(everybody - {source}) for name, source in sources.items()}


def source_address(group: CarpGroup, interface: Interface | None, node: Node | None) -> str:
    """The address from which a member's adverts come: its interface's own, of the family of the group's first address; empty if unknown."""
    version = group.addresses[0].version
    own = [str(address.ip) for address in (interface.addresses if interface else ()) if address.version == version]
    family = [address for address in (node.addresses if node else ()) if (":" in address) == (version == 6)]
    return next(iter([*own, *family]), "")


def refresh_entry(entry: Mapping[str, Any], demotion: int) -> Entry:
    """An entry that runs on although its group's change was refused: only maintenance still reaches it."""
    kept = {key: value for key, value in entry.items() if key not in {"version", "demotion", "handover"}}
    return _stamp(kept | ({"demotion": demotion} if demotion else {}), _common_digest(kept))


def _common_digest(entry: Mapping[str, Any]) -> str:
    """A digest of what is the same for every member."""
    text = json.dumps({key: value for key, value in entry.items() if key not in _OWN}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(entry: Entry, common: str) -> Entry:
    """The entry with the version that tells it from every other one."""
    own = f"{entry.get('advskew')} {entry.get('demotion', 0)} {(entry.get('peers') or {}).get('addresses')}"
    return entry | {"version": hashlib.sha256(f"{common} {own}".encode()).hexdigest()[:_VERSION_LENGTH]}


def with_handover(entry: Entry, request: HandoverRequest, to: str) -> Entry:
    """The entry with a one-shot; its version stays, because what should run is the same."""
    return entry | {"handover": {"id": request.id, "requestedAt": format_time(request.at)} | ({"to": to} if to else {})}
