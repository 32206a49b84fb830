"""Who gets which VHID and which addresses when several want the same: what runs goes on, and the older object gets the new."""

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_operator.api.group import CarpGroup
from carp_operator.api.reasons import Reason
from carp_operator.plan.allocation import Claim, Running, allocate
from carp_operator.plan.world import Refusal
from lab.pieces import group

NET, OTHER = "10.77.0.0/24", "10.78.0.0/24"
OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def claim(one: CarpGroup, *networks: str, vhid: int | None = None, addresses: tuple[str, ...] = (), where: tuple[str, ...] = ()) -> Claim:
    """Of a group; ``vhid``, ``addresses`` and ``where``: what it runs with already."""
    return Claim(one, frozenset(networks or (NET,)), Running(vhid, frozenset(addresses), frozenset(where)))


def run(
    *claims: Claim, own: Mapping[str, str] | None = None, refused: Mapping[str, Refusal] | None = None, first: int = 1, last: int = 255
) -> dict[str, Any]:
    return allocate(claims, own or {}, first, last, refused or {})


def test_the_lowest_free_vhid() -> None:
    given_by_user = claim(group("b", "10.77.0.2", vhid=1))
    outcome = run(claim(group("a", "10.77.0.1")), given_by_user, claim(group("c", "10.77.0.3")), claim(group("d", "10.77.0.4"), OTHER))
    assert outcome == {
        "a": 1,
        "b": Refusal(Reason.VHID_CONFLICT, f"VHID 1 belongs to CarpGroup a on {NET}; create it anew without vhid to get a free one"),
        "c": 2,
        "d": 1,
    }


def test_a_vhid_range_is_for_those_that_are_given_not_for_those_that_are_chosen() -> None:
    outcome = run(claim(group("a", "10.77.0.1")), claim(group("b", "10.77.0.2", vhid=7)), first=100, last=101)
    assert outcome == {"a": 100, "b": 7}


def test_two_that_share_one_network_of_several_conflict_there() -> None:
    outcome = run(
        claim(group("a", "10.77.0.1", created=OLD, vhid=7), NET, "fd77::/64"),
        claim(group("b", "10.78.0.1", created=NEW, vhid=7), OTHER, "fd77::/64"),
        claim(group("c", "10.78.0.2", created=NEW, vhid=7), OTHER),
    )
    assert (outcome["a"], outcome["c"]) == (7, 7)
    assert outcome["b"] == Refusal(
        Reason.VHID_CONFLICT, "VHID 7 belongs to CarpGroup a on fd77::/64; create it anew without vhid to get a free one"
    )


def test_of_two_new_groups_the_older_gets_it() -> None:
    older, newer = group("z", created=OLD, vhid=7), group("a", created=NEW, vhid=7)
    outcome = run(claim(newer), claim(older))
    assert outcome["z"] == 7
    assert outcome["a"] == Refusal(Reason.ADDRESS_CONFLICT, "10.77.0.100 belongs to CarpGroup z; remove it from one of the two")


def test_a_new_group_takes_nothing_from_one_that_runs_however_old_it_is() -> None:
    old = claim(group("old", "10.77.0.1", created=OLD, vhid=7))
    running = claim(group("young", "10.77.0.2", created=NEW), vhid=7, addresses=("10.77.0.2",), where=(NET,))
    assert run(old, running) == {
        "young": 7,
        "old": Refusal(Reason.VHID_CONFLICT, f"VHID 7 belongs to CarpGroup young on {NET}; create it anew without vhid to get a free one"),
    }
    wants = claim(group("old", "10.77.0.2", created=OLD))
    assert run(wants, running)["old"] == Refusal(
        Reason.ADDRESS_CONFLICT, "10.77.0.2 belongs to CarpGroup young; remove it from one of the two"
    )


