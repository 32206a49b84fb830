"""A reload disturbs nobody: what is changed on running members, one after the other, costs an address that stays no probe."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from lab.namespace import wait_until
from lab.network import Lab
from lab.prober import Prober
from lab.sidecar import CALM, VIP4, VIP6, Sidecar, group, stays, wait_master

pytestmark = [pytest.mark.needs("netns"), pytest.mark.timing]

OTHER = "10.77.0.101"
KEYS = {"Strict": ("4c" * 32, "5d" * 32), "Compatible": ("old secret", "new secret")}
BESIDE_S = 0.6
"""How long a changed member runs beside those that have not changed yet: longer than from one advert of Strict mode to the next here."""
MODES = pytest.mark.parametrize("mode", list(KEYS))
ORDERS = pytest.mark.parametrize("order", [pytest.param([0, 1, 2], id="master-first"), pytest.param([2, 1, 0], id="master-last")])


def keys(mode: str, signs: str = "old", *accepted: str) -> dict[str, Any]:
    return {"authentication": {"mode": mode, "key_file": signs, "accept_key_files": list(accepted)}}


class Members:
    """Three members of one group; the first one is the master."""

    def __init__(self, lab: Lab, mode: str, **fields: Any) -> None:
        self._lab, self._mode = lab, mode
        self._fields = (CALM if mode == "Strict" else {"advertisement_interval": "1s"}) | keys(mode) | fields
        self.all = [Sidecar(lab, host, [self.group_of(rank)]) for rank, host in enumerate(lab.members())]
        for member in self.all:
            for name, key in zip(("old", "new"), KEYS[mode], strict=True):
                (member.directory / name).touch(mode=0o600)
                (member.directory / name).write_text(key + "\n")
        self.all[0].start().wait_state("MASTER")
        for member in self.all[1:]:
            member.start().wait_for(lambda one: one["state"] == "BACKUP" and one["master"] is not None, "hears the master")

    def group_of(self, rank: int) -> dict[str, Any]:
        fields: dict[str, Any] = {"advskew": 50 * rank} | self._fields
        return group(**fields)

    @property
    def master(self) -> Sidecar:
        return self.all[0]

    def change(self, order: Sequence[int] = (0, 1, 2), beside_s: float = BESIDE_S, **fields: Any) -> None:
        """Other settings for every member, one after the other."""
        self._fields |= fields
        for rank in order:
            self.change_one(rank)
            stays(self.all, ["MASTER", "BACKUP", "BACKUP"], beside_s)

    def change_one(self, rank: int, **fields: Any) -> None:
        """Other settings for one member."""
        self.all[rank].configure([self.group_of(rank) | fields])
        self.all[rank].request("reload")

    @contextmanager
    def undisturbed(self, address: str = VIP4) -> Iterator[None]:
        """Inside, no probe is lost or answered twice, no state changes, and nobody hears a second master."""
        before = [one.group()["transitions"] for one in self.all]
        with Prober(self._lab.client, address) as prober:
            prober.wait_answering()
            yield
            prober.wait_answering()
            result = prober.stop()
        assert (result.lost, result.duplicates, result.ttls) == (0, 0, [self.master.host.ttl]), result
        groups = [one.group() for one in self.all]
        assert [one["transitions"] for one in groups] == before
        assert [one["split_brains"] for one in groups] == [0, 0, 0]
        if self._mode == "Strict":
            assert [one["adverts"]["rejected"].get("bad-digest", 0) for one in groups] == [0, 0, 0]


@MODES
@ORDERS
def test_an_address_is_added(lab: Lab, mode: str, order: list[int]) -> None:
    """In Compatible mode the address list is part of the digest: members that have not changed hear the former one for as long."""
    members = Members(lab, mode)
    with members.undisturbed():
        members.change(order, 0.5 if mode == "Strict" else 2.0, addresses=[OTHER, VIP4] if order[0] == 0 else [VIP4, OTHER])
    wait_until(lambda: sorted(members.master.host.held_addresses()) == [VIP4, OTHER], 2, "both are held")
    with Prober(lab.client, OTHER) as prober:
        prober.wait_answering()


@MODES
def test_the_first_address_is_removed(lab: Lab, mode: str) -> None:
    members = Members(lab, mode, addresses=[OTHER, VIP4])
    with members.undisturbed():
        members.change(addresses=[VIP4])
    assert members.master.host.held_addresses() == [VIP4]


def test_addresses_change_on_the_physical_mac(lab: Lab) -> None:
    members = Members(lab, "Strict", virtual_mac=False)
    with members.undisturbed():
        members.change(addresses=[OTHER, VIP4])
        members.change(addresses=[VIP4])
    assert members.master.host.held_addresses() == [VIP4]


def test_another_family_comes_in_front(lab: Lab) -> None:
    members = Members(lab, "Strict")
    with members.undisturbed():
        members.change(addresses=[VIP6, VIP4])
    with members.undisturbed(VIP6):
        members.change(addresses=[VIP6])


@ORDERS
def test_the_interval_is_changed(lab: Lab, order: list[int]) -> None:
    members = Members(lab, "Strict")
    with members.undisturbed():
        members.change(order, advertisement_interval="250ms")  # with much less, a pause of the machine would be an event
        members.change(order, 1.5, advertisement_interval="1s")
        members.change(order, **CALM)


@MODES
@ORDERS
def test_a_key_is_rotated_in_three_steps(lab: Lab, mode: str, order: list[int]) -> None:
    members = Members(lab, mode)
    with members.undisturbed():
        members.change(order, **keys(mode, "old", "new"))
        members.change(order, **keys(mode, "new", "old"))
        members.change(order, **keys(mode, "new"))


@MODES
def test_priorities_are_changed(lab: Lab, mode: str) -> None:
    """Without preemption the master stays, whatever it is worth."""
    members = Members(lab, mode)
    with members.undisturbed():
        for rank in (2, 1, 0):
            members.change_one(rank, advskew=200 - 50 * rank)
            stays(members.all, ["MASTER", "BACKUP", "BACKUP"], BESIDE_S)
        stays(members.all, ["MASTER", "BACKUP", "BACKUP"], 1.5)


def test_everything_else_is_changed(lab: Lab) -> None:
    members = Members(lab, "Strict")
    passes = {"name": "web", "exec": {"command": ["/bin/true"]}, "period": "100ms"}
    others = [[one.host.address() for one in members.all if one is not member] for member in members.all]
    with members.undisturbed():
        members.change(health_checks=[passes])
        members.change(health_checks=[passes | {"timeout": "2s"}])
        members.change(health_checks=[])
        members.change(suspicion=False, hook=["/bin/true"])
        members.change(preemption={"enabled": True, "delay": "1s"})
        for rank in (2, 1, 0):
            members.change_one(rank, peers={"mode": "Unicast", "addresses": others[rank]})
        stays(members.all, ["MASTER", "BACKUP", "BACKUP"], 2.5)  # longer than the dead time
        members.change(preemption={"enabled": False})
        members.change([2, 1, 0], demotion=10)


def test_other_words_for_the_same_interface(lab: Lab) -> None:
    members = Members(lab, "Strict", addresses=[f"{VIP4}/24"])
    with members.undisturbed():
        for rank, member in enumerate(members.all):
            found = {name: value for name, value in members.group_of(rank).items() if name != "interface"}
            for words in ({"interface_pattern": "^eth"}, {}, {"interface": "eth0"}):
                member.configure([found | words])
                member.request("reload")
    assert [one.group()["interface"] for one in members.all] == ["eth0"] * 3


def test_a_check_that_is_added_demotes_when_it_has_failed(lab: Lab) -> None:
    members = Members(lab, "Strict")
    fails = {"name": "web", "exec": {"command": ["/bin/false"]}, "period": "300ms", "failure_threshold": 3}
    members.change_one(0, health_checks=[fails])
    assert members.master.group()["demotion"]["total"] == 0
    wait_master(members.all[1], members.all[0], members.all[2])
    members.change_one(0, health_checks=[fails | {"failure_threshold": 4}])
    assert members.all[0].group()["demotion"]["total"] == 128, "a changed check goes on from where it was"
