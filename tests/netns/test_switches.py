"""What switches and hypervisors do to frames, and which setting is the way out: docs/networks.md says the same in words."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from carp_sidecar.wire.frames import arp_request
from lab.capture import ETH_P_ARP, ETH_P_IPV6, Capture, Frame, inject, parse_carp
from lab.namespace import wait_until
from lab.network import Lab, Port
from lab.sidecar import CALM, VIP4, VIP6, Sidecar, group, start_cluster, stays, wait_master, wait_single_master

pytestmark = [pytest.mark.needs("netns"), pytest.mark.needs("nft")]

VIRTUAL_MAC = "00:00:5e:00:01:01"
LISTENER_REPORT = slice(62, 63)
"""The type of ICMPv6 after Ethernet, IPv6 and the hop-by-hop header that only such a report has (RFC 3810 5.2)."""
JOINING_S, ANNOUNCING_S, QUIET_S = 2.0, 4.5, 6.0
LISTENING_S = 0.3
"""An answer takes a millisecond; that there is none can only be waited for."""


def start(lab: Lab, count: int = 2, **fields: Any) -> list[Sidecar]:
    """Members with advskew 0, 50...: what they become is the network's doing."""
    hosts = list(lab.members())[:count]
    members = [Sidecar(lab, host, [group(**{"advskew": rank * 50} | fields)]).start(wait=False) for rank, host in enumerate(hosts)]
    return [member.wait_ready() for member in members]


def police(lab: Lab, *rules: str) -> None:
    """Rules of the switch, in the words of nft; none: it forwards everything."""
    chain = "\n".join(["chain ports {", "type filter hook forward priority -10", *rules, "}"])
    lab.switch.run("nft", "-f", "-", stdin=f"add table bridge police\ndelete table bridge police\ntable bridge police {{\n{chain}\n}}\n")


def answerers(lab: Lab, address: str = VIP4) -> set[str]:
    """The MACs that answer a client's ARP question."""
    port = lab.client.port()
    with Capture(lab.client.namespace, port.interface) as wire:
        for _ in range(3):
            inject(lab.client.namespace, port.interface, [arp_request(port.mac, lab.client.address(), address)])
            time.sleep(LISTENING_S / 3)
        replies = [frame for frame in wire.frames() if frame.ethertype == ETH_P_ARP and not frame.outgoing]
    return {frame.data[22:28].hex(":") for frame in replies if frame.destination_mac == port.mac and frame.data[20:22] == b"\x00\x02"}


def wait_answerers(lab: Lab, *macs: str) -> None:
    """Until exactly these answer."""
    wait_until(lambda: answerers(lab) == set(macs), 10, f"{', '.join(macs) or 'nobody'} answers for {VIP4}")


def ports(lab: Lab) -> Iterator[Port]:
    return (host.port() for host in lab.members())


def test_where_only_the_own_mac_may_speak_the_virtual_mac_fails_and_the_physical_one_works(lab: Lab) -> None:
    """Port security, ESXi with forged transmits rejected, Hyper-V without MAC spoofing."""
    police(lab, *(f'iifname "{port.device}" ether saddr != {port.mac} drop' for port in ports(lab)))
    members = start(lab)
    for member in members:
        member.wait_state("MASTER")
    assert [member.group()["masters_seen"] for member in members] == [1, 1], "neither hears the other: no status on the host shows it"
    wait_answerers(lab)
    for rank, member in enumerate(members):
        member.configure([group(advskew=rank * 50, virtual_mac=False)])
        member.request("reload")
    master = wait_single_master(members)
    wait_answerers(lab, master.host.port().mac)
    lab.kill(master.host)
    (other,) = (member for member in members if member is not master)
    other.wait_state("MASTER")
    wait_answerers(lab, other.host.port().mac)


def test_where_multicast_is_dropped_two_are_master_and_unicast_works(lab: Lab) -> None:
    police(lab, "ip daddr 224.0.0.18 drop")
    members = start(lab, 1)
    members[0].wait_state("MASTER")
    wait_answerers(lab, VIRTUAL_MAC)
    members.append(Sidecar(lab, lab["b"], [group(advskew=50)]).start())
    members[1].wait_state("MASTER")
    wait_until(lambda: f"{VIRTUAL_MAC} answers" in members[1].log(), 5, "who comes second finds the address taken")
    for rank, member in enumerate(members):
        others = [other.host.address() for other in members if other is not member]
        member.configure([group(advskew=rank * 50, peers={"mode": "Unicast", "addresses": others})])
        member.request("reload")
    wait_master(members[0], members[1])
    lab.kill(lab["a"])
    members[1].wait_state("MASTER")
    wait_answerers(lab, VIRTUAL_MAC)


