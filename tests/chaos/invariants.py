"""What must be true at every instant of a round: a pure checker over what the wire showed. It knows no log and no sidecar."""

__all__ = ["OBSERVED_S", "RESOLUTION_S", "Violation", "check", "figures"]

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

from chaos.bounds import Bounds
from chaos.plan import FAULTS, Kind
from chaos.timeline import SLOT_S, Happening, Interval, Timeline, clip, common, without

RESOLUTION_S = 2 * SLOT_S
"""An interval begins and ends between two questions."""
PAUSES = 3
"""Processes in a row that a pause of the machine can hold up: a sidecar, its netlink thread or guardian, and its peer."""
UNPUNCTUAL = ("stop", "starve")
ORPHANED = ("kill-both",)
KILLED = ("kill", "state-lost", "clock")
SICK = tuple(word for word, fault in FAULTS.items() if fault.sick)
DISABLING = tuple(word for word, fault in FAULTS.items() if fault.disables)
ESTABLISHED = 2
"""Times the bound of peace: a host that answered alone for so long is nobody's rival in a race."""
QUIET_S = 0.1
"""A host to which nothing happens answers again after this: less than any takeover takes."""
OBSERVED_S = 1.0
"""At the end of a round, when everything has healed."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: which, about which address, from when to when, and the bound that was passed."""

    invariant: str
    address: str
    hosts: tuple[str, ...]
    began_s: float
    ended_s: float
    allowed_s: float

    @property
    def sentence(self) -> str:
        """For people."""
        who = f" ({', '.join(self.hosts)})" if self.hosts else ""
        return f"{self.invariant}: {self.address}{who} for {self.ended_s - self.began_s:.3f} s, allowed {self.allowed_s:.3f} s"


def check(seen: Timeline, bounds: Bounds) -> list[Violation]:
    """Every violation of a round."""
    found: list[Violation] = []
    for address in seen.answers:
        found += _two_answer(seen, bounds, address)
        found += _nobody_answers(seen, bounds, address)
        found += _heals(seen, bounds, address)
        found += _unhurt_keeps(seen, bounds, address)
    return sorted(found, key=lambda one: one.began_s)


def _sides(seen: Timeline) -> Iterator[tuple[Interval, list[tuple[str, ...]]]]:
    """The round in pieces, and who can hear whom in each; pieces of a sick LAN are left out."""
    parted = [one for one in seen.happenings if one.word == "partition"]
    healthy = without([(seen.began_s, seen.ended_s)], seen.during(SICK))
    for piece in without(healthy, [(one.began_s, one.ended_s) for one in parted]):
        yield piece, [seen.members]
    for one in parted:
        rest = tuple(member for member in seen.members if member not in one.hosts)
        for piece in clip(healthy, one.began_s, one.ended_s):
            yield piece, [one.hosts, rest]


def _tolerance_s(seen: Timeline, first_s: float, last_s: float) -> float:
    return RESOLUTION_S + PAUSES * seen.longest_pause_s(first_s, last_s)


def _two_answer(seen: Timeline, bounds: Bounds, address: str) -> Iterator[Violation]:
    """Two hosts that can hear each other never both answer for longer than the lease, or than the reason they have allows."""
    for piece, sides in _sides(seen):
        for side in sides:
            for pair in combinations(side, 2):
                both = clip(common(seen.spans(address, pair[0]), seen.spans(address, pair[1])), *piece)
                for first_s, last_s in both:
                    allowed_s = _allowed_s(seen, bounds, pair, first_s, last_s) + _tolerance_s(seen, first_s, last_s)
                    if last_s - first_s > allowed_s:
                        yield Violation("two answer", address, pair, first_s, last_s, allowed_s)


def _allowed_s(seen: Timeline, bounds: Bounds, pair: tuple[str, ...], first_s: float, last_s: float) -> float:
    """A reason is one that one of the two has now, or had when it could still hold a lease of then."""
    lookback_s = bounds.orphaned_s + bounds.nobody_s
    hurt = {
        one.word for one in seen.happenings if set(one.hosts) & set(pair) and one.began_s <= last_s and one.ended_s >= first_s - lookback_s
    }
    reasons = ((UNPUNCTUAL, bounds.stopped_s), (ORPHANED, bounds.orphaned_s), (KILLED, bounds.killed_s))
    allowed = [bound_s for words, bound_s in reasons if hurt & set(words)]
    if not allowed or hurt - {word for words, _ in reasons for word in words}:
        allowed.append(bounds.peace_s)
    return max(allowed)


