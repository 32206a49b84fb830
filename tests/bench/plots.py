"""Draws the runs as SVG: every run as a dot with the median, and distributions as steps. The axis of time is logarithmic."""

__all__ = ["plots"]

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

from bench.figures import COLUMNS, Figures

WIDTH = 860
LEFT, RIGHT = 120, 20
"""Margins of the axis of time."""
ZERO = 50
"""Where no probe was lost: a place of its own, because a logarithm has no zero."""
DECADES = (1, 10, 100, 1000, 10000)
ROW, FAULT_GAP, TOP = 14, 10, 52
PANEL, PANEL_GAP = 150, 44
COLOURS = dict(zip(COLUMNS, ("#0b7285", "#3bc9db", "#e8590c", "#9c36b5"), strict=True))
_STYLE = """\
<style>
text { font: 12px system-ui, sans-serif; fill: #343a40 }
.small { font-size: 10px } .grid { stroke: #adb5bd; stroke-width: .5 } .end { text-anchor: end } .middle { text-anchor: middle }
@media (prefers-color-scheme: dark) { text { fill: #dee2e6 } .grid { stroke: #495057 } }
</style>"""

Series = dict[str, list[float]]


def plots(cells: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Name of the file and SVG, of whatever there are runs for."""
    single = [cell for cell in cells if cell["groups"] == 1 and Figures(cell).of("longest_ms")]
    drawn = {}
    for interval_s in sorted({cell["interval_s"] for cell in single}, reverse=True):
        rows: dict[str, Series] = {}
        for cell in [one for one in single if one["interval_s"] == interval_s]:
            rows.setdefault(cell["fault"], {})[cell["column"]] = Figures(cell).of("longest_ms")
        drawn[f"outages-{interval_s * 1000:g}ms.svg"] = _strips(f"Longest outage of each run, adverts every {interval_s * 1000:g} ms", rows)
    dies: dict[str, Series] = {}
    for cell in [one for one in single if one["fault"] == "host dies"]:
        dies.setdefault(f"adverts every {cell['interval_s'] * 1000:g} ms", {})[cell["column"]] = Figures(cell).of("longest_ms")
    if dies:
        drawn["host-dies.svg"] = _steps("The host dies: share of runs with an outage of at most so long", dies)
    together: dict[str, Series] = {}
    for cell in [one for one in cells if one["groups"] > 1 and one["runs"]]:
        name = f"{cell['groups']} groups, adverts every {cell['interval_s'] * 1000:g} ms"
        together.setdefault(name, {})[cell["column"]] = [one for run in cell["runs"] for one in run["answers_ms"]]
    if together:
        drawn["together.svg"] = _steps("Many groups whose host dies: share of the addresses that answer again, all runs", together)
    return drawn


def _x(milliseconds: float) -> float:
    """The place on the axis; below 1 ms everything is 1 ms, and 0 stands apart."""
    if milliseconds == 0:
        return LEFT + ZERO / 2
    share = math.log10(min(max(milliseconds, DECADES[0]), DECADES[-1])) / math.log10(DECADES[-1])
    return LEFT + ZERO + share * (WIDTH - LEFT - ZERO - RIGHT)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _svg(title: str, height: float, columns: Sequence[str], parts: Iterator[str]) -> str:
    legend = []
    for place, column in enumerate(columns):
        x = LEFT + place * 175
        legend += [f'<rect x="{x}" y="27" width="10" height="10" rx="2" fill="{COLOURS[column]}"/>', _text(x + 15, 36, column)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return "\n".join([head, _STYLE, _text(LEFT, 16, title), *legend, *parts, "</svg>"]) + "\n"


def _axis(top: float, bottom: float) -> Iterator[str]:
    for milliseconds in (0, *DECADES):
        label = f"{milliseconds / 1000:g} s" if milliseconds >= 1000 else f"{milliseconds} ms" if milliseconds else "0"
        yield f'<line x1="{_x(milliseconds):.1f}" x2="{_x(milliseconds):.1f}" y1="{top:.1f}" y2="{bottom:.1f}" class="grid"/>'
        yield _text(_x(milliseconds), bottom + 13, label, "small middle")


def _present(rows: dict[str, Series]) -> list[str]:
    return [column for column in COLUMNS if any(column in series for series in rows.values())]


def _strips(title: str, rows: dict[str, Series]) -> str:
    bottom = TOP + sum(len(series) * ROW + FAULT_GAP for series in rows.values())

    def parts() -> Iterator[str]:
        yield from _axis(TOP - 6, bottom)
        y = float(TOP)
        for fault, series in rows.items():
            yield _text(LEFT - 8, y + len(series) * ROW / 2 + 4, fault, "end")
            for column in [one for one in COLUMNS if one in series]:
                colour, middle = COLOURS[column], y + ROW / 2
                for number, value in enumerate(series[column]):
                    yield (f'<circle cx="{_x(value):.1f}" cy="{middle + (number % 5 - 2) * 1.5:.1f}" r="2.2" fill="{colour}" '
                           'fill-opacity=".5"/>')  # fmt: skip
                x = _x(median(series[column]))
                yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 6:.1f}" y2="{middle + 6:.1f}" stroke="{colour}" stroke-width="2.5"/>'
                y += ROW
            y += FAULT_GAP

    return _svg(title, bottom + 22, _present(rows), parts())


def _steps(title: str, panels: dict[str, Series]) -> str:
    def parts() -> Iterator[str]:
        for place, (name, series) in enumerate(panels.items()):
            top = TOP + 16 + place * (PANEL + PANEL_GAP)
            yield _text(LEFT, top - 6, name, "small")
            yield from _axis(top, top + PANEL)
            for share in (0.0, 0.5, 1.0):
                y = top + PANEL * (1 - share)
                yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
                yield _text(LEFT - 8, y + 4, f"{share:.0%}", "small end")
            for column in [one for one in COLUMNS if one in series]:
                yield f'<path d="{_path(sorted(series[column]), top)}" fill="none" stroke="{COLOURS[column]}" stroke-width="2"/>'

    return _svg(title, TOP + 16 + len(panels) * (PANEL + PANEL_GAP), _present(panels), parts())


def _path(values: list[float], top: float) -> str:
    """One step up for each value, or for several when they are very many."""
    every = max(1, len(values) // 400)
    steps = [(values[number], min(1.0, (number + every) / len(values))) for number in range(0, len(values), every)]
    drawn = "".join(f"H{_x(value):.1f}V{top + PANEL * (1 - share):.1f}" for value, share in steps)
    return f"M{_x(values[0]):.1f},{top + PANEL:.1f}{drawn}H{WIDTH - RIGHT}"
