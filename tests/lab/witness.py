"""Who answers for an address, host by host: a neighbour asks by ARP or NS, and the answers are counted at each host's port of the switch.

The port tells hosts apart that share a virtual MAC. The one who asks is no client: what it learns heals nobody's ARP cache.
"""

__all__ = ["Sighting", "Witness", "listen"]

import contextlib
import ctypes
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from lab.network import Host, Lab
from lab.prober_program import Neighbours

ASK_EVERY_S = 0.01
GAP_S = 0.035
"""Three questions without an answer: silence."""
ETH_P_ALL, SO_ATTACH_FILTER = 0x0003, 26
ARP_AND_ND = (
    (0x28, 0, 0, 12),  # the ethertype
    (0x15, 5, 0, 0x0806),  # ARP: keep
    (0x15, 0, 5, 0x86DD),  # not IPv6: drop
    (0x30, 0, 0, 20),  # the next header
    (0x15, 0, 3, 58),  # not ICMPv6: drop
    (0x30, 0, 0, 54),  # the type
    (0x15, 0, 1, 136),  # not a neighbour advertisement: drop
    (0x06, 0, 0, 256),
    (0x06, 0, 0, 0),
)
"""A classic BPF program: a millisecond's echo replies are none of our business."""

Interval = tuple[float, float]


def listen(lab: Lab, host: Host) -> socket.socket:
    """Everything the host sends that is ARP or a neighbour advertisement; a bridge shows its ports' frames to ETH_P_ALL alone."""
    listener = lab.switch.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in ARP_AND_ND))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(ARP_AND_ND), ctypes.addressof(instructions)))
    listener.bind((host.port().device, ETH_P_ALL))
    listener.setblocking(False)
    return listener


@dataclass(frozen=True, slots=True)
class Sighting:
    """Who answered from when to when (monotonic clock), between two moments; times are good to one question, 10 ms."""

    began_s: float
    ended_s: float
    answering: Mapping[str, Sequence[Interval]]

    @property
    def two_hosts_ms(self) -> float:
        """How long more than one host answered."""
        return self._milliseconds(lambda hosts, _: hosts > 1)

    @property
    def nobody_ms(self) -> float:
        """How long no host answered: what a client without an ARP entry meets."""
        return self._milliseconds(lambda hosts, lasted_s: hosts == 0 and lasted_s > GAP_S)

    @property
    def at_the_end(self) -> list[str]:
        """The hosts that still answered when the witness was heard."""
        return [host for host, spans in self.answering.items() if spans and spans[-1][1] >= self.ended_s - GAP_S]

    def _milliseconds(self, counts: Callable[[int, float], bool]) -> float:
        steps = [step for spans in self.answering.values() for first, last in spans for step in ((first, 1), (last, -1))]
        total, hosts, since = 0.0, 0, self.began_s
        for moment, change in [*sorted(steps), (self.ended_s, 0)]:
            if counts(hosts, moment - since):
                total += moment - since
            hosts, since = hosts + change, moment
        return round(total * 1000, 1)


class Witness:
    """Asks for ``address`` a hundred times a second from ``asker``, in a thread of this process, until it is closed."""

    def __init__(self, lab: Lab, asker: Host, address: str, hosts: Sequence[Host]) -> None:
        port = asker.port()
        self._neighbours = asker.namespace.call(Neighbours, address, port.interface, asker.address(6 if ":" in address else 4))
        self._answers: dict[str, list[float]] = {host.name: [] for host in hosts}
        self._ports = {listen(lab, host): self._answers[host.name] for host in hosts}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"witness-{address}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()
        for opened in (*self._ports, self._neighbours.socket):
            opened.close()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            self._neighbours.ask()
            due = max(due + ASK_EVERY_S, time.monotonic())
            while (left := due - time.monotonic()) > 0:
                for listener in select.select([*self._ports], [], [], left)[0]:
                    self._drain(listener)

    def _drain(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # nothing more, or the port has just been set down
            while True:
                frame, (_, _, kind, *_) = listener.recvfrom(256)
                if kind != socket.PACKET_OUTGOING and (claim := self._neighbours.claim(frame)) and claim[0] == "answer":
                    self._ports[listener].append(time.monotonic())

    def sighting(self, since_s: float) -> Sighting:
        """What was seen since a moment of the monotonic clock."""
        spans = {name: self._spans(times, since_s) for name, times in self._answers.items()}
        return Sighting(since_s, time.monotonic(), spans)

    def _spans(self, times: list[float], since_s: float) -> list[Interval]:
        spans: list[Interval] = []
        for moment in [one for one in list(times) if one >= since_s]:
            if spans and moment - spans[-1][1] <= GAP_S:
                spans[-1] = (spans[-1][0], moment)
            else:
                spans.append((moment, moment))
        return spans
