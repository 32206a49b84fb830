"""The chart before a real API server, which validates every object; each Helm installs, upgrades and uninstalls. Nobody runs the pods."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from chart.extremes import ALL_OFF, ALL_ON, EXTREMES
from chart.helm import CHART, NAMESPACE, RELEASE, Helm, HelmError
from lab.control_plane import ControlPlane
from lab.kube_client import ApiError, Json, KubeClient
from lab.manifests import carp_group

pytestmark = pytest.mark.needs("netns", "kubernetes")

CRD = "apiextensions.k8s.io/v1/CustomResourceDefinition"
GROUP = "kubecarp.io/v1alpha1/CarpGroup"
LONG_ENOUGH_S = 30.0


def record(properties: Json) -> Json:
    return {"type": "object", "properties": properties}


def texts(of: str = "string") -> Json:
    return {"type": "array", "items": {"type": of}}


def monitoring(kind: str, spec: Json) -> Json:
    """A kind of the Prometheus operator with those fields that the chart uses: a field of another name is refused."""
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": record({"spec": record(spec)})}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


TEXT: Json = {"type": "string"}
MAP: Json = {"type": "object", "additionalProperties": TEXT}
ENDPOINTS: Json = {
    "type": "array",
    "items": record(
        {
            "port": TEXT,
            "interval": TEXT,
            "relabelings": {"type": "array", "items": record({"sourceLabels": texts(), "targetLabel": TEXT})},
        }
    ),
}
SELECTOR = record({"matchLabels": MAP})
RULE = record({"alert": TEXT, "expr": TEXT, "for": TEXT, "labels": MAP, "annotations": MAP})
RULES = {"type": "array", "items": record({"name": TEXT, "rules": {"type": "array", "items": RULE}})}
MONITORING = [
    monitoring("PodMonitor", {"jobLabel": TEXT, "selector": SELECTOR, "podMetricsEndpoints": ENDPOINTS}),
    monitoring("ServiceMonitor", {"jobLabel": TEXT, "selector": SELECTOR, "endpoints": ENDPOINTS}),
    monitoring("PrometheusRule", {"groups": RULES}),
]


@pytest.mark.parametrize("values", [pytest.param(values, id=name) for name, values in EXTREMES.items()])
def test_every_object_passes_the_real_validation(cluster_helm: Helm, control_plane: ControlPlane, values: Json) -> None:
    control_plane.install(MONITORING)
    control_plane.add_namespace(NAMESPACE)
    for thing in cluster_helm.render(values):
        thing["metadata"].setdefault("namespace", NAMESPACE)
        dry_run = {} if thing["kind"] == "ServiceAccount" else {"dryRun": "All"}  # no pod without its account
        try:
            control_plane.api.create(thing, fieldValidation="Strict", fieldManager="helm", **dry_run)
        except ApiError as error:
            pytest.fail(f"{thing['kind']} {thing['metadata']['name']}: {error}")


def install(
    helm: Helm, *words: str, values: Json | None = None, release: str = RELEASE, namespace: str = NAMESPACE, chart: Path = CHART
) -> str:
    return helm.run("install", release, str(chart), "--namespace", namespace, "--create-namespace", *words, values=values or {})


def upgrade(helm: Helm, *words: str, values: Json | None = None) -> str:
    return helm.run("upgrade", RELEASE, str(CHART), "--namespace", NAMESPACE, *words, values=values or {})


def test_install_upgrade_rollback_uninstall(cluster_helm: Helm, api: KubeClient) -> None:
    notes = install(cluster_helm)
    for command in ("kubectl apply -f", "kubectl get carp", f"helm -n {NAMESPACE} test {RELEASE}", "enforce=privileged"):
        assert command in notes
    daemonset = "apps/v1/DaemonSet", "kubecarp-node", NAMESPACE
    assert api.get(*daemonset)["metadata"]["generation"] == 1
    upgrade(cluster_helm)
    assert api.get(*daemonset)["metadata"]["generation"] == 1, "an upgrade that changes nothing restarts nothing"
    upgrade(cluster_helm, values={"node": {"sidecar": {"probePort": 9000}}, "operator": {"replicas": 3}})
    assert api.get(*daemonset)["metadata"]["generation"] == 2
    cluster_helm.run("rollback", RELEASE, "1", "--namespace", NAMESPACE)
    assert api.get("apps/v1/Deployment", "kubecarp-operator", NAMESPACE)["spec"]["replicas"] == 2
    cluster_helm.run("uninstall", RELEASE, "--namespace", NAMESPACE)
    assert api.find(*daemonset) is None


def test_every_switch_can_be_turned_in_one_upgrade(cluster_helm: Helm, control_plane: ControlPlane) -> None:
    control_plane.install(MONITORING)
    install(cluster_helm, values=ALL_ON | {"fullnameOverride": "", "nameOverride": ""})
    off = ALL_OFF | {"crds": {"install": True}}
    upgrade(cluster_helm, values=off)
    upgrade(cluster_helm, values=ALL_ON | {"fullnameOverride": "", "nameOverride": ""})
    assert control_plane.api.find("networking.k8s.io/v1/NetworkPolicy", "kubecarp-operator", NAMESPACE)


def test_groups_outlive_the_release_and_the_next_one_takes_them_over(cluster_helm: Helm, api: KubeClient) -> None:
    install(cluster_helm)
    uid = api.create(carp_group("intranet"))["metadata"]["uid"]
    cluster_helm.run("uninstall", RELEASE, "--namespace", NAMESPACE)
    assert api.get(GROUP, "intranet")["metadata"]["uid"] == uid
    install(cluster_helm)
    assert api.get(GROUP, "intranet")["metadata"]["uid"] == uid
    cluster_helm.run("uninstall", RELEASE, "--namespace", NAMESPACE)
    install(cluster_helm, "--take-ownership", release="other", namespace="elsewhere")
    assert api.get(CRD, "carpgroups.kubecarp.io")["metadata"]["annotations"]["meta.helm.sh/release-name"] == "other"


def test_crds_that_are_not_kept_go_with_the_release(cluster_helm: Helm, api: KubeClient) -> None:
    install(cluster_helm, values={"crds": {"keep": False}})
    cluster_helm.run("uninstall", RELEASE, "--namespace", NAMESPACE)
    api.wait_gone(CRD, "carpgroups.kubecarp.io")


def test_an_upgrade_brings_the_newer_crds(cluster_helm: Helm, api: KubeClient, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(CHART, older)
    file = older / "files" / "crds" / "carpgroups.yaml"
    file.write_text(file.read_text().replace("description: Virtual host ID\n", "description: What it was before\n", 1))

    def column() -> str:
        columns = api.get(CRD, "carpgroups.kubecarp.io")["spec"]["versions"][0]["additionalPrinterColumns"]
        description: str = columns[0]["description"]
        return description

    install(cluster_helm, chart=older)
    assert column() == "What it was before"
    upgrade(cluster_helm)
    assert column() == "Virtual host ID"


def test_a_second_release_is_refused_with_a_sentence(cluster_helm: Helm, api: KubeClient) -> None:
    install(cluster_helm)
    with pytest.raises(HelmError, match="runs in this cluster already, as release kubecarp in namespace kubecarp-system"):
        install(cluster_helm, "--take-ownership", release="second", namespace="elsewhere")
    assert api.get(CRD, "carpgroups.kubecarp.io")["metadata"]["annotations"]["meta.helm.sh/release-name"] == RELEASE


@pytest.mark.needs("helm3", "helm4")
def test_helm_4_goes_on_with_what_helm_3_installed(control_plane: ControlPlane, tmp_path: Path) -> None:
    third, fourth = (Helm(name, tmp_path, control_plane) for name in ("helm3", "helm4"))
    install(third)
    upgrade(fourth, values={"operator": {"replicas": 4}})
    api = control_plane.api
    assert api.get("apps/v1/Deployment", "kubecarp-operator", NAMESPACE)["spec"]["replicas"] == 4
    upgrade(fourth, "--server-side=true", "--force-conflicts", values={"operator": {"replicas": 3}})
    assert api.get("apps/v1/Deployment", "kubecarp-operator", NAMESPACE)["spec"]["replicas"] == 3
    fourth.run("uninstall", RELEASE, "--namespace", NAMESPACE)


def test_no_warning_on_a_labelled_namespace(cluster_helm: Helm, control_plane: ControlPlane) -> None:
    control_plane.add_namespace(NAMESPACE)
    labels: dict[str, Any] = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    control_plane.api.patch("v1/Namespace", NAMESPACE, labels)
    try:
        assert "Pod Security" not in install(cluster_helm)
    finally:
        labels["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = None
        control_plane.api.patch("v1/Namespace", NAMESPACE, labels)
