"""What the sidecar counts and measures about itself, cheap enough for the event loop. Knows no exposition format.

Counts stand in arrays: a Python int above 256 is a block of memory of its own, so what a sidecar holds would rise each time that one of
its many counts gets so far, for hours or days, and look like a leak (unit/test_measurements.py).
"""

__all__ = ["Histogram", "Measurements", "Step", "Tally"]

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal, get_args

Step = Literal["decision", "addresses", "announcement"]
"""Of a takeover: its cause was noticed -> decided -> the kernel has the addresses -> the first announcements have left."""

_LATENESS_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Around the intervals in use: 10 ms is the shortest, and 30 ms late is a lost mastership there."""
_TAKEOVER_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""From one netlink send (about 1 ms) to a host whose kernel is busy with 255 groups."""


class Tally:
    """How often each of a few names was counted."""

    __slots__ = ("_counts", "_places")

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._counts = array("Q")

    def count(self, name: str) -> None:
        """Once more."""
        place = self._places.setdefault(name, len(self._counts))
        if place == len(self._counts):
            self._counts.append(0)
        self._counts[place] += 1

    def as_dict(self) -> dict[str, int]:
        """By name, in the order in which they were first counted."""
        return dict(zip(self._places, self._counts, strict=True))

    def total(self) -> int:
        return sum(self._counts)


class Histogram:
    """Counts of observations per upper bound, in seconds."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = array("Q", [0] * (len(bounds) + 1))
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one measurement."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, observations up to it), the last bound being ``+Inf``."""
        rows, sum_so_far = [], 0
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            sum_so_far += count
            rows.append((bound, float(sum_so_far)))
        return rows

    def copy(self) -> "Histogram":
        """A snapshot that another thread may read."""
        other = Histogram(self._bounds)
        other._counts = self._counts[:]
        other.total = self.total
        return other


@dataclass(slots=True)
class Measurements:
    """What the daemon observes and the metrics page shows; used by the event loop only, except for copies."""

    loop_lateness: Histogram = field(default_factory=lambda: Histogram(_LATENESS_BUCKETS_S))
    takeover: dict[str, Histogram] = field(default_factory=dict)
    """By group."""
    steps: dict[str, Histogram] = field(default_factory=lambda: {step: Histogram(_TAKEOVER_BUCKETS_S) for step in get_args(Step)})
    """Of the takeovers of all groups."""

    def observe_lateness(self, seconds: float) -> None:
        """The loop woke this much after its deadline."""
        self.loop_lateness.observe(seconds)

    def observe_takeover(self, group: str, seconds: float) -> None:
        """From the decision to take over until the kernel had the addresses."""
        if group not in self.takeover:
            self.takeover[group] = Histogram(_TAKEOVER_BUCKETS_S)
        self.takeover[group].observe(seconds)

    def observe_step(self, step: Step, seconds: float) -> None:
        """One step of a takeover took so long."""
        self.steps[step].observe(seconds)

    def forget(self, group: str) -> None:
        """The group is gone from the configuration."""
        self.takeover.pop(group, None)

    def copy(self) -> "Measurements":
        """A snapshot that another thread may read."""
        takeover, steps = ({name: one.copy() for name, one in kept.items()} for kept in (self.takeover, self.steps))
        return Measurements(self.loop_lateness.copy(), takeover, steps)
