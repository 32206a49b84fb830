"""What a sidecar costs while nothing happens: processor, memory, packets, by groups, interval and members. ``make bench-costs``.

Writes docs/bench/costs.md and .json. Knows no faults; what a host's death costs is for ``outages``.
"""

import hmac
import json
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.report import machine
from lab.namespace import LabError, become_root, wait_until
from lab.network import Host, Lab
from lab.sidecar import Sidecar, group

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "bench"
SETTLE_S, WATCH_S = 3.0, 20.0
READY_S = 120.0
RANK_STEP = 16
"""Of advskew, as the operator gives them."""
MANY = 255
WANTED_PERCENT, WANTED_KB = 2.0, 40 * 1024
"""Of a core with 255 groups at 1 s, and of memory."""


class Cell(NamedTuple):
    """One row: so many groups, all with the same master, on so many hosts."""

    groups: int
    interval: str
    members: int


CELLS = [
    *(Cell(groups, interval, 2) for interval in ("1s", "200ms", "100ms") for groups in (1, 50, MANY)),
    *(Cell(groups, interval, members) for groups, interval in ((MANY, "1s"), (50, "200ms")) for members in (4, 8)),
]


class Reference:
    """A fixed piece of work, timed again and again: how much other work on the machine slows a processor down."""

    def __init__(self) -> None:
        self._frame = os.urandom(126)

    def once_us(self) -> float:
        began = time.thread_time()
        for _ in range(200):
            hmac.digest(b"k" * 32, self._frame, "sha256")
        return (time.thread_time() - began) * 1e6


def cpu_s(pid: int) -> float:
    """Processor time of all threads, to the nanosecond: the clock ticks of /proc/PID/stat are too coarse for one group."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def packets(lab: Lab, host: Host) -> int:
    """Frames that the host has sent, as its switch port counts them."""
    (shown,) = lab.switch.ip_json("-statistics", "link", "show", host.port("wide0").device)
    return int(shown["stats64"]["rx"]["packets"])


def start(lab: Lab, cell: Cell) -> list[Sidecar]:
    """The master of every group, and then the backups, which have heard it."""
    wide = lab.segment("wide")
    members = []
    for rank, host in enumerate(list(lab.members())):
        lab.plug_in(host, wide, "wide0", f"10.88.0.{rank + 1}/16")
        groups = [
            group(
                f"g{number}",
                number,
                interface="wide0",
                addresses=[f"10.88.{1 + number // 200}.{1 + number % 200}"],
                advertisement_interval=cell.interval,
                advskew=RANK_STEP * rank,
            )
            for number in range(1, cell.groups + 1)
        ]
        members.append(Sidecar(lab, host, groups).start())
        wanted = "BACKUP" if rank else "MASTER"
        wait_until(partial(_all_are, members[-1], wanted), READY_S, f"all groups of {host.name} are {wanted}", every_s=0.2)
    return members


def _all_are(member: Sidecar, state: str) -> bool:
    return all(one["state"] == state and one["master"] for one in member.status()["groups"])


def watch(seconds: float, reference: Reference) -> float:
    """Let time pass; how long the reference took meanwhile, median."""
    ends, seen = time.monotonic() + seconds, list[float]()

    def passed() -> bool:
        seen.append(reference.once_us())
        return time.monotonic() >= ends

    wait_until(passed, seconds + 10, "time passes", every_s=0.2)
    return median(seen)


def measure(cell: Cell, reference: Reference) -> dict[str, Any]:
    """One cell; of several backups the dearest counts."""
    with Lab.simple(cell.members) as lab:
        members = start(lab, cell)
        watch(SETTLE_S, reference)
        before = [(cpu_s(one.pid), packets(lab, one.host)) for one in members]
        began = time.monotonic()
        reference_us = watch(WATCH_S, reference)
        seconds = time.monotonic() - began
        after = [(cpu_s(one.pid), packets(lab, one.host)) for one in members]
        spent = [(now[0] - then[0], now[1] - then[1]) for then, now in zip(before, after, strict=True)]
        for rank, member in enumerate(members):
            if not _all_are(member, "BACKUP" if rank else "MASTER"):
                raise LabError(f"the groups of {member.host.name} did not keep still")
        return cell._asdict() | {
            "master_cpu_percent": round(spent[0][0] / seconds * 100, 3),
            "backup_cpu_percent": round(max(cpu for cpu, _ in spent[1:]) / seconds * 100, 3),
            "master_packets_per_s": round(spent[0][1] / seconds, 1),
            "backup_packets_per_s": round(max(sent for _, sent in spent[1:]) / seconds, 1),
            "master_kb": members[0].memory_kb(),
            "backup_kb": max(one.memory_kb() for one in members[1:]),
            "reference_us": round(reference_us, 1),
            "load": round(os.getloadavg()[0], 2),
        }


def promises(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What was wanted, and whether it is so."""
    for row in rows:
        if (row["groups"], row["interval"], row["members"]) == (MANY, "1s", 2):
            for who in ("master", "backup"):
                percent = row[f"{who}_cpu_percent"]
                verdict = "yes" if percent <= WANTED_PERCENT else "no"
                yield f"- {MANY} groups at 1 s on a {who}: at most {WANTED_PERCENT:g} % of a core: **{verdict}**, {percent:.2f} %."
    most_kb = max(max(row["master_kb"], row["backup_kb"]) for row in rows)
    yield f"- At most {WANTED_KB / 1024:g} MB of memory everywhere: **{'yes' if most_kb <= WANTED_KB else 'no'}**, {most_kb / 1024:.1f} MB."


