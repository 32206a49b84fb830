"""What is on the wire and in the kernel: virtual MAC, adverts, ARP, address attributes, and what is left afterwards."""

import os
import signal
import time
from typing import Any

import pytest

from lab.capture import Capture
from lab.namespace import wait_until
from lab.network import Host, Lab
from lab.prober import Prober
from lab.sidecar import VIP4, VIP6, Sidecar, group, start_cluster
from lab.witness import Witness

pytestmark = pytest.mark.needs("netns")

VMAC = "00:00:5e:00:01:07"
VHID = 7
GONE_WITHIN_S = {"Lifetime": 3.0, "Auto": 12.0}
"""By fence: lifetimes of 2 s end after at most 2.5 s; of 10 s, where the gate silences the host long before, after some more."""
SILENT_WITHIN_S = {"Lifetime": 3.0, "Auto": 1.0}
"""The lease of the gate is 0.5 s here; the rest is for a machine that pauses."""


def link_names(host: Host) -> set[str]:
    return {link["ifname"] for link in host.namespace.ip_json("link")}


def parameters(host: Host, interface: str = "eth0") -> dict[str, str]:
    """The sysctls a virtual MAC touches on its parent."""
    folder = f"/proc/sys/net/ipv4/conf/{interface}"
    return {name: host.namespace.run("cat", f"{folder}/{name}").strip() for name in ("arp_ignore", "arp_announce", "rp_filter")}


def address_entry(host: Host, address: str) -> dict[str, Any]:
    """What the kernel says of one address."""
    return next(entry for link in host.namespace.ip_json("addr") for entry in link["addr_info"] if entry.get("local") == address)


@pytest.mark.parametrize("virtual_mac", [True, False], ids=["virtual-mac", "physical-mac"])
def test_adverts_on_the_wire(lab: Lab, virtual_mac: bool) -> None:
    host = lab["a"]
    with Capture(lab.client.namespace, "eth0") as wire:
        Sidecar(lab, host, [group(vhid=VHID, advskew=3, virtual_mac=virtual_mac)]).start().wait_state("MASTER")
        advert = wire.wait_for_advert(lambda one: one.claims_mastership)
    assert advert.frame.source_mac == (VMAC if virtual_mac else host.port().mac)
    assert advert.frame.destination_mac == "01:00:5e:00:00:12"
    assert (advert.source, advert.destination, advert.ttl) == (host.address(), "224.0.0.18", 255)
    assert (advert.vhid, advert.advskew, advert.demotion) == (VHID, 3, 0)
    assert len(advert.extension) == 56


def test_only_the_virtual_mac_answers_arp(lab: Lab) -> None:
    first, second = start_cluster(lab, vhid=VHID)
    with Prober(lab.client, VIP4, ask=True) as prober:
        prober.wait_answering()
        first.stop()
        second.wait_state("MASTER")
        prober.wait_answering()
        result = prober.stop()
    assert result.macs == {VMAC}
    assert {claim["kind"] for claim in result.claims} == {"answer", "announcement"}
    assert result.duplicates == 0


def test_a_backup_never_uses_the_virtual_mac(lab: Lab) -> None:
    with Capture(lab.switch, lab["b"].port().device) as port_of_b, Capture(lab.switch, lab["a"].port().device) as port_of_a:
        first, second = start_cluster(lab, vhid=VHID, addresses=[VIP4, VIP6])
        with Prober(lab.client, VIP4, ask=True) as prober:
            prober.wait_answering()
            assert virtual_frames(port_of_b) == [], "while it has only been BACKUP"
            first.request("handover", group="web")
            first.wait_state("BACKUP")
            second.wait_state("MASTER")
            handed_over = time.monotonic()
            prober.wait_answering()
            wait_until(lambda: time.monotonic() > handed_over + 1.5, 5, "some adverts have passed")
            prober.stop()
    assert virtual_frames(port_of_b), "the capture would have seen them"
    assert virtual_frames(port_of_a, handed_over) == []


def virtual_frames(capture: Capture, since_s: float = 0.0) -> list[str]:
    """Frames that came out of the host with the virtual MAC as source."""
    found = (frame for frame in capture.frames(since_s) if not frame.outgoing and frame.source_mac == VMAC)
    return [frame.data[:80].hex() for frame in found]


