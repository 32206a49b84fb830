"""Bodies for the API server, and key rings back from them."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from carp_operator.api.group_schema import group_crd
from carp_operator.api.node_schema import node_crd
from carp_operator.api.reasons import EventReason
from carp_operator.kube.bodies import carp_node_body, event_body, read_ring, read_secret, ring_body, status_body
from carp_operator.plan.events import Event
from carp_operator.plan.planner import CarpNodeWrite
from carp_operator.plan.world import KeyRing
from lab.admission import admit
from lab.pieces import group

RING = KeyRing(sign="key-2", keys={"key-1": b"1" * 64, "key-2": b"2" * 64}, rotated_for="now", owner="uid-web")
EVENT = Event(group="web", uid="uid-web", reason=EventReason.MASTER_ELECTED, action="Elect", note="a has 10.0.0.1", node="a", when="x")


def test_a_carp_node_belongs_to_its_node() -> None:
    entry = {"name": "web", "vhid": 1, "addresses": ["10.0.0.1"], "authentication": {"mode": "Strict", "secretName": "s", "sign": "key-1"}}
    body = carp_node_body(CarpNodeWrite(name="a", owner_uid="1", groups=(entry,), roll_call=3))
    assert body == {
        "apiVersion": "kubecarp.io/v1alpha1",
        "kind": "CarpNode",
        "metadata": {
            "name": "a",
            "labels": {"app.kubernetes.io/managed-by": "kubecarp-operator"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "1"}],
        },
        "spec": {"groups": [entry], "rollCall": 3},
    }
    admit(node_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"], body)


def test_without_a_roll_call_there_is_none() -> None:
    assert carp_node_body(CarpNodeWrite(name="a", owner_uid="1", groups=()))["spec"] == {"groups": []}


def test_a_status_is_wrapped() -> None:
    body = status_body("web", {"transitions": 1})
    assert (body["metadata"], body["status"]) == ({"name": "web"}, {"transitions": 1})
    schema = group_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert body.keys() - {"status"} == {"apiVersion", "kind", "metadata"} <= schema["properties"].keys()


def test_a_ring_comes_back_as_it_was() -> None:
    body = ring_body(group(), RING, "kubecarp-system")
    assert (body["type"], body["metadata"]["namespace"]) == ("kubecarp.io/key-ring", "kubecarp-system")
    assert body["metadata"]["ownerReferences"] == [
        {"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpGroup", "name": "web", "uid": "uid-web"}
    ]
    assert read_ring(body) == ("web", RING)
    plain = replace(RING, rotated_for="")
    assert read_ring(ring_body(group(), plain, "ns")) == ("web", plain)


def test_keys_are_never_printed() -> None:
    assert "1" * 64 not in repr(RING)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"type": "Opaque"}, id="another type"),
        pytest.param({"metadata": {"name": "kubecarp-key-db", "labels": {"kubecarp.io/group": "web"}}}, id="a name of another group"),
        pytest.param({"metadata": {"name": "kubecarp-key-web"}}, id="no label"),
        pytest.param({"metadata": {}}, id="nothing"),
    ],
)
def test_what_is_no_ring_of_ours(change: dict[str, Any]) -> None:
    assert read_ring(ring_body(group(), RING, "ns") | change) is None


def test_a_ring_that_somebody_broke_is_read_as_far_as_it_goes() -> None:
    body = ring_body(group(), RING, "ns")
    del body["metadata"]["ownerReferences"]
    body["data"] = {"sign": "!", "key-1": base64.b64encode(b"1").decode()}
    assert read_ring(body) == ("web", KeyRing(sign="", keys={"key-1": b"1"}, rotated_for="now", owner=""))
    assert read_ring(body | {"data": None}) == ("web", KeyRing(sign="", keys={}, rotated_for="now", owner=""))


def test_an_entry_of_a_secret_that_is_not_base64_is_left_out() -> None:
    assert read_secret({"data": {"key": "c2VjcmV0", "bad": "?", "worse": 7, "worst": None}}) == {"key": b"secret"}
    assert read_secret({}) == read_secret({"data": None}) == {}


def test_an_event_is_about_the_group_and_related_to_a_node() -> None:
    body = event_body(EVENT, "default", "pod_1_" + "x" * 200, 1_790_000_000.25)
    assert body == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": EVENT.name, "namespace": "default"},
        "eventTime": "2026-09-21T14:13:20.250000Z",
        "reportingController": "kubecarp.io/kubecarp-operator",
        "reportingInstance": ("pod_1_" + "x" * 200)[:128],
        "action": "Elect",
        "reason": "MasterElected",
        "note": "a has 10.0.0.1",
        "type": "Normal",
        "regarding": {"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpGroup", "name": "web", "uid": "uid-web"},
        "related": {"apiVersion": "v1", "kind": "Node", "name": "a"},
    }


def test_a_warning_without_a_node_and_with_much_to_say() -> None:
    body = event_body(replace(EVENT, warning=True, node="", note="x" * 2000), "default", "me", 0.0)
    assert (body["type"], len(body["note"]), body["note"][-4:]) == ("Warning", 1024, "x...")
    assert "related" not in body


def test_a_time_without_a_fraction_has_one_all_the_same() -> None:
    assert event_body(EVENT, "default", "me", 0.0)["eventTime"] == "1970-01-01T00:00:00.000000Z", "MicroTime is read by its length"
