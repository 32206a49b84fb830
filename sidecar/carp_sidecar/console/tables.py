"""Plain text out of rows and seconds: aligned columns and durations. Pure; knows nothing of what it shows."""

__all__ = ["clean", "cut", "format_duration", "format_interval", "format_table"]

import re
from collections.abc import Callable, Sequence

_GAP = "   "
_COLOUR_CODE = re.compile(r"(\x1b\[[0-9;]*m)")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def clean(text: object) -> str:
    """``text`` on one line and without control characters, which a stranger may have sent to the reader's terminal."""
    line = str(text)
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def cut(line: str, width: int) -> str:
    """The first ``width`` visible characters of a painted line, with all of its colour codes."""
    parts = []
    for number, part in enumerate(_COLOUR_CODE.split(line)):
        if number % 2:
            parts.append(part)
        else:
            parts.append(part[:width])
            width -= len(parts[-1])
    return "".join(parts)


def format_table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, paint: Callable[[str, str], str] | None = None) -> list[str]:
    """Lines of a table, header first; an empty cell is ``-``. ``paint(header, padded cell)`` may add colour, but no width."""
    cells = [[clean(cell) or "-" for cell in row] for row in rows]
    widths = [max(len(header), *(len(row[i]) for row in cells), 0) for i, header in enumerate(headers)]

    def line(row: Sequence[str], *, painted: bool) -> str:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        padded[-1] = padded[-1].rstrip()
        if paint and painted:
            padded = [paint(header, cell) for header, cell in zip(headers, padded, strict=True)]
        return _GAP.join(padded)

    return [line(list(headers), painted=False), *(line(row, painted=True) for row in cells)]


def format_duration(seconds: float) -> str:
    """How long ago, in at most two units, as kubectl does: ``4s``, ``3m12s``, ``2h5m``, ``9d4h``."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        if rest >= size or parts:
            parts.append(f"{rest // size}{unit}")
            rest %= size
        if len(parts) == 2:
            break
    return "".join(part for part in parts if not part.startswith("0")) or "0s"


def format_interval(seconds: float) -> str:
    """A configured or measured time: ``250us``, ``1.2ms``, ``200ms``, ``1s``, ``1m30s``."""
    if seconds >= 60:
        return format_duration(seconds)
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.3g}s"
    if seconds >= 0.001:
        return f"{seconds * 1000:.3g}ms"
    return f"{seconds * 1_000_000:.3g}us"
