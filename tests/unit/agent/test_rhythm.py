"""When the sidecar is asked: soon after a change, seldom without one, and less when it is dear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_agent.rhythm import Limiter, Rhythm


def answered(took_s: float = 0.002) -> Rhythm:
    """One that has its first status, at time 100."""
    rhythm = Rhythm(Limiter())
    rhythm.answered(100.0, took_s)
    return rhythm


def test_limiter() -> None:
    limiter = Limiter(burst=3.0, every_s=1.0)
    assert [limiter.take(100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limiter.take(100.25) == pytest.approx(0.75)
    assert limiter.take(101.0) == 0.0
    assert limiter.take(101.0) == pytest.approx(1.0)
    assert [limiter.take(200.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limiter.take(200.0) > 0


def test_without_a_change_seldom() -> None:
    assert answered().wait_s(101.0) == pytest.approx(9.0)
    assert answered().wait_s(110.0) == 0.0
    assert answered(took_s=0.04).wait_s(100.0) == pytest.approx(20.0)
    assert answered(took_s=1.0).wait_s(100.0) == pytest.approx(30.0)


def test_after_a_change_at_once_and_once_more() -> None:
    rhythm = answered()
    rhythm.changed(101.0)
    assert rhythm.wait_s(101.0) == pytest.approx(0.002)
    assert rhythm.wait_s(101.002) == 0.0
    rhythm.answered(101.004, 0.002)
    assert rhythm.wait_s(101.004) == pytest.approx(0.5)
    assert rhythm.wait_s(101.504) == 0.0
    rhythm.answered(101.506, 0.002)
    assert rhythm.wait_s(101.506) == pytest.approx(10.0)


def test_a_burst_is_left_to_end_when_a_status_is_dear() -> None:
    rhythm = answered(took_s=0.06)
    for number in range(4):
        rhythm.changed(101.0 + number / 100)
    assert rhythm.wait_s(101.03) == pytest.approx(0.05)
    for number in range(4, 40):
        rhythm.changed(101.0 + number / 100)
    assert rhythm.wait_s(101.24) == pytest.approx(0.01)
    assert rhythm.wait_s(101.25) == 0.0, "but not for ever"


@given(st.lists(st.floats(0.0, 0.3), min_size=50, max_size=200), st.floats(0.0, 0.1))
def test_never_more_than_the_limit_and_never_a_change_untold(gaps: list[float], took_s: float) -> None:
    rhythm, now, asked = answered(took_s), 100.0, 0
    told = True
    for gap in gaps:
        now += gap
        rhythm.changed(now)
        told = False
        if rhythm.wait_s(now) == 0.0:
            rhythm.answered(now, took_s)
            asked, told = asked + 1, True
    assert asked <= 3 + (now - 100.0) + 1
    if not told:
        wait_s = rhythm.wait_s(now)
        assert wait_s <= 1.0
        assert rhythm.wait_s(now + wait_s + 1e-6) == 0.0 or rhythm.wait_s(now + 1.0 + 1e-6) == 0.0
