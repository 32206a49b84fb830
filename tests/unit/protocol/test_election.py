"""Who gives way to whom: protocol.md 3.3 row by row, and the total order of Strict."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_protocol.config import Authentication, Dialect, Mode
from carp_protocol.effects import Reason, State
from carp_protocol.election import TRANSITIONS, Standing, as_backup, as_master, gives_way, may, next_state, own_standing
from simulation.members import make_config

COMMON, OPENBSD = Dialect.COMMON, Dialect.OPENBSD
BOW_OUT = Standing(255, 255)


def standing(advbase: int, advskew: int, demotion: int = 0) -> Standing:
    return Standing(advbase, advskew, demotion)


# protocol.md 3.3, row MASTER: mine, his, and whether I go, in the common dialect and in OpenBSD's.
MASTER = [
    ("he is faster by skew", standing(1, 100), standing(1, 0), True, True),
    ("he is faster by base", standing(2, 0), standing(1, 200), True, True),
    ("equal", standing(1, 100), standing(1, 100), True, True),
    ("he is slower by skew", standing(1, 0), standing(1, 1), False, False),
    ("he is slower by base, faster by skew", standing(1, 200), standing(2, 0), False, False),
    ("he bows out", standing(1, 0), BOW_OUT, False, False),
    ("he bows out and I am advbase 255", standing(255, 255), BOW_OUT, False, False),
    ("he is faster but demoted (rule 10)", standing(1, 100), standing(1, 0, 1), False, False),
]
# The same with a demotion of mine, which exists as byte 4 only in OpenBSD's dialect.
MASTER_DEMOTED = [
    ("less demoted and slower", standing(1, 0, 1), standing(1, 200), True),
    ("as demoted and slower", standing(1, 0, 1), standing(1, 200, 1), False),
    ("as demoted and faster", standing(1, 100, 1), standing(1, 0, 1), True),
    ("more demoted and faster", standing(1, 100, 1), standing(1, 0, 2), False),
    ("less demoted and faster", standing(1, 100, 2), standing(1, 0, 1), True),
]


@pytest.mark.parametrize("name, mine, his, common, openbsd", MASTER, ids=[row[0] for row in MASTER])
def test_master_hears_master(name: str, mine: Standing, his: Standing, common: bool, openbsd: bool) -> None:
    assert gives_way(mine, his, Mode.COMPATIBLE, COMMON) is common
    assert gives_way(mine, his, Mode.COMPATIBLE, OPENBSD) is openbsd
    assert as_master(mine, his, Mode.COMPATIBLE, COMMON) is (Reason.BETTER_MASTER if common else None)


@pytest.mark.parametrize("name, mine, his, goes", MASTER_DEMOTED, ids=[row[0] for row in MASTER_DEMOTED])
def test_openbsd_master_hears_master_with_demotion(name: str, mine: Standing, his: Standing, goes: bool) -> None:
    assert gives_way(mine, his, Mode.COMPATIBLE, OPENBSD) is goes


PREEMPTED, DEMOTED, SLOW, LEAVES = Reason.PREEMPTED_WORSE, Reason.MASTER_DEMOTED, Reason.MASTER_TIMED_OUT, Reason.MASTER_BOWED_OUT
# protocol.md 3.3, rows BACKUP: mine, his, what happens with preempt and without.
BACKUP = [
    ("1: I am faster by skew", standing(1, 0), standing(1, 1), PREEMPTED, None),
    ("1: I am faster by base", standing(1, 200), standing(2, 0), PREEMPTED, None),
    ("equal", standing(1, 0), standing(1, 0), None, None),
    ("he is faster", standing(1, 100), standing(1, 0), None, None),
    ("1: faster, but he is less demoted", standing(1, 0, 2), standing(1, 1, 1), None, None),
    ("2: he is more demoted", standing(1, 100, 0), standing(1, 0, 1), DEMOTED, DEMOTED),
    ("2: he is less demoted", standing(1, 100, 2), standing(1, 0, 1), None, None),
    ("3: slower than my dead time by base", standing(1, 0), standing(4, 0), PREEMPTED, SLOW),
    ("3: slower than my dead time by skew", standing(1, 0), standing(3, 1), PREEMPTED, SLOW),
    ("3: as slow as my dead time", standing(1, 0), standing(3, 0), PREEMPTED, None),
    ("3.5: he bows out", standing(1, 254), BOW_OUT, LEAVES, LEAVES),
    ("3.5: he bows out, advbase 85", standing(85, 254), BOW_OUT, LEAVES, LEAVES),
    ("3.5: he bows out, advbase 86: carp(4) does not see it", standing(86, 0), BOW_OUT, LEAVES, LEAVES),
    ("3.5: he bows out, advbase 255", standing(255, 0), BOW_OUT, LEAVES, LEAVES),
]


@pytest.mark.parametrize("name, mine, his, preempting, patient", BACKUP, ids=[row[0] for row in BACKUP])
def test_backup_hears_master(name: str, mine: Standing, his: Standing, preempting: Reason | None, patient: Reason | None) -> None:
    assert as_backup(mine, his, Mode.COMPATIBLE, preempt=True) is preempting
    assert as_backup(mine, his, Mode.COMPATIBLE, preempt=False) is patient


STRICT = st.builds(
    Standing, advbase=st.just(1), advskew=st.integers(0, 254), demotion=st.integers(0, 254), sender_id=st.integers(1, 2**64 - 1)
)


@given(STRICT, STRICT)
def test_of_two_strict_masters_exactly_one_goes(one: Standing, other: Standing) -> None:
    goes = [gives_way(one, other, Mode.STRICT, COMMON), gives_way(other, one, Mode.STRICT, COMMON)]
    assert goes.count(True) == (one != other)


@given(STRICT, STRICT)
def test_a_strict_backup_takes_over_only_from_a_master_that_then_gives_way(one: Standing, other: Standing) -> None:
    reason = as_backup(one, other, Mode.STRICT, preempt=True)
    assert (reason is not None) == gives_way(other, one, Mode.STRICT, COMMON)
    patient = as_backup(one, other, Mode.STRICT, preempt=False)
    assert patient is (Reason.MASTER_DEMOTED if other.demotion > one.demotion else None)


@given(st.tuples(st.integers(1, 255), st.integers(0, 254)), st.tuples(st.integers(1, 255), st.integers(0, 254)), st.sampled_from(Dialect))
def test_of_two_compatible_masters_at_least_one_goes(one: tuple[int, int], other: tuple[int, int], dialect: Dialect) -> None:
    first, second = standing(*one), standing(*other)
    goes = [gives_way(first, second, Mode.COMPATIBLE, dialect), gives_way(second, first, Mode.COMPATIBLE, dialect)]
    assert goes.count(True) == (1 if one != other else 2)


@pytest.mark.parametrize(
    "dialect, advskew, demotion, sent",
    [
        (COMMON, 0, 0, (1, 0, 0)), (COMMON, 0, 1, (1, 1, 0)), (COMMON, 100, 50, (1, 150, 0)), (COMMON, 0, 254, (1, 240, 0)),
        (COMMON, 200, 100, (1, 240, 0)), (COMMON, 254, 0, (1, 254, 0)), (COMMON, 250, 1, (1, 250, 0)),
        (OPENBSD, 0, 1, (1, 0, 1)), (OPENBSD, 100, 254, (1, 100, 254)),
    ],
)  # fmt: skip
def test_what_a_compatible_member_says_when_demoted(dialect: Dialect, advskew: int, demotion: int, sent: tuple[int, int, int]) -> None:
    authentication = Authentication(mode=Mode.COMPATIBLE, key=b"k", dialect=dialect)
    mine = own_standing(make_config(Mode.COMPATIBLE, authentication=authentication, advskew=advskew), demotion, 7)
    assert (mine.advbase, mine.advskew, mine.demotion) == sent


@pytest.mark.parametrize("interval_s, advbase", [(0.01, 1), (0.2, 1), (1.0, 1), (1.6, 2), (60.0, 60)])
def test_advbase_of_a_strict_member_is_for_those_who_read_along(interval_s: float, advbase: int) -> None:
    assert own_standing(make_config(advertisement_interval_s=interval_s), 3, 7) == Standing(advbase, 0, 3, 7)


def test_advbase_never_looks_like_a_bow_out() -> None:
    assert own_standing(make_config(Mode.COMPATIBLE, advertisement_interval_s=255.0), 0, 0).advbase == 254


def test_init_is_left_for_backup_only() -> None:
    assert set(TRANSITIONS[State.INIT].values()) == {State.BACKUP}


def test_every_state_that_holds_addresses_can_lose_the_link_be_late_and_fail() -> None:
    for state in State:
        if state.holds_addresses:
            assert next_state(state, Reason.LINK_DOWN) is State.INIT
            assert next_state(state, Reason.STALLED) is State.BACKUP
            assert next_state(state, Reason.ADDRESS_FAILED) is State.BACKUP


def test_transitions_that_are_not_in_the_table_cannot_happen() -> None:
    for state, reason in product(State, Reason):
        if not may(state, reason):
            with pytest.raises(KeyError):
                next_state(state, reason)


def test_every_reason_leads_somewhere() -> None:
    assert {reason for reasons in TRANSITIONS.values() for reason in reasons} == set(Reason)
