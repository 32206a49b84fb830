"""Turns measurements into a Markdown page, and says on what machine they were made."""

__all__ = ["machine", "markdown"]

import os
import platform
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from lab.peers import version_of

_TITLE = "# Outages, measured\n"
_METHOD = """\
Two members and a client on one bridge, each in its own network namespace. The client sends one ICMP echo each millisecond on an absolute
schedule; an outage lasts from the first unanswered probe to the arrival of the next answer. The figure is the longest outage of a run in
milliseconds: median, and the worst run in brackets; 0 means that no probe was lost. *host dies*: its switch port stops forwarding and every
process on it is killed. The fault comes at a random moment of the advert interval. keepalived and ucarp ran in the same session, with their
best priorities; keepalived as VRRPv3, `nopreempt`; ucarp with scripts that add and remove the address.
"""


def machine(command: str) -> dict[str, str]:
    """What somebody needs to repeat the measurement."""
    cpus = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "command": command,
        "processor": f"{os.cpu_count()} x {cpus[0] if cpus else platform.machine()}",
        "kernel": platform.release(),
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


def markdown(document: dict[str, Any]) -> str:
    """The page: method, tables, costs, machine."""
    runs = sorted({len(cell["runs"]) for cell in document["cells"]})
    parts = [_TITLE, _METHOD, f"Runs of each kind: {' to '.join(map(str, sorted({runs[0], runs[-1]})))}.\n" if runs else ""]
    parts += [_ours(document["cells"]), _beside(document["cells"]), _costs(document["costs"]), _machine(document["machine"])]
    return "\n".join(part for part in parts if part)


def _figures(cell: dict[str, Any], family: int) -> str:
    longest = [run[str(family)]["longest_ms"] for run in cell["runs"] if str(family) in run]
    if not longest:
        return "failed"
    failed = f", {len(cell['failures'])} failed" if cell["failures"] else ""
    return f"{median(longest):.0f} ({max(longest):.0f}{failed})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _ours(cells: list[dict[str, Any]]) -> str:
    by_row: dict[tuple[str, float], dict[tuple[bool, int], str]] = defaultdict(dict)
    for cell in cells:
        if cell["contender"] == "kubecarp":
            for family in cell["families"]:
                by_row[cell["fault"], cell["interval_s"]][cell["virtual_mac"], family] = _figures(cell, family)
    if not by_row:
        return ""
    columns = [(True, 4), (True, 6), (False, 4), (False, 6)]
    head = ["fault", "interval", *(f"{'virtual' if mac else 'physical'} MAC, IPv{family}" for mac, family in columns)]
    rows = [[fault, f"{interval * 1000:g} ms", *(found.get(one, "-") for one in columns)] for (fault, interval), found in by_row.items()]
    return "## kubecarp, Strict mode\n\n" + _table(head, rows)


def _beside(cells: list[dict[str, Any]]) -> str:
    """IPv4 with the physical MAC: what all three can do."""
    by_row: dict[tuple[str, float], dict[str, str]] = defaultdict(dict)
    for cell in cells:
        if not cell["virtual_mac"]:
            by_row[cell["fault"], cell["interval_s"]][cell["contender"]] = _figures(cell, 4)
    rows = {key: found for key, found in by_row.items() if found.keys() - {"kubecarp"}}
    if not rows:
        return ""
    names = ["kubecarp", "keepalived", "ucarp"]
    body = [[fault, f"{interval * 1000:g} ms", *(found.get(name, "-") for name in names)] for (fault, interval), found in rows.items()]
    return "## Side by side: IPv4, physical MAC\n\n" + _table(["fault", "interval", *names], body)


def _costs(costs: dict[str, dict[str, Any]]) -> str:
    rows = [
        [name, figure.replace("_", " "), str(value)]
        for name, figures in costs.items()
        for figure, value in figures.items()
        if not isinstance(value, list)
    ]
    return "## Costs\n\n" + _table(["what", "figure", "value"], rows) if rows else ""


def _machine(facts: dict[str, str]) -> str:
    return "## Machine\n\n" + _table(["", ""], [[name, f"`{value}`" if name == "command" else value] for name, value in facts.items()])
