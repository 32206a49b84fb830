"""Somebody on the network without the key: docs/attacks.md says what each attack does, and these tests show it."""

import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest

from carp_sidecar.wire.frames import gratuitous_arp_reply, gratuitous_arp_request, unsolicited_neighbor_advert
from lab.attacker import Flood, altered, forged, overheard, refitted, sum_of
from lab.capture import inject
from lab.namespace import wait_until
from lab.network import Host, Lab
from lab.prober import Prober
from lab.sidecar import CALM, VIP4, VIP6, Sidecar, group, start_cluster, stays, wait_single_master

pytestmark = pytest.mark.needs("netns", "ip")

FLOOD_S = 10.0
GROWTH_KB = 6144
"""What memory may grow by in a flood: the queues are the kernel's, and the interpreter's own heap breathes."""
SHARE = 0.7
"""A third of a core is what is read of strangers; here the kernel's part of a virtual wire is charged to whoever runs."""
PROBE_PORT = 9112
LOUD_LINES = 12
"""Log lines of a flood: the first of each reason, and that the metrics are served."""

BAD = {
    "forged": ({16: bytes(20)}, "bad-digest"),
    "better advskew": ({2: b"\x00"}, "bad-digest"),
    "shorter advbase": ({5: b"\x00"}, "bad-digest"),
    "no demotion": ({4: b"\x07"}, "bad-digest"),
    "bow-out": ({2: b"\xff", 5: b"\xff"}, "bad-digest"),
    "later counter": ({8: b"\xff" * 8}, "bad-digest"),
    "VRRP version 3": ({0: b"\x31"}, "vrrp"),
    "another version": ({0: b"\x11"}, "version"),
    "another type": ({0: b"\x22"}, "bad-digest"),
    "wrong checksum": ({6: b"\x12\x34"}, "checksum"),
}


@pytest.fixture(scope="module")
def segment() -> Iterator[tuple[Lab, list[Sidecar], bytes]]:
    """A master, a backup, and an advert that the attacker on host c has overheard. One second apart, as a loaded machine needs."""
    with Lab.simple(3) as lab:
        members = start_cluster(lab, 2, advskew=50, advertisement_interval="1s")
        yield lab, members, overheard(lab["c"])


def rejected(member: Sidecar, reason: str) -> int:
    count: int = member.group()["adverts"]["rejected"].get(reason, 0)
    return count


def strike(segment: tuple[Lab, list[Sidecar], bytes], frame: bytes, reason: str, *, at_both: bool = True) -> None:
    """Send it; every member it reaches refuses it for ``reason``, and nothing changes anywhere."""
    lab, members, _ = segment
    struck = members if at_both else members[1:]
    before = [(one.state, one.group()["transitions"]) for one in members]
    refused = [rejected(one, reason) for one in struck]
    inject(lab["c"].namespace, "eth0", [frame])
    wait_until(lambda: all(rejected(one, reason) > count for one, count in zip(struck, refused, strict=True)), 10, f"{reason} everywhere")
    assert [(one.state, one.group()["transitions"]) for one in members] == before
    assert [bool(one.host.held_addresses()) for one in members] == [True, False]


@pytest.mark.parametrize("name", BAD)
def test_an_altered_advert_changes_nothing(segment: tuple[Lab, list[Sidecar], bytes], name: str) -> None:
    changes, reason = BAD[name]
    strike(segment, refitted(altered(segment[2], changes), {26: bytes([10, 77, 0, 3])}), reason)


@pytest.mark.parametrize("length,reason", [(20, "short"), (36, "bad-digest"), (91, "bad-digest"), (93, "bad-digest"), (1400, "bad-digest")])
def test_a_truncated_or_oversized_advert_changes_nothing(segment: tuple[Lab, list[Sidecar], bytes], length: int, reason: str) -> None:
    strike(segment, altered(segment[2], {}, length=length), reason)


@pytest.mark.parametrize("mac", ["ffffffffffff", "01005e000012"])
def test_where_a_forged_advert_is_sent_to_does_not_matter(segment: tuple[Lab, list[Sidecar], bytes], mac: str) -> None:
    (frame,) = forged(segment[2], 1)
    strike(segment, refitted(frame, {0: bytes.fromhex(mac)}), "bad-digest")
    strike(segment, refitted(frame, {0: bytes.fromhex(mac), 30: b"\xff" * 4}), "bad-digest")


def test_an_advert_that_crossed_a_router_is_not_from_here(segment: tuple[Lab, list[Sidecar], bytes]) -> None:
    strike(segment, refitted(segment[2], {22: b"\xfe"}), "ttl")


