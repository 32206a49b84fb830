"""A Strict member that meets what it does not expect: another master, strangers, recordings, twins, and changes under way."""

from dataclasses import replace

import pytest

from carp_protocol.config import Authentication, PeerMode, Peers
from carp_protocol.effects import IdentityChanged, SplitBrain, State
from carp_protocol.packet import decode_untrusted
from simulation.members import STRICT_KEY, Member, cluster, parse, run_together, talk

# ---- two masters ----------------------------------------------------------------------------------------------


def apart_for(seconds: float) -> list[Member]:
    """Two masters who did not hear each other for a while, and know each other from before."""
    members = cluster(0, 100)
    for member in members:
        member.advance(seconds)
    assert [member.state() for member in members] == [State.MASTER] * 2
    for member in members:
        member.effects()
        member.packets()
    return members


def test_when_two_masters_meet_the_worse_goes_and_both_say_so() -> None:
    members = apart_for(20)
    run_together(members, 1.5)
    assert [member.state() for member in members] == [State.MASTER, State.BACKUP]
    assert SplitBrain("10.0.0.2", won=True) in members[0].effects() or SplitBrain("10.0.0.1", won=False) in members[1].effects()


def test_a_race_is_not_called_a_split_brain() -> None:
    members = [Member.make(number, advskew=advskew).start() for number, advskew in ((1, 0), (2, 100))]
    for member in members:
        member.advance(0.15)
        assert member.state() is State.MASTER
        member.effects()
        member.engine._advertise(member.now)
    run_together(members, 0.1)
    assert [member.state() for member in members] == [State.MASTER, State.BACKUP]
    assert not [effect for member in members for effect in member.effects() if isinstance(effect, SplitBrain)]


# ---- strangers, replays, twins --------------------------------------------------------------------------------


def test_a_stranger_is_asked_before_it_is_followed() -> None:
    (master,) = cluster(0)
    advert = master.advance(1.0)[-1][1]
    backup = Member.make(2, advskew=100)
    backup.now = master.now
    backup.start()
    backup.packets()
    backup.effects()
    backup.hear(advert, 1)
    assert backup.engine.master is None
    assert backup.rejections() == ["unverified"]
    (question,) = backup.packets()
    assert parse(question)[1].peer_id == 1
    master.hear(question, 2)
    talk(master, backup)
    assert backup.engine.master is not None


def test_a_recording_is_asked_about_within_a_budget_and_changes_nothing() -> None:
    one, other = cluster(0, 100)
    recorded = [packet for _, packet in one.advance(5)]
    for packet in recorded:
        other.hear(packet, 1)
    other.effects()
    dead_at, master, peers = other.engine._dead_at, other.engine.master, dict(other.engine.strict.peers)  # type: ignore[union-attr]
    for _ in range(200):
        other.hear(recorded[0], 1)
    assert (other.engine._dead_at, other.engine.master) == (dead_at, master)
    assert dict(other.engine.strict.peers) == peers  # type: ignore[union-attr]
    assert len(other.packets()) <= 5
    assert set(other.rejections()) == {"replay"}


def test_a_network_that_doubles_every_packet_causes_no_questions() -> None:
    one, other = cluster(0, 100)
    for _, packet in one.advance(5):
        other.hear(packet, 1)
        other.hear(packet, 1)
    assert other.packets() == []
    assert set(other.rejections()) == {"replay"}


def test_replays_do_not_keep_a_dead_master_alive() -> None:
    one, other = cluster(0, 100)
    recorded = [packet for _, packet in one.advance(3)]
    for packet in recorded:
        other.hear(packet, 1)
    died_at = other.now
    while other.state() is State.BACKUP and other.now < died_at + 10:
        other.hear(recorded[0], 1)
        other.advance(0.1)
    assert other.state() is State.MASTER
    assert other.now - died_at < 3.391 + 0.1 + 0.15


def test_doubt_puts_a_takeover_off_once_and_keeps_the_ranks_apart() -> None:
    members = cluster(0, 16, 32)
    recorded = [packet for _, packet in members[0].advance(2)]
    for member in members[1:]:
        for packet in recorded:
            member.hear(packet, 1)
        member.effects()
        member.packets()
    members[0].engine.handover(members[0].now)
    bow_out = members[0].packets()[-1]
    plans = []
    for member in members[1:]:
        member.hear(bow_out, 1)
        for _ in range(5):
            member.hear(recorded[0], 1)
        assert member.engine._takeover is not None
        plans.append(member.engine._takeover.at - member.now)
    assert plans == pytest.approx([0.02 + 16 * 0.128 / 256, 0.02 + 32 * 0.128 / 256])


