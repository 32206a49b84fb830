"""Every reason that a condition can have, with the whole sentence that a user reads, in a cluster where it comes about."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from carp_operator.api.reasons import Reason
from carp_operator.handlers.cache import Kind
from lab.world import NODES, Cluster

RANKED = [{"node": "a", "priority": 255}, {"node": "b", "priority": 200}, {"node": "c", "priority": 100}]
"""a is master, then b, then c."""
KEEPS = "; the version before goes on running"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A condition of the group web, and how it comes about."""

    condition: str
    status: str
    reason: Reason
    message: str
    happens: Callable[[Cluster], None]


def spec(*addresses: str, **fields: Any) -> Callable[[Cluster], None]:
    """The user changes web."""

    def change(cluster: Cluster) -> None:
        cluster.apply_group("web", *addresses, **{"priorities": RANKED} | fields)
        cluster.settle()

    return change


def anew(*addresses: str, **fields: Any) -> Callable[[Cluster], None]:
    """web is made anew."""

    def change(cluster: Cluster) -> None:
        cluster.delete(Kind.GROUP, "web")
        cluster.settle()
        spec(*addresses, **fields)(cluster)

    return change


def seen(node: str, **more: Any) -> Callable[[Cluster], None]:
    """A node reports something more of web."""

    def change(cluster: Cluster) -> None:
        cluster.agents[node].seen["web"] = more
        cluster.settle()

    return change


def nothing(cluster: Cluster) -> None:
    """All is well."""


def secret(**entries: str) -> Callable[[Cluster], None]:
    def change(cluster: Cluster) -> None:
        cluster.apply_secret("mine", **entries)
        mode = "Compatible" if "password" in entries else "Strict"
        anew(authentication={"mode": mode, "secretRef": {"name": "mine"}})(cluster)

    return change


def foreign_ring(cluster: Cluster) -> None:
    cluster.delete(Kind.GROUP, "web")
    cluster.settle()
    cluster.apply_secret("kubecarp-key-web", key="x")
    cluster.apply_group("web")
    cluster.settle()


def node_dies(*names: str) -> Callable[[Cluster], None]:
    def change(cluster: Cluster) -> None:
        for name in names:
            cluster.agents[name].reporting = cluster.agents[name].up = False
            cluster.add_node(name, ready=False)
        cluster.settle()

    return change


def sidecar_ends(*names: str) -> Callable[[Cluster], None]:
    def change(cluster: Cluster) -> None:
        for name in names:
            cluster.agents[name].up = False
        cluster.now += 2
        cluster.settle()

    return change


def agent_cannot(cluster: Cluster) -> None:
    for name in ("b", "c"):
        cluster.agents[name].problems = ["Secret kubecarp-key-web has no key key-1"]
        cluster.agents[name].report()
    cluster.apply_group("web", priorities=RANKED, virtualMAC=False)
    cluster.reconcile()
    cluster.agents["a"].follow()
    cluster.agents["a"].report()
    cluster.reconcile()


def half_way(cluster: Cluster) -> None:
    cluster.apply_group("web", priorities=RANKED, virtualMAC=False)
    cluster.reconcile()
    cluster.agents["a"].follow()
    cluster.agents["a"].report()
    cluster.reconcile()


def rotation(cluster: Cluster) -> None:
    cluster.apply_group("web", priorities=RANKED, annotations={"kubecarp.io/rotate-key": "now"})
    cluster.reconcile()


def exhausted(cluster: Cluster) -> None:
    for number in range(2):
        cluster.apply_group(f"g{number}", f"10.77.0.{110 + number}")
    cluster.settle()
    anew()(cluster)


def two_masters(cluster: Cluster) -> None:
    cluster.now += 100
    cluster.agents["b"].set_state("web", "Master", "master-timed-out")
    cluster.agents["b"].report()
    cluster.reconcile()
    cluster.now += 1
    cluster.reconcile()
    for name in ("a", "b"):
        cluster.agents[name].follow()
        cluster.agents[name].report()
    cluster.reconcile()


