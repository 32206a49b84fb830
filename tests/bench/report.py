"""Turns measurements into a Markdown page, and says on what machine they were made."""

__all__ = ["machine", "markdown"]

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.faults import FAULTS
from bench.figures import COLUMNS, Figures, promises, ratio
from bench.plots import plots
from lab.peers import version_of

_TITLE = "# Outages, measured\n"
_ABOUT = """\
How long a client gets no answer when something happens to the master, with kubecarp, keepalived and ucarp side by side: two members and a
client on one switch, the same interval of adverts, runs in turn. Milliseconds: the median of all runs, in brackets the worst; 0 means that
no probe was lost. *ratio* is kubecarp's median as a part of keepalived's, both without virtual MAC.
"""
_METHOD = """\
## How it was measured

Every host is a network namespace on a bridge. The client sends one ICMP echo each millisecond on an absolute schedule; an outage lasts from
the first unanswered probe to the arrival of the next answer, and the figure is the longest of a run. A probe that the client itself was
late for is not sent, and answers are timed by the kernel. A witness that is no client asks for the address by ARP (NS) every 10 ms, and
answers are counted at the switch port of each host, so that hosts with the same virtual MAC are told apart. The fault comes at a random
moment between two adverts. After it the host is as a boot leaves it, and the other one is the master of the next run.

kubecarp runs in Strict mode at its defaults but for the interval. keepalived runs as VRRPv3 with the best priorities there are (254 and
253: with lower ones its backups wait longer), `nopreempt` but for the faults that are about preemption; ucarp with scripts that add and
remove the address. ucarp knows whole seconds only. A dash: the contender has no such thing.
"""
_NOISE = """\
All hosts, the programs and the probes share the cores of one machine, so other work on it lengthens outages of everybody: compare within
a row, not across measurements. In the runs of this page the client was at most {late:.1f} ms late for a probe, and left out {skipped} of
{sent}.
Runs that failed and were repeated: {failed}.
"""


def machine(command: str) -> dict[str, str]:
    """What somebody needs to repeat the measurement."""
    cpus = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "command": command,
        "processor": f"{os.cpu_count()} x {cpus[0] if cpus else platform.machine()}",
        "memory": f"{memory_kb / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "python": sys.version.split()[0],
        "kubecarp": _our_version(),
        "keepalived": version_of("keepalived") or "not installed",
        "ucarp": version_of("ucarp") or "not installed",
        "load at start": f"{os.getloadavg()[0]:.2f}",
    }


def _our_version() -> str:
    code = "import carp_sidecar; print(carp_sidecar.__version__)"
    sources = Path(__file__).resolve().parents[2] / "sidecar"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=sources, timeout=20, check=True)
    return done.stdout.strip()


Rows = dict[tuple[int, str, float], dict[str, Figures]]


def markdown(document: dict[str, Any]) -> str:
    """The page: tables first, then how they came about."""
    rows: Rows = {}
    for cell in [one for one in document["cells"] if one["runs"] or one["failures"]]:
        rows.setdefault((cell["groups"], cell["fault"], cell["interval_s"]), {})[cell["column"]] = Figures(cell)
    counts = sorted({len(figures.runs) for row in rows.values() for figures in row.values()})
    runs = f"Runs of each kind: {' to '.join(map(str, sorted({counts[0], counts[-1]})))}.\n" if counts else ""
    pictures = "\n\n".join(f"![{text}]({name})" for name, text in _pictures(document["cells"])) + "\n"
    parts = [
        _TITLE,
        _ABOUT + "\n" + runs,
        _outages(rows),
        pictures,
        _answering(rows),
        _takeovers(rows),
        _together(rows),
        _families(rows),
        _steps(rows),
    ]
    parts += [_starts(document["starts_ms"]), _promises(rows), _METHOD, _faults(rows), _noise(rows), _machine(document["machine"])]
    return "\n".join(part for part in parts if part.strip())


def _pictures(cells: list[dict[str, Any]]) -> list[tuple[str, str]]:
    names = {"outages-": "Every run at this interval", "host-dies": "Outages when the host dies", "together": "Many groups whose host dies"}
    return [(name, next(text for start, text in names.items() if name.startswith(start))) for name in plots(cells)]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _spread(values: list[float], digits: int = 0) -> str:
    return f"{median(values):.{digits}f} ({max(values):.{digits}f})" if values else "-"


def _columns(rows: Rows) -> list[str]:
    return [name for name in COLUMNS if any(name in row for row in rows.values())]


def _cells(row: dict[str, Figures], columns: list[str], figure: Callable[[Figures], str]) -> list[str]:
    """One text for each column: a dash where nothing is to be had, and a word where every run failed."""
    return [(figure(row[name]) if row[name].runs else "failed") if name in row else "-" for name in columns]


def _ratio(ours: list[float], theirs: list[float]) -> str:
    part = ratio(ours, theirs)
    return "-" if part is None else f"{part:.2f}"


def _beside(row: dict[str, Figures], figure: Callable[[Figures], list[float]]) -> str:
    return _ratio(figure(row["kubecarp"]), figure(row["keepalived"])) if {"kubecarp", "keepalived"} <= row.keys() else "-"


def _outages(rows: Rows) -> str:
    parts = []
    for interval_s in sorted({one for groups, _, one in rows if groups == 1}, reverse=True):
        chosen = {fault: row for (groups, fault, at), row in rows.items() if groups == 1 and at == interval_s and not FAULTS[fault].at_once}
        columns = _columns({(1, fault, interval_s): row for fault, row in chosen.items()})
        body = [
            [fault, *_cells(row, columns, lambda one: _spread(one.of("longest_ms"))), _beside(row, lambda one: one.of("longest_ms"))]
            for fault, row in chosen.items()
        ]
        if body:
            parts.append(f"## Adverts every {interval_s * 1000:g} ms\n\n" + _table(["fault", *columns, "ratio"], body))
    return "\n".join(parts)


