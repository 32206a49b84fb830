"""Whether a claim of a held address is a conflict, decided without a network and without waiting."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from carp_protocol.effects import AddressConflict, Announce, Effect, State
from carp_protocol.engine import Engine
from carp_sidecar.defence import DEFEND_INTERVAL_S, Defence

MAC, OTHER = "02:00:00:00:00:09", "02:00:00:00:00:08"


class Clock:
    """A loop whose time is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self._due: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        self._due.append((self.now + delay_s, call, args))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due, self._due = [one for one in self._due if one[0] <= self.now], [one for one in self._due if one[0] > self.now]
        for _, call, args in due:
            call(*args)


class Master:
    """A defence with what it looks at."""

    def __init__(self, interval_s: float = 0.2) -> None:
        self.clock = Clock()
        self.engine = SimpleNamespace(
            state=State.MASTER, since=50.0, rival=None, config=SimpleNamespace(advertisement_interval_s=interval_s)
        )
        self.defended: list[str] = []
        self.announced = False
        self.defence = Defence(cast(Engine, self.engine), cast(asyncio.AbstractEventLoop, self.clock), self.carry_out)

    def carry_out(self, effect: Effect) -> None:
        """A conflict is told, and then the addresses are announced."""
        if isinstance(effect, AddressConflict):
            self.defended.append(effect.owner)
            self.announced = False
        else:
            assert effect == Announce()
            self.announced = True

    def hear(self, mac: str, then_s: float = 0.0) -> None:
        self.defence.claimed(mac)
        self.clock.advance(then_s)


def test_a_stranger_that_claims_an_address_is_met_once_the_election_has_had_its_say() -> None:
    master = Master()
    master.hear(MAC, 0.4)
    assert master.defended == []
    master.clock.advance(0.2)
    assert master.defended == [MAC]
    assert master.announced


def test_two_that_defend_do_not_do_so_in_a_loop() -> None:
    master = Master()
    for number in range(int(3 * DEFEND_INTERVAL_S / 0.1)):
        master.hear(OTHER if number % 2 else MAC, 0.1)
    assert len(master.defended) == 3


def test_a_successor_is_no_conflict() -> None:
    master = Master()
    master.hear(MAC)
    master.engine.state = State.BACKUP
    master.clock.advance(1.0)
    assert master.defended == []


def test_a_successor_that_gave_back_is_none_either() -> None:
    master = Master()
    master.hear(MAC)
    master.engine.since = master.clock.now + 0.1
    master.clock.advance(1.0)
    assert master.defended == []


def test_a_worse_master_is_the_elections_affair() -> None:
    master = Master(interval_s=1.0)
    master.hear(MAC, 1.9)
    master.engine.rival = SimpleNamespace(heard_at=master.clock.now)
    master.clock.advance(0.2)
    assert master.defended == []
    master.clock.advance(20.0)
    master.hear(MAC, 2.0)
    assert master.defended == [MAC], "a rival of long ago excuses nobody"
