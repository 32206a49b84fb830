"""Who keeps an address alive in a cluster: kubecarp, and what a user would install instead.

Every contender gets a cluster of its own, and the same web server on every node behind the Service of its address. The others are installed
from their own manifests as these are: MetalLB's is a file of its module, kube-vip prints its own. Only the names of images are ours.
"""

__all__ = ["CONTENDERS", "PORT", "Contender"]

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lab.image import KUBECARP, program_image
from lab.kube_client import Json
from lab.manifests import carp_group
from lab.namespace import LabError, wait_until
from lab.prober import Prober
from lab.programs import find, source, version
from lab.real_cluster import NAMESPACE, READY_S, VIP, RealCluster

PORT = 80
APPLY_S = 60.0
LISTENS = 'import signal, socket; keep = socket.create_server(("", 8080), backlog=1024); signal.pause()'
LABELS = {"app": "web"}
WEB = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "web", "image": KUBECARP, "imagePullPolicy": "Never", "command": ["python", "-c", LISTENS]}],
            },
        },
    },
}


def service(annotations: Json | None = None, **spec: Any) -> Json:
    """The Service of the web servers."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "annotations": annotations or {}},
        "spec": {"selector": LABELS, "ports": [{"port": PORT, "targetPort": 8080}], **spec},
    }


class Contender:
    """What a run needs to know of one of them. ``container`` is the process that answers for the address."""

    name: str
    namespace: str
    selector: str
    container: str
    asked: Json
    """What a user applies to have the address."""
    programs: Sequence[str] = ()

    @property
    def title(self) -> str:
        """Name and version, as a table has it."""
        return f"{self.name} {version(self.programs[0])}" if self.programs else self.name

    def images(self) -> list[Path]:
        """Archives that the nodes need."""
        return [program_image(program)[1] for program in self.programs]

    def install(self, cluster: RealCluster) -> None:
        """Everything but ``asked``."""
        raise NotImplementedError

    def prepare(self, cluster: RealCluster) -> None:
        """Install it and the web servers; returns when both run."""
        self.install(cluster)
        cluster.apply(WEB)
        self.wait_pods(cluster)

    def settle(self, cluster: RealCluster) -> None:
        """Until it is as it was before a fault."""
        self.wait_pods(cluster)

    def wait_pods(self, cluster: RealCluster) -> None:
        """Until it and the web server run on every node."""
        wait_until(lambda: all(self.pod(cluster, node) for node in cluster.nodes), READY_S, f"{self.name} is ready on every node", 0.2)
        ready = lambda one: one["status"]["numberReady"] == len(cluster.nodes)  # noqa: E731
        cluster.api.wait("apps/v1/DaemonSet", "web", ready, "is ready", namespace="default", timeout_s=READY_S)

    def holder(self, cluster: RealCluster, questions: Prober) -> str:
        """The node that answers for the address."""
        questions.wait_answering()
        mac = questions.live["mac"]
        return next(node.name for node in cluster.nodes.values() if node.host.port().mac == mac)

    def pod(self, cluster: RealCluster, node: str) -> Json | None:
        """Its pod on a node, if that is ready and not about to go."""
        found = cluster.api.list("v1/Pod", self.namespace, labelSelector=self.selector, fieldSelector=f"spec.nodeName={node}")
        return next((pod for pod in found if "deletionTimestamp" not in pod["metadata"] and _is_ready(pod)), None)

    def delete_pod(self, cluster: RealCluster, node: str) -> None:
        """As kubectl does it; returns when another one is ready."""
        pod = self.pod(cluster, node)
        assert pod is not None
        cluster.plane.kubectl("delete", "pod", "--wait=false", "--namespace", self.namespace, pod["metadata"]["name"])

        def replaced() -> bool:
            now = self.pod(cluster, node)
            return now is not None and now["metadata"]["uid"] != pod["metadata"]["uid"]

        wait_until(replaced, READY_S, f"another pod of {self.name} is ready on {node}", 0.1)

    def kill(self, cluster: RealCluster, node: str) -> None:
        """SIGKILL to the process that answers."""
        pod = self.pod(cluster, node)
        assert pod is not None
        status = next(one for one in pod["status"]["containerStatuses"] if one["name"] == self.container)
        cluster[node].run("kill", "-KILL", str(cluster[node].process_of(status["containerID"])))


def _is_ready(pod: Json) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))


def _apply(cluster: RealCluster, bodies: Sequence[Json]) -> None:
    text = yaml.safe_dump_all(bodies)
    cluster.plane.run("kubectl", "apply", "--server-side", "-f", "-", stdin=text, timeout_s=APPLY_S)


def _with_image(body: Json, program: str, name: str, *arguments: str) -> Json:
    """A workload with our image of a program in container ``name``."""
    container = next(one for one in body["spec"]["template"]["spec"]["containers"] if one["name"] == name)
    container["image"] = program_image(program)[0]
    container["args"] = [*container["args"], *arguments]
    return body


class Kubecarp(Contender):
    """The chart at its defaults; the Service has the address of the group as an external one."""

    name = "kubecarp"
    namespace = NAMESPACE
    selector = "app.kubernetes.io/component=node"
    container = "sidecar"
    group = "intranet"
    asked = carp_group(group, VIP)

    def install(self, cluster: RealCluster) -> None:
        cluster.install()
        cluster.apply(service(externalIPs=[VIP]))

    def settle(self, cluster: RealCluster) -> None:
        """The status may be one from before the fault, while its writer was away itself."""
        super().settle(cluster)
        true = lambda: cluster.holders(VIP) == [cluster.wait_ready(self.group)["master"]["node"]]  # noqa: E731
        wait_until(true, READY_S, "the status names the node that has the address", 0.2)

    def holder(self, cluster: RealCluster, questions: Prober) -> str:
        """The MAC address in the answers is the same on every node, so the nodes are looked at."""
        questions.wait_answering()
        if len(holders := cluster.holders(VIP)) != 1:
            raise LabError(f"nodes that have {VIP}: {', '.join(holders) or 'none'}")
        return holders[0]


class MetalLB(Contender):
    """Layer 2 mode. Without the webhook: the API server of this cluster reaches no Service."""

    name = "MetalLB"
    namespace = "metallb-system"
    selector = "app=metallb,component=speaker"
    container = "speaker"
    asked = service(type="LoadBalancer")
    programs = ("metallb-speaker", "metallb-controller")

    def install(self, cluster: RealCluster) -> None:
        text = (source("metallb-speaker") / "config/manifests/metallb-native.yaml").read_text()
        bodies = [body for body in yaml.safe_load_all(text) if body["kind"] != "ValidatingWebhookConfiguration"]
        for body in bodies:
            match body["kind"], body["metadata"]["name"]:
                case "Deployment", "controller":
                    _with_image(body, "metallb-controller", "controller", "--webhook-mode=disabled")
                case "DaemonSet", "speaker":
                    _with_image(body, "metallb-speaker", "speaker")
        _apply(cluster, bodies)
        ready = lambda one: one["status"]["readyReplicas"] == 1  # noqa: E731
        cluster.api.wait("apps/v1/Deployment", "controller", ready, "is ready", namespace=self.namespace, timeout_s=READY_S)
        _apply(cluster, [self._object("IPAddressPool", addresses=[f"{VIP}/32"]), self._object("L2Advertisement")])

    def _object(self, kind: str, **spec: Any) -> Json:
        return {"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": {"name": "web", "namespace": self.namespace}, "spec": spec}


class KubeVip(Contender):
    """Services by ARP, with a lease of the given duration, deadline of its renewal and pause between tries, in seconds."""

    namespace = "kube-system"
    selector = "app.kubernetes.io/name=kube-vip-ds"
    container = "kube-vip"
    asked = service({"kube-vip.io/loadbalancerIPs": VIP}, type="LoadBalancer")
    programs = ("kube-vip",)

    def __init__(self, name: str, duration_s: int, renew_s: int, retry_s: int) -> None:
        self.name = name
        times = [f"--leaseDuration={duration_s}", f"--leaseRenewDuration={renew_s}", f"--leaseRetry={retry_s}"]
        self._flags = ["--interface=eth0", "--services", "--inCluster", "--arp", "--leaderElection", *times]
        self.lease = f"{duration_s}/{renew_s}/{retry_s}"

    @property
    def title(self) -> str:
        return f"kube-vip {version('kube-vip')}, lease {self.lease} s"

    def install(self, cluster: RealCluster) -> None:
        bodies = [*self._print("rbac"), *self._print("daemonset", *self._flags)]
        for body in bodies:
            if body["kind"] == "DaemonSet":
                _with_image(body, "kube-vip", "kube-vip")
        _apply(cluster, bodies)

    @staticmethod
    def _print(*words: str) -> list[Json]:
        """The manifests that it prints for an installation."""
        argv = [str(find("kube-vip")), "manifest", *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=APPLY_S, check=False)
        if done.returncode:
            raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return [body for body in yaml.safe_load_all(done.stdout) if body]


CONTENDERS: dict[str, Contender] = {
    one.name: one for one in (Kubecarp(), MetalLB(), KubeVip("kube-vip", 15, 10, 2), KubeVip("kube-vip-fast", 5, 3, 1))
}
