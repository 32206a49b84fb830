"""What happens to nodes, pods and the control plane, and what it costs a client that asks each millisecond."""

import pytest

from lab.cluster_faults import FAULTS, ClusterFault, suffer
from lab.groups import GROUP
from lab.manifests import condition
from lab.real_cluster import VIP, RealCluster

pytestmark = [pytest.mark.needs("machines", "kubernetes", "kubelet", "containerd", "buildah"), pytest.mark.timeout(420)]

BUSY = 3
"""What two cores that run three nodes and a control plane may add to a takeover, as a factor; docs/bench/cluster.md has the figures."""
JITTER_MS = 25
"""The longest silence that is put down to the machine, not to kubecarp, where nothing should be lost."""


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
