"""A Strict member among its like: start, suspicion, ranks, handover, preemption."""

from dataclasses import replace

import pytest

from carp_protocol.config import Preemption
from carp_protocol.effects import MasterDead, ProbeMaster, Reason, State, StateChanged, TakeAddresses
from carp_protocol.heard import Kind
from carp_protocol.suspicion import Evidence
from simulation.members import Member, cluster, parse, run_together, talk

HOST, PROCESS, REFUSED = Evidence.HOST_ANSWERED, Evidence.PROCESS_ANSWERED, Evidence.PORT_UNREACHABLE


def kinds(packets: list[bytes]) -> list[Kind]:
    return [parse(packet)[1].kind for packet in packets]


# ---- start ----------------------------------------------------------------------------------------------------


def test_a_member_alone_is_master_within_a_tenth_of_a_second() -> None:
    member = Member.make().start()
    first = member.packets()
    sent = member.advance(0.1)
    assert kinds(first + [packet for _, packet in sent]) == [Kind.SOLICIT] * 4 + [Kind.ADVERT] * 2
    assert member.reasons() == [Reason.STARTED, Reason.NOBODY_THERE]


def test_the_first_advert_is_repeated_once_soon() -> None:
    member = Member.make().start()
    sent = [at for at, packet in member.advance(3.0) if parse(packet)[1].kind is Kind.ADVERT]
    assert [round(at - sent[0], 3) for at in sent[:2]] == [0.0, 0.01]
    assert 1.01 - 1 / 64 < sent[2] - sent[0] <= 1.01, "to the beat of the interval"
    assert sent[3] - sent[2] == pytest.approx(1.0)


def test_who_starts_asks_and_a_master_answers_at_once() -> None:
    (master,) = cluster(100)
    late = Member.make(2, advskew=0)
    late.now = master.now
    late.start()
    talk(master, late)
    assert late.engine.master is not None
    assert late.engine.master.source == "10.0.0.1"
    run_together([master, late], 5)
    assert (master.state(), late.state()) == (State.MASTER, State.BACKUP), "no preemption unless asked for"


def test_all_start_together_and_the_best_is_master() -> None:
    members = [Member.make(number, advskew=advskew).start() for number, advskew in ((1, 32), (2, 16), (3, 48))]
    run_together(members, 0.2)
    assert [member.state() for member in members] == [State.BACKUP, State.MASTER, State.BACKUP]
    assert sum(isinstance(effect, TakeAddresses) for member in members for effect in member.effects()) == 1


def test_equals_settle_by_their_ids() -> None:
    members = [Member.make(number, advskew=16).start() for number in (1, 2)]
    run_together(members, 2)
    assert [member.state() for member in members].count(State.MASTER) == 1


def test_priority_zero_asks_nobody_and_never_becomes_master() -> None:
    member = Member.make(advskew=255).start()
    assert member.packets() == []
    assert member.advance(100) == []
    assert member.state() is State.BACKUP
    member.engine.reconfigure(replace(member.engine.config, advskew=0), member.now)
    member.advance(0.1)
    assert member.state() is State.MASTER, "until it may"


def test_news_of_a_master_is_said_twice() -> None:
    """Else a longer interval whose one advert is lost looks like a dead master."""
    one, other = cluster(0, 100, advertisement_interval_s=0.1)
    one.engine.reconfigure(replace(one.engine.config, advertisement_interval_s=10.0), one.now)
    one.packets()
    for at, packet in one.advance(5):
        other.advance(at - other.now)
        other.hear(packet, 1)
    other.advance(1)
    assert other.state() is State.BACKUP
    one.engine.set_demotion("web", 1, one.now)
    assert len(one.packets()) == 1
    assert len(one.advance(0.01)) == 1


# ---- suspicion ------------------------------------------------------------------------------------------------


def watched() -> tuple[Member, Member]:
    """A master that answered everything when it was new, and its backup."""
    master, backup = cluster(0, 100)
    for evidence in (HOST, PROCESS):
        backup.engine.receive_evidence(evidence, "10.0.0.1", backup.now)
    return master, backup


def test_a_new_master_is_asked_once() -> None:
    members = [Member.make(1).start(), Member.make(2, advskew=100).start()]
    run_together(members, 0.5)
    assert ProbeMaster("10.0.0.1") in members[1].effects()