def _events(seen: Timeline) -> list[float]:
    return sorted({seen.began_s, seen.ended_s, *(at_s for one in seen.happenings for at_s in (one.began_s, one.ended_s))})


def _able(seen: Timeline, host: str, first_s: float, last_s: float) -> bool:
    return not any(
        host in one.hosts and one.word in DISABLING and one.began_s < last_s and one.ended_s > first_s for one in seen.happenings
    )


def _nobody_answers(seen: Timeline, bounds: Bounds, address: str) -> Iterator[Violation]:
    """Silence ends in time, counted from the last thing that was done, wherever a host could answer."""
    moments = [at_s for at_s in _events(seen) if seen.began_s <= at_s <= seen.ended_s]
    for piece, sides in _sides(seen):
        for first_s, last_s in pairwise(moments):
            for quiet in clip([piece], first_s, last_s):
                for side in sides:
                    if not any(_able(seen, host, *quiet) for host in side):
                        continue
                    for silent in clip(seen.silence(address, side), *quiet):
                        allowed_s = bounds.nobody_s + _tolerance_s(seen, *silent)
                        if silent[1] - silent[0] > allowed_s:
                            yield Violation("nobody answers", address, side, *silent, allowed_s)


def _heals(seen: Timeline, bounds: Bounds, address: str) -> Iterator[Violation]:
    """At the end exactly one answers, and it is the best one where a better one may preempt."""
    last_s = max((one.ended_s for one in seen.happenings), default=seen.began_s)
    window = (max(seen.ended_s - OBSERVED_S, last_s + bounds.healed_s), seen.ended_s)
    if window[0] >= window[1]:
        return
    answering = tuple(host for host in seen.members if clip(seen.spans(address, host), *window))
    longest_s = QUIET_S + _tolerance_s(seen, *window)
    silent = [gap for gap in clip(seen.silence(address, seen.members), *window) if gap[1] - gap[0] > longest_s]
    if len(answering) != 1 or silent or (seen.best and answering != (seen.best,)):
        yield Violation(f"not healed (the best is {seen.best})" if seen.best else "not healed", address, answering, *window, 0.0)


def _touches(one: Happening, host: str) -> bool:
    return host in one.hosts or FAULTS[one.word].kind in (Kind.LAN, Kind.SETTINGS)


def _unhurt_keeps(seen: Timeline, bounds: Bounds, address: str) -> Iterator[Violation]:
    """Without preemption a host that answers alone and to which nothing happens goes on answering."""
    if seen.best or seen.preempting:
        return
    for host in seen.members:
        others = [span for other in seen.members if other != host for span in seen.spans(address, other)]
        spans = seen.spans(address, host)
        for (first_s, last_s), (back_s, _) in pairwise([*spans, (seen.ended_s, seen.ended_s)]):
            near_s = last_s - bounds.nobody_s
            touched = any(_touches(one, host) and one.ended_s >= near_s and one.began_s <= last_s + RESOLUTION_S for one in seen.happenings)
            alone_s = sum(b - a for a, b in clip(without([(first_s, last_s)], others), last_s - 2 * ESTABLISHED * bounds.peace_s, last_s))
            allowed_s = QUIET_S + _tolerance_s(seen, near_s, back_s)
            if back_s - last_s > allowed_s and not touched and alone_s > ESTABLISHED * bounds.peace_s:
                yield Violation("an unhurt master fell silent", address, (host,), last_s, back_s, allowed_s)


def figures(seen: Timeline) -> dict[str, float]:
    """The worst of a round in milliseconds, beside what is allowed: where members could hear each other."""
    both, nobody = [0.0], [0.0]
    for address in seen.answers:
        for piece, sides in _sides(seen):
            for side in sides:
                for one, other in combinations(side, 2):
                    both += [b - a for a, b in clip(common(seen.spans(address, one), seen.spans(address, other)), *piece)]
                nobody += [b - a for a, b in clip(seen.silence(address, side), *piece)]
    late_s = max((late_s for _, late_s in seen.pauses), default=0.0)
    return {name: round(value_s * 1000, 1) for name, value_s in (("two", max(both)), ("nobody", max(nobody)), ("pause", late_s))}
