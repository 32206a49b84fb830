"""What a soak says: slopes with their bounds, a page for people and a picture. Measures nothing."""

__all__ = ["Slope", "page", "picture", "slope_of", "slopes"]

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, mean
from typing import Any
from xml.sax.saxutils import escape

from bench.soak_samples import KERNEL, PROCESS

WARM_UP = 0.2
"""The part of a run in which caches fill, pools of threads and the state of peers are built: it is shown and not judged."""
CONFIDENCE = 0.95
GROWS_BY_NATURE = ("log_bytes",)
"""A log grows with what happens; how much for each failover is told."""
DIGESTS = ("sysctls",)
FEWEST_SAMPLES = 4
"""With fewer there is no bound, and nothing is said of slopes."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Slope:
    """One figure of one member after the warm-up; ``per_hour`` and ``bound`` make the confidence interval."""

    member: str
    figure: str
    values: tuple[float, ...]
    per_hour: float
    bound: float

    @property
    def constant(self) -> bool:
        return len(set(self.values)) == 1

    @property
    def flat(self) -> bool:
        """Whether growth cannot be told from none. A digest has no slope: it is equal or not."""
        if self.constant or self.figure in GROWS_BY_NATURE:
            return True
        return self.figure not in DIGESTS and self.per_hour - self.bound <= 0


def slope_of(hours: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Least squares per hour, and half the width of the confidence interval.

    Neighbouring samples of memory are alike, so they count as fewer: as many as an autoregressive process of first order leaves.
    """
    if len(values) < FEWEST_SAMPLES or len(set(values)) == 1:
        return 0.0, 0.0
    middle, level = mean(hours), mean(values)
    spread = sum((at - middle) ** 2 for at in hours)
    slope = sum((at - middle) * (value - level) for at, value in zip(hours, values, strict=True)) / spread
    rest = [value - level - slope * (at - middle) for at, value in zip(hours, values, strict=True)]
    squares = sum(one * one for one in rest)
    alike = sum(one * other for one, other in pairwise(rest)) / squares if squares else 0.0
    alike = max(alike, 0.0)
    freedom = max(2.0, len(values) * (1 - alike) / (1 + alike) - 2)
    error = math.sqrt(squares / freedom / spread)
    return slope, error * _t(freedom)


def _t(freedom: float) -> float:
    """Student's quantile (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def slopes(document: Document) -> list[Slope]:
    """Every figure of every member that lived from the beginning to the end."""
    return [
        Slope(member, figure, tuple(one[figure] for one in judged), *slope_of(hours, [one[figure] for one in judged]))
        for member, samples in document.get("samples", {}).items()
        if (judged := [one for one in samples if one["at_s"] >= WARM_UP * samples[-1]["at_s"]])
        for hours in [[one["at_s"] / 3600 for one in judged]]
        for figure in (*PROCESS, *KERNEL)
    ]


# ---- the page -------------------------------------------------------------------------------------------------

ABOUT = """\
# Hours of failovers, and what is left of them

{hosts} hosts with {groups} groups each: virtual and physical MAC, IPv4, IPv6 and both, one of them Compatible, one with a check and a hook;
one fault every {every_s:g} s. The last host's sidecar is stopped and killed and started again. Those of the others never restart: their
failovers come from handovers, demotions, links that go down, reloads and rotations of keys. At the end of a cycle of faults, when every
group is back on its best member, is written down what each of them holds. `make soak` makes this page anew.
"""
JUDGED = """\
## What it came to

