"""The bench reads its own runs rightly: overlaps of answers, ratios, promises, pages and plots that hold what was measured."""

import json
from pathlib import Path
from typing import Any
from xml.dom.minidom import parse

import pytest

from bench.contenders import CONTENDERS, cells
from bench.outages import write
from bench.report import markdown
from lab.witness import Sighting

MACHINE = {"command": "make bench", "processor": "2 x test"}


def run(longest_ms: float, lost: int, **more: Any) -> dict[str, Any]:
    seen = {"longest_ms": longest_ms, "lost": lost, "sent": 1000, "skipped": 1, "late_by_ms": 0.5, "two_hosts_ms": 0.0, "nobody_ms": 0.0}
    return {
        "4": seen | {"outages": [[1.0, longest_ms]] if lost else [], "answered_by": ["a", "b"], "answering_at_the_end": ["b"]},
        "decided_ms": 10.0,
        "to_kernel_ms": 1.5,
    } | more


def cell(column: str, fault: str, runs: list[dict[str, Any]], interval_s: float = 0.1, groups: int = 1) -> dict[str, Any]:
    return {
        "contender": column.partition(",")[0], "column": column, "fault": fault, "interval_s": interval_s, "groups": groups,
        "virtual_mac": "virtual" in column, "families": [4], "runs": runs, "failures": [],
    }  # fmt: skip


def document(*measured: dict[str, Any]) -> dict[str, Any]:
    return {"machine": MACHINE, "cells": list(measured), "starts_ms": [300.0, 310.0, 350.0]}


@pytest.mark.parametrize(
    "answering, two_hosts_ms, nobody_ms, at_the_end",
    [
        ({"a": [(0.0, 1.0)], "b": [(0.9, 2.0)]}, 100, 0, ["b"]),
        ({"a": [(0.0, 1.0)], "b": [(1.01, 2.0)]}, 0, 0, ["b"]),
        ({"a": [(0.0, 0.5)], "b": [(1.0, 2.0)]}, 0, 500, ["b"]),
        ({"a": [(0.0, 2.0)], "b": [(0.5, 1.0), (1.5, 2.0)]}, 1000, 0, ["a", "b"]),
        ({"a": [(0.0, 1.5)], "b": []}, 0, 500, []),
        ({"a": [], "b": []}, 0, 2000, []),
    ],
)
def test_who_answers_when_and_how_many_at_once(
    answering: dict[str, Any], two_hosts_ms: float, nobody_ms: float, at_the_end: list[str]
) -> None:
    told = Sighting(0.0, 2.0, answering)
    assert (told.two_hosts_ms, told.nobody_ms, told.at_the_end) == (two_hosts_ms, nobody_ms, at_the_end)


def test_the_ratio_is_of_medians_beside_each_other() -> None:
    ours = cell("kubecarp", "host dies", [run(40, 40), run(60, 60), run(90, 90)])
    theirs = cell("keepalived", "host dies", [run(200, 200), run(300, 300), run(310, 310)])
    page = markdown(document(ours, theirs))
    assert "| host dies | 60 (90) | 300 (310) | 0.20 |" in page
    assert "| 100 ms | - | 10.0 / 1.5 / 51.0 |" in page, "the steps of a takeover"
    assert "| host dies, adverts every 100 ms, kubecarp: median at most 0.5 of keepalived's | 0.20 | yes |" in page


def test_a_promise_that_is_not_kept_is_said() -> None:
    slow = document(cell("kubecarp", "host dies", [run(160, 160)]), cell("keepalived", "host dies", [run(300, 300)]))
    assert "median at most 0.5 of keepalived's | 0.53 | **no** |" in markdown(slow)
    lossy = document(cell("kubecarp, virtual MAC", "SIGTERM", [run(0, 0), run(1, 1)]))
    assert "| 1 lost in 2 runs | **no** |" in markdown(lossy)
    false = document(cell("kubecarp", "loss", [{"takeovers": 3}]), cell("keepalived", "loss", [{"takeovers": 2}]))
    assert "| 3.0 and 2.0 in a run | **no** |" in markdown(false)
    many = document(cell("kubecarp", "host dies", [{"answers_ms": [1.0, 2.0], "to_answer_ms": 101.0, "to_kernel_ms": 9.0}], groups=255))
    assert "each address answers within 100 ms of detection | 101 ms | **no** |" in markdown(many)


def test_a_cell_whose_runs_all_failed_is_shown_as_such() -> None:
    failed = cell("keepalived", "host dies", []) | {"failures": ["too busy"]}
    page = markdown(document(cell("kubecarp", "host dies", [run(40, 40)]), failed, cell("ucarp", "host dies", [])))
    assert "| ucarp |" not in page, "what was not measured yet is not shown"
    assert "| host dies | 40 (40) | failed | - |" in page
    assert "Runs that failed and were repeated: 1." in page


def test_files(tmp_path: Path) -> None:
    many = cell("kubecarp", "host dies", [{"answers_ms": [100.0, 140.0], "to_kernel_ms": 20.0, "to_answer_ms": 104.0}], groups=50)
    measured = document(cell("kubecarp", "host dies", [run(40, 40), run(0, 0)]), many)
    write(measured, tmp_path)
    assert json.loads((tmp_path / "outages.json").read_text()) == measured
    page = (tmp_path / "outages.md").read_text()
    assert "310 (350) ms from the start of its process" in page
    for name in ("outages-100ms.svg", "host-dies.svg", "together.svg"):
        assert f"]({name})" in page
        parse(str(tmp_path / name))  # noqa: S318 - ours
    dots = parse(str(tmp_path / "outages-100ms.svg")).getElementsByTagName("circle")  # noqa: S318 - ours
    assert len(dots) == 2, "a dot for each run"


def test_what_is_compared_is_measured_in_turn() -> None:
    blocks = [block for block in cells(list(CONTENDERS)) if block]
    assert len({one for block in blocks for one in block}) == sum(map(len, blocks)), "no cell twice"
    for block in blocks:
        assert {one.contender for one in block} >= {"kubecarp"}
        assert len({(one.fault, one.groups) for one in block}) == 1
