"""What is told as an Event: each thing once, under a name that follows from it, and nothing by an operator that only came later."""

import json
from pathlib import Path
from typing import Any

import pytest

from carp_operator.api.reasons import EventReason
from carp_operator.handlers.cache import Kind
from carp_operator.plan.events import Event, tell_transitions
from carp_protocol.effects import State
from carp_protocol.election import TRANSITIONS
from lab.pieces import group, report
from lab.world import KEY, Cluster

RANKED = [{"node": "a", "priority": 255}, {"node": "b", "priority": 200}, {"node": "c", "priority": 100}]


@pytest.fixture
def cluster() -> Cluster:
    """web on three nodes, a is master; a minute later, with nothing told yet."""
    cluster = Cluster()
    cluster.apply_group("web", priorities=RANKED)
    cluster.settle()
    cluster.now += 60
    cluster.events.clear()
    return cluster


def told(cluster: Cluster) -> list[tuple[str, str, bool, str]]:
    """Reason, note, whether it is a warning, and the node; and once more the same, to see that nothing is told twice."""
    cluster.settle()
    once = [(str(event.reason), event.note, event.warning, event.node) for event in cluster.events]
    cluster.events.clear()
    for _ in range(2):
        cluster.now += 10
        cluster.settle()
        assert cluster.events == []
        cluster.restart()
    return once


def seen(cluster: Cluster, node: str, **more: Any) -> Cluster:
    cluster.agents[node].seen["web"] = more
    return cluster


def ask_handover(cluster: Cluster, to: str) -> None:
    request = json.dumps({"id": "x", "to": to, "at": cluster.time})
    cluster.apply_group("web", priorities=RANKED, annotations={"kubecarp.io/handover": request})


def test_a_new_group() -> None:
    cluster = Cluster()
    cluster.settle()
    cluster.apply_group("web", "10.77.0.100/24", "fd77::9", priorities=RANKED)
    assert told(cluster) == [
        ("KeyCreated", "the key was made; it is key-1 of Secret kubecarp-key-web in the operator's namespace", False, ""),
        ("MasterElected", "a has 10.77.0.100/24 +1", False, "a"),
    ]


def test_a_new_group_with_the_key_of_its_user() -> None:
    cluster = Cluster()
    cluster.settle()
    cluster.apply_secret("mine", key=KEY)
    cluster.apply_group("web", authentication={"secretRef": {"name": "mine"}})
    note = "the key is a copy of the one in Secret mine; it is key-1 of Secret kubecarp-key-web in the operator's namespace"
    assert told(cluster)[0] == ("KeyCreated", note, False, "")


def test_a_group_that_is_refused_and_one_that_is_mended(cluster: Cluster) -> None:
    cluster.apply_group("web", "10.77.0.1", priorities=RANKED)
    note = (
        "NodeAddress: 10.77.0.1 is the own address of node a; a virtual address must be one that no host has; "
        "the version before goes on running"
    )
    assert told(cluster) == [("NotAccepted", note, True, "")]
    cluster.apply_group("web", priorities=RANKED)
    assert told(cluster) == [("Accepted", "runs with VHID 1 on a, b and c", False, "")]


def test_another_reason_is_another_event(cluster: Cluster) -> None:
    for address, reason in (("10.77.0.1", "NodeAddress"), ("198.51.100.1", "InterfaceNotFound"), ("10.77.0.2", "NodeAddress")):
        cluster.apply_group("web", address, priorities=RANKED)
        assert [(one[0], one[1].partition(":")[0]) for one in told(cluster)] == [("NotAccepted", reason)]


def test_a_refusal_that_comes_back_is_another_event(cluster: Cluster) -> None:
    for address in ("10.77.0.1", "198.51.100.1") * 3:
        cluster.apply_group("web", address, priorities=RANKED)
        cluster.settle()
    assert len({event.name for event in cluster.events}) == len(cluster.events) == 6


def test_a_host_that_dies(cluster: Cluster) -> None:
    cluster.agents["a"].up = cluster.agents["a"].reporting = False
    cluster.agents["b"].set_state("web", "Master", "master-host-dead")
    cluster.agents["b"].report()
    cluster.reconcile()
    cluster.add_node("a", ready=False)
    assert told(cluster) == [("MasterElected", "b has 10.77.0.100, after a: the host of the master does not answer", False, "b")]


