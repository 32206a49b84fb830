"""What a plan costs in a large cluster, in processor time: one report or one change must not cost what everything costs."""

import time
from collections.abc import Callable

import pytest

from carp_operator.handlers.cache import Kind
from carp_operator.plan.planner import Plan
from lab.world import Cluster

pytestmark = pytest.mark.timing

GROUPS, NODES = 100, 30
LIMITS_MS = {"everything": 2000, "one group": 200, "one report": 50, "one node": 1500, "nothing": 20}
"""Ten times and more what it takes; docs and bench say how much that is with 1000 groups on 100 nodes."""


@pytest.fixture(scope="module")
def costs() -> dict[str, float]:
    """Milliseconds by what happened."""
    found: dict[str, float] = {}
    cluster = Cluster((f"n{number}" for number in range(NODES)), checked=False)
    cluster.settle()

    def many() -> None:
        for number in range(GROUPS):
            cluster.apply_group(f"g{number}", f"10.77.0.{number + 55}")

    found["everything"], plan = timed(cluster, many)
    assert (len(plan.rings), len(plan.carp_nodes)) == (GROUPS, NODES)
    for agent in cluster.agents.values():
        written = cluster.objects[Kind.CARP_NODE][agent.name]["spec"]["groups"]
        agent.running = {entry["name"]: entry for entry in written}
        agent.states = {name: {"state": "Backup", "since": cluster.time} for name in agent.running}
        agent.report()
    cluster.reconcile()
    found["one group"], plan = timed(cluster, lambda: cluster.apply_group("g7", "10.77.0.62", virtualMAC=False))
    assert (len(plan.carp_nodes), len(plan.statuses)) == (NODES, 1)
    agent = cluster.agents["n3"]
    agent.set_state("g7", "Master", "nobody-there")
    found["one report"], plan = timed(cluster, agent.report)
    assert (len(plan.carp_nodes), len(plan.statuses)) == (0, 1)
    found["one node"], plan = timed(cluster, lambda: cluster.add_node("n3", maintenance=True))
    assert [write.name for write in plan.carp_nodes] == ["n3"]
    agent.interfaces[0]["state"] = "Down"
    found["nothing"], plan = timed(cluster, agent.report)
    assert (plan.carp_nodes, plan.statuses) == ((), ())
    return found


def timed(cluster: Cluster, happens: Callable[[], object]) -> tuple[float, Plan]:
    """Of the plan alone."""
    cluster.now += 100
    cluster.reconcile()
    while cluster.writes:
        cluster.reconcile()
    cluster.reconcile()
    happens()
    cluster.deliver()
    started = time.process_time()
    plan = cluster.plan()
    spent_ms = (time.process_time() - started) * 1000
    cluster.reconcile()
    return spent_ms, plan


@pytest.mark.parametrize("what", LIMITS_MS)
def test_a_plan_costs(costs: dict[str, float], what: str, record_property: Callable[[str, object], None]) -> None:
    print(f"{GROUPS} groups on {NODES} nodes: {what}: {costs[what]:.1f} ms")
    record_property(f"plan of {what}, ms", round(costs[what], 1))
    assert costs[what] < LIMITS_MS[what]
