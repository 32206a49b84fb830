"""Promises with numbers, each on many seeds: who succeeds, how soon, and for how long two masters can exist.

Two masters: between the successor's first advert and its arrival, one network delay, and, where the old master does not
know the successor yet, two more for a question and its answer. Compatible asks nobody.
"""

from typing import Any

import pytest

from carp_operator.plan.ranks import rank_members
from carp_protocol.config import Authentication, Mode, Preemption
from carp_protocol.effects import Reason, State, StateChanged
from carp_protocol.heard import Kind
from carp_protocol.suspicion import Evidence
from carp_protocol.timing import HANDOVER_LIMIT_S, SOLICIT_COUNT, SOLICIT_SPACING_S
from simulation.members import STRICT_KEY, make_config, parse
from simulation.network import Weather
from simulation.world import World, settle_limit_s

SEEDS = range(8)
FEW_SEEDS = range(2)
"""For what takes a second each."""
BOTH = pytest.mark.parametrize("mode", Mode)
STEP = 16
"""Between ranks: what the operator leaves."""
LAN = Weather()
START_S = SOLICIT_COUNT * SOLICIT_SPACING_S


def make_world(seed: int, members: int = 3, mode: Mode = Mode.STRICT, **fields: Any) -> World:
    return World([make_config(mode, advskew=STEP * number, **fields) for number in range(members)], seed, LAN)


def settled(seed: int, members: int = 3, mode: Mode = Mode.STRICT, **fields: Any) -> World:
    """The best is master, everybody knows everybody, and the first adverts have been sent."""
    world = make_world(seed, members, mode, **fields)
    world.boot()
    interval_s = world.hosts[1].config.advertisement_interval_s
    world.run(6 * interval_s)
    assert world.masters() == [1]
    return world


def reasons(world: World, number: int) -> list[Reason]:
    return [effect.reason for _, effect in world.hosts[number].effects if isinstance(effect, StateChanged)]


