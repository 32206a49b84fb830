"""A late master is asked; what it never answered is not held against it."""

import pytest

from carp_protocol.effects import Reason
from carp_protocol.suspicion import Evidence, Suspicion

HOST, PROCESS, REFUSED = Evidence.HOST_ANSWERED, Evidence.PROCESS_ANSWERED, Evidence.PORT_UNREACHABLE


def calibrated(*answers: Evidence, interval_s: float = 1.0) -> Suspicion:
    """One that heard its master at 0 and knows what it answers."""
    suspicion = Suspicion("10.0.0.2")
    assert suspicion.heard_advert(interval_s, 0.0)
    for answer in answers:
        assert suspicion.receive_evidence(answer) is None
    return suspicion


def ask_until_verdict(suspicion: Suspicion, *answers: Evidence) -> tuple[int, Reason | None, float]:
    """Run one alarm; ``answers`` arrive after the first question. How often it asked, the verdict, and when."""
    asked, now = 0, 0.0
    for _ in range(20):
        due = suspicion.next_timer()
        if due is None:
            return asked, None, now
        now = due
        ask, verdict = suspicion.handle_timer(now)
        asked += ask
        if verdict:
            return asked, verdict, now
        if asked == 1:
            for answer in answers:
                if early := suspicion.receive_evidence(answer):
                    return asked, early, now
    raise AssertionError("it asks for ever")


def test_a_dead_host_is_found_out_soon_after_its_advert_is_due() -> None:
    asked, verdict, when = ask_until_verdict(calibrated(HOST, PROCESS))
    assert (asked, verdict) == (4, Reason.MASTER_HOST_DEAD)
    assert 1.0 < when < 1.2


def test_a_dead_process_is_found_out_with_the_first_answer() -> None:
    assert ask_until_verdict(calibrated(HOST, PROCESS), HOST, REFUSED)[:2] == (1, Reason.MASTER_PROCESS_DEAD)


def test_a_process_that_answers_lives_and_is_reminded_twice() -> None:
    assert ask_until_verdict(calibrated(HOST, PROCESS), HOST, PROCESS) == (3, None, 2.75)


def test_a_master_whose_adverts_drown_is_asked_anew_instead_of_succeeded_as_long_as_it_answers() -> None:
    suspicion = calibrated(HOST, PROCESS)
    ask_until_verdict(suspicion, HOST, PROCESS)
    assert not suspicion.is_drowned(3.0), "nothing was lost here: the dead time is over"
    suspicion.receive_evidence(Evidence.ADVERTS_LOST)
    assert suspicion.is_drowned(3.0)
    assert ask_until_verdict(suspicion, HOST, PROCESS)[1] is None
    assert suspicion.is_drowned(6.0)
    suspicion.handle_timer(6.0)
    suspicion.receive_evidence(PROCESS)
    assert suspicion.next_timer() == 6.0, "it is reminded at once, and nobody calls this loop late who measures it by its deadlines"
    assert suspicion.is_drowned(6.0)
    asked, verdict, when = ask_until_verdict(suspicion)
    assert (asked, verdict) == (4, Reason.MASTER_HOST_DEAD)
    assert when < 6.1, "and then its host dies"
    assert not suspicion.is_drowned(9.0)


def test_losses_before_an_advert_that_was_heard_excuse_nobody() -> None:
    suspicion = calibrated(HOST, PROCESS)
    suspicion.receive_evidence(Evidence.ADVERTS_LOST)
    suspicion.heard_advert(1.0, 1.0)
    ask_until_verdict(suspicion, HOST, PROCESS)
    assert not suspicion.is_drowned(4.0)


def test_a_host_that_answers_alone_is_left_to_the_dead_time() -> None:
    assert ask_until_verdict(calibrated(HOST, PROCESS), HOST)[:2] == (4, None)


def test_an_answer_of_the_process_is_not_undone_by_a_late_refusal() -> None:
    assert ask_until_verdict(calibrated(HOST, PROCESS), PROCESS, REFUSED)[1] is None


def test_a_firewall_that_always_refused_proves_nothing() -> None:
    suspicion = calibrated(HOST, REFUSED)
    assert not suspicion.process_answers
    assert ask_until_verdict(suspicion, HOST, REFUSED)[1] is None


def test_a_host_that_never_answered_is_not_suspected() -> None:
    suspicion = calibrated()
    assert suspicion.next_timer() is None
    assert suspicion.handle_timer(1.5)[1] is None


