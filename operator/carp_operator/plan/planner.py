"""From what was seen to everything that should be written. Level-based: from the world as it is, for what depends on what changed.

The planner remembers what it computed last, so that one report of one node costs one group and not all of them. Losing that
memory costs time and nothing else: everything that must last stands in the objects.
"""

__all__ = ["HANDOVER_LIFE_S", "CarpNodeWrite", "Changes", "Plan", "Planner"]

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

from carp_operator.api.group import CarpGroup, HandoverRequest, format_time
from carp_operator.api.node import GroupReport
from carp_operator.api.reasons import ConditionType
from carp_protocol.config import Mode

from .aggregate import Complaint, Picture, complaints_of, paint
from .allocation import Claim, Running, allocate
from .decision import Decision, carry_on, decide
from .events import Event, tell_complaints, tell_handover, tell_keys, tell_transitions
from .keys import source_key
from .masters import find_masters
from .membership import Membership, runs_here, select_members
from .networks import carrier, networks_of, place_of, place_of_entry
from .render import Entry, refuse_invalid, source_address, with_handover
from .world import KeyRing, Refusal, World

HANDOVER_LIFE_S = 120.0
"""A request to hand over is for now; nobody wants it carried out after an outage of the API server."""


@dataclass(slots=True)
class Changes:
    """What became different in the world since the plan before."""

    groups: set[str] = field(default_factory=set)
    """Their spec or their user's Secret, or they are gone."""
    reports: set[str] = field(default_factory=set)
    """Groups of which a node reported something new, or whose key ring was written."""
    statuses: set[str] = field(default_factory=set)
    """Groups whose status was written, whoever did it."""
    nodes: set[str] = field(default_factory=set)
    """Nodes that came, went, or became another kind of candidate."""
    written: set[str] = field(default_factory=set)
    """CarpNodes whose spec was changed, whoever did it."""

    def __bool__(self) -> bool:
        return bool(self.groups or self.reports or self.statuses or self.nodes or self.written)


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
class _Known:
    """What is remembered of one group."""

    membership: Membership
    claim: Claim
    invalid: Refusal | None
    """What the sidecar would say."""
    objection: Refusal | None = None
    """What speaks against the group by itself."""
    outcome: int | Refusal | None = None
    """Its VHID, or why it gets none."""
    decision: Decision | None = None
    wanted: dict[str, Entry] = field(default_factory=dict)
    """Its entries, with a handover in one of them if somebody asked for it."""
    painted: Mapping[str, Any] | None = None
    """The status that it should have."""
    owed: bool = False
    """Perhaps the last plan wrote its status or its key ring; it may have failed."""
    complaints: Mapping[Complaint, str] | None = None
    refusals: Mapping[str, str] | None = None
    """Of the handover that was asked for, by node."""
    stepped: bool = False
    """Its key ring was changed: perhaps there is another step to take."""
    doubtful: bool = False
    """To be looked at again although nothing was reported."""


