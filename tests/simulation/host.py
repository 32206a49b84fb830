"""A host with one member: the engine, and a model of the shell around it that checks what every shell relies on.

Time is what ``now`` says. A stalled host gets neither packets nor timers, and on waking gets the packets first.
"""

__all__ = ["Host", "Violation"]

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from carp_protocol.config import GroupConfig
from carp_protocol.counter import Identity
from carp_protocol.effects import (
    Effect,
    IdentityChanged,
    Reason,
    ReleaseAddresses,
    State,
    StateChanged,
    TakeAddresses,
)
from carp_protocol.engine import Engine
from carp_protocol.packet import HEADER_LENGTH, decode_untrusted

Input = Callable[[Engine, float], object]

_MAX_ROUNDS = 50
"""An engine that wants its timer again at the same instant this often never lets go of it."""
_LEASE_FACTOR = 2.75
_HANDOVER_S = 0.5
"""Later than this after its last advert or bow-out a member has let go: in intervals as MASTER, in seconds in HANDOVER."""


class Violation(AssertionError):
    """A promise of the engine is broken."""


@dataclass(slots=True)
class Host:
    """``address`` is its own; ``holds`` says whether the group's addresses are attached."""

    number: int
    address: str
    config: GroupConfig
    dice: random.Random
    identity: Identity
    engine: Engine | None = None
    alive: bool = True
    """The host; the process is alive when it also has an engine."""
    stalled: bool = False
    holds: bool = False
    timer: float | None = None
    spoke_at: float = 0.0
    waiting: deque[Input] = field(default_factory=deque)
    effects: list[tuple[float, Effect]] = field(default_factory=list)
    sent_at: deque[float] = field(default_factory=deque)
    outbox: list[bytes] = field(default_factory=list)
    pending: list[Effect] = field(default_factory=list)

    @property
    def state(self) -> State:
        return self.engine.state if self.engine else State.INIT

    @property
    def is_master(self) -> bool:
        return self.state is State.MASTER

    def boot(self, now: float, identity: Identity) -> None:
        """Start the process, with what it found of its state."""
        self.die(host=False)
        self.alive, self.identity = True, identity
        self.engine = Engine(self.config, identity, self.dice.getrandbits)
        self.feed(lambda engine, at: engine.start(at), now)

    def die(self, *, host: bool) -> None:
        """End the process at once, or the whole host; whatever outlives the process removes the addresses."""
        self.engine, self.timer, self.holds, self.stalled = None, None, False, False
        self.waiting.clear()
        self.alive = not host

    def feed(self, give: Input, now: float) -> None:
        """One input, then what the shell does after every input."""
        if self.engine is None:
            return
        if self.stalled:
            self.waiting.append(give)
            return
        give(self.engine, now)
        self._drain(self.engine, now)

    def tick(self, now: float) -> None:
        """Give the engine its timer; it must not ask for the same instant for ever."""
        for _ in range(_MAX_ROUNDS):
            if self.engine is None or self.stalled or self.timer is None or self.timer > now:
                return
            self.feed(lambda engine, at: engine.handle_timer(at), now)
        raise Violation(f"host {self.number} spins at {now}: {self.state}")

    def wake(self, now: float) -> None:
        """End a stall: packets that waited come first, then the timer."""
        self.stalled = False
        while self.waiting:
            self.feed(self.waiting.popleft(), now)

    def _drain(self, engine: Engine, now: float) -> None:
        while (effect := engine.next_effect()) is not None:
            self._carry_out(effect, now)
        for packet in engine.packets_to_send():
            self._check_before_sending(engine, packet, now)
            self.sent_at.append(now)
            self.outbox.append(packet)
        self.timer = engine.next_timer()
        if engine.state.holds_addresses != self.holds:
            raise Violation(f"host {self.number} is {engine.state} and holds addresses: {self.holds}")
        if engine.state in (State.MASTER, State.HANDOVER) and self.timer is None:
            raise Violation(f"host {self.number} is {engine.state} without a deadline")

    def _carry_out(self, effect: Effect, now: float) -> None:
        self.effects.append((now, effect))
        if isinstance(effect, TakeAddresses):
            self.holds = True
        elif isinstance(effect, ReleaseAddresses):
            if not self.holds:
                raise Violation(f"host {self.number} releases what it does not hold")
            self.holds = False
        elif isinstance(effect, StateChanged) and effect.new is State.MASTER and effect.reason is not Reason.NO_SUCCESSOR:
            self.spoke_at = now
        elif isinstance(effect, IdentityChanged):
            self.identity = Identity(self.dice.getrandbits(64) if effect.twin else self.identity.sender_id, effect.epoch)
        else:
            self.pending.append(effect)

    def _check_before_sending(self, engine: Engine, packet: bytes, now: float) -> None:
        """A master that was late has released before any advert leaves."""
        header = decode_untrusted(packet)
        is_advert = len(packet) == HEADER_LENGTH or packet[HEADER_LENGTH + 1] == 1
        if header.is_bow_out:
            self.spoke_at = now
        if not is_advert or header.is_bow_out:
            return
        if now - self.spoke_at > max(_LEASE_FACTOR * self.config.advertisement_interval_s, _HANDOVER_S) and self.holds:
            raise Violation(f"host {self.number} advertises {now - self.spoke_at:.3f} s after its last advert and never let go")
        if not engine.state.holds_addresses:
            raise Violation(f"host {self.number} advertises as {engine.state}")
        self.spoke_at = now
