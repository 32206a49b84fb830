"""Whatever happens to a cluster, what is promised holds: hypothesis chooses what happens, the simulator checks.

Times are virtual. ``--hypothesis-profile=fuzz`` looks for hours where the default looks for seconds.
"""

import random
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from carp_protocol.config import Mode, Preemption
from carp_protocol.heard import Kind
from carp_protocol.packet import HEADER_LENGTH, decode_untrusted
from carp_protocol.strict import Extension
from carp_protocol.timing import VERIFY_WAIT_S
from simulation.host import Host
from simulation.members import make_config
from simulation.world import World, settle_limit_s

MEMBERS = st.integers(1, 4)
PERCENT = st.integers(0, 40).map(lambda number: number / 100)


def standing_of(host: Host) -> dict[str, Any]:
    """Everything of a Strict engine that a packet of an attacker must not change."""
    engine = host.engine
    assert engine is not None
    assert engine.strict is not None
    return {
        "state": engine.state,
        "master": engine.master,
        "since": engine.since,
        "advert": engine._advert_at,
        "handover": engine._handover_until,
        "solicit": engine._solicit_at,
        "takeover": engine._takeover and (engine._takeover.reason),
        "peers": {peer.sender_id: (peer.counter, peer.seen_at) for peer in engine.strict.peers.values()},
        "id": engine.strict.sender_id,
    }


def deadlines_of(host: Host) -> tuple[float, float]:
    """The two deadlines that a packet which only looks right may put off, once and by little."""
    engine = host.engine
    assert engine is not None
    return (engine._takeover.at if engine._takeover else 0.0), engine._dead_at or 0.0


