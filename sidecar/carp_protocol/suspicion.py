"""Suspecting a master whose advert is late: ask its host and its process instead of waiting for the dead time.

Evidence counts only where the same question was answered while all was well: a filter looks like a dead host, a firewall
that rejects like a dead process. So every new master is asked once when it is first heard, and what it left unanswered,
then or in a false alarm, is not used against it.
"""

__all__ = ["Evidence", "Suspicion"]

from dataclasses import dataclass
from enum import Enum

from .effects import Reason

_QUESTIONS = 4
"""Asked before a silent host counts as dead; with a third of all packets lost, fewer than 1 in 10 rounds mistake a live host."""
_MIN_SPACING_S, _MAX_SPACING_S = 0.002, 0.010
"""Between questions: a LAN answers in well under 1 ms; the floor is what an event loop can keep, the ceiling keeps a round within 40 ms."""
_MIN_MARGIN_S = 0.002
_CALIBRATIONS = 3
"""Adverts after which a new master is asked, until it has answered everything: one lost answer must not blind us."""
_CALIBRATION_GAP_S = 0.02
"""Two adverts of one takeover are closer than this: the first answers shall have arrived before we ask again."""
_JITTER_WEIGHT = 1 / 16
_JITTER_FACTOR = 4
"""Late is the interval plus four times the mean lateness, as in RFC 6298's retransmission timer."""


_REMINDERS, _FIRST_REMINDER = 2, 2.25
"""A master that lives, but of whom two adverts are lost, is asked for another so often, from so many intervals after its last one on."""


class Evidence(Enum):
    """What came back from a question to the master's host."""

    HOST_ANSWERED = "host-answered"
    PROCESS_ANSWERED = "process-answered"
    PORT_UNREACHABLE = "port-unreachable"
    ADVERTS_LOST = "adverts-lost"
    """No answer, but news of ourselves: more adverts came from there than this host could read."""


@dataclass(slots=True)
class _Round:
    """One alarm: questions asked so far and what was answered."""

    began: float
    asked: int = 0
    host_answered: bool = False
    process_answered: bool = False
    reminders: int = _REMINDERS


class Suspicion:
    """Watches the adverts of one master. ``source`` is the address that is asked."""

    __slots__ = (
        "_calibrate_at", "_calibrations", "_expected_at", "_heard_at", "_interval_s", "_jitter_s", "_lost", "_round", "_timer",
        "host_answers", "process_answers", "source",
    )  # fmt: skip

    def __init__(self, source: str) -> None:
        self.source = source
        self._calibrations = _CALIBRATIONS
        self._calibrate_at = 0.0
        self.host_answers = False
        self.process_answers = False
        self._expected_at: float | None = None
        self._heard_at = 0.0
        self._interval_s = 0.0
        self._jitter_s = 0.0
        self._lost = False
        """Whether its adverts may have been lost on this host since the last that was heard."""
        self._round: _Round | None = None
        self._timer: float | None = None

    @property
    def process_answered(self) -> bool:
        """Whether the master's process has answered in this alarm: it lives, and only its adverts do not come."""
        return self._round is not None and self._round.process_answered

    @property
    def silent_since(self) -> float | None:
        """When the questions began; None while all is well."""
        return self._round.began if self._round else None

    def confirms(self, verdict: Reason, silent_since: float) -> bool:
        """Whether another group's verdict about this host holds here too: nothing heard since, and the evidence counts."""
        counts = self.host_answers if verdict is Reason.MASTER_HOST_DEAD else self.process_answers
        return counts and self._heard_at < silent_since

    def heard_advert(self, interval_s: float, now: float) -> bool:
        """The master spoke; the next advert is due after ``interval_s``. Whether to ask it now, to learn what it answers."""
        if self._expected_at is not None and interval_s == self._interval_s:
            # Only lateness: an advert out of turn, an answer to a question, is early and says nothing of the network.
            lateness_s = min(max(0.0, now - self._expected_at), interval_s)
            self._jitter_s += (lateness_s - self._jitter_s) * _JITTER_WEIGHT
        if self._round and self._round.asked >= _QUESTIONS:
            self.host_answers &= self._round.host_answered
            self.process_answers &= self._round.process_answered
            self._calibrations = _CALIBRATIONS
        self._round, self._lost = None, False
        self._heard_at = now
        self._interval_s = interval_s
        self._expected_at = now + interval_s
        margin = max(interval_s / 8, _JITTER_FACTOR * self._jitter_s, _MIN_MARGIN_S)
        self._timer = self._expected_at + min(margin, interval_s)
        if not self._calibrations or now < self._calibrate_at or (self.host_answers and self.process_answers):
            return False
        self._calibrations -= 1
        self._calibrate_at = now + _CALIBRATION_GAP_S
        return True

    def next_timer(self) -> float | None:
        return self._timer if self.host_answers or self.process_answers else None

    def handle_timer(self, now: float) -> tuple[bool, Reason | None]:
        """Whether to ask now, and the verdict if there is one. Call when ``next_timer`` has come."""
        due, self._timer = self._timer, None
        if due is None:
            return False, None
        if self._round is None:
            self._round = _Round(now)
        if self._round.process_answered:
            self._round.reminders -= 1
            self._timer = now + self._interval_s / 2 if self._round.reminders else None
            return True, None
        late = now - due > 2 * self._spacing_s  # ourselves: answers may be waiting unread, so ask again, but not for ever
        if self._round.asked < (2 * _QUESTIONS if late else _QUESTIONS):
            self._round.asked += 1
            self._timer = now + self._spacing_s
            return True, None
        silent = not (self._round.host_answered or self._round.process_answered)
        return False, Reason.MASTER_HOST_DEAD if silent and self.host_answers else None

    def receive_evidence(self, evidence: Evidence) -> Reason | None:
        """Take an answer into account; gives the verdict it completes."""
        if evidence is Evidence.ADVERTS_LOST:
            self._lost = True
            return None
        if self._round is None:
            self.host_answers |= evidence is Evidence.HOST_ANSWERED
            self.process_answers |= evidence is Evidence.PROCESS_ANSWERED
            return None
        if evidence is Evidence.PORT_UNREACHABLE:
            self._round.host_answered = True
            return Reason.MASTER_PROCESS_DEAD if self.process_answers and not self._round.process_answered else None
        if evidence is Evidence.PROCESS_ANSWERED and not self._round.process_answered:
            self._round.process_answered = True
            # Alive, only slow or lossy: the dead time decides. One whose adverts drown was heard long ago: now, not in the past.
            self._timer = max(self._heard_at + _FIRST_REMINDER * self._interval_s, self._round.began)
        self._round.host_answered = True
        return None

    def is_drowned(self, now: float) -> bool:
        """At the dead time, whether the master's process answers while its adverts may drown in a flood; it is asked anew."""
        if not (self._lost and self.process_answered):
            return False
        self._round, self._timer = _Round(now), now
        return True

    @property
    def _spacing_s(self) -> float:
        return min(max(self._interval_s / 16, _MIN_SPACING_S), _MAX_SPACING_S)
