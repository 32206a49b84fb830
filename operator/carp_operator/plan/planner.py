"""From what was seen to everything that should be written. Level-based: from the world as it is, for what depends on what changed.

The planner remembers what it computed last, so that one report of one node costs one group and not all of them. Losing that
memory costs time and nothing else: everything that must last stands in the objects.
"""

__all__ = ["CarpNodeWrite", "Changes", "Plan", "Planner"]

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from carp_operator.api.group import CarpGroup, parse_time
from carp_operator.api.node import GroupReport
from carp_operator.api.reasons import Reason
from carp_protocol.config import Mode

from .aggregate import Picture, paint, sentences_of
from .allocation import Claim, allocate
from .events import Event, tell_complaints, tell_transitions
from .keys import next_ring, source_key
from .masters import Masters, find_masters
from .membership import Membership, select_members
from .networks import networks_of
from .ranks import rank_members
from .render import Entry, demotion_of, entries_for, refresh_entry, refuse_invalid, source_address, with_handover
from .world import KeyRing, Member, Refusal, World

HANDOVER_LIFE_S = 120.0
"""A request to hand over is for now; nobody wants it carried out after an outage of the API server."""
_NOTHING_RUNS = {Reason.NO_ELIGIBLE_NODE, Reason.INTERFACE_NOT_FOUND}
"""Not a change that was refused: there is no node left that could go on."""


