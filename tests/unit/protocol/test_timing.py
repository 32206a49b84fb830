"""Every duration of protocol.md 3.2, in three dialects."""

import pytest

from carp_protocol.config import Authentication, Dialect, GroupConfig, Mode
from carp_protocol.election import Standing
from carp_protocol.timing import HANDOVER_LIMIT_S, timing_of, widest_rank_delay_s
from simulation.members import make_config


def config(dialect: Dialect | None, interval_s: float, advskew: int) -> GroupConfig:
    """None: Strict."""
    mode = Mode.COMPATIBLE if dialect else Mode.STRICT
    authentication = Authentication(mode=mode, key=b"k", dialect=dialect or Dialect.COMMON)
    return make_config(mode, authentication=authentication, advertisement_interval_s=interval_s, advskew=advskew)


COMMON, OPENBSD, STRICT = Dialect.COMMON, Dialect.OPENBSD, None


@pytest.mark.parametrize(
    "dialect, interval_s, advskew, dead_s",
    [
        (COMMON, 1, 0, 3.000), (COMMON, 1, 100, 3.391), (COMMON, 1, 254, 3.992), (COMMON, 2, 100, 6.391), (COMMON, 255, 254, 765.992),
        (OPENBSD, 1, 0, 3.000), (OPENBSD, 1, 100, 4.172), (OPENBSD, 1, 254, 5.977), (OPENBSD, 2, 100, 7.172),
        (STRICT, 1, 0, 3.125), (STRICT, 1, 100, 3.516), (STRICT, 0.1, 100, 0.3516), (STRICT, 2, 100, 7.031),
    ],
)  # fmt: skip
def test_dead_time(dialect: Dialect | None, interval_s: float, advskew: int, dead_s: float) -> None:
    assert timing_of(config(dialect, interval_s, advskew)).dead_time_s(interval_s) == pytest.approx(dead_s, abs=6e-4)


@pytest.mark.parametrize(
    "dialect, interval_s, sent_advskew, interval_of_adverts_s",
    [
        (COMMON, 1, 0, 1.0), (COMMON, 1, 100, 1.390625), (COMMON, 10, 240, 10.9375), (COMMON, 1, 240, 1.9375),
        (OPENBSD, 1, 100, 1.390625), (OPENBSD, 10, 240, 10.9375),
        (STRICT, 1, 100, 1.0), (STRICT, 0.1, 100, 0.1), (STRICT, 10, 128, 10.0),
    ],
)  # fmt: skip
def test_advert_interval(dialect: Dialect | None, interval_s: float, sent_advskew: int, interval_of_adverts_s: float) -> None:
    assert timing_of(config(dialect, interval_s, 0)).advert_interval_s(sent_advskew) == pytest.approx(interval_of_adverts_s)


@pytest.mark.parametrize("interval_s", [0.01, 0.1, 0.2, 1.0, 60.0])
@pytest.mark.parametrize("advskew", [0, 1, 16, 100])
def test_strict_groups_speak_on_one_beat_never_late(interval_s: float, advskew: int) -> None:
    timing = timing_of(config(STRICT, interval_s, advskew))
    wanted_s = timing.advert_interval_s(advskew)
    due, beats = 0.0, set()
    for step in range(100):
        now = 12345.678 + step * interval_s / 100
        due = timing.next_advert_at(advskew, now)
        assert now + wanted_s - interval_s / 64 < due + 1e-9
        assert due <= now + wanted_s + 1e-6
        beats.add(round(due, 9))
    assert 60 <= len(beats) <= 66
    assert timing.next_advert_at(advskew, due + interval_s / 1000) == pytest.approx(due + wanted_s, abs=interval_s / 64)


@pytest.mark.parametrize("dialect", [COMMON, OPENBSD])
def test_carp_4_keeps_its_own_time(dialect: Dialect) -> None:
    assert timing_of(config(dialect, 1, 1)).next_advert_at(1, 12345.678) == pytest.approx(12345.678 + 1 + 1 / 256)


def test_the_dead_time_follows_the_interval_of_the_master() -> None:
    assert timing_of(config(STRICT, 0.1, 128)).dead_time_s(2.0) == pytest.approx(2 * 3.625)
    assert timing_of(config(COMMON, 1, 128)).dead_time_s(2.0) == pytest.approx(6.5)


@pytest.mark.parametrize("interval_s", [0.01, 0.1, 1.0, 60.0])
@pytest.mark.parametrize("dialect", [STRICT, COMMON, OPENBSD])
def test_a_master_steps_down_before_the_best_backup_acts(dialect: Dialect | None, interval_s: float) -> None:
    best = timing_of(config(dialect, interval_s, 0))
    slowest = timing_of(config(dialect, interval_s, 254))
    assert slowest.advert_interval_s(254) < slowest.stall_limit_s < best.dead_time_s(interval_s) or interval_s < 1


@pytest.mark.parametrize("interval_s", [0.01, 0.1, 1.0, 60.0])
def test_ranks_follow_the_standing_and_the_demoted_come_last(interval_s: float) -> None:
    timing = timing_of(config(STRICT, interval_s, 0))
    standings = [Standing(1, skew, demotion) for demotion in (0, 1, 128, 254) for skew in (0, 1, 100, 254)]
    delays = [timing.rank_delay_s(standing) for standing in standings]
    assert delays == sorted(set(delays))
    assert delays[0] == 0
    undemoted = [timing.rank_delay_s(standing) for standing in standings if not standing.demotion]
    assert max(undemoted) < widest_rank_delay_s(interval_s) <= 0.128
    assert max(delays) < 2 * widest_rank_delay_s(interval_s) < HANDOVER_LIMIT_S