def _answering(rows: Rows) -> str:
    """Where more than one host answers, or none: what ARP says, and not the probes."""
    columns = _columns(rows)

    def both(figures: Figures) -> str:
        two, nobody = figures.of("two_hosts_ms"), figures.of("nobody_ms")
        return f"{median(two):.0f}{' and on' if figures.two_hosts_to_the_end else ''} / {median(nobody):.0f}" if two else "-"

    body = [
        [fault, f"{interval_s * 1000:g} ms", *_cells(row, columns, both)]
        for (groups, fault, interval_s), row in rows.items()
        if groups == 1 and not FAULTS[fault].at_once
    ]
    text = """## Two hosts answer, or none

Milliseconds in which two hosts answered ARP for the address / in which none did; medians, good to 10 ms. *and on*: two still answered
when the run was over, some seconds later; by itself it does not end.

"""
    return text + _table(["fault", "interval", *columns], body) if body else ""


def _takeovers(rows: Rows) -> str:
    columns = _columns(rows)
    body = [
        [fault, f"{interval_s * 1000:g} ms", *_cells(row, columns, lambda one: f"{mean(one.takeovers):.1f}" if one.takeovers else "-")]
        for (groups, fault, interval_s), row in rows.items()
        if groups == 1 and not FAULTS[fault].moves
    ]
    text = """## Failovers that need not be

How many times a member became master in a run, by the log of the program; the mean. With *loss* nobody dies, so each one is false.

"""
    return text + _table(["fault", "interval", *columns], body) if body else ""


def _together(rows: Rows) -> str:
    many = {key: row for key, row in rows.items() if key[0] > 1}
    columns = _columns(many)

    def figure(one: Figures) -> str:
        return f"{_spread([first for first, _ in one.first_and_last_ms])} to {_spread([last for _, last in one.first_and_last_ms])}"

    body = [
        [
            str(groups), f"{interval_s * 1000:g} ms", *_cells(row, columns, figure),
            _beside(row, lambda one: [last for _, last in one.first_and_last_ms]),
            ", ".join(_cells(row, columns[:2], lambda one: _spread(one.steps("to_answer_ms")))),
        ]
        for (groups, _, interval_s), row in many.items()
    ]  # fmt: skip
    text = """## Many groups whose host dies

Milliseconds from the death until the first and until the last of the addresses answers from the other host; *ratio* of the last. Each group
has an address of its own (keepalived: as many VRRP instances in one process). *detected*: from the decision to take over to the first
answer, the slowest group of each run, with and without virtual MAC.

"""
    return text + _table(["groups", "interval", *columns, "ratio", "detected"], body) if body else ""


def _families(rows: Rows) -> str:
    body = [
        [fault, f"{interval_s * 1000:g} ms", *_cells(row, list(COLUMNS[:2]), lambda one: _spread(one.of("longest_ms", 6)))]
        for (groups, fault, interval_s), row in rows.items()
        if groups == 1 and "kubecarp" in row and not FAULTS[fault].at_once
    ]
    return (
        "## IPv6\n\nThe same runs, the second address of the group.\n\n" + _table(["fault", "interval", *COLUMNS[:2]], body) if body else ""
    )


def _steps(rows: Rows) -> str:
    def figure(one: Figures) -> str:
        return " / ".join(f"{median(step):.1f}" for step in (one.steps("decided_ms"), one.steps("to_kernel_ms"), one.decision_to_answer_ms))

    body = [
        [f"{interval_s * 1000:g} ms", *_cells(row, list(COLUMNS[:2]), figure)]
        for (groups, fault, interval_s), row in rows.items()
        if (groups, fault) == (1, "host dies")
    ]
    text = """## Where the time goes when the host dies

kubecarp, medians in milliseconds: from the death to the decision to take over / from there until the kernel has both addresses / and until
the first probe is answered.

"""
    return text + _table(["interval", *COLUMNS[:2]], body) if body else ""


def _starts(starts_ms: list[float]) -> str:
    text = "## Start\n\nA sidecar that is alone answers the first probe after"
    return f"{text} {_spread(starts_ms)} ms from the start of its process.\n" if starts_ms else ""


def _promises(rows: Rows) -> str:
    body = [list(one) for one in promises(rows)]
    return "## What is promised\n\n" + _table(["promise", "measured", "kept"], body) if body else ""


def _faults(rows: Rows) -> str:
    named = dict.fromkeys(fault for _, fault, _ in rows)
    return "\n".join(f"- *{fault}*: {FAULTS[fault].means}" for fault in named) + "\n" if named else ""


def _noise(rows: Rows) -> str:
    all_figures = [figures for row in rows.values() for figures in row.values()]

    def of(name: str) -> list[float]:
        return [one for figures in all_figures for family in figures.families for one in figures.of(name, family)] or [0.0]

    failed = sum(figures.failed for figures in all_figures)
    return _NOISE.format(late=max(of("late_by_ms")), skipped=int(sum(of("skipped"))), sent=int(sum(of("sent"))), failed=failed)


def _machine(facts: dict[str, str]) -> str:
    return "## Machine\n\n" + _table(["", ""], [[name, f"`{value}`" if name == "command" else value] for name, value in facts.items()])