def test_a_replayed_advert_is_told_by_its_counter(segment: tuple[Lab, list[Sidecar], bytes]) -> None:
    strike(segment, segment[2], "replay", at_both=False)


def test_fragments_other_groups_and_noise_reach_nobody(segment: tuple[Lab, list[Sidecar], bytes]) -> None:
    lab, members, advert = segment
    before = [(one.state, one.group()["transitions"], one.group()["adverts"]["rejected"]) for one in members]
    fragments = [refitted(advert, {20: flags}) for flags in (b"\x20\x00", b"\x20\x04", b"\x00\x04")]
    inject(lab["c"].namespace, "eth0", [*fragments, altered(advert, {1: b"\x63"}), advert[:34], refitted(advert[:35])] * 20)
    strike(segment, altered(advert, {16: bytes(20)}), "bad-digest")  # so what went before has been read
    after = [(one.state, one.group()["transitions"], one.group()["adverts"]["rejected"]) for one in members]
    for (state, transitions, then), (still, since, now) in zip(before, after, strict=True):
        assert (state, transitions) == (still, since)
        assert {reason: now[reason] - then.get(reason, 0) for reason in now if now[reason] != then.get(reason, 0)} == {"bad-digest": 1}


def test_recorded_adverts_hold_nobody_back_after_every_member_restarted(lab: Lab) -> None:
    members = start_cluster(lab, 2, **CALM)
    advert = overheard(lab["c"])
    for member in members:
        member.stop()
    survivor = members[1].start()
    for _ in range(40):
        inject(lab["c"].namespace, "eth0", [advert])
        if survivor.state == "MASTER":
            break
    survivor.wait_state("MASTER")
    inject(lab["c"].namespace, "eth0", [advert] * 5)
    stays([survivor], ["MASTER"], 1.0)
    assert survivor.group()["split_brains"] == 0


# ---- the address itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("virtual_mac,first", [(True, 0), (True, 1), (False, 2)])
def test_a_host_that_claims_a_held_address_is_reported_and_outshouted(lab: Lab, virtual_mac: bool, first: int) -> None:
    members = start_cluster(lab, 2, addresses=[VIP4, VIP6], virtual_mac=virtual_mac, **CALM)
    thief = lab["c"].port().mac
    lies = [gratuitous_arp_request(thief, VIP4), gratuitous_arp_reply(thief, VIP4), unsolicited_neighbor_advert(thief, VIP6, router=False)]
    lab.client.namespace.run("ping", "-c", "1", "-W", "5", VIP4)
    inject(lab["c"].namespace, "eth0", lies[first : first + 1])
    found = members[0].wait_for(lambda one: one["address_conflicts"] == 1, "reports the thief")
    assert found["state"] == "MASTER"
    wait_until(lambda: f"{thief} answers for an address" in members[0].log(), 10, "it says so")
    inject(lab["c"].namespace, "eth0", lies * 20)
    stays(members, ["MASTER", "BACKUP"], 1.5)
    assert [one.group()["address_conflicts"] for one in members] == [1, 0], "once in ten seconds, and only by the master"

    def healed() -> bool:
        shown = lab.client.namespace.ip_json("neigh", "show", VIP4)
        return bool(shown) and shown[0].get("lladdr") != thief

    wait_until(healed, 20, "the client has been told the truth")


def test_who_sends_from_the_virtual_mac_has_its_traffic_until_the_next_advert(lab: Lab) -> None:
    """Nothing on a host can prevent it; nobody has to do anything about it either."""
    first, second = members = start_cluster(lab, 2, advertisement_interval="1s")
    before = [one.group()["transitions"] for one in members]
    mac = bytes.fromhex(first.group()["virtual_mac"].replace(":", ""))
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        inject(lab["c"].namespace, "eth0", [b"\xff" * 6 + mac + b"\x88\xb5" + bytes(46)])  # IEEE 802: for local experiments
        prober.wait_silent()
        prober.wait_answering()
        assert prober.stop().longest_ms < 1300, "an interval of 1 s, and 30 % for a machine that pauses"
    assert ([one.state for one in members], [one.group()["transitions"] for one in members]) == (["MASTER", "BACKUP"], before)
    assert second.group()["split_brains"] == 0


def test_refusals_that_nobody_asked_for_make_no_successor(lab: Lab) -> None:
    """ICMP "port unreachable" in the master's name, for every port that the backup could have asked from."""
    first, second = members = start_cluster(lab, 2, **CALM)
    before = [one.group()["transitions"] for one in members]
    frames = [refusal(lab, first.host, second.host, port) for port in range(32768, 61000)]
    for _ in range(3):
        inject(lab["c"].namespace, "eth0", frames)
    stays(members, ["MASTER", "BACKUP"], 1.0)
    assert [one.group()["transitions"] for one in members] == before


