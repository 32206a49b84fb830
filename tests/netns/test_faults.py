"""What the network and the machine can do to a sidecar, and what an attacker on the segment can."""

import struct
import sys
import time
from collections.abc import Callable

import pytest

from lab.capture import ETH_P_ARP, Capture, CarpFrame, inject
from lab.namespace import wait_until
from lab.network import Host, Lab
from lab.prober import Prober
from lab.sidecar import CALM, VIP4, Sidecar, group, start_cluster, stays, wait_master, wait_single_master

pytestmark = pytest.mark.needs("netns")

CARP_OFFSET = 34
"""Of the CARP header in an IPv4 frame without options."""

PARTITIONS: dict[str, Callable[[Lab, Host], None]] = {
    "cut": lambda lab, host: lab.cut(host),
    "mute": lambda lab, host: lab.mute(host),
    "deaf": lambda lab, host: lab.deafen(host),
}


@pytest.mark.parametrize("partition", PARTITIONS)
def test_a_split_brain_heals(lab: Lab, partition: str) -> None:
    first, second = start_cluster(lab, **CALM)
    if partition == "deaf":  # the backup cannot hear: it speaks up beside a master that can
        PARTITIONS[partition](lab, second.host)
        second.wait_for(lambda one: one["state"] == "MASTER" or one["transitions"] > 1, "stops being a backup")
    else:
        PARTITIONS[partition](lab, first.host)
        second.wait_for(lambda one: one["state"] == "MASTER" and one["since_s"] > 1, "is a second master for a while")
    assert first.state == "MASTER"
    lab.heal(first.host)
    lab.heal(second.host)
    wait_master(first, second)
    assert first.host.held_addresses() == [VIP4]
    wait_until(lambda: not second.host.held_addresses(), 2, "the loser lets go")
    if partition == "cut":
        assert first.group()["split_brains"] + second.group()["split_brains"] >= 1, "whoever heard the other first counted it"
    stays([first, second], ["MASTER", "BACKUP"], 1.0)


def test_a_healed_split_brain_answers_at_once(lab: Lab) -> None:
    first, second = start_cluster(lab)
    lab.cut(first.host)
    second.wait_state("MASTER")
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        lab.heal(first.host)
        wait_single_master([first, second])
        prober.wait_answering()
        result = prober.stop()
    assert result.ttls[-1] == first.host.ttl, "the winner announced itself"
    assert result.longest_ms < 1000


def test_a_stopped_master_is_silent_before_it_speaks(lab: Lab) -> None:
    first, second = start_cluster(lab, **CALM)
    with Capture(lab.switch, first.host.port().device) as port:
        first.freeze()
        second.wait_state("MASTER")
        thawed = time.monotonic()
        first.thaw()
        first.wait_state("BACKUP", timeout_s=5)
        stays([first, second], ["BACKUP", "MASTER"], 1.0)
        assert [advert for advert in port.adverts(thawed) if not advert.frame.outgoing and advert.claims_mastership] == []
    assert first.host.held_addresses() == []
    assert second.host.held_addresses() == [VIP4]


def test_carrier_loss_drops_at_once(lab: Lab) -> None:
    first, second = start_cluster(lab, **CALM)
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        lab.unplug(first.host)
        first.wait_for(lambda one: one["state"] == "INIT" and one["reason"] == "link-down", "drops everything")
        assert first.group()["interface_state"] == "down"
        wait_until(lambda: not first.host.held_addresses(), 1, "the kernel has dropped them too")
        second.wait_state("MASTER")
        prober.wait_answering()
        lab.heal(first.host)
        first.wait_for(lambda one: one["state"] == "BACKUP" and one["master"], "listens again")
        stays([first, second], ["BACKUP", "MASTER"], 1.0)
        assert prober.stop().ttls == [first.host.ttl, second.host.ttl]


def test_an_echo_of_its_own_adverts_changes_nothing(lab: Lab) -> None:
    first, second = start_cluster(lab, **CALM)
    before = first.group()["transitions"]
    lab.reflect(first.host)
    with Capture(first.host.namespace, "eth0") as own:
        stays([first, second], ["MASTER", "BACKUP"], 2.0)
        own_address = first.host.address()
        assert [advert for advert in own.adverts() if not advert.frame.outgoing and advert.source == own_address], "no echo, nothing shown"
    assert first.group()["transitions"] == before
    assert first.group()["split_brains"] == 0


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_random_loss_does_not_end_in_two_masters(lab: Lab, share: float) -> None:
    first, second = start_cluster(lab)
    lab.lose(second.host, share)
    with Capture(second.host.namespace, "eth0") as wire:
        wait_until(lambda: len(wire.adverts()) >= 30, 30, "adverts come through")
    lab.heal(second.host)
    wait_master(first, second)


