"""Draws a round as SVG: who answered for each address when, and beneath it the faults."""

__all__ = ["draw"]

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from chaos.invariants import Violation
from chaos.timeline import Timeline

WIDTH, LEFT, RIGHT, TOP = 900, 150, 20, 46
ROW, GAP = 16, 12
COLOURS = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#a61e4d")
FAULT, WRONG = "#868e96", "#fa5252"
STYLE = """\
<style>
text { font: 12px system-ui, sans-serif; fill: #343a40 }
.small { font-size: 10px } .end { text-anchor: end } .middle { text-anchor: middle } .grid { stroke: #adb5bd; stroke-width: .5 }
@media (prefers-color-scheme: dark) { text { fill: #dee2e6 } .grid { stroke: #495057 } }
</style>"""


def draw(title: str, seen: Timeline, violations: Sequence[Violation]) -> str:
    """The picture of a round; what broke a promise is red."""
    rows = sum(len(seen.members) for _ in seen.answers) + len(seen.happenings)
    bottom = TOP + rows * ROW + (len(seen.answers) + 1) * GAP
    parts = [*_axis(seen, bottom), *_rows(seen, violations)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 24:.0f}" role="img" aria-label="{escape(title)}">'
    return "\n".join([head, STYLE, _text(LEFT, 18, title), *parts, "</svg>"]) + "\n"


def _x(seen: Timeline, at_s: float) -> float:
    return LEFT + (at_s - seen.began_s) / (seen.ended_s - seen.began_s) * (WIDTH - LEFT - RIGHT)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _bar(seen: Timeline, first_s: float, last_s: float, y: float, colour: str, opacity: float = 1.0) -> str:
    x = _x(seen, max(first_s, seen.began_s))
    width = max(1.5, _x(seen, min(last_s, seen.ended_s)) - x)
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{ROW - 5}" fill="{colour}" fill-opacity="{opacity}"/>'


def _axis(seen: Timeline, bottom: float) -> Iterator[str]:
    for second in range(int(seen.ended_s - seen.began_s) + 1):
        x = _x(seen, seen.began_s + second)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom:.1f}" class="grid"/>'
        yield _text(x, bottom + 13, f"{second} s", "small middle")


def _rows(seen: Timeline, violations: Sequence[Violation]) -> Iterator[str]:
    y = float(TOP)
    for address in seen.answers:
        wrong = [one for one in violations if one.address == address]
        height = len(seen.members) * ROW
        for one in wrong:
            x, width = _x(seen, one.began_s), max(2.0, _x(seen, one.ended_s) - _x(seen, one.began_s))
            yield f'<rect x="{x:.1f}" y="{y - 4:.1f}" width="{width:.1f}" height="{height}" fill="{WRONG}" fill-opacity=".3"/>'
        for number, host in enumerate(seen.members):
            yield _text(LEFT - 8, y + 9, f"{address}  {host}", "end")
            for span in seen.spans(address, host):
                yield _bar(seen, *span, y, COLOURS[number % len(COLOURS)])
            y += ROW
        y += GAP
    for happening in seen.happenings:
        yield _text(LEFT - 8, y + 9, f"{happening.word} {' '.join(happening.hosts)}", "end small")
        yield _bar(seen, happening.began_s, happening.ended_s, y, FAULT, 0.7)
        y += ROW
