#!/usr/bin/env python3
"""What the faults of a real cluster cost a client that never stops asking. Both ways to run it write docs/bench/cluster.md and .json.

`make bench-cluster` measures kubecarp under every fault, with ARGS=--beside kubecarp, MetalLB and kube-vip under those of all.

Three nodes with kubelet, containerd and kube-proxy, the image and the chart at their defaults. Every fault is done in every round, so that
a slow minute of the machine does not fall on one of them alone. What is measured is written after each round.
"""

__all__ = ["main"]

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench import cluster_beside as beside
from bench.cluster_contenders import CONTENDERS, Contender
from bench.cluster_report import keep
from lab.cluster_faults import FAULTS, suffer
from lab.manifests import carp_group
from lab.namespace import LabError
from lab.programs import build
from lab.real_cluster import VIP, RealCluster

RUNS = 5
GROUP = "intranet"
LOST = (LabError, OSError, subprocess.SubprocessError)
"""What a busy machine may do to a run: it is lost, and said to be."""
Step = Callable[[], dict[str, Any]]


class Rounds:
    """Progress, and what became of each step."""

    def __init__(self, console: Console, progress: Progress, total: int) -> None:
        self._console, self._progress = console, progress
        self._task: TaskID = progress.add_task("", total=total)

    def say(self, text: str) -> None:
        """What is being done."""
        self._progress.update(self._task, description=text)

    def tell(self, text: str) -> None:
        """Something that stays to be read."""
        self._console.print(text)

    def do(self, name: str, step: Step, into: list[dict[str, Any]]) -> None:
        """One measurement; the one after a lost one starts from a repaired cluster."""
        self.say(name)
        try:
            into.append(step())
        except LOST as error:
            self.tell(f"{name}: {str(error)[:400]}")
            into.append({"failed": str(error)[:400]})
        self._progress.advance(self._task)


def measure(cluster: RealCluster, name: str) -> dict[str, Any]:
    """One fault of kubecarp alone, from health to health."""
    cluster.repair()
    seen = suffer(cluster, FAULTS[name], GROUP, VIP).result
    kept = {field: getattr(seen, field) for field in ("longest_ms", "lost", "sent", "duplicates", "skipped", "worst_lateness_ms")}
    return kept | {"outages_ms": [one.duration_ms for one in seen.outages], "load": round(os.getloadavg()[0], 2)}


def measure_ours(rounds: Rounds, runs: int, names: list[str]) -> None:
    """Every fault in every round, in one cluster."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with contextlib.closing(RealCluster(say=rounds.say)) as cluster:
        cluster.install()
        cluster.apply(carp_group(GROUP, VIP))
        for _ in range(runs):
            for name in names:
                rounds.do(name, partial(measure, cluster, name), found[name])
            keep("faults", found, "make bench-cluster")


def measure_one(rounds: Rounds, contender: Contender, names: list[str], kept: dict[str, Any]) -> None:
    """A contender in a cluster of its own: from nothing to the address, then its faults."""
    with contextlib.closing(RealCluster(images=contender.images(), say=rounds.say)) as cluster:
        contender.prepare(cluster)
        kept["apply_ms"] += beside.measure_apply(cluster, contender)
        for name in names:
            rounds.do(f"{contender.name}: {name}", partial(beside.measure, cluster, contender, name), kept["faults"][name])


def measure_beside(rounds: Rounds, plan: list[list[str]], contenders: list[Contender]) -> None:
    """Every contender in every round, each in a cluster of its own; ``plan`` has the faults of each round, all of them in the first."""
    build(*(program for contender in contenders for program in contender.programs))
    found: dict[str, dict[str, Any]] = {one.name: {"apply_ms": [], "faults": {name: [] for name in plan[0]}} for one in contenders}
    for names in plan:
        for contender in contenders:
            try:
                measure_one(rounds, contender, names, found[contender.name])
            except LOST as error:
                rounds.tell(f"{contender.name}, before the faults: {str(error)[:400]}")
            keep("beside", found, "make bench-cluster ARGS=--beside")


def main() -> int:
    """Run it and write the report; what was measured before Ctrl-C is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each fault (default: {RUNS})")
    parser.add_argument("--slow-runs", type=int, metavar="RUNS", help="of those that take minutes (default: as --runs)")
    parser.add_argument("--beside", action="store_true", help="kubecarp beside the others, instead of all faults of kubecarp")
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS), help="with --beside: this one alone (repeatable)")
    parser.add_argument("--only", action="append", choices=sorted({*FAULTS, *beside.FAULTS}), help="this fault alone (repeatable)")
    arguments = parser.parse_args()
    available = beside.FAULTS if arguments.beside else FAULTS
    names = [name for name in available if name in (arguments.only or available)]
    contenders = [CONTENDERS[name] for name in arguments.contender or CONTENDERS]
    console = Console(stderr=True)
    columns = [TextColumn("{task.description:48}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as progress, contextlib.suppress(KeyboardInterrupt):
        if arguments.beside:
            slow = arguments.runs if arguments.slow_runs is None else arguments.slow_runs
            plan = [[name for name in names if number < slow or name not in beside.SLOW] for number in range(arguments.runs)]
            measure_beside(Rounds(console, progress, sum(map(len, plan)) * len(contenders)), plan, contenders)
        else:
            measure_ours(Rounds(console, progress, arguments.runs * len(names)), arguments.runs, names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
