"""What can happen to a node, a pod or a control plane, and what it may cost: one list for the tests of the cluster and for its bench.

Each fault is done to the node that is master, and undone, while a client asks each millisecond.
"""

__all__ = ["FAULTS", "ClusterFault", "Suffered", "suffer"]

import time
from collections.abc import Callable
from dataclasses import dataclass

from lab.prober import ProbeResult
from lab.real_cluster import NAMESPACE, RealCluster

Deed = Callable[[RealCluster, str], None]

DETECTED_MS = 500
"""What a dead host may cost at the chart's defaults, one advert a second."""
NOTHING_MS = 0
DRAIN_S = 60.0
CARRIER_AWAY_S = 0.3
AS_THE_POD_SAYS = "30"
"""The grace period of the chart, which `kubectl delete pod` leaves as it is."""
AWAY_S = 5.0
"""Long enough for a kubelet to miss an update of its lease, and for the sidecars to send several adverts."""


@dataclass(frozen=True, slots=True)
class ClusterFault:
    """``hurt`` does it to the master, ``heal`` undoes it; both return when it is done, not when the cluster has come to rest."""

    name: str
    hurt: Deed
    heal: Deed
    bound_ms: int
    """The longest outage of an address that the fault, or its end, may cause."""
    moves: bool | None = True
    """Whether another node has the addresses afterwards; None: they move, and may be back."""


def _nothing(_cluster: RealCluster, _node: str) -> None:
    pass


def _stay() -> None:
    time.sleep(AWAY_S)


def _power_off(cluster: RealCluster, node: str) -> None:
    cluster[node].power_off()


def _power_on(cluster: RealCluster, node: str) -> None:
    cluster[node].power_on()
    cluster.wait_nodes(node)


def _power_off_two(cluster: RealCluster, node: str) -> None:
    """The master and the next, which is the one that would have taken over."""
    following = cluster.status("intranet")["next"]
    cluster[node].power_off()
    cluster[following].power_off()


def _power_on_all(cluster: RealCluster, _node: str) -> None:
    for node in cluster.nodes.values():
        if not node.is_on:
            node.power_on()
    cluster.wait_nodes()


def _cut(cluster: RealCluster, node: str) -> None:
    cluster.lab.cut(cluster[node].host)


def _heal_link(cluster: RealCluster, node: str) -> None:
    cluster.lab.heal(cluster[node].host)


def _flap(cluster: RealCluster, node: str) -> None:
    cluster.lab.unplug(cluster[node].host)
    time.sleep(CARRIER_AWAY_S)
    cluster.lab.heal(cluster[node].host)


def _stop(program: str) -> Deed:
    def deed(cluster: RealCluster, node: str) -> None:
        cluster[node].stop_program(program)
        _stay()

    return deed


def _start(program: str) -> Deed:
    def deed(cluster: RealCluster, node: str) -> None:
        cluster[node].start_program(program)
        cluster.wait_nodes(node)

    return deed


def _delete_pod(cluster: RealCluster, node: str) -> None:
    pod = cluster.node_pod(node)["metadata"]
    cluster.api.delete("v1/Pod", pod["name"], NAMESPACE, gracePeriodSeconds=AS_THE_POD_SAYS)
    cluster.wait_node_pod(node, other_than=pod["uid"])


def _kill(container: str) -> Deed:
    def deed(cluster: RealCluster, node: str) -> None:
        cluster.kill(node, container)
        _stay()

    return deed


def _drain(cluster: RealCluster, node: str) -> None:
    cluster.plane.run("kubectl", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", timeout_s=DRAIN_S)


def _uncordon(cluster: RealCluster, node: str) -> None:
    cluster.plane.kubectl("uncordon", node)


def _restart_all(cluster: RealCluster, _node: str) -> None:
    where = ["--namespace", NAMESPACE, "daemonset/kubecarp-node"]
    cluster.plane.kubectl("rollout", "restart", *where)
    cluster.plane.run("kubectl", "rollout", "status", *where, "--timeout=240s", timeout_s=250)


def _stop_api(cluster: RealCluster, _node: str) -> None:
    cluster.plane.stop_api()
    _stay()


def _stop_api_and_master(cluster: RealCluster, node: str) -> None:
    _stop_api(cluster, node)
    cluster[node].power_off()
    _stay()


def _start_api(cluster: RealCluster, _node: str) -> None:
    cluster.plane.start_api()
    cluster.wait_nodes()


def _start_api_and_master(cluster: RealCluster, node: str) -> None:
    cluster.plane.start_api()
    _power_on(cluster, node)


FAULTS = {
    fault.name: fault
    for fault in (
        ClusterFault("node dies", _power_off, _power_on, DETECTED_MS),
        ClusterFault("two nodes of three die", _power_off_two, _power_on_all, 2 * DETECTED_MS),
        ClusterFault("switch port dies", _cut, _heal_link, DETECTED_MS),
        ClusterFault("link flaps", _flap, _nothing, DETECTED_MS),
        ClusterFault("sidecar killed", _kill("sidecar"), _nothing, NOTHING_MS),
        ClusterFault("agent killed", _kill("agent"), _nothing, NOTHING_MS, moves=False),
        ClusterFault("pod deleted", _delete_pod, _nothing, NOTHING_MS),
        ClusterFault("node drained", _drain, _uncordon, NOTHING_MS),
        ClusterFault("DaemonSet restarted", _restart_all, _nothing, NOTHING_MS, moves=None),
        ClusterFault("kubelet stopped", _stop("kubelet"), _start("kubelet"), NOTHING_MS, moves=False),
        ClusterFault("containerd stopped", _stop("containerd"), _start("containerd"), NOTHING_MS, moves=False),
        ClusterFault("control plane down", _stop_api, _start_api, NOTHING_MS, moves=False),
        ClusterFault("control plane down, then node dies", _stop_api_and_master, _start_api_and_master, DETECTED_MS),
    )
}


@dataclass(frozen=True, slots=True)
class Suffered:
    """One fault, from health to health."""

    result: ProbeResult
    master_before: str
    master_after: str


def suffer(cluster: RealCluster, fault: ClusterFault, group: str, address: str) -> Suffered:
    """Do the fault to the group's master, undo it, and wait until all is well again: in the status, and in the kernels of the nodes."""
    before = cluster.wait_ready(group, address=address)["master"]["node"]
    with cluster.prober(address) as prober:
        prober.wait_answering()
        fault.hurt(cluster, before)
        prober.wait_answering()
        fault.heal(cluster, before)
        after = cluster.wait_ready(group, address=address, other_than=before if fault.moves else "")["master"]["node"]
        prober.wait_answering()
        return Suffered(prober.stop(), before, after)
