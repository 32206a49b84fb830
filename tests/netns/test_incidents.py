"""Worst days of other products that no other test here lives through: docs/incidents.md names them by number."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from lab.capture import ETH_P_ARP, Capture, Frame
from lab.namespace import wait_until
from lab.network import Host, Lab
from lab.prober import Prober
from lab.sidecar import CALM, VIP4, VIP6, Sidecar, group, start_cluster, stays, wait_master, wait_single_master

pytestmark = pytest.mark.needs("netns")

VHID = 7
VMAC = "00:00:5e:00:01:07"
BOTH_MACS = pytest.mark.parametrize("virtual_mac", [True, False], ids=["virtual-mac", "physical-mac"])
BURST_S = 4.5
"""How long a new master announces; then once a minute."""
METRICS_PORT, PROBE_PORT = 9120, 9112


def announcements(frames: list[Frame], address: str) -> list[Frame]:
    """Gratuitous ARP, requests and replies, for an address."""
    wanted = bytes(map(int, address.split(".")))
    return [one for one in frames if one.ethertype == ETH_P_ARP and one.data[28:32] == one.data[38:42] == wanted]


@BOTH_MACS
def test_hosts_that_check_the_way_back_answer(lab: Lab, virtual_mac: bool) -> None:
    """Where rp_filter is strict for all interfaces, as many distributions have it; and the hosts' own addresses stay reachable."""
    for host in lab.members():
        for scope in ("all", "default", "eth0"):
            host.namespace.sysctl(f"net.ipv4.conf.{scope}.rp_filter", 1)
    first, second = start_cluster(lab, virtual_mac=virtual_mac)
    with Prober(lab.client, VIP4) as prober, Prober(lab.client, "10.77.0.1") as own:
        for one in (prober, own):
            one.wait_answering()
        first.request("handover", group="web")
        wait_master(second, first)
        prober.wait_answering()
        ttls = prober.stop().ttls  # for some milliseconds both answer
        assert (ttls[0], ttls[-1]) == (first.host.ttl, second.host.ttl)
        assert own.stop().longest_ms < 500, "the host's own address is there all the time"
    lab["c"].namespace.run("ping", "-c", "1", "-W", "5", VIP4)


def test_hosts_without_any_ipv4_address(lab: Lab) -> None:
    for host in lab.members():
        host.namespace.ip("addr flush dev eth0 scope global", f"addr add fd77::{host.name}/64 dev eth0 nodad")
    first, second = start_cluster(lab, addresses=[VIP6])
    with Prober(lab.client, VIP6, ask=True) as prober:
        prober.wait_answering()
        lab.kill(first.host)
        second.wait_state("MASTER")
        prober.wait_answering()
        assert prober.stop().ttls == [first.host.ttl, second.host.ttl]


def test_the_virtual_mac_on_a_bridge(lab: Lab) -> None:
    """As hypervisors have it: the bridge must take frames for a MAC that none of its ports has."""
    lab["a"].namespace.ip(
        "addr flush dev eth0", "link add br0 type bridge", "link set eth0 master br0", "addr add 10.77.0.1/24 dev br0", "link set br0 up"
    )
    first = Sidecar(lab, lab["a"], [group(interface="br0", vhid=VHID)]).start()
    first.wait_state("MASTER")
    second = Sidecar(lab, lab["b"], [group(advskew=50, vhid=VHID)]).start()
    wait_master(first, second)
    for master, other in ((first, second), (second, first)):
        with Prober(lab.client, VIP4, ask=True) as prober:
            prober.wait_answering()
            master.request("handover", group="web")
            wait_master(other, master)
            prober.wait_answering()
            result = prober.stop()
        assert (result.ttls[0], result.ttls[-1], result.macs) == (master.host.ttl, other.host.ttl, {VMAC}), (
            "for some milliseconds both answer"
        )


