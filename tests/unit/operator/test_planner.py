"""The planner over the life of a cluster: what it writes, what it leaves alone, and what survives a refused change."""

import itertools
import json
from typing import Any

import pytest

from carp_operator.handlers.cache import Kind
from lab.world import KEY, NODES, Cluster

Json = dict[str, Any]
SELECT = {"matchLabels": {"edge": "yes"}}


@pytest.fixture
def cluster() -> Cluster:
    """Three nodes that run the group web."""
    cluster = Cluster()
    cluster.apply_group("web")
    cluster.settle()
    return cluster


def written(cluster: Cluster) -> dict[Kind, set[str]]:
    """What the last round wrote."""
    return {kind: {name for one, name in cluster.writes if one is kind} for kind in Kind if any(one is kind for one, _ in cluster.writes)}


def accepted(cluster: Cluster, name: str = "web") -> tuple[str, str]:
    return cluster.condition(name, "Accepted")[:2]


# ---- what is written --------------------------------------------------------------------------------------------


def test_every_node_has_its_carp_node_before_there_is_a_group() -> None:
    cluster = Cluster(())
    cluster.add_node("a", "10.77.0.1")
    cluster.reconcile()
    assert written(cluster) == {Kind.CARP_NODE: {"a"}}
    assert cluster.objects[Kind.CARP_NODE]["a"]["spec"] == {"groups": []}


def test_addresses_alone_are_enough(cluster: Cluster) -> None:
    assert sorted(cluster.entries("web")) == list(NODES)
    assert accepted(cluster) == ("True", "Accepted")
    assert cluster.condition("web", "Ready")[:2] == ("True", "MasterElected")


def test_a_ring_is_written_before_the_carp_nodes_that_name_its_keys() -> None:
    cluster = Cluster()
    cluster.settle()
    cluster.apply_group("web")
    cluster.reconcile()
    assert [kind for kind, _ in itertools.groupby(kind for kind, _ in cluster.writes)] == [Kind.SECRET, Kind.CARP_NODE, Kind.GROUP]


def test_the_best_is_told_first_so_that_it_becomes_master() -> None:
    cluster = Cluster()
    cluster.settle()
    cluster.apply_group("web", priorities=[{"node": "b", "priority": 255}, {"node": "c", "priority": 100}])
    cluster.reconcile()
    assert [name for kind, name in cluster.writes if kind is Kind.CARP_NODE] == ["b", "c", "a"]


def test_the_best_of_any_group_comes_before_those_that_only_wait() -> None:
    cluster = Cluster()
    cluster.settle()
    for number, order in enumerate(("abc", "cba")):
        ranks = [{"node": node, "priority": 200 - 50 * place} for place, node in enumerate(order)]
        cluster.apply_group(f"g{number}", f"10.77.0.{100 + number}", priorities=ranks)
    cluster.reconcile()
    assert [name for kind, name in cluster.writes if kind is Kind.CARP_NODE] == ["a", "c", "b"]


def test_what_is_written_once_is_not_written_again(cluster: Cluster) -> None:
    plan = cluster.plan()
    assert (plan.rings, plan.carp_nodes, plan.statuses, plan.events, plan.again_in_s) == ((), (), (), (), None)


def test_another_operator_finds_nothing_to_do(cluster: Cluster) -> None:
    cluster.apply_group("db", "10.77.0.101", authentication={"mode": "Compatible"}, peers={"mode": "Unicast"})
    cluster.apply_group("no", "10.77.0.101")
    cluster.settle()
    cluster.now += 1000
    cluster.restart()
    plan = cluster.plan()
    assert (plan.rings, plan.carp_nodes, plan.statuses, plan.events) == ((), (), (), ())


def test_one_group_is_written_to_its_members_only() -> None:
    cluster = Cluster()
    cluster.add_node("a", labels={"edge": "yes"})
    cluster.apply_group("here", nodeSelector=SELECT)
    cluster.apply_group("everywhere", "10.77.0.101")
    cluster.settle()
    cluster.apply_group("here", nodeSelector=SELECT, virtualMAC=False)
    cluster.reconcile()
    assert written(cluster) == {Kind.CARP_NODE: {"a"}, Kind.GROUP: {"here"}}


def test_a_report_changes_the_status_of_its_group_only(cluster: Cluster) -> None:
    cluster.apply_group("db", "10.77.0.101")
    cluster.settle()
    cluster.agents["a"].set_state("db", "Init", "link-down")
    cluster.agents["a"].report()
    cluster.reconcile()
    assert written(cluster) == {Kind.GROUP: {"db"}}