def test_physical_mac_moves_by_announcement(lab: Lab) -> None:
    first, second = start_cluster(lab, virtual_mac=False)
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        lab.kill(first.host)
        second.wait_state("MASTER")
        prober.wait_answering()
        result = prober.stop()
    announced = [claim["mac"] for claim in result.claims if claim["kind"] == "announcement"]
    assert announced[-1] == second.host.port().mac
    assert result.ttls == [first.host.ttl, second.host.ttl]


@pytest.mark.parametrize("virtual_mac", [True, False], ids=["virtual-mac", "physical-mac"])
def test_both_families_move_together(lab: Lab, virtual_mac: bool) -> None:
    first, second = start_cluster(lab, addresses=[VIP4, VIP6], virtual_mac=virtual_mac)
    with Prober(lab.client, VIP4) as four, Prober(lab.client, VIP6, ask=True) as six:
        for prober in (four, six):
            prober.wait_answering()
        lab.kill(first.host)
        second.wait_state("MASTER")
        for prober in (four, six):
            prober.wait_answering()
            assert prober.stop().ttls == [first.host.ttl, second.host.ttl]
    assert sorted(second.host.held_addresses()) == sorted([VIP4, VIP6])


def test_an_address_deleted_by_hand_is_put_back(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], [group()]).start()
    member.wait_state("MASTER")
    device = next(link["ifname"] for link in lab["a"].namespace.ip_json("addr") if any(e.get("local") == VIP4 for e in link["addr_info"]))
    took_s = member.wait_for(lambda one: one["takeover_s"], "has the addresses")["takeover_s"]
    lab["a"].namespace.ip(f"addr del {VIP4}/32 dev {device}")
    wait_until(lambda: lab["a"].held_addresses() == [VIP4], 2, "the address is back")
    assert member.group()["transitions_by_reason"].keys() >= {"started"}
    assert member.state == "MASTER"
    assert member.group()["takeover_s"] == took_s, "what is put back is no takeover"


def test_a_device_that_is_set_down_by_hand_is_set_up_again(lab: Lab) -> None:
    """The kernel keeps its IPv4 addresses and says nothing of them; only the link tells."""
    member = Sidecar(lab, lab["a"], [group(addresses=[VIP4, VIP6], vhid=VHID)]).start()
    member.wait_state("MASTER")
    (device,) = (name for name in link_names(lab["a"]) if name not in {"lo", "eth0"})
    with Prober(lab.client, VIP4) as prober, Prober(lab.client, VIP6) as prober6:
        for one in (prober, prober6):
            one.wait_answering()
        before = member.group()["transitions"]
        lab["a"].namespace.ip(f"link set dev {device} down")
        wait_until(lambda: "was set down" in member.log(), 5, "it is noticed")
        for one in (prober, prober6):
            one.wait_answering()
    assert (member.state, member.group()["transitions"]) == ("MASTER", before)


def test_a_handover_to_somebody_named_by_the_address_of_its_adverts(lab: Lab) -> None:
    """Of a group of IPv6 they come from a link-local one, which status tells."""
    first, second, third = start_cluster(lab, 3, addresses=[VIP6])
    to = third.group()["source"]
    assert to.startswith("fe80:")
    first.wait_for(lambda one: to in {peer["source"] for peer in one["peers"]}, "knows it")
    first.request("handover", group="web", to=to)
    third.wait_state("MASTER")
    assert [one.wait_state("BACKUP")["state"] for one in (first, second)] == ["BACKUP", "BACKUP"]


@pytest.mark.parametrize("virtual_mac", [True, False], ids=["virtual-mac", "physical-mac"])
def test_attributes_of_the_addresses(lab: Lab, virtual_mac: bool) -> None:
    given = [f"{VIP4}/24", f"{VIP6}/64"]
    Sidecar(lab, lab["a"], [group(addresses=given, virtual_mac=virtual_mac)]).start().wait_state("MASTER")
    for address, host_prefix in ((VIP4, 32), (VIP6, 128)):
        entry = address_entry(lab["a"], address)
        assert entry["prefixlen"] == host_prefix, "never taken for a node address"
        assert entry["noprefixroute"] is True
        assert entry["preferred_life_time"] == 0
        assert 0 < entry["valid_life_time"] <= 2
        assert not entry.get("tentative")


def guardian_of(member: Sidecar) -> int:
    """The process that outlives the sidecar."""
    return wait_until(lambda: next(iter(member.companions()), 0), 5, "there is a guardian")