def test_a_host_that_answers_without_adverts_is_told_and_counted(lab: Lab) -> None:
    lab.client.namespace.ip(f"addr add {VIP4}/32 dev eth0")
    member = Sidecar(lab, lab["a"], [group()]).start()
    assert member.wait_state("MASTER")["address_conflicts"] == 1
    sentence = f"{lab.client.port().mac} answers for an address of the group but sends no adverts"
    wait_until(lambda: sentence in member.log(), 5, "the log names it")
    lab.client.namespace.ip(f"addr del {VIP4}/32 dev eth0")
    member.stop()
    assert member.start().wait_state("MASTER")["address_conflicts"] == 0


def test_a_missing_interface_is_waited_for(lab: Lab) -> None:
    host = lab["a"]
    member = Sidecar(lab, host, [group(interface="late0", addresses=["10.78.0.100/24"])]).start()
    shown = member.group()
    assert (shown["state"], shown["interface_state"], shown["interface"]) == ("INIT", "missing", "late0")
    assert "late0" in " ".join(shown["warnings"]) + member.log()
    lab.plug_in(host, lab.segment("late"), "late0", "10.78.0.1/24")
    member.wait_state("MASTER")
    assert host.held_addresses() == ["10.78.0.100"]
    host.namespace.ip("link del late0")
    member.wait_for(lambda one: (one["state"], one["interface_state"]) == ("INIT", "missing"), "notices that it is gone")
    assert host.held_addresses() == []


def test_the_interface_is_found_by_the_address(lab: Lab) -> None:
    chosen = {"name": "web", "vhid": 1, "addresses": [f"{VIP4}/24"], "advertisement_interval": "200ms"}
    member = Sidecar(lab, lab["a"], [chosen]).start()
    assert member.wait_state("MASTER")["interface"] == "eth0"


def test_an_interface_whose_name_matches_is_waited_for(lab: Lab) -> None:
    by_name = {"name": "web", "vhid": 1, "addresses": ["192.0.2.100"], "advertisement_interval": "200ms", "interface_pattern": "^late"}
    member = Sidecar(lab, lab["a"], [by_name]).start()
    assert "no interface has a name that ^late matches" in " ".join(member.group()["warnings"])
    lab.plug_in(lab["a"], lab.segment("late"), "late0", "10.78.0.1/24")
    assert member.wait_state("MASTER")["interface"] == "late0"


def test_replayed_adverts_change_nothing(lab: Lab) -> None:
    first, second = start_cluster(lab, **CALM)
    with Capture(lab.client.namespace, "eth0") as wire:
        recorded = [wire.wait_for_advert().frame.data for _ in range(5)]
        first.request("handover", group="web")
        second.wait_state("MASTER")
        first.wait_state("BACKUP")
        recorded += [advert.frame.data for advert in wire.adverts() if advert.source == first.host.address()]
    before = [one.group()["transitions"] for one in (first, second)]
    rejected = sum(second.group()["adverts"]["rejected"].values())
    inject(lab.client.namespace, "eth0", recorded * 10)
    second.wait_for(lambda one: sum(one["adverts"]["rejected"].values()) > rejected, "sees the replays")
    stays([first, second], ["BACKUP", "MASTER"], 1.0)
    assert [one.group()["transitions"] for one in (first, second)] == before


def test_replays_do_not_keep_a_dead_master_alive(lab: Lab) -> None:
    first, second = start_cluster(lab)
    with Capture(lab.client.namespace, "eth0") as wire:
        recorded = [wire.wait_for_advert().frame.data for _ in range(3)]
    lab.kill(first.host)
    ends = time.monotonic() + 5
    while second.state != "MASTER":
        assert time.monotonic() < ends, "the backup believes a recording"
        inject(lab.client.namespace, "eth0", recorded)
    assert second.host.held_addresses() == [VIP4]


