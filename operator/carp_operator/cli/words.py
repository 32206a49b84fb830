"""Words and sentences that every command needs: names in a row, counts, ages, the nearest known name. Pure."""

__all__ = ["age", "clean", "count", "listed", "local_time", "span", "unknown"]

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime

from carp_operator.api.group import parse_time

_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_SHOWN = 8
"""Names in a row; more are counted."""


def clean(text: object) -> str:
    """``text`` on one line and without control characters: a stranger may have sent them to the reader's terminal."""
    line = str(text)
    return line if line.isprintable() else "".join(char if char.isprintable() else "?" for char in line)


def age(since: str, now: float) -> str:
    """How long ago, in at most two units, as kubectl does: ``4s``, ``3m12s``, ``9d4h``; empty if nobody knows."""
    then = parse_time(since)
    return "" if then is None else span(now - then)


def span(seconds: float) -> str:
    """So many seconds, in at most two units."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        if rest >= size or parts:
            parts.append(f"{rest // size}{unit}")
            rest %= size
        if len(parts) == 2:
            break
    return "".join(part for part in parts if not part.startswith("0")) or "0s"


def local_time(now: float) -> str:
    """The time of day where the reader is."""
    return datetime.fromtimestamp(now).astimezone().strftime("%H:%M:%S")


def count(number: int, thing: str, things: str = "") -> str:
    """``1 group``, ``3 groups``."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def listed(names: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``; of many the first eight."""
    known = list(names)
    if len(known) > _SHOWN:
        return f"{', '.join(known[:_SHOWN])} and {len(known) - _SHOWN} more"
    return " and ".join(filter(None, (", ".join(known[:-1]), *known[-1:])))


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """That there is no ``name``, and which there are."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"there is no {kind} {clean(name)}; did you mean {near[0]}?"
    return f"there is no {kind} {clean(name)}; {f'known are {listed(sorted(known))}' if known else 'there is none at all'}"
