"""Two sidecars on one interface of one host, as a static pod beside a node pod: nothing that one does spoils what is the other's."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from carp_sidecar.kernel.rtnl import Sysctl, encode_device_sysctls
from lab.hands import Hands, inside
from lab.namespace import wait_until
from lab.network import Host, Lab
from lab.prober import Prober
from lab.sidecar import CALM, Sidecar, group, wait_master

pytestmark = pytest.mark.needs("netns")

ADDRESSES = {"one": "10.77.0.101", "two": "10.77.0.102"}
MACS = {"one": "00:00:5e:00:01:01", "two": "00:00:5e:00:01:02"}
BEFORE = {"arp_ignore": "0", "arp_announce": "1"}
"""Not the kernel's defaults: what is put back must have been read somewhere."""
OURS = {"arp_ignore": "1", "arp_announce": "2"}
QUIET = {"metrics_address": "", "probe_port": 0}


def settings(host: Host) -> dict[str, str]:
    """How the interface answers and asks by ARP."""
    folder = "/proc/sys/net/ipv4/conf/eth0"
    return {name: host.namespace.run("cat", f"{folder}/{name}").strip() for name in BEFORE}


def sidecars(lab: Lab) -> tuple[Host, dict[str, Sidecar]]:
    """Two sidecars of host a, not started, each with a virtual MAC."""
    host = lab["a"]
    for name, text in BEFORE.items():
        host.namespace.sysctl(f"net/ipv4/conf/eth0/{name}", text)
    named = {
        name: Sidecar(lab, host, [group(name, vhid, addresses=[ADDRESSES[name]], **CALM)], name=name, **QUIET)
        for vhid, name in enumerate(ADDRESSES, 1)
    }
    return host, named


def aliases(host: Host) -> dict[str, str]:
    """What each device says of its owner."""
    return {link["ifname"]: link.get("ifalias", "") for link in host.namespace.ip_json("link")}


def children(member: Sidecar) -> list[int]:
    """Its guardian, of all processes of the host."""
    return [int(pid) for pid in Path(f"/proc/{member.pid}/task/{member.pid}/children").read_text().split()]


def start_all(*members: Sidecar) -> None:
    for member in members:
        member.start().wait_state("MASTER")


@contextmanager
def answered_by_one_mac(lab: Lab, name: str) -> Iterator[None]:
    """A client that asks by ARP every millisecond hears the virtual MAC of that sidecar alone, and for the host's address the host's."""
    host = lab["a"]
    with Prober(lab.client, ADDRESSES[name], ask=True) as virtual, Prober(lab.client, host.address(), ask=True) as own:
        virtual.wait_answering()
        yield
        virtual.wait_answering()
        own.wait_answering()
        of_address, of_host = virtual.stop(), own.stop()
    assert of_address.macs == {MACS[name]}
    assert of_address.longest_ms < 20, "what the other does is nothing to it"
    assert of_host.macs == {host.port().mac}


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")], ids=["older-stops-first", "newer-stops-first"])
def test_the_arp_settings_stay_until_the_last_one_stops(lab: Lab, order: Sequence[str]) -> None:
    host, named = sidecars(lab)
    start_all(*named.values())
    first, last = order
    with answered_by_one_mac(lab, last):
        assert named[first].stop() == 0
    assert settings(host) == OURS
    assert named[last].stop() == 0
    assert settings(host) == BEFORE


def test_they_stay_when_one_is_killed_and_comes_back(lab: Lab) -> None:
    host, named = sidecars(lab)
    one, two = named["one"], named["two"]
    start_all(one, two)
    with answered_by_one_mac(lab, "two"):
        one.kill()
        wait_until(lambda: not host.held_addresses(ADDRESSES["one"]), 5, "the guardian removes the address")
        one.start().wait_state("MASTER")
        assert sorted(host.held_addresses()) == sorted(ADDRESSES.values())
        one.stop()
    two.stop()
    assert settings(host) == BEFORE


def test_one_that_starts_beside_a_dead_one_puts_back_what_was_before_that(lab: Lab) -> None:
    host, named = sidecars(lab)
    one, two = named["one"], named["two"]
    start_all(one)
    one.kill()
    start_all(two)
    two.stop()
    assert settings(host) == OURS, "the device of the dead one is still there, and with it what it needs"
    one.configure([group("physical", 3, virtual_mac=False)])
    start_all(one)
    wait_until(lambda: settings(host) == BEFORE, 5, "the sweep puts back what the run before changed")


