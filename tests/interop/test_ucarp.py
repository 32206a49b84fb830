"""kubecarp in Compatible mode and Debian's ucarp in one group, in both directions (protocol.md 5)."""

from collections.abc import Callable
from typing import Any

import pytest

from lab.capture import Capture
from lab.namespace import wait_until
from lab.network import Lab
from lab.peers import PASSWORD, Ucarp
from lab.prober import Prober, ProbeResult
from lab.sidecar import VIP4, Sidecar, group, stays

pytestmark = [pytest.mark.needs("netns"), pytest.mark.needs("ucarp")]

UCARP_PATIENCE_S = 12.0
"""ucarp takes 3 s plus up to 1 s of capture delay to become master, and reads adverts up to 1 s late."""
ENDINGS = ["crash", "clean-stop"]


def kubecarp(lab: Lab, host: str, *, password: str = PASSWORD, **fields: Any) -> Sidecar:
    """A sidecar that speaks ucarp's language; whole seconds, one IPv4 address."""
    settings: dict[str, Any] = {"advertisement_interval": "1s"} | fields
    sidecar = Sidecar(lab, lab[host], [])
    sidecar.write_key(password)
    settings["authentication"] = {"mode": "Compatible", "key_file": str(sidecar.key_file)}
    sidecar.configure([group(**settings)])
    return sidecar


def ucarp(lab: Lab, host: str, **options: Any) -> Ucarp:
    return Ucarp(lab[host], lab.directory, VIP4, **options)


def fail(lab: Lab, member: Sidecar | Ucarp, ending: str) -> None:
    """The host dies, or the program is stopped in an orderly way."""
    if ending == "crash":
        lab.kill(member.host)
        member.reap()
    else:
        member.stop()


def wait_holder(lab: Lab, holder: str, other: str) -> None:
    """Until one has the address and the other has not: ucarp says what it is before it starts the script that makes it so."""
    wait_until(lambda: (lab[holder].held_addresses(), lab[other].held_addresses()) == ([VIP4], []), 5, f"{holder} alone has the address")


def watch_failover(lab: Lab, master: Sidecar | Ucarp, ending: str, wait_successor: Callable[[], object]) -> ProbeResult:
    """What a client saw while the master failed."""
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        fail(lab, master, ending)
        wait_successor()
        prober.wait_answering()
        return prober.stop()


@pytest.mark.parametrize("ending", ENDINGS)
def test_ucarp_takes_over_from_kubecarp(lab: Lab, ending: str) -> None:
    master, backup = kubecarp(lab, "a"), ucarp(lab, "b", advskew=100)
    master.start().wait_state("MASTER", UCARP_PATIENCE_S)
    backup.start()
    backup.wait_state("BACKUP")
    with Capture(lab.client.namespace, "eth0") as wire:
        wait_until(lambda: len(wire.adverts()) >= 4, 10, "ucarp could have timed out")
    assert backup.state == "BACKUP", "it hears and believes the master"
    result = watch_failover(lab, master, ending, lambda: backup.wait_state("MASTER", UCARP_PATIENCE_S))
    assert result.ttls == [lab["a"].ttl, lab["b"].ttl]
    assert result.longest_ms < (6000 if ending == "crash" else 2000)


@pytest.mark.parametrize("ending", ENDINGS)
def test_kubecarp_takes_over_from_ucarp(lab: Lab, ending: str) -> None:
    master, backup = ucarp(lab, "a"), kubecarp(lab, "b", advskew=100)
    master.start()
    master.wait_state("MASTER", UCARP_PATIENCE_S)
    heard = backup.start().wait_for(lambda one: one["master"] is not None, "hears ucarp")
    assert heard["master"]["source"] == lab["a"].address()
    stays([backup], ["BACKUP"], 4.0)
    result = watch_failover(lab, master, ending, lambda: backup.wait_state("MASTER"))
    assert result.ttls == [lab["a"].ttl, lab["b"].ttl]
    assert result.longest_ms < 5500


def test_preempting_kubecarp_takes_over_from_a_worse_ucarp(lab: Lab) -> None:
    worse = ucarp(lab, "a", advskew=100)
    worse.start()
    worse.wait_state("MASTER", UCARP_PATIENCE_S)
    better = kubecarp(lab, "b", preemption={"enabled": True}).start()
    better.wait_state("MASTER")
    worse.wait_state("BACKUP", UCARP_PATIENCE_S)
    wait_holder(lab, "b", "a")


def test_preempting_ucarp_takes_over_from_a_worse_kubecarp(lab: Lab) -> None:
    worse = kubecarp(lab, "a", advskew=100).start()
    worse.wait_state("MASTER", UCARP_PATIENCE_S)
    better = ucarp(lab, "b", preempt=True)
    better.start()
    better.wait_state("MASTER", UCARP_PATIENCE_S)
    worse.wait_state("BACKUP")
    wait_holder(lab, "b", "a")


def test_without_preempt_nobody_is_displaced(lab: Lab) -> None:
    worse = kubecarp(lab, "a", advskew=100).start()
    worse.wait_state("MASTER", UCARP_PATIENCE_S)
    better = ucarp(lab, "b")
    better.start()
    with Capture(lab.client.namespace, "eth0") as wire:
        wait_until(lambda: len(wire.adverts()) >= 5, 15, "ucarp could have spoken")
        assert {advert.source for advert in wire.adverts()} == {lab["a"].address()}
    assert (worse.state, better.state) == ("MASTER", "BACKUP")


def test_a_wrong_password_is_not_believed(lab: Lab) -> None:
    ours = kubecarp(lab, "a", advskew=50).start()
    ours.wait_state("MASTER", UCARP_PATIENCE_S)
    before = ours.group()["transitions"]
    stranger = ucarp(lab, "b", password="other")
    stranger.start()
    stranger.wait_state("MASTER", UCARP_PATIENCE_S)
    ours.wait_for(lambda one: one["adverts"]["rejected"].get("bad-digest", 0) >= 3, "rejects its adverts")
    assert ours.state == "MASTER"
    assert ours.group()["transitions"] == before
    assert "Bad digest" in stranger.log()


def test_two_masters_after_a_partition_become_one(lab: Lab) -> None:
    ours, theirs = kubecarp(lab, "a"), ucarp(lab, "b", advskew=100)
    ours.start().wait_state("MASTER", UCARP_PATIENCE_S)
    theirs.start()
    theirs.wait_state("BACKUP")
    lab.cut(lab["a"])
    theirs.wait_state("MASTER", UCARP_PATIENCE_S)
    lab.heal(lab["a"])
    theirs.wait_state("BACKUP", UCARP_PATIENCE_S)
    assert ours.wait_state("MASTER")["split_brains"] >= 0
    wait_holder(lab, "a", "b")