def test_an_address_belongs_to_whoever_runs_with_it_until_it_has_let_go() -> None:
    leaving = claim(group("a", "10.77.0.2", created=OLD), vhid=1, addresses=("10.77.0.1",), where=(NET,))
    waiting = claim(group("b", "10.77.0.1", created=NEW))
    assert run(leaving, waiting)["b"] == Refusal(Reason.ADDRESS_CONFLICT, "10.77.0.1 belongs to CarpGroup a; remove it from one of the two")
    gone = claim(group("a", "10.77.0.2", created=OLD), vhid=1, addresses=("10.77.0.2",), where=(NET,))
    assert run(gone, waiting) == {"a": 1, "b": 2}


def test_an_address_without_notation() -> None:
    outcome = run(claim(group("a", "FD77::1/64", created=OLD)), claim(group("b", "fd77:0:0::1", created=NEW)))
    assert outcome["b"] == Refusal(Reason.ADDRESS_CONFLICT, "fd77::1 belongs to CarpGroup a; remove it from one of the two")


def test_an_address_of_a_node_is_no_virtual_one() -> None:
    assert run(claim(group("a", "10.77.0.1")), own={"10.77.0.1": "node-1"})["a"] == Refusal(
        Reason.NODE_ADDRESS, "10.77.0.1 is the own address of node node-1; a virtual address must be one that no host has"
    )


def test_a_vhid_never_changes() -> None:
    running = claim(group("a", vhid=8), vhid=7, addresses=("10.77.0.100",), where=(NET,))
    assert run(running)["a"] == Refusal(
        Reason.VHID_CHANGED, "the group runs with VHID 7, which cannot change to 8; delete the group and create it anew"
    )


def test_who_moves_to_a_network_where_its_vhid_is_taken_stays() -> None:
    there = claim(group("a", "10.78.0.1"), OTHER, vhid=1, addresses=("10.78.0.1",), where=(OTHER,))
    moving = claim(group("b", "10.78.0.2"), OTHER, vhid=1, addresses=("10.77.0.2",), where=(NET,))
    newcomer = claim(group("c", "10.77.0.3", created=NEW))
    outcome = run(there, moving, newcomer)
    assert outcome["b"] == Refusal(
        Reason.VHID_CONFLICT, f"VHID 1 belongs to CarpGroup a on {OTHER}; delete one of the two groups and create it anew"
    )
    assert outcome["c"] == 2, "where b goes on running its VHID is taken"


def test_what_a_refused_group_runs_with_stays_its_own() -> None:
    no = Refusal(Reason.SECRET_NOT_FOUND, "no")
    running = claim(group("a", "10.77.0.9", created=OLD), vhid=1, addresses=("10.77.0.1",), where=(NET,))
    outcome = run(running, claim(group("b", "10.77.0.1", created=NEW)), claim(group("c", "10.77.0.9", created=NEW)), refused={"a": no})
    assert outcome == {
        "a": no,
        "b": Refusal(Reason.ADDRESS_CONFLICT, "10.77.0.1 belongs to CarpGroup a; remove it from one of the two"),
        "c": 2,
    }


def test_a_group_that_no_node_can_run_just_now_keeps_its_vhid() -> None:
    resting = claim(group("b", "10.77.0.2", created=NEW), vhid=2)
    assert run(claim(group("a", "10.77.0.1", created=OLD)), resting, claim(group("c", "10.77.0.3", created=NEW))) == {
        "a": 1,
        "b": 2,
        "c": 3,
    }


def test_a_vhid_that_was_only_reserved_gives_way_where_another_runs_with_it() -> None:
    running = claim(group("a", "10.77.0.1", created=NEW), vhid=2, addresses=("10.77.0.1",), where=(NET,))
    resting = claim(group("b", "10.77.0.2", created=OLD), "interface of 10.77.0.2", NET, vhid=2)
    assert run(running, resting) == {"a": 2, "b": 1}


def test_two_that_came_to_share_a_network_both_go_on_and_a_third_collides_with_both() -> None:
    """A node got an address in a second subnet: what was apart is one network now."""
    first = claim(group("a", "10.77.0.1", created=OLD), NET, OTHER, vhid=1, addresses=("10.77.0.1",), where=(NET, OTHER))
    second = claim(group("b", "10.78.0.1", created=NEW), OTHER, "fd78::/64", vhid=1, addresses=("10.78.0.1",), where=(OTHER, "fd78::/64"))
    third = claim(group("c", "fd78::1", created=NEW), "fd78::/64")
    outcome = run(first, second, third)
    assert outcome["a"] == 1
    assert outcome["b"] == Refusal(
        Reason.VHID_CONFLICT, f"VHID 1 belongs to CarpGroup a on {OTHER}; delete one of the two groups and create it anew"
    )
    assert outcome["c"] == 2


