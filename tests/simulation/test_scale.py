"""What many hosts with many groups do together: the simulation of docs/bench/simulation.md, small."""

from dataclasses import replace

import pytest

from bench.loss import false_per_advert
from bench.segment import LAN
from bench.simulation import living_master, power_cut


@pytest.mark.parametrize("seed", [0, 1])
def test_every_group_changes_its_master_once_when_half_of_the_hosts_die(seed: int) -> None:
    cut = power_cut(60, 0.2, seed, nodes=40)
    assert cut["orphans"] > 15
    assert cut["takeovers"] == cut["orphans"]
    assert cut["one_master"] == 60
    assert cut["with_two_ms"]["worst"] == 0
    assert cut["cut_peak"] < 60, "no storm"


@pytest.mark.parametrize("suspicion", [False, True])
def test_the_formula_of_false_failovers_is_right_where_they_are_frequent(suspicion: bool) -> None:
    seen = living_master(0.2, replace(LAN, loss=0.2), 30_000, suspicion=suspicion)["per_advert"]
    assert seen == pytest.approx(false_per_advert(0.2, suspicion=suspicion), rel=0.25)