def test_doubt_puts_the_dead_time_off_once_and_by_little() -> None:
    one, other = cluster(0, 16, suspicion=False)
    recorded = [packet for _, packet in one.advance(2)]
    for packet in recorded:
        other.hear(packet, 1)
    due = other.engine.next_timer()
    assert due is not None
    other.advance(due - 0.001 - other.now)
    for _ in range(5):
        other.hear(recorded[0], 1)
    assert other.engine.next_timer() == pytest.approx(due - 0.001 + 0.02 + 16 * 0.128 / 256)
    other.advance(0.03)
    assert other.state() is State.MASTER


def test_whoever_lost_its_state_catches_up_and_tells_the_shell() -> None:
    one, other = cluster(0, 100)
    one.engine.strict.counter.jump_past(5 << 32)  # type: ignore[union-attr]
    run_together([one, other], 3)
    returned = Member.make(1, epoch=1)
    returned.now = other.now
    returned.start()
    talk(other, returned)
    assert IdentityChanged(7, twin=False) in returned.effects()
    run_together([other, returned], 5)
    assert {member.state() for member in (other, returned)} == {State.MASTER, State.BACKUP}


def test_a_master_that_lost_its_state_is_told_by_its_backup() -> None:
    one, other = cluster(0, 100)
    one.engine.strict.counter.jump_past(5 << 32)  # type: ignore[union-attr]
    run_together([one, other], 3)
    returned = Member.make(1, epoch=1)
    returned.now = other.now
    returned.start()
    returned.packets()
    returned.advance(0.065)
    assert returned.state() is State.MASTER, "nobody heard it ask"
    other.effects()
    run_together([returned, other], 1.0)
    assert returned.engine.strict.counter.epoch == 7  # type: ignore[union-attr]
    run_together([returned, other], 5)
    assert (returned.state(), other.state()) == (State.MASTER, State.BACKUP)


def test_of_two_clones_one_takes_another_id_and_both_go_on() -> None:
    one = Member.make(1).become_master()
    clone = Member(Member.make(1, advskew=100, epoch=3).engine, number=2, now=one.now).start()
    run_together([one, clone], 5)
    ids = {member.engine.strict.sender_id for member in (one, clone)}  # type: ignore[union-attr]
    assert len(ids) == 2
    assert sorted(member.state().value for member in (one, clone)) == ["BACKUP", "MASTER"]
    changed = [effect for member in (one, clone) for effect in member.effects() if isinstance(effect, IdentityChanged)]
    assert changed
    assert changed[0].twin


def test_an_echo_never_ends_a_master() -> None:
    member = Member.make(advskew=100).become_master()
    for _, packet in member.advance(5):
        member.hear(packet, 1, own_address=True)
        member.hear(packet, 7)
    assert set(member.rejections()) == {"echo"}
    assert member.state() is State.MASTER


def test_a_ttl_below_255_is_from_elsewhere_unless_peers_are_named() -> None:
    one, other = cluster(0, 100)
    advert = one.advance(1)[-1][1]
    other.hear(advert, 1, ttl=64)
    assert other.rejections() == ["ttl"]
    other.engine.reconfigure(replace(other.engine.config, peers=Peers(mode=PeerMode.UNICAST, addresses=("10.0.0.1",))), other.now)
    other.hear(advert, 1, ttl=64)
    assert other.rejections() == []


# ---- changes while it runs ------------------------------------------------------------------------------------


def test_keys_rotate_while_it_runs() -> None:
    one, other = cluster(0, 100)
    new = bytes(32)
    for step in (
        Authentication(key=STRICT_KEY, accept=(new,)),
        Authentication(key=new, accept=(STRICT_KEY,)),
        Authentication(key=new),
    ):
        for member in (one, other):
            member.engine.reconfigure(replace(member.engine.config, authentication=step), member.now)
            run_together([one, other], 5)
            assert (one.state(), other.state()) == (State.MASTER, State.BACKUP)
            assert member.rejections() == []


def test_a_backup_waits_as_long_as_the_master_says() -> None:
    one, other = cluster(0, 0)
    one.engine.reconfigure(replace(one.engine.config, advertisement_interval_s=10.0), one.now)
    talk(one, other)
    other.engine._suspicion = None
    other.advance(31.2)
    assert other.state() is State.BACKUP
    other.advance(0.1)
    assert other.state() is State.MASTER


def test_every_advert_says_what_is_configured() -> None:
    member = Member.make(advertisement_interval_s=0.25, demotion=7, advskew=16).become_master()
    assert member.engine.strict is not None
    member.engine.strict.generation = 12
    header, extension = parse(member.advance(1)[-1][1])
    assert (header.advbase, header.advskew, header.demotion) == (1, 16, 7)
    assert (extension.interval_ms, extension.generation) == (250, 12)
    assert extension.master_for_ms > 4000
    assert decode_untrusted(member.engine.farewell()).is_bow_out
