"""Who is master when reports are old, late, or contradict each other."""

from dataclasses import replace
from typing import Any

import pytest

from carp_operator.api.group import format_time
from carp_operator.api.node import CarpNode, GroupReport, Node
from carp_operator.plan.masters import ANSWER_S, SETTLE_S, Masters, find_masters
from lab import pieces

T = 1_790_000_000.0


class Scene:
    """Three nodes, 10.77.0.1 to .3, and what they report; ``look`` says who is master."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.carp_nodes: dict[str, CarpNode] = {}
        self.reports: dict[str, GroupReport] = {}
        for number, name in enumerate("abc", 1):
            self.nodes[name] = pieces.node(name, f"10.77.0.{number}")
            self.carp_nodes[name] = pieces.carp_node(
                name, pieces.interface("eth0", f"192.0.2.{number}/24"), generation=5, observed_generation=5
            )

    def says(self, name: str, state: str = "Master", at: float = T, **more: Any) -> "Scene":
        self.reports[name] = pieces.report(state=state, since=format_time(at), **more)
        return self

    def hears(self, name: str, source: str) -> "Scene":
        return self.says(name, "Backup", master_source=source)

    def not_ready(self, name: str) -> "Scene":
        self.nodes[name] = replace(self.nodes[name], ready=False)
        return self

    def called(self, masters: Masters) -> "Scene":
        """The roll calls are written; nobody has answered."""
        for name, call in (masters.ask or {}).items():
            self.carp_nodes[name] = replace(self.carp_nodes[name], roll_call=call, generation=self.carp_nodes[name].generation + 1)
        return self

    def answers(self, *names: str) -> "Scene":
        for name in names:
            self.carp_nodes[name] = replace(self.carp_nodes[name], observed_generation=self.carp_nodes[name].generation)
        return self

    def look(self, now: float = T + 60.0, *, split: bool = False) -> Masters:
        return find_masters(self.reports, self.nodes, self.carp_nodes, now, split=split)


def test_without_reports_nobody_is_master() -> None:
    assert Scene().look() == Masters()
    assert Scene().says("a", "Backup").says("b", "Init").says("c", "Handover").look() == Masters()


def test_the_one_that_says_so() -> None:
    assert Scene().says("a").hears("b", "10.77.0.1").look() == Masters(node="a")


def test_a_claim_of_a_node_that_is_not_ready_does_not_count() -> None:
    assert Scene().says("a").not_ready("a").look() == Masters()


def test_nor_does_one_of_a_node_that_is_gone() -> None:
    scene = Scene().says("a")
    del scene.nodes["a"]
    assert scene.look() == Masters()


@pytest.mark.parametrize("source", ["10.77.0.1", "192.0.2.1"], ids=["its InternalIP", "an address of its interface"])
def test_unless_a_live_member_hears_it(source: str) -> None:
    assert Scene().says("a").not_ready("a").hears("b", source).look() == Masters(node="a")


def test_a_dead_member_hears_nothing() -> None:
    assert Scene().says("a").not_ready("a").hears("b", "10.77.0.1").not_ready("b").look() == Masters()


def test_what_a_node_hears_of_itself_is_no_witness() -> None:
    assert Scene().says("a", master_source="10.77.0.1", master_is_local=True).not_ready("a").look() == Masters()


def test_a_member_that_hears_another_one_is_no_witness_either() -> None:
    assert Scene().says("a").not_ready("a").hears("b", "10.77.0.3").look() == Masters()


@pytest.mark.parametrize("source", ["fe80::1", "fe80::1%eth0"])
def test_ipv6_adverts_come_from_addresses_that_nobody_lists(source: str) -> None:
    assert Scene().says("a").not_ready("a").hears("b", source).look() == Masters(node="a")
    assert Scene().says("a").not_ready("a").says("b").hears("c", source).look() == Masters(node="b"), "a living claim is better"


def test_a_master_outside_of_the_cluster() -> None:
    assert Scene().says("a", "Backup").hears("b", "10.77.0.200").look() == Masters(outside="10.77.0.200")
    assert Scene().says("a").hears("b", "10.77.0.200").look() == Masters(node="a"), "a claim of a node is better"
    assert Scene().hears("b", "10.77.0.1").look() == Masters(), "a node that does not say so yet is none"
    assert Scene().hears("b", "fe80::1").look() == Masters(), "whose address it is, nobody knows"
    assert Scene().hears("b", "10.77.0.200").not_ready("b").look() == Masters()


def test_while_one_has_just_stepped_down_the_report_of_the_next_is_on_its_way() -> None:
    scene = Scene().says("a", "Backup", at=T).says("b", "Backup", at=T - 100)
    masters = scene.look(T + 0.25)
    assert (masters.node, masters.between) == ("", True)
    assert masters.again_in_s == pytest.approx(SETTLE_S - 0.25)
    assert scene.look(T + SETTLE_S) == Masters()
    assert scene.not_ready("a").look(T + 0.25) == Masters(), "what a dead node said last is no news"


def test_the_newest_claim_wins_at_once() -> None:
    scene = Scene().says("a", at=T - 100).says("b", at=T)
    masters = scene.look(T + 0.2)
    assert (masters.node, masters.rivals, masters.ask) == ("b", (), None)
    assert masters.again_in_s == pytest.approx(SETTLE_S - 0.2)


def test_after_a_second_everybody_who_claims_it_is_asked() -> None:
    masters = Scene().says("a", at=T - 100).says("b", at=T).says("c", "Backup").look(T + SETTLE_S)
    call = int((T + SETTLE_S) * 1000)
    assert masters == Masters(node="b", ask={"a": call, "b": call}, again_in_s=ANSWER_S)


def test_nobody_is_asked_twice() -> None:
    scene = Scene().says("a", at=T - 100).says("b", at=T)
    scene.called(scene.look(T + 1))
    masters = scene.look(T + 2)
    assert (masters.node, masters.rivals, masters.ask) == ("b", (), {})
    assert masters.again_in_s == pytest.approx(ANSWER_S - 1)


def test_who_does_not_answer_is_history() -> None:
    scene = Scene().says("a", at=T - 100).says("b", at=T)
    scene.called(scene.look(T + 1)).answers("b")
    assert scene.look(T + 1.5) == Masters(node="b", ask={}, again_in_s=ANSWER_S - 0.5)
    assert scene.look(T + 1 + ANSWER_S) == Masters(node="b", silent=("a",), ask={})


def test_who_answers_late_is_no_longer_silent() -> None:
    """Its node came back: the report says backup now."""
    scene = Scene().says("a", at=T - 100).says("b", at=T)
    scene.called(scene.look(T + 1)).answers("b")
    assert scene.look(T + 60).silent == ("a",)
    assert scene.answers("a").says("a", "Backup", at=T + 60).look(T + 61).silent == ()


def test_two_that_answer_are_a_split_brain() -> None:
    scene = Scene().says("a", at=T - 100).says("b", at=T)
    scene.called(scene.look(T + 1)).answers("a", "b")
    assert scene.look(T + 1.5) == Masters(node="b", rivals=("a",), ask={})


def test_the_newest_is_believed_while_it_has_time_to_answer_and_not_longer() -> None:
    """It died right after it said so, and the one before goes on: that is no split brain."""
    scene = Scene().says("a", at=T - 100).says("b", at=T)
    scene.called(scene.look(T + 1)).answers("a")
    assert scene.look(T + 1 + ANSWER_S - 0.1).node == "b"
    assert scene.look(T + 1 + ANSWER_S) == Masters(node="a", silent=("b",), ask={})


def test_if_nobody_answers_the_newest_is_still_the_best_guess() -> None:
    scene = Scene().says("a", at=T - 100).says("b", at=T)
    scene.called(scene.look(T + 1))
    assert scene.look(T + 1 + ANSWER_S) == Masters(node="b", silent=("a",), ask={})


def test_a_newer_claim_makes_it_a_new_question() -> None:
    scene = Scene().says("a", at=T - 100).says("b", at=T)
    scene.called(scene.look(T + 1)).answers("a", "b").says("c", at=T + 30)
    assert scene.look(T + 30.5).again_in_s == pytest.approx(0.5)
    call = int((T + 31) * 1000)
    assert scene.look(T + 31) == Masters(node="c", ask={"a": call, "b": call, "c": call}, again_in_s=ANSWER_S)


def test_a_split_brain_lasts_while_carp_nodes_change() -> None:
    """Every change of a CarpNode is another question that is not answered for a moment."""
    scene = Scene().says("a", at=T - 100).says("b", at=T)
    scene.called(scene.look(T + 1)).answers("a", "b")
    scene.carp_nodes["a"] = replace(scene.carp_nodes["a"], generation=99)
    assert scene.look(T + 10, split=True) == Masters(node="b", rivals=("a",), ask={})
    assert scene.says("a", "Backup", at=T + 10).look(T + 11, split=True) == Masters(node="b")


def test_a_clock_that_is_ahead_is_not_waited_for_longer_than_a_second_at_a_time() -> None:
    scene = Scene().says("a", at=T).says("b", at=T + 3600)
    assert scene.look(T + 60) == Masters(node="b", again_in_s=SETTLE_S)


def test_of_two_at_the_same_moment_the_choice_is_always_the_same() -> None:
    assert Scene().says("a").says("b").look(T).node == Scene().says("b").says("a").look(T).node == "a"


def test_a_claim_whose_time_nobody_can_read_is_the_oldest() -> None:
    scene = Scene().says("b", at=T)
    scene.reports["a"] = pieces.report(state="Master", since="yesterday")
    assert scene.look(T + 0.5).node == "b"


def test_a_claim_that_cannot_be_asked_is_not_waited_for() -> None:
    """A node that was removed from the cluster and is still heard."""
    scene = Scene().says("a", at=T - 100).says("b", at=T).hears("c", "192.0.2.2")
    del scene.nodes["b"]
    masters = scene.look(T + 1)
    assert masters == Masters(node="b", ask={"a": int((T + 1) * 1000)}, again_in_s=ANSWER_S)
    assert scene.called(masters).answers("a").look(T + 2) == Masters(node="a", ask={})


@pytest.mark.parametrize("source", ["", "nonsense", "%", "fe80"])
def test_no_report_stops_the_operator(source: str) -> None:
    assert Scene().hears("a", source).look().node == ""


def test_between_two_reports_of_a_handover_nothing_is_said_of_no_master() -> None:
    """The old one has reported that it is not master any more; the new one may report once a second."""
    scene = Scene().says("a", "Backup", T).says("b", "Backup", T - 50)
    assert scene.look(T + 0.25) == Masters(between=True, again_in_s=0.75)
    assert scene.says("b", "Master", T).look(T + 0.5).node == "b"


def test_after_a_second_without_a_master_there_is_none() -> None:
    assert Scene().says("a", "Backup", T).look(T + SETTLE_S) == Masters()


def test_a_dead_node_that_changed_last_keeps_nobody_waiting() -> None:
    assert Scene().says("a", "Backup", T).says("b", "Backup", T - 50).not_ready("a").look(T + 0.25) == Masters()
