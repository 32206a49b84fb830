"""The plan of a chaos run: a seed makes the same faults every time, and they leave somebody who can answer."""

import pytest

from chaos.plan import FAULTS, Kind, Options, make_round, make_scenery

SEEDS = range(200)


def test_a_seed_makes_the_same_plan_and_another_seed_another() -> None:
    one, again, other = (Options(seed=seed) for seed in (1, 1, 2))
    assert [make_round(one, 4, number) for number in range(20)] == [make_round(again, 4, number) for number in range(20)]
    assert [make_round(one, 4, number) for number in range(20)] != [make_round(other, 4, number) for number in range(20)]


def test_a_round_can_be_repeated_without_those_before_it() -> None:
    rounds = [make_round(Options(seed=5), 3, number) for number in range(10)]
    assert make_round(Options(seed=5), 3, 9) == rounds[9]


def test_every_fault_comes_up_and_scenes_take_turns() -> None:
    words = {strike.word for seed in SEEDS for strike in make_round(Options(seed=seed), 5, 0).strikes}
    assert words == set(FAULTS)
    scenes = [make_scenery(Options(seed=1), number) for number in range(40)]
    assert [scene.virtual_mac for scene in scenes[:4]] == [True, False, True, False]
    assert {scene.hosts for scene in scenes} == {3, 4, 5}


@pytest.mark.parametrize("hosts", [3, 4, 5])
def test_one_host_is_spared_and_no_two_faults_of_a_kind_meet(hosts: int) -> None:
    for seed in SEEDS:
        strikes = make_round(Options(seed=seed), hosts, 0).strikes
        hurt = [(FAULTS[one.word].kind, victim) for one in strikes if FAULTS[one.word].disables for victim in one.victims]
        assert len(hurt) == len(set(hurt))
        assert len({victim for _, victim in hurt}) < hosts
        assert sum(FAULTS[one.word].kind is Kind.LAN for one in strikes) <= 1
        assert sum(FAULTS[one.word].kind is Kind.SETTINGS for one in strikes) <= 1


def test_an_interface_that_is_pulled_out_is_not_at_the_same_time_the_one_that_loses_packets() -> None:
    for seed in range(1000):
        strikes = make_round(Options(seed=seed, words=("unplug", "loss", "delay", "partition")), 3, 0).strikes
        pulled = {victim for one in strikes if one.word == "unplug" for victim in one.victims}
        assert not pulled & {victim for one in strikes if one.word != "unplug" for victim in one.victims}


def test_times_are_within_what_a_fault_may_last() -> None:
    for seed in SEEDS:
        for strike in make_round(Options(seed=seed), 4, 3).strikes:
            fault = FAULTS[strike.word]
            assert fault.shortest_s - 0.001 <= strike.lasts_s <= fault.longest_s + 0.001