@pytest.mark.parametrize(
    "why, words",
    [
        ("master-bowed-out", "the master before handed over"),
        ("master-demoted", "the master before is demoted"),
        ("preempted-worse-master", "it is better than the master before"),
    ],
)
def test_a_handover(cluster: Cluster, why: str, words: str) -> None:
    cluster.agents["a"].set_state("web", "Backup", "successor-heard")
    cluster.agents["b"].set_state("web", "Master", why)
    assert told(cluster) == [("Handover", f"b has 10.77.0.100, after a: {words}", False, "b")]


def test_a_master_that_nobody_succeeds(cluster: Cluster) -> None:
    for agent in cluster.agents.values():
        agent.up = False
    cluster.now += 5
    assert told(cluster) == [("MasterLost", "a is not master any more, and no other member is", True, "a")]
    for agent in cluster.agents.values():
        agent.up = True
    cluster.agents["a"].set_state("web", "Master", "nobody-there")
    assert told(cluster) == [("MasterElected", "a has 10.77.0.100: nobody else answered", False, "a")]


def test_a_member_outside_of_the_cluster_takes_over(cluster: Cluster) -> None:
    for agent in cluster.agents.values():
        agent.seen["web"] = {"state": "Backup", "master": {"source": "10.77.0.250", "local": False}}
    note = "10.77.0.250, a member that is no node of the cluster, has 10.77.0.100, after a"
    assert told(cluster) == [("MasterElected", note, False, "a")]


def test_a_split_brain_and_its_end(cluster: Cluster) -> None:
    cluster.agents["b"].set_state("web", "Master", "master-timed-out")
    cluster.agents["b"].report()
    cluster.reconcile()
    cluster.now += 1
    cluster.reconcile()
    for name in ("a", "b"):
        cluster.agents[name].follow()
        cluster.agents[name].report()
    cluster.reconcile()
    cluster.restart()
    cluster.reconcile()
    note = "a and b are masters and do not hear each other; look at the network between them: it must let IP protocol 112 through"
    assert [(str(one.reason), one.note, one.warning) for one in cluster.events] == [
        ("MasterElected", "b has 10.77.0.100, after a: no advert of the master within the dead time", False),
        ("SplitBrain", note, True),
    ]
    cluster.events.clear()
    cluster.now += 10
    cluster.agents["a"].set_state("web", "Backup", "better-master")
    assert told(cluster)[0] == ("SplitBrainHealed", "b is the only master", False, "")


def test_complaints(cluster: Cluster) -> None:
    cluster.reconcile()
    seen(cluster, "c", authenticationFailed=True, healthChecks=[{"name": "web", "passing": False, "message": "refused"}])
    seen(cluster, "b", addressConflict={"mac": "02:00:00:00:00:01", "at": cluster.time})
    assert sorted(told(cluster)) == [
        (
            "AddressConflict",
            "02:00:00:00:00:01 answers for an address of the group without CARP, as b sees; find that host and take the address from it",
            True,
            "b",
        ),
        (
            "AuthenticationFailed",
            "c hears adverts with a wrong signature; another group or router uses VHID 1, or its key differs",
            True,
            "c",
        ),
        ("HealthCheckFailed", "health check web fails on c: refused", True, "c"),
    ]


def test_a_complaint_that_comes_back_is_told_again(cluster: Cluster) -> None:
    failing = [{"name": "web", "passing": False, "message": "refused"}]
    cluster.reconcile()
    names = set()
    for _ in range(2):
        seen(cluster, "c", healthChecks=failing).settle()
        seen(cluster, "c", healthChecks=[{"name": "web", "passing": True}]).settle()
        names |= {event.name for event in cluster.events}
        cluster.now += 30
    assert len(names) == 2


def test_a_key_that_was_replaced(cluster: Cluster) -> None:
    cluster.apply_group("web", priorities=RANKED, annotations={"kubecarp.io/rotate-key": "now"})
    note = "every member signs with key-2 of Secret kubecarp-key-web in the operator's namespace; key-1 is not believed any more"
    assert told(cluster) == [("KeyRotated", note, False, "")]


