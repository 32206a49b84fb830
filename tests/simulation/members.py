"""Configurations, identities and engines for tests. Nothing here looks at a clock or at the system's randomness."""

__all__ = [
    "GROUP_ADDRESS",
    "PASSWORD",
    "STRICT_KEY",
    "Member",
    "address_of",
    "cluster",
    "make_config",
    "make_engine",
    "origin_of",
    "parse",
    "run_together",
    "talk",
]

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Any

from carp_protocol.config import Authentication, GroupConfig, Mode
from carp_protocol.counter import Identity
from carp_protocol.effects import Effect, PacketRejected, Reason, State, StateChanged
from carp_protocol.engine import Engine
from carp_protocol.heard import Origin
from carp_protocol.packet import HEADER_LENGTH, Header, decode_untrusted
from carp_protocol.strict import Extension

GROUP_ADDRESS = "10.0.0.100"
STRICT_KEY = bytes(range(32))
PASSWORD = b"secret"

_CONFIG = GroupConfig(name="g", vhid=1, addresses=(ip_interface(f"{GROUP_ADDRESS}/24"),))


def make_config(mode: Mode = Mode.STRICT, **fields: Any) -> GroupConfig:
    """A group with one address and the key of the tests; ``fields`` replace those of the configuration."""
    key = STRICT_KEY if mode is Mode.STRICT else PASSWORD
    fields.setdefault("authentication", Authentication(mode=mode, key=key))
    return replace(_CONFIG, **fields)


def address_of(number: int) -> str:
    """The own address of a member."""
    return f"10.0.0.{number}"


def origin_of(number: int, **fields: Any) -> Origin:
    """Where a packet of this member comes from."""
    return Origin(address_of(number), "224.0.0.18", 255)._replace(**fields)


def make_engine(config: GroupConfig, number: int = 1, epoch: int = 1, random_bits: Callable[[int], int] | None = None) -> Engine:
    """An engine that is not started; its number is its sender id, and seeds its randomness."""
    return Engine(config, Identity(number, epoch), random_bits or random.Random(number).getrandbits)


@dataclass(slots=True)
class Member:
    """One engine in the hands of a test, with its own clock; ``hear`` carries packets from one to another."""

    engine: Engine
    number: int = 1
    now: float = 100.0

    @classmethod
    def make(cls, number: int = 1, mode: Mode = Mode.STRICT, *, epoch: int = 1, **fields: Any) -> "Member":
        return cls(make_engine(make_config(mode, **fields), number, epoch), number)

    def state(self) -> State:
        """A method, since a type checker thinks that an attribute stays as it was."""
        return self.engine.state

    def start(self) -> "Member":
        self.engine.start(self.now)
        return self

    def advance(self, seconds: float) -> list[tuple[float, bytes]]:
        """Let time pass and give every timer punctually; when which packet left. Effects stay to be read."""
        end, sent = self.now + seconds, []
        while (at := self.engine.next_timer()) is not None and at <= end:
            self.now = max(self.now, at)
            self.engine.handle_timer(self.now)
            sent += [(self.now, packet) for packet in self.engine.packets_to_send()]
        self.now = end
        return sent

    def become_master(self) -> "Member":
        """Start alone, and drop what was said on the way."""
        self.start().advance(20 * self.engine.config.advertisement_interval_s)
        assert self.state() is State.MASTER
        self.effects()
        self.packets()
        return self

    def hear(self, data: bytes, source: int = 9, **origin: Any) -> None:
        self.engine.receive_packet(data, origin_of(source, **origin), self.now)

    def packets(self) -> list[bytes]:
        return self.engine.packets_to_send()

    def effects(self) -> list[Effect]:
        effects = []
        while (effect := self.engine.next_effect()) is not None:
            effects.append(effect)
        return effects

    def reasons(self) -> list[Reason]:
        """Of the transitions since the last look; drops the other effects."""
        return [effect.reason for effect in self.effects() if isinstance(effect, StateChanged)]

    def rejections(self) -> list[str]:
        """Reasons of rejected packets since the last look; drops the other effects."""
        return [effect.reason for effect in self.effects() if isinstance(effect, PacketRejected)]


def parse(packet: bytes) -> tuple[Header, Extension]:
    """Header and extension of a Strict packet."""
    return decode_untrusted(packet), Extension.decode_untrusted(packet[HEADER_LENGTH:])


def talk(*members: Member) -> int:
    """Carry every packet to every other member until nobody has more to say; how many there were."""
    carried = 0
    for _ in range(20):
        waiting = [(member, packet) for member in members for packet in member.packets()]
        if not waiting:
            return carried
        carried += len(waiting)
        for sender, packet in waiting:
            for member in members:
                if member is not sender:
                    member.hear(packet, sender.number)
    raise AssertionError("they talk for ever")


def run_together(members: list[Member], seconds: float) -> None:
    """Let time pass for all at once; packets take none."""
    now = max(member.now for member in members)
    end = now + seconds
    while True:
        talk(*members)
        timers = [(at, index) for index, member in enumerate(members) if (at := member.engine.next_timer()) is not None]
        at, index = min(timers, default=(end + 1, 0))
        if at > end:
            break
        now = max(now, at)
        for member in members:
            member.now = now
        members[index].engine.handle_timer(now)
    for member in members:
        member.now = end


def cluster(*advskews: int, **fields: Any) -> list[Member]:
    """Members who know each other; the first is master."""
    members = [Member.make(number, advskew=advskew, **fields).start() for number, advskew in enumerate(advskews, 1)]
    run_together(members, 4 * members[0].engine.config.advertisement_interval_s)
    assert [member.state() for member in members] == [State.MASTER] + [State.BACKUP] * (len(members) - 1)
    for member in members:
        member.effects()
    return members