def an_outsider(cluster: Cluster) -> None:
    for name in NODES:
        cluster.agents[name].set_state("web", "Backup", "better-master")
        cluster.agents[name].seen["web"] = {"master": {"source": "10.77.0.250", "local": False}}
        cluster.agents[name].report()
    cluster.now += 2
    cluster.reconcile()


def nobody(cluster: Cluster) -> None:
    for name in NODES:
        cluster.agents[name].set_state("web", "Backup")
        cluster.agents[name].report()
    cluster.now += 2
    cluster.reconcile()


def without_carrier(cluster: Cluster) -> None:
    for name, state in (("b", "Down"), ("c", "Missing")):
        cluster.agents[name].seen["web"] = {"interfaceState": state}
    cluster.settle()


def alone(cluster: Cluster) -> None:
    for name in ("b", "c"):
        cluster.delete(Kind.NODE, name)
        del cluster.agents[name]
    cluster.settle()


A, P, R, D, S = "Accepted", "Programmed", "Ready", "Degraded", "SplitBrain"
FAILING = {"healthChecks": [{"name": "web", "passing": False, "message": "GET http://127.0.0.1:80/: connection refused"}]}

SENTENCES = {
    "all is well": Sentence(A, "True", Reason.ACCEPTED, "runs with VHID 1 on a, b and c", nothing),
    "another group has the VHID": Sentence(
        A,
        "False",
        Reason.VHID_CONFLICT,
        "VHID 2 belongs to CarpGroup db on 10.77.0.0/24; create it anew without vhid to get a free one",
        anew(vhid=2),
    ),
    "every VHID is taken": Sentence(
        A,
        "False",
        Reason.VHIDS_EXHAUSTED,
        "every VHID from 1 to 3 is taken on 10.77.0.0/24; "
        "put further addresses into an existing group (it holds 32), or use another network",
        exhausted,
    ),
    "another VHID": Sentence(
        A,
        "False",
        Reason.VHID_CHANGED,
        "the group runs with VHID 1, which cannot change to 9; delete the group and create it anew" + KEEPS,
        spec(vhid=9),
    ),
    "another group has the address": Sentence(
        A,
        "False",
        Reason.ADDRESS_CONFLICT,
        "10.77.0.101 belongs to CarpGroup db; remove it from one of the two" + KEEPS,
        spec("10.77.0.100", "10.77.0.101"),
    ),
    "a node has the address": Sentence(
        A,
        "False",
        Reason.NODE_ADDRESS,
        "10.77.0.2 is the own address of node b; a virtual address must be one that no host has" + KEEPS,
        spec("10.77.0.100", "10.77.0.2"),
    ),
    "nobody is selected": Sentence(
        A,
        "False",
        Reason.NO_ELIGIBLE_NODE,
        "no node can be a member: 3 nodes not selected by nodeSelector",
        spec(nodeSelector={"matchLabels": {"zone": "moon"}}),
    ),
    "nobody has the interface": Sentence(
        A,
        "False",
        Reason.INTERFACE_NOT_FOUND,
        "no node can be a member: 3 nodes without an interface eth7" + KEEPS,
        spec(interface={"name": "eth7"}),
    ),
    "no Secret": Sentence(
        A,
        "False",
        Reason.SECRET_NOT_FOUND,
        "Secret mine is not in the operator's namespace; create it there, or leave secretRef out to have a key made" + KEEPS,
        spec(authentication={"secretRef": {"name": "mine"}}),
    ),
    "a Secret with the name of the ring": Sentence(
        A,
        "False",
        Reason.SECRET_TAKEN,
        "Secret kubecarp-key-web is not the operator's, and the group's keys go by this name; delete it, or name the group otherwise",
        foreign_ring,
    ),
    "no key": Sentence(A, "False", Reason.KEY_MISSING, "Secret mine has no entry key; add it", secret(kay="x")),
    "a key that is none": Sentence(
        A,
        "False",
        Reason.KEY_INVALID,
        'Secret mine: a Strict key is 32 bytes, as 64 hex digits or base64; make one with "carp-sidecar key > FILE"',
        secret(key="x"),
    ),
    "a long password": Sentence(
        A,
        "False",
        Reason.KEY_TOO_LONG,
        "Secret mine: the password has 20 bytes; carp(4) uses 1 to 19, the first line counts",
        secret(password="p" * 20),
    ),
    "a pattern that is none": Sentence(
        A,
        "False",
        Reason.INVALID,
        "interface_pattern: '(eth' is not a regular expression: missing ), unterminated subpattern at position 0; write for example ^en"
        + KEEPS,
        spec(interface={"pattern": "(eth"}),
    ),
    "it runs everywhere": Sentence(P, "True", Reason.PROGRAMMED, "runs on a, b and c", nothing),
    "nothing runs": Sentence(P, "False", Reason.NOT_ACCEPTED, "nothing runs, because the group is not accepted", secret(kay="x")),
    "the version before runs": Sentence(
        P, "False", Reason.NOT_ACCEPTED, "the newest version is not accepted; the one before runs on every member", spec(vhid=9)
    ),
    "on its way": Sentence(P, "False", Reason.PENDING, "waiting for b and c to run the newest version", half_way),
    "an agent cannot": Sentence(
        P,
        "False",
        Reason.REFUSED,
        "b: Secret kubecarp-key-web has no key key-1 (and 1 more node); the version before runs on there",
        agent_cannot,
    ),
    "a master": Sentence(R, "True", Reason.MASTER_ELECTED, "a has the addresses", nothing),
    "a master outside": Sentence(
        R, "True", Reason.MASTER_OUTSIDE, "10.77.0.250 has the addresses: a member that is no node of the cluster", an_outsider
    ),
    "no master": Sentence(R, "False", Reason.NO_MASTER, "no member has the addresses", nobody),
    "no master, for reasons": Sentence(
        R,
        "False",
        Reason.NO_MASTER,
        "no member has the addresses: a: the sidecar does not run; look at its pod; b: the sidecar does not run; look at its pod; "
        "c: the sidecar does not run; look at its pod",
        sidecar_ends(*NODES),
    ),
    "no member": Sentence(
        R,
        "False",
        Reason.NO_MEMBER,
        "no node runs the group; the condition Accepted says why",
        spec(nodeSelector={"matchLabels": {"x": "y"}}),
    ),
    "the kernel does not hold it": Sentence(
        R,
        "False",
        Reason.ADDRESS_NOT_HELD,
        "a is the master, but its kernel does not hold 10.77.0.100; look at the log of its sidecar",
        seen("a", addresses=[{"address": "10.77.0.100", "held": False}]),
    ),
    "two masters": Sentence(R, "False", Reason.SEVERAL_MASTERS, "b and a have the addresses at the same time", two_masters),
    "healthy": Sentence(D, "False", Reason.HEALTHY, "3 members could have the addresses", nothing),
    "nothing to be degraded": Sentence(D, "False", Reason.HEALTHY, "nothing runs", secret(kay="x")),
    "a single node": Sentence(D, "True", Reason.NO_BACKUP, "no other node could take over; status.members says why, or add a node", alone),
    "a dead node": Sentence(D, "True", Reason.MEMBER_NOT_READY, "c could not take over: the node is not ready", node_dies("c")),
    "two without a link": Sentence(
        D,
        "True",
        Reason.MEMBER_NOT_READY,
        "b could not take over: interface eth0 is down, and 1 more node; "
        "no other node could take over; status.members says why, or add a node",
        without_carrier,
    ),
    "a stranger": Sentence(
        D,
        "True",
        Reason.ADDRESS_TAKEN,
        "02:00:00:00:00:01 answers for an address of the group without CARP, as b sees; find that host and take the address from it",
        seen("b", addressConflict={"mac": "02:00:00:00:00:01", "at": "2026-11-25T12:00:00Z"}),
    ),
    "a wrong signature": Sentence(
        D,
        "True",
        Reason.AUTHENTICATION_FAILED,
        "c hears adverts with a wrong signature; another group or router uses VHID 1, or its key differs",
        seen("c", authenticationFailed=True),
    ),
    "a health check": Sentence(
        D,
        "True",
        Reason.HEALTH_CHECK_FAILED,
        "health check web fails on b: GET http://127.0.0.1:80/: connection refused",
        seen("b", **FAILING),
    ),
    "a rotation": Sentence(D, "True", Reason.KEY_ROTATION, "a key is being replaced; it goes on when every member has followed", rotation),
    "one master": Sentence(S, "False", Reason.ONE_MASTER, "a is the only master", nothing),
    "one master outside": Sentence(S, "False", Reason.ONE_MASTER, "10.77.0.250 is the only master", an_outsider),
    "not one": Sentence(S, "False", Reason.NO_MASTER, "no member is master", nobody),
    "a split brain": Sentence(
        S,
        "True",
        Reason.SEVERAL_MASTERS,
        "a and b are masters and do not hear each other; look at the network between them: it must let IP protocol 112 through",
        two_masters,
    ),
}


