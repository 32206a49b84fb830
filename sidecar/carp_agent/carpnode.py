"""The CarpNode of this node, out of what the API server sends. Pure; knows the envelope, not what is in ``spec``."""

from __future__ import annotations

__all__ = ["PATH", "CarpNode", "Event", "parse_event_untrusted", "parse_list_untrusted"]

import json
import re

from carp_agent.errors import BadAnswer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATH = "/apis/kubecarp.io/v1alpha1/carpnodes"

_VERSION = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
"""A resourceVersion is opaque, but it goes into a URL."""
_GONE = 410


class CarpNode:
    """One version of the object."""

    __slots__ = ("generation", "name", "spec", "status", "uid")

    def __init__(self, name: str, uid: str, generation: int, spec: dict[str, Any], status: dict[str, Any]) -> None:
        self.name = name
        self.uid = uid
        self.generation = generation
        self.spec = spec
        self.status = status

    @property
    def version(self) -> tuple[str, int]:
        """What tells one specification from another; a generation alone begins anew with a new object."""
        return self.uid, self.generation

    @property
    def groups(self) -> list[dict[str, Any]]:
        """``spec.groups``, without anything that is not an object."""
        groups = self.spec.get("groups")
        return [group for group in groups if isinstance(group, dict)] if isinstance(groups, list) else []


class Event:
    """One line of a watch. ``node`` is the object as it is now, or None if it is gone or if the line is about nothing."""

    __slots__ = ("bookmark", "expired", "node", "version")

    def __init__(self, version: str, node: CarpNode | None, *, bookmark: bool = False, expired: bool = False) -> None:
        self.version = version
        self.node = node
        self.bookmark = bookmark
        """Only the version counts."""
        self.expired = expired
        """The version from which the watch began is too old: list again."""


def parse_list_untrusted(data: bytes, name: str) -> tuple[CarpNode | None, str]:
    """The object in a list, or None, and the version to watch from. Raises BadAnswer."""
    document = _load_untrusted(data)
    items = document.get("items")
    if not isinstance(items, list) or len(items) > 1:
        raise BadAnswer(f"a list of one object has {len(items) if isinstance(items, list) else 'no'} items")
    return (_node_untrusted(items[0], name) if items else None), _version_untrusted(document)


def parse_event_untrusted(line: bytes, name: str) -> Event:
    """A line of the watch. Raises BadAnswer."""
    document = _load_untrusted(line)
    kind, content = document.get("type"), document.get("object")
    if not isinstance(content, dict):
        raise BadAnswer("an event of the watch has no object")
    if kind == "ERROR":
        if content.get("code") == _GONE:
            return Event("", None, expired=True)
        raise BadAnswer(f"the watch ended with code {content.get('code')!r:.20}")
    version = _version_untrusted(content)
    if kind == "BOOKMARK":
        return Event(version, None, bookmark=True)
    if kind not in {"ADDED", "MODIFIED", "DELETED"}:
        return Event(version, None, bookmark=True)  # a kind of a later Kubernetes
    node = _node_untrusted(content, name)
    return Event(version, None if kind == "DELETED" else node)


def _load_untrusted(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("the answer is not JSON") from error
    if not isinstance(document, dict):
        raise BadAnswer("the answer is not an object")
    return document


def _version_untrusted(content: dict[str, Any]) -> str:
    metadata = content.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise BadAnswer("an object has no resourceVersion")
    return version


def _node_untrusted(content: object, name: str) -> CarpNode:
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(metadata, dict) or metadata.get("name") != name:
        raise BadAnswer(f"the object is not the CarpNode {name}")
    uid, generation = metadata.get("uid"), metadata.get("generation")
    if not isinstance(uid, str) or type(generation) is not int or generation < 1:
        raise BadAnswer("the CarpNode has no uid or no generation")
    spec, status = content.get("spec", {}), content.get("status", {})
    if not isinstance(spec, dict) or not isinstance(status, dict):
        raise BadAnswer("spec or status of the CarpNode is not an object")
    return CarpNode(name, uid, generation, spec, status)
