"""A change that is refused leaves what runs running, whoever refuses it and whatever happens to the operator meanwhile."""

from typing import Any

import pytest

from carp_operator.handlers.cache import Kind
from lab.world import Cluster

Json = dict[str, Any]


@pytest.fixture
def cluster() -> Cluster:
    """Three nodes that run the group web."""
    cluster = Cluster()
    cluster.apply_group("web")
    cluster.settle()
    return cluster


def accepted(cluster: Cluster, name: str = "web") -> tuple[str, str]:
    return cluster.condition(name, "Accepted")[:2]


REFUSED: dict[str, tuple[Json, str]] = {
    "an address of another group": ({"addresses": ["10.77.0.100", "10.77.0.101"]}, "AddressConflict"),
    "an address of a node": ({"addresses": ["10.77.0.100", "10.77.0.1"]}, "NodeAddress"),
    "another VHID": ({"vhid": 9}, "VhidChanged"),
    "a Secret that is not there": ({"authentication": {"secretRef": {"name": "missing"}}}, "SecretNotFound"),
    "a Secret without a key": ({"authentication": {"secretRef": {"name": "empty"}}}, "KeyMissing"),
    "a key that is none": ({"authentication": {"secretRef": {"name": "bad"}}}, "KeyInvalid"),
    "a pattern that is none": ({"interface": {"pattern": "(eth"}}, "Invalid"),
    "an interface that nobody has": ({"interface": {"name": "eth7"}}, "InterfaceNotFound"),
    "a subnet that nobody has": ({"addresses": ["198.51.100.1"]}, "InterfaceNotFound"),
}


@pytest.fixture
def crowded(cluster: Cluster) -> Cluster:
    """web, db and two Secrets that are of no use."""
    cluster.apply_group("db", "10.77.0.101")
    cluster.apply_secret("empty")
    cluster.apply_secret("bad", key="secret")
    cluster.settle()
    return cluster


@pytest.mark.parametrize("title", REFUSED)
@pytest.mark.parametrize("restart", [False, True], ids=["", "and the operator is another one"])
def test_a_change_that_is_refused_leaves_what_runs_running(crowded: Cluster, title: str, restart: bool) -> None:
    spec, reason = REFUSED[title]
    before, status = crowded.entries("web"), crowded.status("web")
    crowded.apply_group("web", *spec.get("addresses", ()), **{key: value for key, value in spec.items() if key != "addresses"})
    if restart:
        crowded.restart()
    crowded.settle()
    assert accepted(crowded) == ("False", reason)
    assert crowded.condition("web", "Accepted")[2].endswith("; the version before goes on running")
    assert crowded.entries("web") == before
    assert {key: crowded.status("web")[key] for key in ("vhid", "addresses", "interval", "master")} == {
        key: status[key] for key in ("vhid", "addresses", "interval", "master")
    }
    assert crowded.condition("web", "Ready")[0] == "True"
    assert crowded.condition("web", "Programmed") == (
        "False",
        "NotAccepted",
        "the newest version is not accepted; the one before runs on every member",
    )
    crowded.apply_group("web")
    crowded.settle()
    assert accepted(crowded) == ("True", "Accepted")
    assert crowded.entries("web") == before, "taking it back is no change at all"


@pytest.mark.parametrize("title", REFUSED)
def test_maintenance_reaches_what_goes_on_running(crowded: Cluster, title: str) -> None:
    spec, _ = REFUSED[title]
    crowded.apply_group("web", *spec.get("addresses", ()), **{key: value for key, value in spec.items() if key != "addresses"})
    crowded.settle()
    master = crowded.status("web")["master"]["node"]
    crowded.add_node(master, maintenance=True)
    crowded.settle()
    assert crowded.entries("web")[master]["demotion"] == 200
    assert crowded.status("web")["master"]["node"] != master
    crowded.add_node(master)
    crowded.settle()
    assert "demotion" not in crowded.entries("web")[master]


