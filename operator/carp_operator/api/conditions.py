"""Conditions as the API conventions want them: the time of a transition changes only with the status."""

__all__ = ["Condition", "merge_conditions"]

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .reasons import ConditionType, Reason

_LONGEST_MESSAGE = 1024


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, before it is known when it last changed."""

    type: ConditionType
    status: bool
    reason: Reason
    message: str


def merge_conditions(before: Iterable[Mapping[str, Any]], now: Iterable[Condition], *, generation: int, time: str) -> list[dict[str, Any]]:
    """The conditions of a status, in the order of ``now``."""
    known = {entry.get("type"): entry for entry in before}
    merged = []
    for condition in now:
        status = str(condition.status)
        old = known.get(condition.type, {})
        same = old.get("status") == status and old.get("lastTransitionTime")
        message = condition.message if len(condition.message) <= _LONGEST_MESSAGE else condition.message[: _LONGEST_MESSAGE - 3] + "..."
        merged.append(
            {
                "type": str(condition.type),
                "status": status,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if same else time,
                "reason": str(condition.reason),
                "message": message,
            }
        )
    return merged
