"""What has happened in the demo so far: hosts, the client's probes, steps, events. Knows neither the network nor the terminal.

Several threads tell the story, each its own part; one draws it ten times a second.
"""

__all__ = ["LOST", "NARRATOR", "SOME_LOST", "Event", "HostLine", "Outcome", "Story"]

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LOST, SOME_LOST = "·", "~"
NARRATOR = "demo"
"""Who tells of the steps."""
MOSTLY = 0.9
"""Share of a tenth of a second that is answered in time on a busy machine when nothing is wrong; the counts at the end are exact."""
FEWEST_PROBES = 50
"""Fewer in a tenth of a second: the prober has just started."""
STRIP_CELLS = 400
"""Tenths of a second that are kept: more than the widest terminal shows."""


@dataclass(slots=True)
class HostLine:
    """A host as a person sees it: the state its sidecar reports, or what is wrong with it."""

    name: str
    address: str
    state: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened, seconds after the beginning."""

    at_s: float
    who: str
    what: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step that is over. ``remark`` says what went wrong; empty when all is well."""

    outage_ms: float
    lost: int
    remark: str = ""

    @property
    def measured(self) -> bool:
        """False: it failed before the client was asked."""
        return bool(self.lost) or not self.remark


@dataclass(slots=True)
class Story:
    """Everything there is to show."""

    target: str
    titles: Sequence[str]
    hosts: dict[str, HostLine]
    began_s: float = field(default_factory=time.monotonic)
    step: int = 0
    """Number of the step that runs; 0: still building."""
    answering: str = ""
    """Host that answers the client; empty: none."""
    outcomes: list[Outcome] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    strip: deque[str] = field(default_factory=lambda: deque(maxlen=STRIP_CELLS))
    """The client's last tenths of a second: who answered, or LOST, or SOME_LOST."""

    @property
    def now_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began_s

    def tell(self, who: str, what: str) -> None:
        """Something happened."""
        self.events.append(Event(self.now_s, who, what))

    def probed(self, live: Mapping[str, Any], answerer: str) -> None:
        """The prober's counts of the last tenth of a second."""
        if live["recent"] < FEWEST_PROBES:
            return
        answered = live["recent_answered"]
        self.strip.append(LOST if not answered else answerer if answered >= MOSTLY * live["recent"] else SOME_LOST)
        if (now_answering := answerer if answered else "") != self.answering:
            self.answering = now_answering
            self.tell("client", f"is answered by {answerer}" if answered else "gets no answer")
