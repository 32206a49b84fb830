"""A handover that somebody asked for: passed on to the master once, and not for ever."""

import json
from typing import Any

import pytest

from carp_operator.handlers.cache import Kind
from carp_operator.plan.planner import HANDOVER_LIFE_S
from lab.world import NODES, Cluster

Json = dict[str, Any]


@pytest.fixture
def cluster() -> Cluster:
    """Three nodes that run the group web."""
    cluster = Cluster()
    cluster.apply_group("web")
    cluster.settle()
    return cluster


def ask(cluster: Cluster, to: str = "", identity: str = "x", at: str = "", **spec: Json) -> None:
    request = {"id": identity, "to": to, "at": at or cluster.time}
    cluster.apply_group("web", annotations={"kubecarp.io/handover": json.dumps(request)}, **spec)


def passed_on(cluster: Cluster) -> Json:
    return {name: entry["handover"] for name, entry in cluster.entries("web").items() if "handover" in entry}


def test_a_handover_is_passed_on_to_the_master_until_it_is_done(cluster: Cluster) -> None:
    master = cluster.status("web")["master"]["node"]
    to = next(name for name in NODES if name != master)
    ask(cluster, to)
    plan = cluster.reconcile()
    assert passed_on(cluster) == {master: {"id": "x", "requestedAt": cluster.time, "to": f"10.77.0.{NODES.index(to) + 1}"}}
    assert plan.again_in_s == HANDOVER_LIFE_S
    assert cluster.writes == [(Kind.CARP_NODE, master)]
    assert cluster.condition("web", "Programmed")[0] == "True", "nothing else runs than before"
    cluster.agents[master].seen["web"] = {"handover": {"id": "x", "result": "Started"}}
    cluster.agents[master].follow()
    cluster.agents[master].report()
    cluster.reconcile()
    assert passed_on(cluster) == {}
    assert cluster.plan().again_in_s is None


def test_a_member_is_named_by_the_address_that_its_adverts_come_from(cluster: Cluster) -> None:
    """Of IPv6 that is a link-local one, which no list of interfaces tells."""
    master = cluster.status("web")["master"]["node"]
    to = next(name for name in NODES if name != master)
    cluster.agents[to].seen["web"] = {"source": "fe80::7"}
    cluster.agents[to].report()
    cluster.reconcile()
    ask(cluster, to)
    cluster.reconcile()
    assert passed_on(cluster)[master]["to"] == "fe80::7"


def test_in_compatible_mode_nobody_can_be_named() -> None:
    cluster = Cluster()
    compatible = {"mode": "Compatible"}
    cluster.apply_group("web", authentication=compatible)
    cluster.settle()
    master = cluster.status("web")["master"]["node"]
    ask(cluster, next(name for name in NODES if name != master), authentication=compatible)
    cluster.reconcile()
    assert passed_on(cluster) == {}
    assert "in Compatible mode no member can be named" in cluster.events[-1].note
    ask(cluster, identity="y", authentication=compatible)
    cluster.reconcile()
    assert list(passed_on(cluster)) == [master]


def test_a_handover_to_the_best(cluster: Cluster) -> None:
    ask(cluster)
    cluster.reconcile()
    assert list(passed_on(cluster).values()) == [{"id": "x", "requestedAt": cluster.time}]


def test_a_handover_that_nobody_carried_out_is_taken_back(cluster: Cluster) -> None:
    ask(cluster)
    cluster.reconcile()
    cluster.now += HANDOVER_LIFE_S
    cluster.reconcile()
    assert passed_on(cluster) == {}
    assert cluster.plan().again_in_s is None


def test_nor_is_taking_it_back_forgotten_when_it_cannot_be_written(cluster: Cluster) -> None:
    ask(cluster)
    cluster.reconcile()
    cluster.reconcile()
    cluster.now += HANDOVER_LIFE_S
    cluster.reconcile(lambda kind, _: kind is Kind.CARP_NODE)
    assert passed_on(cluster) != {}
    cluster.reconcile()
    assert passed_on(cluster) == {}


@pytest.mark.parametrize("late_s", [HANDOVER_LIFE_S, -HANDOVER_LIFE_S])
def test_an_old_handover_is_not_carried_out_nor_one_of_the_future(cluster: Cluster, late_s: float) -> None:
    at = cluster.time
    cluster.now += late_s
    ask(cluster, at=at)
    cluster.reconcile()
    assert passed_on(cluster) == {}


def test_a_handover_that_was_done_is_not_done_again(cluster: Cluster) -> None:
    ask(cluster)
    cluster.reconcile()
    master = next(iter(passed_on(cluster)))
    cluster.agents[master].seen["web"] = {"handover": {"id": "x", "result": "Started"}}
    cluster.agents[master].report()
    cluster.restart()
    cluster.reconcile()
    assert passed_on(cluster) == {}


def test_another_operator_passes_on_the_same_handover(cluster: Cluster) -> None:
    ask(cluster)
    cluster.reconcile()
    before = passed_on(cluster)
    cluster.now += 10
    cluster.restart()
    cluster.reconcile()
    assert cluster.writes == []
    assert passed_on(cluster) == before


def test_a_handover_waits_for_a_master(cluster: Cluster) -> None:
    for agent in cluster.agents.values():
        agent.set_state("web", "Backup")
        agent.report()
    cluster.reconcile()
    ask(cluster)
    cluster.reconcile()
    assert passed_on(cluster) == {}
    cluster.agents["b"].set_state("web", "Master")
    cluster.agents["b"].report()
    cluster.reconcile()
    assert list(passed_on(cluster)) == ["b"]
