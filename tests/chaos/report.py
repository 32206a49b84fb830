"""What a run found, as JSON and Markdown. Knows results, measures nothing."""

__all__ = ["failures", "keep", "record", "write"]

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.report import machine
from chaos.invariants import figures
from chaos.picture import draw
from chaos.scene import Result

ABOUT = """\
# Chaos, a run

Random faults on hosts in network namespaces, and a checker that reads the wire. [What is done, and what must hold](../chaos.md).
This page is written by `make chaos`.
"""


def record(result: Result) -> dict[str, Any]:
    """One round as the report keeps it; times in seconds after the round began."""
    seen = result.seen
    return {
        "round": result.number,
        "scene": result.scenery.number,
        "hosts": result.scenery.hosts,
        "mac": "virtual" if result.scenery.virtual_mac else "physical",
        "mode": result.scenery.mode,
        "faults": [
            [one.word, list(one.hosts), round(one.began_s - seen.began_s, 3), round(one.ended_s - seen.began_s, 3)]
            for one in seen.happenings
        ],
        "worst_ms": figures(seen),
        "bounds_ms": {
            name.removesuffix("_s"): round(getattr(result.bounds, name) * 1000) for name in type(result.bounds).__dataclass_fields__
        },
        "violations": [one.sentence for one in result.violations],
        "troubles": list(result.troubles),
    }


def keep(result: Result, folder: Path) -> None:
    """The picture of a round; of one that broke a promise the timeline as data as well."""
    seen = result.seen
    name = f"round-{result.number}"
    (folder / f"{name}.svg").write_text(draw(f"Round {result.number}: who answered, and what was done", seen, result.violations))
    if not (result.violations or result.troubles):
        return
    data = record(result) | {
        "spans": {
            address: {host: [[a - seen.began_s, b - seen.began_s] for a, b in seen.spans(address, host)] for host in seen.members}
            for address in seen.answers
        },
        "pauses": [[at_s - seen.began_s, late_s] for at_s, late_s in seen.pauses],
    }
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")


def failures(rounds: Sequence[Mapping[str, Any]], ends: Sequence[str]) -> list[str]:
    """A sentence about everything that is wrong."""
    told = [f"round {one['round']}: {text}" for one in rounds for text in (*one["violations"], *one["troubles"])]
    return [*told, *ends]


def write(folder: Path, command: str, seed: int, minutes: float, rounds: Sequence[Mapping[str, Any]], ends: Sequence[str]) -> None:
    """chaos.json and chaos.md."""
    data = {"machine": machine(command), "seed": seed, "minutes": round(minutes, 1), "ends": list(ends), "rounds": list(rounds)}
    (folder / "chaos.json").write_text(json.dumps(data) + "\n")
    (folder / "chaos.md").write_text(_markdown(data))


def _worst(rounds: Sequence[Mapping[str, Any]], what: str) -> str:
    values = [one["worst_ms"][what] for one in rounds]
    return f"{max(values, default=0.0):.0f}"


def _markdown(data: Mapping[str, Any]) -> str:
    rounds = data["rounds"]
    wrong = failures(rounds, data["ends"])
    done = Counter(fault[0] for one in rounds for fault in one["faults"])
    scenes = {one["scene"] for one in rounds}
    lines = [ABOUT, f"Seed {data['seed']}, {data['minutes']:.0f} minutes: {len(rounds)} rounds on {len(scenes)} sets of hosts, "]
    lines[-1] += f"{done.total()} faults, **{len(wrong)} violations**."
    lines += ["", "| MAC | mode | hosts | rounds | two answer, worst ms | nobody answers, worst ms | pause of the machine, worst ms |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for mac, mode, hosts in sorted({(one["mac"], one["mode"], one["hosts"]) for one in rounds}):
        some = [one for one in rounds if (one["mac"], one["mode"], one["hosts"]) == (mac, mode, hosts)]
        lines.append(
            f"| {mac} | {mode} | {hosts} | {len(some)} | " + " | ".join(_worst(some, what) for what in ("two", "nobody", "pause")) + " |"
        )
    lines += [
        "",
        "Only where members could hear each other. *Two answer* and *nobody answers* are the longest of all rounds, faults included:",
    ]
    lines += [
        "two may answer while an address is handed over, and nobody does until the dead time of a master that was killed is over.",
        "",
    ]
    lines += ["## Faults", "", "| fault | times | rounds with it: two answer, worst ms | nobody answers, worst ms |", "|---|---|---|---|"]
    for word, times in sorted(done.items()):
        some = [one for one in rounds if word in {fault[0] for fault in one["faults"]}]
        lines.append(f"| `{word}` | {times} | {_worst(some, 'two')} | {_worst(some, 'nobody')} |")
    lines += ["", "## Violations", "", *([f"- {one}" for one in wrong] or ["None."])]
    lines += ["", "## Machine", "", *(f"- {name}: {value}" for name, value in data["machine"].items())]
    return "\n".join(lines) + "\n"
