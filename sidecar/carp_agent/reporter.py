"""When and what to write into the status of the CarpNode: the whole, when something changed, and again until it is written.

Pure but for the one request in ``write``. A status is replaced as a whole by one JSON patch: what is not true any more is not in it,
nothing of the object but its status is touched, there is no conflict with the operator, and ``test`` keeps the report of an object from
one of the same name that was made anew. A merge patch would leave what is not named, and an apply what another manager once wrote.
"""

from __future__ import annotations

__all__ = ["Report", "Reporter", "write"]

from carp_agent import __version__
from carp_agent.carpnode import PATH, CarpNode
from carp_agent.errors import ApiError
from carp_agent.programme import Attempt, Programme
from carp_agent.report import Memory, Picture, build_untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from carp_agent.kubeapi import Connection
    from carp_agent.sidecar import Update

_RETRY_S = (0.2, 30.0)
_UNREACHABLE_S = 5.0
"""Longest wait while nobody listens: an attempt costs the API server nothing."""
_ONLY_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
"""The answer to a patch holds the object; nobody here reads it."""


class Report:
    """One status that is on its way."""

    __slots__ = ("name", "status", "uid")

    def __init__(self, node: CarpNode, status: dict[str, Any]) -> None:
        self.name = node.name
        self.uid = node.uid
        self.status = status


def write(connection: Connection, report: Report) -> ApiError | None:
    """Replace the status; an error if that did not work."""
    patch = [
        {"op": "test", "path": "/metadata/uid", "value": report.uid},
        {"op": "add", "path": "/status", "value": report.status},
    ]
    try:
        connection.request(
            "PATCH",
            f"{PATH}/{report.name}/status?fieldManager=carp-agent",
            patch,
            media_type="application/json-patch+json",
            accept=_ONLY_METADATA,
        )
    except ApiError as error:
        return error
    return None


class Reporter:
    """Knows what the sidecar says, what was written, and what is to be written."""

    def __init__(self) -> None:
        self._memory = Memory()
        self._uid = ""
        self._last: dict[str, Any] = {}
        self._written: dict[str, Any] | None = None
        self._attempt = Attempt(*_RETRY_S)
        self.document: Mapping[str, Any] | None = None
        """What the sidecar says; None: nothing yet, or it is absent."""
        self.absent = False
        """There is no sidecar."""

    @property
    def config(self) -> Mapping[str, Any]:
        """``config`` of the sidecar's status."""
        config = (self.document or {}).get("config")
        return config if isinstance(config, dict) else {}

    @property
    def started(self) -> str:
        """When the sidecar started; empty if there is none."""
        return str((self.document or {}).get("started", ""))

    @property
    def groups(self) -> frozenset[str]:
        """The groups that the sidecar runs."""
        groups = (self.document or {}).get("groups")
        return frozenset(str(group["name"]) for group in groups) if isinstance(groups, list) else frozenset()

    def heard_untrusted(self, update: Update, now: float) -> None:
        """The sidecar said something, or is gone. Raises BadAnswer, and keeps what was known before."""
        if update.document is not None:
            self._memory.observe_untrusted(update.document, update.conflicts, now)
        self.document, self.absent = update.document, update.document is None

    def found(self, node: CarpNode) -> None:
        """The CarpNode is there; that of an agent before this one, or of an object before this one, is where we go on from."""
        if node.uid != self._uid:
            self._attempt.reset()
            self._last = self._last if self._uid else node.status
            self._uid, self._written = node.uid, node.status

    def next_untrusted(self, programme: Programme, handovers: Mapping[str, dict[str, Any]], time: str, now: float) -> Report | None:
        """What to write now. Raises BadAnswer."""
        node = programme.node
        if node is None or not (self.absent or self.document):
            return None
        picture = Picture(
            self.document,
            time=time,
            agent_version=__version__,
            generation=programme.running_generation(self.config),
            problems=programme.running_problems(self.config),
            versions=programme.running_versions(self.config),
            handovers=handovers,
        )
        self._last = build_untrusted(picture, self._last, self._memory, now)
        if self._last == self._written or now < self._attempt.due:
            return None
        return Report(node, self._last)

    def ended(self, report: Report, error: ApiError | None, now: float) -> None:
        """What came of it."""
        if error is not None:
            self._attempt.failed(now, longest_s=_UNREACHABLE_S if error.unreachable else None)
        elif report.uid == self._uid:
            self._attempt.reset()
            self._written = report.status

    def hurry(self) -> None:
        """The API server answers again."""
        self._attempt.reset()

    @property
    def settled(self) -> bool:
        """Whether all that is known is written."""
        return self._last == self._written

    @property
    def due(self) -> float:
        """When a failed one is tried again."""
        return 0.0 if self.settled else self._attempt.due
