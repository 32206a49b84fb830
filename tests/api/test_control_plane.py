"""The control plane of this layer is a real one: the other tests may rely on what only a real one does."""

import json
import os
import socket
import ssl
import time
from pathlib import Path

import pytest

from lab import objects, programs
from lab.control_plane import ADDRESS, PORT, READY_S, ControlPlane
from lab.kube_client import ApiError, Json, KubeClient
from lab.namespace import LabError, wait_until
from lab.network import Lab

pytestmark = pytest.mark.needs("netns", "kubernetes")

POLICY = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def widgets() -> Json:
    """A CRD with a rule of a library that is as young as Kubernetes 1.31."""
    address = {"type": "string", "maxLength": 64, "x-kubernetes-validations": [{"rule": "isIP(self)", "message": "say an address"}]}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"address": address}}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.test.kubecarp.io"},
        "spec": {
            "group": "test.kubecarp.io",
            "scope": "Cluster",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def test_the_server_is_the_version_that_the_module_names(api: KubeClient) -> None:
    said = api.request("GET", "/version")
    assert said["gitVersion"] == programs.version("kube-apiserver") or "KUBEBUILDER_ASSETS" in os.environ
    assert (int(said["major"]), int(said["minor"])) >= (1, 31)


def test_server_side_apply_merges_and_conflicts(api: KubeClient) -> None:
    api.apply(config_map("shared", one="1"), "first")
    assert api.apply(config_map("shared", two="2"), "second")["data"] == {"one": "1", "two": "2"}
    with pytest.raises(ApiError, match="conflict") as refused:
        api.apply(config_map("shared", one="x", two="2"), "second", force=False)
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    assert api.apply(config_map("shared"), "first")["data"] == {"two": "2"}


def test_a_rule_of_a_crd_is_evaluated(control_plane: ControlPlane, api: KubeClient) -> None:
    control_plane.install([widgets()])
    widget = {"apiVersion": "test.kubecarp.io/v1", "kind": "Widget", "metadata": {"name": "one"}}
    api.create(widget | {"spec": {"address": "10.77.0.100"}})
    with pytest.raises(ApiError, match="say an address") as refused:
        api.patch("test.kubecarp.io/v1/Widget", "one", {"spec": {"address": "10.77.0.256"}})
    assert refused.value.reason == "Invalid"


def test_an_admission_policy_denies(api: KubeClient) -> None:
    metadata = {"name": "test-no-secrets-here"}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    validation = {"expression": "!has(object.data) || !has(object.data.password)", "message": "no passwords"}
    spec = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}, "validations": [validation]}
    api.create({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": spec})
    binding = {"policyName": metadata["name"], "validationActions": ["Deny"]}
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding"}
    api.create(kind | {"metadata": metadata, "spec": binding})

    def refusal() -> str:
        try:
            api.create(config_map("bad", password="x"), dryRun="All")
        except ApiError as error:
            return error.message
        return ""

    assert "no passwords" in wait_until(refusal, 10, "the policy is in force", 0.05)
    api.create(config_map("good", colour="x"))
    checked = api.wait(POLICY, metadata["name"], lambda one: one["status"]["observedGeneration"], "is checked")
    assert "expressionWarnings" not in checked["status"].get("typeChecking", {})


def test_the_token_of_a_pod_names_its_node(control_plane: ControlPlane) -> None:
    control_plane.add_namespace("kubecarp-system")
    control_plane.add_node("a", "10.77.0.1")
    control_plane.add_pod("node-xyz", "kubecarp-system", "a", "node")
    user = control_plane.client(control_plane.token("node", "kubecarp-system", "node-xyz")).whoami()
    assert user["username"] == "system:serviceaccount:kubecarp-system:node"
    assert user["extra"]["authentication.kubernetes.io/node-name"] == ["a"]
    unbound = control_plane.client(control_plane.token("node", "kubecarp-system")).whoami()
    assert "authentication.kubernetes.io/node-name" not in unbound["extra"]


def test_a_token_may_do_nothing_before_a_role_says_so_and_what_it_asked_for_is_noted(control_plane: ControlPlane) -> None:
    control_plane.api.apply(objects.service_account("nobody", "default"))
    nobody = control_plane.client(control_plane.token("nobody", "default"))
    with pytest.raises(ApiError, match="cannot list resource") as refused:
        nobody.list("v1/Node")
    assert refused.value.status == 403
    noted = [(one["verb"], one["requestURI"], one["responseStatus"]["code"]) for one in control_plane.requests_of("nobody", "default")]
    assert noted == [("get", "/api/v1", 200), ("list", "/api/v1/nodes", 403)]


def config_map_of_a_node(control_plane: ControlPlane) -> None:
    """Makes a Node a, and a ConfigMap a that belongs to it."""
    metadata = {"name": "a", "namespace": "default", "ownerReferences": [owner(control_plane.add_node("a", "10.77.0.1"))]}
    control_plane.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def owner(node: Json) -> Json:
    return {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"], "uid": node["metadata"]["uid"]}


def test_what_a_node_owns_goes_with_it(control_plane: ControlPlane, api: KubeClient) -> None:
    config_map_of_a_node(control_plane)
    metadata = {"name": "a", "ownerReferences": [owner(api.get("v1/Node", "a"))]}
    api.create({"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpNode", "metadata": metadata, "spec": {}})
    api.delete("v1/Node", "a")
    api.wait_gone("v1/ConfigMap", "a")
    api.wait_gone("kubecarp.io/v1alpha1/CarpNode", "a")


def test_an_outage_of_the_api_server_keeps_the_data_and_the_controllers(control_plane: ControlPlane, api: KubeClient) -> None:
    config_map_of_a_node(control_plane)
    uid = api.get("v1/ConfigMap", "a")["metadata"]["uid"]
    control_plane.stop_api()
    with pytest.raises(ConnectionRefusedError):
        api.get("v1/ConfigMap", "a")
    control_plane.start_api()
    assert api.get("v1/ConfigMap", "a")["metadata"]["uid"] == uid
    api.delete("v1/Node", "a")
    api.wait_gone("v1/ConfigMap", "a", timeout_s=READY_S)  # the garbage collector has just been started, and reads every kind first


def test_a_frozen_api_server_accepts_and_does_not_answer(control_plane: ControlPlane, api: KubeClient) -> None:
    impatient = control_plane.client("", timeout_s=0.3)
    control_plane.freeze_api()
    with pytest.raises(TimeoutError):
        impatient.request("GET", "/readyz")
    control_plane.thaw_api()
    assert api.request("GET", "/readyz") == "ok"


def test_nothing_of_a_test_is_left_for_the_next(control_plane: ControlPlane, api: KubeClient) -> None:
    control_plane.add_namespace("elsewhere")
    control_plane.add_pod("held", "elsewhere", "a", "somebody")
    api.patch("v1/Pod", "held", {"metadata": {"finalizers": ["test.kubecarp.io/held"]}}, "elsewhere")
    control_plane.install([widgets()])
    control_plane.stop_api()
    control_plane.reset()
    assert not api.list("v1/Pod")
    assert [one["metadata"]["name"] for one in api.list("v1/ServiceAccount", "elsewhere")] == ["default"]
    assert api.find("apiextensions.k8s.io/v1/CustomResourceDefinition", "widgets.test.kubecarp.io") is None
    assert api.find("apiextensions.k8s.io/v1/CustomResourceDefinition", "carpgroups.kubecarp.io")


def ask(lab: Lab, host: str, ca: str) -> bytes:
    """The answer of the API server to a host of the lab that trusts its CA."""
    with lab[host].namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as plain:
        plain.settimeout(2)
        plain.connect((ADDRESS, PORT))
        with ssl.create_default_context(cafile=ca).wrap_socket(plain, server_hostname=ADDRESS) as connection:
            connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b""))


def ask_again(lab: Lab, host: str, ca: str) -> bytes:
    """The answer to a host whose last ARP question was lost: its kernel says "no route" until it gives that question up."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return ask(lab, host, ca)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_the_hosts_of_a_lab_reach_it_unless_it_is_cut_off(control_plane: ControlPlane, lab: Lab) -> None:
    assert ask(lab, "a", str(control_plane.ca)).endswith(b"\r\n\r\nok")
    lab.cut(control_plane.host)
    with pytest.raises(TimeoutError):
        ask(lab, "b", str(control_plane.ca))
    lab.heal(control_plane.host)
    assert ask_again(lab, "b", str(control_plane.ca)).endswith(b"\r\n\r\nok")


def test_a_new_lab_finds_it_at_the_same_address(control_plane: ControlPlane, lab: Lab) -> None:
    assert ask(lab, "client", str(control_plane.ca)).endswith(b"\r\n\r\nok")


def test_kubectl_is_the_administrator_and_its_refusals_are_errors(control_plane: ControlPlane) -> None:
    assert "system:masters" in control_plane.kubectl("auth", "whoami")
    control_plane.kubectl("apply", "-f", "-", stdin="{apiVersion: v1, kind: ConfigMap, metadata: {name: one}, data: {a: b}}")
    assert control_plane.kubectl("get", "configmap", "one", "-o", "jsonpath={.data.a}") == "b"
    with pytest.raises(LabError, match="unknown field"):
        control_plane.kubectl("apply", "-f", "-", stdin="{apiVersion: v1, kind: ConfigMap, metadata: {name: two}, date: {a: b}}")


@pytest.mark.parametrize("helm", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("helm3", "helm4")])
def test_helm_installs_and_knows_its_own_version_and_that_of_kubernetes(control_plane: ControlPlane, tmp_path: Path, helm: str) -> None:
    assert programs.version(helm) in control_plane.run(helm, "version", "--short")
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: sample, version: 0.1.0, kubeVersion: '>=1.31.0-0'}")
    (tmp_path / "templates" / "one.yaml").write_text(json.dumps(config_map("one", namespace="{{ .Release.Namespace }}")))
    assert "namespace" in control_plane.run(helm, "template", "sample", str(tmp_path))
    control_plane.run(helm, "install", "sample", str(tmp_path))
    assert control_plane.api.get("v1/ConfigMap", "one")["data"] == {"namespace": "default"}


def test_a_node_is_as_ready_as_the_test_says(control_plane: ControlPlane) -> None:
    control_plane.add_node("a", "10.77.0.1", "fd77::1")
    assert control_plane.kubectl("get", "nodes", "--no-headers").split()[1] == "Ready"
    control_plane.set_ready("a", None)
    assert control_plane.kubectl("get", "nodes", "--no-headers").split()[1] == "NotReady"
    assert "taints" not in control_plane.api.get("v1/Node", "a")["spec"]