def test_a_backup_that_dies_or_hangs_is_no_event(lab: Lab) -> None:
    first, second, third = start_cluster(lab, 3, **CALM)
    before = first.group()["transitions"]
    with Prober(lab.client, VIP4) as prober, Capture(lab.client.namespace, "eth0") as wire:
        prober.wait_answering()
        wait_until(lambda: first.group()["since_s"] > BURST_S, 20, "the burst of the takeover is over")
        since = time.monotonic()
        second.freeze()
        third.kill()
        stays([first], ["MASTER"], 2.5)  # longer than the dead time
        second.thaw()
        stays([first, second], ["MASTER", "BACKUP"], 1.0)
        result = prober.stop()
        assert announcements(wire.frames(since), VIP4) == []
        assert [one.source for one in wire.adverts(since) if one.claims_mastership and one.source != first.host.address()] == []
    assert (result.lost, result.duplicates, first.group()["transitions"]) == (0, 0, before)


def test_the_whole_segment_goes_and_comes_back(lab: Lab) -> None:
    """Every host loses its carrier at once, for longer than the dead time: afterwards one of them answers, without anybody's help."""
    members = start_cluster(lab, 3)
    for member in members:
        lab.unplug(member.host)
    for member in members:
        member.wait_state("INIT")
        wait_until(lambda host=member.host: not host.held_addresses(), 5, "nobody has the address")  # type: ignore[misc]
    for member in members:
        lab.heal(member.host)
    master = wait_single_master(members)
    with Prober(lab.client, VIP4, ask=True) as prober:
        prober.wait_answering()
        assert prober.stop().duplicates == 0
    assert [member for member in members if member.host.held_addresses()] == [master]


def test_a_short_flap_of_the_masters_link_is_announced(lab: Lab) -> None:
    """Nobody else took over meanwhile, and the switch has forgotten: so whoever is master says so again."""
    first, second = start_cluster(lab, virtual_mac=False)
    with Capture(lab.client.namespace, "eth0") as wire:
        lab.unplug(first.host)
        first.wait_state("INIT")
        healed = time.monotonic()
        lab.heal(first.host)
        master = wait_single_master([first, second])
        wait_until(lambda: announcements(wire.frames(healed), VIP4), 10, "the address is announced")
    assert master.host.held_addresses() == [VIP4]


def test_an_announcement_comes_in_both_forms_from_the_groups_interface_alone(lab: Lab) -> None:
    """Request and reply, because routers believe one or the other; the frame's sender and that of the ARP in it are the same."""
    other = lab.segment("other")
    for name, number in (("a", 1), ("client", 200)):
        lab.plug_in(lab[name], other, "eth1", f"10.78.0.{number}/24")
    with Capture(lab.client.namespace, "eth0") as wire, Capture(lab.client.namespace, "eth1") as elsewhere:
        Sidecar(lab, lab["a"], [group(vhid=VHID, addresses=[VIP4, VIP6])]).start().wait_state("MASTER")
        forms = {1: "request", 2: "reply"}
        wait_until(lambda: {one.data[21] for one in announcements(wire.frames(), VIP4)} == set(forms), 10, "both forms are seen")
        told = announcements(wire.frames(), VIP4)
        assert {(one.source_mac, one.data[22:28].hex(":")) for one in told} == {(VMAC, VMAC)}
        assert announcements(elsewhere.frames(), VIP4) == []
        assert elsewhere.adverts() == []


def test_unicast_peers_keep_the_virtual_mac_known_to_the_switch(lab: Lab) -> None:
    """Adverts to peers come from the host's own MAC: what the switch learns from are the announcements, at a takeover and every minute."""
    peers = [lab["a"].address(), lab["b"].address()]
    first, second = start_cluster(lab, vhid=VHID, peers={"mode": "Unicast", "addresses": peers})

    def learned() -> set[str]:
        table = lab.switch.run("bridge", "fdb", "show").splitlines()
        return {line.split()[2] for line in table if line.startswith(VMAC) and "permanent" not in line}

    wait_until(lambda: learned() == {first.host.port().device}, 10, "the switch knows where the virtual MAC is")
    first.request("handover", group="web")
    wait_master(second, first)
    wait_until(lambda: learned() == {second.host.port().device}, 10, "and that it has moved")


