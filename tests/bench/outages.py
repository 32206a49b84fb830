"""Measures outages with a 1 ms probe, kubecarp beside keepalived and ucarp: ``PYTHONPATH=sidecar:tests python -m bench.outages``.

What is compared runs alternately. Written after every block, so that an interrupted run leaves what it has and ``--resume`` goes on.
"""

import argparse
import contextlib
import json
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.bar import Bar
from bench.contenders import CONTENDERS, INTERVALS_S, Cell, cells
from bench.faults import FAULTS
from bench.plots import plots
from bench.report import machine, markdown
from bench.runs import Pair, Run
from bench.start import start_to_answer_ms
from bench.together import all_die
from lab.namespace import LabError, become_root

FAILURES_ALLOWED = 3
"""Runs of a cell that may fail (a busy machine) before it is given up."""
QUICK_RUNS = 2
QUICK_INTERVALS_S = (0.1, 0.2)
QUICK_WATCH_S = 10.0
START_INTERVAL_S, START_S = 0.2, 2.0
"""The default interval; about what it takes to measure a start."""
ROOT = Path(__file__).resolve().parents[2]

Document = dict[str, Any]


def expected_s(cell: Cell, watch_limit_s: float) -> float:
    """About what a run takes."""
    fault = FAULTS[cell.fault]
    if cell.groups > 1:
        return 8 + 8 * cell.interval_s + cell.groups / 50
    if fault.at_once:
        return min(fault.watch_s, watch_limit_s) / 8
    return 4 + 4 * cell.interval_s + min(fault.watch_s, watch_limit_s) + 3 * (not fault.moves)


def entry_of(document: Document, cell: Cell) -> dict[str, Any]:
    """Where the runs of a cell are kept."""
    names = asdict(cell) | {"families": list(cell.families)}
    found: dict[str, Any] | None = next((one for one in document["cells"] if names.items() <= one.items()), None)
    if found is None:
        found = names | {"column": cell.column, "runs": [], "failures": []}
        document["cells"].append(found)
    return found


class Bench:
    """Measures block after block into a document that is saved as it grows."""

    def __init__(self, options: argparse.Namespace, document: Document, bar: Bar) -> None:
        self._options, self._document, self._bar = options, document, bar
        self._pairs: dict[Cell, Pair] = {}

    def measure(self, block: Sequence[Cell]) -> None:
        """All runs of a block, each round in another order."""
        try:
            while wanted := [cell for cell in block if self._wants(cell)]:
                order = random.sample(wanted, len(wanted))
                for group in [order] if FAULTS[wanted[0].fault].at_once else [[cell] for cell in order]:
                    self._attempt(group)
        finally:
            for cell in block:
                self._discard(cell)
            write(self._document, self._options.output)

    def _wants(self, cell: Cell) -> bool:
        entry = entry_of(self._document, cell)
        return len(entry["runs"]) < self._options.runs and len(entry["failures"]) <= FAILURES_ALLOWED

    def _attempt(self, group: Sequence[Cell]) -> None:
        """One run of each; when it fails that is written down, and the pairs are made anew."""
        for cell in group:
            self._bar.show(f"{cell}: run {len(entry_of(self._document, cell)['runs']) + 1} of {self._options.runs}")
        try:
            for cell, seen in zip(group, self._run(group), strict=True):
                entry_of(self._document, cell)["runs"].append(seen)
                self._bar.advance(expected_s(cell, self._options.watch_limit_s))
        except (LabError, OSError, subprocess.SubprocessError) as error:
            for cell in group:
                entry_of(self._document, cell)["failures"].append(str(error)[:2000])
                self._discard(cell)

    def _run(self, group: Sequence[Cell]) -> list[dict[str, Any]]:
        if group[0].groups > 1:
            return [all_die(cell) for cell in group]
        pairs = [self._pairs.get(cell) or self._pairs.setdefault(cell, Pair(cell)) for cell in group]
        for pair in pairs:
            pair.settle()
        with contextlib.ExitStack() as stack:
            runs = [stack.enter_context(Run(pair, min(pair.fault.watch_s, self._options.watch_limit_s))) for pair in pairs]
            for run in runs:
                run.begin()
            seen = [run.finish() for run in runs]
        for pair in pairs:
            pair.undo()
        return seen

    def _discard(self, cell: Cell) -> None:
        if pair := self._pairs.pop(cell, None):
            pair.close()

    def measure_starts(self) -> None:
        """As many starts of a lone sidecar as are lacking."""
        starts_ms, failures = self._document["starts_ms"], 0
        while len(starts_ms) < self._options.runs and failures <= FAILURES_ALLOWED:
            self._bar.show(f"start: run {len(starts_ms) + 1} of {self._options.runs}")
            try:
                starts_ms.append(start_to_answer_ms(START_INTERVAL_S))
            except LabError:
                failures += 1
            self._bar.advance(START_S)
        write(self._document, self._options.output)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="runs of each cell (default 20)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs at 100 and 200 ms only: does it work at all?")
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="WORD", help='cells whose description has each of these in it: "SIGSTOP," "100 ms"'
    )
    parser.add_argument("--contenders", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="the cells and how long they may take, and nothing more")
    parser.add_argument("--resume", action="store_true", help="keep the runs that are in the output already, and add what they lack")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "bench", help="folder of outages.md, outages.json and the plots")
    options = parser.parse_args()
    options.watch_limit_s = QUICK_WATCH_S if options.quick else float("inf")
    options.runs = QUICK_RUNS if options.quick else options.runs
    return options


