"""Nodes that come, go, and are in trouble: who stays a member, and what the others know of it."""

import pytest

from carp_operator.handlers.cache import Kind
from lab.world import NODES, Cluster

SELECT = {"matchLabels": {"edge": "yes"}}


@pytest.fixture
def cluster() -> Cluster:
    """Three nodes that run the group web."""
    cluster = Cluster()
    cluster.apply_group("web")
    cluster.settle()
    return cluster


def accepted(cluster: Cluster, name: str = "web") -> tuple[str, str]:
    return cluster.condition(name, "Accepted")[:2]


def test_a_selector_that_selects_nobody_ends_it(cluster: Cluster) -> None:
    cluster.apply_group("web", nodeSelector=SELECT)
    cluster.settle()
    assert accepted(cluster) == ("False", "NoEligibleNode")
    assert cluster.entries("web") == {}
    assert "addresses" not in cluster.status("web")
    assert cluster.status("web")["vhid"] == 1, "it is there when a node comes back"


def test_a_group_that_rested_comes_back_with_its_vhid(cluster: Cluster) -> None:
    cluster.apply_group("db", "10.77.0.101")
    cluster.settle()
    cluster.apply_group("db", "10.77.0.101", nodeSelector=SELECT)
    cluster.delete(Kind.GROUP, "web")
    cluster.settle()
    cluster.apply_group("new", "10.77.0.102")
    cluster.apply_group("more", "10.77.0.103")
    cluster.settle()
    cluster.apply_group("db", "10.77.0.101")
    cluster.settle()
    assert {name: cluster.status(name)["vhid"] for name in ("db", "new", "more")} == {"db": 2, "new": 1, "more": 3}


def test_a_node_that_is_not_selected_any_more_loses_its_entry() -> None:
    cluster = Cluster()
    for name in NODES:
        cluster.add_node(name, labels={"edge": "yes"})
    cluster.apply_group("web", nodeSelector=SELECT)
    cluster.settle()
    cluster.add_node("b", labels={})
    cluster.settle()
    assert sorted(cluster.entries("web")) == ["a", "c"]
    assert cluster.status("web")["memberCount"] == 2


def test_kubelets_that_lost_the_api_server_make_no_dead_masters(cluster: Cluster) -> None:
    """Their agents may still report, and the addresses answer: what nobody can confirm is not said to be otherwise."""
    master = cluster.status("web")["master"]["node"]
    cluster.events.clear()
    for number, name in enumerate(NODES, 1):
        cluster.add_node(name, f"10.77.0.{number}", ready=False)
    cluster.settle()
    status, reason, message = cluster.condition("web", "Ready")
    assert (status, reason) == ("False", "NoMaster")
    assert message.startswith(f"{master} said last that it has the addresses, but Kubernetes calls no node of the group ready")
    told = f"nobody confirms that {master} is still master: its node is not ready or gone, and no other member is"
    assert [(str(event.reason), event.note) for event in cluster.events] == [("MasterLost", told)]


@pytest.mark.parametrize("restart", [False, True], ids=["", "and the operator is another one"])
@pytest.mark.parametrize("trouble", ["not ready", "no interface", "no report", "sidecar ended"])
def test_trouble_of_a_node_removes_nobody(cluster: Cluster, trouble: str, restart: bool) -> None:
    before = cluster.entries("web")
    match trouble:
        case "not ready":
            cluster.add_node("a", ready=False)
        case "no interface":
            cluster.agents["a"].interfaces = []
            cluster.agents["a"].report()
        case "no report":
            cluster.agents["a"].reporting = False
            cluster.write_status(Kind.CARP_NODE, "a", {})
        case "sidecar ended":
            cluster.agents["a"].up = False
            cluster.agents["a"].report()
    if restart:
        cluster.restart()
    cluster.settle()
    assert cluster.entries("web") == before
    assert cluster.status("web")["memberCount"] == 3
    assert accepted(cluster) == ("True", "Accepted")


def test_a_dead_master_is_no_member_in_reserve_long_before_kubernetes_notices(cluster: Cluster) -> None:
    """Its last report says master, its Node is called ready for most of a minute, and another one has taken over."""
    dead = cluster.status("web")["master"]["node"]
    other = next(name for name in NODES if name != dead)
    cluster.agents[dead].reporting = False
    cluster.now += 60
    cluster.agents[other].set_state("web", "Master", "master-host-dead")
    cluster.agents[other].report()
    for _ in range(4):
        cluster.reconcile()
        cluster.agents[other].follow()
        cluster.agents[other].report()
        cluster.now += 2
    cluster.reconcile()
    status = cluster.status("web")
    assert (status["master"]["node"], status["readyCount"]) == (other, 2)
    member = next(member for member in status["members"] if member["node"] == dead)
    assert (member["state"], member["ready"], member["reason"]) == ("Unknown", False, "Silent")
    assert cluster.condition("web", "Degraded")[:2] == ("True", "MemberNotReady")


@pytest.mark.parametrize("restart", [False, True], ids=["", "and the operator is another one"])
def test_nobody_forgets_the_peer_of_a_node_in_trouble(restart: bool) -> None:
    cluster = Cluster(())
    for number, name in enumerate(NODES, 1):
        cluster.add_node(name, f"192.0.2.{number}")
        cluster.agents[name].interfaces = [{"name": "eth0", "state": "Up", "addresses": [f"fd77::{number}/64"]}]
    cluster.apply_group("web", "fd77::100", peers={"mode": "Unicast"})
    cluster.settle()
    before = cluster.entries("web")
    assert before["a"]["peers"]["addresses"] == ["fd77::2", "fd77::3"]
    cluster.agents["b"].interfaces = []
    cluster.agents["b"].report()
    if restart:
        cluster.restart()
    cluster.reconcile()
    for name in ("a", "c"):
        assert cluster.entries("web")[name]["peers"] == before[name]["peers"]
    assert set(before["b"]["peers"]["addresses"]) <= set(cluster.entries("web")["b"]["peers"]["addresses"])


