"""What would happen to every address if a node went: the next master of each, or that there is none. Pure.

By the reported state, and by the order in which members take over (``plan.successor``).
"""

__all__ = ["Drain", "Move", "Stay", "simulate"]

from collections.abc import Iterable
from dataclasses import dataclass

from carp_operator.api.names import CORDON_DEMOTION
from carp_operator.plan.successor import successor

from .seen import GroupSeen
from .words import listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An address that leaves the node."""

    address: str
    group: str
    next: str
    """Empty: no member could take it over."""
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A group that the node is a member of, and has not."""

    group: str
    master: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """The outcome."""

    node: str
    moves: tuple[Move, ...]
    stays: tuple[Stay, ...]

    @property
    def lost(self) -> list[str]:
        """Addresses that nobody would have."""
        return [move.address for move in self.moves if not move.next]


def simulate(node: str, groups: Iterable[GroupSeen]) -> Drain:
    moves: list[Move] = []
    stays: list[Stay] = []
    for group in sorted(groups, key=lambda one: one.name):
        if group.master == node:
            moves += _moves(node, group)
        elif group.member(node) is not None:
            stays.append(Stay(group=group.name, master=group.master, note=_stay_note(node, group)))
    return Drain(node=node, moves=tuple(moves), stays=tuple(stays))


def _moves(node: str, group: GroupSeen) -> Iterable[Move]:
    best, note = _best(group, {node}), ""
    taker = group.member(best)
    if not best:
        said = [f"{one.node}: {one.message or one.reason or 'not ready'}" for one in group.members if one.node != node]
        note = listed(said) or "it has no other member"
    elif group.keeps_on_cordon:
        note = "when the node goes down: onCordon is Keep"
    elif taker is not None and taker.demotion >= CORDON_DEMOTION:
        note = f"when the node goes down: {best} is demoted by {taker.demotion}"
    return [Move(address=address, group=group.name, next=best, note=note) for address in group.addresses]


def _stay_note(node: str, group: GroupSeen) -> str:
    if not group.master:
        return "nobody has it now"
    return "" if _best(group, {node, group.master}) else f"without a backup for {group.master} then"


def _best(group: GroupSeen, without: set[str]) -> str:
    waiting = {one.node: (one.demotion, one.advskew) for one in group.members if one.ready and one.node not in without}
    best = successor(waiting, group.mode, group.dialect)
    if not best and len(group.members) < group.member_count and group.next not in without:
        return group.next  # a member that the status has no room for
    return best
