"""Hosts, a segment and a clock that only moves when told: the whole of a cluster in one process, decided by one seed.

What is checked all the time is here and in ``host``; what is promised in a situation is for the tests.
"""

__all__ = ["World", "settle_limit_s"]

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from carp_protocol.config import GroupConfig, Mode
from carp_protocol.counter import Identity
from carp_protocol.effects import ProbeAddress, ProbeMaster, State
from carp_protocol.engine import Engine
from carp_protocol.suspicion import Evidence
from simulation.host import Host, Violation
from simulation.members import address_of, origin_of
from simulation.network import Network, Weather

MAX_PACKETS_PER_S = 150
"""Of one member with adverts every second, whatever is done to it: the budgets of answers and questions, and its own adverts."""


def settle_limit_s(interval_s: float, mode: Mode = Mode.STRICT) -> float:
    """After the network healed and nobody is stalled, this much later exactly one master is left.

    Silence until the slowest backup acts, U x (3 + 254/256); one more interval if it was late itself; the advert of the
    worse of two masters, at most 2 U later; a handover that began, the ranks, and the answers to challenges: 0.5 s.
    Compatible adds an interval and a dead time for masters that gave way to each other.
    """
    return (7 if mode is Mode.STRICT else 12) * interval_s + 0.5


class World:
    """Members are numbered from 1. ``configs`` in that order."""

    def __init__(self, configs: Sequence[GroupConfig], seed: int = 0, weather: Weather | None = None) -> None:
        self.dice = random.Random(seed)
        self.network = Network(self.dice, weather or Weather())
        self.now = 100.0
        self.hosts = {
            number: Host(number, address_of(number), config, random.Random(self.dice.random()), Identity(self.dice.getrandbits(64), 0))
            for number, config in enumerate(configs, 1)
        }
        self.overlaps: list[tuple[float, float]] = []
        """From when to when two or more living, running members were MASTER."""
        self.gaps: list[tuple[float, float]] = []
        """From when to when nobody was."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._overlap_from: float | None = None
        self._gap_from: float | None = self.now

    # ---- what tests do ----------------------------------------------------------------------------------------

    def boot(self, *numbers: int, lost: bool = False, rolled_back: bool = False) -> None:
        """Start members; ``lost``: without their state, ``rolled_back``: with the id but an epoch from long ago."""
        for number in numbers or self.hosts:
            host = self.hosts[number]
            identity = Identity(host.identity.sender_id, 1 if rolled_back else host.identity.epoch + 1)
            host.boot(self.now, Identity(self.dice.getrandbits(64), 1) if lost else identity)
            self._after(host)

    def crash(self, number: int, *, host: bool = True) -> None:
        self.hosts[number].die(host=host)
        self._watch()

    def stall(self, number: int) -> None:
        self.hosts[number].stalled = True
        self._watch()

    def wake(self, number: int) -> None:
        self.hosts[number].wake(self.now)
        self._after(self.hosts[number])

    def do(self, number: int, action: Callable[[Engine, float], object]) -> None:
        """Give one member an input of another kind than packets and timers."""
        self.hosts[number].feed(action, self.now)
        self._after(self.hosts[number])

    def reconfigure(self, number: int, **fields: Any) -> None:
        """Reload one member with other settings."""
        config = replace(self.hosts[number].config, **fields)
        self.do(number, lambda engine, now: engine.reconfigure(config, now))
        self.hosts[number].config = config

    def inject(self, data: bytes, claims: int, *receivers: int) -> None:
        """An attacker's packet, at once, with the source address of member ``claims``."""
        for receiver in receivers or tuple(self.hosts):
            if receiver != claims:
                self._deliver(data, claims, receiver)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            timers = [(host.timer, host.number) for host in self.hosts.values() if host.timer is not None and not host.stalled]
            timer, number = min(timers, default=(end + 1, 0))
            event_at = self._events[0][0] if self._events else end + 1
            at = min(timer, event_at)
            if at > end:
                self.now = end
                return
            self.now = max(self.now, at)
            if event_at <= timer:
                heapq.heappop(self._events)[2]()
            else:
                self.hosts[number].tick(self.now)
                self._after(self.hosts[number])

    def run_until(self, condition: Callable[[], bool], limit_s: float, step_s: float = 0.005) -> float:
        """Let time pass until ``condition`` holds; how long it took."""
        started = self.now
        while not condition():
            if self.now - started > limit_s:
                raise Violation(f"not reached within {limit_s} s: {self.states()}")
            self.run(step_s)
        return self.now - started

    # ---- what tests ask ---------------------------------------------------------------------------------------

    def states(self) -> dict[int, State]:
        return {number: host.state for number, host in self.hosts.items()}

    def masters(self) -> list[int]:
        """Members that are MASTER, and run."""
        return [number for number, host in self.hosts.items() if host.is_master and not host.stalled]

    def engine(self, number: int) -> Engine:
        engine = self.hosts[number].engine
        assert engine is not None
        return engine

    def longest_overlap_s(self, since: float = 0.0) -> float:
        """The longest time with two masters that began after ``since``, including one that lasts."""
        lasting = [(self._overlap_from, self.now)] if self._overlap_from is not None else []
        return max((end - start for start, end in [*self.overlaps, *lasting] if start >= since), default=0.0)

    def longest_gap_s(self, since: float = 0.0) -> float:
        """The same for times without a master."""
        lasting = [(self._gap_from, self.now)] if self._gap_from is not None else []
        return max((end - start for start, end in [*self.gaps, *lasting] if start >= since), default=0.0)

    # ---- how it works -----------------------------------------------------------------------------------------

    def _at(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), event))

    def _after(self, host: Host) -> None:
        """What a host put out goes on its way; then the whole is looked at."""
        packets, host.outbox = host.outbox, []
        for packet in packets:
            self.network.recorded.append((host.number, packet))
            for receiver in self.hosts:
                if receiver != host.number:
                    for delay_s in self.network.copies(host.number, receiver):
                        self._at(delay_s, lambda to=receiver, data=packet: self._deliver(data, host.number, to))  # type: ignore[misc]
        effects, host.pending = host.pending, []
        for effect in effects:
            if isinstance(effect, ProbeMaster):
                self._probe_master(host, effect.source)
            elif isinstance(effect, ProbeAddress):
                self._probe_address(host)
        self._check_rate(host)
        self._watch()

    def _deliver(self, data: bytes, sender: int, receiver: int) -> None:
        host = self.hosts[receiver]
        host.feed(lambda engine, now: engine.receive_packet(data, origin_of(sender), now), self.now)
        self._after(host)

    def _round_trip(self, asker: int, asked: int) -> float | None:
        """The time until an answer is back; None: it does not come."""
        there_and_back = self.network.reaches(asker, asked) and self.network.reaches(asked, asker)
        if not there_and_back or not (self.network.survives() and self.network.survives()):
            return None
        return self.network.delay_s() + self.network.delay_s()

    def _probe_master(self, host: Host, source: str) -> None:
        for other in self.hosts.values():
            if other.address != source or not other.alive or other is host:
                continue
            answers = [Evidence.HOST_ANSWERED]
            if other.engine is None:
                answers.append(Evidence.PORT_UNREACHABLE)
            elif not other.stalled:
                answers.append(Evidence.PROCESS_ANSWERED)
            for evidence in answers:
                self._evidence(host, other, evidence)

    def _evidence(self, host: Host, other: Host, evidence: Evidence) -> None:
        delay_s = self._round_trip(host.number, other.number)
        if delay_s is not None:
            self._input(delay_s, host, lambda engine, now: engine.receive_evidence(evidence, other.address, now))

    def _probe_address(self, host: Host) -> None:
        for other in self.hosts.values():
            delay_s = self._round_trip(host.number, other.number)
            if other is not host and other.alive and other.holds and delay_s is not None:
                self._input(delay_s, host, lambda engine, _, who=other.address: engine.address_answered(who))  # type: ignore[misc]

    def _input(self, delay_s: float, host: Host, give: Callable[[Engine, float], object]) -> None:
        def arrive() -> None:
            host.feed(give, self.now)
            self._after(host)

        self._at(delay_s, arrive)

    def _check_rate(self, host: Host) -> None:
        while host.sent_at and host.sent_at[0] < self.now - 1:
            host.sent_at.popleft()
        limit = MAX_PACKETS_PER_S + 2 / host.config.advertisement_interval_s
        if len(host.sent_at) > limit:
            raise Violation(f"host {host.number} sent {len(host.sent_at)} packets in one second")

    def _watch(self) -> None:
        """Keep book of times with more or fewer masters than one."""
        masters = len(self.masters())
        if masters > 1 and self._overlap_from is None:
            self._overlap_from = self.now
        elif masters <= 1 and self._overlap_from is not None:
            self.overlaps.append((self._overlap_from, self.now))
            self._overlap_from = None
        if masters == 0 and self._gap_from is None:
            self._gap_from = self.now
        elif masters and self._gap_from is not None:
            self.gaps.append((self._gap_from, self.now))
            self._gap_from = None

    def set_weather(self, **fields: float) -> None:
        self.network.weather = replace(self.network.weather, **fields)
