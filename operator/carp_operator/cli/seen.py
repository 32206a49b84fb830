"""What a cluster says of itself, as typed values: groups with their status, nodes, and the operator's sign of life. Pure.

A status is what the operator last wrote. ``Snapshot`` holds what the nodes report beside it, so that a view can tell when the two differ.
"""

__all__ = ["ConditionSeen", "EventSeen", "GroupSeen", "MemberSeen", "OperatorSeen", "Snapshot", "read_event", "read_operator", "see_group"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carp_operator.api.errors import BadObject
from carp_operator.api.group import parse_time
from carp_operator.api.node import CarpNode, Node
from carp_protocol.config import DEFAULT_INTERVAL_S, Dialect, Mode, PeerMode
from carp_protocol.fields import format_duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionSeen:
    """One condition of a group."""

    type: str
    status: str
    reason: str
    message: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSeen:
    """One member, as the operator's status tells it."""

    node: str
    state: str
    ready: bool
    priority: int
    advskew: int
    demotion: int
    interface: str
    since: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSeen:
    """One CarpGroup: what was asked for and what is."""

    name: str
    created: str = ""
    generation: int = 0
    observed_generation: int = 0
    addresses: tuple[str, ...] = ()
    """Those that run; of a group that never ran, those that were asked for."""
    vhid: int | None = None
    interval: str = ""
    mode: Mode = Mode.STRICT
    dialect: Dialect = Dialect.COMMON
    virtual_mac: bool = True
    peer_mode: PeerMode = PeerMode.MULTICAST
    preempts: bool = False
    keeps_on_cordon: bool = False
    secret: str = ""
    """A Secret of the user with its key; empty: the operator made the key."""
    health_checks: tuple[str, ...] = ()
    master: str = ""
    since: str = ""
    interface: str = ""
    next: str = ""
    transitions: int = 0
    member_count: int = 0
    ready_count: int = 0
    members: tuple[MemberSeen, ...] = ()
    conditions: Mapping[str, ConditionSeen] = field(default_factory=dict)

    @property
    def looked_at(self) -> bool:
        """The operator has written a status."""
        return bool(self.conditions)

    def member(self, node: str) -> MemberSeen | None:
        return next((member for member in self.members if member.node == node), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSeen:
    """One Event about a group."""

    time: str
    reason: str
    note: str
    warning: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSeen:
    """The operator's lease: who acts, and when it last said so (seconds since 1970)."""

    holder: str
    renewed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything at one moment."""

    groups: tuple[GroupSeen, ...]
    """By name."""
    nodes: Mapping[str, Node] | None
    """None: the user may not list Nodes."""
    carp_nodes: Mapping[str, CarpNode] = field(default_factory=dict)
    operator: OperatorSeen | None = None
    """None: nobody knows, or it takes no lease."""

    def group(self, name: str) -> GroupSeen | None:
        return next((group for group in self.groups if group.name == name), None)


def _text(entry: Mapping[str, Any], name: str, otherwise: str = "") -> str:
    """A text, whatever another version or a hand has written there."""
    return str(entry.get(name) or otherwise)


def see_group(body: Mapping[str, Any]) -> GroupSeen:
    """The group in an object of the API server; raises BadObject."""
    try:
        return _see_group(body)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadObject(f"a CarpGroup cannot be read: {type(error).__name__}: {error}") from error


def _see_group(body: Mapping[str, Any]) -> GroupSeen:
    metadata, spec, status = (body.get(key) or {} for key in ("metadata", "spec", "status"))
    authentication, master = spec.get("authentication") or {}, status.get("master") or {}
    members = tuple(_see_member(entry) for entry in status.get("members") or ())
    mode = Mode(authentication.get("mode", "Strict"))
    return GroupSeen(
        name=metadata["name"],
        created=_text(metadata, "creationTimestamp"),
        generation=int(metadata.get("generation") or 0),
        observed_generation=int(status.get("observedGeneration") or 0),
        addresses=tuple(map(str, status.get("addresses") or spec.get("addresses") or ())),
        vhid=status.get("vhid", spec.get("vhid")),
        interval=_text(status, "interval") or _text(spec, "advertisementInterval", format_duration_s(DEFAULT_INTERVAL_S[mode])),
        mode=mode,
        dialect=Dialect(authentication.get("dialect", "Common")),
        virtual_mac=bool(spec.get("virtualMAC", True)),
        peer_mode=PeerMode((spec.get("peers") or {}).get("mode", "Multicast")),
        preempts=bool((spec.get("preemption") or {}).get("enabled")),
        keeps_on_cordon=spec.get("onCordon") == "Keep",
        secret=_text(authentication.get("secretRef") or {}, "name"),
        health_checks=tuple(str(check["name"]) for check in spec.get("healthChecks") or ()),
        master=_text(master, "node"),
        since=_text(master, "since"),
        interface=_text(master, "interface"),
        next=_text(status, "next"),
        transitions=int(status.get("transitions") or 0),
        member_count=int(status.get("memberCount") or 0),
        ready_count=int(status.get("readyCount") or 0),
        members=members,
        conditions={str(entry["type"]): _see_condition(entry) for entry in status.get("conditions") or ()},
    )


def _see_condition(entry: Mapping[str, Any]) -> ConditionSeen:
    return ConditionSeen(
        type=str(entry["type"]),
        status=_text(entry, "status", "Unknown"),
        reason=_text(entry, "reason"),
        message=_text(entry, "message"),
        since=_text(entry, "lastTransitionTime"),
    )


def _see_member(entry: Mapping[str, Any]) -> MemberSeen:
    advskew = int(entry.get("advskew") or 0)
    return MemberSeen(
        node=str(entry["node"]),
        state=_text(entry, "state", "Unknown"),
        ready=bool(entry.get("ready")),
        priority=int(entry.get("priority", 255 - advskew)),
        advskew=advskew,
        demotion=int(entry.get("demotion") or 0),
        interface=_text(entry, "interface"),
        since=_text(entry, "since"),
        reason=_text(entry, "reason"),
        message=_text(entry, "message"),
    )


def read_event(body: Mapping[str, Any]) -> EventSeen:
    """An Event of events.k8s.io/v1."""
    metadata = body.get("metadata") or {}
    return EventSeen(
        time=_text(body, "eventTime") or _text(body, "deprecatedLastTimestamp") or _text(metadata, "creationTimestamp"),
        reason=_text(body, "reason"),
        note=_text(body, "note"),
        warning=body.get("type") == "Warning",
    )


def read_operator(lease: Mapping[str, Any]) -> OperatorSeen | None:
    """The sign of life in the operator's Lease; None if it cannot be read."""
    spec = lease.get("spec") or {}
    renewed = parse_time(spec.get("renewTime") or "")
    return None if renewed is None else OperatorSeen(holder=spec.get("holderIdentity") or "", renewed=renewed)
