"""Reading Nodes and CarpNodes: what decides something, and nothing else."""

from ipaddress import ip_address
from typing import Any

import pytest

from carp_operator.api.errors import BadObject
from carp_operator.api.node import CarpNode, GroupReport, Node, read_carp_node, read_node
from lab import pieces

READY = {"type": "Ready", "status": "True"}
REPORT = {
    "name": "web",
    "version": "v1",
    "vhid": 7,
    "state": "Master",
    "since": "2026-11-25T12:00:00Z",
    "reason": "nobody-there",
    "interface": "eth0",
    "interfaceState": "Up",
    "source": "10.0.0.1",
    "advskew": 16,
    "demotion": {"total": 328, "excluded": True, "reasons": [{"name": "maintenance", "amount": 200}, {"name": "health/web"}]},
    "addresses": [{"address": "10.0.0.9/24", "held": True}, {"address": "fd77::9", "held": False}],
    "master": {"source": "10.0.0.1", "local": True},
    "mastersSeen": 1,
    "transitions": 2,
    "splitBrains": 0,
    "authenticationFailed": True,
    "addressConflict": {"mac": "02:00:00:00:00:01", "at": "2026-11-25T12:00:00Z"},
    "healthChecks": [{"name": "web", "passing": False, "message": "refused"}, {"name": "db", "passing": True}, {"name": "new"}],
    "fence": {"active": "Lifetime", "reason": "no nftables"},
    "warnings": ["look"],
    "handover": {"id": "x", "result": "Refused", "message": "not the master"},
}


def node(**body: Any) -> Node:
    return read_node({"metadata": {"name": "a"}} | body)


def test_a_node_is_read() -> None:
    body = {
        "metadata": {"name": "a", "uid": "1", "labels": {"zone": "x"}, "annotations": {"kubecarp.io/maintenance": "true"}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "DiskPressure", "status": "False"}, READY],
            "addresses": [
                {"type": "InternalIP", "address": "10.0.0.1"},
                {"type": "Hostname", "address": "a"},
                {"type": "InternalIP", "address": "FD77::1"},
                {"type": "ExternalIP", "address": "192.0.2.1"},
            ],
        },
    }
    assert read_node(body) == Node(
        name="a", uid="1", labels={"zone": "x"}, ready=True, cordoned=True, maintenance=True, addresses=("10.0.0.1", "fd77::1")
    )


@pytest.mark.parametrize(
    "conditions, ready",
    [
        ([], False),
        ([READY], True),
        ([READY | {"status": "False"}], False),
        ([READY | {"status": "Unknown"}], False),
        ([{"type": "X"}], False),
    ],
)
def test_a_node_is_ready_when_its_kubelet_says_so(conditions: list[Any], ready: bool) -> None:
    assert node(status={"conditions": conditions}).ready is ready


@pytest.mark.parametrize(
    "text, on", [("true", True), ("True", True), ("on", True), ("yes", True), ("false", False), ("", False), ("off", False), ("1", False)]
)
def test_maintenance_is_what_reads_like_yes(text: str, on: bool) -> None:
    assert node(metadata={"name": "a", "annotations": {"kubecarp.io/maintenance": text}}).maintenance is on


@pytest.mark.parametrize(
    "body", [{}, {"metadata": {}}, {"metadata": {"name": "a"}, "status": {"addresses": [{"type": "InternalIP", "address": "?"}]}}]
)
def test_a_node_that_cannot_be_read_says_so(body: dict[str, Any]) -> None:
    with pytest.raises(BadObject, match="a Node cannot be read"):
        read_node(body)


def test_a_carp_node_is_read() -> None:
    body = {
        "metadata": {"name": "a", "generation": 4, "ownerReferences": [{"kind": "Node", "uid": "1"}]},
        "spec": {"rollCall": 3, "groups": [{"name": "web", "vhid": 7}]},
        "status": {
            "observedGeneration": 3,
            "problems": ["Secret missing"],
            "sidecar": {"running": True},
            "interfaces": [{"name": "eth1", "state": "Down"}, {"name": "eth0", "state": "Up", "addresses": ["10.0.0.1/24", "fd77::1/64"]}],
            "groups": [REPORT],
        },
    }
    found = read_carp_node(body)
    assert (found.name, found.generation, found.owner_uid, found.roll_call) == ("a", 4, "1", 3)
    assert found.spec_groups == {"web": {"name": "web", "vhid": 7}}
    assert (found.reported, found.observed_generation, found.problems, found.sidecar_running) == (True, 3, ("Secret missing",), True)
    assert [one.name for one in found.interfaces] == ["eth0", "eth1"], "by name, whatever the order of the report"
    assert found.interfaces[0].networks == {"10.0.0.0/24", "fd77::/64"}
    assert found.groups == {
        "web": GroupReport(
            name="web",
            version="v1",
            state="Master",
            since="2026-11-25T12:00:00Z",
            reason="nobody-there",
            interface="eth0",
            interface_state="Up",
            source="10.0.0.1",
            demotion=328,
            excluded=True,
            demoted_by=("maintenance", "health/web"),
            held={"10.0.0.9": True, "fd77::9": False},
            master_source="10.0.0.1",
            master_is_local=True,
            authentication_failed=True,
            conflicting_mac="02:00:00:00:00:01",
            failing_checks={"web": "refused"},
            ungated="no nftables",
            warnings=("look",),
            handover_id="x",
            handover_refusal="not the master",
        )
    }


def test_a_carp_node_that_nobody_has_reported_of_is_empty() -> None:
    assert read_carp_node({"metadata": {"name": "a"}}) == CarpNode(name="a")


def test_a_handover_that_began_is_not_refused() -> None:
    body = {"metadata": {"name": "a"}, "status": {"groups": [{"name": "web", "handover": {"id": "x", "result": "Started"}}]}}
    assert read_carp_node(body).groups["web"] == GroupReport(name="web", handover_id="x")


@pytest.mark.parametrize(
    "status",
    [{"interfaces": [{"name": "eth0", "addresses": ["?"]}]}, {"groups": [{}]}, {"groups": ["web"]}, {"observedGeneration": "x"}],
    ids=repr,
)
def test_a_carp_node_that_cannot_be_read_says_so(status: dict[str, Any]) -> None:
    with pytest.raises(BadObject, match="a CarpNode cannot be read"):
        read_carp_node({"metadata": {"name": "a"}, "status": status})


def test_what_a_report_says_as_before_is_not_read_again() -> None:
    body = {"metadata": {"name": "a"}, "status": {"groups": [REPORT, {"name": "db"}]}}
    before = read_carp_node(body)
    after = read_carp_node({"metadata": {"name": "a"}, "status": {"groups": [dict(REPORT), {"name": "db", "state": "Master"}]}}, before)
    assert after.groups["web"] is before.groups["web"]
    assert after.groups["db"].state == "Master"


def test_the_longest_prefix_that_holds_an_address() -> None:
    eth0 = pieces.interface("eth0", "10.0.0.1/8", "10.1.0.1/16", "fd77::1/64")
    lengths = {
        text: eth0.prefix_holding(ip_address(text)) for text in ("10.1.2.3", "10.2.3.4", "192.0.2.1", "fd77::9", "fd78::9", "::a01:203")
    }
    assert lengths == {"10.1.2.3": 16, "10.2.3.4": 8, "192.0.2.1": -1, "fd77::9": 64, "fd78::9": -1, "::a01:203": -1}
