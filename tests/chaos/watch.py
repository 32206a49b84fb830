"""Reads the wire: asks for every address by ARP or NS, and notes which hosts answer at their ports of the switch."""

__all__ = ["Watch"]

import contextlib
import select
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from chaos.timeline import SLOT_S
from lab.capture import SO_TIMESTAMPNS, kernel_time_s
from lab.network import Host, Lab
from lab.prober_program import Neighbours
from lab.witness import listen

SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23  # linux/socket.h, linux/if_packet.h
LATE_S = SLOT_S
"""A question that is later than a slot is a pause of the machine."""


class Watch:
    """From construction to the end of the ``with`` block, in a thread of its own; who asks is no client and heals nobody's cache."""

    def __init__(self, lab: Lab, asker: Host, addresses: Sequence[str], hosts: Sequence[Host]) -> None:
        self._lab = lab
        port = asker.port()
        self._asked = {
            address: asker.namespace.call(Neighbours, address, port.interface, asker.address(6 if ":" in address else 4))
            for address in addresses
        }
        self.questions: list[float] = []
        self.pauses: list[tuple[float, float]] = []
        self.answers: dict[str, dict[str, list[float]]] = {address: {host.name: [] for host in hosts} for address in addresses}
        self._ears: dict[socket.socket, str] = {}
        self._old: list[socket.socket] = []
        self._changing = threading.Lock()
        for host in hosts:
            self.listen(host)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()
        for opened in (*self._ears, *self._old, *(one.socket for one in self._asked.values())):
            opened.close()

    def listen(self, host: Host) -> None:
        """Hear a host at its port, at a new one after its interface was made anew."""
        ear = listen(self._lab, host)
        ear.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        ear.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        with self._changing:
            for old in [one for one, name in self._ears.items() if name == host.name]:
                del self._ears[old]
                self._old.append(old)  # the thread may be waiting for it
            self._ears[ear] = host.name

    def answering(self, address: str, within_s: float = 0.1) -> list[str]:
        """Hosts that answered just now, the latest last."""
        now = time.monotonic()
        last = {host: times[-1] for host, times in self.answers[address].items() if times and times[-1] >= now - within_s}
        return sorted(last, key=lambda host: last[host])

    def seen(self) -> tuple[list[float], dict[str, dict[str, list[float]]], list[tuple[float, float]]]:
        """Questions, answers and pauses so far, as they are at this moment."""
        with self._changing:
            answers = {address: {host: [*times] for host, times in hosts.items()} for address, hosts in self.answers.items()}
            return [*self.questions], answers, [*self.pauses]

    def forget(self) -> None:
        """Begin anew: what was seen so far has been judged."""
        with self._changing:
            self.questions, self.pauses = [], []
            self.answers = {address: {host: [] for host in hosts} for address, hosts in self.answers.items()}

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            for one in self._asked.values():
                one.ask()
            now = time.monotonic()
            with self._changing:
                self.questions.append(now)
                if now - due > LATE_S:
                    self.pauses.append((now, now - due))
            due = max(due + SLOT_S, now)
            while (left := due - time.monotonic()) > 0:
                with self._changing:
                    ears = [*self._ears]
                ready = select.select(ears, [], [], left)[0]
                with self._changing:
                    for ear in ready:
                        if ear in self._ears:
                            self._drain(ear, self._ears[ear])

    def _drain(self, ear: socket.socket, host: str) -> None:
        with contextlib.suppress(OSError):  # nothing more, or the port has just been set down
            while True:
                frame, said, _, _ = ear.recvmsg(256, 64)
                at_s = kernel_time_s(said)
                for address, one in self._asked.items():
                    if (claim := one.claim(frame)) and claim[0] == "answer":
                        self.answers[address][host].append(at_s)
