"""Every duration of the election, as functions of interval and advskew (protocol.md 3.2, design.md 4). No clock."""

__all__ = [
    "FOLLOW_UP_S",
    "HANDOVER_LIMIT_S",
    "RACE_S",
    "SOLICIT_COUNT",
    "SOLICIT_SPACING_S",
    "VERIFY_WAIT_S",
    "Timing",
    "timing_of",
    "widest_rank_delay_s",
]

from dataclasses import dataclass
from math import floor

from .config import Dialect, GroupConfig, Mode
from .effects import State
from .election import Standing

HANDOVER_LIMIT_S = 0.4
"""How long a master that bowed out keeps answering for a successor: twice the widest rank delay, an attach, one lost packet."""
SOLICIT_COUNT = 4
SOLICIT_SPACING_S = 0.0125
"""A starting member asks this often, this far apart: 50 ms of silence to four questions mean nobody is there."""
VERIFY_WAIT_S = 0.02
"""How long a takeover waits, once, for a sender we have no counter of to prove that it lives: ten round trips of a busy LAN."""
FOLLOW_UP_S = 0.01
"""A new Strict master repeats its first advert after this long, so that one lost packet does not cost an interval."""
RACE_S = 0.25
"""Two masters for less than this are a race between takeovers, for more a split brain."""

_RANK_SPREAD_S = 0.128
"""Width of the ranks: 16 steps of advskew, what the operator leaves between the best nodes, are 8 ms. An attach and a busy loop take 5."""
_DEAD_FACTOR = 3
_DEAD_MARGIN = 1 / 8
"""Of an interval, on top, in Strict mode: the third advert after a lost pair is due when the dead time of the best backup ends."""
_BEATS = 64
"""In an interval: an advert is early by at most 1/64 of it, far less than what counts as late."""
_BEAT_ROUNDING = 1e-6
"""Of a beat: more than the quotient of two clock readings is wrong by."""
_STALL_FACTOR = 2.75
"""A master that has not advertised for this many intervals steps down before it speaks: the best backup acts after 3."""
_LEASE_FACTOR = 2.5
"""The kernel silences a master that has not advertised for this many intervals. The best backup acts after 3, also on suspicion:
a process that hangs does not answer, but its host does. And an advert may be one and a half intervals late; half of one, where a
carp(4) master of the worst advskew speaks every second interval."""
_HANDOVER_LEASE_S = 1.25 * HANDOVER_LIMIT_S
"""One that bowed out and answers for its successor does not speak meanwhile."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations of one member. All times in seconds; ``advskew`` in 1/256 of an interval."""

    interval_s: float
    advskew: int
    skew_unit_s: float | None = None
    """256 steps of advskew; None: the interval. carp(4) counts them in one second whatever the interval is."""
    skewed_dead_time: bool = False
    """OpenBSD multiplies the skew too: 3 x (b + s/256) instead of 3b + s/256."""

    def advert_interval_s(self, sent_advskew: int, master_interval_s: float | None = None) -> float:
        """Between two adverts of a master that sends this advskew. ``master_interval_s``: the interval it says it uses; None: ours.

        carp(4): b + s/256, so that the better of two is the faster. Strict members compare ranks instead: U whatever the rank. Or
        the dead time of a better backup, 3 U and a little, would forgive a master of low rank one lost advert, not two.
        """
        interval_s = self.interval_s if master_interval_s is None else master_interval_s
        return interval_s if self.skew_unit_s is None else interval_s + self._skew_s(sent_advskew, interval_s)

    def next_advert_at(self, sent_advskew: int, now: float) -> float:
        """When a master speaks again. Strict: on a beat common to all groups with this interval, never late and hardly early.

        A host with hundreds of groups then wakes up some times in an interval, not for each of them.
        """
        due = now + self.advert_interval_s(sent_advskew)
        if self.skew_unit_s is not None:
            return due
        beat_s = self.interval_s / _BEATS
        return floor(due / beat_s + _BEAT_ROUNDING) * beat_s

    def dead_time_s(self, master_interval_s: float) -> float:
        """Silence after which the master counts as dead: U(3 + 1/8 + s/256), U the interval the master says it uses; carp(4) 3b + s/256."""
        skew_s = self._skew_s(self.advskew, master_interval_s)
        margin_s = _DEAD_MARGIN * master_interval_s if self.skew_unit_s is None else 0.0
        return _DEAD_FACTOR * master_interval_s + margin_s + skew_s * (_DEAD_FACTOR if self.skewed_dead_time else 1)

    def _skew_s(self, advskew: int, interval_s: float) -> float:
        return advskew / 256 * (interval_s if self.skew_unit_s is None else self.skew_unit_s)

    @property
    def stall_limit_s(self) -> float:
        """Since its last advert: a master later than this has lost its addresses to somebody else."""
        return _STALL_FACTOR * self.interval_s

    def lease_s(self, state: State = State.MASTER) -> float:
        """Since it last spoke: when the kernel silences a member that hangs; a master before anybody takes over from it."""
        lease_s = _LEASE_FACTOR * self.interval_s
        return max(lease_s, _HANDOVER_LEASE_S) if state is State.HANDOVER else lease_s

    def rank_delay_s(self, mine: Standing) -> float:
        """How long this member leaves to better ones before it takes over from a master known to be gone: the demoted come last."""
        step = mine.advskew / 256
        if mine.demotion:
            step = 1 + (mine.demotion + step) / 256
        return step * widest_rank_delay_s(self.interval_s)


def timing_of(config: GroupConfig) -> Timing:
    """Strict scales everything with the interval; Compatible does as carp(4), or as OpenBSD where that differs."""
    if config.authentication.mode is Mode.STRICT:
        return Timing(config.advertisement_interval_s, config.advskew)
    openbsd = config.authentication.dialect is Dialect.OPENBSD
    return Timing(config.advertisement_interval_s, config.advskew, skew_unit_s=1.0, skewed_dead_time=openbsd)


def widest_rank_delay_s(interval_s: float) -> float:
    """More than any member that is not demoted waits for better ranks."""
    return min(interval_s, _RANK_SPREAD_S)
