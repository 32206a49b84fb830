"""A member among carp(4) hosts: timers and receptions of protocol.md 3, in both dialects."""

import random
from itertools import pairwise
from typing import Any

import pytest

from carp_protocol.compatible import CompatibleCodec
from carp_protocol.config import Authentication, Dialect, Mode, Preemption
from carp_protocol.effects import Announce, ProbeMaster, Reason, ReleaseAddresses, SplitBrain, State, TakeAddresses
from carp_protocol.election import Standing
from carp_protocol.packet import Header, decode_untrusted
from carp_protocol.suspicion import Evidence
from simulation.members import PASSWORD, Member, make_config, origin_of, run_together, talk

COMMON, OPENBSD = Dialect.COMMON, Dialect.OPENBSD
JITTER_S = 1 / 256
"""Less than this is added to the dead time."""


def make(number: int = 1, dialect: Dialect = COMMON, *, preempt: bool = False, **fields: Any) -> Member:
    authentication = Authentication(mode=Mode.COMPATIBLE, key=PASSWORD, dialect=dialect)
    return Member.make(number, Mode.COMPATIBLE, authentication=authentication, preemption=Preemption(enabled=preempt), **fields)


class Peer:
    """A host that speaks carp(4), as far as bytes go."""

    def __init__(self, seed: int = 9) -> None:
        self.codec = CompatibleCodec(make_config(Mode.COMPATIBLE), random.Random(seed).getrandbits)

    def says(self, advbase: int, advskew: int, demotion: int = 0) -> bytes:
        return self.codec.advert(Standing(advbase, advskew, demotion), 0, 0)


def adverts(sent: list[tuple[float, bytes]]) -> list[tuple[float, Header]]:
    return [(at, decode_untrusted(packet)) for at, packet in sent]


@pytest.mark.parametrize(
    "dialect, advbase, advskew, dead_s",
    [(COMMON, 1, 0, 3.0), (COMMON, 1, 100, 3.391), (COMMON, 2, 100, 6.391), (OPENBSD, 1, 100, 4.172), (OPENBSD, 2, 254, 8.977)],
)
def test_a_starting_member_listens_for_one_dead_time(dialect: Dialect, advbase: int, advskew: int, dead_s: float) -> None:
    member = make(dialect=dialect, advertisement_interval_s=float(advbase), advskew=advskew).start()
    assert member.advance(dead_s - 0.01) == []
    assert member.state() is State.BACKUP
    sent = member.advance(0.01 + JITTER_S)
    assert member.state() is State.MASTER
    assert member.reasons() == [Reason.STARTED, Reason.MASTER_TIMED_OUT]
    assert len(sent) == 1


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("advbase, advskew, interval_s", [(1, 0, 1.0), (1, 100, 1.390625), (10, 128, 10.5)])
def test_a_master_advertises_every_base_plus_skew(dialect: Dialect, advbase: int, advskew: int, interval_s: float) -> None:
    member = make(dialect=dialect, advertisement_interval_s=float(advbase), advskew=advskew).become_master()
    sent = adverts(member.advance(10 * interval_s))
    assert len(sent) in (9, 10)
    gaps = {round(later[0] - earlier[0], 6) for earlier, later in pairwise(sent)}
    assert gaps == {interval_s}
    assert {(header.advbase, header.advskew, header.demotion) for _, header in sent} == {(advbase, advskew, 0)}