def refusal(lab: Lab, refused_by: Host, asked_by: Host, port: int) -> bytes:
    """What the kernel of the first host would send if no sidecar ran there (RFC 792)."""
    macs = (bytes.fromhex(host.port().mac.replace(":", "")) for host in (asked_by, lab["c"]))
    ends = [bytes(map(int, host.address().split("."))) for host in (asked_by, refused_by)]
    question = b"\x45\x00\x00\x24\x00\x00\x40\x00\x40\x11\x00\x00" + ends[0] + ends[1]
    question += port.to_bytes(2, "big") + PROBE_PORT.to_bytes(2, "big") + b"\x00\x10\x00\x00"
    icmp = b"\x03\x03\x00\x00" + bytes(4) + question
    icmp = icmp[:2] + sum_of(icmp) + icmp[4:]
    header = b"\x45\x00\x00\x00\x00\x00\x00\x00\x40\x01\x00\x00" + ends[1] + ends[0]
    return refitted(b"".join(macs) + b"\x08\x00" + header + icmp)


def question(lab: Lab, asked: Host) -> bytes:
    """Whether the sidecar there lives, as any host may ask."""
    macs = (bytes.fromhex(host.port().mac.replace(":", "")) for host in (asked, lab["c"]))
    ends = [bytes(map(int, host.address().split("."))) for host in (lab["c"], asked)]
    header = b"\x45\x00\x00\x00\x00\x00\x40\x00\x40\x11\x00\x00" + b"".join(ends)
    datagram = b"carp\x00\x00\x00\x00" + b"unknown!"
    udp = (40000).to_bytes(2, "big") + PROBE_PORT.to_bytes(2, "big") + (8 + len(datagram)).to_bytes(2, "big") + b"\x00\x00"
    return refitted(b"".join(macs) + b"\x08\x00" + header + udp + datagram)


@pytest.mark.parametrize("virtual_mac", [True, False])
def test_members_that_give_the_address_to_each_other_are_no_thieves(lab: Lab, virtual_mac: bool) -> None:
    members = start_cluster(lab, 2, virtual_mac=virtual_mac, **CALM)
    for giver, taker in ((0, 1), (1, 0)):
        members[giver].request("handover")
        members[taker].wait_state("MASTER")
        members[giver].wait_state("BACKUP")
    stays(members, ["MASTER", "BACKUP"], 1.0)
    assert [one.group()["address_conflicts"] for one in members] == [0, 0]


# ---- floods -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flooded() -> Iterator[tuple[Lab, list[Sidecar]]]:
    """Two members with a Strict and a Compatible group."""
    with Lab.simple(3) as lab:
        members = []
        for rank, name in enumerate("ab"):
            member = Sidecar(lab, lab[name], [])
            password = member.directory / "password"
            password.touch(mode=0o600)
            password.write_text("secret\n")
            common: dict[str, Any] = {"advertisement_interval": "1s", "advskew": 100 * rank}
            compatible = {"mode": "Compatible", "key_file": str(password)}
            member.configure([group(**common), group("old", 2, addresses=["10.77.0.101"], authentication=compatible, **common)])
            member.start()
            for one in ("web", "old"):
                wanted = "BACKUP" if rank else "MASTER"
                member.wait_state(wanted, name=one)
                member.wait_for(lambda seen: seen["master"], "knows the master", name=one)
            members.append(member)
        yield lab, members


def standing(members: list[Sidecar]) -> list[tuple[str, str, int]]:
    return [(one.host.name, entry["state"], entry["transitions"]) for one in members for entry in one.status()["groups"]]


@pytest.mark.parametrize("kind", ["adverts", "VRRP", "ARP for the address", "questions"])
def test_a_flood_moves_no_election_fills_no_memory_and_no_log(flooded: tuple[Lab, list[Sidecar]], kind: str) -> None:
    lab, members = flooded
    stranger = {6: bytes.fromhex(lab["c"].port().mac.replace(":", "")), 26: bytes([10, 77, 0, 3])}
    if kind == "questions":
        frames = [question(lab, members[0].host)]
    elif kind == "ARP for the address":
        frames = [make(lab["c"].port().mac, VIP4) for make in (gratuitous_arp_request, gratuitous_arp_reply)]
    else:
        frames = [refitted(frame, stranger) for vhid in (1, 2) for frame in forged(overheard(lab["c"], vhid), 16)]
    if kind == "VRRP":  # RFC 5798, of the highest priority
        frames = [altered(frame, {0: b"\x31", 2: b"\xff"}) for frame in frames]
    before, memory, lines = standing(members), [one.memory_kb() for one in members], [one.log().count("\n") for one in members]
    worked = members[0].cpu_s()
    with Flood(lab["c"], frames, FLOOD_S) as flood:
        wait_until(lambda: not flood.running, FLOOD_S + 30, "the flood ends", every_s=0.1)
    assert flood.sent > 20_000, "a flood"
    assert standing(members) == before, f"{flood.rate_per_s:.0f} frames/s moved an election"
    assert (members[0].cpu_s() - worked) / flood.lasted_s < SHARE, "of a core, is what it costs at most"
    for member, then, said in zip(members, memory, lines, strict=True):
        assert member.memory_kb() < then + GROWTH_KB
        assert member.log().count("\n") < said + LOUD_LINES, member.log()[-3000:]


