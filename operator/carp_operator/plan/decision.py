"""What one group should run: on which nodes, with which ranks and keys. Or, when its newest version is refused, what goes on running."""

__all__ = ["Decision", "carry_on", "decide"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from carp_operator.api.group import CarpGroup
from carp_operator.api.reasons import Reason
from carp_protocol.config import Mode

from .keys import next_ring, source_key
from .membership import Membership
from .ranks import rank_members
from .render import Entry, demotion_of, entries_for, refresh_entry
from .world import KeyRing, Member, Refusal, World

_NO_MEMBER = {Reason.NO_ELIGIBLE_NODE, Reason.INTERFACE_NOT_FOUND}


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided for one group."""

    refusal: Refusal | None
    members: Mapping[str, Member]
    """Best rank first."""
    entries: Mapping[str, Entry]
    """What each member's CarpNode should hold; empty: nothing runs."""
    ring: KeyRing | None
    """The key ring to have; None: none is needed."""

    @property
    def rotating(self) -> bool:
        return self.ring is not None and len(self.ring.keys) > 1


def decide(
    world: World, group: CarpGroup, vhid: int, membership: Membership, before: KeyRing | None, make_key: Callable[[Mode], bytes]
) -> Decision:
    """For a group that is accepted. ``before``: the ring that was decided last, to be put back if somebody deleted it."""
    ranks = rank_members(group.name, membership.nodes, group.priorities)
    members = {
        node: Member(node=node, advskew=advskew, demotion=demotion_of(group, world.nodes.get(node)), interface=membership.nodes[node])
        for node, advskew in ranks.items()
    }
    held = world.entries(group)
    ring = world.rings.get(group.name, before)
    entries = entries_for(group, vhid, members, ring, world.nodes, held) if ring else {}
    source = source_key(group, world.secrets)
    after = next_ring(
        group,
        ring,
        source if isinstance(source, bytes) else None,
        known=_known_keys(world, group.name),
        settled=_settled(world, group.name, entries),
        make=lambda: make_key(group.mode),
    )
    if after is not None:
        ring, entries = after, entries_for(group, vhid, members, after, world.nodes, held)
    return Decision(None, members, entries, ring)


def carry_on(world: World, group: CarpGroup, refusal: Refusal, membership: Membership, before: KeyRing | None) -> Decision:
    """For a group whose newest version is refused: what runs goes on as it is, on nodes that may still be members."""
    entries, members = {}, {}
    for node, entry in world.entries(group).items():
        if refusal.reason in _NO_MEMBER and not group.node_selector.matches(world.nodes[node].labels):
            continue
        demotion = demotion_of(group, world.nodes[node])
        entries[node] = refresh_entry(entry, demotion)
        members[node] = Member(node=node, advskew=entry.get("advskew", 0), demotion=demotion, interface=membership.nodes.get(node))
    ranked = dict(sorted(members.items(), key=lambda item: (item[1].advskew, item[0])))
    lost = before if entries and refusal.reason is not Reason.SECRET_TAKEN else None
    return Decision(refusal, ranked, entries, world.rings.get(group.name, lost) if entries else None)


def _known_keys(world: World, group: str) -> frozenset[str]:
    """Names of keys that some node may still have."""
    entries: list[Mapping[str, Any]] = [one.spec_groups[group] for one in world.carp_nodes.values() if group in one.spec_groups]
    found: set[str] = set()
    for entry in entries:
        authentication = entry.get("authentication") or {}
        found |= {authentication.get("sign", ""), *(authentication.get("accept") or ())}
    return frozenset(found)


def _settled(world: World, group: str, entries: Mapping[str, Entry]) -> bool:
    """Whether every member runs exactly its entry, and nobody else runs the group."""
    reports = {name: one.groups[group] for name, one in world.carp_nodes.items() if name in world.nodes and group in one.groups}
    return reports.keys() == entries.keys() and all(report.version == entries[name]["version"] for name, report in reports.items())
