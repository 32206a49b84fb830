"""What is planned as bodies for the API server, and key rings back from Secrets. Pure."""

__all__ = ["carp_node_body", "event_body", "read_ring", "read_secret", "ring_body", "status_body"]

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from carp_operator.api.group import CarpGroup
from carp_operator.api.names import GROUP, KEY_RING_TYPE, MANAGED_BY, MANAGER, ROTATE_KEY_ANNOTATION, VERSION, key_ring_name
from carp_operator.plan.events import Event
from carp_operator.plan.planner import CarpNodeWrite
from carp_operator.plan.world import KeyRing

_API_VERSION = f"{GROUP}/{VERSION}"
_LONGEST_NOTE = 1024
"""events.k8s.io/v1 refuses longer ones."""

Json = dict[str, Any]


def carp_node_body(write: CarpNodeWrite) -> Json:
    owner = {"apiVersion": "v1", "kind": "Node", "name": write.name, "uid": write.owner_uid}
    spec: Json = {"groups": list(write.groups)} | ({"rollCall": write.roll_call} if write.roll_call else {})
    metadata = {"name": write.name, "labels": MANAGED_BY, "ownerReferences": [owner]}
    return {"apiVersion": _API_VERSION, "kind": "CarpNode", "metadata": metadata, "spec": spec}


def status_body(name: str, status: Mapping[str, Any]) -> Json:
    return {"apiVersion": _API_VERSION, "kind": "CarpGroup", "metadata": {"name": name}, "status": dict(status)}


def ring_body(group: CarpGroup, ring: KeyRing, namespace: str) -> Json:
    """The Secret of a key ring. It goes with its group: no finalizer, the garbage collector does it."""
    entries = {**ring.keys, "sign": ring.sign.encode()}
    metadata: Json = {
        "name": key_ring_name(group.name),
        "namespace": namespace,
        "labels": {**MANAGED_BY, f"{GROUP}/group": group.name},
        "annotations": {ROTATE_KEY_ANNOTATION: ring.rotated_for} if ring.rotated_for else {},
        "ownerReferences": [{"apiVersion": _API_VERSION, "kind": "CarpGroup", "name": group.name, "uid": group.uid}],
    }
    data = {name: base64.b64encode(value).decode() for name, value in sorted(entries.items())}
    return {"apiVersion": "v1", "kind": "Secret", "type": KEY_RING_TYPE, "metadata": metadata, "data": data}


def read_secret(body: Mapping[str, Any]) -> dict[str, bytes]:
    """The entries of a Secret; one that is not base64 is left out."""
    found = {}
    for name, value in (body.get("data") or {}).items():
        try:
            found[str(name)] = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            continue
    return found


def read_ring(body: Mapping[str, Any]) -> tuple[str, KeyRing] | None:
    """Group name and ring in a Secret; None if it is none of ours."""
    metadata = body.get("metadata") or {}
    group = (metadata.get("labels") or {}).get(f"{GROUP}/group", "")
    if body.get("type") != KEY_RING_TYPE or metadata.get("name") != key_ring_name(group):
        return None
    entries = read_secret(body)
    sign = entries.pop("sign", b"").decode(errors="replace")
    owner = (metadata.get("ownerReferences") or [{}])[0].get("uid", "")
    rotated_for = (metadata.get("annotations") or {}).get(ROTATE_KEY_ANNOTATION, "")
    return group, KeyRing(sign=sign, keys=entries, rotated_for=rotated_for, owner=owner)


def event_body(event: Event, namespace: str, instance: str, now: float) -> Json:
    """An Event about the group, related to a Node."""
    body: Json = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": event.name, "namespace": namespace},
        "eventTime": datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": f"{GROUP}/{MANAGER}",
        "reportingInstance": instance[:128],
        "action": event.action,
        "reason": str(event.reason),
        "note": event.note if len(event.note) <= _LONGEST_NOTE else event.note[: _LONGEST_NOTE - 3] + "...",
        "type": "Warning" if event.warning else "Normal",
        "regarding": {"apiVersion": _API_VERSION, "kind": "CarpGroup", "name": event.group, "uid": event.uid},
    }
    if event.node:
        body["related"] = {"apiVersion": "v1", "kind": "Node", "name": event.node}
    return body