COLUMNS = (
    "groups", "interval", "members", "master, % of a core", "us each", "backup, % of a core", "us each",
    "packets/s, master", "packets/s, backup", "RSS master, MB", "RSS backup, MB", "slowed", "load",
)  # fmt: skip
ABOUT = f"""\
# What a sidecar costs while nothing happens

One host is the master of all groups, the others are their backups; Strict mode, virtual MAC, one IPv4 address each. {WATCH_S:g} s of each.

*% of a core* is the processor time of all threads of the sidecar, with the kernel's work for its system calls: on these virtual wires a
send carries the frame to the other end of the bridge, which a network card does not charge to the sender. *us each*: the same for each
advert. Of several backups the dearest. Packets are all that leave the host. Hosts are network namespaces of one machine, so members share
its processors and caches. *slowed*: how much longer a fixed piece of work took meanwhile than in the quietest row; processor times are
stretched at least as much. *load*: of the machine over the last minute, other work among it.
"""


def _row(row: dict[str, Any], quickest_us: float) -> str:
    adverts = row["groups"] / {"1s": 1.0, "200ms": 0.2, "100ms": 0.1}[row["interval"]]
    cpu = [row[f"{who}_cpu_percent"] for who in ("master", "backup")]
    cells = [row["groups"], row["interval"], row["members"]]
    cells += [text for percent in cpu for text in (f"{percent:.2f}", f"{percent / 100 / adverts * 1e6:.0f}")]
    cells += [f"{row[f'{who}_packets_per_s']:g}" for who in ("master", "backup")]
    cells += [f"{row[f'{who}_kb'] / 1024:.1f}" for who in ("master", "backup")]
    cells += [f"x {row['reference_us'] / quickest_us:.2f}", f"{row['load']:.2f}"]
    return f"| {' | '.join(map(str, cells))} |"


def page(document: dict[str, Any]) -> str:
    """The results for people."""
    rows = document["cells"]
    quickest_us = min(row["reference_us"] for row in rows)
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS), *(_row(row, quickest_us) for row in rows)]
    facts = [f"| {name} | {f'`{value}`' if name == 'command' else value} |" for name, value in document["machine"].items()]
    failed = [f"- Failed: {one}." for one in document["failed"]]
    return "\n".join([ABOUT, *promises(rows), *failed, "", *lines, "", "| | |", "| --- | --- |", *facts, ""])


def main() -> int:
    """0 when every cell was measured in peace."""
    become_root()
    facts = {name: value for name, value in machine("make bench-costs").items() if name not in ("keepalived", "ucarp")}
    document: dict[str, Any] = {"machine": facts, "cells": [], "failed": []}
    reference = Reference()
    for number, cell in enumerate(CELLS, 1):
        name = f"{cell.groups} groups, {cell.interval}, {cell.members} members"
        print(f"[{number}/{len(CELLS)}] {name}", flush=True)
        try:
            document["cells"].append(measure(cell, reference))
        except LabError as error:
            document["failed"].append(f"{name}: {error}")
        (FOLDER / "costs.json").write_text(json.dumps(document, indent=1) + "\n")
    (FOLDER / "costs.md").write_text(page(document))
    print(page(document))
    return 1 if document["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
