"""Counters that only grow, identities per group, budgets of what packets can make us send, and named demotions."""

from hypothesis import given
from hypothesis import strategies as st

from carp_protocol.counter import Budgets, Counter, Identity, TokenBucket
from carp_protocol.demotion import Demotions

EPOCH = 1 << 32


def test_counters_grow_from_the_epoch() -> None:
    counter = Counter(7)
    assert [counter.next() for _ in range(3)] == [7 * EPOCH + 1, 7 * EPOCH + 2, 7 * EPOCH + 3]
    assert counter.value == 7 * EPOCH + 3
    assert counter.epoch == 7


@given(st.integers(0, 2**32 - 2), st.integers(0, 5))
def test_the_farewell_beats_its_epoch_and_only_the_next_run_beats_it(epoch: int, used: int) -> None:
    counter = Counter(epoch)
    for _ in range(used):
        counter.next()
    assert counter.value < counter.farewell() < Counter(epoch + 1).next()
    assert counter.farewell() == Counter(epoch).farewell()


def test_an_epoch_that_is_used_up_passes_over_its_farewell() -> None:
    counter = Counter(3)
    counter._value = 4 * EPOCH - 2
    farewell = counter.farewell()
    assert counter.next() == 4 * EPOCH + 1
    assert counter.value > farewell


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_a_jump_goes_past_what_was_heard_and_stays_in_64_bits(epoch: int, heard: int) -> None:
    counter = Counter(epoch)
    before = counter.value
    counter.jump_past(heard)
    assert counter.value >= before
    assert counter.next() < 2**64
    assert counter.value > heard or heard >= (2**32 - 1) << 32


def test_an_epoch_beyond_the_last_is_the_last() -> None:
    assert Counter(2**40).next() < 2**64


def test_an_identity_differs_from_group_to_group() -> None:
    identity = Identity(5, 2)
    assert identity.for_group("a") != identity.for_group("b")
    assert identity.for_group("a") == Identity(5, 2).for_group("a")
    assert identity.for_group("a").sender_id != Identity(6, 2).for_group("a").sender_id
    assert identity.for_group("a").epoch == 2


def test_demotions_are_listed_as_they_were_set() -> None:
    demotions = Demotions()
    assert demotions.set("b", 5)
    assert demotions.set("a", None)
    assert not demotions.set("c", 0)
    assert demotions.items() == [("b", 5), ("a", None)]


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=3)
    assert [bucket.take(5.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(5.05)
    assert bucket.take(5.15)
    assert [bucket.take(99.0) for _ in range(4)] == [True, True, True, False]


def test_what_must_be_apart_is_apart_within_a_burst_too() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=3, gap_s=0.005)
    assert [bucket.take(at) for at in (5.0, 5.0, 5.004, 5.006, 5.008, 5.012)] == [True, False, False, True, False, True]


def test_a_flood_in_one_name_leaves_the_others_theirs() -> None:
    budgets = Budgets(rate_per_s=1, burst=2)
    assert sum(budgets.take("loud", 1.0) for _ in range(1000)) == 2
    assert budgets.take("quiet", 1.0)


def test_budgets_are_bounded_and_forget_who_was_silent_longest() -> None:
    budgets = Budgets(rate_per_s=1, burst=1)
    assert budgets.take("first", 0.0)
    for name in range(300):
        budgets.take(name, 0.0)
    assert len(budgets._buckets) == 256
    assert budgets.take("first", 0.0)
    assert not budgets.take(299, 0.0)