def test_nodes_come_and_go(cluster: Cluster) -> None:
    cluster.add_node("d", "10.77.0.4")
    cluster.settle()
    assert sorted(cluster.entries("web")) == ["a", "b", "c", "d"]
    cluster.delete(Kind.NODE, "a")
    del cluster.agents["a"]
    cluster.settle()
    assert sorted(cluster.entries("web")) == ["b", "c", "d"]
    assert cluster.status("web")["summary"]["members"] == "3/3"


def test_a_node_that_was_made_anew_owns_its_carp_node_again(cluster: Cluster) -> None:
    cluster.objects[Kind.NODE]["a"]["metadata"]["uid"] = "uid-new"
    cluster.restart()
    cluster.reconcile()
    assert cluster.writes == [(Kind.CARP_NODE, "a")]
    assert cluster.objects[Kind.CARP_NODE]["a"]["metadata"]["ownerReferences"][0]["uid"] == "uid-new"


def test_groups_of_different_networks_may_share_a_vhid_on_one_node() -> None:
    """The sidecar of the node must take both."""
    cluster = Cluster()
    for number, name in enumerate(NODES, 1):
        cluster.agents[name].interfaces.append({"name": "eth1", "state": "Up", "addresses": [f"192.0.2.{number}/24"]})
    cluster.apply_group("web", "10.77.0.100")
    cluster.apply_group("db", "192.0.2.100")
    cluster.settle()
    assert {cluster.status(name)["vhid"] for name in ("web", "db")} == {1}
    assert {name: len(agent.running) for name, agent in cluster.agents.items()} == dict.fromkeys(NODES, 2)


def test_a_group_that_is_half_way_to_another_network_keeps_its_vhid_on_both() -> None:
    """Its CarpNodes were written in part when the operator died."""
    cluster = Cluster()
    for number, name in enumerate(NODES, 1):
        cluster.agents[name].interfaces.append({"name": "eth1", "state": "Up", "addresses": [f"192.0.2.{number}/24"]})
    cluster.apply_group("web")
    cluster.settle()
    cluster.apply_group("web", "192.0.2.100")
    cluster.reconcile(lambda kind, name: (kind, name) == (Kind.CARP_NODE, "b"))
    assert {entry["addresses"][0] for entry in cluster.entries("web").values()} == {"10.77.0.100", "192.0.2.100"}
    cluster.apply_group("db", "10.77.0.101")
    cluster.restart()
    cluster.reconcile()
    assert cluster.status("db")["vhid"] == 2


def test_what_is_left_of_a_node_that_is_gone_counts_for_nothing(cluster: Cluster) -> None:
    """Until the garbage collector comes."""
    left = cluster.objects[Kind.CARP_NODE]["a"]
    cluster.delete(Kind.NODE, "a")
    cluster.put(Kind.CARP_NODE, left | {"metadata": left["metadata"] | {"uid": "left"}})
    cluster.apply_group("web", authentication={"secretRef": {"name": "missing"}})
    cluster.restart()
    cluster.reconcile()
    assert cluster.status("web")["summary"]["members"] == "2/2"


def test_where_a_group_would_be_is_known_of_nodes_that_are_not_selected(cluster: Cluster) -> None:
    """Its VHID is reserved there, whoever asks first."""
    cluster.apply_group("web", nodeSelector=SELECT)
    cluster.settle()
    cluster.apply_group("db", "10.77.0.101", vhid=1)
    cluster.settle()
    cluster.agents["a"].interfaces[0]["addresses"] = ["10.77.0.1/24", "fd77::1/64"]
    cluster.settle()
    refusal = cluster.condition("db", "Accepted")
    assert refusal[1:] == (
        "VhidConflict",
        "VHID 1 belongs to CarpGroup web on 10.77.0.0/24, fd77::/64; create it anew without vhid to get a free one",
    )
    cluster.restart()
    cluster.settle()
    assert cluster.condition("db", "Accepted") == refusal


def test_of_many_members_the_best_are_listed_and_all_are_counted() -> None:
    cluster = Cluster(())
    for number in range(70):
        cluster.add_node(f"n{number}", f"10.77.1.{number}")
        cluster.agents[f"n{number}"].interfaces[0]["addresses"] = [f"10.77.1.{number}/16"]
    cluster.apply_group("web")
    cluster.settle()
    status = cluster.status("web")
    assert (len(status["members"]), status["memberCount"], status["summary"]["members"]) == (64, 70, "70/70")


def test_a_group_in_compatible_mode_says_what_it_gives_up() -> None:
    cluster = Cluster()
    cluster.apply_group("web", authentication={"mode": "Compatible"})
    cluster.apply_group("db", "10.77.0.101")
    cluster.settle()
    weak = "; Compatible mode: whoever records one advert can take the address"
    assert [cluster.condition(name, "Accepted")[2].endswith(weak) for name in ("web", "db")] == [True, False]


@pytest.mark.parametrize(
    "fence, said", [("Auto", "if it hangs as master, only the lifetime of its addresses silences it: no nftables"), ("Lifetime", "")]
)
def test_a_member_without_the_gate_says_so_unless_that_is_what_was_asked_for(cluster: Cluster, fence: str, said: str) -> None:
    cluster.apply_group("web", fence=fence)
    cluster.agents["b"].seen["web"] = {"fence": {"active": "Lifetime", "reason": "no nftables"}}
    cluster.settle()
    member = next(one for one in cluster.status("web")["members"] if one["node"] == "b")
    assert (member["ready"], member.get("message", "")) == (True, said)
