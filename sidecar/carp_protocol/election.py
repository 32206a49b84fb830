"""The states of a member, every way from one to another, and who gives way to whom.

Rule 1: everything that decides about a state transition is here; the engine feeds it and keeps the timers.
Rule 2: nothing here knows bytes, keys, clocks or addresses.

Theory of operation
===================

A member is BACKUP until nobody better speaks, then MASTER: it advertises, and holds the addresses. Two members never
negotiate. Each compares what it hears with what it would say itself, both by the same rule, so both come to the same
conclusion; a member that is worse stops speaking, a better one goes on. The comparison is a total order in Strict mode
(demotion, then advskew, then sender id). carp(4) knows no tie-break (protocol.md 3.4): there a master gives way to its
equal, and if both did, timing noise decides.

HANDOVER is a master that has said goodbye (advbase and advskew 255) and still answers, so that clients lose nothing
while the successor takes over. It ends with the successor's first advert, or with a short limit.

A transition happens for a reason, and a reason leads from a state to exactly one other; TRANSITIONS is the whole of it.
A pair that is not in the table cannot happen: the engine asks ``may`` first where an input can come in any state.
"""

__all__ = ["TRANSITIONS", "Standing", "Takeover", "as_backup", "as_master", "gives_way", "may", "next_state", "own_standing"]

from dataclasses import dataclass
from typing import NamedTuple

from .config import Dialect, GroupConfig, Mode
from .effects import Reason, State
from .packet import BOW_OUT

_COMMON_DEMOTED_ADVSKEW = 240
"""What FreeBSD, NetBSD and ucarp send when demoted, and never more (protocol.md 3.6)."""

TRANSITIONS: dict[State, dict[Reason, State]] = {
    State.INIT: {
        Reason.STARTED: State.BACKUP,
        Reason.LINK_UP: State.BACKUP,
    },
    State.BACKUP: {
        Reason.MASTER_TIMED_OUT: State.MASTER,
        Reason.MASTER_HOST_DEAD: State.MASTER,
        Reason.MASTER_PROCESS_DEAD: State.MASTER,
        Reason.MASTER_BOWED_OUT: State.MASTER,
        Reason.MASTER_DEMOTED: State.MASTER,
        Reason.NOBODY_THERE: State.MASTER,
        Reason.PREEMPTED_WORSE: State.MASTER,
        Reason.LINK_DOWN: State.INIT,
        Reason.CLOSED: State.INIT,
    },
    State.MASTER: {
        Reason.BETTER_MASTER: State.BACKUP,
        Reason.STALLED: State.BACKUP,
        Reason.ADDRESS_FAILED: State.BACKUP,
        Reason.REQUESTED: State.HANDOVER,
        Reason.EXCLUDED: State.HANDOVER,
        Reason.CLOSED: State.HANDOVER,
        Reason.LINK_DOWN: State.INIT,
    },
    State.HANDOVER: {
        Reason.SUCCESSOR_HEARD: State.BACKUP,
        Reason.STALLED: State.BACKUP,
        Reason.ADDRESS_FAILED: State.BACKUP,
        Reason.EXCLUDED: State.BACKUP,
        Reason.NO_SUCCESSOR: State.MASTER,
        Reason.LINK_DOWN: State.INIT,
        Reason.CLOSED: State.INIT,
    },
}


def may(state: State, reason: Reason) -> bool:
    return reason in TRANSITIONS[state]


def next_state(state: State, reason: Reason) -> State:
    """The state that ``reason`` leads to; KeyError for a transition that must not happen."""
    return TRANSITIONS[state][reason]


class Standing(NamedTuple):
    """What a member says of itself in its adverts."""

    advbase: int
    advskew: int
    demotion: int = 0
    sender_id: int = 0

    @property
    def is_bow_out(self) -> bool:
        return self.advbase == BOW_OUT and self.advskew == BOW_OUT


@dataclass(slots=True)
class Takeover:
    """A takeover that waits for better ranks; ``held`` once it has waited for a sender to prove itself."""

    at: float
    reason: Reason
    noticed_at: float
    held: bool = False


def own_standing(config: GroupConfig, demotion: int, sender_id: int) -> Standing:
    """What a member with this configuration says. ``advbase`` of a Strict advert is for tcpdump: the interval is in the extension."""
    advbase = min(BOW_OUT - 1, max(1, round(config.advertisement_interval_s)))
    authentication = config.authentication
    if authentication.mode is Mode.STRICT or authentication.dialect is Dialect.OPENBSD:
        return Standing(advbase, config.advskew, demotion, sender_id)
    demoted = min(_COMMON_DEMOTED_ADVSKEW, config.advskew + demotion) if demotion else 0
    return Standing(advbase, max(config.advskew, demoted))


def gives_way(mine: Standing, his: Standing, mode: Mode, dialect: Dialect) -> bool:
    """Whether a master that says ``mine`` becomes BACKUP when it hears ``his`` (protocol.md 3.3, row MASTER)."""
    if his.is_bow_out:
        return False
    if mode is Mode.STRICT:
        return (his.demotion, his.advskew, his.sender_id) < (mine.demotion, mine.advskew, mine.sender_id)
    not_faster = (mine.advbase, mine.advskew) >= (his.advbase, his.advskew)
    if not_faster and his.demotion <= mine.demotion:
        return True
    return dialect is Dialect.OPENBSD and his.demotion < mine.demotion


def as_master(mine: Standing, his: Standing, mode: Mode, dialect: Dialect) -> Reason | None:
    """What a MASTER does about another master's advert: step down for a reason, or stay (None)."""
    return Reason.BETTER_MASTER if gives_way(mine, his, mode, dialect) else None


def as_backup(mine: Standing, his: Standing, mode: Mode, preempt: bool, tolerated: int = 0) -> Reason | None:
    """Why a BACKUP takes over from the master that says ``his``, or None: it listens on (protocol.md 3.3, rows BACKUP).

    ``tolerated`` is a demotion that was known when the addresses were handed to him.
    """
    if his.is_bow_out:
        return Reason.MASTER_BOWED_OUT
    if his.demotion > max(mine.demotion, tolerated):
        return Reason.MASTER_DEMOTED
    if mode is Mode.STRICT:
        better = (mine.demotion, mine.advskew, mine.sender_id) < (his.demotion, his.advskew, his.sender_id)
        return Reason.PREEMPTED_WORSE if preempt and better else None
    if preempt and (mine.advbase, mine.advskew) < (his.advbase, his.advskew) and his.demotion >= mine.demotion:
        return Reason.PREEMPTED_WORSE
    if (3 * mine.advbase, mine.advskew) < (his.advbase, his.advskew):
        return Reason.MASTER_TIMED_OUT  # by its own words it will be silent for longer than our dead time
    return None
