"""What a soak says of figures that grow, that jump about, and that stand still."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from bench.soak_page import page, picture, slope_of, slopes
from bench.soak_samples import KERNEL, PROCESS

HOURS = [number / 100 for number in range(100)]


def walk(seed: int, growth: float, stick: float = 0.0, hours: Sequence[float] = HOURS) -> list[float]:
    """A figure around 30 000 that grows by so much an hour, with noise that sticks."""
    dice, noise, values = random.Random(seed), 0.0, []
    for hour in hours:
        noise = stick * noise + dice.gauss(0, 40)
        values.append(30_000 + growth * hour + noise)
    return values


@pytest.mark.parametrize("seed", range(20))
def test_growth_is_found_and_lies_within_its_bound(seed: int) -> None:
    slope, bound = slope_of(HOURS, walk(seed, 1000))
    assert slope - bound > 0
    assert slope == pytest.approx(1000, abs=2 * bound)


@pytest.mark.parametrize("samples, stick", [(100, 0.0), (100, 0.8), (900, 0.97), (900, 0.99)])
def test_what_only_jumps_about_grows_in_few_of_many_runs(samples: int, stick: float) -> None:
    """Two and a half of a hundred are expected to look as if they grew, also when noise sticks, and however often it is looked at."""
    hours = [number / samples for number in range(samples)]
    grown = [slope - bound > 0 for slope, bound in (slope_of(hours, walk(seed, 0, stick, hours)) for seed in range(200))]
    assert sum(grown) <= 14


def test_what_stands_still_has_no_slope() -> None:
    assert slope_of(HOURS, [5.0] * len(HOURS)) == (0.0, 0.0)


def document(**figures: Any) -> dict[str, Any]:
    samples = [dict.fromkeys((*PROCESS, *KERNEL), 7) | {"at_s": 36.0 * at, "failovers": 10 * at} for at in range(1, 101)]
    for name, values in figures.items():
        for sample, value in zip(samples, values, strict=True):
            sample[name] = value
    return {
        "machine": {"command": "make soak"}, "hosts": 4, "groups": 24, "every_s": 3.0, "seconds": 3600.0,
        "failovers": 1000, "steps": {"SIGKILL": 3}, "unsettled": [], "samples": {"a": samples},
    }  # fmt: skip


def test_the_page_names_what_grew_and_nothing_else() -> None:
    grown = document(fds=range(100), rss_kb=walk(1, 0), log_bytes=range(100))
    assert [one.figure for one in slopes(grown) if not one.flat] == ["fds"]
    said = page(grown)
    assert f"Figures that grew: **a: file descriptors**, of {len(PROCESS) + len(KERNEL)}." in said
    assert "| a | file descriptors | 19 | 99 | 19 | 99 | +100.0 ± 0.0 | **grew** |" in said
    assert "60 minutes, 1000 failovers, 3 faults" in said
    assert "<polyline" in picture(grown)


def test_the_warm_up_is_not_judged() -> None:
    filled = [*range(19), *[20] * 81]
    assert all(one.flat for one in slopes(document(fds=filled)))
    assert not all(one.flat for one in slopes(document(fds=[20 + at // 10 for at in range(100)])))


def test_a_digest_is_equal_or_not() -> None:
    assert [one.figure for one in slopes(document(sysctls=[*[9] * 60, *[3] * 40])) if not one.flat] == ["sysctls"]