@dataclass(slots=True)
class Changes:
    """What became different in the world since the plan before."""

    groups: set[str] = field(default_factory=set)
    """Their spec, key ring or Secret, or they are gone."""
    reports: set[str] = field(default_factory=set)
    """Groups of which a node reported something new."""
    nodes: bool = False
    """A node came, went, or became another kind of candidate."""
    written: set[str] = field(default_factory=set)
    """CarpNodes whose spec was changed, whoever did it."""

    def __bool__(self) -> bool:
        return bool(self.groups or self.reports or self.nodes or self.written)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarpNodeWrite:
    """A CarpNode that should be applied."""

    name: str
    owner_uid: str
    groups: tuple[Entry, ...]
    roll_call: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything to write, in the order in which to write it."""

    rings: tuple[tuple[CarpGroup, KeyRing], ...] = ()
    carp_nodes: tuple[CarpNodeWrite, ...] = ()
    statuses: tuple[tuple[str, dict[str, Any]], ...] = ()
    events: tuple[Event, ...] = ()
    again_in_s: float | None = None


@dataclass(slots=True)
class _Group:
    """What was decided for one group."""

    refusal: Refusal | None
    vhid: int | None
    members: dict[str, Member]
    entries: dict[str, Entry]
    ring: KeyRing | None = None
    rotating: bool = False


class Planner:
    """``plan`` it again whenever something changed. ``make_key`` gives a new key of a mode, as a ring holds it."""

    def __init__(self, make_key: Callable[[Mode], bytes]) -> None:
        self._make_key = make_key
        self._memberships: dict[str, Membership] = {}
        self._claims: dict[str, Claim] = {}
        self._invalid: dict[str, Refusal | None] = {}
        self._outcomes: dict[str, int | Refusal] = {}
        self._groups: dict[str, _Group] = {}
        self._complaints: dict[str, Mapping[tuple[Reason, str, str], Refusal]] = {}
        self._handovers: dict[str, tuple[str, Entry]] = {}
        """By group: the master's node, and its entry with the request."""
        self._doubted: set[str] = set()
        """Groups that must be looked at again although nothing was reported."""

    def plan(self, world: World, changes: Changes, now: float) -> Plan:
        """What to write; ``now`` in seconds since 1970."""
        gone = self._groups.keys() - world.groups.keys()
        touched = {node for name in gone for node in self._groups[name].entries} | changes.written
        self._forget(gone)
        dirty = self._decide(world, changes, gone=bool(gone))
        rings = []
        for name in sorted(dirty):
            before = self._groups.get(name)
            self._groups[name] = decided = self._build(world, world.groups[name], self._outcomes[name])
            touched |= decided.entries.keys() | (before.entries.keys() if before else set()) | _holders(world, name)
            if decided.ring is not None and decided.ring != world.rings.get(name):
                rings.append((world.groups[name], decided.ring))
        told = self._tell(world, dirty | ((changes.reports | self._doubted) & world.groups.keys()), now)
        nodes = world.nodes.keys() if changes.nodes else (touched | told.calls.keys()) & world.nodes.keys()
        return Plan(
            rings=tuple(rings),
            carp_nodes=self._writes(world, nodes, told.calls),
            statuses=tuple(told.statuses),
            events=tuple(told.events),
            again_in_s=told.again_in_s,
        )

    def _forget(self, gone: Iterable[str]) -> None:
        for name in list(gone):
            for memory in (self._memberships, self._claims, self._invalid, self._outcomes, self._groups, self._complaints, self._handovers):
                memory.pop(name, None)
            self._doubted.discard(name)

    # ---- what should run --------------------------------------------------------------------------------------

    def _decide(self, world: World, changes: Changes, *, gone: bool) -> set[str]:
        """The VHID of every group, or why it gets none; gives the groups that must be built anew."""
        stale = set(world.groups) if changes.nodes else (changes.groups & world.groups.keys()) | (world.groups.keys() - self._groups.keys())
        for name in stale:
            group = world.groups[name]
            self._memberships[name] = membership = select_members(group, world)
            self._claims[name] = Claim(group, networks_of(group, membership.nodes.values()))
            self._invalid[name] = refuse_invalid(group)
        changed = self._allocate(world) if stale or gone else set()
        rotating = {name for name in changes.reports if name in self._groups and self._groups[name].rotating}
        asked = {name for name in changes.reports if name in world.groups and world.groups[name].handover}
        return stale | changed | ((rotating | asked) & world.groups.keys())

    def _allocate(self, world: World) -> set[str]:
        """Groups that get another VHID than before, or another answer."""
        refused = {name: refusal for name, group in world.groups.items() if (refusal := self._refusal(world, group))}
        own = {address: node.name for node in world.nodes.values() for address in node.addresses}
        outcomes = allocate(self._claims.values(), own, world.first_vhid, world.last_vhid, refused)
        changed = {name for name, outcome in outcomes.items() if self._outcomes.get(name) != outcome}
        self._outcomes = outcomes
        return changed

    def _refusal(self, world: World, group: CarpGroup) -> Refusal | None:
        """What speaks against the group by itself."""
        source = source_key(group, world.secrets)
        return self._invalid[group.name] or self._memberships[group.name].refusal() or (source if isinstance(source, Refusal) else None)

    def _build(self, world: World, group: CarpGroup, outcome: int | Refusal) -> _Group:
        if isinstance(outcome, Refusal):
            return self._retain(world, group, outcome)
        membership = self._memberships[group.name]
        ranks = rank_members(group.name, membership.nodes, group.priorities)
        members = {
            node: Member(node=node, advskew=advskew, demotion=demotion_of(group, world.nodes.get(node)), interface=membership.nodes[node])
            for node, advskew in ranks.items()
        }
        ring = world.rings.get(group.name)
        entries = entries_for(group, outcome, members, ring, world.nodes) if ring else {}
        source = source_key(group, world.secrets)
        after = next_ring(
            group,
            ring,
            source if isinstance(source, bytes) else None,
            known=_known_keys(world, group.name),
            settled=all(_runs(world, group.name, node, entry) for node, entry in entries.items()),
            make=lambda: self._make_key(group.mode),
        )
        if after is not None:
            ring, entries = after, entries_for(group, outcome, members, after, world.nodes)
        assert ring is not None
        return _Group(None, outcome, members, entries, ring, rotating=len(ring.keys) > 1)

    def _retain(self, world: World, group: CarpGroup, refusal: Refusal) -> _Group:
        """A change that is refused leaves what runs running."""
        if refusal.reason in _NOTHING_RUNS:
            return _Group(refusal, None, {}, {})
        entries, members = {}, {}
        for node in sorted(_holders(world, group.name)):
            entry = world.carp_nodes[node].spec_groups[group.name]
            demotion = demotion_of(group, world.nodes.get(node))
            entries[node] = refresh_entry(entry, demotion)
            members[node] = Member(
                node=node, advskew=entry.get("advskew", 0), demotion=demotion, interface=self._memberships[group.name].nodes.get(node)
            )
        members = dict(sorted(members.items(), key=lambda item: (item[1].advskew, item[0])))
        vhid = next((entry["vhid"] for entry in entries.values()), None)
        return _Group(refusal, vhid, members, entries, world.rings.get(group.name))

    # ---- what is ----------------------------------------------------------------------------------------------

    def _tell(self, world: World, names: Iterable[str], now: float) -> "_Told":
        told = _Told()
        time = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        for name in sorted(names):
            group, decided = world.groups[name], self._groups[name]
            reports = {node: one.groups[name] for node, one in world.carp_nodes.items() if name in one.groups}
            masters = find_masters(reports, world.nodes, world.carp_nodes, now)
            picture = Picture(
                group=group,
                refusal=decided.refusal,
                vhid=decided.vhid,
                running=bool(decided.entries),
                members=decided.members,
                entries=decided.entries,
                reports=reports,
                masters=masters,
                nodes=world.nodes,
                carp_nodes=world.carp_nodes,
                rotating=decided.rotating,
            )
            told.add(group, masters, paint(picture, time), reports)
            complaints = sentences_of(picture)
            told.events += tell_complaints(group, self._complaints.get(name, complaints), complaints, time)
            self._complaints[name] = complaints
            self._handovers.pop(name, None)
            if (request := _handover(world, group, decided, reports, masters, now)) is not None:
                self._handovers[name] = request
            if masters.again_in_s is None:
                self._doubted.discard(name)
            else:
                self._doubted.add(name)
        return told

    # ---- what to write ----------------------------------------------------------------------------------------

    def _writes(self, world: World, nodes: Iterable[str], calls: Mapping[str, int]) -> tuple[CarpNodeWrite, ...]:
        """CarpNodes that differ from what they should be; the node that should become master first, so that it does."""
        writes = []
        for node in nodes:
            wanted = {name: decided.entries[node] for name, decided in self._groups.items() if node in decided.entries}
            wanted |= {name: entry for name, (master, entry) in self._handovers.items() if master == node}
            current = world.carp_nodes.get(node)
            owner = world.nodes[node].uid
            call = max(calls.get(node, 0), current.roll_call if current else 0)
            if current and current.spec_groups == wanted and current.owner_uid == owner and current.roll_call == call:
                continue
            fresh = [entry.get("advskew", 0) for name, entry in wanted.items() if not current or current.spec_groups.get(name) != entry]
            write = CarpNodeWrite(name=node, owner_uid=owner, groups=tuple(wanted[name] for name in sorted(wanted)), roll_call=call)
            writes.append((min(fresh, default=256), node, write))
        return tuple(write for _, _, write in sorted(writes, key=lambda item: item[:2]))