def test_a_dead_host() -> None:
    _, backup = watched()
    started = backup.now
    while backup.state() is State.BACKUP:
        backup.advance(0.005)
    assert backup.now - started < 1.3
    effects = backup.effects()
    assert effects.count(ProbeMaster("10.0.0.1")) == 4
    assert StateChanged(State.BACKUP, State.MASTER, Reason.MASTER_HOST_DEAD) in effects


def test_a_dead_process() -> None:
    _, backup = watched()
    while ProbeMaster("10.0.0.1") not in backup.effects():
        backup.advance(0.005)
    backup.engine.receive_evidence(HOST, "10.0.0.7", backup.now)
    backup.engine.receive_evidence(REFUSED, "10.0.0.7", backup.now)
    backup.engine.receive_evidence(REFUSED, "10.0.0.1", backup.now)
    backup.advance(0.06)
    assert backup.reasons()[-1:] == [Reason.MASTER_PROCESS_DEAD]


def test_a_false_alarm_ends_with_the_advert() -> None:
    master, backup = watched()
    while ProbeMaster("10.0.0.1") not in backup.effects():
        backup.advance(0.005)
    backup.advance(0.041)
    assert backup.engine._takeover is not None
    master.now = backup.now
    master.engine.handle_timer(master.now)
    talk(master, backup)
    backup.advance(0.5)
    assert backup.state() is State.BACKUP


def test_suspicion_can_be_switched_off() -> None:
    members = [Member.make(1).start(), Member.make(2, advskew=100, suspicion=False).start()]
    run_together(members, 3)
    backup = members[1]
    assert [effect for effect in backup.effects() if isinstance(effect, ProbeMaster)] == []
    backup.engine.receive_evidence(HOST, "10.0.0.1", backup.now)
    backup.advance(2.0)
    assert backup.state() is State.BACKUP
    backup.advance(1.5)
    assert backup.reasons() == [Reason.MASTER_TIMED_OUT]


def test_the_death_of_a_master_is_news_for_other_groups_that_followed_it() -> None:
    _, finder = watched()
    while finder.state() is State.BACKUP:
        finder.advance(0.005)
    (dead,) = [effect for effect in finder.effects() if isinstance(effect, MasterDead)]
    assert (dead.source, dead.reason) == ("10.0.0.1", Reason.MASTER_HOST_DEAD)
    _, other_group = watched()
    other_group.engine.hear_of_death(replace(dead, source="10.0.0.7"), other_group.now)
    assert other_group.engine._takeover is None
    other_group.engine.hear_of_death(replace(dead, silent_since=other_group.now - 60), other_group.now)
    assert other_group.engine._takeover is None, "heard since"
    other_group.engine.hear_of_death(dead, other_group.now)
    other_group.advance(0.06)
    assert other_group.state() is State.MASTER
    assert not [effect for effect in other_group.effects() if isinstance(effect, MasterDead)], "hundreds would tell hundreds"


def test_a_takeover_says_when_its_cause_was_noticed() -> None:
    _, backup = watched()
    while backup.engine._takeover is None:
        backup.advance(0.001)
    noticed_at = backup.now
    backup.advance(0.5)
    assert backup.state() is State.MASTER
    assert backup.engine.noticed_at == pytest.approx(noticed_at, abs=0.0011)
    assert backup.engine.since > backup.engine.noticed_at, "the ranks had their turn"


def test_evidence_is_for_backups() -> None:
    master, _ = cluster(0, 100)
    master.engine.receive_evidence(REFUSED, "10.0.0.2", master.now)
    assert master.effects() == []


# ---- succession -----------------------------------------------------------------------------------------------


def test_after_a_bow_out_the_ranks_act_one_after_the_other() -> None:
    members = cluster(0, 100, 16, 200)
    members[0].engine.handover(members[0].now)
    (bow_out,) = members[0].packets()
    for member in members[1:]:
        member.hear(bow_out, 1)
    delays = [member.engine._takeover.at - member.now for member in members[1:] if member.engine._takeover]
    assert delays == pytest.approx([100 * 0.128 / 256, 16 * 0.128 / 256, 200 * 0.128 / 256])
    run_together(members, 0.1)
    assert [member.state() for member in members] == [State.BACKUP, State.BACKUP, State.MASTER, State.BACKUP]


