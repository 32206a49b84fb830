"""What a flood of forged adverts does to members: lateness of the loop, processor, memory, elections. ``make bench-flood``.

Writes docs/bench/flood.md and .json.
"""

import json
import os
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

from bench.load import cpu_s
from bench.report import machine
from lab.attacker import Flood, forged, overheard, refitted
from lab.namespace import become_root, wait_until
from lab.network import Lab
from lab.sidecar import Sidecar, start_cluster

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "bench"
FLOOD_S = 15.0
PORT = 9120
SOURCES: dict[str, bytes] = {"its own": bytes([10, 77, 0, 3]), "the master's": b""}
ABOUT = f"""\
# A flood of forged adverts

One group with an advert each 200 ms, Strict, a master and a backup; {FLOOD_S:g} s of each row. A third host sends adverts that are
right but for the digest, as fast as one process fills the wire. *late*: how long after its deadline the event loop woke, as a bound of the
histogram `carp_loop_lateness_seconds`: half of all wake-ups were at most that late, and all of them. Hosts are network namespaces of one
machine of few processors: the sender, the bridge and both members share them. [What it means](../attacks.md#floods).
"""
COLUMNS = (
    "source of the flood",
    "frames/s",
    "member",
    "late, median, ms",
    "late, worst, ms",
    "% of a core",
    "RSS, KB more",
    "transitions",
    "load",
)


def lateness(member: Sidecar) -> dict[float, float]:
    """Upper bound in seconds: wake-ups so far that were no later."""
    page = member.host.namespace.call(_fetch)
    return {float(bound): float(count) for bound, count in re.findall(r'carp_loop_lateness_seconds_bucket\{le="(.+)"\} (\S+)', page)}


def _fetch() -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


def bound_ms(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """The bound that this share of the wake-ups in between kept."""
    seen = {bound: after[bound] - before[bound] for bound in after}
    return next(bound for bound, count in sorted(seen.items()) if count >= share * seen[float("inf")]) * 1000


def measure(source: str) -> list[dict[str, Any]]:
    """A row for each member."""
    with Lab.simple(3) as lab:
        members = start_cluster(lab, 2)
        frames = forged(overheard(lab["c"]), 64)
        if address := SOURCES[source]:
            frames = [refitted(frame, {6: bytes.fromhex("020000000003"), 26: address}) for frame in frames]
        for member in members:
            wait_until(lambda: "/metrics" in members[-1].log(), 20, "metrics are served")
            lateness(member)
        before = [(lateness(one), cpu_s(one.pid), one.memory_kb(), one.group()["transitions"]) for one in members]
        with Flood(lab["c"], frames, FLOOD_S) as flood:
            wait_until(lambda: not flood.running, FLOOD_S + 60, "the flood ends", every_s=0.1)
        rows: list[dict[str, Any]] = []
        for member, (late, cpu, memory, transitions) in zip(members, before, strict=True):
            used, now = cpu_s(member.pid) - cpu, lateness(member)
            rows.append(
                {
                    "source": source,
                    "frames_per_s": round(flood.rate_per_s),
                    "member": "master" if member is members[0] else "backup",
                    "late_median_ms": bound_ms(late, now, 0.5),
                    "late_worst_ms": bound_ms(late, now, 1.0),
                    "cpu_percent": round(used / FLOOD_S * 100, 1),
                    "more_kb": member.memory_kb() - memory,
                    "transitions": member.group()["transitions"] - transitions,
                    "load": round(os.getloadavg()[0], 2),
                }
            )
        return rows


def page(document: dict[str, Any]) -> str:
    """The results for people."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    lines += [f"| {' | '.join(str(value) for value in row.values())} |" for row in document["rows"]]
    facts = [f"| {name} | {f'`{value}`' if name == 'command' else value} |" for name, value in document["machine"].items()]
    return "\n".join([ABOUT, *lines, "", "| | |", "| --- | --- |", *facts, ""])


def main() -> int:
    """0 when a stranger's flood moved nothing."""
    become_root()
    facts = {name: value for name, value in machine("make bench-flood").items() if name not in ("keepalived", "ucarp")}
    document: dict[str, Any] = {"machine": facts, "rows": [row for source in SOURCES for row in measure(source)]}
    (FOLDER / "flood.json").write_text(json.dumps(document, indent=1) + "\n")
    (FOLDER / "flood.md").write_text(page(document))
    print(page(document))
    return 1 if any(row["transitions"] for row in document["rows"] if row["source"] != "the master's") else 0


if __name__ == "__main__":
    sys.exit(main())
