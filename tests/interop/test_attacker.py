"""The hole of classic CARP, tried on everybody: rank and departure are not signed, so a recorded advert with another rank is believed."""

from collections.abc import Callable

import pytest

from lab.attacker import altered, overheard, refitted
from lab.capture import inject
from lab.namespace import LabError, wait_until
from lab.network import Lab
from lab.peers import Ucarp
from lab.sidecar import VIP4, Sidecar, group, wait_single_master

pytestmark = [pytest.mark.needs("netns"), pytest.mark.needs("ucarp")]

PATIENCE_S = 15.0


def strike(lab: Lab, done: Callable[[], bool]) -> bool:
    """An advert of the master, from another host and with the best rank, once in a while; whether ``done`` came of it."""
    recorded = overheard(lab["c"])
    better = refitted(altered(recorded, {2: b"\x00"}), {6: bytes.fromhex("020000000003"), 26: bytes([10, 77, 0, 3])})
    for _ in range(10):
        inject(lab["c"].namespace, "eth0", [better])
        try:
            wait_until(done, 0.5, "struck")
        except LabError:
            continue
        return True
    return False


def test_ucarp_steps_down_for_a_recording_with_a_better_rank(lab: Lab) -> None:
    master = Ucarp(lab["a"], lab.directory, VIP4, advskew=100)
    master.start()
    master.wait_state("MASTER", PATIENCE_S)
    assert strike(lab, lambda: master.state == "BACKUP")
    wait_until(lambda: lab["a"].held_addresses() == [], PATIENCE_S, "and nobody has the address")


@pytest.mark.parametrize("mode", ["Compatible", "Strict"])
def test_what_each_mode_makes_of_it(lab: Lab, mode: str) -> None:
    master = Sidecar(lab, lab["a"], [])
    master.write_key("secret" if mode == "Compatible" else "9f" * 32)
    authentication = {"mode": mode, "key_file": str(master.key_file)}
    master.configure([group(advskew=100, advertisement_interval="1s", authentication=authentication)])
    master.start().wait_state("MASTER", PATIENCE_S)
    before = master.group()["transitions"]
    believed = strike(lab, lambda: bool(master.group()["transitions"] > before))
    assert believed == (mode == "Compatible")


def test_a_recording_turned_into_a_departure_is_believed_in_compatible_mode(lab: Lab) -> None:
    """Strict refuses it: netns/test_attacker.py."""
    members = [Sidecar(lab, lab[name], []) for name in ("a", "b")]
    for rank, member in enumerate(members):
        member.write_key("secret")
        authentication = {"mode": "Compatible", "key_file": str(member.key_file)}
        member.configure([group(advskew=100 * rank, advertisement_interval="1s", authentication=authentication)])
        member.start().wait_state("BACKUP" if rank else "MASTER", PATIENCE_S)
    gone = refitted(altered(overheard(lab["c"]), {2: b"\xff", 5: b"\xff"}), {6: bytes.fromhex("020000000003")})
    members[1].wait_for(lambda one: one["master"], "knows the master")
    inject(lab["c"].namespace, "eth0", [gone])
    wait_until(lambda: members[1].group()["transitions"] > 1, PATIENCE_S, "the backup takes over")
    wait_single_master(members)
