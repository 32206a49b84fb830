"""Ranks: named as given, the others below, far apart, and in another order for every group."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_operator.plan.ranks import MAX_MEMBERS, WIDEST_STEP, rank_members

NAMES = st.sets(st.integers(0, 400).map("node-{}".format), max_size=320)


def distances(ranks: dict[str, int]) -> list[int]:
    places = sorted(rank for rank in ranks.values() if rank < 255)
    return [b - a for a, b in itertools.pairwise(places)]


@given(NAMES, st.dictionaries(st.integers(0, 400).map("node-{}".format), st.integers(0, 255), max_size=64))
def test_ranks_are_distinct_and_named_ones_as_given(nodes: set[str], wished: dict[str, int]) -> None:
    priorities = {node: priority for node, priority in wished.items() if list(wished.values()).count(priority) == 1 or priority == 0}
    ranks = rank_members("web", nodes, priorities)
    contenders = [rank for rank in ranks.values() if rank != 255]
    assert len(set(contenders)) == len(contenders)
    assert all(0 <= rank <= 255 for rank in ranks.values())
    for node in nodes & priorities.keys():
        assert ranks[node] == 255 - priorities[node]
    assert all(ranks[node] < 255 for node in ranks.keys() - priorities.keys()), "nobody is excluded unasked"
    free = MAX_MEMBERS - len({priorities[node] for node in nodes & priorities.keys()} - {0})
    assert len(ranks.keys() - priorities.keys()) == min(free, len(nodes - priorities.keys()))
    assert list(ranks.values()) == sorted(ranks.values()), "best first"


@given(NAMES, st.randoms())
def test_the_order_in_which_nodes_are_told_is_nothing(nodes: set[str], random: object) -> None:
    shuffled = sorted(nodes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rank_members("web", shuffled, {}) == rank_members("web", nodes, {})


@pytest.mark.parametrize("count", [2, 3, 16])
def test_up_to_sixteen_are_a_full_step_apart(count: int) -> None:
    ranks = rank_members("web", [f"node-{number}" for number in range(count)], {})
    assert set(distances(ranks)) == {WIDEST_STEP}
    assert min(ranks.values()) == 0


@pytest.mark.parametrize("count, wide", [(17, 15), (50, 13), (100, 10), (128, 8), (255, 0)])
def test_of_more_the_best_are_a_full_step_apart(count: int, wide: int) -> None:
    """One of the best takes over: with half of a hundred nodes dead, one of the first ten in all but a thousandth of the groups."""
    ranks = rank_members("web", [f"node-{number}" for number in range(count)], {})
    assert distances(ranks) == [WIDEST_STEP] * wide + [1] * (count - 1 - wide)
    assert min(ranks.values()) == 0


@pytest.mark.parametrize(
    "priorities, count, expected",
    [
        pytest.param({"x": 255, "y": 155}, 3, [0, 100, 116, 132, 148], id="below the named, a step apart"),
        pytest.param({"x": 155}, 2, [100, 116, 132], id="the named is the best even when it could be better"),
        pytest.param({"x": 55}, 4, [200, 216, 232, 248, 249], id="narrower where there is less room, for the last"),
        pytest.param({"x": 255, "y": 0}, 2, [0, 16, 32, 255], id="priority 0 leaves all the room"),
        pytest.param({"x": 255, "y": 1}, 3, [0, 206, 222, 238, 254], id="between them when there is no room below"),
        pytest.param({"x": 2}, 3, [205, 221, 237, 253], id="above the named when there is no room below"),
    ],
)
def test_where_the_others_go(priorities: dict[str, int], count: int, expected: list[int]) -> None:
    ranks = rank_members("web", [*priorities, *(f"node-{number}" for number in range(count))], priorities)
    assert list(ranks.values()) == expected


def test_no_step_is_wider_than_needed() -> None:
    assert max(distances(rank_members("web", ["x", "a", "b"], {"x": 255}))) == WIDEST_STEP


def test_masters_spread_over_the_nodes() -> None:
    nodes = [f"worker-{number}" for number in range(5)]
    best = Counter(next(iter(rank_members(f"group-{number}", nodes, {}))) for number in range(200))
    assert set(best) == set(nodes)
    assert all(20 <= count <= 60 for count in best.values()), best


def test_who_inherits_spreads_too() -> None:
    nodes = [f"worker-{number}" for number in range(5)]
    orders = [list(rank_members(f"group-{number}", nodes, {})) for number in range(500)]
    heirs = Counter(order[1] for order in orders if order[0] == nodes[0])
    assert len(heirs) == 4
    assert all(count >= 10 for count in heirs.values()), heirs


@given(st.integers(0, 40))
def test_a_node_that_goes_moves_nobody_past_another(gone: int) -> None:
    nodes = [f"node-{number}" for number in range(40)]
    before = list(rank_members("web", nodes, {}))
    rest = [node for node in nodes if node != f"node-{gone}"]
    assert list(rank_members("web", rest, {})) == [node for node in before if node in rest]
