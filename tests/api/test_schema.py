"""What the API server refuses at `kubectl apply`, with the sentence a user reads; what it fills in; and how kubectl shows it."""

import json
from typing import Any

import pytest

from lab.control_plane import ControlPlane
from lab.kube_client import KubeClient
from lab.manifests import REFUSED_AT_APPLY, REFUSED_CHANGES, Refused, carp_group
from lab.namespace import LabError

pytestmark = pytest.mark.needs("netns", "kubernetes")

GROUP = "kubecarp.io/v1alpha1/CarpGroup"


def as_yaml(case: Refused, *, before: bool = False) -> str:
    """The manifest; JSON is YAML."""
    body = carp_group(case.name)
    body["spec"] = case.before if before else case.spec
    return json.dumps(body)


@pytest.mark.parametrize("case", REFUSED_AT_APPLY, ids=lambda case: case.title)
def test_a_bad_group_is_refused_with_a_sentence(control_plane: ControlPlane, case: Refused) -> None:
    with pytest.raises(LabError) as refusal:
        control_plane.kubectl("apply", "--validate=strict", "-f", "-", stdin=as_yaml(case))
    assert case.message in str(refusal.value)
    assert control_plane.api.find(GROUP, case.name) is None


@pytest.mark.parametrize("case", REFUSED_CHANGES, ids=lambda case: case.title)
def test_a_change_that_cannot_be_is_refused_with_a_sentence(control_plane: ControlPlane, case: Refused) -> None:
    control_plane.kubectl("apply", "-f", "-", stdin=as_yaml(case, before=True))
    with pytest.raises(LabError) as refusal:
        control_plane.kubectl("apply", "-f", "-", stdin=as_yaml(case))
    assert case.message in str(refusal.value)


def test_another_vhid_than_the_one_that_runs_is_refused(api: KubeClient) -> None:
    api.create(carp_group())
    api.apply(carp_group() | {"spec": None, "status": {"vhid": 7}}, subresource="status")
    with pytest.raises(LabError, match="already runs with another VHID"):
        api.patch(GROUP, "web", {"spec": {"vhid": 8}})
    api.patch(GROUP, "web", {"spec": {"vhid": 7}})


def test_a_group_with_nothing_but_addresses_gets_every_default(api: KubeClient) -> None:
    assert api.create(carp_group())["spec"] == {
        "addresses": ["10.77.0.100"],
        "authentication": {"mode": "Strict"},
        "fence": "Auto",
        "onCordon": "HandOver",
        "peers": {"mode": "Multicast"},
        "preemption": {"enabled": False, "delay": "0s"},
        "virtualMAC": True,
    }


@pytest.mark.parametrize(
    "spec",
    [
        {"addresses": [f"10.77.{i // 250}.{i % 250 + 1}" for i in range(32)]},
        {"addresses": ["2001:db8::10/64", "fe80::10", "192.0.2.10/31"]},
        {"priorities": [{"node": f"n{i}", "priority": 255 - i} for i in range(64)]},
        {"priorities": [{"node": "a", "priority": 0}, {"node": "b", "priority": 0}]},
        {"advertisementInterval": "10ms"},
        {"advertisementInterval": "254s", "authentication": {"mode": "Compatible", "dialect": "OpenBSD"}},
    ],
    ids=["32 addresses", "any family and prefix", "64 priorities", "many with priority 0", "the shortest interval", "the longest interval"],
)
def test_the_bounds_themselves_are_accepted(api: KubeClient, spec: dict[str, Any]) -> None:
    group = carp_group(**spec) if "addresses" not in spec else carp_group() | {"spec": spec}
    assert api.create(group)["spec"].items() >= spec.items()


def test_kubectl_get_carp_shows_groups_alone(control_plane: ControlPlane) -> None:
    control_plane.api.create(carp_group())
    header, row = control_plane.kubectl("get", "carp").splitlines()
    assert header.split() == ["NAME", "VHID", "ADDRESSES", "MASTER", "READY", "MEMBERS", "TRANSITIONS", "AGE"]
    assert row.startswith("web ")
    wide = control_plane.kubectl("get", "carp", "web", "-o", "wide").splitlines()[0].split()
    assert wide[7:12] == ["SINCE", "NEXT", "INTERVAL", "MODE", "REASON"]


def test_kubectl_get_kubecarp_shows_everything(control_plane: ControlPlane) -> None:
    control_plane.api.create(carp_group())
    control_plane.api.create({"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpNode", "metadata": {"name": "a"}, "spec": {"groups": []}})
    assert control_plane.kubectl("get", "kubecarp", "-o", "name").split() == ["carpgroup.kubecarp.io/web", "carpnode.kubecarp.io/a"]


@pytest.mark.parametrize("path", ["carp.spec", "carp.spec.healthChecks", "carp.status", "carpnode.spec.groups", "carpnode.status.groups"])
def test_kubectl_explains_every_field(control_plane: ControlPlane, path: str) -> None:
    told = control_plane.kubectl("explain", path)
    assert "DESCRIPTION:" in told
    assert "<no description>" not in told