@pytest.mark.parametrize("fence", GONE_WITHIN_S)
def test_the_kernel_removes_addresses_when_nobody_is_left(lab: Lab, fence: str) -> None:
    member = Sidecar(lab, lab["a"], [group(addresses=[VIP4, VIP6], fence=fence)]).start()
    member.wait_state("MASTER")
    guardian = guardian_of(member)
    time.sleep(1)  # a renewal or two
    os.kill(guardian, signal.SIGKILL)
    os.kill(member.pid, signal.SIGKILL)
    killed = time.monotonic()
    member.reap()
    with Witness(lab, lab.client, VIP4, [lab["a"]]) as ipv4, Witness(lab, lab.client, VIP6, [lab["a"]]) as ipv6:
        wait_until(lambda: not lab["a"].held_addresses(VIP4, VIP6), GONE_WITHIN_S[fence], "their lifetimes end")
        assert time.monotonic() - killed < GONE_WITHIN_S[fence]
        spans = [span for witness in (ipv4, ipv6) for span in witness.sighting(killed).answering["a"]]
    assert spans, "its kernel answers for a while"
    assert max(end for _, end in spans) - killed < SILENT_WITHIN_S[fence]


def test_the_guardian_removes_addresses_at_once(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], [group(addresses=[VIP4, VIP6])]).start()
    member.wait_state("MASTER")
    guardian_of(member)
    member.kill()
    wait_until(lambda: not lab["a"].held_addresses(VIP4, VIP6), 0.7, "the guardian removes them")
    wait_until(lambda: not lab["a"].namespace.processes(), 5, "the guardian ends too")


@pytest.mark.parametrize("virtual_mac", [True, False], ids=["virtual-mac", "physical-mac"])
def test_a_clean_stop_leaves_nothing(lab: Lab, virtual_mac: bool) -> None:
    host = lab["a"]
    before = (link_names(host), parameters(host), host.held_addresses(), host.namespace.processes())
    member = Sidecar(lab, host, [group(addresses=[VIP4, VIP6], virtual_mac=virtual_mac)]).start()
    member.wait_state("MASTER")
    assert member.stop() == 0
    wait_until(lambda: not host.namespace.processes(), 5, "the guardian ends too")
    assert (link_names(host), parameters(host), host.held_addresses(), host.namespace.processes()) == before
    assert not member.socket_path.exists()


def test_the_next_start_sweeps_what_a_killed_one_left(lab: Lab) -> None:
    host = lab["a"]
    member = Sidecar(lab, host, [group(vhid=VHID)]).start()
    member.wait_state("MASTER")
    for pid in (guardian_of(member), member.pid):
        os.kill(pid, signal.SIGKILL)
    member.reap()
    left = link_names(host) - {"lo", "eth0"}
    assert left, "nothing was left, so this test shows nothing"
    member.configure([group("other", vhid=9, addresses=["10.77.0.109"])])
    member.start().wait_state("MASTER")
    assert not left & link_names(host)
    assert host.held_addresses() == ["10.77.0.109"]


def test_two_sidecars_on_one_host_leave_each_other_alone(lab: Lab) -> None:
    host = lab["a"]
    one = Sidecar(lab, host, [group("one", 1, addresses=["10.77.0.101"])], name="one", metrics_address="").start()
    one.wait_state("MASTER")
    other = Sidecar(lab, host, [group("two", 2, addresses=["10.77.0.102"])], name="two", metrics_address="", probe_port=0).start()
    other.wait_state("MASTER")
    assert sorted(host.held_addresses()) == ["10.77.0.101", "10.77.0.102"]
    other.stop()
    assert host.held_addresses() == ["10.77.0.101"]
    assert one.state == "MASTER"


def test_a_kernel_that_has_ipv6_off_says_so_and_is_asked_again(lab: Lab) -> None:
    """Hardened hosts have it off for every new interface, such as the device of a virtual MAC."""
    host = lab["a"].namespace
    host.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    member = Sidecar(lab, lab["a"], [group(addresses=[VIP4, VIP6])]).start()
    refused = member.wait_for(lambda one: one["warnings"] and one["demotion"]["excluded"], "gives up for a while")["warnings"]
    (sentence,) = refused
    assert sentence.startswith(f"the kernel refused {VIP6}: Permission denied; IPv6 is off: write 0 to disable_ipv6 in /proc/sys/")
    assert lab["a"].held_addresses() == []
    host.run("sysctl", "-qw", "net.ipv6.conf.carp1-2.disable_ipv6=0")
    member.wait_for(lambda one: one["state"] == "MASTER" and not one["warnings"], "is asked again, and takes them")
    assert set(lab["a"].held_addresses()) == {VIP4, VIP6}
