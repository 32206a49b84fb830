"""The real operator, agents and sidecars, started as the chart's pods say and with the rights that it gives them: they make a cluster."""

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chart.containers import Container, can_run
from chart.helm import CHART, NAMESPACE, RELEASE, Helm
from lab import objects
from lab.control_plane import ADDRESS, PORT, ControlPlane
from lab.kube_client import Json
from lab.kube_fixtures import lab
from lab.manifests import carp_group
from lab.namespace import Namespace, wait_until
from lab.network import Lab
from lab.prober import Prober

__all__ = ["lab"]

pytestmark = pytest.mark.needs("netns", "kubernetes", "helm4")

GROUP = "kubecarp.io/v1alpha1/CarpGroup"
VIP = "10.77.0.100"
STARTED_S = 45.0
"""Seven Python programs start at once on two cores, and the operator loads for two seconds."""
LISTENS_S = 20.0
"""A sidecar and an agent listen once the rest is done."""
HANDOVER_MS = 200
"""Nothing is lost on an idle machine; here seven other programs have just been busy."""
NODES = ("a", "b", "c")


@dataclass
class Cluster:
    """What the chart would run on three nodes."""

    lab: Lab
    plane: ControlPlane
    operator: Container
    agents: dict[str, Container]
    sidecars: dict[str, Container]

    def start(self) -> None:
        """Everything, in no order."""
        for container in self.all():
            container.start()

    def all(self) -> list[Container]:
        return [self.operator, *self.agents.values(), *self.sidecars.values()]

    def unanswered(self) -> list[str]:
        """Probes that would fail now."""
        kinds = ("livenessProbe", "readinessProbe")
        return [f"{one.log_path}: {kind}" for one in self.all() for kind in kinds if one.probe(kind)[0] != http.client.OK]

    def master(self, *, other_than: str = "") -> str:
        """The node that the CarpGroup names, once it is settled."""
        status = self.plane.api.wait(
            GROUP,
            "intranet",
            lambda one: one["status"]["master"]["node"] != other_than and ready(one),
            "is ready",
            timeout_s=STARTED_S,
        )["status"]
        node: str = status["master"]["node"]
        return node


def ready(group: Json) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in group["status"]["conditions"])


def template(plane: ControlPlane, kind: str, name: str) -> Json:
    """The pods of a workload, as the API server has them: with its defaults."""
    spec: Json = plane.api.get(f"apps/v1/{kind}", name, NAMESPACE)["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def cluster(lab: Lab, control_plane: ControlPlane, tmp_path: Path) -> Iterator[Cluster]:
    """Installed by Helm, with the API server's own address; nothing runs yet."""
    if reason := can_run():
        pytest.skip(reason)
    values = {"apiServer": {"host": ADDRESS, "port": PORT}, "operator": {"logLevel": "debug"}, "node": {"agent": {"logLevel": "debug"}}}
    helm = Helm("helm4", tmp_path, control_plane)
    helm.run("install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace", values=values)
    control_plane._wait_namespace(NAMESPACE)
    operator = template(control_plane, "Deployment", "kubecarp-operator")
    node = template(control_plane, "DaemonSet", "kubecarp-node")

    def container(pod: Json, name: str, host: Namespace, node_name: str, home: Path) -> Container:
        pod_name = f"{pod['serviceAccountName']}-{node_name}"
        if not control_plane.api.find("v1/Pod", pod_name, NAMESPACE):
            stored = objects.pod(pod_name, NAMESPACE, node_name, **pod)
            del stored["spec"]["priorityClassName"]
            control_plane.api.create(stored)
        account = control_plane.credentials(home / "token", pod["serviceAccountName"], NAMESPACE, pod_name)
        account.chmod(0o755)
        folders = {"state": home / "state", "agent": home / "state" / "agent", "run": home / "run", "token": account}
        for volume in ("state", "agent", "run"):
            folders[volume].mkdir(parents=True, exist_ok=True)
        folders["run"].chmod(0o777)  # an emptyDir
        mounts_it = any(mount["name"] == "token" for mount in pod_container(pod, name).get("volumeMounts", []))
        if pod.get("automountServiceAccountToken", True) and not mounts_it:
            mount = {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
            pod_container(pod, name).setdefault("volumeMounts", []).append(mount)
        fields = {"spec.nodeName": node_name, "metadata.namespace": NAMESPACE, "metadata.name": pod_name}
        return Container(pod, name, host, folders, fields)

    for name in NODES:
        control_plane.add_node(lab[name])
    homes = {name: lab.directory / f"pod-{name}" for name in NODES}
    found = Cluster(
        lab,
        control_plane,
        container(operator, "operator", control_plane.namespace, "a", lab.directory / "pod-operator"),
        {name: container(node, "agent", lab[name].namespace, name, homes[name]) for name in NODES},
        {name: container(node, "sidecar", lab[name].namespace, name, homes[name]) for name in NODES},
    )
    yield found
    for one in found.all():
        if one._process is not None:
            one.process.kill()
            one.process.wait(20)
            print(f"==> {one.log_path.relative_to(lab.directory)}\n{one.log()[-6000:]}")


def pod_container(pod: Json, name: str) -> Json:
    found: Json = next(one for one in pod["containers"] if one["name"] == name)
    return found


def test_the_pods_of_the_chart_make_a_cluster(cluster: Cluster) -> None:
    cluster.start()
    cluster.plane.api.create(carp_group("intranet", VIP))
    first = cluster.master()
    wait_until(lambda: not cluster.unanswered(), LISTENS_S, "every probe is answered", 0.2)
    with Prober(cluster.lab["client"], VIP) as prober:
        prober.wait_answering()
        left_s = cluster.sidecars[first].stop()
        assert cluster.master(other_than=first) != first
        assert prober.stop().longest_ms < HANDOVER_MS
    assert left_s > 10, "the grace period is long enough for a handover"
    for container in cluster.all():
        log = container.log()
        assert "forbidden" not in log.lower(), f"{container.spec['name']} lacks a right:\n{log[-3000:]}"
        assert "Traceback" not in log, log[-3000:]
        assert "Read-only file system" not in log, log[-3000:]