def test_a_member_that_restarts_in_a_flood_displaces_nobody(lab: Lab) -> None:
    """It remembers who the others are, and hears them in spite of all those whom nobody knows."""
    first, second = start_cluster(lab, 2, **CALM)
    stranger = {6: bytes.fromhex("020000000003"), 26: bytes([10, 77, 0, 3])}
    frames = [refitted(frame, stranger) for frame in forged(overheard(lab["c"]), 16)]
    second.stop()
    with Flood(lab["c"], frames, FLOOD_S / 2) as flood:
        second.start()
        second.wait_for(lambda one: one["master"], "knows the master")
        assert flood.running, "it found the master in the flood"
        stays([first, second], ["MASTER", "BACKUP"], 2.0)
    assert [one.group()["transitions"] for one in (first, second)] == [2, 1]


def test_a_member_that_starts_for_the_first_time_in_a_flood_gives_way_at_the_latest_afterwards(lab: Lab) -> None:
    """It knows nobody, so the adverts of the master are among those of strangers, most of which it cannot read."""
    first, second = start_cluster(lab, 2, **CALM)
    stranger = {6: bytes.fromhex("020000000003"), 26: bytes([10, 77, 0, 3])}
    frames = [refitted(frame, stranger) for frame in forged(overheard(lab["c"]), 16)]
    newcomer = Sidecar(lab, lab["c"], [group(advskew=100, **CALM)])
    with Flood(lab["client"], frames, FLOOD_S / 2) as flood:
        newcomer.start()
        wait_until(lambda: not flood.running, FLOOD_S + 30, "the flood ends", every_s=0.1)
    assert wait_single_master([first, second, newcomer]) is first, "who has the best rank stays when two meet"
    newcomer.wait_for(lambda one: one["master"] and one["masters_seen"] == 1, "knows the master, and one alone")


CROWD = """
import socket, sys, time
crowd, until = [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex((sys.argv[1], int(sys.argv[3])))
    crowd.append(one)
    if len(crowd) > 200:
        crowd.pop(0).close()
"""
"""Connections that say nothing, 200 at a time, each given up for a new one."""
METRICS_PORT = 9120


def test_a_crowd_at_the_metrics_moves_no_election_and_keeps_kubelet_out_of_nothing(lab: Lab) -> None:
    """Kubelet would end a sidecar that does not answer it, and the crowd could do that to all of them at once."""
    first, second = members = [
        Sidecar(lab, lab[name], [group(advskew=rank * 50, **CALM)], metrics_address=f"0.0.0.0:{METRICS_PORT}")
        for rank, name in enumerate("ab")
    ]
    first.start().wait_state("MASTER")
    second.start().wait_for(lambda one: one["state"] == "BACKUP" and one["master"], "hears the master")
    wait_until(lambda: all("serving /metrics" in one.log() for one in members), 10, "pages are served")
    before = [one.group()["transitions"] for one in members]
    argv = [sys.executable, "-c", CROWD, first.host.address(), str(FLOOD_S), str(METRICS_PORT)]
    crowd = lab["c"].namespace.start(argv, first.directory / "crowd")
    wait_until(lambda: not healthy(first.host, first.host.address()), 10, "no stranger gets in any more")
    asked = 0
    while crowd.poll() is None:
        assert healthy(first.host, "127.0.0.1"), f"kubelet, when it asked for the {asked + 1}th time"
        asked += 1
        time.sleep(0.2)
    assert asked > 5
    assert ([one.state for one in members], [one.group()["transitions"] for one in members]) == (["MASTER", "BACKUP"], before)


def healthy(host: Host, address: str) -> bool:
    """What a program on ``host`` is told at the address, within the time that kubelet has."""

    def get() -> bool:
        try:
            with urlopen(f"http://{address}:{METRICS_PORT}/healthz", timeout=5) as page:
                return bool(page.status == 200)
        except OSError:
            return False

    return host.namespace.call(get)
