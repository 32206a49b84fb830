"""What the wire showed in one round: questions, answers host by host, and the faults that were really done. Pure."""

__all__ = ["Happening", "Interval", "Timeline", "clip", "common", "without"]

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

MISSED = 4
"""Questions that may go unanswered within a span: one can be lost, and a machine that is busy answers late."""
SLOT_S = 0.005
"""Between two questions for one address."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Happening:
    """A fault as it was done, between two moments of the monotonic clock."""

    word: str
    hosts: tuple[str, ...]
    began_s: float
    ended_s: float


@dataclass(slots=True)
class Timeline:
    """One round. Times are those of the monotonic clock; answers are timed by the kernel."""

    began_s: float
    ended_s: float
    members: tuple[str, ...]
    questions: Sequence[float]
    answers: Mapping[str, Mapping[str, Sequence[float]]]
    """Address, host: the moments at which it answered."""
    pauses: Sequence[tuple[float, float]] = ()
    """When a question was asked too late, and by how much: what this machine did to everybody on it."""
    happenings: Sequence[Happening] = ()
    best: str = ""
    """The member with the best rank by the configuration at the end, if it may preempt."""
    preempting: bool = False
    """Whether a better member could take the address when the round began."""
    _spans: dict[tuple[str, str], list[Interval]] = field(default_factory=dict, init=False, repr=False)

    def spans(self, address: str, host: str) -> list[Interval]:
        """From when to when a host answered: a span goes on while hardly a question is missed."""
        if (address, host) not in self._spans:
            self._spans[address, host] = self._find_spans(address, host)
        return self._spans[address, host]

    def _find_spans(self, address: str, host: str) -> list[Interval]:
        found: list[Interval] = []
        for moment in self.answers[address].get(host, ()):
            if found and self._asked_between(found[-1][1], moment) <= MISSED:
                found[-1] = (found[-1][0], moment)
            else:
                found.append((moment, moment))
        return found

    def _asked_between(self, first_s: float, last_s: float) -> int:
        return bisect_left(self.questions, last_s) - bisect_right(self.questions, first_s)

    def silence(self, address: str, hosts: Iterable[str]) -> list[Interval]:
        """When none of these hosts answered, though more questions were asked than may be missed."""
        whole = [(self.began_s, self.ended_s)]
        gaps = without(whole, [span for host in hosts for span in self.spans(address, host)])
        return [gap for gap in gaps if self._asked_between(*gap) > MISSED]

    def longest_pause_s(self, first_s: float, last_s: float) -> float:
        """Of this machine, as the questions felt it."""
        return max((late_s for at_s, late_s in self.pauses if first_s <= at_s <= last_s + late_s), default=0.0)

    def during(self, words: Iterable[str]) -> list[Interval]:
        """When any of these faults was at work."""
        wanted = set(words)
        return [(one.began_s, one.ended_s) for one in self.happenings if one.word in wanted]


def common(one: Iterable[Interval], other: Iterable[Interval]) -> list[Interval]:
    """What two lists of intervals have in common."""
    return sorted((max(a, c), min(b, d)) for a, b in one for c, d in list(other) if max(a, c) < min(b, d))


def clip(intervals: Iterable[Interval], first_s: float, last_s: float) -> list[Interval]:
    """The parts of intervals between two moments."""
    return common(intervals, [(first_s, last_s)])


def without(intervals: Iterable[Interval], holes: Iterable[Interval]) -> list[Interval]:
    """What is left of intervals when holes are cut into them."""
    left = sorted(intervals)
    for first_s, last_s in sorted(holes):
        left = [part for a, b in left for part in ((a, min(b, first_s)), (max(a, last_s), b)) if part[0] < part[1]]
    return left
