"""What each account of the chart may do, tried with real tokens: exactly what it needs, and an agent only for its own node."""

import sys
from pathlib import Path
from typing import Any

import pytest

from chart.helm import CHART, NAMESPACE, RELEASE, Helm
from lab import objects
from lab.control_plane import LOCAL_SERVER, ControlPlane
from lab.kube_client import PATCHES, ApiError, Json, KubeClient
from lab.manifests import carp_group
from lab.namespace import wait_until

pytestmark = pytest.mark.needs("netns", "kubernetes", "helm4")

GROUP, NODE, SECRET = "kubecarp.io/v1alpha1/CarpGroup", "kubecarp.io/v1alpha1/CarpNode", "v1/Secret"
READ = {"get", "list", "watch"}
IN_FORCE_S = 15.0
"""A policy is in force a second after it was made; before that the API server lets pass what it will refuse."""

Rights = dict[tuple[str, str], set[str]]


class Installation:
    """The chart in an API server, and its accounts."""

    def __init__(self, plane: ControlPlane, home: Path) -> None:
        self.plane = plane
        self.helm = Helm("helm4", home, plane)

    def install(self, values: Json | None = None) -> None:
        self.helm.run("install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace", values=values or {})
        self.plane._wait_namespace(NAMESPACE)

    def account(self, name: str, pod: str = "") -> KubeClient:
        return self.plane.client(self.plane.token(name, NAMESPACE, pod))

    def agent(self, node: str) -> KubeClient:
        """The agent of a node, with the token that its pod has."""
        self.plane.add_node(node)
        template = self.plane.api.get("apps/v1/DaemonSet", "kubecarp-node", NAMESPACE)["spec"]["template"]["spec"]
        pod = objects.pod(f"node-{node}", NAMESPACE, node, **template)
        pod["spec"].pop("priorityClassName")  # the plugin that knows this class is not among those of the test
        self.plane.api.create(pod)
        self.plane.api.create(
            {"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpNode", "metadata": {"name": node}, "spec": {"groups": []}}
        )
        return self.account("kubecarp-node", f"node-{node}")


@pytest.fixture
def installation(control_plane: ControlPlane, tmp_path: Path) -> Installation:
    return Installation(control_plane, tmp_path)