def test_a_process_that_answers_where_the_host_does_not() -> None:
    assert ask_until_verdict(calibrated(PROCESS))[:2] == (4, None), "silence of the process alone proves no dead host"


def test_a_new_master_is_asked_until_it_answered_everything() -> None:
    suspicion = Suspicion("10.0.0.2")
    assert suspicion.heard_advert(1.0, 0.0)
    assert not suspicion.heard_advert(1.0, 0.01), "the first answers are on their way"
    suspicion.receive_evidence(HOST)
    assert suspicion.heard_advert(1.0, 1.0)
    suspicion.receive_evidence(PROCESS)
    assert not suspicion.heard_advert(1.0, 2.0)


def test_a_master_that_answers_nothing_is_asked_three_times() -> None:
    suspicion = Suspicion("10.0.0.2")
    assert [suspicion.heard_advert(1.0, float(second)) for second in range(6)] == [True] * 3 + [False] * 3


def test_a_false_alarm_takes_away_what_was_not_answered() -> None:
    suspicion = calibrated(HOST, PROCESS)
    assert ask_until_verdict(suspicion)[1] is Reason.MASTER_HOST_DEAD
    assert (suspicion.silent_since, suspicion.host_answers) == (1.125, True)
    assert suspicion.heard_advert(1.0, 1.5), "it is asked anew"
    assert (suspicion.silent_since, suspicion.host_answers) == (None, False)
    assert suspicion.next_timer() is None
    suspicion.receive_evidence(HOST)
    assert suspicion.next_timer() is not None


def test_an_alarm_that_was_cut_short_takes_nothing_away() -> None:
    suspicion = calibrated(HOST, PROCESS)
    due = suspicion.next_timer()
    assert due is not None
    assert suspicion.handle_timer(due) == (True, None)
    suspicion.heard_advert(1.0, due + 0.001)
    assert suspicion.host_answers
    assert suspicion.process_answers


def test_own_lateness_doubles_the_questions_but_does_not_last_for_ever() -> None:
    suspicion = calibrated(HOST, PROCESS)
    asked, now = 0, 5.0
    while (answer := suspicion.handle_timer(now)) == (True, None):
        asked += 1
        due = suspicion.next_timer()
        assert due is not None
        now = due + 1.0
    assert (asked, answer) == (8, (False, Reason.MASTER_HOST_DEAD)), "answers may be waiting unread"


def test_a_verdict_of_another_group_holds_if_nothing_was_heard_since_and_the_evidence_counts() -> None:
    suspicion = calibrated(HOST)
    assert suspicion.confirms(Reason.MASTER_HOST_DEAD, 0.5)
    assert not suspicion.confirms(Reason.MASTER_HOST_DEAD, 0.0)
    assert not suspicion.confirms(Reason.MASTER_PROCESS_DEAD, 0.5)
    suspicion.heard_advert(1.0, 0.6)
    assert not suspicion.confirms(Reason.MASTER_HOST_DEAD, 0.5)


def test_lateness_of_adverts_widens_the_margin_up_to_an_interval() -> None:
    suspicion = calibrated(HOST, PROCESS)
    first = suspicion.next_timer()
    assert first == pytest.approx(1.125)
    now = 0.0
    for _ in range(40):
        now += 1.6
        suspicion.heard_advert(1.0, now)
    due = suspicion.next_timer()
    assert due is not None
    assert due - now == pytest.approx(2.0)


def test_adverts_out_of_turn_do_not_dull_it() -> None:
    suspicion = calibrated(HOST, PROCESS)
    now = 0.0
    for _ in range(40):
        now += 0.1
        suspicion.heard_advert(1.0, now)
    due = suspicion.next_timer()
    assert due is not None
    assert due - now == pytest.approx(1.125)


def test_a_changed_interval_is_no_jitter() -> None:
    suspicion = calibrated(HOST, PROCESS)
    suspicion.heard_advert(0.1, 5.0)
    assert suspicion.next_timer() == pytest.approx(5.1125)


@pytest.mark.parametrize("interval_s", [0.01, 0.1, 1.0, 60.0])
def test_a_round_is_over_well_before_the_dead_time(interval_s: float) -> None:
    _, verdict, when = ask_until_verdict(calibrated(HOST, PROCESS, interval_s=interval_s))
    assert verdict is Reason.MASTER_HOST_DEAD
    assert when < 3 * interval_s
    assert when - interval_s * 1.25 <= 0.05


def test_a_timer_that_is_not_armed_does_nothing() -> None:
    assert Suspicion("10.0.0.2").handle_timer(1.0) == (False, None)
