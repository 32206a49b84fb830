"""Two ways to watch a story: a picture redrawn in place on a terminal, plain lines with times elsewhere. Knows no network."""

__all__ = ["Audience", "Lines", "Screen", "audience"]

import os
import shutil
from typing import Protocol, TextIO

from lab.demo_picture import COLUMNS, ROWS, paint, picture
from lab.demo_story import Story

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
"""The alternate screen, without cursor and line wrap; and back, so that the scroll-back stays the user's."""
BEGIN, END = "\x1b[?2026h\x1b[H", "\x1b[J\x1b[?2026l"
"""From the top; a terminal that knows mode 2026 shows it only when it is whole."""


class Audience(Protocol):
    """Somebody who watches."""

    def show(self, story: Story) -> None:
        """Show what is new."""

    def close(self) -> None:
        """Leave everything as it was found."""


class Screen:
    """The picture, redrawn in place."""

    def __init__(self, out: TextIO, *, colour: bool) -> None:
        self._out = out
        self._colour = colour
        self._drawn = ""
        self._write(ENTER)

    def show(self, story: Story) -> None:
        """Draw the picture if it changed."""
        columns, rows = shutil.get_terminal_size((COLUMNS, ROWS))
        lines = picture(story, columns)[:rows]
        drawn = "\x1b[K\r\n".join(paint(line, columns, colour=self._colour) for line in lines) + "\x1b[K"
        if drawn != self._drawn:
            self._drawn = drawn
            self._write(BEGIN + drawn + END)

    def close(self) -> None:
        """Back to the user's own screen."""
        self._write(LEAVE)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class Lines:
    """One line per event."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._told = 0

    def show(self, story: Story) -> None:
        """Write the events that are new."""
        fresh = story.events[self._told :]
        self._told += len(fresh)
        self._out.write("".join(f"{event.at_s:7.3f} s  {event.who:<6}  {event.what}\n" for event in fresh))
        self._out.flush()

    def close(self) -> None:
        """Nothing to leave."""


def audience(out: TextIO) -> Audience:
    """The picture when ``out`` is a terminal that can move its cursor, lines otherwise."""
    if not out.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return Lines(out)
    return Screen(out, colour=not os.environ.get("NO_COLOR"))
