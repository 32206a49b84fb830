"""The kernel lease: a master that hangs is silent before its successor speaks, and nothing that is not its own is ever dropped."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lab import seccomp
from lab.namespace import wait_until
from lab.network import Host, Lab
from lab.prober import Prober
from lab.sidecar import VIP4, VIP6, Sidecar, group, start_cluster, wait_master
from lab.witness import Witness

pytestmark = pytest.mark.needs("netns")

DNAT = f"""
table inet services {{
  chain prerouting {{ type nat hook prerouting priority -100; ip daddr {VIP4} counter dnat ip to %s; }}
  chain output {{ type nat hook output priority -100; ip daddr {VIP4} dnat ip to %s; }}
}}
"""
"""What kube-proxy does on every node for an external address: whoever sends to it reaches an endpoint, here the node itself."""


def tables(host: Host) -> list[str]:
    """The gates there are, by family and name."""
    lines = host.namespace.run("nft", "list", "tables").splitlines()
    return sorted(line.removeprefix("table ") for line in lines if "kubecarp" in line)


def gated(*members: Sidecar) -> None:
    for member in members:
        member.wait_for(lambda one: one["fence"] == {"wanted": "Auto", "active": "Gate", "reason": ""}, "is gated")


def pings(host: Host, address: str = VIP4) -> bool:
    """Whether one of three questions is answered."""
    return ", 0 received" not in host.namespace.run("ping", "-c3", "-i0.05", "-W0.3", "-n", address, check=False)


@pytest.mark.timing
@pytest.mark.parametrize(
    "virtual_mac, address, mode",
    [(True, VIP4, "Strict"), (True, VIP6, "Strict"), (False, VIP4, "Strict"), (False, VIP6, "Strict"), (True, VIP4, "Compatible")],
)
def test_a_stopped_master_is_silent_before_its_successor_answers(lab: Lab, virtual_mac: bool, address: str, mode: str) -> None:
    fields: dict[str, Any] = {"virtual_mac": virtual_mac, "addresses": [address]}
    if mode == "Compatible":
        secret = lab.directory / "secret"
        secret.write_text("secret\n")
        secret.chmod(0o600)
        fields |= {"authentication": {"mode": mode, "key_file": str(secret)}, "advertisement_interval": "1s"}
    first, second = start_cluster(lab, **fields)
    gated(first)
    with Witness(lab, lab.client, address, [first.host, second.host]) as witness:
        time.sleep(0.3)  # what is looked for is silence: it must have been heard before
        stopped = time.monotonic()
        first.freeze()
        second.wait_state("MASTER")
        wait_until(lambda: witness.sighting(stopped - 0.2).at_the_end == [second.host.name], 5, "the successor alone answers")
        sighting = witness.sighting(stopped - 0.2)
        thawed = time.monotonic()
        first.thaw()
        wait_master(second, first)
        assert witness.sighting(thawed).two_hosts_ms == 0, "it wakes up as a backup"
    assert sighting.answering[first.host.name], "it answered before"
    assert sighting.two_hosts_ms == 0
    assert tables(first.host), "of a backup the tables stay"


def test_a_stopped_master_falls_silent_in_both_families_at_once(lab: Lab) -> None:
    """When the lease ends, and not one family sooner: what the other says then would draw the packets of both to this host."""
    first, second = start_cluster(lab, addresses=[VIP4, VIP6], advertisement_interval="1s")
    gated(first)
    hosts = [first.host, second.host]
    with Witness(lab, lab.client, VIP4, hosts) as witness4, Witness(lab, lab.client, VIP6, hosts) as witness6:
        sent = first.group()["adverts"]["sent"]
        wait_until(lambda: first.group()["adverts"]["sent"] > sent, 2, "an advert has just been sent", 0.02)
        stopped = time.monotonic()
        first.freeze()
        second.wait_state("MASTER")
        assert sorted(first.host.held_addresses()) == [VIP4, VIP6], "its kernel has both, and says nothing"
        silent = [witness.sighting(stopped).answering[first.host.name][-1][1] - stopped for witness in (witness4, witness6)]
        first.thaw()
    assert silent == pytest.approx([2.4, 2.4], abs=0.2), "two and a half intervals after the advert"


def test_without_the_gate_both_answer(lab: Lab) -> None:
    """What the tests above would see if there were none: the lifetime of an address is longer than the dead time."""
    first, second = start_cluster(lab, fence="Lifetime")
    assert first.group()["fence"] == {"wanted": "Lifetime", "active": "Lifetime", "reason": "as configured"}
    with Witness(lab, lab.client, VIP4, [first.host, second.host]) as witness:
        stopped = time.monotonic()
        first.freeze()
        wait_until(lambda: witness.sighting(stopped).two_hosts_ms > 200, 10, "two hosts answer")
        wait_until(lambda: not first.host.held_addresses(), 3, "the lifetime of the address ends")
        first.thaw()


def test_a_service_of_kube_proxy_is_gated_too_and_only_while_the_master_hangs(lab: Lab) -> None:
    first, second = start_cluster(lab, virtual_mac=False)
    gated(first, second)
    for member in (first, second):
        member.host.namespace.run("nft", "-f", "-", stdin=DNAT % (member.host.address(), member.host.address()))

    def asks(member: Sidecar) -> bool:
        """Whether the client, whose ARP cache says that this host has the address, is answered."""
        lab.client.namespace.ip(f"neigh replace {VIP4} lladdr {member.host.port().mac} dev eth0 nud permanent")
        return pings(lab.client)

    assert asks(first)
    assert asks(second), "a backup translates what comes to it, as ever"
    assert pings(second.host), "and what its own processes send"
    first.freeze()
    second.wait_state("MASTER")
    wait_until(lambda: not asks(first), 5, "what comes in for the address is dropped before it is translated")
    wait_until(lambda: not first.host.held_addresses(), 12, "the lifetime of the address ends as well")
    assert not asks(first)
    assert asks(second)
    assert pings(first.host), "its own processes still reach the service"
    first.thaw()
    first.wait_state("BACKUP")
    wait_until(lambda: asks(first), 5, "a backup translates again")


def test_a_backup_routes_and_reaches_what_another_holds(lab: Lab) -> None:
    first, second = start_cluster(lab)
    gated(first, second)
    assert pings(second.host), "a process of a backup reaches the address"
    second.host.namespace.sysctl("net/ipv4/ip_forward", "1")
    second.host.namespace.sysctl("net/ipv4/conf/all/send_redirects", "0")
    lab.client.namespace.ip(f"route add {VIP4}/32 via {second.host.address()}")
    assert pings(lab.client), "so does what it routes there"
    first.freeze()
    second.wait_state("MASTER")
    wait_until(lambda: not first.host.held_addresses(), 12, "its lifetime ends")
    wait_until(lambda: pings(first.host), 5, "the host of a master that hangs reaches its successor")
    first.thaw()


def test_rules_that_somebody_flushes_are_made_anew_and_nothing_is_lost(lab: Lab) -> None:
    first, _ = start_cluster(lab)
    gated(first)
    before = tables(first.host)
    assert len(before) == 2
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        for _ in range(2):
            first.host.namespace.run("nft", "flush", "ruleset")
            wait_until(lambda: tables(first.host) == before, 5, "the gate is there again")
        first.host.namespace.run("nft", "delete", "table", "arp", first.status()["gate"]["table"])
        wait_until(lambda: tables(first.host) == before, 5, "half a gate is made whole")
        prober.wait_answering()
        result = prober.stop()
    assert result.longest_ms < 100, "no renewal was missed, and none would have closed the gate"
    assert first.status()["gate"]["rebuilt"] >= 3
    assert "made anew" in first.log()


def test_nothing_is_left(lab: Lab) -> None:
    """After a clean stop, and after a death; with another sidecar on the host, whose gate is its own."""
    host = lab["a"]
    quiet = {"metrics_address": "", "probe_port": 0}
    one, two = (
        Sidecar(lab, host, [group(name, vhid, addresses=[f"10.77.0.{100 + vhid}"])], name=name, **quiet)
        for vhid, name in ((1, "one"), (2, "two"))
    )
    for member in (one, two):
        member.start().wait_state("MASTER")
        gated(member)
    assert len(tables(host)) == 4
    of_two = [table for table in tables(host) if two.status()["gate"]["table"] in table]
    assert one.stop() == 0
    assert tables(host) == of_two
    one.start().wait_state("MASTER")
    one.kill()
    wait_until(lambda: tables(host) == of_two, 5, "the guardian removes the gate of the dead")
    for pid in [two.pid, *two.companions()]:
        os.kill(pid, signal.SIGKILL)
    two.reap()
    assert tables(host) == of_two, "nobody is left to remove it"
    two.start().wait_state("MASTER")
    gated(two)
    wait_until(lambda: tables(host) == of_two, 5, "the next run takes its place")
    assert two.stop() == 0
    assert tables(host) == []


@pytest.mark.needs("netns", "libseccomp")
def test_without_nftables_the_lifetime_has_to_do_and_who_requires_more_abstains(lab: Lab, tmp_path: Path) -> None:
    profile = json.loads(seccomp.PROFILE.read_text())
    for rule in profile["syscalls"]:
        if rule.get("comment") == "AF_NETLINK":
            rule["args"].append({"index": 2, "value": 0, "op": "SCMP_CMP_EQ"})  # NETLINK_ROUTE; a kernel without NETLINK_NETFILTER
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile))
    groups = [group("auto", 1), group("required", 2, addresses=["10.77.0.102"], fence="Required")]
    member = Sidecar(lab, lab["a"], groups).start(under=[sys.executable, "-IS", seccomp.__file__, "--profile", str(path), "--"])
    shown = member.wait_state("MASTER", name="auto")
    assert shown["fence"]["active"] == "Lifetime"
    assert "nftables" in shown["fence"]["reason"]
    abstains = member.wait_for(lambda one: one["warnings"], "says why", name="required")
    assert "its fence is Required, and the kernel refuses nftables rules" in abstains["warnings"][0]
    assert abstains["state"] == "BACKUP"
    assert abstains["demotion"]["excluded"]
    assert lab["a"].held_addresses() == [VIP4]
    assert member.stop() == 0


def test_who_requires_a_gate_and_has_it_takes_part(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], [group(fence="Required")]).start()
    assert member.wait_state("MASTER")["fence"] == {"wanted": "Required", "active": "Gate", "reason": ""}


@pytest.mark.parametrize("address", [VIP4, VIP6])
@pytest.mark.parametrize("virtual_mac, interval", [(True, "200ms"), (False, "200ms"), (True, "20ms")])
def test_who_hands_over_answers_packets_and_leaves_it_to_the_successor_to_say_where_the_address_is(
    lab: Lab, virtual_mac: bool, interval: str, address: str
) -> None:
    """An answer after the successor's would take switches and clients back to a host that is about to let go. Here nobody succeeds.

    Nor does a member answer whose interval is too short for a lease.
    """
    addresses = [f"{address}/64" if ":" in address else address]
    only = Sidecar(lab, lab["a"], [group(virtual_mac=virtual_mac, addresses=addresses, advertisement_interval=interval)]).start()
    only.wait_for(
        lambda one: one["state"] == "MASTER" and one["fence"]["active"] == ("Gate" if interval == "200ms" else "Lifetime"), "is master"
    )
    wait_until(lambda: "kubecarp" in lab["a"].namespace.run("nft", "list", "tables"), 5, "the tables are there")
    with Witness(lab, lab.client, address, [only.host]) as witness, Prober(lab.client, address) as prober:
        prober.wait_answering()
        asked = time.monotonic()
        only.request("handover")
        only.wait_for(lambda one: one["reason"] == "no-successor", "is master again")
        time.sleep(0.5)
        sighting = witness.sighting(asked)
        assert 250 < sighting.nobody_ms < 1000
        assert sighting.at_the_end == [only.host.name]
        assert prober.stop().lost == 0
