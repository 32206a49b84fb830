"""The packet path and the engine stay fast, measured against work of the same kind beside them: no absolute time, wide limits."""

import hmac
import time
from collections.abc import Callable

import pytest

from bench.traffic import Stream, Watch, forged

ADVERTS = 500
ATTEMPTS = 7
PER_DIGEST = 13
"""Decoding, verifying and judging an advert take 4 times as long as one HMAC over it by the standard library."""
PER_GROUP = 6
"""A group among 200 takes up to 2 times as long as one among 4, with colder caches; a quadratic growth would be 50."""

pytestmark = pytest.mark.timing


def fastest_s(work: Callable[[], object]) -> float:
    """Processor time of the best of some attempts: the others were disturbed."""
    times = []
    for _ in range(ATTEMPTS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def digests(frames: list[bytes]) -> None:
    """The reference."""
    for frame in frames:
        hmac.digest(b"k" * 32, frame, "sha256")


def test_an_advert_costs_a_few_digests() -> None:
    stream = Stream()
    batches = [stream.frames(ADVERTS) for _ in range(ATTEMPTS)]
    reference_s = fastest_s(lambda: digests(batches[0]))
    waiting = iter(batches)
    assert fastest_s(lambda: stream.believe(next(waiting))) < PER_DIGEST * reference_s


def test_a_forged_advert_costs_no_more_than_a_right_one() -> None:
    stream = Stream()
    frames = forged(stream.frames(ADVERTS))
    reference_s = fastest_s(lambda: digests(frames))
    assert stream.refuse(frames) == ADVERTS
    assert fastest_s(lambda: stream.refuse(frames)) < PER_DIGEST * reference_s


def test_many_groups_cost_many_times_one() -> None:
    few, many = Watch(4), Watch(200)

    def few_often() -> None:
        for _ in range(50):
            few.hear(few.tick())

    one_of_few_s = fastest_s(few_often) / 200
    one_of_many_s = fastest_s(lambda: many.hear(many.tick())) / 200
    assert few.steady()
    assert many.steady()
    assert one_of_many_s < PER_GROUP * one_of_few_s