def test_where_a_refused_group_goes_on_running_its_vhid_stays_taken(cluster: Cluster) -> None:
    cluster.apply_group("web", "198.51.100.1")
    cluster.settle()
    cluster.apply_group("db", "10.77.0.101")
    cluster.apply_group("taker", "10.77.0.100")
    cluster.settle()
    assert cluster.status("db")["vhid"] == 2
    assert accepted(cluster, "taker") == ("False", "AddressConflict")


def test_a_refused_change_of_a_group_whose_status_was_never_written_claims_nothing() -> None:
    """An operator died before the status; what the next one refuses must not be taken for what runs."""
    cluster = Cluster()
    cluster.settle()
    cluster.apply_group("web")
    cluster.reconcile(lambda kind, _: kind is Kind.GROUP)
    cluster.apply_group("db", "10.77.0.101")
    cluster.objects[Kind.GROUP]["db"]["metadata"]["creationTimestamp"] = "2099-01-01T00:00:00Z"
    cluster.restart()
    cluster.reconcile(lambda _kind, name: name == "web")
    cluster.apply_group("web", "10.77.0.101", authentication={"secretRef": {"name": "missing"}})
    cluster.restart()
    cluster.settle()
    assert cluster.status("web")["addresses"] == ["10.77.0.100"]
    assert accepted(cluster, "db") == ("True", "Accepted")


def test_a_selector_is_part_of_a_change_that_is_refused(cluster: Cluster) -> None:
    """Half of what somebody wrote is nothing that anybody wanted."""
    before = cluster.entries("web")
    selector = {"matchLabels": {"zone": "moon"}}
    cluster.apply_group("web", nodeSelector=selector, vhid=9, priorities=[{"node": "a", "priority": 255}])
    cluster.add_node("b", labels={"zone": "moon"})
    cluster.settle()
    assert accepted(cluster) == ("False", "VhidChanged")
    assert cluster.entries("web") == before


def test_an_address_is_not_given_away_before_every_carp_node_has_let_go_of_it(cluster: Cluster) -> None:
    cluster.apply_group("web", "10.77.0.102")
    cluster.apply_group("db", "10.77.0.100")
    cluster.agents["b"].reporting = False
    for _ in range(4):
        cluster.reconcile(lambda kind, name: (kind, name) == (Kind.CARP_NODE, "b"))
        for name in ("a", "c"):
            cluster.agents[name].follow()
            cluster.agents[name].report()
        assert cluster.status("web")["addresses"] == ["10.77.0.102"]
        assert accepted(cluster, "db") == ("False", "AddressConflict")
    cluster.settle()
    assert accepted(cluster, "db") == ("True", "Accepted")


@pytest.mark.parametrize("form", ["opaque", "a ring of nobody"])
def test_a_secret_that_has_the_name_of_the_ring_is_not_overwritten_and_holds_nobody_else_up(form: str) -> None:
    cluster = Cluster()
    cluster.settle()
    cluster.apply_secret("kubecarp-key-web", key="mine")
    if form != "opaque":
        cluster.objects[Kind.SECRET]["kubecarp-key-web"]["type"] = "kubecarp.io/key-ring"
    cluster.apply_group("web")
    cluster.apply_group("db", "10.77.0.101")
    cluster.settle()
    assert accepted(cluster, "web") == ("False", "SecretTaken")
    assert accepted(cluster, "db") == ("True", "Accepted")
    assert cluster.secret("kubecarp-key-web") == {"key": "mine"}
    cluster.delete(Kind.SECRET, "kubecarp-key-web")
    cluster.settle()
    assert accepted(cluster, "web") == ("True", "Accepted")


def test_a_ring_that_somebody_replaces_by_another_secret_is_not_fought_for(cluster: Cluster) -> None:
    before = cluster.entries("web")
    cluster.delete(Kind.SECRET, "kubecarp-key-web")
    cluster.apply_secret("kubecarp-key-web", key="mine")
    cluster.settle()
    assert accepted(cluster, "web") == ("False", "SecretTaken")
    assert cluster.entries("web") == before
    assert cluster.plan().rings == ()
