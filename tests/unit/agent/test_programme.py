"""When to try to run what, and what is known to run."""

import math

import pytest

from carp_agent.carpnode import CarpNode
from carp_agent.configurator import Outcome
from carp_agent.programme import Programme
from unit.agent.fake_api import group

STARTED = "2026-03-01T12:00:00Z"
OK = Outcome()
FAILED = Outcome("Secret x does not exist")
REFUSED = Outcome("group[0].vhid: is 300", refused=True)


def node(generation: int = 1, uid: str = "u", version: str = "v1") -> CarpNode:
    status = {"groups": [{"name": "intranet", "version": "v0"}]}
    return CarpNode("a", uid, generation, {"groups": [group(version=version)]}, status)


@pytest.fixture
def programme() -> Programme:
    """One that knows a CarpNode."""
    made = Programme(30.0)
    made.found(node())
    return made


def test_once_for_each_version_and_each_start_of_the_sidecar(programme: Programme) -> None:
    assert programme.begin(STARTED, 0.0)
    programme.ended(OK, node(), 0.1)
    assert not programme.begin(STARTED, 1000.0)
    assert programme.next_at(1000.0) == math.inf
    assert programme.begin("", 1001.0), "the sidecar went: perhaps it starts anew from the file"
    programme.ended(OK, node(), 1001.1)
    assert programme.begin("later", 1002.0)
    programme.ended(OK, node(), 1002.1)
    programme.found(node(2))
    assert programme.begin("later", 1003.0)


def test_nobody_knows_nothing_happens() -> None:
    programme = Programme(30.0)
    assert not programme.begin(STARTED, 1000.0)
    assert programme.wanted(1000.0) is None


def test_a_failure_is_tried_again_with_growing_waits(programme: Programme) -> None:
    now, waits = 0.0, []
    for _ in range(10):
        assert programme.begin(STARTED, now)
        programme.ended(FAILED, node(), now)
        assert not programme.begin(STARTED, now)
        waits.append(programme.next_at(now) - now)
        now = programme.next_at(now)
    assert waits[0] <= 0.25
    assert 5.0 <= waits[-1] <= 10.0
    assert programme.problems == FAILED.problems


def test_a_refusal_waits_long_but_a_new_version_does_not(programme: Programme) -> None:
    assert programme.begin(STARTED, 0.0)
    programme.ended(REFUSED, node(), 0.0)
    assert 15.0 <= programme.next_at(0.0) <= 30.0
    programme.found(node(2))
    assert programme.begin(STARTED, 0.1)
    programme.ended(OK, node(2), 0.2)
    assert programme.problems == ()


def test_an_api_server_that_is_back_ends_the_wait(programme: Programme) -> None:
    for _ in range(8):
        programme.begin(STARTED, 0.0)
        programme.ended(FAILED, node(), 0.0)
    assert not programme.begin(STARTED, 0.1)
    programme.hurry()
    assert programme.begin(STARTED, 0.1)


def test_gone_is_only_what_stays_gone(programme: Programme) -> None:
    programme.begin(STARTED, 0.0)
    programme.ended(OK, node(), 0.0)
    programme.missing(10.0)
    assert programme.next_at(11.0) == 40.0
    assert not programme.begin(STARTED, 39.9)
    programme.found(node(uid="new"))
    assert programme.begin(STARTED, 40.0)
    programme.ended(OK, node(uid="new"), 40.0)
    programme.missing(50.0)
    programme.missing(60.0)
    assert not programme.begin(STARTED, 79.9)
    assert programme.begin(STARTED, 80.0)
    programme.ended(OK, None, 80.0)
    assert not programme.begin(STARTED, 1000.0)
    programme.found(node(uid="new"))
    assert programme.begin(STARTED, 1000.0)


def test_what_runs_is_told_only_of_this_object(programme: Programme) -> None:
    assert programme.running_generation({"generation": 1}) == 1, "after a start of the agent, what runs is believed to be of it"
    assert programme.running_generation({"generation": 0}) == 0
    assert programme.running_generation({"generation": 9}) == 0, "of an object before this one"
    assert programme.running_generation({"generation": True}) == 0
    programme.found(node(uid="new"))
    assert programme.running_generation({"generation": 1}) == 0
    programme.begin(STARTED, 0.0)
    programme.ended(OK, node(uid="new"), 0.0)
    assert programme.running_generation({"generation": 1}) == 1
    programme.missing(1.0)
    assert programme.running_generation({"generation": 1}) == 0


def test_versions_are_those_that_run(programme: Programme) -> None:
    old, new = {"generation": 1}, {"generation": 2}
    programme.found(node(2, version="v2"))
    assert programme.running_versions(old) == {"intranet": "v0"}
    programme.begin(STARTED, 0.0)
    programme.ended(FAILED, node(2, version="v2"), 0.0)
    assert programme.running_versions(old) == {"intranet": "v0"}
    assert programme.running_problems(old) == FAILED.problems
    assert programme.running_versions(new) == {"intranet": "v2"}, "the sidecar may be seen to run it before the attempt has ended"
    assert programme.running_problems(new) == ()
    programme.ended(OK, node(2, version="v2"), 1.0)
    programme.found(node(3, version="v3"))
    assert programme.running_versions(new) == {"intranet": "v2"}