def test_two_that_stop_together_leave_the_interface_as_it_was(lab: Lab) -> None:
    host, named = sidecars(lab)
    for _ in range(3):
        start_all(*named.values())
        for member in named.values():
            member.signal(signal.SIGTERM)
        assert [member.reap() for member in named.values()] == [0, 0]
        assert settings(host) == BEFORE


def test_one_may_start_while_the_other_stops(lab: Lab) -> None:
    host, named = sidecars(lab)
    one, two = named["one"], named["two"]
    start_all(one)
    for going, coming in ((one, two), (two, one)) * 3:
        coming.start(wait=False)
        going.signal(signal.SIGTERM)
        going.reap()
        coming.wait_ready().wait_state("MASTER")
        wait_until(lambda: settings(host) == OURS, 2, "the one that stays has what it needs")
    one.stop()
    assert settings(host) == BEFORE


def test_what_is_written_meanwhile_is_undone_at_once_and_put_back_at_the_end(lab: Lab) -> None:
    host, named = sidecars(lab)
    one = named["one"]
    start_all(one)

    async def write(hands: Hands) -> None:
        assert await hands.do(encode_device_sysctls(hands.parent.index, {Sysctl.ARP_IGNORE: 0, Sysctl.ARP_ANNOUNCE: 0})) == [0]

    inside(host, write)
    wait_until(lambda: settings(host) == OURS, 2, "the settings are made again")
    one.stop()
    assert settings(host) == {"arp_ignore": "0", "arp_announce": "0"}


def test_a_vhid_of_another_sidecar_is_named_and_its_device_left_alone(lab: Lab) -> None:
    host, named = sidecars(lab)
    one, two = named["one"], named["two"]
    start_all(one)
    before = aliases(host)
    assert before["carp1-2"] == f"kubecarp:{one.state_dir}:0,1:one"
    two.configure([group("two", 1, addresses=[ADDRESSES["two"]])])
    two.start()
    (warning,) = two.wait_for(lambda status: status["warnings"], "says why it waits")["warnings"]
    assert warning.startswith("carp1-2, ")
    assert f"belongs to group one of the carp-sidecar with state_dir {one.state_dir}; give each group" in warning
    assert aliases(host) == before
    assert host.held_addresses() == [ADDRESSES["one"]]
    one.stop()
    two.wait_state("MASTER")
    assert host.held_addresses() == [ADDRESSES["two"]]


def test_what_only_one_sidecar_can_have_is_refused_to_the_other(lab: Lab) -> None:
    _, named = sidecars(lab)
    one, two = named["one"], named["two"]
    start_all(one)
    two.configure([group("two", 2)], state_dir=str(one.state_dir))
    assert two.start(wait=False).reap() == 2
    assert "is used by another carp-sidecar that runs now" in two.log()
    two.configure([group("two", 2)], state_dir=str(two.state_dir), control_socket=str(one.socket_path))
    assert two.start(wait=False).reap() == 2
    assert f"another sidecar answers on control_socket {one.socket_path}" in two.log()
    assert one.state == "MASTER"


def test_a_port_of_another_sidecar_costs_no_election_but_the_fast_detection(lab: Lab) -> None:
    pods = [Sidecar(lab, host, [group("pod", 1)], name=f"pod-{host.name}", metrics_address="") for host in lab.members()]
    for pod in pods:
        pod.start()
    both = group("static", 2, addresses=[ADDRESSES["two"]], advertisement_interval="500ms")
    static = [
        Sidecar(lab, host, [both | {"advskew": 50 * rank}], name=f"static-{host.name}", metrics_address="")
        for rank, host in enumerate(lab.members())
    ]
    for one in static:
        one.start()
    first, *others = static
    wait_master(first, *others)
    assert "UDP port 9112 is used by another program: give each sidecar of this host its own probe_port" in first.log()
    for pid in (*children(first), first.pid):
        os.kill(pid, signal.SIGKILL)  # the guardian would say goodbye
    first.reap()
    seen = others[0].wait_state("MASTER")
    assert seen["transitions_by_reason"].keys() == {"started", "master-timed-out"}, "the other one's port answered for it"
