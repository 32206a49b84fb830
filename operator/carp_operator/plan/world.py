"""What the decisions are made from, and the words they are made in."""

__all__ = ["KeyRing", "Member", "Refusal", "World", "key_number"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carp_operator.api.group import CarpGroup
from carp_operator.api.node import CarpNode, Interface, Node
from carp_operator.api.reasons import Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """A "no" with its reason: a word for programs and a sentence that says what to do."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node that runs a group."""

    node: str
    advskew: int = 0
    demotion: int = 0
    interface: Interface | None = None
    """The interface it would run on, as far as the node has told."""

    @property
    def priority(self) -> int:
        return 255 - self.advskew


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The keys of a group, by their name in the Secret. One signs; the others are believed."""

    sign: str
    keys: Mapping[str, bytes] = field(repr=False)
    rotated_for: str = ""
    """The request that made the newest key."""
    owner: str = ""
    """uid of the group it belongs to: a ring of an earlier group of the same name is none."""

    @property
    def accept(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.keys if name != self.sign))

    @property
    def newest(self) -> str:
        return max(self.keys, key=key_number)


def key_number(name: str) -> int:
    """The number in ``key-3``; 0 for a name that the operator has not given."""
    number = name.removeprefix("key-")
    return int(number) if number.isascii() and number.isdigit() else 0


@dataclass(slots=True)
class World:
    """Everything the operator has seen, by name. Whoever fills it says what changed; the planner never asks."""

    groups: dict[str, CarpGroup] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    carp_nodes: dict[str, CarpNode] = field(default_factory=dict)
    rings: dict[str, KeyRing] = field(default_factory=dict)
    """By group."""
    secrets: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Other Secrets of the operator's namespace, of which users' groups may name one."""
    first_vhid: int = 1
    last_vhid: int = 255

    def entry(self, group: CarpGroup, node: str) -> Mapping[str, Any] | None:
        """What the node's CarpNode holds of the group; what is left of an earlier group of its name is not of it."""
        carp_node = self.carp_nodes.get(node)
        entry = carp_node.spec_groups.get(group.name) if carp_node else None
        return entry if entry is not None and self._has_run(group) else None

    def entries(self, group: CarpGroup) -> dict[str, Mapping[str, Any]]:
        """The same of every node there is."""
        if not self._has_run(group):
            return {}
        found = ((name, one.spec_groups.get(group.name)) for name, one in self.carp_nodes.items() if name in self.nodes)
        return {name: entry for name, entry in found if entry is not None}

    def _has_run(self, group: CarpGroup) -> bool:
        """Its status says so, or its key ring: that is written before anything runs."""
        ring = self.rings.get(group.name)
        return group.status.vhid is not None or (ring is not None and ring.owner == group.uid)
