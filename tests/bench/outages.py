"""Measures outages with a 1 ms probe, kubecarp beside keepalived and ucarp: ``PYTHONPATH=sidecar:tests python -m bench.outages``.

Writes docs/bench/outages.md and .json after every cell, so that an interrupted run leaves what it has.
"""

import argparse
import contextlib
import json
import random
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.contenders import CONTENDERS, FAULTS, Cell, Contender, Fault, cells
from bench.costs import COSTS
from bench.report import machine, markdown
from lab.namespace import LabError, become_root, wait_until
from lab.network import Lab
from lab.prober import Prober, ProbeResult

TAKEOVER_TIMEOUT_S = 20.0
ATTEMPTS_MORE = 3
"""Runs that may fail (a busy machine) before a cell is given up."""
QUICK_RUNS = 2
QUICK_INTERVALS_S = (0.1,)
ROOT = Path(__file__).resolve().parents[2]


class Pair:
    """Two members of a contender on two hosts, one of them master, through any number of faults."""

    def __init__(self, lab: Lab, contender: Contender, cell: Cell) -> None:
        self._lab, self._contender, self._cell = lab, contender, cell
        self.master, self.backup = (contender.make(lab, lab[name], rank, cell) for rank, name in enumerate("ab"))
        self.master.start()
        self.master.wait_state("MASTER", TAKEOVER_TIMEOUT_S)
        self.backup.start()
        contender.steady(self.backup, cell)

    def run(self, fault: Fault, probers: dict[int, Prober]) -> None:
        """Let the fault happen to the master at a random moment; then undo it, the roles being exchanged."""
        for prober in probers.values():
            prober.wait_answering()
        moment = time.monotonic() + random.uniform(0, self._cell.interval_s)
        wait_until(lambda: time.monotonic() >= moment, self._cell.interval_s + 1, "the moment comes", every_s=0.001)
        fault.apply(self._lab, self.master)
        self.backup.wait_state("MASTER", TAKEOVER_TIMEOUT_S)
        for prober in probers.values():
            prober.wait_answering()

    def settle(self, fault: Fault) -> bool:
        """Undo the fault and wait until one is master and the other a steady backup; whether the roles are exchanged for good."""
        fault.undo(self._lab, self.master)
        before = self.backup
        wait_until(lambda: "MASTER" in (self.master.state, self.backup.state), TAKEOVER_TIMEOUT_S, "somebody is master")
        if self.backup.state == "MASTER":
            self.master, self.backup = self.backup, self.master
        self._contender.steady(self.backup, self._cell)
        return self.master is before


def summary(result: ProbeResult) -> dict[str, Any]:
    """What is kept of one probe: the outage, and how far it can be trusted."""
    kept = {name: getattr(result, name) for name in ("longest_ms", "lost", "sent", "duplicates", "skipped", "worst_lateness_ms")}
    return kept | {"outages": [asdict(outage) for outage in result.outages], "answered_by": result.ttls}


def measure(cell: Cell, runs: int, progress: "Progress") -> dict[str, Any]:
    """All runs of a cell; a failed run is written down and the pair is made anew."""
    contender, fault = CONTENDERS[cell.contender], FAULTS[cell.fault]
    done: list[dict[str, Any]] = []
    failures: list[str] = []
    returned = 0
    while len(done) < runs and len(failures) <= ATTEMPTS_MORE:
        try:
            with Lab.simple(2) as lab:
                pair = Pair(lab, contender, cell)
                while len(done) < runs:
                    progress.show(f"{cell}: run {len(done) + 1} of {runs}")
                    with contextlib.ExitStack() as stack:
                        probers = {family: stack.enter_context(Prober(lab.client, address)) for family, address in cell.addresses.items()}
                        pair.run(fault, probers)
                        done.append({str(family): summary(prober.stop()) for family, prober in probers.items()})
                    returned += not pair.settle(fault)
        except (LabError, OSError) as error:
            failures.append(str(error)[:2000])
    return asdict(cell) | {"runs": done, "failures": failures, "returned_to_old_master": returned}


class Progress:
    """One line that says how far the measurement is; plain lines when not on a terminal."""

    def __init__(self, total: int) -> None:
        self._total, self._at, self._started = total, 0, time.monotonic()

    def next(self) -> None:
        self._at += 1

    def show(self, text: str) -> None:
        minutes = (time.monotonic() - self._started) / 60
        line = f"[{self._at}/{self._total}, {minutes:.0f} min] {text}"
        print(f"\r\033[K{line}" if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="runs of each kind (default 10)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs at 100 ms only: does it work at all?")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="cells whose description contains each of these words")
    parser.add_argument("--contenders", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--no-costs", action="store_true", help="outages only")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "bench", help="folder of outages.md and outages.json")
    return parser.parse_args()


def main() -> int:
    """0 when every cell has its runs."""
    options = arguments()
    become_root()
    runs = QUICK_RUNS if options.quick else options.runs
    installed = [name for name in options.contenders if CONTENDERS[name].program is None or shutil.which(str(CONTENDERS[name].program))]
    chosen = [cell for cell in cells(installed) if all(word in str(cell) for word in options.only)]
    if options.quick:
        chosen = [cell for cell in chosen if cell.interval_s in QUICK_INTERVALS_S]
    costs = {} if options.no_costs or options.only else COSTS
    document: dict[str, Any] = {"machine": machine(" ".join(["python -m bench.outages", *sys.argv[1:]])), "cells": [], "costs": {}}
    progress = Progress(len(chosen) + len(costs))
    for cell in chosen:
        progress.next()
        document["cells"].append(measure(cell, runs, progress))
        write(document, options.output)
    for name, cost in costs.items():
        progress.next()
        progress.show(name)
        try:
            document["costs"][name] = cost(runs)
        except LabError as error:
            document["costs"][name] = {"failed": str(error)[:2000]}
        write(document, options.output)
    print(f"\n{markdown(document)}\nwritten to {options.output}/outages.md and outages.json")
    incomplete = [cell for cell in document["cells"] if len(cell["runs"]) < runs]
    return 1 if incomplete or any("failed" in figures for figures in document["costs"].values()) else 0


def write(document: dict[str, Any], folder: Path) -> None:
    """The page and the raw figures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "outages.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "outages.md").write_text(markdown(document))


if __name__ == "__main__":
    sys.exit(main())