First, last, least and most after the warm-up, which is the first {warm_up:.0%} of the run: caches and pools fill. *Per hour*: the slope of
a line of least squares with its {confidence:.0%} bound, in which samples that are alike count as fewer. *No slope*: the bound holds zero.
*Constant*: equal in every sample. A log grows by nature. The digest of sysctls is shown only if it changed. PSS has a share of the
libraries in it, so it also moves when other Python processes of the machine start and end. What is held shows in the blocks of Python;
RSS also rises when a page that was mapped long ago is touched for the first time.
"""


def page(document: Document) -> str:
    """The results for people."""
    found = slopes(document)
    failovers = document.get("failovers", 0)
    said = [ABOUT.format(**{"groups": 0, "every_s": 0} | document), *_summary(document, found), ""]
    said += [document["note"], ""] if "note" in document else []
    said += ["![What the long-lived sidecars held](soak.svg)", "", JUDGED.format(warm_up=WARM_UP, confidence=CONFIDENCE)]
    said += ["| host | what | first | last | least | most | per hour | verdict |", "|" + " --- |" * 8]
    said += [_row(one) for one in found if one.figure not in DIGESTS or not one.constant]
    said += ["", "## What happened", "", "| fault | times |", "| --- | --- |"]
    said += [f"| {name} | {times} |" for name, times in document.get("steps", {}).items()]
    said += [f"| **failovers** (a group with another master than before the fault) | {failovers} |", ""]
    facts = [f"| {name} | {f'`{value}`' if name == 'command' else value} |" for name, value in document["machine"].items()]
    return "\n".join([*said, "## Machine", "", "| | |", "| --- | --- |", *facts, ""])


def _summary(document: Document, found: Sequence[Slope]) -> Iterator[str]:
    grown = [f"{one.member}: {_name(one.figure)}" for one in found if not one.flat]
    minutes = document.get("seconds", 0) / 60
    yield f"- **{minutes:.0f} minutes, {document.get('failovers', 0)} failovers, {sum(document.get('steps', {}).values())} faults.**"
    yield f"- Figures that grew: **{', '.join(grown) or 'none'}**, of {len(found)}."
    for figure in ("rss_kb", "pss_kb", "blocks"):
        widest = max((one for one in found if one.figure == figure), key=lambda one: one.per_hour + one.bound, default=None)
        if widest:
            yield f"- {_name(figure)} of the worst host: {_rate(widest)} an hour ({widest.member})."
    unsettled = document.get("unsettled", ())
    yield f"- Faults after which a group had no single master within a minute: **{len(unsettled)}**."
    for one in unsettled:
        yield f"  - {' '.join(one.split())[:300]}"
    for member, samples in document.get("samples", {}).items():
        if len(samples) > 1 and (moved := samples[-1]["failovers"] - samples[0]["failovers"]):
            written = (samples[-1]["log_bytes"] - samples[0]["log_bytes"]) / moved
            yield f"- Log of {member}: {written:.0f} bytes for each failover of the cluster."


def _name(figure: str) -> str:
    return (PROCESS | KERNEL)[figure]


def _rate(one: Slope) -> str:
    return f"{one.per_hour:+.1f} ± {one.bound:.1f}"


def _row(one: Slope) -> str:
    if one.constant:
        verdict, rate = "constant", "0"
    elif one.figure in GROWS_BY_NATURE:
        verdict, rate = "by nature", f"{one.per_hour:+.0f}"
    else:
        verdict, rate = ("no slope" if one.flat else "**grew**"), _rate(one)
    values = (one.values[0], one.values[-1], min(one.values), max(one.values))
    return f"| {one.member} | {_name(one.figure)} | {' | '.join(f'{value:g}' for value in values)} | {rate} | {verdict} |"


# ---- the picture ----------------------------------------------------------------------------------------------

WIDTH, LEFT, RIGHT, TOP, PANEL, GAP = 860, 90, 20, 46, 110, 34
COLOURS = ("#0b7285", "#e8590c", "#9c36b5", "#2b8a3e", "#3bc9db", "#c92a2a")
PANELS = ("rss_kb", "pss_kb", "blocks", "fds", "threads", "guardian_rss_kb", "sockets", "addresses", "memberships")
_STYLE = """\
<style>
text { font: 12px system-ui, sans-serif; fill: #343a40 }
.small { font-size: 10px } .grid { stroke: #adb5bd; stroke-width: .5 } .warm { fill: #adb5bd; fill-opacity: .2 }
.end { text-anchor: end } .middle { text-anchor: middle }
@media (prefers-color-scheme: dark) { text { fill: #dee2e6 } .grid { stroke: #495057 } }
</style>"""


def picture(document: Document) -> str:
    """The figures over time, one line for each member; the warm-up is grey."""
    members = document.get("samples", {})
    last_s = max((one["at_s"] for samples in members.values() for one in samples), default=1.0)
    title = f"What long-lived sidecars held during {last_s / 60:.0f} minutes and {document.get('failovers', 0)} failovers"
    height = TOP + len(PANELS) * (PANEL + GAP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">', _STYLE]
    parts.append(_text(LEFT, 16, title))
    for place, member in enumerate(members):
        parts.append(f'<rect x="{LEFT + place * 80}" y="24" width="10" height="10" rx="2" fill="{COLOURS[place % len(COLOURS)]}"/>')
        parts.append(_text(LEFT + place * 80 + 15, 33, f"host {member}"))
    for place, figure in enumerate(PANELS):
        parts += _panel(TOP + 16 + place * (PANEL + GAP), figure, members, last_s)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _panel(top: float, figure: str, members: dict[str, list[dict[str, Any]]], last_s: float) -> Iterator[str]:
    values: list[float] = [one[figure] for samples in members.values() for one in samples] or [0]
    least, most = min(values), max(values)
    middle, half = (least + most) / 2, max((most - least) / 2, 0.01 * max(most, 1)) * 1.1

    def x(at_s: float) -> float:
        return LEFT + at_s / last_s * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return top + PANEL / 2 * (1 - (value - middle) / half)

    yield _text(LEFT, top - 5, _name(figure), "small")
    yield f'<rect x="{LEFT}" y="{top}" width="{x(WARM_UP * last_s) - LEFT:.1f}" height="{PANEL}" class="warm"/>'
    for value in dict.fromkeys((least, most)):
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" class="grid"/>'
        yield _text(LEFT - 8, y(value) + 4, f"{value:,}", "small end")
    for quarter in range(5):
        yield _text(x(last_s * quarter / 4), top + PANEL + 12, f"{last_s * quarter / 240:.0f} min", "small middle")
    for place, samples in enumerate(members.values()):
        points = " ".join(f"{x(one['at_s']):.1f},{y(one[figure]):.1f}" for one in samples)
        yield f'<polyline points="{points}" fill="none" stroke="{COLOURS[place % len(COLOURS)]}" stroke-width="1.5"/>'
