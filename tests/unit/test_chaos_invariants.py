"""The checker of a chaos run, on timelines that are written by hand: what it must see, and what it must not."""

from collections.abc import Sequence

import pytest

from chaos.bounds import bounds_of
from chaos.invariants import check, figures
from chaos.picture import draw
from chaos.timeline import SLOT_S, Happening, Interval, Timeline, common, without

LENGTH_S = 12.0
BOUNDS = bounds_of(interval_s=0.2, worst_advskew=100, mode="Strict", remade=False)


def timeline(
    happenings: Sequence[Happening] = (), pauses: Sequence[tuple[float, float]] = (), best: str = "", **answering: Sequence[Interval]
) -> Timeline:
    """Hosts a, b and c, asked in every slot; ``answering`` says who answered from when to when."""
    questions = [number * SLOT_S for number in range(round(LENGTH_S / SLOT_S))]
    answers = {
        host: [at_s + 0.001 for at_s in questions if any(first <= at_s < last for first, last in answering.get(host, ()))] for host in "abc"
    }
    return Timeline(0.0, LENGTH_S, ("a", "b", "c"), questions, {"10.77.0.100": answers}, pauses, happenings, best)


def told(seen: Timeline) -> list[str]:
    return sorted({one.invariant for one in check(seen, BOUNDS)})


WHOLE = (0.0, LENGTH_S)


def test_one_that_always_answers_breaks_no_promise() -> None:
    seen = timeline(a=[WHOLE])
    assert told(seen) == []
    assert figures(seen) == {"two": 0.0, "nobody": 0.0, "pause": 0.0}


def test_a_takeover_after_a_death_breaks_none() -> None:
    assert told(timeline([Happening("kill", ("a",), 2.0, 4.0)], a=[(0.0, 2.1)], b=[(2.05, LENGTH_S)])) == []


def test_two_answer_too_long_without_a_reason() -> None:
    assert told(timeline(a=[WHOLE], b=[(3.0, 3.0 + BOUNDS.peace_s + 0.05)])) == ["two answer"]
    assert told(timeline(a=[WHOLE], b=[(3.0, 3.0 + BOUNDS.peace_s - 0.05)])) == []


@pytest.mark.parametrize("word, allowed_s", [("stop", BOUNDS.stopped_s), ("kill", BOUNDS.killed_s), ("kill-both", BOUNDS.orphaned_s)])
def test_each_reason_has_its_own_bound(word: str, allowed_s: float) -> None:
    for over_s, expected in ((0.05, ["two answer"]), (-0.05, [])):
        seen = timeline([Happening(word, ("a",), 2.0, 6.0)], a=[(0.0, 2.2 + allowed_s + over_s)], b=[(2.2, LENGTH_S)])
        assert told(seen) == expected


def test_a_pause_of_the_machine_is_allowed_for_and_one_elsewhere_is_not() -> None:
    too_long = (3.0, 3.0 + BOUNDS.peace_s + 0.2)
    assert told(timeline(pauses=[(3.1, 0.1)], a=[WHOLE], b=[too_long])) == []
    assert told(timeline(pauses=[(8.0, 0.1)], a=[WHOLE], b=[too_long])) == ["two answer"]


def test_a_partition_has_one_on_each_side() -> None:
    parted = Happening("partition", ("a",), 2.0, 6.0)
    assert told(timeline([parted], a=[WHOLE], b=[(2.7, 6.2)])) == []
    assert told(timeline([parted], a=[WHOLE], b=[(2.7, 6.2)], c=[(2.7, 6.2)])) == ["two answer"]
    assert told(timeline([parted], a=[WHOLE])) == ["nobody answers"]
    assert told(timeline([parted], a=[WHOLE], b=[(2.7, LENGTH_S)])) == ["not healed", "two answer"]


def test_a_sick_lan_promises_nothing_but_heals() -> None:
    sick = Happening("one-way", ("a",), 2.0, 6.0)
    assert told(timeline([sick], a=[WHOLE], b=[(2.7, 6.2)])) == []
    assert told(timeline([sick], a=[WHOLE], b=[(2.7, LENGTH_S)])) == ["not healed", "two answer"]


def test_silence_counts_from_the_last_thing_that_was_done() -> None:
    dead = Happening("kill", ("a",), 2.0, 8.0)
    assert told(timeline([dead], a=[(0.0, 2.1)], b=[(2.1 + BOUNDS.nobody_s - 0.2, LENGTH_S)])) == []
    assert told(timeline([dead], a=[(0.0, 2.1)], b=[(2.1 + BOUNDS.nobody_s + 0.1, LENGTH_S)])) == ["nobody answers"]


def test_nobody_can_answer_when_nobody_is_able() -> None:
    down = [Happening("stop", (host,), 2.0, 6.0) for host in "abc"]
    assert told(timeline(down, a=[(0.0, 2.1), (6.3, LENGTH_S)])) == []


def test_after_healing_a_glitch_is_forgiven_and_silence_is_not() -> None:
    harm = Happening("kill", ("b",), 1.0, 2.0)
    assert told(timeline([harm], a=[(0.0, 11.5), (11.55, LENGTH_S)])) == []
    assert "not healed" in told(timeline([harm], a=[(0.0, 11.3), (11.6, LENGTH_S)]))


def test_at_the_end_the_best_answers_where_it_may_preempt() -> None:
    seen = timeline([Happening("reload", ("a", "b", "c"), 1.0, 1.1)], best="b", a=[WHOLE])
    assert told(seen) == ["not healed (the best is b)"]


def test_an_unhurt_master_keeps_the_address() -> None:
    stopped = Happening("stop", ("a",), 1.0, 5.0)
    assert told(timeline([stopped], a=[(0.0, 1.2), (5.3, LENGTH_S)], b=[(1.5, 5.3)])) == ["an unhurt master fell silent"]
    hurt = Happening("carrier", ("b",), 5.2, 5.4)
    assert told(timeline([stopped, hurt], a=[(0.0, 1.2), (5.5, LENGTH_S)], b=[(1.5, 5.3)])) == []


def test_a_few_missed_questions_are_no_silence() -> None:
    seen = timeline(a=[(0.0, 3.0), (3.0 + 3 * SLOT_S, LENGTH_S)])
    assert len(seen.spans("10.77.0.100", "a")) == 1
    assert len(timeline(a=[(0.0, 3.0), (3.0 + 8 * SLOT_S, LENGTH_S)]).spans("10.77.0.100", "a")) == 2


def test_intervals() -> None:
    assert common([(0, 4), (6, 8)], [(3, 7)]) == [(3, 4), (6, 7)]
    assert without([(0, 10)], [(2, 3), (5, 12)]) == [(0, 2), (3, 5)]


def test_the_picture_shows_everybody_and_marks_what_is_wrong() -> None:
    seen = timeline([Happening("stop", ("a",), 2.0, 6.0)], a=[WHOLE], b=[(3.0, 6.0)])
    picture = draw("round 1", seen, check(seen, BOUNDS))
    assert picture.count("10.77.0.100  ") == 3
    assert "stop a" in picture
    assert "#fa5252" in picture
