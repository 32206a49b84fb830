"""Who becomes master, and who does when the master goes."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.capture import Capture
from lab.network import Host, Lab
from lab.prober import Prober
from lab.sidecar import CALM, VIP4, Sidecar, group, start_cluster, stays, wait_master, wait_single_master

pytestmark = pytest.mark.needs("netns")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "routers"
INTRANET, INTERNET = "172.27.27.13", "51.68.252.230"


def host_dies(lab: Lab, victim: Sidecar) -> None:
    """Power cut: no packet, no process."""
    lab.kill(victim.host)
    victim.reap()


def power_on(lab: Lab, victim: Sidecar) -> None:
    """The host comes back with what its disk holds."""
    lab.reboot(victim.host)
    victim.start()


FAULTS: dict[str, Callable[[Lab, Sidecar], object]] = {
    "host-dies": host_dies,
    "SIGKILL": lambda _, victim: victim.kill(),
    "SIGTERM": lambda _, victim: victim.stop(),
}


def test_three_that_start_together_elect_one(lab: Lab) -> None:
    members = [Sidecar(lab, host, [group(advskew=50 * rank)]) for rank, host in enumerate(lab.members())]
    for member in members:
        member.start(wait=False)
    for member in members:
        member.wait_ready().wait_for(lambda one: one["master"] is not None, "there is a master")
    master = wait_single_master(members)
    assert master.host.held_addresses() == [VIP4]
    assert all(not one.host.held_addresses() for one in members if one is not master)


def test_a_lone_strict_member_answers_soon(lab: Lab) -> None:
    with Prober(lab.client, VIP4) as prober:
        Sidecar(lab, lab["a"], [group(advertisement_interval="10s")]).start()
        prober.wait_answering(timeout_s=5)  # the dead time would be 30 s


@pytest.mark.parametrize("fault", FAULTS)
def test_the_best_backup_takes_over(lab: Lab, fault: str) -> None:
    first, second, third = start_cluster(lab, 3, step=100)  # 50 ms apart: a busy machine may hold one of them up
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        FAULTS[fault](lab, first)
        second.wait_state("MASTER", timeout_s=5)
        prober.wait_answering()
        result = prober.stop()
    assert third.group()["state"] == "BACKUP"
    assert third.group()["transitions_by_reason"] == {"started": 1}, "the third never took part"
    assert result.ttls == [first.host.ttl, second.host.ttl]
    assert second.host.held_addresses() == [VIP4]


@pytest.mark.timing
def test_a_clean_stop_loses_nothing(lab: Lab) -> None:
    first, second = start_cluster(lab)
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        first.stop()
        second.wait_state("MASTER")
        prober.wait_answering()
        result = prober.stop()
    assert result.lost <= 1, result.outages


def test_the_old_master_comes_back_as_backup(lab: Lab) -> None:
    first, second = start_cluster(lab, **CALM)
    host_dies(lab, first)
    second.wait_state("MASTER")
    power_on(lab, first)
    first.wait_for(lambda one: one["state"] == "BACKUP" and one["master"], "hears the new master")
    stays([first, second], ["BACKUP", "MASTER"], 1.0)


def test_preemption_takes_the_address_back(lab: Lab) -> None:
    first, second = start_cluster(lab, preemption={"enabled": True})
    host_dies(lab, first)
    second.wait_state("MASTER")
    power_on(lab, first)
    wait_master(first, second)
    assert first.group()["reason"] == "preempted-worse-master"


def test_preemption_waits_for_its_delay(lab: Lab) -> None:
    first, second = start_cluster(lab, preemption={"enabled": True, "delay": "3s"}, **CALM)
    first.stop()
    second.wait_state("MASTER")
    first.start()
    first.wait_for(lambda one: one["master"], "hears the master")
    stays([first, second], ["BACKUP", "MASTER"], 1.0)
    wait_master(first, second)


def test_priority_zero_never_becomes_master(lab: Lab) -> None:
    never = Sidecar(lab, lab["a"], [group(priority=0, advertisement_interval="50ms")]).start()
    with Capture(lab.client.namespace, "eth0") as wire:
        stays([never], ["BACKUP"], 1.5)
        other = Sidecar(lab, lab["b"], [group(advskew=200, advertisement_interval="50ms")]).start()
        other.wait_state("MASTER")
        host_dies(lab, other)
        stays([never], ["BACKUP"], 1.5)
        assert not [advert for advert in wire.adverts() if advert.source == lab["a"].address() and advert.claims_mastership]


def test_groups_on_one_interface_are_elected_apart(lab: Lab) -> None:
    addresses = {"red": "10.77.0.101", "blue": "10.77.0.102"}

    def groups(red: int, blue: int) -> list[dict[str, object]]:
        extra = {"preemption": {"enabled": True}}
        return [
            group("red", 1, advskew=red, addresses=[addresses["red"]], **extra),
            group("blue", 2, advskew=blue, addresses=[addresses["blue"]], **extra),
        ]

    first = Sidecar(lab, lab["a"], groups(red=0, blue=100)).start()
    second = Sidecar(lab, lab["b"], groups(red=100, blue=0)).start()
    first.wait_state("MASTER", name="red")
    second.wait_state("MASTER", name="blue")
    first.wait_state("BACKUP", name="blue")
    assert (first.host.held_addresses(), second.host.held_addresses()) == ([addresses["red"]], [addresses["blue"]])
    host_dies(lab, first)
    second.wait_state("MASTER", name="red")
    assert sorted(second.host.held_addresses()) == sorted(addresses.values())


def example_router(lab: Lab, host: Host) -> Sidecar:
    """The sidecar of examples/routers, its paths moved into the lab and nothing else changed."""
    sidecar = Sidecar(lab, host, [])
    example = (EXAMPLES / f"{host.name}.toml").read_text()
    own = sidecar.config_path.read_text()
    sidecar.config_path.write_text(own + example.replace("/etc/kubecarp/key", str(sidecar.key_file)))
    return sidecar


def routers(lab: Lab) -> tuple[Host, Host]:
    """Two hosts on the two networks of the sample configuration; the client is in both."""
    intranet, internet = lab.segment("intra"), lab.segment("inter")
    first, second = lab.host("router-002"), lab.host("router-003")
    for host, number in ((first, 2), (second, 3)):
        lab.plug_in(host, intranet, "vmx0", f"172.27.27.{number}/27")
        lab.plug_in(host, internet, "vmx1", f"51.68.252.{224 + number}/29")
    lab.plug_in(lab.client, intranet, "vmx0", "172.27.27.20/27")
    lab.plug_in(lab.client, internet, "vmx1", "51.68.252.229/29")
    return first, second


@pytest.mark.parametrize("dying", [0, 1], ids=["router-002-dies", "router-003-dies"])
def test_the_routers_of_the_examples(lab: Lab, dying: int) -> None:
    members = [example_router(lab, host).start() for host in routers(lab)]
    intranet, internet = members

    def each_has_its_own() -> None:
        intranet.wait_state("MASTER", name="intranet")
        internet.wait_state("MASTER", name="internet")
        intranet.wait_state("BACKUP", name="internet")
        internet.wait_state("BACKUP", name="intranet")
        assert (intranet.host.held_addresses(), internet.host.held_addresses()) == ([INTRANET], [INTERNET])

    each_has_its_own()
    with Prober(lab.client, INTRANET, interface="vmx0") as inside, Prober(lab.client, INTERNET, interface="vmx1") as outside:
        inside.wait_answering()
        outside.wait_answering()
        victim, survivor = members[dying], members[1 - dying]
        host_dies(lab, victim)
        for name in ("intranet", "internet"):
            survivor.wait_state("MASTER", name=name)
        assert sorted(survivor.host.held_addresses()) == sorted([INTRANET, INTERNET])
        power_on(lab, victim)
        each_has_its_own()
        inside.wait_answering()
        outside.wait_answering()
        seen = [inside.stop(), outside.stop()]
    own, other = (victim.host.ttl, survivor.host.ttl)
    ttls = seen[dying].ttls  # at the way back both answer for a moment: the switch believes whoever spoke last
    assert (ttls[0], ttls[1], ttls[-1], set(ttls)) == (own, other, own, {own, other})
    assert seen[1 - dying].ttls == [other], "the survivor's own network noticed nothing"
    assert seen[1 - dying].longest_ms < 50
    assert all(outage.duration_ms < 3500 for outage in itertools.chain(seen[0].outages, seen[1].outages))
