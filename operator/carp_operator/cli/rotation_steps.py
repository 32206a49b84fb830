"""How far the rotation of a key has got, from what each node should run and what it says it runs. Pure; sees names of keys, never a key."""

__all__ = ["Phase", "Rotation", "read_rotation"]

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from carp_operator.api.node import CarpNode
from carp_operator.plan.world import key_number


class Phase(IntEnum):
    """What is ordered, for one signing key in the order in which it comes."""

    SEND = 0
    """It signs, and the one before is still believed."""
    SETTLED = 1
    """It is the only one."""
    ACCEPT = 2
    """A newer one is believed already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The newest order that any node has, and who has not followed it."""

    signing: str
    """Name of the key that signs."""
    phase: Phase
    nodes: tuple[str, ...]
    waiting: Mapping[str, str]
    """Nodes that have not followed, and what hinders each, as far as it is known."""

    @property
    def settled(self) -> bool:
        return self.phase is Phase.SETTLED and not self.waiting


def read_rotation(group: str, carp_nodes: Mapping[str, CarpNode]) -> Rotation | None:
    """None: no node runs the group."""
    entries = {name: node.spec_groups[group] for name, node in sorted(carp_nodes.items()) if group in node.spec_groups}
    if not entries:
        return None
    orders = {name: _order(entry) for name, entry in entries.items()}
    newest = max(orders.values())
    waiting = {
        name: _hindrance(carp_nodes[name])
        for name, entry in entries.items()
        if orders[name] != newest or not _runs(carp_nodes[name], group, entry)
    }
    signing = next(entry["authentication"]["sign"] for name, entry in entries.items() if orders[name] == newest)
    return Rotation(signing=signing, phase=newest[1], nodes=tuple(entries), waiting=waiting)


def _order(entry: Mapping[str, Any]) -> tuple[int, Phase]:
    """What the entry orders, so that a later order compares as greater."""
    authentication = entry["authentication"]
    signing = key_number(authentication["sign"])
    accepted = [key_number(name) for name in authentication.get("accept") or ()]
    if not accepted:
        return signing, Phase.SETTLED
    return signing, Phase.ACCEPT if max(accepted) > signing else Phase.SEND


def _runs(carp_node: CarpNode, group: str, entry: Mapping[str, Any]) -> bool:
    report = carp_node.groups.get(group)
    return report is not None and report.version == entry.get("version")


def _hindrance(carp_node: CarpNode) -> str:
    if carp_node.problems:
        return carp_node.problems[0]
    if not carp_node.reported:
        return "no agent reports from it"
    return "" if carp_node.sidecar_running else "its sidecar does not run"
