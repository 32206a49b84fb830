"""One-shots: each once, none that is old, none twice after a restart."""

from typing import Any

import pytest

from carp_agent import handovers
from carp_agent.carpnode import CarpNode
from carp_agent.handovers import Handovers
from carp_agent.times import write_time
from unit.agent.fake_api import group

NOW = 1_800_000_000.0
RUNNING = frozenset({"intranet"})


def node(status: dict[str, Any] | None = None, **request: Any) -> CarpNode:
    wanted = {"id": "a1", "to": "10.77.0.2", "requestedAt": write_time(NOW)} | request
    return CarpNode("a", "u", 1, {"groups": [group(handover=wanted), group("uplink")]}, status or {})


def test_once() -> None:
    memory = Handovers()
    request = memory.next_untrusted(node(), RUNNING, NOW)
    assert request is not None
    assert (request.group, request.id, request.to) == ("intranet", "a1", "10.77.0.2")
    assert memory.next_untrusted(node(), RUNNING, NOW) is None
    memory.done(request, "")
    assert memory.results == {"intranet": {"id": "a1", "result": "Started"}}
    another = memory.next_untrusted(node(id="b2", to=""), RUNNING, NOW)
    assert another is not None
    memory.done(another, "no " * 1000)
    assert memory.results["intranet"]["result"] == "Refused"
    assert len(memory.results["intranet"]["message"]) == 1024


@pytest.mark.parametrize("age_s, carried_out", [(0, True), (119, True), (121, False), (-119, True), (-121, False)])
def test_age(age_s: float, carried_out: bool) -> None:
    memory = Handovers()
    request = memory.next_untrusted(node(requestedAt=write_time(NOW - age_s)), RUNNING, NOW)
    assert (request is not None) is carried_out
    assert memory.next_untrusted(node(requestedAt=write_time(NOW)), RUNNING, NOW) is None, "the id is spent"


def test_a_group_that_does_not_run_yet_is_waited_for() -> None:
    memory = Handovers()
    assert memory.next_untrusted(node(), frozenset(), NOW) is None
    assert memory.next_untrusted(node(), RUNNING, NOW + 60) is not None


def test_what_an_agent_before_did_is_in_the_status() -> None:
    memory = Handovers()
    done = {"id": "a1", "result": "Refused", "message": "m"}
    memory.learn_untrusted(node({"groups": [{"name": "intranet", "handover": done}]}))
    assert memory.next_untrusted(node(), RUNNING, NOW) is None
    assert memory.results == {"intranet": done}


@pytest.mark.parametrize("groups", [7, [7], [{"name": 7, "handover": {"id": "a1"}}], [{"name": "intranet", "handover": {"id": 7}}]])
def test_whatever_somebody_wrote_into_the_status(groups: object) -> None:
    memory = Handovers()
    memory.learn_untrusted(node({"groups": groups}))
    assert memory.next_untrusted(node(), RUNNING, NOW) is not None


@pytest.mark.parametrize(
    "request_", [{"id": 7}, {"to": 7}, {"requestedAt": 7}, {"requestedAt": "yesterday"}, {"requestedAt": "2027-01-15T08:00:00"}]
)
def test_what_is_no_request(request_: dict[str, Any]) -> None:
    assert Handovers().next_untrusted(node(**request_), RUNNING, NOW) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handovers, "_REMEMBERED", 3)
    memory = Handovers()
    for number in range(10):
        assert memory.next_untrusted(node(id=str(number)), RUNNING, NOW)
    assert len(memory._seen) == 3
