"""Helm's whole way with image and chart as users get them: install, test, upgrade under probes, roll back, uninstall; nothing is left."""

import json
import shutil
from pathlib import Path

import pytest

from lab.groups import CARP_NODE, GROUP
from lab.kube_client import Json
from lab.manifests import carp_group
from lab.namespace import wait_until
from lab.real_cluster import CHART, NAMESPACE, RELEASE, VIP, RealCluster

pytestmark = [pytest.mark.needs("machines", "kubernetes", "kubelet", "helm4", "containerd", "buildah"), pytest.mark.timeout(600)]

JITTER_MS = 25
"""What the machine may cost, where kubecarp should cost nothing."""
PROFILE = {"type": "Localhost", "localhostProfile": "kubecarp/sidecar.json"}
WORKLOADS = ("apps/v1/DaemonSet", "apps/v1/Deployment", "v1/Pod", "v1/ServiceAccount", "v1/Secret", "v1/ConfigMap")
CLUSTER_KINDS = (
    "rbac.authorization.k8s.io/v1/ClusterRole", "rbac.authorization.k8s.io/v1/ClusterRoleBinding",
    "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicyBinding",
    "apiextensions.k8s.io/v1/CustomResourceDefinition", "scheduling.k8s.io/v1/PriorityClass",
)  # fmt: skip


def test_the_test_of_the_chart_passes(kubecarp: RealCluster) -> None:
    said = kubecarp.helm("test", RELEASE, "--namespace", NAMESPACE, "--timeout", "120s")
    assert "Phase:          Succeeded" in said


def test_an_upgrade_and_its_rollback_lose_no_probe(kubecarp: RealCluster, tmp_path: Path) -> None:
    """A changed chart with changed values replaces every pod of the DaemonSet and of the operator, one node after the other.

    Meanwhile the sidecars run under their own seccomp profile, as the security page says how.
    """
    for node in kubecarp.nodes.values():
        node.run("install", "-D", "-m", "644", str(CHART / "files/seccomp-sidecar.json"), "/var/lib/kubelet/seccomp/kubecarp/sidecar.json")
    changed = tmp_path / "kubecarp"
    shutil.copytree(CHART, changed)
    chart = changed / "Chart.yaml"
    chart.write_text(chart.read_text().replace("version: 0.", "version: 1.", 1))
    pods = {name: kubecarp.node_pod(name)["metadata"]["uid"] for name in kubecarp.nodes}
    with kubecarp.prober() as prober:
        prober.wait_answering()
        kubecarp.install({"node": {"sidecar": {"seccompProfile": PROFILE}}, "operator": {"logLevel": "debug"}}, changed)
        for name, uid in pods.items():
            kubecarp.wait_node_pod(name, other_than=uid)
        kubecarp.wait_ready("intranet")
        kubecarp.helm("rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "150s")
        kubecarp.wait_ready("intranet")
        result = prober.stop()
    assert result.longest_ms <= JITTER_MS, [result.outages, [kubecarp.lab.host_by_ttl(ttl) for ttl in result.ttls]]
    history = json.loads(kubecarp.helm("history", RELEASE, "--namespace", NAMESPACE, "--output", "json"))
    assert [one["chart"].removeprefix("kubecarp-")[0] for one in history[-2:]] == ["1", "0"]


def test_uninstalled_means_gone(kubecarp: RealCluster) -> None:
    """The addresses go first, the CRDs stay with the groups, as the values say; without them nothing stays at all."""
    hosts = [node.host for node in kubecarp.nodes.values()]
    kubecarp.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "120s")
    wait_until(lambda: kubecarp.holders(VIP) == [], 30, "no node has the address any more", 0.1)
    for host in hosts:
        assert not [link["ifname"] for link in host.namespace.ip_json("link") if link.get("linkinfo", {}).get("info_kind") == "macvlan"]
    assert {one["metadata"]["name"] for one in kubecarp.api.list(GROUP)} == {"intranet"}, "crds.keep: the user's objects stay"
    for crd in ("carpgroups.kubecarp.io", "carpnodes.kubecarp.io"):
        kubecarp.api.delete("apiextensions.k8s.io/v1/CustomResourceDefinition", crd)
        kubecarp.api.wait_gone("apiextensions.k8s.io/v1/CustomResourceDefinition", crd)
    wait_until(lambda: not _left(kubecarp), 60, "nothing of kubecarp is in the API", 0.2)


def test_installed_again_it_finds_its_way(cluster: RealCluster) -> None:
    """On nodes that kubecarp has been on before."""
    cluster.install()
    cluster.apply(carp_group("intranet", VIP))
    status = cluster.wait_ready("intranet")
    assert cluster.holders(VIP) == [status["master"]["node"]]
    assert len(cluster.api.list(CARP_NODE)) == len(cluster.nodes)


def _left(cluster: RealCluster) -> list[str]:
    """Names of what bears the name of the release."""
    found: list[Json] = [one for kind in CLUSTER_KINDS for one in cluster.api.list(kind)]
    found += [one for kind in WORKLOADS for one in cluster.api.list(kind, NAMESPACE)]
    return [one["metadata"]["name"] for one in found if "kubecarp" in one["metadata"]["name"]]