def rights(client: KubeClient, namespace: str) -> Rights:
    """Everything a user may do in a namespace and in the cluster."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    found: Rights = {}
    for rule in client.create(review)["status"]["resourceRules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                key = (group, "/".join([resource, *rule.get("resourceNames", [])]))
                found.setdefault(key, set()).update(rule["verbs"])
    return found


def own_rights(installation: Installation, account: str, namespace: str = NAMESPACE) -> Rights:
    """The same without what every account may do."""
    plane = installation.plane
    plane.api.apply(objects.service_account("nobody", NAMESPACE))
    everybody = rights(installation.account("nobody"), namespace)
    return {key: verbs for key, verbs in rights(installation.account(account), namespace).items() if verbs != everybody.get(key)}


def test_the_operator_may_exactly_this(installation: Installation) -> None:
    installation.install()
    everywhere: Rights = {
        ("kubecarp.io", "carpgroups"): READ,
        ("kubecarp.io", "carpgroups/status"): {"patch"},
        ("kubecarp.io", "carpnodes"): READ | {"create", "patch"},
        ("", "nodes"): READ,
        ("events.k8s.io", "events"): {"create"},
    }
    at_home: Rights = {
        ("", "secrets"): READ | {"create", "update"},
        ("coordination.k8s.io", "leases"): {"create"},
        ("coordination.k8s.io", "leases/kubecarp-operator"): {"get", "update"},
    }
    assert own_rights(installation, "kubecarp-operator", "default") == everywhere
    assert own_rights(installation, "kubecarp-operator") == everywhere | at_home


def test_an_agent_may_exactly_this(installation: Installation) -> None:
    installation.install()
    everywhere: Rights = {("kubecarp.io", "carpnodes"): READ, ("kubecarp.io", "carpnodes/status"): {"get", "patch", "update"}}
    assert own_rights(installation, "kubecarp-node", "default") == everywhere
    assert own_rights(installation, "kubecarp-node") == everywhere | {("", "secrets"): {"get"}}


def refusal(client: KubeClient, method: str, path: str, body: Any = None, **query: str) -> str:
    """Why a request was forbidden; empty when it was not, whatever else became of it."""
    try:
        client.request(method, path, body, **query)
    except ApiError as error:
        return error.message if error.status == 403 else ""
    return ""


def test_requests_are_refused_where_they_should_be(installation: Installation) -> None:
    installation.install()
    plane = installation.plane
    operator, agent = installation.account("kubecarp-operator"), installation.agent("a")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kubecarp-key-intranet", "namespace": NAMESPACE}}
    elsewhere = secret | {"metadata": {"name": "private", "namespace": "default"}}
    assert operator.create(secret)
    plane.api.create(elsewhere)
    assert agent.get(SECRET, "kubecarp-key-intranet", NAMESPACE)
    for client in (operator, agent):
        assert "cannot get resource" in refusal(client, "GET", "/api/v1/namespaces/default/secrets/private")
        assert "cannot create resource" in refusal(client, "POST", f"/api/v1/namespaces/{NAMESPACE}/pods", objects.pod("p", NAMESPACE))
        assert "cannot create resource" in refusal(client, "POST", "/apis/kubecarp.io/v1alpha1/carpgroups", {})
        assert "cannot patch resource" in refusal(client, "PATCH", "/api/v1/nodes/a", {})
        assert "cannot list resource" in refusal(client, "GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
    assert "cannot list resource" in refusal(agent, "GET", f"/api/v1/namespaces/{NAMESPACE}/secrets")
    assert "cannot patch resource" in refusal(agent, "PATCH", "/apis/kubecarp.io/v1alpha1/carpnodes/a", {})
    assert "cannot create resource" in refusal(operator, "POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/kubecarp-node/token", {})


def report(client: KubeClient, node: str) -> str:
    """Why a report about ``node`` is refused; empty when it is taken."""
    path = f"/apis/kubecarp.io/v1alpha1/carpnodes/{node}/status"
    try:
        client.request("PATCH", path, {"status": {"observedGeneration": 1}}, PATCHES["merge"])
    except ApiError as error:
        return f"{error.status}: {error.message}"
    return ""


def wait_for_policy(client: KubeClient, node: str) -> str:
    """The sentence with which the policy refuses."""
    return wait_until(lambda: report(client, node), IN_FORCE_S, "the policy is in force", 0.1)


def test_an_agent_reports_for_its_own_node_alone(installation: Installation) -> None:
    installation.install()
    first, second = installation.agent("a"), installation.agent("b")
    assert "the agent of node a may not write CarpNode b" in wait_for_policy(first, "b")
    assert "the agent of node b may not write CarpNode a" in wait_for_policy(second, "a")
    assert report(first, "a") == ""
    assert report(second, "b") == ""
    assert "this token names no node" in report(installation.account("kubecarp-node"), "a")
    assert installation.account("kubecarp-operator").apply(
        {"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpNode", "metadata": {"name": "b"}, "spec": {"groups": []}}
    ), "the policy is about agents"


def test_an_agent_that_got_more_rights_still_writes_its_own_node_alone(installation: Installation) -> None:
    installation.install()
    agent = installation.agent("a")
    installation.agent("b")
    metadata = {"name": "too-much"}
    rule = {"apiGroups": ["kubecarp.io"], "resources": ["*"], "verbs": ["*"]}
    api = installation.plane.api
    api.create({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": [rule]})
    api.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "too-much"},
            "subjects": [{"kind": "ServiceAccount", "name": "kubecarp-node", "namespace": NAMESPACE}],
        }
    )
    wait_until(lambda: not refusal(agent, "GET", "/apis/kubecarp.io/v1alpha1/carpgroups"), IN_FORCE_S, "the role is in force", 0.1)
    wait_for_policy(agent, "b")
    node = {"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpNode", "spec": {"groups": []}}
    collection = "/apis/kubecarp.io/v1alpha1/carpnodes"
    for method, path, body in (
        ("POST", collection, node | {"metadata": {"name": "c"}}),
        ("POST", collection, node | {"metadata": {"generateName": "c-"}}),
        ("PUT", f"{collection}/b", api.get(NODE, "b")),
        ("DELETE", f"{collection}/b", None),
    ):
        assert "may not write CarpNode" in refusal(agent, method, path, body), method
    assert "may not write CarpNode b" in refusal(agent, "DELETE", collection)
    assert api.get(NODE, "b")
    agent.delete(NODE, "a", missing_ok=True)  # by name, or before with all that it may delete
    assert agent.create(node | {"metadata": {"name": "a"}})


def test_without_the_policy_an_agent_could_report_for_others(installation: Installation) -> None:
    """What the tests above would miss if the policy did nothing."""
    installation.install({"admissionPolicy": {"enabled": False}})
    agent = installation.agent("a")
    installation.agent("b")
    assert report(agent, "b") == ""


def test_the_policy_is_well_typed_and_complete(installation: Installation) -> None:
    installation.install()
    api = installation.plane.api
    policy = api.wait(
        "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy",
        f"kubecarp-node.{NAMESPACE}",
        lambda one: one["status"]["observedGeneration"],
        "is checked",
    )
    assert "expressionWarnings" not in policy["status"].get("typeChecking", {})
    crd = api.get("apiextensions.k8s.io/v1/CustomResourceDefinition", "carpnodes.kubecarp.io")
    served = [version["name"] for version in crd["spec"]["versions"] if version["served"]]
    rule = policy["spec"]["matchConstraints"]["resourceRules"][0]
    assert rule["apiVersions"] == served, "a policy that misses a version is inert"
    subresources = {f"carpnodes/{name}" for version in crd["spec"]["versions"] for name in version.get("subresources", {})}
    assert set(rule["resources"]) == {"carpnodes"} | subresources


@pytest.mark.parametrize("role, may_write", [("view", False), ("edit", True)])
def test_users(installation: Installation, role: str, may_write: bool) -> None:
    installation.install()
    api = installation.plane.api
    api.apply(objects.service_account("user", "default"))
    for granted in {"view", role}:
        api.create(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"user-{granted}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"kubecarp-{granted}.{NAMESPACE}"},
                "subjects": [{"kind": "ServiceAccount", "name": "user", "namespace": "default"}],
            }
        )
    user = installation.plane.client(installation.plane.token("user", "default"))
    wait_until(lambda: not refusal(user, "GET", "/apis/kubecarp.io/v1alpha1/carpgroups"), IN_FORCE_S, "the role is in force", 0.1)
    assert (refusal(user, "POST", "/apis/kubecarp.io/v1alpha1/carpgroups", carp_group()) == "") == may_write
    assert user.list(NODE) == []
    assert refusal(user, "DELETE", "/apis/kubecarp.io/v1alpha1/carpnodes/a")
    labels = api.get("rbac.authorization.k8s.io/v1/ClusterRole", f"kubecarp-{role}.{NAMESPACE}")["metadata"]["labels"]
    aggregated = {name.rpartition("-")[2] for name in labels if "/aggregate-to-" in name}
    assert aggregated == ({"edit", "admin"} if may_write else {"view", "edit", "admin"})


# ---- helm test --------------------------------------------------------------------------------------------------


def check(installation: Installation, home: Path, wait_s: float = 0) -> str:
    """Runs what the pod of `helm test` runs, under its account; what it says."""
    plane = installation.plane
    rendered = [one for one in installation.helm.render() if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    for one in rendered:
        if one["kind"] != "Pod":
            plane.api.apply(one)
    pod = next(one for one in rendered if one["kind"] == "Pod")["spec"]
    container = pod["containers"][0]
    account = plane.credentials(home / "account", pod["serviceAccountName"], NAMESPACE)
    server = LOCAL_SERVER.removeprefix("https://").split(":")
    environment = {"ACCOUNT": account, "WAIT_S": wait_s, "KUBERNETES_SERVICE_HOST": server[0], "KUBERNETES_SERVICE_PORT": server[1]}
    words = [f"{name}={value}" for name, value in environment.items()]
    python, *rest = container["command"]
    assert python == "python"
    return plane.namespace.run("env", *words, sys.executable, *rest, *container["args"], check=False)


def set_daemonset(installation: Installation, wanted: int) -> None:
    status = {
        "desiredNumberScheduled": wanted,
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "numberReady": 0,
        "observedGeneration": 1,
    }
    installation.plane.api.patch("apps/v1/DaemonSet", "kubecarp-node", {"status": status}, NAMESPACE, subresource="status")


def set_running(installation: Installation, node: str) -> None:
    status = {"observedGeneration": 1, "sidecar": {"running": True, "version": "0.1.0"}}
    installation.plane.api.patch(NODE, node, {"status": status}, subresource="status")


def says(installation: Installation, home: Path, sentence: str) -> None:
    """What `helm test` says at last; at first the API server may still be busy with the new kinds."""
    wait_until(lambda: check(installation, home) == sentence + "\n", IN_FORCE_S, f"`helm test` says: {sentence}", 0.1)


def test_helm_test_is_content_when_every_node_reports(installation: Installation, tmp_path: Path) -> None:
    installation.install()
    says(installation, tmp_path, "DaemonSet kubecarp-node has not been looked at yet")
    set_daemonset(installation, 2)
    says(installation, tmp_path, "0 of 2 nodes report a running sidecar")
    for node in "ab":
        installation.agent(node)
    set_running(installation, "a")
    says(installation, tmp_path, "1 of 2 nodes report a running sidecar; silent: b")
    set_running(installation, "b")
    says(installation, tmp_path, "the API server takes CarpGroups, and every node reports a running sidecar")
    assert installation.plane.api.list(GROUP) == [], "it writes nothing"


def test_helm_test_finds_crds_that_check_nothing(installation: Installation, tmp_path: Path) -> None:
    installation.install()
    crd = installation.plane.api.get("apiextensions.k8s.io/v1/CustomResourceDefinition", "carpgroups.kubecarp.io")
    crd["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    crd["spec"]["versions"][0].pop("selectableFields", None)
    installation.plane.api.request("PUT", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}", crd)
    says(installation, tmp_path, "the API server takes an address that is none (201 ): are the CRDs those of this version?")


def test_helm_test_says_what_the_api_server_says(installation: Installation, tmp_path: Path) -> None:
    installation.install({"crds": {"install": False}})
    says(installation, tmp_path, "the API server does not take a CarpGroup: 404 page not found")


def test_helm_test_waits(installation: Installation, tmp_path: Path) -> None:
    installation.install()
    set_daemonset(installation, 1)
    installation.agent("a")
    set_running(installation, "a")
    assert "every node reports" in check(installation, tmp_path, wait_s=IN_FORCE_S)