@pytest.mark.parametrize("virtual_mac", [True, False])
def test_arp_inspection_lets_the_election_pass_and_no_answer(lab: Lab, virtual_mac: bool) -> None:
    """Dynamic ARP inspection, IP source guard, an ipfilter: the address is not in the list of the port."""
    police(lab, f"arp saddr ip {VIP4} drop")
    master = wait_single_master(start(lab, virtual_mac=virtual_mac))
    assert answerers(lab) == set()
    police(lab)
    wait_answerers(lab, VIRTUAL_MAC if virtual_mac else master.host.port().mac)


def test_a_snooping_switch_passes_adverts_of_both_families(lab: Lab) -> None:
    """A Linux bridge that snoops, with a querier: 224.0.0.18 is flooded as RFC 4541 wants, ff02::12 goes to whoever has joined."""
    lan = "link set br-lan type bridge"
    lab.switch.ip(f"{lan} mcast_snooping 1 mcast_query_response_interval 10 mcast_startup_query_interval 10", f"{lan} mcast_querier 1")
    lab.switch.ip("addr add 10.77.0.250/24 dev br-lan", "addr add fe80::ff/64 dev br-lan nodad")
    with Capture(lab["b"].namespace, "eth0") as wire:

        def filters() -> bool:
            begun = time.monotonic()
            lab["a"].namespace.run("ping", "-c1", "-W1", "-i0.01", "239.7.7.7", check=False)
            return not any(frame.data[30:34] == bytes([239, 7, 7, 7]) for frame in wire.frames(begun))

        lab["a"].namespace.ip("route add 239.0.0.0/8 dev eth0")
        wait_until(filters, 15, "the switch keeps a group that nobody joined to itself")
    groups = [("web", 1, VIP4), ("six", 2, VIP6)]
    members = []
    for rank, name in enumerate("ab"):
        own = [group(label, vhid, addresses=[address], advskew=rank * 50, **CALM) for label, vhid, address in groups]
        members.append(Sidecar(lab, lab[name], own).start())
        members[0].wait_state("MASTER", name="six")
    for label, _, _ in groups:
        members[1].wait_for(lambda one: one["state"] == "BACKUP" and one["master"], "hears the master", name=label)
    stays(members, ["MASTER", "BACKUP"], 2.0)
    assert "ff02::12" in lab.switch.run("bridge", "mdb", "show")
    assert [one["split_brains"] for member in members for one in member.status()["groups"]] == [0] * 4


@pytest.fixture
def everywhere(lab: Lab) -> Lab:
    """Every node has the address of the Service on an interface of its own, as kube-proxy in IPVS mode does (kube-ipvs0)."""
    for host in lab.members():
        host.namespace.ip("link add kube-ipvs0 type bridge", "link set kube-ipvs0 up", f"addr add {VIP4}/32 dev kube-ipvs0")
    return lab


def test_ipvs_with_the_virtual_mac_only_the_master_answers(everywhere: Lab) -> None:
    lab = everywhere
    members = start(lab, count=3)
    first = wait_single_master(members)
    wait_answerers(lab, VIRTUAL_MAC)
    first.request("handover", group="web")
    first.wait_state("BACKUP")
    second = wait_single_master(members)
    wait_answerers(lab, VIRTUAL_MAC)
    stopped = next(member for member in members if member is not second)
    stopped.stop()
    wait_answerers(lab, VIRTUAL_MAC, stopped.host.port().mac)
    stopped.host.namespace.sysctl("net.ipv4.conf.all.arp_ignore", 1)
    wait_answerers(lab, VIRTUAL_MAC)


def test_ipvs_with_the_physical_mac_everybody_answers_until_strict_arp(everywhere: Lab) -> None:
    lab = everywhere
    master = wait_single_master(start(lab, virtual_mac=False))
    wait_answerers(lab, *(port.mac for port in ports(lab)))
    for host in lab.members():
        host.namespace.sysctl("net.ipv4.conf.all.arp_ignore", 1)
        host.namespace.sysctl("net.ipv4.conf.all.arp_announce", 2)
    wait_answerers(lab, master.host.port().mac)


