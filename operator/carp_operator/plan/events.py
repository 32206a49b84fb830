"""What happened, told once: the difference between the status before and the status now, as Events.

An Event's name follows from what it says, so the same thing told twice (by a restarted operator, by two of them) is one object.
"""

__all__ = ["Event", "tell_complaints", "tell_handover", "tell_keys", "tell_transitions"]

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carp_operator.api.group import CarpGroup
from carp_operator.api.names import key_ring_name
from carp_operator.api.node import GroupReport
from carp_operator.api.reasons import ConditionType, EventReason, Reason

from .aggregate import Complaint
from .world import KeyRing, key_number

_PLANNED = {
    "master-bowed-out": "the master before handed over",
    "master-demoted": "the master before is demoted",
    "preempted-worse-master": "it is better than the master before",
}
_UNPLANNED = {
    "nobody-there": "nobody else answered",
    "no-successor": "nobody took over from it",
    "master-timed-out": "no advert of the master within the dead time",
    "master-host-dead": "the host of the master does not answer",
    "master-process-dead": "the sidecar of the master is gone",
}
_COMPLAINTS = {
    Reason.ADDRESS_TAKEN: EventReason.ADDRESS_CONFLICT,
    Reason.AUTHENTICATION_FAILED: EventReason.AUTHENTICATION_FAILED,
    Reason.HEALTH_CHECK_FAILED: EventReason.HEALTH_CHECK_FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One Event about a group."""

    group: str
    uid: str
    reason: EventReason
    action: str
    """Imperative, as the API wants it."""
    note: str
    warning: bool = False
    node: str = ""
    """The Node it is related to."""
    when: str = ""
    """What tells this occurrence from another one of the same words."""

    @property
    def name(self) -> str:
        digest = hashlib.sha256(f"{self.uid}\0{self.reason}\0{self.note}\0{self.when}".encode()).hexdigest()
        return f"{self.group}.{digest[:16]}"


def tell_transitions(group: CarpGroup, now: Mapping[str, Any], reports: Mapping[str, GroupReport], outside: str = "") -> list[Event]:
    """What the new status says that the one before did not. ``outside``: the address of a master that is no node."""
    found = [_master_event(group, now, reports, outside)]
    before = _conditions(group.status.raw)
    after = _conditions(now)
    found.append(_accepted_event(group, before.get(ConditionType.ACCEPTED), after[ConditionType.ACCEPTED]))
    found.append(_split_event(group, before.get(ConditionType.SPLIT_BRAIN), after[ConditionType.SPLIT_BRAIN]))
    return [event for event in found if event]


def tell_complaints(group: CarpGroup, before: Mapping[Complaint, str], now: Mapping[Complaint, str], time: str) -> list[Event]:
    """An Event for every complaint that was not there before."""
    return [
        _event(group, _COMPLAINTS[key[0]], "Watch", note, key[1], when=time, warning=True) for key, note in now.items() if key not in before
    ]


def tell_keys(group: CarpGroup, before: KeyRing | None, now: KeyRing) -> list[Event]:
    """What a new key ring means to a user: a key was made, or its replacement is complete."""
    place = f"Secret {key_ring_name(group.name)} in the operator's namespace"
    if before is None or before.owner != now.owner:
        source = f"is a copy of the one in Secret {group.secret}" if group.secret else "was made"
        return [_event(group, EventReason.KEY_CREATED, "MakeKey", f"the key {source}; it is {now.sign} of {place}", "", when=now.owner)]
    if gone := sorted(before.keys.keys() - now.keys.keys(), key=key_number):
        note = f"every member signs with {now.sign} of {place}; {', '.join(gone)} is not believed any more"
        return [_event(group, EventReason.KEY_ROTATED, "RotateKey", note, "", when=now.owner)]
    return []


def tell_handover(group: CarpGroup, before: Mapping[str, str], now: Mapping[str, str]) -> list[Event]:
    """An Event for every refusal of the handover that was asked for; refusals by node."""
    return [
        _event(
            group, EventReason.HANDOVER_REFUSED, "HandOver", f"{node} did not hand over: {why}", node, when=group.handover.id, warning=True
        )
        for node, why in now.items()
        if group.handover and before.get(node) != why
    ]


def _conditions(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {condition["type"]: condition for condition in status.get("conditions") or ()}


def _master_event(group: CarpGroup, now: Mapping[str, Any], reports: Mapping[str, GroupReport], outside: str) -> Event | None:
    before, master = group.status.master, now.get("master") or {}
    node, since = master.get("node", ""), master.get("since", "")
    if not node:
        if before is None:
            return None
        if outside:
            note = f"{outside}, a member that is no node of the cluster, has {now['summary']['addresses']}, after {before.node}"
            return _event(group, EventReason.MASTER_ELECTED, "Elect", note, before.node, when=before.since)
        note = f"{before.node} is not master any more, and no other member is"
        if before.node in reports and reports[before.node].state == "Master":
            note = f"nobody confirms that {before.node} is still master: its node is not ready or gone, and no other member is"
        return _event(group, EventReason.MASTER_LOST, "Elect", note, before.node, when=before.since, warning=True)
    if before is not None and before.node == node:
        return None
    why = reports[node].reason if node in reports else ""
    planned = why in _PLANNED and before is not None
    reason = EventReason.HANDOVER if planned else EventReason.MASTER_ELECTED
    because = {**_UNPLANNED, **_PLANNED}.get(why, why)
    after = f", after {before.node}" if before else ""
    detail = f": {because}" if because else ""
    return _event(group, reason, "Elect", f"{node} has {now['summary']['addresses']}{after}{detail}", node, when=since)


def _accepted_event(group: CarpGroup, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Event | None:
    if before and (before["status"], before["reason"]) == (now["status"], now["reason"]):
        return None
    when = _turn(group, before)
    if now["status"] == "False":
        return _event(group, EventReason.NOT_ACCEPTED, "Accept", f"{now['reason']}: {now['message']}", "", when=when, warning=True)
    return _event(group, EventReason.ACCEPTED, "Accept", now["message"], "", when=when) if before else None


def _split_event(group: CarpGroup, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Event | None:
    was, is_now = before is not None and before["status"] == "True", now["status"] == "True"
    if was == is_now:
        return None
    reason = EventReason.SPLIT_BRAIN if is_now else EventReason.SPLIT_BRAIN_HEALED
    return _event(group, reason, "Elect", now["message"], "", when=_turn(group, before), warning=is_now)


def _turn(group: CarpGroup, before: Mapping[str, Any] | None) -> str:
    """Tells one change of a condition from another one; the same when it is told again because writing failed."""
    return f"{group.generation} {before['lastTransitionTime'] if before else ''}"


def _event(group: CarpGroup, reason: EventReason, action: str, note: str, node: str, *, when: str, warning: bool = False) -> Event:
    return Event(group=group.name, uid=group.uid, reason=reason, action=action, note=note, node=node, when=when, warning=warning)
