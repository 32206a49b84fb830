"""From a group and its members to the entries of their CarpNodes, and to what a sidecar reads. One contract: ``carp_protocol.config``."""

__all__ = ["entries_for", "group_config", "refresh_entry", "refuse_invalid", "source_address"]

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from carp_operator.api.group import CarpGroup, HandoverRequest
from carp_operator.api.names import CORDON_DEMOTION, MAINTENANCE_DEMOTION, key_ring_name
from carp_operator.api.node import Interface, Node
from carp_operator.api.reasons import Reason
from carp_protocol.config import Authentication, GroupConfig, Mode, PeerMode, Peers, SidecarConfig
from carp_protocol.config_reader import read_document
from carp_protocol.config_writer import camel, group_to_document, key_texts, to_document
from carp_protocol.errors import ConfigError

from .world import KeyRing, Member, Refusal

_VERSION_LENGTH = 12
"""Hexadecimal digits: enough that two versions of one entry never look alike."""
_ANY_KEY = {Mode.STRICT: b"\1" * 32, Mode.COMPATIBLE: b"any"}

Entry = dict[str, Any]


def group_config(group: CarpGroup, vhid: int, member: Member, peers: Iterable[str] = ()) -> GroupConfig:
    """What the member's sidecar should run, without keys."""
    return GroupConfig(
        name=group.name,
        vhid=vhid,
        addresses=group.addresses,
        interface=group.interface,
        interface_pattern=group.interface_pattern,
        advskew=member.advskew,
        advertisement_interval_s=group.interval_s,
        authentication=Authentication(mode=group.mode, dialect=group.dialect),
        virtual_mac=group.virtual_mac,
        preemption=group.preemption,
        peers=Peers(mode=group.peer_mode, addresses=tuple(peers)),
        health_checks=group.health_checks,
        suspicion=group.mode is Mode.STRICT if group.suspicion is None else group.suspicion,
        demotion=member.demotion,
    )


def refuse_invalid(group: CarpGroup) -> Refusal | None:
    """What a sidecar would say against the group; None if it would run it. The schema has said most of it before."""
    config = group_config(group, group.vhid or 1, Member(node=""), ("192.0.2.1",) if group.peer_mode is PeerMode.UNICAST else ())
    keyed = replace(config, authentication=replace(config.authentication, key=_ANY_KEY[group.mode]))
    try:
        read_document(to_document(SidecarConfig(groups=(keyed,)), key_texts), load_key=lambda _path: b"")
    except ConfigError as error:
        return Refusal(Reason.INVALID, "; ".join(f"{problem.place.partition('.')[2]}: {problem.message}" for problem in error.problems))
    return None


def demotion_of(group: CarpGroup, node: Node | None) -> int:
    """The standing demotion of a member: maintenance, or a cordoned node."""
    if node is None:
        return 0
    if node.maintenance:
        return MAINTENANCE_DEMOTION
    return CORDON_DEMOTION if node.cordoned and group.hand_over_on_cordon else 0


def entries_for(group: CarpGroup, vhid: int, members: Mapping[str, Member], ring: KeyRing, nodes: Mapping[str, Node]) -> dict[str, Entry]:
    """The entry of each member's CarpNode."""
    authentication: Entry = {"mode": group.mode.value, "secretName": key_ring_name(group.name), "sign": ring.sign}
    if group.mode is Mode.COMPATIBLE:
        authentication["dialect"] = group.dialect.value
    if ring.accept:
        authentication["accept"] = list(ring.accept)
    sources = {name: source_address(group, member.interface, nodes.get(name)) for name, member in members.items()}
    unicast = group.peer_mode is PeerMode.UNICAST
    entries = {}
    for name, member in members.items():
        peers = sorted({source for other, source in sources.items() if other != name and source}) if unicast else []
        document = camel(group_to_document(group_config(group, vhid, member, peers)))
        entries[name] = stamp(document | {"authentication": authentication, "addresses": list(group.written)})
    return entries


def source_address(group: CarpGroup, interface: Interface | None, node: Node | None) -> str:
    """The address from which a member's adverts come: its interface's own, of the family of the group's first address; empty if unknown."""
    version = group.addresses[0].version
    own = [str(address.ip) for address in (interface.addresses if interface else ()) if address.version == version]
    family = [address for address in (node.addresses if node else ()) if (":" in address) == (version == 6)]
    return next(iter([*own, *family]), "")


def refresh_entry(entry: Mapping[str, Any], demotion: int) -> Entry:
    """An entry that runs on although its group's change was refused: only maintenance still reaches it."""
    kept = {key: value for key, value in entry.items() if key not in {"version", "demotion", "handover"}}
    return stamp(kept | ({"demotion": demotion} if demotion else {}))


def stamp(entry: Entry) -> Entry:
    """The entry with the version that tells it from every other one."""
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return entry | {"version": hashlib.sha256(text.encode()).hexdigest()[:_VERSION_LENGTH]}


def with_handover(entry: Entry, request: HandoverRequest, to: str) -> Entry:
    """The entry with a one-shot; its version stays, because what should run is the same."""
    return entry | {"handover": {"id": request.id, "requestedAt": request.at} | ({"to": to} if to else {})}
