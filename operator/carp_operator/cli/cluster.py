"""The cluster as ``kubectl carp`` uses it: a few reads, three annotations. Every failure is a sentence that says what to do.

Needs to read CarpGroups and CarpNodes. Nodes, Events and the operator's lease are read where the user may; nothing here reads a Secret.
"""

__all__ = ["Cluster", "Requests"]

import re
from collections.abc import Mapping
from typing import Any, Protocol

from carp_operator.api.errors import OperatorError
from carp_operator.api.group import parse_time
from carp_operator.api.names import MANAGER
from carp_operator.api.node import CarpNode, Node, read_carp_node, read_node
from carp_operator.kube import paths

from .seen import EventSeen, GroupSeen, OperatorSeen, Snapshot, read_event, read_operator, see_group
from .words import unknown

Json = dict[str, Any]

FIELD_MANAGER = "kubectl-carp"
_EVENTS_NAMESPACE = "default"
"""Where Events about cluster-scoped objects are."""
_FORBIDDEN, _NOT_FOUND = 403, 404
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class _NoName(OperatorError):
    """What cannot be the name of an object; as part of a path it would mean something else."""

    status = _NOT_FOUND


class Requests(Protocol):
    """What is needed of ``kube.api.Api``: the interface, so that nothing of the ``kubernetes`` package is loaded for it."""

    server: str

    def list(self, path: str) -> tuple[list[Json], int]: ...
    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, kind: str = "json", query: Mapping[str, str] | None = None
    ) -> Any: ...


class Cluster:
    """One cluster as one user; ``namespace`` is the operator's."""

    def __init__(self, api: Requests, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    # ---- reads ------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Everything that ``status`` shows."""
        groups = sorted(map(see_group, self._ours(paths.carp_groups())), key=lambda group: group.name)
        return Snapshot(groups=tuple(groups), nodes=self.nodes(), carp_nodes=self.carp_nodes(), operator=self._operator())

    def groups(self) -> dict[str, GroupSeen]:
        return {group.name: group for group in map(see_group, self._ours(paths.carp_groups()))}

    def group(self, name: str) -> GroupSeen:
        """One group; an error that names those there are."""
        try:
            return see_group(self._named(paths.carp_groups(), name))
        except OperatorError as error:
            if _status(error) != _NOT_FOUND:
                raise
            raise OperatorError(unknown("CarpGroup", name, list(self.groups()))) from error

    def carp_nodes(self) -> dict[str, CarpNode]:
        return {node.name: node for node in map(read_carp_node, self._ours(paths.carp_nodes()))}

    def carp_node(self, name: str) -> CarpNode | None:
        found = self._optional(paths.carp_node(name), _NOT_FOUND)
        return None if found is None else read_carp_node(found)

    def nodes(self) -> dict[str, Node] | None:
        """None if the user may not list them."""
        try:
            bodies, _ = self._api.list(paths.nodes())
        except OperatorError as error:
            if _status(error) != _FORBIDDEN:
                raise
            return None
        return {node.name: node for node in map(read_node, bodies)}

    def node(self, name: str) -> Node:
        """One node; an error that names those there are."""
        try:
            return read_node(self._named(paths.nodes(), name))
        except OperatorError as error:
            if _status(error) != _NOT_FOUND:
                raise
            raise OperatorError(unknown("node", name, list(self.nodes() or ()))) from error

    def events(self, group: str) -> list[EventSeen]:
        """Those about a group, the oldest first; none if the user may not see them."""
        selector = f"regarding.kind=CarpGroup,regarding.name={group}"
        try:
            found = self._api.request("GET", paths.events(_EVENTS_NAMESPACE), query={"fieldSelector": selector})
        except OperatorError as error:
            if _status(error) != _FORBIDDEN:
                raise
            return []
        return sorted(map(read_event, found.get("items") or ()), key=lambda event: event.time)

    def _operator(self) -> OperatorSeen | None:
        found = self._optional(paths.lease(self.namespace, MANAGER), _NOT_FOUND, _FORBIDDEN)
        return None if found is None else read_operator(found)

    def _ours(self, path: str) -> list[Json]:
        try:
            return self._api.list(path)[0]
        except OperatorError as error:
            if _status(error) != _NOT_FOUND:
                raise
            raise OperatorError(f"{self._api.server} knows no CarpGroups: kubecarp is not installed there; install its chart") from error

    def _named(self, folder: str, name: str) -> Json:
        if not _NAME.fullmatch(name):
            raise _NoName(name)
        found: Json = self._api.request("GET", f"{folder}/{name}")
        return found

    def _optional(self, path: str, *tolerated: int) -> Json | None:
        try:
            found: Json = self._api.request("GET", path)
        except OperatorError as error:
            if _status(error) not in tolerated:
                raise
            return None
        return found

    # ---- writes -----------------------------------------------------------------------------------------------

    def annotate_group(self, name: str, key: str, value: str | None) -> float | None:
        """Set an annotation of a CarpGroup, None removes it; gives the time of the API server (seconds since 1970), if it told."""
        return self._annotate(paths.carp_group(name), key, value)

    def annotate_node(self, name: str, key: str, value: str | None) -> None:
        """Set an annotation of a Node; None removes it."""
        self._annotate(f"{paths.nodes()}/{name}", key, value)

    def _annotate(self, path: str, key: str, value: str | None) -> float | None:
        body = {"metadata": {"annotations": {key: value}}}
        changed = self._api.request("PATCH", path, body, kind="merge", query={"fieldManager": FIELD_MANAGER})
        fields = (changed.get("metadata") or {}).get("managedFields") or ()
        return next((parse_time(entry.get("time") or "") for entry in fields if entry.get("manager") == FIELD_MANAGER), None)


def _status(error: OperatorError) -> int:
    """The HTTP status of a refusal; 0 for any other failure."""
    status = getattr(error, "status", 0)
    return status if isinstance(status, int) else 0