def test_the_demoted_succeed_last() -> None:
    members = cluster(0, 16, 200)
    members[1].engine.set_demotion("web", 1, members[1].now)
    members[0].engine.handover(members[0].now)
    run_together(members, 0.2)
    assert [member.state() for member in members] == [State.BACKUP, State.BACKUP, State.MASTER]
    assert [member.reasons() for member in members[1:]] == [[], [Reason.MASTER_BOWED_OUT]]


def test_a_handover_to_somebody_named() -> None:
    members = cluster(0, 16, 200)
    assert members[0].engine.handover(members[0].now, successor_id=3)
    run_together(members, 0.2)
    assert [member.state() for member in members] == [State.BACKUP, State.BACKUP, State.MASTER]


def test_a_handover_to_somebody_who_is_not_there_goes_to_the_best() -> None:
    members = cluster(0, 16, 200)
    members[0].engine.handover(members[0].now, successor_id=77)
    run_together(members, 0.2)
    assert [member.state() for member in members] == [State.BACKUP, State.MASTER, State.BACKUP]


def test_addresses_are_held_until_the_successor_speaks() -> None:
    one, other = cluster(0, 100)
    one.engine.handover(one.now)
    (bow_out,) = one.packets()
    assert one.state() is State.HANDOVER
    assert one.state().holds_addresses
    other.hear(bow_out, 1)
    other.advance(0.06)
    assert other.state() is State.MASTER
    assert one.state() is State.HANDOVER
    other.engine._advertise(other.now)
    one.now = other.now
    talk(one, other)
    assert one.state() is State.BACKUP


def test_the_goodbye_of_somebody_who_is_not_master_does_not_matter() -> None:
    members = cluster(0, 100, 200)
    for leaves, follows in ((0, 3), (2, 1)):
        members[leaves].engine.handover(members[leaves].now, successor_id=follows)
        run_together(members, 1)
    assert [member.state() for member in members] == [State.MASTER, State.BACKUP, State.BACKUP]
    stray = members[2].engine.farewell()
    for member in members[:2]:
        member.effects()
        member.hear(stray, 3)
        assert member.rejections() == [], "it is believed"
    run_together(members, 1)
    assert [member.state() for member in members] == [State.MASTER, State.BACKUP, State.BACKUP]


def test_the_farewell_that_outlives_a_process_is_a_bow_out() -> None:
    one, other = cluster(0, 100)
    farewell = one.engine.farewell()
    talk(one, other)
    other.advance(0.9)
    other.hear(farewell, 1)
    other.advance(0.05)
    assert other.reasons() == [Reason.MASTER_BOWED_OUT]


# ---- preemption and demotion ----------------------------------------------------------------------------------


def test_preemption_takes_from_a_worse_master_after_its_delay() -> None:
    (master,) = cluster(100)
    better = Member.make(2, preemption=Preemption(enabled=True, delay_s=10.0))
    better.now = master.now
    better.start()
    run_together([master, better], 9.5)
    assert better.state() is State.BACKUP
    run_together([master, better], 2)
    assert (master.state(), better.state()) == (State.BACKUP, State.MASTER)
    assert better.reasons()[-1] is Reason.PREEMPTED_WORSE


def test_who_handed_over_does_not_take_back_until_allowed() -> None:
    one, other = cluster(0, 100, preemption=Preemption(enabled=True))
    one.engine.handover(one.now)
    run_together([one, other], 20)
    assert other.state() is State.MASTER
    one.engine.allow_preemption()
    run_together([one, other], 2)
    assert one.state() is State.MASTER


def test_a_demoted_master_is_relieved_and_not_before() -> None:
    one, other = cluster(0, 100)
    other.engine.set_demotion("web", 20, other.now)
    one.engine.set_demotion("web", 10, one.now)
    run_together([one, other], 3)
    assert one.state() is State.MASTER
    one.engine.set_demotion("more", 11, one.now)
    run_together([one, other], 0.2)
    assert (one.state(), other.state()) == (State.BACKUP, State.MASTER)
    assert other.reasons() == [Reason.MASTER_DEMOTED]
    assert one.reasons() == [Reason.BETTER_MASTER]


def test_a_takeover_that_became_needless_is_called_off() -> None:
    one, other = cluster(0, 100)
    one.engine.set_demotion("web", 1, one.now)
    other.hear(one.packets()[0], 1)
    assert other.engine._takeover is not None
    one.engine.set_demotion("web", 0, one.now)
    other.hear(one.packets()[0], 1)
    assert other.engine._takeover is None
