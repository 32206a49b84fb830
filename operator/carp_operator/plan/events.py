"""What happened, told once: the difference between the status before and the status now, as Events.

An Event's name follows from what it says, so the same thing told twice (by a restarted operator, by two of them) is one object.
"""

__all__ = ["Event", "tell_complaints", "tell_transitions"]

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carp_operator.api.group import CarpGroup
from carp_operator.api.node import GroupReport
from carp_operator.api.reasons import ConditionType, EventReason, Reason

from .world import Refusal

_PLANNED = {
    "master-bowed-out": "the master before handed over",
    "master-demoted": "the master before is demoted",
    "preempted-worse-master": "it is better than the master before",
    "requested": "it was requested",
    "better-master": "it is better than the master before",
}
_UNPLANNED = {
    "nobody-there": "nobody else answered",
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


def tell_transitions(group: CarpGroup, now: Mapping[str, Any], reports: Mapping[str, GroupReport]) -> list[Event]:
    """What the new status says that the one before did not."""
    found = [_master_event(group, now, reports)]
    before = _conditions(group.status.raw)
    after = _conditions(now)
    found.append(_accepted_event(group, before.get(ConditionType.ACCEPTED), after[ConditionType.ACCEPTED]))
    found.append(_split_event(group, before.get(ConditionType.SPLIT_BRAIN), after[ConditionType.SPLIT_BRAIN]))
    return [event for event in found if event]


def tell_complaints(
    group: CarpGroup, before: Mapping[tuple[Reason, str, str], Refusal], now: Mapping[tuple[Reason, str, str], Refusal], time: str
) -> list[Event]:
    """An Event for every complaint that was not there before."""
    return [
        Event(
            group=group.name,
            uid=group.uid,
            reason=_COMPLAINTS[complaint.reason],
            action="Watch",
            note=complaint.message,
            warning=True,
            node=key[1],
            when=time,
        )
        for key, complaint in now.items()
        if key not in before
    ]


def _conditions(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {condition["type"]: condition for condition in status.get("conditions") or ()}


def _master_event(group: CarpGroup, now: Mapping[str, Any], reports: Mapping[str, GroupReport]) -> Event | None:
    before, master = group.status.master, now.get("master") or {}
    node, since = master.get("node", ""), master.get("since", "")
    if not node:
        if before is None:
            return None
        return _event(
            group,
            EventReason.MASTER_LOST,
            "Elect",
            f"{before.node} is not master any more, and no other member is",
            before.node,
            since=before.since,
            warning=True,
        )
    if before is not None and before.node == node:
        return None
    why = reports[node].reason if node in reports else ""
    planned = why in _PLANNED and before is not None
    reason = EventReason.HANDOVER if planned else EventReason.MASTER_ELECTED
    because = {**_UNPLANNED, **_PLANNED}.get(why, why)
    after = f", after {before.node}" if before else ""
    detail = f": {because}" if because else ""
    return _event(group, reason, "Elect", f"{node} has {now['summary']['addresses']}{after}{detail}", node, since=since)


def _accepted_event(group: CarpGroup, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Event | None:
    if before and (before["status"], before["reason"]) == (now["status"], now["reason"]):
        return None
    time = now["lastTransitionTime"]
    if now["status"] == "False":
        return _event(group, EventReason.NOT_ACCEPTED, "Accept", f"{now['reason']}: {now['message']}", "", since=time, warning=True)
    return _event(group, EventReason.ACCEPTED, "Accept", now["message"], "", since=time) if before else None


def _split_event(group: CarpGroup, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Event | None:
    was, is_now = before is not None and before["status"] == "True", now["status"] == "True"
    if was == is_now:
        return None
    reason = EventReason.SPLIT_BRAIN if is_now else EventReason.SPLIT_BRAIN_HEALED
    return _event(group, reason, "Elect", now["message"], "", since=now["lastTransitionTime"], warning=is_now)


def _event(group: CarpGroup, reason: EventReason, action: str, note: str, node: str, *, since: str, warning: bool = False) -> Event:
    return Event(group=group.name, uid=group.uid, reason=reason, action=action, note=note, node=node, when=since, warning=warning)