def test_a_handover_that_the_master_refuses(cluster: Cluster) -> None:
    ask_handover(cluster, "b")
    cluster.reconcile()
    seen(cluster, "a", handover={"id": "x", "result": "Refused", "message": "nobody else is ready"})
    assert told(cluster) == [("HandoverRefused", "a did not hand over: nobody else is ready", True, "a")]


@pytest.mark.parametrize("to, why", [("z", "z is not a member of the group"), ("a", "a has the addresses already")])
def test_a_handover_that_cannot_be(cluster: Cluster, to: str, why: str) -> None:
    cluster.reconcile()
    ask_handover(cluster, to)
    assert told(cluster) == [("HandoverRefused", f"a did not hand over: {why}", True, "a")]
    assert not any("handover" in entry for entry in cluster.entries("web").values())


def test_an_operator_that_starts_tells_nothing_of_what_was(cluster: Cluster) -> None:
    seen(cluster, "c", authenticationFailed=True, healthChecks=[{"name": "web", "passing": False, "message": "refused"}])
    ask_handover(cluster, "z")
    cluster.settle()
    cluster.events.clear()
    cluster.restart()
    cluster.settle()
    assert cluster.events == []


@pytest.mark.parametrize("lost", [Kind.SECRET, Kind.CARP_NODE, Kind.GROUP])
def test_what_is_told_again_because_writing_failed_has_the_same_name(lost: Kind) -> None:
    cluster = Cluster()
    cluster.settle()
    cluster.apply_group("web", priorities=RANKED)
    cluster.apply_group("no", "10.77.0.1")
    for _ in range(3):
        cluster.reconcile(lambda kind, _: kind is lost)
        cluster.now += 7
    cluster.settle()
    cluster.apply_group("no", "10.77.0.2")
    cluster.apply_group("web", "10.77.0.100", "10.77.0.3", priorities=RANKED)
    for _ in range(3):
        cluster.reconcile(lambda kind, _: kind is lost)
        cluster.now += 7
    cluster.settle()
    notes = {(event.reason, event.group, event.note) for event in cluster.events}
    assert len({event.name for event in cluster.events}) == len(notes)


def test_a_name_says_the_group_and_follows_from_what_is_told() -> None:
    event = Event(group="web", uid="1", reason=EventReason.ACCEPTED, action="Accept", note="fine", when="x")
    assert event.name.startswith("web.")
    assert len(event.name) == len("web.") + 16
    others = [
        Event(group="web", uid="2", reason=EventReason.ACCEPTED, action="Accept", note="fine", when="x"),
        Event(group="web", uid="1", reason=EventReason.HANDOVER, action="Accept", note="fine", when="x"),
        Event(group="web", uid="1", reason=EventReason.ACCEPTED, action="Accept", note="good", when="x"),
        Event(group="web", uid="1", reason=EventReason.ACCEPTED, action="Accept", note="fine", when="y"),
    ]
    assert len({event.name, *(other.name for other in others)}) == 5


def test_every_way_to_become_master_has_its_words() -> None:
    ways = [reason.value for table in TRANSITIONS.values() for reason, state in table.items() if state is State.MASTER]
    status = {"master": {"node": "a", "since": "now"}, "summary": {"addresses": "x"}, "conditions": []}
    for why in ways:
        conditions = [{"type": kind, "status": "True", "reason": "x", "message": "x"} for kind in ("Accepted", "SplitBrain")]
        before = group(status={"conditions": conditions, "master": {"node": "b"}})
        (event,) = tell_transitions(before, status | {"conditions": conditions}, {"a": report(reason=why)})
        assert why not in event.note, "a word for programs is no sentence"


def test_an_unknown_way_is_told_as_it_is() -> None:
    conditions = [
        {"type": kind, "status": "False", "reason": "x", "message": "x", "lastTransitionTime": ""} for kind in ("Accepted", "SplitBrain")
    ]
    status = {"master": {"node": "a"}, "summary": {"addresses": "x"}, "conditions": conditions}
    (event,) = tell_transitions(group(status={"conditions": conditions}), status, {"a": report(reason="coin-tossed")})
    assert event.note == "a has x: coin-tossed"


def test_every_reason_of_an_event_is_told_somewhere_here() -> None:
    here = Path(__file__).read_text()
    assert [reason for reason in EventReason if f'"{reason}"' not in here] == []
