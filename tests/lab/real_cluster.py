"""A real Kubernetes of several nodes on one machine, with the image and the chart as a user gets them, and a client outside the cluster.

Control plane, nodes and client are hosts of one lab. Everything ends with ``close``, or with the process.
"""

__all__ = ["CHART", "CLIENT", "NAMESPACE", "READY_S", "RELEASE", "VIP", "RealCluster"]

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.control_plane import ControlPlane
from lab.groups import CARP_NODE, GROUP
from lab.image import kubecarp_image, pause_image
from lab.kube_client import Json
from lab.manifests import condition
from lab.namespace import LabError, wait_until
from lab.network import Lab
from lab.node import Node
from lab.prober import Prober

CHART = Path(__file__).resolve().parents[2] / "charts" / "kubecarp"
RELEASE, NAMESPACE = "kubecarp", "kubecarp-system"
CLIENT = "client"
VIP = "10.77.0.100"
SIDECAR_PORT = 9120
"""Of metrics and probes, at the chart's defaults."""
READY_S = 120.0
"""Kubelets start in some seconds; three at once on two busy cores take longer."""
INSTALL_S = 180.0

Say = Callable[[str], None]


def _silent(_: str) -> None:
    pass


class RealCluster:
    """Up on return, every Node Ready.

    ``names`` are further addresses at which the API server will be reached, ``images`` further archives that every node has.
    """

    def __init__(self, count: int = 3, *, names: Sequence[str] = (), images: Sequence[Path] = (), say: Say = _silent) -> None:
        self._stack = contextlib.ExitStack()
        try:
            self._build(count, names, images, say)
        except BaseException:
            self.close()
            raise

    def _build(self, count: int, names: Sequence[str], more: Sequence[Path], say: Say) -> None:
        say("the image")
        images = [pause_image(), kubecarp_image(), *more]
        say("control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler")
        self.plane = self._stack.enter_context(contextlib.closing(ControlPlane(for_kubelets=True, names=names)))
        self.api = self.plane.api
        self.lab = self._stack.enter_context(Lab())
        lan = self.lab.segment("lan")
        self.nodes = {node.name: node for node in (Node(self.lab, lan, self.plane, images) for _ in range(count))}
        self.client = self.lab.host(CLIENT)
        self.lab.plug_in(self.client, lan, "eth0", "10.77.0.200/24", "fd77::200/64")
        self._stack.enter_context(self.plane.plugged_into(self.lab))
        for node in self.nodes.values():
            node.others = tuple(self.nodes.values())
            self.plane.namespace.ip(f"route add {node.pods} via {node.address}")
        say(f"{count} nodes: containerd, kubelet, kube-proxy")
        self.start_nodes()
        self.wait_nodes()

    def close(self) -> None:
        """End every process, namespace and file."""
        self._stack.close()

    def start_nodes(self) -> None:
        """Power on, all at once: the images are unpacked side by side."""
        nodes = self.nodes.values()
        for node in nodes:
            node.start_runtime()
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(Node.import_images, nodes))
        for node in nodes:
            node.start_kubelet()

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def wait_nodes(self, *names: str) -> None:
        """Until these Nodes, or all, are Ready."""
        for name in names or self.nodes:
            self.api.wait("v1/Node", name, _is_ready_node, "is Ready", timeout_s=READY_S)

    def repair(self) -> None:
        """The API server answers, every node has power and its programs, and nobody is cordoned."""
        if not self.plane.is_up:
            self.plane.start_api()
        for node in self.nodes.values():
            self.lab.heal(node.host)
            if not node.is_on:
                node.power_on()
            for program in node.missing():
                node.start_program(program)
            self.api.patch("v1/Node", node.name, {"spec": {"unschedulable": None}})
        self.wait_nodes()

    # kubecarp

    def helm(self, *words: str, values: Json | None = None, timeout_s: float = INSTALL_S) -> str:
        """Run Helm and return what it printed; ``values`` are those of the chart."""
        more = [] if values is None else ["--values", "-"]
        return self.plane.run("helm4", *words, *more, stdin=json.dumps(values or {}), timeout_s=timeout_s)

    def install(self, values: Json | None = None, chart: Path = CHART) -> None:
        """Install the chart, or upgrade what is there; returns when every pod is ready and every agent has reported."""
        place = ["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "150s"]
        self.helm("upgrade", "--install", RELEASE, str(chart), *place, values=values)
        for name in self.nodes:
            self.api.wait(CARP_NODE, name, lambda node: node["status"]["interfaces"], "has reported", timeout_s=READY_S)

    def apply(self, *bodies: Json) -> None:
        """Make or change objects, as kubectl apply does."""
        for body in bodies:
            self.api.apply(body)

    def wait_ready(self, group: str, *, other_than: str = "", address: str = "") -> Json:
        """Until a group is Ready, and every node a ready member of it; its status. ``other_than``: not while this node is master.

        ``address``: not before the node that the status names, and no other, has it, and every sidecar runs. A status is old until the
        operator has been told, and of a node that was without power for a moment nobody tells it.
        """

        def settled(body: Json) -> bool:
            status = body["status"]
            ready = status["readyCount"] == len(self.nodes) and condition(body, "Ready")["status"] == "True"
            master = status["master"]["node"]
            true = not address or (self.holders(address) == [master] and all(map(self.serves, self.nodes)))
            return bool(ready and master != other_than and true)

        status: Json = self.api.wait(GROUP, group, settled, "is ready on every node", timeout_s=READY_S)["status"]
        return status

    def status(self, group: str) -> Json:
        """What kubectl shows of a group."""
        found: Json = self.api.get(GROUP, group)["status"]
        return found

    def node_pod(self, node: str) -> Json:
        """The pod of kubecarp on a node."""
        selector = "app.kubernetes.io/component=node"
        found = [pod for pod in self.api.list("v1/Pod", NAMESPACE, labelSelector=selector) if pod["spec"].get("nodeName") == node]
        alive = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        if not alive:
            raise LabError(f"no pod of kubecarp runs on {node}")
        return alive[0]

    def wait_node_pod(self, node: str, *, other_than: str = "", timeout_s: float = READY_S) -> Json:
        """Until the pod of kubecarp on a node is ready; ``other_than`` is the uid of the one before."""

        def found() -> Json | None:
            with contextlib.suppress(LabError):
                pod = self.node_pod(node)
                return pod if pod["metadata"]["uid"] != other_than and _is_ready_pod(pod) else None
            return None

        pod = wait_until(found, timeout_s, f"the pod of kubecarp on {node} is ready", 0.1)
        assert pod is not None
        return pod

    def process(self, node: str, container: str) -> int:
        """Process 1 of a container of the pod of kubecarp, as it is numbered on the node. Waits for one that starts again."""

        def found() -> int | None:
            statuses: Any = self.node_pod(node)["status"]["containerStatuses"]
            one = next(status for status in statuses if status["name"] == container)
            return self.nodes[node].process_of(one.get("containerID", ""))

        pid = wait_until(found, READY_S, f"container {container} runs on {node}", 0.1)
        assert pid is not None
        return pid

    def holders(self, address: str) -> list[str]:
        """Nodes on whose interfaces the address is, as their kernels have it."""
        return [node.name for node in self.nodes.values() if node.is_on and address in node.host.held_addresses(address)]

    def serves(self, node: str) -> bool:
        """Whether the sidecar of a node calls itself ready."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", SIDECAR_PORT, timeout=2)) as connection:
            connection.sock = self.nodes[node].host.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                connection.sock.connect(("127.0.0.1", SIDECAR_PORT))
                connection.request("GET", "/readyz")
                return connection.getresponse().status == http.client.OK
            except (OSError, http.client.HTTPException):
                return False

    def kill(self, node: str, container: str) -> None:
        """SIGKILL to process 1 of a container."""
        self.nodes[node].run("kill", "-KILL", str(self.process(node, container)))

    def prober(self, address: str = VIP, *, ask: bool = False) -> Prober:
        """A client that asks each millisecond."""
        return Prober(self.client, address, ask=ask)


def _is_ready_node(node: Json) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"])


def _is_ready_pod(pod: Json) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
