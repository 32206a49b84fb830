"""What the raw runs say: medians, worst cases, ratios within one measurement, and whether it is what was promised. Knows no page."""

__all__ = ["COLUMNS", "Figures", "promises"]

from collections.abc import Iterable
from statistics import mean, median
from typing import Any

COLUMNS = ("kubecarp, virtual MAC", "kubecarp", "keepalived", "ucarp")
OURS, PEER = COLUMNS[:2], "keepalived"
PLANNED = ("SIGTERM", "handover", "demotion", "preemption")
"""What must cost no probe."""
DETECTED_TO_ANSWER_LIMIT_MS = 100.0


class Figures:
    """The figures of one cell."""

    def __init__(self, cell: dict[str, Any]) -> None:
        self.runs: list[dict[str, Any]] = cell["runs"]
        self.families: list[int] = cell["families"]
        self.failed = len(cell["failures"])

    def of(self, name: str, family: int = 4) -> list[float]:
        """A figure of every run that has it."""
        return [float(run[str(family)][name]) for run in self.runs if name in run.get(str(family), {})]

    @property
    def takeovers(self) -> list[int]:
        """How many times somebody became master, by run."""
        return [run["takeovers"] for run in self.runs if "takeovers" in run]

    def steps(self, name: str) -> list[float]:
        """A step of a takeover as the successor told it, by run: decided_ms, to_kernel_ms, to_answer_ms; of many groups the slowest."""
        return [run[name] for run in self.runs if name in run]

    @property
    def decision_to_answer_ms(self) -> list[float]:
        """From the decision to the end of the longest outage, of the runs that had one."""
        longest = [(run["decided_ms"], max(run["4"]["outages"], key=lambda one: one[1])) for run in self.runs if run["4"]["outages"]]
        return [round(start + duration - decided, 1) for decided, (start, duration) in longest]

    @property
    def first_and_last_ms(self) -> list[tuple[float, float]]:
        """When the first and the last of many addresses answered."""
        return [(run["answers_ms"][0], run["answers_ms"][-1]) for run in self.runs if "answers_ms" in run]

    @property
    def two_hosts_to_the_end(self) -> bool:
        """Whether two hosts still answered when the run was over, in any."""
        return any(len(run.get("4", {}).get("answering_at_the_end", ())) > 1 for run in self.runs)

    def lost(self) -> int:
        """Probes without an answer, of all runs and families."""
        return int(sum(sum(self.of("lost", family)) for family in self.families))


def ratio(ours: list[float], theirs: list[float]) -> float | None:
    """Our median as a part of theirs; None where that says nothing."""
    return median(ours) / median(theirs) if ours and theirs and median(theirs) > 0 else None


def promises(rows: dict[tuple[int, str, float], dict[str, Figures]]) -> Iterable[tuple[str, str, str]]:
    """(what was promised, what was measured, kept or not), of what was measured. ``rows``: by groups, fault and interval."""
    for fault in PLANNED:
        ours = [row[column] for (_, name, _), row in rows.items() if name == fault for column in OURS if column in row]
        if runs := sum(len(one.runs) for one in ours):
            lost = sum(one.lost() for one in ours)
            yield f"{fault}: no probe is lost, whatever interval, MAC and family", f"{lost} lost in {runs} runs", _kept(lost == 0)
    for (groups, fault, interval_s), row in rows.items():
        theirs = row.get(PEER)
        for column in [one for one in OURS if one in row and row[one].runs]:
            what = f"{fault}, adverts every {interval_s * 1000:g} ms, {column}"
            if groups > 1:
                yield from _many(f"{groups} groups, {what}", row[column].steps("to_answer_ms"))
            elif fault == "loss" and theirs and theirs.runs:
                yield from _loss(what, mean(row[column].takeovers), mean(theirs.takeovers))
            elif fault == "host dies" and theirs and theirs.runs:
                yield from _host_dies(what, row[column].of("longest_ms"), theirs.of("longest_ms"), 0.5 if interval_s >= 0.1 else 1.0)


def _host_dies(what: str, ours: list[float], theirs: list[float], limit: float) -> Iterable[tuple[str, str, str]]:
    part = ratio(ours, theirs) or 0.0
    yield f"{what}: median at most {limit:g} of {PEER}'s", f"{part:.2f}", _kept(part <= limit)
    yield f"{what}: worst below {PEER}'s worst", f"{max(ours):.0f} and {max(theirs):.0f} ms", _kept(max(ours) < max(theirs))


def _loss(what: str, ours: float, theirs: float) -> Iterable[tuple[str, str, str]]:
    yield f"{what}: no more false failovers than {PEER}", f"{ours:.1f} and {theirs:.1f} in a run", _kept(ours <= theirs)


def _many(what: str, to_answer_ms: list[float]) -> Iterable[tuple[str, str, str]]:
    limit = DETECTED_TO_ANSWER_LIMIT_MS
    yield f"{what}: each address answers within {limit:g} ms of detection", f"{max(to_answer_ms):.0f} ms", _kept(max(to_answer_ms) <= limit)


def _kept(met: bool) -> str:
    return "yes" if met else "**no**"