@pytest.fixture
def cluster() -> Cluster:
    """web with VHID 1 and db with VHID 2 on three nodes; there are three VHIDs."""
    cluster = Cluster(last_vhid=3)
    cluster.apply_group("web", priorities=RANKED)
    cluster.settle()
    cluster.apply_group("db", "10.77.0.101")
    cluster.settle()
    return cluster


@pytest.mark.parametrize("title", SENTENCES)
def test_what_a_user_reads(cluster: Cluster, title: str) -> None:
    expected = SENTENCES[title]
    expected.happens(cluster)
    assert cluster.condition("web", expected.condition) == (expected.status, expected.reason, expected.message)


def test_every_reason_has_its_sentence() -> None:
    assert {sentence.reason for sentence in SENTENCES.values()} == set(Reason)


def test_many_nodes_are_counted(cluster: Cluster) -> None:
    for number in range(4, 8):
        cluster.add_node(f"n{number}", f"10.77.0.{number}")
    cluster.settle()
    assert cluster.condition("web", "Programmed")[2].endswith(" and 2 more nodes")


def test_a_member_that_is_master_and_not_ready_is_not_said_to_wait(cluster: Cluster) -> None:
    cluster.agents["b"].seen["web"] = {"master": {"source": "10.77.0.1", "local": False}}
    cluster.agents["b"].report()
    cluster.add_node("a", ready=False)
    cluster.reconcile()
    assert cluster.status("web")["master"]["node"] == "a"
    assert cluster.condition("web", "Degraded")[2] == "a has the addresses, but the node is not ready"
    assert next(one["state"] for one in cluster.status("web")["members"] if one["node"] == "a") == "Master"