@pytest.mark.parametrize("seed", SEEDS)
@BOTH
def test_all_start_together(mode: Mode, seed: int) -> None:
    world = make_world(seed, 4, mode)
    world.boot()
    world.run(4)
    assert world.masters() == [1]
    assert world.overlaps == []
    assert world.longest_gap_s() < (START_S + 0.002 if mode is Mode.STRICT else 3.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_starting_one_after_the_other_makes_no_second_master(seed: int) -> None:
    world = make_world(seed, 4)
    for number in (4, 2, 3, 1):
        world.boot(number)
        world.run(0.2 + seed / 7)
    world.run(5)
    assert world.masters() == [4]
    assert world.overlaps == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("interval_s", [0.01, 0.1, 1.0])
def test_a_dead_host_is_succeeded_by_the_best_before_half_the_dead_time(interval_s: float, seed: int) -> None:
    world = settled(seed, advertisement_interval_s=interval_s)
    world.run(seed * interval_s / 10)
    world.crash(1)
    died_at = world.now
    world.run(5 * interval_s)
    assert world.masters() == [2]
    assert world.overlaps == []
    assert reasons(world, 2)[-1] is Reason.MASTER_HOST_DEAD or interval_s == 0.01
    assert world.longest_gap_s(died_at) <= (1.5 * interval_s if interval_s >= 0.1 else 3.5 * interval_s)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dead_process_is_succeeded_sooner(seed: int) -> None:
    world = settled(seed)
    world.crash(1, host=False)
    died_at = world.now
    world.run(5)
    assert world.masters() == [2]
    assert reasons(world, 2)[-1] is Reason.MASTER_PROCESS_DEAD
    assert world.longest_gap_s(died_at) <= 1.2


@pytest.mark.parametrize("seed", SEEDS)
@BOTH
def test_the_successor_after_a_handover_is_the_best_that_lives(mode: Mode, seed: int) -> None:
    world = settled(seed, 5, mode)
    world.crash(2)
    world.do(1, lambda engine, now: engine.handover(now))
    handed_at = world.now
    world.run(0.2)
    assert world.masters() == [3]
    assert world.hosts[1].state is State.BACKUP
    assert world.longest_gap_s(handed_at) <= 2 * STEP * 0.128 / 256 + LAN.worst_delay_s
    assert world.overlaps == []


@pytest.mark.parametrize("seed", SEEDS)
def test_no_client_is_left_alone_during_a_handover(seed: int) -> None:
    """Somebody holds the addresses at every instant: make before break."""
    world = settled(seed, 3)
    world.do(1, lambda engine, now: engine.close(now))
    for _ in range(300):
        assert any(host.holds for host in world.hosts.values())
        world.run(0.001)
    assert world.engine(1).closed
    assert world.masters() == [2]


@pytest.mark.parametrize("seed", SEEDS)
@BOTH
def test_two_masters_last_no_longer_than_one_delay_when_one_preempts(mode: Mode, seed: int) -> None:
    world = make_world(seed, 3, mode, preemption=Preemption(enabled=True))
    world.boot(3)
    world.run(5)
    world.boot(2)
    world.run(5)
    world.boot(1)
    world.run(5)
    assert world.masters() == [1]
    assert world.overlaps
    assert world.longest_overlap_s() <= (3 if mode is Mode.STRICT else 1) * LAN.worst_delay_s


@pytest.mark.parametrize("seed", SEEDS)
@BOTH
def test_a_partition_makes_two_masters_and_healing_one(mode: Mode, seed: int) -> None:
    world = settled(seed, 4, mode)
    world.network.partition({1, 3}, {2, 4})
    world.run(5)
    assert world.masters() == [1, 2]
    world.network.heal()
    healed_at = world.now
    world.run(2)
    assert world.masters() == [1]
    assert max(end for _, end in world.overlaps) - healed_at <= 1 + STEP / 256 + 3 * LAN.worst_delay_s


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lost", [False, True])
def test_masters_who_never_met_settle_as_well(lost: bool, seed: int) -> None:
    """Strangers to each other, perhaps with counters from long ago."""
    world = make_world(seed, 3)
    world.network.partition({1}, {2}, {3})
    world.boot(lost=lost)
    world.run(3)
    assert len(world.masters()) == 3
    world.network.heal()
    world.run(settle_limit_s(1.0))
    assert world.masters() == [1]


@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_back_from_an_old_backup_of_the_state(seed: int) -> None:
    world = settled(seed, 4)
    for number in world.hosts:
        for _ in range(3):
            world.boot(number)
            world.run(0.5)
    for number in (1, 3):
        world.boot(number, rolled_back=True)
    world.run(settle_limit_s(1.0))
    assert len(world.masters()) == 1
    before = len(world.overlaps)
    world.run(5)
    assert len(world.overlaps) == before


@pytest.mark.parametrize("seed", SEEDS)
@BOTH
def test_a_stalled_master_wakes_up_silent(mode: Mode, seed: int) -> None:
    world = settled(seed, 3, mode)
    world.stall(1)
    world.run(20)
    (successor,) = world.masters()
    spoken = claims_of(world, 1, mode)
    world.wake(1)
    assert world.hosts[1].state is State.BACKUP
    assert not world.hosts[1].holds
    assert claims_of(world, 1, mode) == spoken, "it may ask who is master, but not say that it is"
    world.run(3)
    assert world.masters() == [successor]


def claims_of(world: World, number: int, mode: Mode) -> int:
    """How many adverts a host has sent."""
    sent = [packet for sender, packet in world.network.recorded if sender == number]
    return len([packet for packet in sent if mode is Mode.COMPATIBLE or parse(packet)[1].kind is Kind.ADVERT])


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_random_loss_moves_nothing_where_the_dead_time_is_patient(seed: int) -> None:
    """A third of all packets is lost: a false failover is rare, and always repaired."""
    world = settled(seed, 3)
    world.set_weather(loss=0.1)
    world.run(100)
    assert len(reasons(world, 1)) + len(reasons(world, 2)) <= 8
    world.network.heal()
    world.run(settle_limit_s(1.0))
    assert len(world.masters()) == 1


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_two_compatible_masters_of_equal_rank_part(seed: int) -> None:
    """carp(4) has no tie-break (protocol.md 3.4): several rounds may pass, but it ends."""
    world = World([make_config(Mode.COMPATIBLE, advskew=7) for _ in range(3)], seed)
    world.boot()
    world.run(60)
    assert len(world.masters()) == 1
    assert max((end for _, end in world.overlaps), default=0) < world.now - 20


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_a_storm_of_recordings_moves_no_election_and_keeps_nobody_out(seed: int) -> None:
    """Everything ever said is sent again, 5000 packets a second, while a member dies and one starts."""
    world = settled(seed, 4)
    for number in (1, 2):
        world.do(number, lambda engine, now: engine.handover(now))
        world.run(2)
    world.boot(4)
    world.run(2)
    (master,) = world.masters()
    recorded = list(world.network.recorded)
    world.crash(4)
    for second in range(30):
        if second == 10:
            world.boot(4)
        for burst in range(10):
            for number in range(50):
                sender, packet = recorded[(second * 500 + burst * 50 + number) % len(recorded)]
                world.inject(packet, sender)
            world.run(0.01)
        assert world.masters() == [master], f"after {second} rounds"
    world.crash(master)
    died_at = world.now
    for burst in range(50):
        for number in range(50):
            sender, packet = recorded[(burst * 50 + number) % len(recorded)]
            world.inject(packet, sender)
        world.run(0.1)
    assert len(world.masters()) == 1
    assert world.longest_gap_s(died_at) < 4.2


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_a_start_amid_a_storm_of_its_own_recordings(seed: int) -> None:
    """The hardest of replays: the questions that a member asked in its former life, while it asks again."""
    world = settled(seed, 2)
    world.crash(2)
    questions = [packet for sender, packet in world.network.recorded if sender == 2]
    assert questions
    for _ in range(100):
        for packet in questions * 5:
            world.inject(packet, 2)
        world.run(0.001)
    world.boot(2)
    for _ in range(4000):
        for packet in questions * 2:
            world.inject(packet, 2)
        world.run(0.001)
    assert world.masters() == [1]
    assert world.overlaps == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_that_doubles_packets_costs_no_questions(seed: int) -> None:
    world = settled(seed, 4)
    world.set_weather(duplication=1.0)
    world.run(1)
    said = len(world.network.recorded)
    world.run(20)
    assert len(world.network.recorded) - said <= 21


@pytest.mark.parametrize("seed", FEW_SEEDS)
@pytest.mark.parametrize("members", [2, 4, 8, 16])
def test_getting_acquainted_is_no_storm(members: int, seed: int) -> None:
    """Ten packets for each pair when all start at once; a newcomer costs each member a few."""
    world = World([make_config(advskew=8 * number) for number in range(members)], seed, Weather(jitter_s=0.0))
    world.boot()
    world.run(1)
    assert len(world.network.recorded) <= 5 * members**2
    world.run(5)
    said = len(world.network.recorded)
    world.boot(members, lost=True)
    world.run(1)
    assert len(world.network.recorded) - said <= 5 * members + 5
    assert world.masters() == [1]


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_a_large_group_that_starts_at_once_is_no_storm(seed: int) -> None:
    """Beyond 16 members packets grow with the members, not with the pairs: each asks 16 others and the first eight."""
    members = 28
    ranks = rank_members("web", map(str, range(members)), {})
    world = World([make_config(advskew=advskew) for advskew in ranks.values()], seed, LAN)
    world.boot()
    world.run(1)
    assert len(world.network.recorded) <= members * (SOLICIT_COUNT + 3 * 24) + 10
    assert world.masters() == [1]
    for number in world.hosts:
        codec = world.engine(number).strict
        assert codec
        known = {peer.source for peer in codec.peers.values()}
        assert {f"10.0.0.{heir}" for heir in range(1, 9)} - {f"10.0.0.{number}"} <= known, "who succeeds is believed at once"


@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_a_successor_that_nobody_knows_is_no_storm(seed: int) -> None:
    """Each of the others asks it once, or twice where the answer takes long, although it hears the answers to all others."""
    members = 24
    world = World([make_config(advskew=10 * number) for number in range(members)], seed, LAN)
    world.boot(1)
    world.run(1)
    for number in range(2, members + 1):
        world.boot(number)
        world.run(0.1)
    for number in range(2, members + 1):
        codec = world.engine(number).strict
        assert codec
        codec.peers = {peer_id: peer for peer_id, peer in codec.peers.items() if peer.source == "10.0.0.1"}
    world.run(3)
    world.crash(1)
    said = len(world.network.recorded)
    world.run(1.9)
    assert world.masters() == [2]
    assert len(world.network.recorded) - said <= 4 * members


@pytest.mark.parametrize("place", [1, 2, 3])
@pytest.mark.parametrize("seed", FEW_SEEDS)
def test_two_lost_adverts_move_nobody_whatever_the_rank_of_the_master(place: int, seed: int) -> None:
    """The best is not always the master: without preemption it is whoever came first."""
    world = World([make_config(advskew=80 * number, suspicion=False) for number in range(4)], seed, LAN)
    world.boot(place + 1)
    world.run(2)
    world.boot(*(number for number in world.hosts if number != place + 1))
    world.run(5)
    assert world.masters() == [place + 1]
    heard, master = len(world.network.recorded), place + 1
    world.network.partition({master}, set(world.hosts) - {master})
    world.run_until(lambda: len(world.network.recorded) >= heard + 2, limit_s=5)
    world.network.heal()
    world.run(3)
    assert world.masters() == [master]


@pytest.mark.parametrize("interval_s", [0.1, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_three_lost_adverts_move_nobody_while_the_master_answers(seed: int, interval_s: float) -> None:
    """A backup that has missed two and knows that the master lives asks it for another."""
    world = settled(seed, 3, advertisement_interval_s=interval_s)
    said = len(world.network.recorded)
    world.run_until(lambda: len(world.network.recorded) > said, limit_s=2 * interval_s, step_s=0.001)
    world.run(0.95 * interval_s)
    for _ in range(3):
        world.network.cut = {(1, 2), (1, 3)}
        world.run(0.1 * interval_s)
        world.network.heal()
        world.run(0.9 * interval_s)
    assert world.masters() == [1]
    assert world.overlaps == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_one_way_link_ends_with_the_cut(seed: int) -> None:
    world = settled(seed, 2)
    world.network.cut.add((1, 2))
    world.run(10)
    assert world.masters() == [1, 2], "nobody can do better: 2 hears nothing, and 1 is the better one"
    world.network.heal()
    world.run(2)
    assert world.masters() == [1]


def test_an_interval_that_changes_under_way() -> None:
    world = settled(1, 3)
    for interval_s in (0.1, 2.0, 1.0):
        for number in world.hosts:
            world.reconfigure(number, advertisement_interval_s=interval_s)
            world.run(1.3)
    assert world.masters() == [1]
    assert world.overlaps == []


def test_a_key_that_changes_under_way() -> None:
    world = settled(1, 3)
    new = bytes(32)
    for step in (
        Authentication(key=STRICT_KEY, accept=(new,)),
        Authentication(key=new, accept=(STRICT_KEY,)),
        Authentication(key=new),
    ):
        for number in world.hosts:
            world.reconfigure(number, authentication=step)
            world.run(3.7)
    assert world.masters() == [1]
    assert world.overlaps == []


def test_evidence_that_comes_late_moves_nobody() -> None:
    world = settled(2, 2)
    world.do(2, lambda engine, now: engine.receive_evidence(Evidence.PORT_UNREACHABLE, "10.0.0.1", now))
    world.run(HANDOVER_LIMIT_S)
    assert world.masters() == [1]