class Cluster(RuleBasedStateMachine):
    """A cluster of one mode under every misfortune at once; ``teardown`` heals it and looks what is left."""

    mode = Mode.STRICT

    def __init__(self) -> None:
        super().__init__()
        self.world = World([])
        self.dice = random.Random(0)
        self.interval_s = 1.0

    @initialize(
        seed=st.integers(0, 2**32),
        members=st.integers(2, 4),
        slow=st.booleans(),
        preempt=st.booleans(),
        suspicion=st.booleans(),
    )
    def build(self, seed: int, members: int, slow: bool, preempt: bool, suspicion: bool) -> None:
        self.interval_s = 1.0 if slow or self.mode is Mode.COMPATIBLE else 0.1
        self.dice = random.Random(seed)
        configs = [
            make_config(
                self.mode,
                advskew=16 * number,
                advertisement_interval_s=self.interval_s,
                preemption=Preemption(enabled=preempt),
                suspicion=suspicion,
            )
            for number in range(members)
        ]
        self.world = World(configs, seed)
        self.world.boot()

    def host(self, number: int) -> Host:
        """One of those that exist."""
        return self.world.hosts[(number - 1) % len(self.world.hosts) + 1]

    @rule(intervals=st.integers(1, 40))
    def time_passes(self, intervals: int) -> None:
        self.world.run(intervals * self.interval_s / 8)

    @rule(milliseconds=st.integers(1, 100))
    def a_moment_passes(self, milliseconds: int) -> None:
        self.world.run(milliseconds / 1000)

    @rule(loss=PERCENT, duplication=PERCENT, reordering=PERCENT)
    def weather_changes(self, loss: float, duplication: float, reordering: float) -> None:
        self.world.set_weather(loss=loss, duplication=duplication, reordering=reordering)

    @rule(side=st.sets(MEMBERS))
    def network_splits(self, side: set[int]) -> None:
        self.world.network.partition(side & set(self.world.hosts), set(self.world.hosts) - side)

    @rule(sender=MEMBERS, receiver=MEMBERS)
    def one_way_is_cut(self, sender: int, receiver: int) -> None:
        self.world.network.cut.add((self.host(sender).number, self.host(receiver).number))

    @rule()
    def cables_are_mended(self) -> None:
        self.world.network.cut.clear()

    @rule(number=MEMBERS, whole=st.booleans())
    def something_dies(self, number: int, whole: bool) -> None:
        self.world.crash(self.host(number).number, host=whole)

    @rule(number=MEMBERS, lost=st.booleans(), rolled_back=st.booleans())
    def restarts(self, number: int, lost: bool, rolled_back: bool) -> None:
        self.world.boot(self.host(number).number, lost=lost, rolled_back=rolled_back)

    @rule(number=MEMBERS)
    def stalls(self, number: int) -> None:
        if self.host(number).engine:
            self.world.stall(self.host(number).number)

    @rule(number=MEMBERS)
    def wakes(self, number: int) -> None:
        self.world.wake(self.host(number).number)

    @rule(number=MEMBERS, up=st.booleans())
    def carrier_changes(self, number: int, up: bool) -> None:
        self.world.do(self.host(number).number, lambda engine, now: engine.link_changed(up, now))

    @rule(number=MEMBERS)
    def hands_over(self, number: int) -> None:
        self.world.do(self.host(number).number, lambda engine, now: engine.handover(now))

    @rule(number=MEMBERS, amount=st.sampled_from([0, 1, 128, 254, None]))
    def is_demoted(self, number: int, amount: int | None) -> None:
        self.world.do(self.host(number).number, lambda engine, now: engine.set_demotion("test", amount, now))

    @rule(number=MEMBERS)
    def loses_addresses(self, number: int) -> None:
        self.world.do(self.host(number).number, lambda engine, now: engine.addresses_lost(now))

    @rule(number=MEMBERS)
    def cannot_attach_addresses(self, number: int) -> None:
        self.world.do(self.host(number).number, lambda engine, now: engine.addresses_failed(now))

    @precondition(lambda self: self.world.network.recorded)
    @rule(which=st.integers(0, 10_000), claims=MEMBERS, flood=st.sampled_from([1, 1, 30]))
    def attacker_replays(self, which: int, claims: int, flood: int) -> None:
        recorded = self.world.network.recorded
        for number in range(flood):
            self.attack(recorded[(which + number) % len(recorded)][1], self.host(claims).number)

    @precondition(lambda self: self.world.network.recorded)
    @rule(which=st.integers(0, 10_000), at=st.integers(0, 91), bits=st.integers(1, 255), claims=MEMBERS)
    def attacker_alters(self, which: int, at: int, bits: int, claims: int) -> None:
        recorded = self.world.network.recorded
        data = bytearray(recorded[which % len(recorded)][1])
        data[at % len(data)] ^= bits
        self.attack(bytes(data), self.host(claims).number)

    @rule(data=st.binary(max_size=120), claims=MEMBERS)
    def attacker_invents(self, data: bytes, claims: int) -> None:
        self.attack(data, self.host(claims).number)

    def attack(self, data: bytes, claims: int) -> None:
        """Deliver to everybody; in a Strict cluster nobody may be moved by what is not news."""
        for number, host in self.world.hosts.items():
            if number == claims:
                continue
            quiet = host.engine is not None and not host.stalled and host.state is not host.state.INIT and not self.is_news(host, data)
            if not quiet or self.is_stalled_by_clock(host):
                self.world.inject(data, claims, number)
                continue
            before, (takeover, dead) = standing_of(host), deadlines_of(host)
            self.world.inject(data, claims, number)
            assert standing_of(host) == before
            limit = max(self.world.now, takeover), max(self.world.now, dead)
            later = deadlines_of(host)
            assert all(new <= old + VERIFY_WAIT_S + 0.128 for new, old in zip(later, limit, strict=True)), (later, limit)

    def is_stalled_by_clock(self, host: Host) -> bool:
        """A master that would step down at any input: not the attacker's doing."""
        return host.holds and self.world.now - host.spoke_at > 2 * self.interval_s

    def is_news(self, host: Host, data: bytes) -> bool:
        """Whether a recorded packet was kept from this member, or answers its open challenge: then it is as good as new."""
        engine = host.engine
        if engine is None or engine.strict is None:
            return True
        if not any(data == packet for _, packet in self.world.network.recorded):
            return False
        header, extension = decode_untrusted(data), Extension.decode_untrusted(data[HEADER_LENGTH:])
        if extension.sender_id == engine.strict.sender_id:
            return header.counter > engine.strict.counter.value
        peer = engine.strict.peers.get(extension.sender_id)
        if peer is None:
            return extension.answer != 0 and extension.answer == engine.strict._challenge
        return header.counter > peer.counter

    def teardown(self) -> None:
        """Heal everything; then exactly one master is left, within the limit, and it stays the only one."""
        world = self.world
        if not world.hosts:
            return
        world.network.heal()
        for number, host in world.hosts.items():
            world.wake(number)
            if host.engine is None:
                world.boot(number)
            world.do(number, lambda engine, now: engine.link_changed(True, now))
            world.do(number, lambda engine, now: engine.set_demotion("test", 0, now))
        world.run(settle_limit_s(self.interval_s, self.mode))
        assert len(world.masters()) == 1, world.states()
        settled = world.now
        world.run(4 * self.interval_s)
        assert len(world.masters()) == 1, world.states()
        assert world.longest_overlap_s(settled) == 0
        assert world.longest_gap_s(settled) == 0
        kinds = {packet[HEADER_LENGTH + 1] for _, packet in world.network.recorded if len(packet) > HEADER_LENGTH}
        assert kinds <= {kind.value for kind in Kind}


class CompatibleCluster(Cluster):
    """carp(4) promises less: nothing against replays, only that one master is left when everything is well again."""

    mode = Mode.COMPATIBLE


TestStrictCluster = Cluster.TestCase
TestCompatibleCluster = CompatibleCluster.TestCase
