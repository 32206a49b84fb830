"""How far a long measurement is, and how long it will still take: a bar on a terminal, plain lines elsewhere."""

__all__ = ["Bar"]

import sys
import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

MEMORY_S = 3600.0
"""The speed is the mean of so long: steps differ much."""


class Bar:
    """Counts in seconds that somebody estimated; how good the estimate was so far corrects the time left."""

    def __init__(self, expected_s: float) -> None:
        columns: tuple[ProgressColumn, ...] = (
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(30),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(
            *columns, TextColumn("{task.description}"), speed_estimate_period=MEMORY_S, disable=not sys.stdout.isatty()
        )
        self._task = self._progress.add_task("", total=expected_s)
        self._expected_s, self._done_s, self._started_s = expected_s, 0.0, time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, text: str) -> None:
        """What is being done."""
        self._progress.update(self._task, description=text)
        if self._progress.disable:
            minutes = (time.monotonic() - self._started_s) / 60
            print(f"{self._done_s / max(self._expected_s, 1.0):4.0%} {minutes:4.0f} min  {text}", flush=True)

    def advance(self, expected_s: float) -> None:
        """What was expected to take so long is done."""
        self._done_s += expected_s
        self._progress.advance(self._task, expected_s)