def test_a_heartbeat_changes_nothing(cluster: Cluster) -> None:
    body = json.loads(json.dumps(cluster.objects[Kind.NODE]["a"]))
    body["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-11-25T12:00:00Z"
    cluster.put(Kind.NODE, body, status=True)
    cluster.deliver()
    assert not cluster.cache.take_changes()


@pytest.mark.parametrize("kind, name", [(Kind.SECRET, "kubecarp-key-db"), (Kind.CARP_NODE, "b"), (Kind.GROUP, "db")])
def test_a_write_that_was_lost_is_made_good(cluster: Cluster, kind: Kind, name: str) -> None:
    cluster.apply_group("db", "10.77.0.101")
    cluster.reconcile(lambda one, other: (one, other) == (kind, name))
    cluster.settle()
    assert sorted(cluster.entries("db")) == list(NODES)
    assert cluster.condition("db", "Programmed")[0] == "True"


@pytest.mark.parametrize("kind", [Kind.SECRET, Kind.CARP_NODE, Kind.GROUP])
def test_an_operator_that_dies_between_two_writes_is_followed_by_one_that_goes_on(cluster: Cluster, kind: Kind) -> None:
    cluster.apply_group("db", "10.77.0.101")
    cluster.reconcile(lambda one, _: one is kind)
    cluster.apply_group("old", "10.77.0.102")
    cluster.objects[Kind.GROUP]["old"]["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    vhid = next((entry["vhid"] for entry in cluster.entries("db").values()), None)
    cluster.restart()
    cluster.settle()
    assert vhid in (None, cluster.status("db")["vhid"]), "what runs keeps its VHID, though no status said so"
    assert {cluster.status(name)["vhid"] for name in ("web", "db", "old")} == {1, 2, 3}


def test_what_somebody_changes_by_hand_is_changed_back(cluster: Cluster) -> None:
    before = cluster.objects[Kind.CARP_NODE]["a"]["spec"]
    body = json.loads(json.dumps(cluster.objects[Kind.CARP_NODE]["a"]))
    body["spec"]["groups"][0]["advskew"] = 254
    cluster.put(Kind.CARP_NODE, body)
    cluster.reconcile()
    assert written(cluster) == {Kind.CARP_NODE: {"a"}}
    assert cluster.objects[Kind.CARP_NODE]["a"]["spec"] == before


def test_a_carp_node_that_somebody_deletes_is_made_again(cluster: Cluster) -> None:
    cluster.delete(Kind.CARP_NODE, "a")
    cluster.settle()
    assert sorted(cluster.entries("web")) == list(NODES)
    assert cluster.status("web")["vhid"] == 1


def test_every_carp_node_deleted_by_hand_is_made_again_with_the_same_vhids(cluster: Cluster) -> None:
    cluster.apply_group("db", "10.77.0.101")
    cluster.settle()
    cluster.delete(Kind.GROUP, "web")
    for name in NODES:
        cluster.delete(Kind.CARP_NODE, name)
    cluster.settle()
    assert cluster.status("db")["vhid"] == 2
    assert sorted(cluster.entries("db")) == list(NODES)


def test_a_deleted_group_leaves_nothing(cluster: Cluster) -> None:
    cluster.apply_group("db", "10.77.0.101")
    cluster.settle()
    cluster.delete(Kind.GROUP, "web")
    cluster.settle()
    assert cluster.entries("web") == {}
    assert sorted(cluster.entries("db")) == list(NODES)
    assert cluster.rings() == ["kubecarp-key-db"]


def test_nor_does_one_that_was_deleted_while_no_operator_ran(cluster: Cluster) -> None:
    cluster.delete(Kind.GROUP, "web")
    cluster.restart()
    cluster.reconcile()
    assert cluster.entries("web") == {}


@pytest.mark.parametrize("restart", [False, True])
def test_a_group_that_is_made_anew_is_a_new_group(cluster: Cluster, restart: bool) -> None:
    cluster.delete(Kind.GROUP, "web")
    cluster.apply_group("web", vhid=9)
    if restart:
        cluster.restart()
    cluster.settle()
    assert cluster.status("web")["vhid"] == 9
    assert {entry["vhid"] for entry in cluster.entries("web").values()} == {9}


def test_what_an_earlier_group_of_the_name_left_does_not_run_on_for_one_that_is_refused(cluster: Cluster) -> None:
    cluster.delete(Kind.GROUP, "web")
    cluster.apply_group("web", authentication={"secretRef": {"name": "missing"}})
    cluster.restart()
    cluster.reconcile()
    assert cluster.entries("web") == {}


# ---- keys of users ----------------------------------------------------------------------------------------------


def test_a_secret_that_comes_later_lets_the_group_run() -> None:
    cluster = Cluster()
    cluster.apply_group("web", authentication={"secretRef": {"name": "mine"}})
    cluster.settle()
    assert accepted(cluster) == ("False", "SecretNotFound")
    cluster.apply_secret("mine", key=KEY)
    cluster.settle()
    assert accepted(cluster) == ("True", "Accepted")
    assert cluster.secret("kubecarp-key-web") == {"sign": "key-1", "key-1": KEY}


def test_a_secret_that_goes_leaves_its_copy_working(cluster: Cluster) -> None:
    cluster.apply_secret("mine", key=KEY)
    cluster.apply_group("web", authentication={"secretRef": {"name": "mine"}})
    cluster.settle()
    ring = cluster.secret("kubecarp-key-web")
    cluster.delete(Kind.SECRET, "mine")
    cluster.settle()
    assert accepted(cluster) == ("False", "SecretNotFound")
    assert cluster.secret("kubecarp-key-web") == ring
    assert cluster.condition("web", "Ready")[0] == "True"


# ---- more than one that calls itself master ---------------------------------------------------------------------


def test_a_split_brain_is_found_by_asking_and_shown_until_it_ends(cluster: Cluster) -> None:
    cluster.settle()
    master = cluster.status("web")["master"]["node"]
    rival = next(name for name in NODES if name != master)
    cluster.now += 100
    cluster.agents[rival].set_state("web", "Master", "master-timed-out")
    cluster.agents[rival].report()
    assert cluster.reconcile().again_in_s == 1.0
    assert cluster.status("web")["master"]["node"] == rival
    cluster.now += 1
    cluster.reconcile()
    asked = {name for kind, name in cluster.writes if kind is Kind.CARP_NODE}
    assert asked == {master, rival}
    assert cluster.condition("web", "SplitBrain")[0] == "False"
    for name in (master, rival):
        cluster.agents[name].follow()
        cluster.agents[name].report()
    cluster.reconcile()
    assert cluster.condition("web", "SplitBrain")[0] == "True"
    assert cluster.condition("web", "Ready")[:2] == ("False", "SeveralMasters")
    cluster.apply_group("db", "10.77.0.101")
    cluster.reconcile()
    cluster.reconcile()
    assert cluster.condition("web", "SplitBrain")[0] == "True", "a CarpNode that changes is no answer"
    cluster.restart()
    cluster.reconcile()
    assert cluster.condition("web", "SplitBrain")[0] == "True"
    cluster.agents[master].set_state("web", "Backup", "better-master")
    cluster.agents[master].report()
    cluster.reconcile()
    assert cluster.condition("web", "SplitBrain")[0] == "False"


def test_a_host_that_died_is_asked_once_and_then_forgotten(cluster: Cluster) -> None:
    master = cluster.status("web")["master"]["node"]
    heir = cluster.status("web")["next"]
    cluster.agents[master].reporting = False
    cluster.now += 100
    cluster.agents[heir].set_state("web", "Master", "master-host-dead")
    cluster.agents[heir].report()
    cluster.reconcile()
    cluster.now += 1
    cluster.reconcile()
    cluster.agents[heir].follow()
    cluster.agents[heir].report()
    for _ in range(3):
        cluster.now += 3
        cluster.reconcile()
        assert cluster.status("web")["master"]["node"] == heir
        assert cluster.condition("web", "SplitBrain")[0] == "False"
    assert cluster.plan().again_in_s is None
    assert cluster.status("web")["transitions"] == 2


def test_a_handover_is_not_told_as_a_lost_master(cluster: Cluster) -> None:
    master, heir = cluster.status("web")["master"]["node"], cluster.status("web")["next"]
    cluster.now += 100
    cluster.events.clear()
    cluster.agents[master].set_state("web", "Backup", "successor-heard")
    cluster.agents[master].report()
    plan = cluster.reconcile()
    assert (plan.statuses, plan.events, plan.again_in_s) == ((), (), 1.0)
    cluster.agents[heir].set_state("web", "Master", "master-bowed-out")
    cluster.agents[heir].report()
    cluster.reconcile()
    assert [str(event.reason) for event in cluster.events] == ["Handover"]


def test_a_master_that_nobody_succeeds_is_told_a_second_later(cluster: Cluster) -> None:
    master = cluster.status("web")["master"]["node"]
    cluster.now += 100
    cluster.events.clear()
    cluster.agents[master].set_state("web", "Backup", "successor-heard")
    cluster.agents[master].report()
    cluster.reconcile()
    cluster.now += 1
    cluster.reconcile()
    assert [str(event.reason) for event in cluster.events] == ["MasterLost"]
    assert cluster.plan().again_in_s is None


def test_a_write_that_time_brought_about_is_made_good_too(cluster: Cluster) -> None:
    """Nothing changed in the world, so there is nothing to give back when writing fails."""
    master = cluster.status("web")["master"]["node"]
    cluster.now += 100
    cluster.agents[master].set_state("web", "Backup", "successor-heard")
    cluster.agents[master].report()
    cluster.reconcile()
    cluster.now += 1
    cluster.reconcile(lambda kind, _: kind is Kind.GROUP)
    assert "master" in cluster.status("web")
    cluster.reconcile()
    assert "master" not in cluster.status("web")
    assert cluster.plan().statuses == ()
