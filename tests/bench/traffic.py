"""Adverts and engines for micro-benchmarks: what a segment carries, made without one. Opens no socket, looks at no clock."""

__all__ = ["Stream", "Watch", "forged"]

import os
from dataclasses import replace
from ipaddress import ip_interface
from secrets import randbits

from carp_protocol.config import Authentication, GroupConfig, Mode
from carp_protocol.counter import Identity
from carp_protocol.effects import State
from carp_protocol.election import Standing
from carp_protocol.engine import Engine
from carp_protocol.errors import BadPacket
from carp_protocol.heard import Origin, Trust
from carp_protocol.packet import HEADER_LENGTH, with_digest
from carp_protocol.strict import StrictCodec
from carp_protocol.suspicion import Evidence
from carp_sidecar.wire.frames import AdvertHeader, ReceivedAdvert, decode_frame_untrusted

MASTER, BACKUP = (Origin(address, "224.0.0.18", 255) for address in ("10.0.0.9", "10.0.0.8"))
IP_HEADER = 34
"""Bytes of Ethernet and IPv4 before an advert."""


def config(vhid: int = 1, advskew: int = 0) -> GroupConfig:
    """A Strict group with a key of its own."""
    authentication = Authentication(mode=Mode.STRICT, key=os.urandom(32))
    addresses = (ip_interface(f"10.0.1.{vhid}/16"),)
    return GroupConfig(name=f"g{vhid}", vhid=vhid, addresses=addresses, advskew=advskew, authentication=authentication)


class Stream:
    """The adverts of one master as frames, and a member that has it on record."""

    def __init__(self) -> None:
        settings = config()
        self._standing = Standing(1, 0)
        self._sender, self._receiver = (StrictCodec(settings, Identity(number, 1), randbits) for number in (1, 2))
        self._header = AdvertHeader("00:00:5e:00:01:01", MASTER.source)
        question = self._sender.receive_untrusted(self._receiver.question(Standing(1, 1), 0.0), BACKUP, 0.0)
        for answer in self._sender.reply(self._standing, question, 1.0, 0.0):
            assert self._receiver.receive_untrusted(answer, MASTER, 0.0).trust is Trust.FRESH

    def frames(self, count: int) -> list[bytes]:
        """The next adverts, signed."""
        return [self._header.frame(self._sender.advert(self._standing, 1.0, 0.0)) for _ in range(count)]

    def believe(self, frames: list[bytes]) -> int:
        """Decode and verify; how many were fresh."""
        fresh = 0
        for frame in frames:
            advert = decode_frame_untrusted(frame)
            assert isinstance(advert, ReceivedAdvert)
            origin = Origin(advert.source, advert.destination, advert.ttl)
            fresh += self._receiver.receive_untrusted(advert.payload, origin, 0.0).trust is Trust.FRESH
        return fresh

    def refuse(self, frames: list[bytes]) -> int:
        """The same with what ought to be refused; how many had a wrong digest."""
        refused = 0
        for frame in frames:
            try:
                self.believe([frame])
            except BadPacket as error:
                refused += error.reason == "bad-digest"
        return refused


def forged(frames: list[bytes]) -> list[bytes]:
    """Adverts whose digest is noise and which are right but for that, as whoever has no key would make them."""
    made = []
    for frame in frames:
        payload = frame[IP_HEADER:]
        plain = payload[:6] + b"\0\0" + payload[8:16] + bytes(20) + payload[HEADER_LENGTH:]
        made.append(frame[:IP_HEADER] + with_digest(plain, os.urandom(20)))
    return made


class Watch:
    """A master and a backup of each of many groups, in the quiet hours: no socket, no clock, only engines."""

    def __init__(self, count: int) -> None:
        self._pairs = [_steady_pair(vhid) for vhid in range(1, count + 1)]

    def tick(self) -> list[tuple[float, bytes]]:
        """Every master advertises once, as the shell has it do."""
        sent = []
        for master, _ in self._pairs:
            now = master.next_timer()
            assert now is not None
            master.handle_timer(now)
            assert master.next_effect() is None
            (packet,) = master.packets_to_send()
            master.next_timer()
            sent.append((now, packet))
        return sent

    def hear(self, sent: list[tuple[float, bytes]]) -> None:
        """Every backup hears its master's advert."""
        for (_, backup), (now, packet) in zip(self._pairs, sent, strict=True):
            backup.receive_packet(packet, MASTER, now)
            assert backup.next_effect() is None
            backup.packets_to_send()
            backup.next_timer()

    def steady(self) -> bool:
        """Whether nothing but adverts happened."""
        return all((master.state, backup.state) == (State.MASTER, State.BACKUP) for master, backup in self._pairs)


def _steady_pair(vhid: int) -> tuple[Engine, Engine]:
    settings = config(vhid)
    master, backup = (
        Engine(replace(settings, advskew=16 * rank), Identity(rank + 1, 1).for_group(settings.name), randbits) for rank in (0, 1)
    )
    now = 100.0
    master.start(now)
    while master.state is not State.MASTER:
        now = _next_timer(master)
        master.handle_timer(now)
    master.packets_to_send()
    backup.start(now)
    for _ in range(20):
        for packet in backup.packets_to_send():
            master.receive_packet(packet, BACKUP, now)
        for packet in master.packets_to_send():
            backup.receive_packet(packet, MASTER, now)
        for evidence in (Evidence.HOST_ANSWERED, Evidence.PROCESS_ANSWERED):
            backup.receive_evidence(evidence, MASTER.source, now)
        now = min(_next_timer(master), _next_timer(backup))
        for engine in (master, backup):
            if _next_timer(engine) <= now:
                engine.handle_timer(now)
    for engine in (master, backup):
        engine.packets_to_send()
        while engine.next_effect() is not None:
            pass
    return master, backup


def _next_timer(engine: Engine) -> float:
    due = engine.next_timer()
    assert due is not None
    return due
