"""The life of a member apart from elections: link, demotion, exclusion, lateness, addresses, reload, and the end."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from carp_protocol.config import Mode, Preemption
from carp_protocol.effects import (
    AddressConflict,
    Announce,
    PacketRejected,
    ProbeAddress,
    Reason,
    ReleaseAddresses,
    State,
    StateChanged,
    TakeAddresses,
)
from carp_protocol.heard import Kind
from carp_protocol.packet import decode_untrusted
from carp_protocol.timing import HANDOVER_LIMIT_S
from simulation.members import Member, cluster, parse, run_together, talk

BOTH = pytest.mark.parametrize("mode", Mode)


def pair(mode: Mode = Mode.STRICT, **fields: object) -> tuple[Member, Member]:
    """A master and its backup, who know each other."""
    one, other = Member.make(1, mode, **fields), Member.make(2, mode, advskew=100, **fields)  # type: ignore[arg-type]
    one.start()
    other.start()
    run_together([one, other], 5 * one.engine.config.advertisement_interval_s)
    assert (one.state(), other.state()) == (State.MASTER, State.BACKUP)
    for member in (one, other):
        member.effects()
    return one, other


@BOTH
def test_link_down_drops_everything_at_once_and_up_listens(mode: Mode) -> None:
    member = Member.make(mode=mode).become_master()
    member.engine.link_changed(False, member.now)
    assert member.effects() == [StateChanged(State.MASTER, State.INIT, Reason.LINK_DOWN), ReleaseAddresses()]
    assert member.packets() == []
    assert member.engine.next_timer() is None
    member.engine.link_changed(False, member.now)
    assert member.effects() == []
    member.engine.link_changed(True, member.now)
    member.engine.link_changed(True, member.now)
    assert member.reasons() == [Reason.LINK_UP]
    said = member.packets() + [packet for _, packet in member.advance(2.9)]
    assert [(parse(packet)[0].advbase, parse(packet)[0].advskew) for packet in said] == [(255, 255)] * (2 if mode is Mode.STRICT else 0)
    assert member.advance(0.3) != []
    assert member.state() is State.MASTER


def test_a_master_whose_link_flapped_says_that_it_holds_nothing_any_more() -> None:
    """Its host answers the probes of those who doubt it: without a word they would wait for the dead time."""
    one, other = pair()
    one.engine.link_changed(False, one.now)
    one.engine.link_changed(True, one.now + 0.1)
    run_together([one, other], 0.1)
    assert (one.state(), other.state()) == (State.BACKUP, State.MASTER)
    assert Reason.MASTER_BOWED_OUT in other.reasons()


def test_a_link_that_flaps_on_a_backup_is_not_worth_a_word() -> None:
    other = pair()[1]
    other.engine.link_changed(False, other.now)
    other.engine.link_changed(True, other.now)
    assert other.packets() == []


def test_the_goodbye_after_a_flap_is_said_twice_unless_somebody_is_heard() -> None:
    one, other = pair()
    one.engine.link_changed(False, one.now)
    one.engine.link_changed(True, one.now)
    assert len(one.packets()) == 1, "and is lost"
    assert [round(at - one.now + 0.5, 3) for at, _ in one.advance(0.5)] == [0.01]
    one, other = cluster(0, 1)
    one.engine.link_changed(False, one.now)
    one.engine.link_changed(True, one.now)
    run_together([one, other], 0.005)
    assert other.state() is State.MASTER
    assert one.advance(0.5) == []


@BOTH
def test_a_master_that_was_late_lets_go_before_it_says_anything(mode: Mode) -> None:
    inputs: dict[str, Callable[[Member], object]] = {
        "timer": lambda member: member.engine.handle_timer(member.now),
        "packet": lambda member: member.hear(b"x"),
        "demotion": lambda member: member.engine.set_demotion("web", 5, member.now),
        "reload": lambda member: member.engine.reconfigure(replace(member.engine.config, advskew=3), member.now),
        "handover": lambda member: member.engine.handover(member.now),
        "close": lambda member: member.engine.close(member.now),
        "lost": lambda member: member.engine.addresses_lost(member.now),
        "lease": lambda member: member.engine.lease_ends_at(member.now),
    }
    for name, give in inputs.items():
        member = Member.make(mode=mode).become_master()
        member.now += 2.76
        give(member)
        first, second = member.effects()[:2]
        assert first == StateChanged(State.MASTER, State.BACKUP, Reason.STALLED), name
        assert second == ReleaseAddresses(), name
        claims = [packet for packet in member.packets() if mode is Mode.COMPATIBLE or parse(packet)[1].kind is Kind.ADVERT]
        assert claims == [], f"{name}: it may ask who is master, but not say that it is"
        assert member.engine.lease_ends_at(member.now) is None, name


def test_a_little_late_is_punctual() -> None:
    member = Member.make().become_master()
    member.now = member.engine._spoke_at + 2.7
    assert member.engine.lease_ends_at(member.now) == member.engine._spoke_at + 2.5
    member.engine.handle_timer(member.now)
    assert len(member.packets()) == 1


def test_a_handover_that_slept_does_not_end_as_master() -> None:
    member = Member.make().become_master()
    member.engine.handover(member.now)
    member.now += 2 * HANDOVER_LIMIT_S + 0.01
    member.engine.handle_timer(member.now)
    assert member.reasons() == [Reason.REQUESTED, Reason.STALLED]


def test_a_slower_master_keeps_on_when_its_interval_is_shortened() -> None:
    member = Member.make(advertisement_interval_s=10.0).become_master()
    member.advance(5)
    member.packets()
    member.engine.reconfigure(replace(member.engine.config, advertisement_interval_s=0.1), member.now)
    assert member.state() is State.MASTER
    assert parse(member.packets()[0])[1].interval_ms == 100
    assert len(member.advance(1.05)) == 11


@BOTH
def test_excluded_members_hand_over_and_come_back(mode: Mode) -> None:
    one, other = pair(mode)
    one.engine.set_demotion("web", None, one.now)
    assert one.engine.demotions.excluded
    run_together([one, other], 0.2)
    assert (one.state(), other.state()) == (State.BACKUP, State.MASTER)
    other.engine.link_changed(False, other.now)
    run_together([one, other], 60)
    assert one.state() is State.BACKUP, "nobody is better than somebody who may not"
    assert one.engine.next_timer() is None
    one.engine.set_demotion("web", 0, one.now)
    run_together([one, other], 4)
    assert one.state() is State.MASTER


def test_an_excluded_master_without_a_successor_lets_go() -> None:
    member = Member.make().become_master()
    member.engine.set_demotion("web", None, member.now)
    member.advance(HANDOVER_LIMIT_S + 0.05)
    assert member.reasons() == [Reason.EXCLUDED, Reason.EXCLUDED]
    assert member.state() is State.BACKUP


def test_an_exclusion_that_is_lifted_during_the_handover_keeps_the_master() -> None:
    member = Member.make().become_master()
    member.engine.set_demotion("web", None, member.now)
    member.engine.set_demotion("web", 0, member.now)
    member.advance(HANDOVER_LIMIT_S + 0.05)
    assert member.reasons() == [Reason.EXCLUDED, Reason.NO_SUCCESSOR]


def test_exclusion_ends_a_takeover_that_was_planned() -> None:
    member = Member.make(advskew=100).start()
    member.advance(0.06)
    assert member.engine._takeover is not None
    member.engine.set_demotion("web", None, member.now)
    member.advance(30)
    assert member.state() is State.BACKUP


def test_priority_zero_by_reload_hands_over() -> None:
    one, other = pair()
    one.engine.reconfigure(replace(one.engine.config, advskew=255), one.now)
    run_together([one, other], 0.2)
    assert (one.state(), other.state()) == (State.BACKUP, State.MASTER)


def test_demotions_add_up_to_254() -> None:
    member = Member.make(demotion=3)
    assert member.engine.demotions.total == 3
    member.engine.set_demotion("a", 5, 0.0)
    member.engine.set_demotion("b", None, 0.0)
    assert (member.engine.demotions.total, member.engine.demotions.excluded) == (8, True)
    member.engine.set_demotion("b", 300, 0.0)
    assert (member.engine.demotions.total, member.engine.demotions.excluded) == (254, False)
    member.engine.set_demotion("b", 0, 0.0)
    member.engine.set_demotion("never set", 0, 0.0)
    assert member.engine.demotions.total == 8
    assert member.effects() == []


def test_the_same_demotion_again_says_nothing() -> None:
    member = Member.make().become_master()
    member.engine.set_demotion("a", 5, member.now)
    member.engine.set_demotion("a", 5, member.now)
    assert len(member.packets()) == 1


@BOTH
def test_addresses_that_are_lost_are_put_back(mode: Mode) -> None:
    member = Member.make(mode=mode).become_master()
    member.engine.addresses_lost(member.now)
    assert member.effects() == [TakeAddresses()]
    backup = Member.make(mode=mode).start()
    backup.effects()
    backup.engine.addresses_lost(backup.now)
    assert backup.effects() == []


@BOTH
def test_addresses_that_cannot_be_attached_are_not_claimed(mode: Mode) -> None:
    one, other = pair(mode, preemption=Preemption(enabled=True))
    one.engine.addresses_failed(one.now)
    (packet,) = one.packets()
    assert decode_untrusted(packet).is_bow_out
    other.hear(packet, 1)
    run_together([one, other], 20)
    assert (one.state(), other.state()) == (State.BACKUP, State.MASTER), "it does not preempt its successor"
    assert one.reasons() == [Reason.ADDRESS_FAILED]
    other.engine.link_changed(False, other.now)
    run_together([one, other], 5)
    assert one.state() is State.MASTER, "but it tries again when nobody else is there"


def test_a_member_whose_addresses_failed_succeeds_a_demoted_master_after_a_while() -> None:
    one, other = pair()
    one.engine.addresses_failed(one.now)
    run_together([one, other], 5)
    other.engine.set_demotion("health", 128, other.now)
    run_together([one, other], 20)
    assert other.state() is State.MASTER, "not at once: it would fail again"
    run_together([one, other], 60)
    assert (one.state(), other.state()) == (State.MASTER, State.BACKUP), "but a sick master is not left alone for ever"


def test_a_backup_has_nothing_that_can_fail() -> None:
    member = Member.make().start()
    member.packets()
    member.engine.addresses_failed(member.now)
    assert member.packets() == []
    assert member.state() is State.BACKUP


def test_a_stranger_who_answers_for_the_address_is_waited_for_and_reported() -> None:
    member = Member.make().start()
    assert ProbeAddress() in member.effects()
    member.advance(0.02)
    member.engine.address_answered("02:00:00:00:00:09")
    member.packets()
    assert member.advance(3.1) == []
    member.advance(0.1)
    assert member.state() is State.MASTER
    effects = member.effects()
    assert AddressConflict("02:00:00:00:00:09") in effects
    assert TakeAddresses() in effects


def test_an_answer_for_the_address_means_nothing_once_the_master_is_known() -> None:
    one, other = pair()
    other.engine.address_answered("10.0.0.1")
    one.engine.address_answered("10.0.0.9")
    one.engine.link_changed(False, one.now)
    run_together([one, other], 5)
    assert not [effect for effect in other.effects() if isinstance(effect, AddressConflict)]


@BOTH
def test_closing_in_every_state(mode: Mode) -> None:
    never_started = Member.make(mode=mode)
    never_started.engine.close(0.0)
    assert never_started.engine.closed
    backup = Member.make(mode=mode).start()
    backup.engine.close(backup.now)
    assert backup.engine.closed
    assert backup.reasons() == [Reason.STARTED, Reason.CLOSED]
    backup.engine.link_changed(True, backup.now)
    assert backup.engine.closed, "what is closed does not come back"
    alone = Member.make(mode=mode).become_master()
    alone.engine.close(alone.now)
    alone.advance(HANDOVER_LIMIT_S - 0.01)
    assert alone.state() is State.HANDOVER
    alone.advance(0.02)
    assert alone.engine.closed
    assert alone.engine.next_timer() is None
    asked_before = Member.make(mode=mode).become_master()
    asked_before.engine.handover(asked_before.now)
    asked_before.engine.close(asked_before.now)
    asked_before.advance(HANDOVER_LIMIT_S + 0.05)
    assert asked_before.engine.closed


@BOTH
def test_a_closing_master_goes_when_it_hears_its_successor(mode: Mode) -> None:
    one, other = pair(mode)
    one.engine.close(one.now)
    run_together([one, other], 0.15)
    assert one.engine.closed
    assert other.state() is State.MASTER
    assert one.reasons() == [Reason.CLOSED, Reason.SUCCESSOR_HEARD, Reason.CLOSED]


@BOTH
def test_a_host_that_sleeps_during_a_handover_does_not_undo_it(mode: Mode) -> None:
    """Nobody could speak in that time, or what was said is still unread."""
    one, other = pair(mode)
    one.engine.handover(one.now)
    one.now += HANDOVER_LIMIT_S + 0.2
    one.engine.handle_timer(one.now)
    assert one.state() is State.HANDOVER
    other.now = one.now
    run_together([one, other], 0.15)
    assert (one.reasons(), other.state()) == ([Reason.REQUESTED, Reason.SUCCESSOR_HEARD], State.MASTER)


@BOTH
def test_a_handover_nobody_takes_is_taken_back(mode: Mode) -> None:
    member = Member.make(mode=mode).become_master()
    assert member.engine.handover(member.now)
    assert not member.engine.handover(member.now)
    member.advance(HANDOVER_LIMIT_S + 0.05)
    assert member.reasons() == [Reason.REQUESTED, Reason.NO_SUCCESSOR]
    assert len(member.effects()) == 0
    assert member.state() is State.MASTER


def test_a_link_that_breaks_during_the_handover_ends_it() -> None:
    member = Member.make().become_master()
    member.engine.handover(member.now)
    member.engine.link_changed(False, member.now)
    assert member.effects()[-1] == ReleaseAddresses()
    assert member.engine.next_timer() is None


def test_reload_of_something_else_restarts_nothing() -> None:
    one, other = pair()
    dead_at = other.engine._dead_at
    other.engine.reconfigure(replace(other.engine.config, hook=("/bin/true",)), other.now)
    assert other.engine._dead_at == dead_at
    assert talk(one, other) == 0
    idle = Member.make()
    idle.engine.reconfigure(replace(idle.engine.config, advskew=7), 0.0)
    assert idle.effects() == []


def test_own_lateness_is_not_the_masters() -> None:
    one, other = pair()
    other.now += 30
    other.engine._suspicion = None
    other.engine.handle_timer(other.now)
    assert other.state() is State.BACKUP, "its adverts may wait unread"
    other.advance(1.0)
    assert other.state() is State.MASTER
    assert one.state() is State.MASTER


def test_effects_are_bounded_if_nobody_reads_them() -> None:
    member = Member.make().start()
    for _ in range(3000):
        member.hear(b"x")
    effects = member.effects()
    assert len(effects) == 1024
    assert set(effects) == {PacketRejected("short", "10.0.0.9", "1 bytes")}


def test_announcements_are_left_to_the_shell_after_a_takeover() -> None:
    member = Member.make().start()
    member.advance(0.1)
    assert Announce() not in member.effects()


def test_a_lost_bow_out_is_said_again_in_strict_mode_only() -> None:
    for mode, times in ((Mode.STRICT, 2), (Mode.COMPATIBLE, 1)):
        member = Member.make(mode=mode).become_master()
        member.engine.handover(member.now)
        sent = [*member.packets(), *(packet for _, packet in member.advance(HANDOVER_LIMIT_S - 0.01))]
        assert [decode_untrusted(packet).is_bow_out for packet in sent] == [True] * times


def test_who_slept_with_everybody_else_asks_instead_of_waiting() -> None:
    member = Member.make().become_master()
    member.now += 100
    member.engine.handle_timer(member.now)
    assert member.reasons() == [Reason.STALLED]
    member.advance(0.2)
    assert member.state() is State.MASTER
    assert member.reasons() == [Reason.NOBODY_THERE]


def test_a_handover_to_a_demoted_backup_does_not_bounce() -> None:
    members = cluster(0, 16)
    members[1].engine.set_demotion("maintenance", 50, members[1].now)
    members[0].engine.handover(members[0].now)
    run_together(members, 5)
    assert [member.state() for member in members] == [State.BACKUP, State.MASTER]
    members[1].engine.set_demotion("maintenance", 51, members[1].now)
    run_together(members, 1)
    assert [member.state() for member in members] == [State.MASTER, State.BACKUP], "it got worse since"
