"""keepalived on the same wire with the same number: VRRP and CARP share protocol, group and MAC prefix, and nothing else."""

import pytest

from lab.capture import Capture
from lab.namespace import wait_until
from lab.network import Lab
from lab.peers import Keepalived
from lab.sidecar import CALM, VIP4, start_cluster, stays

pytestmark = [pytest.mark.needs("netns"), pytest.mark.needs("keepalived")]

VRRP_ADDRESS = "10.77.0.120"
SAME_NUMBER = 5


@pytest.mark.parametrize("priority", [255, 1])
def test_vrrp_with_the_same_number_changes_nothing(lab: Lab, priority: int) -> None:
    first, second = start_cluster(lab, vhid=SAME_NUMBER, **CALM)
    before = [one.group()["transitions"] for one in (first, second)]
    neighbour = Keepalived(lab["c"], lab.directory, VRRP_ADDRESS, vrid=SAME_NUMBER, priority=priority, interval_s=0.1)
    with Capture(second.host.namespace, "eth0") as wire:
        neighbour.start()
        neighbour.wait_state("MASTER")
        wait_until(lambda: len(vrrp_frames(wire)) >= 10, 10, "VRRP is on the wire")
    stays([first, second], ["MASTER", "BACKUP"], 1.0)
    assert [one.group()["transitions"] for one in (first, second)] == before
    assert second.group()["adverts"]["rejected"].get("vrrp", 0) > 0, "told apart and counted"
    lab.kill(first.host)
    second.wait_state("MASTER", timeout_s=5)
    assert second.host.held_addresses() == [VIP4]
    assert neighbour.state == "MASTER", "nor does CARP change VRRP"
    assert lab["c"].held_addresses() == [VRRP_ADDRESS]


def vrrp_frames(wire: Capture) -> list[bytes]:
    """Frames of protocol 112 that are VRRP version 3."""
    found = (frame.data for frame in wire.frames() if frame.ethertype == 0x0800 and frame.data[23] == 112)
    return [data for data in found if data[34] >> 4 == 3]
