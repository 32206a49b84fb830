"""Who is a member, and why the others are not."""

from typing import Any

import pytest

from carp_operator.api.group import CarpGroup
from carp_operator.api.node import CarpNode, Node
from carp_operator.api.reasons import Reason
from carp_operator.plan.membership import runs_here, select_members
from carp_operator.plan.world import KeyRing, World
from lab.pieces import carp_node, group, interface, node, world

ETH0 = interface("eth0", "10.77.0.1/24")
RUNS = {"name": "web", "vhid": 1, "addresses": ["10.77.0.100"]}


def seen(one: CarpGroup, *pairs: tuple[Node, CarpNode | None], uid: str = "uid-web") -> World:
    """A world in which the group's ring is there, so that entries of it count."""
    found = world([one], [pair[0] for pair in pairs], [pair[1] for pair in pairs if pair[1]])
    found.rings["web"] = KeyRing(sign="key-1", keys={"key-1": b"k"}, owner=uid)
    return found


def test_a_node_with_the_network_is_a_member() -> None:
    membership = select_members(group(), seen(group(), (node("a"), carp_node("a", ETH0))))
    assert (membership.nodes, membership.refused, membership.refusal()) == ({"a": ETH0}, {}, None)


@pytest.mark.parametrize(
    "spec, labels, seen_of_it, reason",
    [
        ({"nodeSelector": {"matchLabels": {"zone": "x"}}}, {"zone": "y"}, carp_node("a", ETH0), "not selected by nodeSelector"),
        ({}, {}, None, "without an agent that reports (does the DaemonSet run there?)"),
        ({}, {}, carp_node("a", reported=False), "without an agent that reports (does the DaemonSet run there?)"),
        ({"interface": {"name": "eth7"}}, {}, carp_node("a", ETH0), "without an interface eth7"),
        ({"interface": {"pattern": "^wl"}}, {}, carp_node("a", ETH0), "without an interface whose name matches '^wl'"),
        (
            {},
            {},
            carp_node("a", interface("eth0", "192.0.2.1/24")),
            "without an interface whose subnet holds 10.77.0.100 (name one in spec.interface to use it all the same)",
        ),
    ],
)
def test_a_no_has_a_reason(spec: dict[str, Any], labels: dict[str, str], seen_of_it: CarpNode | None, reason: str) -> None:
    one = group("web", **spec)
    membership = select_members(one, seen(one, (node("a", labels=labels), seen_of_it)))
    assert (membership.nodes, membership.refused) == ({}, {"a": reason})


@pytest.mark.parametrize(
    "what_is_left",
    [
        pytest.param(carp_node("a", entries=[RUNS]), id="its interface is not reported"),
        pytest.param(carp_node("a", entries=[RUNS], reported=False), id="its report is gone"),
    ],
)
def test_a_member_stays_while_nothing_is_known_of_its_interface(what_is_left: CarpNode) -> None:
    membership = select_members(group(), seen(group(), (node("a"), what_is_left)))
    assert membership.nodes == {"a": None}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"addresses": ["10.78.0.100"]}, id="another first address"),
        pytest.param({"interface": {"name": "eth1"}}, id="another interface"),
        pytest.param({"interface": {"pattern": "^e"}}, id="a pattern"),
    ],
)
def test_a_member_that_the_group_moved_away_from_leaves(spec: dict[str, Any]) -> None:
    one = group("web", *spec.pop("addresses", ()), **spec)
    assert select_members(one, seen(one, (node("a"), carp_node("a", entries=[RUNS])))).nodes == {}


def test_another_notation_of_the_address_is_not_another_network() -> None:
    assert runs_here(group("web", "FD77::1"), {"addresses": ["fd77:0::1/64"]})
    assert not runs_here(group("web", "fd77::1"), {"addresses": ["fd77::2"]})
    assert not runs_here(group("web", "fd77::1"), None)


def test_what_an_earlier_group_of_the_name_left_makes_no_member() -> None:
    members = select_members(group(), seen(group(), (node("a"), carp_node("a", entries=[RUNS])), uid="uid-of-another"))
    assert members.nodes == {}


def test_a_node_that_is_not_ready_stays_a_member() -> None:
    assert select_members(group(), seen(group(), (node("a", ready=False), carp_node("a", ETH0)))).nodes == {"a": ETH0}


def test_without_a_member_reasons_are_counted() -> None:
    one = group("web", nodeSelector={"matchLabels": {"zone": "x"}})
    nodes = [
        (node("a", labels={"zone": "y"}), carp_node("a", ETH0)),
        (node("b"), carp_node("b", ETH0)),
        (node("c", labels={"zone": "x"}), None),
    ]
    refusal = select_members(one, seen(one, *nodes)).refusal()
    assert refusal is not None
    assert refusal.reason is Reason.NO_ELIGIBLE_NODE
    assert refusal.message == (
        "no node can be a member: 2 nodes not selected by nodeSelector; "
        "1 node without an agent that reports (does the DaemonSet run there?)"
    )


def test_one_node_without_the_interface_decides_the_reason() -> None:
    nodes = [(node("a"), carp_node("a", interface("eth0", "192.0.2.1/24"))), (node("b"), None)]
    refusal = select_members(group(), seen(group(), *nodes)).refusal()
    assert refusal is not None
    assert refusal.reason is Reason.INTERFACE_NOT_FOUND


def test_a_cluster_without_nodes_has_no_member() -> None:
    refusal = select_members(group(), seen(group())).refusal()
    assert refusal is not None
    assert (refusal.reason, refusal.message) == (Reason.NO_ELIGIBLE_NODE, "no node can be a member: the cluster has no nodes")


def test_a_node_is_judged_again_by_itself() -> None:
    one = group("web", nodeSelector={"matchLabels": {"zone": "x"}})
    here = seen(one, (node("a", labels={"zone": "x"}), carp_node("a", ETH0)), (node("b"), carp_node("b", ETH0)))
    membership = select_members(one, here)
    assert not membership.judge(one, here, ["b"]), "nothing of the group is different"
    here.nodes["b"] = node("b", labels={"zone": "x"})
    assert membership.judge(one, here, ["b"])
    assert membership == select_members(one, here)
    del here.nodes["a"]
    assert membership.judge(one, here, ["a"])
    assert membership == select_members(one, here)