# protocol.md 3.3: state, dialect, preempt, my advskew, my demotion, his (advbase, advskew, byte 4), my state after, and why.
M, B = State.MASTER, State.BACKUP
RECEPTION = [
    (M, COMMON, False, 100, 0, (1, 0, 0), B, Reason.BETTER_MASTER),
    (M, COMMON, False, 100, 0, (1, 100, 0), B, Reason.BETTER_MASTER),
    (M, COMMON, False, 100, 0, (1, 101, 0), M, None),
    (M, COMMON, False, 0, 100, (1, 50, 0), B, Reason.BETTER_MASTER),
    (M, COMMON, False, 0, 254, (1, 240, 0), B, Reason.BETTER_MASTER),
    (M, COMMON, False, 0, 254, (1, 241, 0), M, None),
    (M, COMMON, False, 0, 0, (255, 255, 0), M, None),
    (M, OPENBSD, False, 100, 0, (1, 0, 0), B, Reason.BETTER_MASTER),
    (M, OPENBSD, False, 100, 0, (1, 100, 0), B, Reason.BETTER_MASTER),
    (M, OPENBSD, False, 100, 0, (1, 0, 1), M, None),
    (M, OPENBSD, False, 0, 2, (1, 200, 1), B, Reason.BETTER_MASTER),
    (M, OPENBSD, False, 0, 2, (1, 200, 2), M, None),
    (B, COMMON, False, 0, 0, (1, 100, 0), B, None),
    (B, COMMON, True, 0, 0, (1, 100, 0), M, Reason.PREEMPTED_WORSE),
    (B, COMMON, True, 0, 100, (1, 100, 0), B, None),
    (B, COMMON, True, 0, 0, (1, 0, 0), B, None),
    (B, COMMON, False, 0, 0, (4, 0, 0), M, Reason.MASTER_TIMED_OUT),
    (B, COMMON, False, 0, 0, (255, 255, 0), M, Reason.MASTER_BOWED_OUT),
    (B, OPENBSD, False, 200, 0, (1, 0, 1), M, Reason.MASTER_DEMOTED),
    (B, OPENBSD, False, 200, 1, (1, 0, 1), B, None),
    (B, OPENBSD, True, 0, 2, (1, 100, 1), B, None),
    (B, OPENBSD, True, 0, 1, (1, 100, 1), M, Reason.PREEMPTED_WORSE),
    (B, OPENBSD, False, 200, 0, (255, 255, 3), M, Reason.MASTER_BOWED_OUT),
]


@pytest.mark.parametrize("state, dialect, preempt, advskew, demotion, his, after, reason", RECEPTION)
def test_reception(
    *,
    state: State,
    dialect: Dialect,
    preempt: bool,
    advskew: int,
    demotion: int,
    his: tuple[int, int, int],
    after: State,
    reason: Reason | None,
) -> None:
    member = make(dialect=dialect, preempt=preempt, advskew=advskew, demotion=demotion).start()
    if state is State.MASTER:
        member.advance(9)
    assert member.state() is state
    member.packets()
    member.effects()
    member.hear(Peer().says(*his))
    member.advance(0.2)
    assert member.state() is after
    assert member.reasons() == ([reason] if reason else [])


def test_in_init_nothing_is_heard() -> None:
    member = make()
    member.hear(Peer().says(1, 0))
    assert member.effects() == []
    assert member.engine.next_timer() is None


def test_an_advert_restarts_the_dead_time_with_our_own_base() -> None:
    member, peer = make(advskew=100).start(), Peer()
    for _ in range(5):
        member.advance(2.0)
        member.hear(peer.says(2, 0))
    member.advance(3.38)
    assert member.state() is State.BACKUP
    member.advance(0.02)
    assert member.state() is State.MASTER


@pytest.mark.parametrize("advbase", [1, 85, 86, 255])
def test_a_bow_out_is_recognised_with_every_base(advbase: int) -> None:
    member = make(advertisement_interval_s=float(advbase)).start()
    peer = Peer()
    member.hear(peer.says(advbase, 0))
    member.hear(peer.codec.bow_out(Standing(advbase, 0)))
    member.advance(0.1)
    assert member.state() is State.MASTER


def test_a_master_that_stops_bows_out_and_nothing_else() -> None:
    member = make().become_master()
    member.engine.close(member.now)
    (packet,) = member.packets()
    assert decode_untrusted(packet).is_bow_out
    assert member.advance(5) == []
    assert member.engine.closed
    assert member.reasons() == [Reason.CLOSED, Reason.CLOSED]


def test_a_master_that_loses_says_nothing_more() -> None:
    """Rule 7: an extra advert would send an equal peer to BACKUP as well."""
    member = make(advskew=100).become_master()
    member.hear(Peer().says(1, 100))
    assert member.state() is State.BACKUP
    assert member.packets() == []
    assert ReleaseAddresses() in member.effects()


def test_a_master_that_wins_says_so_at_once() -> None:
    member = make().become_master()
    member.hear(Peer().says(1, 50))
    effects = member.effects()
    assert Announce() in effects
    assert SplitBrain("10.0.0.9", won=True) in effects
    (packet,) = member.packets()
    assert decode_untrusted(packet).advskew == 0


def test_worse_masters_make_nobody_shout() -> None:
    """A recorded advert, sent again and again, is answered within a budget."""
    member = make().become_master()
    recorded = Peer().says(1, 50)
    for _ in range(1000):
        member.hear(recorded)
    assert len(member.packets()) <= 20


def test_an_echo_never_ends_a_master() -> None:
    """Rule 6."""
    member = make().become_master()
    for _, packet in member.advance(5):
        member.hear(packet, source=1, own_address=True)
    assert member.rejections() == ["echo"] * 5
    assert member.state() is State.MASTER


