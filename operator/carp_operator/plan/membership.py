"""Which nodes are members of a group, and on which interface. Every "no" has a reason.

A node joins when its labels are selected and its agent has reported an interface that fits. It leaves when it is not selected any more, or
when the group moves to another network; an interface that is missing for a while, or a report that is, changes nothing: the sidecar knows
better than a cache.
"""

__all__ = ["Membership", "carrier", "select_members"]

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from carp_operator.api.group import CarpGroup
from carp_operator.api.node import CarpNode, Interface, Node
from carp_operator.api.reasons import Reason

from .world import Refusal, World

_NOT_SELECTED, _NOT_REPORTING = "not selected by nodeSelector", "without an agent that reports (does the DaemonSet run there?)"


@dataclass(frozen=True, slots=True)
class Membership:
    """Nodes that can run a group, with the interface they would use, and why the others cannot."""

    nodes: Mapping[str, Interface | None] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def refusal(self) -> Refusal | None:
        """Why nobody can run it; None if somebody can."""
        if self.nodes:
            return None
        reasons = sorted(self.refused.values())
        counted = "; ".join(f"{_count(reasons.count(reason))} {reason}" for reason in sorted(set(reasons)))
        without_interface = reasons and not {_NOT_SELECTED, _NOT_REPORTING}.issuperset(reasons)
        reason = Reason.INTERFACE_NOT_FOUND if without_interface else Reason.NO_ELIGIBLE_NODE
        return Refusal(reason, f"no node can be a member: {counted or 'the cluster has no nodes'}")


def _count(number: int) -> str:
    return "1 node" if number == 1 else f"{number} nodes"


def select_members(group: CarpGroup, world: World) -> Membership:
    nodes: dict[str, Interface | None] = {}
    refused: dict[str, str] = {}
    for name in sorted(world.nodes):
        verdict = _judge(group, world.nodes[name], world.carp_nodes.get(name))
        if isinstance(verdict, str):
            refused[name] = verdict
        else:
            nodes[name] = verdict[0]
    return Membership(nodes, refused)


def _judge(group: CarpGroup, node: Node, carp_node: CarpNode | None) -> tuple[Interface | None] | str:
    """The interface as a tuple of one, or why not."""
    if not group.node_selector.matches(node.labels):
        return _NOT_SELECTED
    if carp_node is None or not carp_node.reported:
        return _NOT_REPORTING
    found = carrier(group, carp_node.interfaces)
    if found is None and not _is_member(group, carp_node):
        return _wanted(group)
    return (found,)


def _is_member(group: CarpGroup, carp_node: CarpNode) -> bool:
    """Whether it runs the group already, on the network where the group is now."""
    entry = carp_node.spec_groups.get(group.name)
    return (
        entry is not None
        and entry.get("addresses", [""])[0] == group.written[0]
        and entry.get("interface") == group.interface
        and entry.get("interfacePattern") == group.interface_pattern
    )


def _wanted(group: CarpGroup) -> str:
    if group.interface:
        return f"without an interface {group.interface}"
    if group.interface_pattern:
        return f"without an interface whose name matches {group.interface_pattern!r}"
    return f"without an interface whose subnet holds {group.addresses[0].ip} (name one in spec.interface to use it all the same)"


def carrier(group: CarpGroup, interfaces: Iterable[Interface]) -> Interface | None:
    """The interface a sidecar takes for the group (the same rule as its own): by name, by pattern, or by the first address's subnet."""
    if group.interface:
        return next((one for one in interfaces if one.name == group.interface), None)
    first = group.addresses[0].ip
    candidates = sorted(interfaces, key=lambda one: one.name)
    if group.interface_pattern:
        candidates = [one for one in candidates if _found(group.interface_pattern, one.name)]
    with_subnet = [
        (own.network.prefixlen, one) for one in candidates for own in one.addresses if own.version == first.version and first in own.network
    ]
    if with_subnet:
        return max(with_subnet, key=lambda pair: pair[0])[1]
    return candidates[0] if group.interface_pattern and candidates else None


def _found(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return False