@dataclass(slots=True)
class _Draft:
    """A plan that is being made."""

    now: float
    rings: list[tuple[CarpGroup, KeyRing]] = field(default_factory=list)
    statuses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    """Roll calls to raise, by node."""
    touched: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By node: groups whose entries there may have to be written."""
    again_in_s: float | None = None

    def look_again(self, in_s: float | None) -> None:
        if in_s is not None:
            self.again_in_s = in_s if self.again_in_s is None else min(in_s, self.again_in_s)


class Planner:
    """``plan`` it again whenever something changed. ``make_key`` gives a new key of a mode, as a ring holds it."""

    def __init__(self, make_key: Callable[[Mode], bytes]) -> None:
        self._make_key = make_key
        self._known: dict[str, _Known] = {}
        self._wanted: defaultdict[str, dict[str, Entry]] = defaultdict(dict)
        """What every CarpNode should hold, by node and group."""
        self._owed: set[str] = set()
        """CarpNodes that the last plan wrote, if writing succeeded."""

    def plan(self, world: World, changes: Changes, now: float) -> Plan:
        """What to write; ``now`` in seconds since 1970."""
        draft = _Draft(now)
        gone = self._known.keys() - world.groups.keys()
        for name in gone:
            self._touch(world, name, draft)
            self._spread(name, {})
            del self._known[name]
        stale = self._weigh(world, changes)
        taken = self._take_note(world, (changes.statuses | (self._letting_go() if changes.written else set())) - stale)
        changed = self._allocate(world) if stale or gone or changes.nodes or taken else set()
        looked_at = self._look(world, changes)
        pending = {name for name in looked_at if self._is_pending(world, world.groups[name])}
        dirty = stale | changed | pending
        for name in sorted(dirty):
            self._decide(world, name, draft)
        for name in sorted(dirty | looked_at):
            self._tell(world, name, draft)
        for name in dirty:
            self._touch(world, name, draft)
        writes = self._writes(world, changes.written | changes.nodes | self._owed, draft)
        self._owed = {write.name for write in writes}
        return Plan(
            rings=tuple(draft.rings),
            carp_nodes=writes,
            statuses=tuple(draft.statuses),
            events=tuple(draft.events),
            again_in_s=draft.again_in_s,
        )

    # ---- who gets what ----------------------------------------------------------------------------------------

    def _weigh(self, world: World, changes: Changes) -> set[str]:
        """Looks at the groups that something changed for, each by itself; gives their names."""
        stale = (changes.groups & world.groups.keys()) | (world.groups.keys() - self._known.keys())
        for name in stale:
            self._weigh_group(world, world.groups[name], select_members(world.groups[name], world))
        for name in self._known.keys() - stale if changes.nodes else ():
            known = self._known[name]
            touched = known.membership.judge(world.groups[name], world, changes.nodes)
            if touched or not known.membership.nodes or not known.wanted.keys().isdisjoint(changes.nodes):
                stale.add(name)
                self._weigh_group(world, world.groups[name], known.membership)
        return stale

    def _take_note(self, world: World, names: Iterable[str]) -> bool:
        """Of what groups have by now, as their status says; gives whether that is news."""
        news = False
        for name in names:
            group, known = world.groups.get(name), self._known.get(name)
            if group is not None and known is not None:
                running = _running(world, group, known.claim.networks)
                news = news or running != known.claim.running
                known.claim = Claim(group, known.claim.networks, running)
        return news

    def _letting_go(self) -> set[str]:
        """Groups that have something they do not want any more: it is free when no CarpNode has it."""
        claims = {name: known.claim for name, known in self._known.items()}
        return {
            name for name, claim in claims.items() if claim.running.addresses - claim.group.hosts or claim.running.networks - claim.networks
        }

    def _weigh_group(self, world: World, group: CarpGroup, membership: Membership) -> None:
        known = self._known.get(group.name)
        invalid = known.invalid if known and known.claim.group is group else refuse_invalid(group)
        place = place_of(group)
        # Without a member: where it would be, so that its VHID is there when a member comes back.
        interfaces = membership.nodes.values() or [carrier(place, one.interfaces) for one in world.carp_nodes.values()]
        networks = networks_of(place, interfaces)
        claim = Claim(group, networks, _running(world, group, networks))
        if known is None:
            self._known[group.name] = _Known(membership, claim, invalid)
        else:
            known.membership, known.claim, known.invalid = membership, claim, invalid
        source = source_key(group, world.secrets)
        self._known[group.name].objection = invalid or membership.refusal() or (source if isinstance(source, Refusal) else None)

    def _allocate(self, world: World) -> set[str]:
        """Groups that get another VHID than before, or another answer."""
        refused = {name: known.objection for name, known in self._known.items() if known.objection}
        own = {address: node.name for node in world.nodes.values() for address in node.addresses}
        outcomes = allocate((known.claim for known in self._known.values()), own, world.first_vhid, world.last_vhid, refused)
        changed = {name for name, outcome in outcomes.items() if self._known[name].outcome != outcome}
        for name in changed:
            self._known[name].outcome = outcomes[name]
        return changed

    def _look(self, world: World, changes: Changes) -> set[str]:
        """Groups that are to be told anew: something was reported, it is time, or what the last plan wrote is not there."""
        found = changes.reports & self._known.keys()
        for name, known in self._known.items():
            if known.owed or name in changes.statuses:
                ring = known.decision.ring if known.decision else None
                known.owed = world.groups[name].status.raw != known.painted or ring not in (None, world.rings.get(name))
            if known.owed or known.doubtful:
                found.add(name)
        return found

    def _is_pending(self, world: World, group: CarpGroup) -> bool:
        """Whether what was reported may mean another step for the group: of a handover, or with its keys."""
        known, held = self._known[group.name], world.rings.get(group.name)
        ring, rotating = (known.decision.ring, known.decision.rotating) if known.decision else (None, False)
        return group.handover is not None or known.stepped or rotating or ring not in (None, held)

    # ---- what should run --------------------------------------------------------------------------------------

    def _decide(self, world: World, name: str, draft: _Draft) -> None:
        group, known = world.groups[name], self._known[name]
        ring = known.decision.ring if known.decision else None
        if isinstance(known.outcome, int):
            decision = decide(world, group, known.outcome, known.membership, ring, self._make_key)
        else:
            assert known.outcome is not None
            decision = carry_on(world, group, known.outcome, known.membership, ring)
        held = world.rings.get(name)
        known.stepped = held is not None and decision.ring not in (None, held)
        if decision.ring is not None and decision.ring != held:
            draft.rings.append((group, decision.ring))
            draft.events += tell_keys(group, held, decision.ring)
        self._touch(world, name, draft)
        known.decision = decision
        self._spread(name, decision.entries)

    def _spread(self, name: str, entries: Mapping[str, Entry]) -> None:
        """Put the entries of a group to the nodes they are for."""
        known = self._known[name]
        for node in known.wanted.keys() - entries.keys():
            del self._wanted[node][name]
        for node, entry in entries.items():
            self._wanted[node][name] = entry
        known.wanted = dict(entries)

    def _touch(self, world: World, name: str, draft: _Draft) -> None:
        """Nodes that have or should have the group are to be looked at."""
        for node in self._known[name].wanted:
            draft.touched[node].add(name)
        for node, carp_node in world.carp_nodes.items():
            if name in carp_node.spec_groups:
                draft.touched[node].add(name)

    # ---- what is ----------------------------------------------------------------------------------------------

    def _tell(self, world: World, name: str, draft: _Draft) -> None:
        group, known = world.groups[name], self._known[name]
        assert known.decision is not None
        time = format_time(draft.now)
        reports = {node: one.groups[name] for node, one in world.carp_nodes.items() if name in one.groups}
        masters = find_masters(reports, world.nodes, world.carp_nodes, draft.now, split=_was_split(group))
        picture = Picture(
            group=group, decision=known.decision, reports=reports, masters=masters, nodes=world.nodes, carp_nodes=world.carp_nodes
        )
        status = paint(picture, time)
        known.painted = status
        told_later = masters.between and group.status.master is not None
        known.owed = True
        if status != group.status.raw and not told_later:
            draft.statuses.append((name, status))
            draft.events += tell_transitions(group, status, reports, masters.outside)
        complaints = complaints_of(picture)
        draft.events += tell_complaints(group, complaints if known.complaints is None else known.complaints, complaints, time)
        known.complaints = complaints
        for node, call in (masters.ask or {}).items():
            draft.calls[node] = max(call, draft.calls.get(node, 0))
        expires_in_s = self._hand_over(world, group, reports, masters.node, draft)
        known.doubtful = masters.again_in_s is not None or expires_in_s is not None
        draft.look_again(masters.again_in_s)
        draft.look_again(expires_in_s)

    def _hand_over(self, world: World, group: CarpGroup, reports: Mapping[str, GroupReport], master: str, draft: _Draft) -> float | None:
        """Pass on a handover that was asked for and is still to do; gives the seconds until it is too late."""
        request, known = group.handover, self._known[group.name]
        if request is None or known.decision is None:
            known.refusals = {}
            return None
        left_s = HANDOVER_LIFE_S - abs(draft.now - request.at)
        done = any(report.handover_id == request.id for report in reports.values())
        refusals = {name: report.handover_refusal for name, report in reports.items() if report.handover_id == request.id}
        wrong = _wrong_target(request, master, known.decision, group.mode) if left_s > 0 and not done else ""
        refusals = {name: why for name, why in refusals.items() if why} | ({master: wrong} if wrong else {})
        draft.events += tell_handover(group, refusals if known.refusals is None else known.refusals, refusals)
        known.refusals = refusals
        if left_s <= 0 or done or wrong or master not in known.decision.entries:
            return None
        to, said = known.decision.members.get(request.to), reports.get(request.to)
        source = (said.source if said else "") or (source_address(group, to.interface, world.nodes.get(request.to)) if to else "")
        entry = with_handover(known.decision.entries[master], request, source)
        self._spread(group.name, {**known.decision.entries, master: entry})
        return left_s

    # ---- what to write ----------------------------------------------------------------------------------------

    def _writes(self, world: World, whole: set[str], draft: _Draft) -> tuple[CarpNodeWrite, ...]:
        """CarpNodes that differ from what they should be; the node that should become master first, so that it does.

        ``whole``: CarpNodes of which every entry is to be looked at.
        """
        writes = []
        for node in (whole | draft.touched.keys() | draft.calls.keys()) & world.nodes.keys():
            current, wanted, owner = world.carp_nodes.get(node), self._wanted[node], world.nodes[node].uid
            held = current.spec_groups if current else {}
            names = held.keys() | wanted.keys() if node in whole else draft.touched[node]
            differing = [name for name in names if held.get(name) != wanted.get(name)]
            call = max(draft.calls.get(node, 0), current.roll_call if current else 0)
            if current and not differing and current.owner_uid == owner and current.roll_call == call:
                continue
            best = min((wanted[name]["advskew"] for name in differing if name in wanted), default=256)
            write = CarpNodeWrite(name=node, owner_uid=owner, groups=tuple(wanted[name] for name in sorted(wanted)), roll_call=call)
            writes.append((best, node, write))
        return tuple(write for _, _, write in sorted(writes, key=lambda item: item[:2]))


def _running(world: World, group: CarpGroup, networks: frozenset[str]) -> Running:
    """What the group has, by its status and by what stands in CarpNodes: either may be written without the other."""
    entries = world.entries(group)
    moving = {node: entry for node, entry in entries.items() if not runs_here(group, entry)}
    where: frozenset[str] = networks if len(moving) < len(entries) else frozenset()
    for node, entry in moving.items():
        place = place_of_entry(entry)
        where |= networks_of(place, [carrier(place, world.carp_nodes[node].interfaces)])
    vhid = group.status.vhid or next((entry["vhid"] for entry in entries.values()), None)
    written = {text for texts in {tuple(entry["addresses"]) for entry in entries.values()} for text in texts}
    return Running(vhid, group.status.addresses | {str(ip_interface(text).ip) for text in written}, where)


def _was_split(group: CarpGroup) -> bool:
    conditions: Iterable[Mapping[str, Any]] = group.status.raw.get("conditions") or ()
    return any(condition["type"] == ConditionType.SPLIT_BRAIN and condition["status"] == "True" for condition in conditions)


def _wrong_target(request: HandoverRequest, master: str, decision: Decision, mode: Mode) -> str:
    """Why the master cannot hand over to the node that was named; empty if it can."""
    if not master or not request.to:
        return ""
    if mode is Mode.COMPATIBLE:
        return "in Compatible mode no member can be named; the best of the others takes over if none is"
    if request.to not in decision.members:
        return f"{request.to} is not a member of the group"
    return f"{request.to} has the addresses already" if request.to == master else ""
