"""The kernel lease: a master that hangs is silent before its successor speaks, and nothing else is ever dropped."""

import time

import pytest

from lab.network import Lab
from lab.sidecar import VIP4, VIP6, start_cluster
from lab.witness import Witness

pytestmark = pytest.mark.needs("netns")


@pytest.mark.timing
@pytest.mark.parametrize("address", [VIP4, VIP6])
@pytest.mark.parametrize("virtual_mac", [True, False])
def test_a_stopped_master_is_silent_before_its_successor_answers(lab: Lab, virtual_mac: bool, address: str) -> None:
    first, second = start_cluster(lab, virtual_mac=virtual_mac, addresses=[f"{address}/64" if ":" in address else address])
    first.wait_for(lambda one: one["fence"]["active"] == "Gate", "is gated")
    with Witness(lab, lab.client, address, [first.host, second.host]) as witness:
        time.sleep(0.5)
        stopped = time.monotonic()
        first.freeze()
        second.wait_state("MASTER")
        time.sleep(0.5)
        sighting = witness.sighting(stopped - 0.3)
        first.thaw()
        first.wait_state("BACKUP")
        print(sighting.two_hosts_ms, sighting.nobody_ms)
        assert sighting.two_hosts_ms == 0
        assert sighting.at_the_end == [second.host.name]