@dataclass(slots=True)
class _Told:
    """What the reports come to."""

    statuses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    again_in_s: float | None = None

    def add(self, group: CarpGroup, masters: Masters, status: dict[str, Any], reports: Mapping[str, GroupReport]) -> None:
        for node, call in (masters.ask or {}).items():
            self.calls[node] = max(call, self.calls.get(node, 0))
        if masters.again_in_s is not None:
            self.again_in_s = min(masters.again_in_s, self.again_in_s or masters.again_in_s)
        if status != group.status.raw:
            self.statuses.append((group.name, status))
            self.events += tell_transitions(group, status, reports)


def _holders(world: World, group: str) -> set[str]:
    """Nodes whose CarpNode has an entry of the group."""
    return {name for name, one in world.carp_nodes.items() if group in one.spec_groups}


def _known_keys(world: World, group: str) -> frozenset[str]:
    """Names of keys that some member may still have."""
    found: set[str] = set()
    for node in _holders(world, group):
        authentication = world.carp_nodes[node].spec_groups[group].get("authentication") or {}
        found |= {authentication.get("sign", ""), *(authentication.get("accept") or ())}
    return frozenset(found)


def _runs(world: World, group: str, node: str, entry: Entry) -> bool:
    """Whether the node's sidecar runs exactly this entry."""
    carp_node = world.carp_nodes.get(node)
    report = carp_node.groups.get(group) if carp_node else None
    return report is not None and report.version == entry["version"]


def _handover(
    world: World, group: CarpGroup, decided: _Group, reports: Mapping[str, GroupReport], masters: Masters, now: float
) -> tuple[str, Entry] | None:
    """The master's entry with a handover that was asked for and is still to do."""
    request, master = group.handover, masters.node
    if request is None or master not in decided.entries or any(report.handover_id == request.id for report in reports.values()):
        return None
    if abs(now - (parse_time(request.at) or 0.0)) > HANDOVER_LIFE_S:
        return None
    to = decided.members.get(request.to)
    if request.to and (to is None or request.to == master):
        return None
    source = source_address(group, to.interface, world.nodes.get(request.to)) if to else ""
    return master, with_handover(decided.entries[master], request, source)