def test_the_most_urgent_complaint_comes_first(cluster: Cluster) -> None:
    cluster.agents["a"].seen["web"] = FAILING
    cluster.agents["c"].seen["web"] = {"authenticationFailed": True, "addressConflict": {"mac": "m", "at": cluster.time}}
    cluster.settle()
    status, reason, message = cluster.condition("web", "Degraded")
    assert (status, reason) == ("True", "AddressTaken")
    assert [part.split()[0] for part in message.split("; ")] == ["m", "find", "c", "another", "health"]


def test_what_dead_nodes_complained_of_is_forgotten(cluster: Cluster) -> None:
    seen("c", authenticationFailed=True)(cluster)
    node_dies("c")(cluster)
    assert cluster.condition("web", "Degraded")[1] == "MemberNotReady"


MEMBERS: dict[str, tuple[Callable[[Cluster], None], dict[str, Any]]] = {
    "waits": (nothing, {"state": "Backup", "ready": True, "reason": "started"}),
    "its node is not ready": (
        node_dies("b"),
        {"state": "Unknown", "ready": False, "reason": "NodeNotReady", "message": "the node is not ready"},
    ),
    "its sidecar ended": (
        sidecar_ends("b"),
        {"state": "Unknown", "ready": False, "reason": "SidecarNotRunning", "message": "the sidecar does not run; look at its pod"},
    ),
    "its interface is down": (
        seen("b", interfaceState="Down"),
        {"ready": False, "reason": "InterfaceDown", "message": "interface eth0 is down"},
    ),
    "its interface is missing": (
        seen("b", interface="", interfaceState="Missing"),
        {"ready": False, "reason": "InterfaceMissing", "message": "the interface is missing"},
    ),
    "a check excludes it": (
        seen("b", demotion={"total": 0, "excluded": True, "reasons": [{"name": "health/web"}]}),
        {"ready": False, "reason": "Excluded", "message": "out of the election (health/web)"},
    ),
    "it starts": (
        seen("b", state="Init"),
        {"state": "Init", "ready": False, "reason": "Starting", "message": "the sidecar is in state Init"},
    ),
    "its priority is 0": (
        spec(priorities=[{"node": "a", "priority": 255}, {"node": "b", "priority": 0}]),
        {"ready": False, "priority": 0, "advskew": 255, "reason": "PriorityZero", "message": "priority 0: it never becomes master"},
    ),
    "it is demoted": (
        seen("b", demotion={"total": 128, "excluded": False, "reasons": [{"name": "health/web", "amount": 128}]}, warnings=["look here"]),
        {"ready": True, "demotion": 128, "message": "demoted by 128 (health/web); look here"},
    ),
}


