"""Conditions keep the time of their last transition, and nothing else of the past."""

from typing import Any

from carp_operator.api.conditions import Condition, merge_conditions
from carp_operator.api.reasons import ConditionType, Reason

EARLIER, NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def ready(status: bool, reason: Reason = Reason.MASTER_ELECTED, message: str = "a has the addresses") -> Condition:
    return Condition(ConditionType.READY, status, reason, message)


def before(status: str = "True", time: str = EARLIER, **more: Any) -> dict[str, Any]:
    return {
        "type": "Ready",
        "status": status,
        "lastTransitionTime": time,
        "reason": "Old",
        "message": "old",
        "observedGeneration": 1,
    } | more


def test_a_new_condition_begins_now() -> None:
    assert merge_conditions([], [ready(True)], generation=3, time=NOW) == [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 3,
            "lastTransitionTime": NOW,
            "reason": "MasterElected",
            "message": "a has the addresses",
        }
    ]


def test_the_time_stays_while_the_status_does_whatever_else_changes() -> None:
    (merged,) = merge_conditions([before()], [ready(True)], generation=3, time=NOW)
    assert (merged["lastTransitionTime"], merged["reason"], merged["observedGeneration"]) == (EARLIER, "MasterElected", 3)


def test_the_time_moves_with_the_status() -> None:
    (merged,) = merge_conditions([before("False")], [ready(True)], generation=1, time=NOW)
    assert merged["lastTransitionTime"] == NOW


def test_conditions_are_compared_by_type_and_the_order_is_ours() -> None:
    other = Condition(ConditionType.ACCEPTED, True, Reason.ACCEPTED, "fine")
    merged = merge_conditions([before(), before() | {"type": "Gone"}], [other, ready(True)], generation=1, time=NOW)
    assert [(one["type"], one["lastTransitionTime"]) for one in merged] == [("Accepted", NOW), ("Ready", EARLIER)]


def test_a_condition_without_a_time_gets_one() -> None:
    (merged,) = merge_conditions([{"type": "Ready", "status": "True"}], [ready(True)], generation=1, time=NOW)
    assert merged["lastTransitionTime"] == NOW


def test_a_message_is_cut_where_the_schema_would_refuse_it() -> None:
    (merged,) = merge_conditions([], [ready(True, message="x" * 2000)], generation=1, time=NOW)
    assert len(merged["message"]) == 1024
    assert merged["message"].endswith("xxx...")
    (whole,) = merge_conditions([], [ready(True, message="x" * 1024)], generation=1, time=NOW)
    assert whole["message"] == "x" * 1024
