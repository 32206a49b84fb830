"""Counters of Strict adverts: (epoch, sequence) in 64 bits, growing for ever, across restarts and clock steps.

The shell stores the identity once per start, before the first packet; nothing here waits for a disk.
"""

__all__ = ["Budgets", "Counter", "Identity", "TokenBucket"]

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass

_SEQUENCE_BITS = 32
_LAST_SEQUENCE = (1 << _SEQUENCE_BITS) - 1
_LAST_EPOCH = 2**32 - 1
_MAX_BUCKETS = 256
"""Names with a budget of their own: a group has a few members, each with a few."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a member is: a random 64-bit sender id, kept across restarts, and the epoch of this run."""

    sender_id: int
    epoch: int

    def for_group(self, name: str) -> "Identity":
        """The identity in one group: ids differ, so a packet recorded in one group proves nothing in another with the same key."""
        digest = hashlib.sha256(self.sender_id.to_bytes(8, "big") + name.encode()).digest()
        return Identity(int.from_bytes(digest[:8], "big") or 1, self.epoch)


class Counter:
    """Hands out counters, each above the one before. The last sequence of an epoch is kept for the farewell."""

    __slots__ = ("_value",)

    def __init__(self, epoch: int) -> None:
        self._value: int = min(epoch, _LAST_EPOCH) << _SEQUENCE_BITS

    @property
    def value(self) -> int:
        """The counter given out last."""
        return self._value

    @property
    def epoch(self) -> int:
        return self._value >> _SEQUENCE_BITS

    def next(self) -> int:
        self._value += 1
        if self._value & _LAST_SEQUENCE == _LAST_SEQUENCE:
            self._value += 2  # past the farewell of the epoch that ends here
        return self._value

    def farewell(self) -> int:
        """The highest counter of the epoch: a packet signed with it beats every other of this run, and only the next run beats it."""
        return self._value | _LAST_SEQUENCE

    def jump_past(self, heard: int) -> None:
        """Continue in an epoch above ``heard``, the last counter that a peer remembers of us."""
        self._value = max(self._value, min((heard >> _SEQUENCE_BITS) + 1, _LAST_EPOCH) << _SEQUENCE_BITS)


class TokenBucket:
    """Allows ``rate_per_s`` actions a second and ``burst`` at once: the budget of everything a packet can make us send."""

    __slots__ = ("_at", "_burst", "_gap_s", "_rate_per_s", "_taken_at", "_tokens")

    def __init__(self, rate_per_s: float, burst: int, gap_s: float = 0.0) -> None:
        """``gap_s``: what two actions are apart at least, also in a burst."""
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._gap_s = gap_s
        self._tokens = float(burst)
        self._at: float | None = None
        self._taken_at: float | None = None

    def take(self, now: float) -> bool:
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate_per_s)
        self._at = now
        if self._tokens < 1 or (self._taken_at is not None and now - self._taken_at < self._gap_s):
            return False
        self._tokens -= 1
        self._taken_at = now
        return True


class Budgets:
    """A bucket for each name: a flood in one name leaves the others theirs. The name used longest ago is forgotten first."""

    def __init__(self, rate_per_s: float, burst: int, gap_s: float = 0.0) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._gap_s = gap_s
        self._buckets: dict[Hashable, TokenBucket] = {}

    def take(self, name: Hashable, now: float) -> bool:
        bucket = self._buckets.pop(name, None) or TokenBucket(self._rate_per_s, self._burst, self._gap_s)
        if len(self._buckets) >= _MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[name] = bucket
        return bucket.take(now)