@pytest.mark.parametrize("title", MEMBERS)
def test_what_is_said_of_a_member(cluster: Cluster, title: str) -> None:
    happens, expected = MEMBERS[title]
    happens(cluster)
    member = next(one for one in cluster.status("web")["members"] if one["node"] == "b")
    assert {key: member.get(key) for key in expected} == expected


def test_a_member_without_a_report_says_what_its_agent_says(cluster: Cluster) -> None:
    cluster.add_node("d", "10.77.0.4")
    cluster.reconcile()
    cluster.agents["d"].report()
    cluster.reconcile()
    cluster.reconcile()
    cluster.agents["d"].report()

    def of_d() -> dict[str, Any]:
        cluster.reconcile()
        return next(one for one in cluster.status("web")["members"] if one["node"] == "d")

    cluster.write_status(Kind.CARP_NODE, "d", {"sidecar": {"running": True}})
    assert (of_d()["reason"], of_d()["message"]) == ("NotProgrammed", "the sidecar does not run the group yet")
    cluster.write_status(Kind.CARP_NODE, "d", {"sidecar": {"running": True}, "problems": ["no key"]})
    assert (of_d()["reason"], of_d()["message"]) == ("NotProgrammed", "no key")


def test_the_columns_answer_at_a_glance(cluster: Cluster) -> None:
    spec("10.77.0.100/24", "fd77::100", "fd77::101", advertisementInterval="33.333333333ms")(cluster)
    node_dies("c")(cluster)
    status = cluster.status("web")
    assert status["summary"] == {"addresses": "10.77.0.100/24 +2", "members": "2/3"}
    assert (status["memberCount"], status["readyCount"], status["next"]) == (3, 2, "b")
    assert status["interval"] == cluster.entries("web")["a"]["advertisementInterval"]


def test_the_next_is_the_least_demoted_then_the_best(cluster: Cluster) -> None:
    assert cluster.status("web")["next"] == "b"
    seen("b", demotion={"total": 100, "excluded": False, "reasons": []})(cluster)
    assert cluster.status("web")["next"] == "c"
    node_dies("c")(cluster)
    assert cluster.status("web")["next"] == "b"
    node_dies("b")(cluster)
    assert "next" not in cluster.status("web")


def test_changes_of_the_master_are_counted(cluster: Cluster) -> None:
    assert cluster.status("web")["transitions"] == 1
    node_dies("a")(cluster)
    assert (cluster.status("web")["transitions"], cluster.status("web")["master"]["node"]) == (2, "b")
    cluster.restart()
    cluster.settle()
    assert cluster.status("web")["transitions"] == 2