def test_an_echo_to_a_host_without_an_address_never_ends_a_master() -> None:
    member = make().become_master()
    for _, packet in member.advance(5):
        member.engine.receive_packet(packet, origin_of(1)._replace(source="0.0.0.0"), member.now)
    assert member.state() is State.MASTER


@pytest.mark.parametrize("dialect", Dialect)
def test_priority_zero_never_becomes_master(dialect: Dialect) -> None:
    member, peer = make(dialect=dialect, advskew=255, preempt=True).start(), Peer()
    member.hear(peer.says(1, 0, 200))
    member.hear(peer.says(1, 254))
    member.hear(peer.codec.bow_out(Standing(1, 0)))
    member.advance(600)
    assert member.state() is State.BACKUP
    assert member.packets() == []


def test_demotion_is_said_at_once() -> None:
    for dialect, expected in ((COMMON, (240, 0)), (OPENBSD, (0, 254))):
        member = make(dialect=dialect).become_master()
        member.engine.set_demotion("web", 300, member.now)
        (packet,) = member.packets()
        header = decode_untrusted(packet)
        assert (header.advskew, header.demotion) == expected


def test_equal_masters_that_both_gave_way_find_each_other() -> None:
    """carp(4) has no tie-break; what parts them is less than one step of advskew."""
    members = [make(number) for number in (1, 2)]
    for member in members:
        member.start()
    members[0].engine._dead_at = members[1].engine._dead_at
    for member in members:
        member.advance(3.1)
    assert [member.state() for member in members] == [State.MASTER] * 2
    talk_crossing(members)
    assert [member.state() for member in members] == [State.BACKUP] * 2
    run_together(members, 4)
    assert sorted(member.state().value for member in members) == ["BACKUP", "MASTER"]


def talk_crossing(members: list[Member]) -> None:
    """Both speak before either listens."""
    for member in members:
        member.engine._advertise(member.now)
    said = [member.packets() for member in members]
    members[0].hear(said[1][-1], 2)
    members[1].hear(said[0][-1], 1)


def test_two_members_and_a_handover() -> None:
    one, other = make(1).start(), make(2, advskew=100).start()
    run_together([one, other], 4)
    assert (one.state(), other.state()) == (State.MASTER, State.BACKUP)
    assert one.engine.handover(one.now)
    run_together([one, other], 0.2)
    assert (one.state(), other.state()) == (State.BACKUP, State.MASTER)
    assert other.reasons()[-1] is Reason.MASTER_BOWED_OUT
    assert one.reasons()[-2:] == [Reason.REQUESTED, Reason.SUCCESSOR_HEARD]


def test_a_late_compatible_master_is_asked_too() -> None:
    member, peer = make(advskew=100).start(), Peer()
    member.hear(peer.says(1, 0))
    assert ProbeMaster("10.0.0.9") in member.effects()
    member.engine.receive_evidence(Evidence.HOST_ANSWERED, "10.0.0.9", member.now)
    member.advance(1.3)
    assert member.state() is State.MASTER
    assert member.reasons() == [Reason.MASTER_HOST_DEAD]
    assert TakeAddresses() not in member.effects()


@pytest.mark.parametrize("source", ["0.0.0.0", "10.0.0.100"])
def test_a_master_that_speaks_from_no_address_or_the_virtual_one_is_not_asked(source: str) -> None:
    member = make(advskew=100).start()
    member.engine.receive_packet(Peer().says(1, 0), origin_of(9)._replace(source=source), member.now)
    assert [effect for effect in member.effects() if isinstance(effect, ProbeMaster)] == []
    assert member.engine.master is not None
    assert member.engine.master.source == source


def test_recorded_adverts_from_invented_hosts_do_not_make_us_probe_the_world() -> None:
    member, recorded = make(advskew=100).start(), Peer().says(1, 0)
    for number in range(1000):
        member.engine.receive_packet(recorded, origin_of(1)._replace(source=f"10.1.{number // 250}.{number % 250}"), member.now)
    assert len([effect for effect in member.effects() if isinstance(effect, ProbeMaster)]) <= 20


def test_nothing_is_said_to_a_compatible_peer_in_answer() -> None:
    member, peer = make(advskew=100).start(), make(2).become_master()
    for _, packet in peer.advance(5):
        member.now = peer.now
        member.hear(packet, 2)
    assert talk(member, peer) == 0
    assert member.engine.strict is None
    assert decode_untrusted(member.engine.farewell()).is_bow_out
