"""A segment in virtual time: many hosts with many groups each, the real engine in every member. Decided by one seed.

Unlike the simulation of the tests it models what couples the groups of a host: one processor that takes packets and timers
one after the other, one prober that merges questions, and one verdict on a dead host for all groups. It checks no promises.
"""

__all__ = ["LAN", "Group", "Host", "Member", "Segment", "Weather"]

import heapq
import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from carp_protocol.config import GroupConfig
from carp_protocol.counter import Identity
from carp_protocol.effects import MasterDead, ProbeAddress, ProbeMaster, StateChanged
from carp_protocol.engine import Engine
from carp_protocol.heard import Origin
from carp_protocol.strict import Peer
from carp_protocol.suspicion import Evidence

BIN_S = 0.01
"""Traffic is counted in windows of so long."""
MERGE_S = 0.0015
"""Questions of one host to another that are closer than this are one: ``carp_sidecar.wire.probe``."""
_KIND_AT = 37
_EPOCH = 1
_ARRIVE, _SERVE, _TIMER, _EVIDENCE, _OWNED, _DO = range(6)
Job = tuple[int, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to each copy of each packet, and what a packet costs the host that handles it."""

    loss: float = 0.0
    delay_s: float = 0.0002
    jitter_s: float = 0.0002
    """Mean of an exponential delay on top; packets to one host keep their order."""
    cost_s: float = 0.00002
    """Processor time for a packet or timer handled or sent."""
    burst_s: float = 0.0
    """Mean length of a time in which one host hears and says nothing; exponential."""
    burst_every_s: float = 0.0
    pause_s: float = 0.0
    """Mean length of a time in which one host does nothing, while packets wait for it; exponential."""
    pause_every_s: float = 0.0


LAN = Weather()


@dataclass(slots=True, eq=False)
class Host:
    number: int
    address: str
    alive: bool = True
    members: list["Member"] = field(default_factory=list)
    free_at: float = 0.0
    deaf_until: float = 0.0
    last_arrival: float = 0.0
    queue: deque[Job] = field(default_factory=deque)
    longest_queue: int = 0
    received: int = 0
    busy_s: float = 0.0
    asked: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Member:
    host: Host
    group: "Group"
    engine: Engine
    armed: float | None = None
    master: bool = False


@dataclass(slots=True, eq=False)
class Group:
    """``changes``: when the number of living masters changed, and to what."""

    config: GroupConfig
    members: list[Member] = field(default_factory=list)
    masters: int = 0
    changes: list[tuple[float, int]] = field(default_factory=list)
    takeovers: list[tuple[float, Member, str]] = field(default_factory=list)

    def time_with(self, wanted: range, since: float, until: float) -> float:
        """For how long the number of masters was in ``wanted``."""
        total, at, masters = 0.0, since, 0
        for changed, now in [*self.changes, (until, 0)]:
            if changed >= since:
                total += (min(changed, until) - at) if masters in wanted else 0.0
                at = min(changed, until)
            masters = now
        return total


class Segment:
    """``configs``: for each group the configuration of each host."""

    def __init__(self, configs: Sequence[Sequence[GroupConfig]], seed: int, weather: Weather = LAN) -> None:
        self.dice, self.weather, self.now = random.Random(seed), weather, 100.0
        self.hosts = [Host(number, f"10.1.{number // 200}.{number % 200 + 1}") for number in range(len(configs[0]))]
        self._by_address = {host.address: host for host in self.hosts}
        self.groups = [self._make_group(members) for members in configs]
        self.multicasts: Counter[int] = Counter()
        self.unicasts: Counter[int] = Counter()
        self.kinds: Counter[int] = Counter()
        self.events = 0
        self._heap: list[tuple[float, int, int, Any, Any, Any]] = []
        self._serial = count()
        for host in self.hosts if weather.burst_every_s or weather.pause_every_s else ():
            self._plan_trouble(host)

    def _make_group(self, configs: Sequence[GroupConfig]) -> Group:
        group = Group(configs[0])
        for host, config in zip(self.hosts, configs, strict=True):
            engine = Engine(config, Identity(self.dice.getrandbits(64), _EPOCH), self.dice.getrandbits)
            member = Member(host, group, engine)
            group.members.append(member)
            host.members.append(member)
        return group

    # ---- what a measurement does ------------------------------------------------------------------------------

    def start(self, member: Member, at: float) -> None:
        """The member asks who is there."""
        self._push(at, _DO, member, lambda engine, now: engine.start(now))

    def join(self, member: Member, at: float) -> None:
        """The member listens, without a question: for states that are set up and not measured."""
        self._push(at, _DO, member, lambda engine, now: engine.link_changed(True, now))

    def acquaint(self, member: Member, others: Sequence[Member]) -> None:
        """Put others on the record of a member, as if they had proved to live."""
        assert member.engine.strict
        for other in others:
            assert other.engine.strict
            if other is not member:
                identity, skew = other.engine.strict.sender_id, other.engine.config.advskew
                member.engine.strict.peers[identity] = Peer(identity, _EPOCH << 32, other.host.address, self.now, skew, 0, 0)

    def kill(self, hosts: Sequence[Host]) -> None:
        """Cut the power of all of them at once."""
        for host in hosts:
            host.alive = False
            host.queue.clear()
            for member in host.members:
                self._count_masters(member, False)

    def run(self, until: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, kind, what, one, other = heapq.heappop(heap)
            self.events += 1
            if kind == _SERVE:
                self._serve(what)
            elif kind == _TIMER:
                self._timer(what)
            else:
                self._take(what if kind == _EVIDENCE else what.host, (kind, what, one, other))
        self.now = until

    # ---- one host, one processor ------------------------------------------------------------------------------

    def _take(self, host: Host, job: Job) -> None:
        if not host.alive:
            return
        if host.queue or host.free_at > self.now:
            host.queue.append(job)
            host.longest_queue = max(host.longest_queue, len(host.queue))
            if len(host.queue) == 1:
                self._push(host.free_at, _SERVE, host)
        else:
            self._work(host, job)

    def _serve(self, host: Host) -> None:
        if not host.alive or not host.queue:
            return
        if host.free_at > self.now:
            self._push(host.free_at, _SERVE, host)
            return
        self._work(host, host.queue.popleft())
        if host.queue:
            self._push(host.free_at, _SERVE, host)

    def _work(self, host: Host, job: Job) -> None:
        kind, what, one, other = job
        self._spend(host)
        if kind == _EVIDENCE:
            for member in host.members:
                suspicion = member.engine._suspicion
                if suspicion and suspicion.source == other:
                    member.engine.receive_evidence(one, other, self.now)
                    self._after(member)
            return
        if kind == _ARRIVE:
            host.received += 1
            what.engine.receive_packet(one, other, self.now)
        elif kind == _TIMER:
            if what.engine.next_timer() is None or what.engine.next_timer() > self.now:
                return
            what.engine.handle_timer(self.now)
        elif kind == _OWNED:
            what.engine.address_answered(one)
        else:
            one(what.engine, self.now)
        self._after(what)

    def _timer(self, member: Member) -> None:
        """Timers in the heap may be out of date: replaced by an earlier one, or the engine has put its deadline off since."""
        if member.armed != self.now:
            return
        member.armed, due = None, member.engine.next_timer()
        if not member.host.alive or due is None:
            return
        if due > self.now:
            self._arm(member, due)
        else:
            self._take(member.host, (_TIMER, member, None, None))

    def _arm(self, member: Member, due: float | None) -> None:
        if due is not None and (member.armed is None or due < member.armed):
            member.armed = max(due, self.now)
            self._push(member.armed, _TIMER, member)

    def _after(self, member: Member) -> None:
        engine, host = member.engine, member.host
        while (effect := engine.next_effect()) is not None:
            if isinstance(effect, StateChanged):
                self._count_masters(member, effect.new.value == "MASTER", effect.reason.value)
            elif isinstance(effect, ProbeMaster):
                self._probe_master(host, effect.source)
            elif isinstance(effect, ProbeAddress):
                self._probe_address(member)
            elif isinstance(effect, MasterDead):
                for other in host.members:
                    if other is not member:
                        other.engine.hear_of_death(effect, self.now)
                        self._arm(other, other.engine.next_timer())
        for packet in engine.packets_to_send():
            self._send(member, packet)
        self._arm(member, engine.next_timer())

    def _count_masters(self, member: Member, master: bool, reason: str = "") -> None:
        if master != member.master:
            member.master = master
            member.group.masters += 1 if master else -1
            member.group.changes.append((self.now, member.group.masters))
            if master:
                member.group.takeovers.append((self.now, member, reason))

    def _spend(self, host: Host) -> None:
        host.free_at = max(host.free_at, self.now) + self.weather.cost_s
        host.busy_s += self.weather.cost_s

    # ---- the wire ---------------------------------------------------------------------------------------------

    def _push(self, at: float, kind: int, what: Any, one: Any = None, other: Any = None) -> None:
        heapq.heappush(self._heap, (at, next(self._serial), kind, what, one, other))

    def _send(self, member: Member, packet: bytes) -> None:
        host = member.host
        self._spend(host)
        self.multicasts[int(self.now / BIN_S)] += 1
        self.kinds[packet[_KIND_AT]] += 1
        origin = Origin(host.address, "224.0.0.18", 255)
        if host.deaf_until > self.now:
            return
        for other in member.group.members:
            if other is not member and other.host.alive and (at := self._arrival(other.host)) is not None:
                self._push(at, _ARRIVE, other, packet, origin)

    def _arrival(self, host: Host) -> float | None:
        """When a copy that leaves now is there; None: it is lost."""
        weather, dice = self.weather, self.dice
        if (weather.loss and dice.random() < weather.loss) or host.deaf_until > self.now:
            return None
        at = self.now + weather.delay_s + dice.expovariate(1.0) * weather.jitter_s
        host.last_arrival = at = max(at, host.last_arrival)
        return at

    def _round_trip(self, host: Host, other: Host) -> float | None:
        """When an answer is back; None: question or answer is lost, or the other is dead."""
        self.unicasts[int(self.now / BIN_S)] += 1
        if not other.alive or host.deaf_until > self.now or other.deaf_until > self.now:
            return None
        there, back = self._copy_s(), self._copy_s()
        if there is None or back is None:
            return None
        self.unicasts[int(self.now / BIN_S)] += 1
        return max(self.now + there, other.free_at) + back

    def _copy_s(self) -> float | None:
        weather = self.weather
        lost = weather.loss and self.dice.random() < weather.loss
        return None if lost else weather.delay_s + self.dice.expovariate(1.0) * weather.jitter_s

    def _probe_master(self, host: Host, source: str) -> None:
        other = self._by_address[source]
        if self.now - host.asked.get(source, 0.0) < MERGE_S:
            return
        host.asked[source] = self.now
        for evidence in (Evidence.HOST_ANSWERED, Evidence.PROCESS_ANSWERED):
            at = self._round_trip(host, other)
            if at is not None:
                self._push(at, _EVIDENCE, host, evidence, source)

    def _probe_address(self, member: Member) -> None:
        self.multicasts[int(self.now / BIN_S)] += 1
        for other in member.group.members:
            if other.master and other.host.alive and other is not member and (at := self._round_trip(member.host, other.host)) is not None:
                self._push(at, _OWNED, member, other.host.address)

    # ---- trouble ----------------------------------------------------------------------------------------------

    def _plan_trouble(self, host: Host) -> None:
        weather = self.weather
        if weather.burst_every_s:
            self._push(self.now + self.dice.expovariate(1 / weather.burst_every_s), _DO, host.members[0], lambda *_: self._burst(host))
        if weather.pause_every_s:
            self._push(self.now + self.dice.expovariate(1 / weather.pause_every_s), _DO, host.members[0], lambda *_: self._pause(host))

    def _burst(self, host: Host) -> None:
        host.deaf_until = self.now + self.dice.expovariate(1 / self.weather.burst_s)
        self._push(self.now + self.dice.expovariate(1 / self.weather.burst_every_s), _DO, host.members[0], lambda *_: self._burst(host))

    def _pause(self, host: Host) -> None:
        host.free_at = self.now + self.dice.expovariate(1 / self.weather.pause_s)
        self._push(self.now + self.dice.expovariate(1 / self.weather.pause_every_s), _DO, host.members[0], lambda *_: self._pause(host))


def windows(traffic: Counter[int], since: float, until: float) -> Iterator[int]:
    """Packets in each window of a time."""
    return (traffic[number] for number in range(int(since / BIN_S), int(until / BIN_S)))