def chosen(options: argparse.Namespace) -> list[list[Cell]]:
    """The blocks to be measured."""
    installed = [name for name in options.contenders if CONTENDERS[name].program is None or shutil.which(str(CONTENDERS[name].program))]
    intervals_s = QUICK_INTERVALS_S if options.quick else INTERVALS_S

    def wanted(cell: Cell) -> bool:
        return cell.interval_s in intervals_s and all(word in str(cell) for word in options.only)

    return [block for block in ([cell for cell in block if wanted(cell)] for block in cells(installed)) if block]


def started(options: argparse.Namespace) -> Document:
    """An empty document, or the one that is gone on with."""
    command = "python -m bench.outages " + shlex.join(sys.argv[1:])
    document: Document = {"machine": machine(command), "cells": [], "starts_ms": []}
    path = options.output / "outages.json"
    if not options.resume or not path.exists():
        return document
    before: Document = json.loads(path.read_text())
    differs = [name for name in ("processor", "kernel", "python", "kubecarp", "keepalived", "ucarp")
               if before["machine"].get(name) != document["machine"][name]]  # fmt: skip
    if differs:
        sys.exit(f"{path} was measured with another {', '.join(differs)}: without --resume it is made anew")
    if "starts_ms" not in before:
        sys.exit(f"{path} is of an older bench: without --resume it is made anew")
    before["machine"]["command"] += f"; {command}"
    return before


def main() -> int:
    """0 when every cell has its runs."""
    options = arguments()
    become_root()
    blocks = chosen(options)
    document = started(options)
    lacking = {cell: max(0, options.runs - len(entry_of(document, cell)["runs"])) for block in blocks for cell in block}
    planned_s = sum(expected_s(cell, options.watch_limit_s) * count for cell, count in lacking.items())
    starts = 0 if options.only else options.runs - len(document["starts_ms"])
    planned_s += START_S * max(0, starts)
    if options.list:
        print(*(f"{count} runs of {cell}" for cell, count in lacking.items() if count), f"about {planned_s / 60:.0f} minutes", sep="\n")
        return 0
    try:
        with Bar(planned_s) as bar:
            bench = Bench(options, document, bar)
            for block in blocks:
                bench.measure(block)
            if starts > 0:
                bench.measure_starts()
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was measured is in {options.output}, --resume goes on", file=sys.stderr)
        return 130
    print(f"\n{markdown(document)}\nwritten to {options.output}")
    incomplete = [cell for cell in lacking if len(entry_of(document, cell)["runs"]) < options.runs]
    return 1 if incomplete or (starts > 0 and len(document["starts_ms"]) < options.runs) else 0


def write(document: Document, folder: Path) -> None:
    """The page, its plots, and the raw figures with one line for each cell."""
    folder.mkdir(parents=True, exist_ok=True)
    head = json.dumps({name: part for name, part in document.items() if name != "cells"}, indent=1).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(cell)}" for cell in document["cells"])
    (folder / "outages.json").write_text(f'{head},\n "cells": [\n{lines}\n ]\n}}\n')
    (folder / "outages.md").write_text(markdown(document))
    for name, drawn in plots(document["cells"]).items():
        (folder / name).write_text(drawn)


if __name__ == "__main__":
    sys.exit(main())