def forgeries(advert: CarpFrame) -> dict[str, bytes]:
    """A true advert with each interesting field changed, checksums right where they cover it."""

    def changed(offset: int, value: int) -> bytes:
        data = bytearray(advert.frame.data)
        data[CARP_OFFSET + offset] = value
        carp = data[CARP_OFFSET : CARP_OFFSET + 36]
        carp[6:8] = b"\0\0"
        total = sum(struct.unpack("!18H", carp))
        total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into("!H", data, CARP_OFFSET + 6, ~(total + (total >> 16)) & 0xFFFF)
        return bytes(data)

    bow_out = bytearray(changed(2, 255))
    bow_out[CARP_OFFSET + 5] = 255
    return {
        "advskew": changed(2, 0),
        "demotion": changed(4, 9),
        "advbase": changed(5, 9),
        "bow-out": bytes(bow_out),
        "counter": changed(8, 0x7F),
        "digest": changed(20, 0),
        "extension": changed(40, 0x55),
        "short": advert.frame.data[: CARP_OFFSET + 36],
        "noise": advert.frame.data[:CARP_OFFSET] + b"\x21\x01" + b"\xa5" * 90,
        "vrrp": advert.frame.data[:CARP_OFFSET] + b"\x31\x01\xff\x01\x00\x64\x00\x00" + bytes(4),
    }


def test_forged_adverts_change_nothing(lab: Lab) -> None:
    first, second = start_cluster(lab, step=100, **CALM)
    with Capture(lab.client.namespace, "eth0") as wire:
        forged = forgeries(wire.wait_for_advert(lambda one: one.claims_mastership))
    before = [one.group()["transitions"] for one in (first, second)]
    for frame in forged.values():
        inject(lab.client.namespace, "eth0", [frame] * 20)
    second.wait_for(lambda one: sum(one["adverts"]["rejected"].values()) >= len(forged), "rejects them")
    stays([first, second], ["MASTER", "BACKUP"], 1.0)
    assert [one.group()["transitions"] for one in (first, second)] == before


def test_a_wrong_key_is_another_group(lab: Lab) -> None:
    (first,) = start_cluster(lab, 1, **CALM)
    stranger = Sidecar(lab, lab["b"], [group(advskew=200, addresses=["10.77.0.101"])])
    stranger.write_key("00" * 32)
    stranger.start()
    first.wait_for(lambda one: one["adverts"]["rejected"].get("bad-digest", 0) > 0, "counts the bad digests")
    stays([first], ["MASTER"], 1.0)
    assert first.group()["split_brains"] == 0


_BROKEN = """
import sys
from carp_sidecar import process
from carp_sidecar.console import endpoints
start = endpoints.Endpoints.start
def broken(self):
    start(self)
    self._loop.call_soon(lambda: 1 / 0)
endpoints.Endpoints.start = broken
sys.exit(process.run(sys.argv[-1]))
"""


def test_a_bug_ends_the_process_and_the_addresses_go_to_the_next(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lab.sidecar.PROGRAM", [sys.executable, "-c", _BROKEN])
        broken = Sidecar(lab, lab["a"], [group()]).start(wait=False)
    second = Sidecar(lab, lab["b"], [group(advskew=50)]).start()
    assert broken.reap() == 1, "a supervisor starts it anew"
    assert "ZeroDivisionError" in broken.log()
    broken.log_path.unlink()  # a bug is the one thing that may be reported with a traceback
    second.wait_state("MASTER")
    assert lab["a"].held_addresses() == []


def test_a_backup_whose_mac_changed_asks_with_the_new_one(lab: Lab) -> None:
    """As a bond does it when its ports fail over: with the old one no answer would come, and who hangs would be taken for dead."""
    first, second = start_cluster(lab, 2, advertisement_interval="500ms")
    mac = "02:00:00:00:77:77"
    second.host.namespace.ip(f"link set dev eth0 address {mac}")
    second.wait_for(lambda one: one["adverts"]["received"] > 5, "hears on")
    with Capture(first.host.namespace, "eth0") as wire:
        first.freeze()
        reasons = second.wait_state("MASTER")["transitions_by_reason"]
        asked = [frame.data for frame in wire.frames() if frame.ethertype == ETH_P_ARP and frame.data[28:32] == b"\x0a\x4d\x00\x02"]
    assert asked
    assert {data[place : place + 6].hex(":") for data in asked for place in (6, 22)} == {mac}
    assert "master-timed-out" in reasons, reasons
