"""Where output goes: tables without borders like kubectl's, sentences that wrap at words, colour and pictures that move on a terminal only.

A table is never cut or wrapped by us, and without a terminal neither is a sentence: what a script reads does not depend on the width of a
window. Knows nothing of what is shown.
"""

__all__ = ["Rows", "Screen", "Sentences", "facts", "prose", "rows", "sentences", "styled"]

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .words import clean

_UNBOUND = 1_000_000
"""Characters: wider than any table."""
_FRAME: Mapping[str, Any] = {"box": None, "pad_edge": False, "padding": (0, 3, 0, 0), "header_style": ""}


class Rows(Table):
    """A table of short cells, as wide as they are."""


class Sentences(Table):
    """A table whose last column wraps at words on a terminal."""


_T = TypeVar("_T", bound=Table)


def styled(cell: object, style: str) -> Text:
    """A cell with colour; an empty one is ``-``."""
    return Text(clean("" if cell is None else cell) or "-", style=style)


def rows(headers: Sequence[str], cells: Iterable[Sequence[object]]) -> Rows:
    """A table of short cells, header first; cells may be ``styled``."""
    return _filled(Rows(**_FRAME), headers, cells)


def prose(headers: Sequence[str], cells: Iterable[Sequence[object]]) -> Sentences:
    """A table whose last column holds sentences."""
    return _filled(Sentences(**_FRAME), headers, cells)


def sentences(pairs: Iterable[tuple[str, str, str]]) -> Sentences:
    """Label, sentence and the style of the label; a label that repeats is left out."""
    before, cells = "", []
    for label, sentence, style in pairs:
        cells.append((Text(clean(label if label != before else ""), style=style), Text(clean(sentence))))
        before = label
    return _filled(Sentences(**_FRAME, show_header=False), ("", ""), cells)


def facts(pairs: Iterable[tuple[str, str]]) -> Sentences:
    """Names and values; a name that repeats is left out."""
    return sentences((f"{name}:", value, "") for name, value in pairs)


def _filled(table: _T, headers: Sequence[str], cells: Iterable[Sequence[object]]) -> _T:
    last = len(headers) - 1
    for number, header in enumerate(headers):
        wraps = number == last and isinstance(table, Sentences)
        table.add_column(header, no_wrap=not wraps, overflow="fold")
    for row in cells:
        table.add_row(*(cell if isinstance(cell, Text) else styled(cell, "") for cell in row))
    return table


class Screen:
    """Standard output. ``show`` prints; ``live`` draws again and again in one place."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file or sys.stdout
        self._console = Console(file=self._file, highlight=False, markup=False, emoji=False)
        wide = None if self.is_terminal else _UNBOUND
        self._wide = Console(file=self._file, highlight=False, markup=False, emoji=False, width=_UNBOUND)
        self._sentences = Console(file=self._file, highlight=False, markup=False, emoji=False, width=wide)

    @property
    def is_terminal(self) -> bool:
        return self._console.is_terminal and os.environ.get("TERM") != "dumb"

    def show(self, *things: RenderableType) -> None:
        """Prints, without spaces at the ends of lines."""
        for thing in things:
            console = self._wide if isinstance(thing, Rows) else self._sentences
            with console.capture() as captured:
                console.print(thing)
            self.write("\n".join(line.rstrip() for line in captured.get().split("\n")))

    def say(self, sentence: str, style: str = "") -> None:
        """One line, which only the terminal itself wraps."""
        with self._wide.capture() as captured:
            self._wide.print(Text(clean(sentence), style=style))
        self.write(captured.get())

    def write(self, text: str) -> None:
        """Text as it is, at once."""
        self._file.write(text)
        self._file.flush()

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[[Sequence[RenderableType]], None]]:
        """Inside, a function that replaces the picture."""
        with Live(console=self._console, auto_refresh=False, vertical_overflow="ellipsis") as picture:
            yield lambda things: picture.update(Group(*things), refresh=True)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Inside, a function that says what is waited for; a terminal shows it and forgets it, nothing else does."""
        if not self.is_terminal:
            yield lambda _sentence: None
            return
        with self._console.status("") as spinner:
            yield lambda sentence: spinner.update(Text(clean(sentence)))
