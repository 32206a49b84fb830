"""The page docs/bench/cluster.md, from the figures beside it; each of its parts is measured, and kept, on its own."""

__all__ = ["keep"]

import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

from bench.cluster_beside import ANSWER_S, API_AWAY_S, KNOCK_MS, PHASES, QUESTION_MS
from bench.cluster_contenders import CONTENDERS
from lab.cluster_faults import FAULTS
from lab.programs import version

REPORT = Path(__file__).resolve().parents[2] / "docs/bench/cluster"
METHOD = """\
A cluster of three nodes on one machine: each node is a network namespace with its own mounts and processes, containerd, kubelet and
kube-proxy; control plane, operator and client run beside them. The chart is installed with Helm at its defaults, the CarpGroup names
nothing but an address. A client outside the cluster sends one ICMP echo each millisecond from before the fault until all is healthy
again, so the return of a node is measured too. The figure is the longest outage of a run in milliseconds, 0 when no probe was lost; the
fault is done to the node that is master.
"""
BESIDE = f"""\
## Beside others

The same cluster, a new one for each contender in each round, and what a user would install instead, from its own manifests at its
defaults: MetalLB in layer 2 mode, in the newest version whose Go modules can all be had, and kube-vip for Services with ARP. MetalLB runs
without its webhook, which decides nothing here. A web server runs on every node behind a Service on the address: of type LoadBalancer or,
for kubecarp, with the group's address among its `externalIPs`. The fault is done to the node that answers for the address; the process
that is killed is the one that keeps it there: sidecar, speaker, kube-vip.

Addresses that kube-proxy alone serves answer no ping, so two other things are probed, in the same way for all: every {QUESTION_MS:.0f} ms
an ARP request (what a client without an ARP entry meets), and every {KNOCK_MS:.0f} ms a new TCP connection through the Service (by a client
that has one). Figures are the longest outage in one run: median, and the worst in brackets. *Silent*: nobody answered until the end of
the phase, {API_AWAY_S:.0f} s of an absent control plane, or {ANSWER_S:.0f} s after a death. While a dead node's own web server is still
listed in the Service, one connection in three goes there, whoever holds the address: some tens of milliseconds in the second table are
that.
"""
TWICE = """\
When a sidecar is killed, its node keeps the address until the sidecar's lease there ends, and another takes over before: both answer, with
the same virtual MAC.
"""
TABLES = {
    "Nobody answers ARP": "arp",
    "No new TCP connection through the Service": "tcp",
}


def keep(part: str, found: dict[str, Any], command: str) -> None:
    """Write one part anew, "faults" or "beside"; the other stays as it was measured."""
    path = REPORT.with_suffix(".json")
    document = json.loads(path.read_text()) if path.exists() else {}
    document[part] = {"about": _about(command), "found": found}
    path.write_text(json.dumps(document, indent=1) + "\n")
    parts = ["# What faults of a cluster cost\n"]
    if "faults" in document:
        parts += [METHOD, _where(document["faults"]["about"]), _own(document["faults"]["found"])]
    if "beside" in document:
        parts += [BESIDE, _where(document["beside"]["about"]), *_beside(document["beside"]["found"])]
    REPORT.with_suffix(".md").write_text("\n".join(parts))


def _about(command: str) -> dict[str, Any]:
    return {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kubernetes": version("kubelet"),
        "date": time.strftime("%Y-%m-%d"),
        "command": command,
    }


def _where(about: dict[str, Any]) -> str:
    where = f"Kubernetes {about['kubernetes']}, {about['cores']} cores shared by everything, {about['machine']}, Python {about['python']}"
    return f"{where}, {about['date']}. `{about['command']}` measures this anew.\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]) + "\n"


def _own(found: dict[str, list[dict[str, Any]]]) -> str:
    rows = []
    for name, runs in found.items():
        longest = [run["longest_ms"] for run in runs if "failed" not in run]
        failed = f", {len(runs) - len(longest)} failed" if len(runs) > len(longest) else ""
        figures = [f"{statistics.median(longest):.0f}", f"{max(longest):.0f}"] if longest else ["-", "-"]
        rows.append([name, f"{len(longest)}{failed}", *figures, str(FAULTS[name].bound_ms)])
    return _table(["fault", "runs", "median", "worst", "bound"], rows)


def _beside(found: dict[str, dict[str, Any]]) -> list[str]:
    names = list(found)
    titles = [CONTENDERS[name].title for name in names]
    applies = ["`kubectl apply` to the first ARP answer", *(_median_worst(found[name]["apply_ms"]) for name in names)]
    parts = []
    for title, kind in TABLES.items():
        rows = [[phase, *(_phase(found[name]["faults"], phase, kind) for name in names)] for phase in PHASES]
        parts += [f"### {title}\n", _table(["", *titles], [*rows, applies] if kind == "arp" else rows)]
    twice = [[fault, *(_median_worst(_twice(found[name]["faults"], fault)) for name in names)] for fault in found[names[0]]["faults"]]
    parts += [f"### Two hosts answer ARP, in sum, good to {2 * QUESTION_MS:.0f} ms\n", TWICE, _table(["", *titles], twice)]
    counts = [f"{name} {', '.join(_count(fault, runs) for fault, runs in found[name]['faults'].items())}" for name in names]
    return [*parts, f"Runs: {'; '.join(counts)}.\n"]


def _count(fault: str, runs: list[dict[str, Any]]) -> str:
    failed = sum("failed" in run for run in runs)
    return f"{fault} {len(runs) - failed}" + (f" ({failed} failed)" if failed else "")


def _twice(faults: dict[str, list[dict[str, Any]]], fault: str) -> list[float]:
    return [run["two_answers_ms"] for run in faults[fault] if "failed" not in run]


def _phase(faults: dict[str, list[dict[str, Any]]], phase: str, kind: str) -> str:
    seen = [run["phases"][phase][kind] for runs in faults.values() for run in runs if phase in run.get("phases", {})]
    silent = [one for one in seen if one["silent"]]
    if len(silent) * 2 > len(seen):
        after_s = statistics.median(one["after_ms"] for one in silent) / 1000
        others = f" ({len(seen) - len(silent)} of {len(seen)} not)" if len(seen) > len(silent) else ""
        return (f"silent after {after_s:.1f} s" if after_s > 1 else "silent to the end") + others
    return _median_worst([one["longest_ms"] for one in seen])


def _median_worst(figures_ms: list[float]) -> str:
    return f"{_length(statistics.median(figures_ms))} ({_length(max(figures_ms))})" if figures_ms else "-"


def _length(figure_ms: float) -> str:
    return f"{figure_ms:.0f} ms" if figure_ms < 1000 else f"{figure_ms / 1000:.1f} s"