def test_the_256th_group_of_a_network_is_told_what_to_do() -> None:
    claims = [claim(group(f"g{number:03}", f"10.77.1.{number}")) for number in range(256)]
    outcome = run(*claims)
    assert sorted(vhid for vhid in outcome.values() if isinstance(vhid, int)) == list(range(1, 256))
    assert outcome["g255"] == Refusal(
        Reason.VHIDS_EXHAUSTED,
        f"every VHID from 1 to 255 is taken on {NET}; put further addresses into an existing group (it holds 32), or use another network",
    )


@st.composite
def cluster(draw: st.DrawFn) -> list[Claim]:
    """Groups of every kind, among them such as cannot be: an allocation must come out of anything."""
    addresses, networks, vhids = [f"10.77.0.{number}" for number in range(6)], [NET, OTHER, "fd77::/64"], st.integers(1, 4)
    claims = []
    for number in range(draw(st.integers(1, 8))):
        spec: dict[str, Any] = {"vhid": draw(vhids)} if draw(st.booleans()) else {}
        wanted = draw(st.sets(st.sampled_from(addresses), min_size=1, max_size=3))
        one = group(f"g{number}", *sorted(wanted), created=draw(st.sampled_from([OLD, NEW])), **spec)
        where = draw(st.sets(st.sampled_from(networks), max_size=2))
        held = draw(st.sets(st.sampled_from(addresses), max_size=2)) if where else set()
        had = draw(vhids) if where else draw(st.none() | vhids)
        claims.append(
            claim(one, *sorted(draw(st.sets(st.sampled_from(networks), min_size=1))), vhid=had, addresses=tuple(held), where=tuple(where))
        )
    return claims


@given(cluster(), st.randoms(use_true_random=False))
def test_whatever_groups_want(claims: list[Claim], dice: random.Random) -> None:
    outcome = run(*claims)
    accepted = [one for one in claims if isinstance(outcome[one.group.name], int)]
    for one in accepted:
        vhid = outcome[one.group.name]
        assert one.group.vhid in (None, vhid)
        for other in claims:
            if other is one:
                continue
            if other in accepted:
                assert not one.group.hosts & other.group.hosts, "an address has one owner"
                assert vhid != outcome[other.group.name] or not one.networks & other.networks, "a VHID is unique on a network"
            if one.running.addresses.isdisjoint(other.running.addresses):
                assert not (one.group.hosts - one.running.addresses) & other.running.addresses, "what runs is not taken"
        if one.running.networks and one.running.vhid:
            assert vhid == one.running.vhid, "what runs does not change its VHID"
    dice.shuffle(claims)
    assert run(*claims) == outcome, "the order of the objects is nothing"


@given(cluster())
def test_what_was_allocated_is_allocated_again(claims: list[Claim]) -> None:
    """As if an operator that knows nothing took over, after everything was written."""
    outcome = run(*claims)
    written = []
    for one in claims:
        vhid = outcome[one.group.name]
        accepted = isinstance(vhid, int)
        written.append(Claim(one.group, one.networks, Running(vhid, one.group.hosts, one.networks)) if accepted else one)
    again = run(*written)
    for one in claims:
        if isinstance(outcome[one.group.name], int):
            assert again[one.group.name] == outcome[one.group.name]


@pytest.mark.parametrize("address", ["10.77.0.9", "fd77::9"])
def test_a_name_decides_between_twins(address: str) -> None:
    """Creation time and uid alike happen in tests only; even then the outcome is one."""
    twins = [claim(group(name, address)) for name in ("a", "b")]
    assert isinstance(run(*twins)["a"], int)
    assert run(*twins) == run(*reversed(twins))
