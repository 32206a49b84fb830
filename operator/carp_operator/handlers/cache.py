"""The world as the watches tell it, and what became different since the last plan. Knows bodies of objects, neither kopf nor requests.

A report of a CarpNode changes one group, a heartbeat of a kubelet nothing: telling these apart is what keeps a large cluster cheap.
"""

__all__ = ["Cache", "Kind"]

import logging
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

from carp_operator.api.errors import BadObject
from carp_operator.api.group import CarpGroup, read_group
from carp_operator.api.names import KEY_RING_TYPE, key_ring_name
from carp_operator.api.node import Node, read_carp_node, read_node
from carp_operator.kube.bodies import read_ring, read_secret
from carp_operator.plan.keys import KEY_FIELDS
from carp_operator.plan.planner import Changes
from carp_operator.plan.world import KeyRing, World

_log = logging.getLogger(__name__)

Body = Mapping[str, Any]

_REMEMBERED = 4096
"""Deleted objects: far more than are deleted while one request is under way."""


class Kind(StrEnum):
    """What is watched."""

    GROUP = "CarpGroup"
    NODE = "Node"
    CARP_NODE = "CarpNode"
    SECRET = "Secret"  # noqa: S105  a kind of object


class Cache:
    """Fill it with ``put``, ``drop`` and ``replace_all``; take what changed with ``take_changes``."""

    def __init__(self, first_vhid: int = 1, last_vhid: int = 255) -> None:
        self.world = World(first_vhid=first_vhid, last_vhid=last_vhid)
        self._changes = Changes()
        self._versions: dict[tuple[Kind, str], int] = {}
        self._uids: dict[tuple[Kind, str], str] = {}
        self._gone: dict[str, None] = {}
        """uids of objects that were deleted: an answer to one of our own writes may come after the news of that."""
        self.ring_versions: dict[str, str] = {}
        """resourceVersion of each group's Secret, for replacing it."""
        self._put: dict[Kind, Callable[[str, Body], None]] = {
            Kind.GROUP: self._put_group,
            Kind.NODE: self._put_node,
            Kind.CARP_NODE: self._put_carp_node,
            Kind.SECRET: self._put_secret,
        }
        self._drop: dict[Kind, Callable[[str], None]] = {
            Kind.GROUP: self._drop_group,
            Kind.NODE: self._drop_node,
            Kind.CARP_NODE: self._drop_carp_node,
            Kind.SECRET: self._drop_secret,
        }

    def take_changes(self) -> Changes:
        """What became different since this was last called."""
        taken, self._changes = self._changes, Changes()
        return taken

    def only_reports(self) -> bool:
        """Whether nothing changed but what nodes see."""
        changes = self._changes
        return bool(changes.reports or changes.statuses) and not (changes.groups or changes.nodes or changes.written)

    def give_back(self, changes: Changes) -> None:
        """What could not be acted upon: it comes again with the next changes."""
        self._changes.groups |= changes.groups
        self._changes.reports |= changes.reports
        self._changes.statuses |= changes.statuses
        self._changes.written |= changes.written
        self._changes.nodes |= changes.nodes

    def put(self, kind: Kind, body: Body) -> None:
        """An object as it is now. An older version than the one known is a watch that lags behind what we have written ourselves."""
        metadata = body.get("metadata") or {}
        name, uid = str(metadata.get("name", "")), str(metadata.get("uid", ""))
        version = metadata.get("resourceVersion", "")
        number = int(version) if str(version).isdigit() else 0
        if number < self._versions.get((kind, name), 0) or (uid and uid in self._gone):
            return
        self._versions[kind, name] = number
        self._uids[kind, name] = uid
        try:
            self._put[kind](name, body)
        except BadObject as error:
            _log.error("%s", error)

    def drop(self, kind: Kind, body: Body) -> None:
        """An object that is gone; another one of its name may be there already."""
        name, uid = str(body["metadata"]["name"]), str(body["metadata"].get("uid", ""))
        if self._uids.get((kind, name), uid) == uid:
            self._forget(kind, name)
        self._gone[uid] = None
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _forget(self, kind: Kind, name: str) -> None:
        self._versions.pop((kind, name), None)
        self._uids.pop((kind, name), None)
        self._drop[kind](name)

    def replace_all(self, kind: Kind, bodies: Iterable[Body], version: int) -> None:
        """Every object of a kind as of ``version``: those that are not among them are gone, unless they came later."""
        names = set()
        for body in bodies:
            names.add(body["metadata"]["name"])
            self.put(kind, body)
        known = [(name, number) for (known_kind, name), number in self._versions.items() if known_kind is kind]
        for name, number in known:
            if name not in names and number <= version:
                self._forget(kind, name)

    # ---- groups -----------------------------------------------------------------------------------------------

    def _put_group(self, name: str, body: Body) -> None:
        if (body.get("metadata") or {}).get("deletionTimestamp"):
            self._drop_group(name)
            return
        group, known = read_group(body), self.world.groups.get(name)
        self.world.groups[name] = group
        if known is None or _wishes(group) != _wishes(known):
            self._changes.groups.add(name)
        elif group.status != known.status:
            self._changes.statuses.add(name)

    def _drop_group(self, name: str) -> None:
        if self.world.groups.pop(name, None) is not None:
            self._changes.groups.add(name)

    # ---- nodes ------------------------------------------------------------------------------------------------

    def _put_node(self, name: str, body: Body) -> None:
        node, known = read_node(body), self.world.nodes.get(name)
        self.world.nodes[name] = node
        if known is None or _standing(node) != _standing(known):
            self._changes.nodes.add(name)
        if known is None or node.ready != known.ready:
            self._report_all(name)

    def _drop_node(self, name: str) -> None:
        if self.world.nodes.pop(name, None) is not None:
            self._changes.nodes.add(name)
            self._report_all(name)

    def _put_carp_node(self, name: str, body: Body) -> None:
        known = self.world.carp_nodes.get(name)
        now = read_carp_node(body, known)
        self.world.carp_nodes[name] = now
        if known is None or (now.reported, now.interfaces) != (known.reported, known.interfaces):
            self._changes.nodes.add(name)
        if known is None or (now.spec_groups, now.owner_uid, now.roll_call) != (known.spec_groups, known.owner_uid, known.roll_call):
            self._changes.written.add(name)
        answered = known is not None and now.observed_generation != known.observed_generation and now.roll_call > 0
        if known is None or answered or (now.sidecar_running, now.problems) != (known.sidecar_running, known.problems):
            self._report_all(name)
        if known is not None and now.groups != known.groups:
            names = now.groups.keys() | known.groups.keys()
            self._changes.reports |= {group for group in names if now.groups.get(group) != known.groups.get(group)}

    def _drop_carp_node(self, name: str) -> None:
        self._report_all(name)
        if self.world.carp_nodes.pop(name, None) is not None:
            self._changes.nodes.add(name)

    def _report_all(self, node: str) -> None:
        """Something about the whole node changed: every group of it is to be told anew."""
        carp_node = self.world.carp_nodes.get(node)
        if carp_node is not None:
            self._changes.reports |= carp_node.groups.keys() | carp_node.spec_groups.keys()

    # ---- secrets ----------------------------------------------------------------------------------------------

    def _put_secret(self, name: str, body: Body) -> None:
        if (found := read_ring(body)) is not None:
            self._put_ring(*found, str(body["metadata"].get("resourceVersion", "")))
            return
        ours = body.get("type") == KEY_RING_TYPE
        entries = {} if ours else {field: value for field, value in read_secret(body).items() if field in KEY_FIELDS}
        if self.world.secrets.get(name) != entries:
            self.world.secrets[name] = entries
            self._touch_users(name)

    def _put_ring(self, name: str, ring: KeyRing, version: str) -> None:
        self.ring_versions[name] = version
        if self.world.secrets.pop(key_ring_name(name), None) is not None:
            self._touch_users(key_ring_name(name))
        if self.world.rings.get(name) != ring:
            self.world.rings[name] = ring
            self._changes.reports.add(name)

    def _drop_secret(self, name: str) -> None:
        if self.world.secrets.pop(name, None) is not None:
            self._touch_users(name)
        for group in [one for one in self.world.rings if key_ring_name(one) == name]:
            del self.world.rings[group]
            self._changes.reports.add(group)
        for group in [one for one in self.ring_versions if key_ring_name(one) == name]:
            del self.ring_versions[group]

    def _touch_users(self, secret: str) -> None:
        self._changes.groups |= {name for name, group in self.world.groups.items() if secret in (group.secret, key_ring_name(name))}


def _wishes(group: CarpGroup) -> tuple[object, ...]:
    """What a user can change about a group."""
    return group.uid, group.generation, group.rotate_key, group.handover


def _standing(node: Node) -> tuple[object, ...]:
    """What makes a node another kind of candidate; its being ready does not: that is for its members to show."""
    return node.uid, node.labels, node.cordoned, node.maintenance, node.addresses