@BOTH_MACS
def test_an_interface_that_is_flushed_gets_its_address_back(lab: Lab, virtual_mac: bool) -> None:
    """What the restart of a network manager does: every address goes, the host's own comes back."""
    first, second = start_cluster(lab, virtual_mac=virtual_mac)
    device = next(link["ifname"] for link in lab["a"].namespace.ip_json("addr") if any(e.get("local") == VIP4 for e in link["addr_info"]))
    for name in {device, "eth0"}:  # it may give up: what it removes is put back under its hands
        lab["a"].namespace.run("ip", "addr", "flush", "dev", name, check=False)
    lab["a"].namespace.ip("addr add 10.77.0.1/24 dev eth0")
    wait_single_master([first, second])
    with Prober(lab.client, VIP4, ask=True) as prober:
        prober.wait_answering()
        assert prober.stop().duplicates == 0


def test_a_demotion_by_hand_outlives_a_restart(lab: Lab) -> None:
    first, second = start_cluster(lab, preemption={"enabled": True}, **CALM)
    assert first.cli("demote", "web").returncode == 0
    first.kill()  # at once: what was answered is kept
    second.wait_state("MASTER")
    first.start()
    shown = first.wait_state("BACKUP")
    assert (shown["demotion"]["total"], second.state) == (128, "MASTER")
    stays([first, second], ["BACKUP", "MASTER"], 1.0)


def test_a_disk_that_hangs_holds_up_no_demotion_but_its_answer(lab: Lab) -> None:
    first, second = start_cluster(lab, preemption={"enabled": True})
    draft = first.state_dir / "state.json.new"
    os.mkfifo(draft)  # who opens it to write waits for a reader, as for a file system that does not answer
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(first.cli, "demote", "web")
        wait_master(second, first)
        assert not asked.done()
        refused = asked.result()
        assert (refused.returncode, refused.stderr.count("this is in force, but a restart may forget it: the disk of")) == (1, 1)
    with open(draft, "rb"):
        wait_until(lambda: "state.json was not written" in first.log(), 5, "the disk answers, with an error")
    draft.unlink()
    assert first.cli("undemote", "web").returncode == 0
    wait_master(first, second)


@pytest.mark.needs("nft")
def test_no_table_of_a_packet_filter_outlives_a_sidecar(lab: Lab) -> None:
    """What others have there stays; what a killed sidecar left goes when the next one starts, or at the latest when that one stops."""
    host = lab["a"]
    host.namespace.run("nft", "add table inet others")

    def tables() -> list[str]:
        return host.namespace.run("nft", "list tables").splitlines()

    member = Sidecar(lab, host, [group(addresses=[VIP4, VIP6])]).start()
    member.wait_state("MASTER")
    assert len(tables()) > 1, "it has none, so this test shows nothing"
    assert member.stop() == 0
    assert tables() == ["table inet others"]
    member.start().wait_state("MASTER")
    for pid in [*member.companions(), member.pid]:
        os.kill(pid, signal.SIGKILL)
    member.reap()
    member.start().wait_state("MASTER")
    assert member.stop() == 0
    assert tables() == ["table inet others"]


def test_what_a_stranger_on_the_segment_reaches_of_a_host(lab: Lab) -> None:
    """One UDP port, and nothing of metrics and control."""
    first, _ = start_cluster(lab, addresses=[VIP4, VIP6])
    wait_until(lambda: answers(first.host, "127.0.0.1"), 10, "the metrics are served on the host")
    for address in (first.host.address(), VIP4):
        assert not answers(lab.client, address)
    assert listening(first.host, "tcp") | listening(first.host, "tcp6") == {("127.0.0.1", METRICS_PORT)}
    assert {port for _, port in listening(first.host, "udp") | listening(first.host, "udp6")} == {PROBE_PORT}


def answers(host: Host, address: str) -> bool:
    """Whether the metrics are there for a program on ``host``."""

    def get() -> bool:
        try:
            with urlopen(f"http://{address}:{METRICS_PORT}/metrics", timeout=5) as page:
                return bool(page.status == 200)
        except URLError:
            return False

    return host.namespace.call(get)


def listening(host: Host, kind: str) -> set[tuple[str, int]]:
    """Sockets of a host that wait for whoever comes: local address, as far as it is the loopback's, and port."""
    lines = host.namespace.run("cat", f"/proc/{host.namespace.pid}/net/{kind}").splitlines()[1:]
    waiting = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}[kind]
    found = set()
    for fields in map(str.split, lines):
        address, _, port = fields[1].partition(":")
        if fields[3] == waiting:
            found.add(("127.0.0.1" if address == "0100007F" else address, int(port, 16)))
    return found
