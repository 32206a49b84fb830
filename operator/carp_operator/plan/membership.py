"""Which nodes are members of a group, and on which interface. Every "no" has a reason.

A node joins when its labels are selected and its agent has reported an interface that fits. It leaves when it is not selected any more, or
when the group moves to another network; an interface that is missing for a while, or a report that is, changes nothing: the sidecar knows
better than a cache.
"""

__all__ = ["Membership", "runs_here", "select_members"]

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

from carp_operator.api.group import CarpGroup
from carp_operator.api.node import Interface
from carp_operator.api.reasons import Reason

from .networks import carrier, place_of
from .world import Refusal, World

_NOT_SELECTED, _NOT_REPORTING = "not selected by nodeSelector", "without an agent that reports (does the DaemonSet run there?)"


@dataclass(slots=True)
class Membership:
    """Nodes that can run a group, with the interface they would use, and why the others cannot."""

    nodes: dict[str, Interface | None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def refusal(self) -> Refusal | None:
        """Why nobody can run it; None if somebody can."""
        if self.nodes:
            return None
        reasons = sorted(self.refused.values())
        counted = "; ".join(f"{_count(reasons.count(reason))} {reason}" for reason in sorted(set(reasons)))
        without_interface = reasons and not {_NOT_SELECTED, _NOT_REPORTING}.issuperset(reasons)
        reason = Reason.INTERFACE_NOT_FOUND if without_interface else Reason.NO_ELIGIBLE_NODE
        return Refusal(reason, f"no node can be a member: {counted or 'the cluster has no nodes'}")

    def judge(self, group: CarpGroup, world: World, names: Iterable[str]) -> bool:
        """Look at these nodes again; gives whether one of them is a member, or was one, or has another reason."""
        touched = False
        for name in names:
            reason, known = self.refused.pop(name, None), name in self.nodes
            self.nodes.pop(name, None)
            if name in world.nodes:
                verdict = _judge(group, world, name)
                if isinstance(verdict, str):
                    self.refused[name] = verdict
                else:
                    self.nodes[name] = verdict
            touched = touched or known or name in self.nodes or self.refused.get(name) != reason
        return touched


def _count(number: int) -> str:
    return "1 node" if number == 1 else f"{number} nodes"


def select_members(group: CarpGroup, world: World) -> Membership:
    membership = Membership()
    membership.judge(group, world, world.nodes)
    return membership


def _judge(group: CarpGroup, world: World, name: str) -> Interface | str | None:
    """The interface, None if the member has none now, or why it is no member."""
    if not group.node_selector.matches(world.nodes[name].labels):
        return _NOT_SELECTED
    carp_node = world.carp_nodes.get(name)
    found = carrier(place_of(group), carp_node.interfaces) if carp_node else None
    if found is None and not runs_here(group, world.entry(group, name)):
        return _wanted(group) if carp_node and carp_node.reported else _NOT_REPORTING
    return found


def runs_here(group: CarpGroup, entry: Mapping[str, Any] | None) -> bool:
    """Whether the entry is on the network where the group is now."""
    return (
        entry is not None
        and (entry["addresses"][0] == group.written[0] or ip_interface(entry["addresses"][0]).ip == group.addresses[0].ip)
        and entry.get("interface") == group.interface
        and entry.get("interfacePattern") == group.interface_pattern
    )


def _wanted(group: CarpGroup) -> str:
    if group.interface:
        return f"without an interface {group.interface}"
    if group.interface_pattern:
        return f"without an interface whose name matches {group.interface_pattern!r}"
    return f"without an interface whose subnet holds {group.addresses[0].ip} (name one in spec.interface to use it all the same)"