FIREWALL = """
table inet host {
  chain input { type filter hook input priority 0; policy drop; ct state established accept; icmp type echo-request accept
  }
  chain output { type filter hook output priority 0; policy drop; ip protocol icmp accept
  }
}
"""


@pytest.mark.parametrize("peers", ["Multicast", "Unicast"])
def test_a_firewall_on_the_host_stops_unicast_adverts_and_no_multicast_ones(lab: Lab, peers: str) -> None:
    """Multicast adverts leave and arrive by packet sockets, beside the chains input and output; unicast ones are routed."""
    members = []
    for rank, name in enumerate("ab"):
        lab[name].namespace.run("nft", "-f", "-", stdin=FIREWALL)
        addresses = {"addresses": [lab["b" if name == "a" else "a"].address()]} if peers == "Unicast" else {}
        members.append(Sidecar(lab, lab[name], [group(advskew=rank * 50, peers={"mode": peers} | addresses, **CALM)]).start())
        members[0].wait_state("MASTER")
    if peers == "Unicast":
        members[1].wait_state("MASTER")
        for name in "ab":
            lab[name].namespace.run("nft", "add rule inet host output ip protocol 112 accept")
    wait_master(members[0], members[1])
    stays(members, ["MASTER", "BACKUP"], 1.0)
    assert answerers(lab) == {VIRTUAL_MAC}, "ARP is not the firewall's"
    lab.kill(lab["a"])
    members[1].wait_state("MASTER")


def to_many(frame: Frame) -> bool:
    return bool(frame.data[0] & 1)


def test_a_former_master_pulls_no_switch_back(lab: Lab) -> None:
    """The kernel says that it leaves the multicast group of an IPv6 address that is removed; of many groups their devices still are up."""
    names = [f"g{number}" for number in range(1, 31)]
    groups = [group(name, vhid, addresses=[f"fd77::1:{vhid:x}"], **CALM) for vhid, name in enumerate(names, 1)]
    first, second = (Sidecar(lab, lab[name], [one | {"advskew": rank * 50} for one in groups]) for rank, name in enumerate("ab"))
    first.start()
    for name in names:
        first.wait_state("MASTER", name=name)
    second.start()
    for name in names:
        second.wait_for(lambda one: one["state"] == "BACKUP" and one["master"], "hears the master", name=name)
    wait_until(lambda: min(one["since_s"] for one in first.status()["groups"]) > JOINING_S, 10, "what it joined has been said")
    with Capture(lab.switch, first.host.port().device) as wire:
        asked = time.monotonic()
        first.request("handover")
        for name in names:
            wait_master(second, first, name=name)
        time.sleep(1.5)  # the kernel says it twice, within a second
        said = [one for one in wire.frames(asked) if one.source_mac.startswith(VIRTUAL_MAC[:-2]) and not one.outgoing]
        assert [one for one in said if one.ethertype == ETH_P_IPV6 and one.data[LISTENER_REPORT] == b"\x8f"] == []


@pytest.mark.parametrize("virtual_mac", [True, False], ids=["virtual-mac", "physical-mac"])
def test_a_master_says_nothing_but_its_adverts_while_all_is_well(lab: Lab, virtual_mac: bool) -> None:
    """Not even by its kernel, which tells of IPv6 memberships when a lifetime is renewed: with its own MAC every few seconds, for all."""
    first, _ = start_cluster(lab, addresses=[VIP4, VIP6], virtual_mac=virtual_mac, **CALM)
    first.wait_for(lambda one: one["since_s"] > ANNOUNCING_S, "has announced")
    with Capture(lab.switch, first.host.port().device) as wire:
        time.sleep(QUIET_S)
        said = [one for one in wire.frames() if not one.outgoing and parse_carp(one) is None and to_many(one)]
    reports = [one for one in said if one.ethertype == ETH_P_IPV6 and one.data[LISTENER_REPORT] == b"\x8f"]
    assert len(reports) <= (0 if virtual_mac else QUIET_S), "two for each renewal, of which there is one in three seconds"
    assert [one for one in said if one not in reports] == []
