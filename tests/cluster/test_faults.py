"""What happens to nodes, pods and the control plane, and what it costs a client that asks each millisecond."""

import pytest

from lab.cluster_faults import FAULTS, ClusterFault, suffer
from lab.groups import GROUP
from lab.manifests import carp_group, condition
from lab.namespace import wait_until
from lab.real_cluster import NAMESPACE, VIP, RealCluster

pytestmark = [pytest.mark.needs("machines", "kubernetes", "kubelet", "containerd", "buildah"), pytest.mark.timeout(420)]

BUSY = 3
"""What two cores that run three nodes and a control plane may add to a takeover, as a factor; docs/bench/cluster.md has the figures."""
JITTER_MS = 25
"""The longest silence that is put down to the machine, not to kubecarp, where nothing should be lost."""

LEASE_S = 20.0
"""After which another operator acts; its start and two busy cores come on top, as a factor."""


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_costs_what_it_may(kubecarp: RealCluster, fault: ClusterFault, record_property: pytest.FixtureRequest) -> None:
    suffered = suffer(kubecarp, fault, "intranet", VIP)
    result = suffered.result
    record_property("longest_ms", result.longest_ms)  # type: ignore[operator]
    assert result.longest_ms <= max(BUSY * fault.bound_ms, JITTER_MS), result.outages
    assert fault.moves in (None, suffered.master_after != suffered.master_before)
    assert kubecarp.lab.host_by_ttl(result.ttls[-1]) == suffered.master_after, "the status names who answers"
    group = kubecarp.api.get(GROUP, "intranet")
    assert condition(group, "SplitBrain")["status"] == "False"
    assert len(kubecarp.holders(VIP)) == 1


def test_the_table_is_true_when_the_operator_dies_with_the_master(kubecarp: RealCluster) -> None:
    """One node has the address and the operator that writes who has it."""
    lease = kubecarp.api.get("coordination.k8s.io/v1/Lease", "kubecarp-operator", NAMESPACE)
    operators = kubecarp.api.list("v1/Pod", NAMESPACE, labelSelector="app.kubernetes.io/component=operator")
    nodes = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in operators}
    assert len(set(nodes.values())) == 2, "they are apart"
    doomed = next(node for name, node in nodes.items() if name in lease["spec"]["holderIdentity"])
    # With preemption: without it a node that hears of the group a moment before the best one may be master first, and stays it.
    priorities = [{"node": doomed, "priority": 255}]
    kubecarp.apply(carp_group("unlucky", "10.77.0.101", priorities=priorities, preemption={"enabled": True}))
    try:
        wait_until(lambda: kubecarp.holders("10.77.0.101") == [doomed], 60, f"{doomed} has the address", 0.2)
        kubecarp.wait_ready("unlucky", address="10.77.0.101")
        assert kubecarp.status("unlucky")["master"]["node"] == doomed
        kubecarp[doomed].power_off()
        wait_until(lambda: kubecarp.status("unlucky")["master"]["node"] != doomed, 2 * LEASE_S, "the status names the new master", 0.2)
        assert kubecarp.holders("10.77.0.101") == [kubecarp.status("unlucky")["master"]["node"]]
    finally:
        kubecarp.api.delete(GROUP, "unlucky")
