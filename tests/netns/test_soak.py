"""A hundred failovers leave nothing behind: ``make soak`` in short, and what it holds against a run is told."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.soak_cluster import PROBE_PORT, Cluster
from bench.soak_samples import KERNEL, net_rows, sample
from lab.namespace import LabError, wait_until
from lab.network import Lab
from lab.sidecar import Sidecar

pytestmark = pytest.mark.needs("netns", "nft")

EQUAL = (*KERNEL, "fds", "threads", "guardian_fds", "netlink_drops")
MEMORY_LIMIT_KB = 3 * 1024
"""More than the pages that a process of Python still touches for the first time; 30 KB for each failover are found."""
GROUPS = 40
SETTLE_S = 10.0


def held(member: Sidecar) -> dict[str, Any]:
    """A sample without the sockets that ask other hosts whether they live: one is made when a host is first suspected, and kept."""
    figures, asking = sample(member), hosts_asked(member)
    return figures | {"fds": figures["fds"] - asking, "sockets": figures["sockets"] - asking}


def hosts_asked(member: Sidecar) -> int:
    """How many sockets are connected to the probe port of another host."""
    asked = f":{PROBE_PORT:04X}"
    return sum(row[2].endswith(asked) for table in ("udp", "udp6") for row in net_rows(member.pid, table))


def samples(cluster: Cluster) -> dict[str, dict[str, Any]]:
    return {member.host.name: held(member) for member in cluster.survivors}


def equal_again(member: Sidecar, then: dict[str, Any]) -> dict[str, Any]:
    """What a member holds when it holds no more than then. A device goes down a moment after its address; what is lost never comes back."""
    differs: dict[str, tuple[int, int]] = {}
    after: dict[str, Any] = {}

    def equal() -> bool:
        after.update(held(member))
        differs.clear()
        differs.update({name: (then[name], after[name]) for name in EQUAL if then[name] != after[name]})
        return not differs

    try:
        wait_until(equal, SETTLE_S, f"{member.host.name} holds what it held before")
    except LabError as error:
        raise AssertionError(f"{error}: {differs}") from error
    return after


@pytest.mark.timeout(240)
def test_a_hundred_failovers_leave_nothing_behind(lab: Lab, record_property: Callable[[str, object], None]) -> None:
    cluster = Cluster(lab, GROUPS)
    cluster.start()
    every = range(len(cluster.survivors))
    for number in every:
        for _ in cluster.cycle(number, every_s=0):
            pass
    before, moved = samples(cluster), cluster.failovers
    for number in every:
        for _ in cluster.cycle(number, every_s=0):
            pass
    assert cluster.unsettled == []
    record_property("failovers", cluster.failovers - moved)
    assert cluster.failovers - moved >= 100
    others = 2 * (len(cluster.members) - 1)  # by both families
    for member in cluster.survivors:
        assert 0 < hosts_asked(member) <= others, member.host.name
        then = before[member.host.name]
        after = equal_again(member, then)
        assert after["rss_kb"] <= then["rss_kb"] + MEMORY_LIMIT_KB, member.host.name
        assert after["state_bytes"] <= then["state_bytes"] + 100, member.host.name
