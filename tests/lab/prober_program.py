"""The probing program: one ICMP echo each millisecond on an absolute schedule, and who answers ARP or NS.

Other probes go the same way: a knock is a new TCP connection, a question is an ARP request.
Runs alone inside a client's namespace (standard library only), started by ``prober``. A slot it was too late for is
skipped and counted, never sent in a burst; answers are timed by the kernel, so a late prober is not taken for an outage.
Lines of JSON on standard output: ``{"ready": ...}``, ``{"live": ...}`` now and then, ``{"result": ...}`` at the end.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import struct
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

SLOT_LATE = 2
"""A probe that leaves this many slots late is not sent: it would measure the prober."""
LIVE_EVERY_S = 0.1
SETTLE_S = 0.3
"""After the end, the time in which the last answers may still arrive."""
NEIGHBOUR_EVERY_SLOTS = 10
LOST = -1.0
SO_TIMESTAMPNS = 35
ETH_P_ARP = 0x0806
NS, NA = 135, 136
MARK = os.urandom(6)
SYN, RST = 2, 4
FIRST_PORT, PORTS = 10_000, 20_000
"""Below those that the kernel gives away."""


class Echo:
    """Echo requests out, answers in, for one address of either family."""

    def __init__(self, target: str) -> None:
        self.v6 = ":" in target
        family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if self.v6 else (socket.AF_INET, socket.IPPROTO_ICMP)
        self.socket = socket.socket(family, socket.SOCK_RAW, protocol)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if self.v6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        self.target = (target, 0)

    def send(self, sequence: int) -> None:
        """One request; a missing route or neighbour is an unanswered probe like any other."""
        body = struct.pack("!6sxxQ", MARK, sequence)
        kind = 128 if self.v6 else 8
        message = struct.pack("!BBHHH", kind, 0, 0, 0, sequence & 0xFFFF) + body
        if not self.v6:
            message = message[:2] + struct.pack("!H", internet_checksum(message)) + message[4:]
        with contextlib.suppress(OSError):
            self.socket.sendto(message, self.target)

    def answers(self) -> Iterator[tuple[int, float, int]]:
        """(sequence, time of arrival on the wall clock, TTL) of every answer that waits."""
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(256, 256)
            except BlockingIOError:
                return
            except OSError:
                continue
            head = 0 if self.v6 else (data[0] & 15) * 4
            if data[head] != (129 if self.v6 else 0) or data[head + 8 : head + 14] != MARK:
                continue
            when, hops = time.time(), data[8]
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                    seconds, nanoseconds = struct.unpack("@qq", value[:16])
                    when = seconds + nanoseconds / 1e9
                elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT):
                    hops = struct.unpack("@i", value[:4])[0]
            yield struct.unpack("!Q", data[head + 16 : head + 24])[0], when, hops


def internet_checksum(data: bytes) -> int:
    """RFC 1071, for data of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Neighbours:
    """Who claims the address by ARP (or NA), and questions about it when wanted."""

    def __init__(self, target: str, interface: str, own: str) -> None:
        self.v6 = ":" in target
        self.own_ip = socket.inet_pton(socket.AF_INET6 if self.v6 else socket.AF_INET, own)
        self.target_ip = socket.inet_pton(socket.AF_INET6 if self.v6 else socket.AF_INET, target)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD if self.v6 else ETH_P_ARP))
        self.socket.bind((interface, 0x86DD if self.v6 else ETH_P_ARP))
        self.socket.setblocking(False)
        self.own_mac: bytes = self.socket.getsockname()[4]

    def ask(self) -> None:
        """One ARP request or neighbour solicitation."""
        with contextlib.suppress(OSError):
            self.socket.send(self._solicitation() if self.v6 else self._request())

    def _request(self) -> bytes:
        body: bytes = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, self.own_mac, self.own_ip, bytes(6), self.target_ip)
        return b"\xff" * 6 + self.own_mac + struct.pack("!H", ETH_P_ARP) + body

    def _solicitation(self) -> bytes:
        group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + self.target_ip[13:]
        icmp = struct.pack("!BBHI16sBB6s", NS, 0, 0, 0, self.target_ip, 1, 1, self.own_mac)
        pseudo = self.own_ip + group + struct.pack("!IxxxB", len(icmp), socket.IPPROTO_ICMPV6)
        icmp = icmp[:2] + struct.pack("!H", internet_checksum(pseudo + icmp)) + icmp[4:]
        packet = struct.pack("!IHBB16s16s", 6 << 28, len(icmp), socket.IPPROTO_ICMPV6, 255, self.own_ip, group) + icmp
        return b"\x33\x33" + group[12:] + self.own_mac + b"\x86\xdd" + packet

    def claims(self) -> Iterator[tuple[str, str]]:
        """(kind, MAC) of every claim that waits; kind is "answer" or "announcement"."""
        while True:
            try:
                frame, address = self.socket.recvfrom(256)
            except BlockingIOError:
                return
            except OSError:
                continue
            if address[2] != socket.PACKET_OUTGOING and (claim := self.claim(frame)):
                yield claim

    def claim(self, frame: bytes) -> tuple[str, str] | None:
        """Kind and MAC when a frame claims the address."""
        return self._advertisement(frame) if self.v6 else self._arp(frame)

    def _arp(self, frame: bytes) -> tuple[str, str] | None:
        if len(frame) < 42 or frame[12:14] != b"\x08\x06":
            return None
        operation, mac, sender, target = struct.unpack("!6xH6s4s6x4s", frame[14:42])
        if sender != self.target_ip:
            return None
        return ("announcement" if sender == target or operation == 1 else "answer"), mac.hex(":")

    def _advertisement(self, frame: bytes) -> tuple[str, str] | None:
        if (
            len(frame) < 78
            or frame[12:14] != b"\x86\xdd"
            or frame[20] != socket.IPPROTO_ICMPV6
            or frame[54] != NA
            or frame[62:78] != self.target_ip
        ):
            return None
        mac = frame[80:86] if len(frame) >= 86 and frame[78] == 2 else frame[6:12]
        return ("answer" if frame[58] & 0x40 else "announcement"), mac.hex(":")


class Knock:
    """New TCP connections to a port, IPv4: a SYN out, a SYN and ACK in; the kernel, which knows of none of it, ends it by a reset."""

    def __init__(self, target: str, own: str, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.target, self.port = (target, 0), port
        self.addresses = socket.inet_aton(own) + socket.inet_aton(target)
        self.peer = socket.inet_aton(target) + struct.pack("!H", port)
        self.sent = 0

    def send(self, sequence: int) -> None:
        """Each from another port, so that each is balanced anew."""
        self.sent = sequence
        source = FIRST_PORT + sequence % PORTS
        head = struct.pack("!HHIIBBHHH", source, self.port, sequence, 0, 5 << 4, SYN, 64000, 0, 0)
        checksum = internet_checksum(self.addresses + struct.pack("!HH", socket.IPPROTO_TCP, len(head)) + head)
        with contextlib.suppress(OSError):
            self.socket.sendto(head[:16] + struct.pack("!H", checksum) + head[18:], self.target)

    def answers(self) -> Iterator[tuple[int, float, int]]:
        """As ``Echo.answers``."""
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(256, 256)
            except OSError:
                return
            head = (data[0] & 15) * 4
            acknowledged, flags = struct.unpack("!I", data[head + 8 : head + 12])[0], data[head + 13]
            if data[12:16] + data[head : head + 2] == self.peer and flags & (SYN | RST) == SYN and acknowledged <= self.sent + 1:
                seconds, nanoseconds = struct.unpack("@qq", ancillary[0][2][:16])
                yield acknowledged - 1, seconds + nanoseconds / 1e9, data[8]


class Question:
    """ARP requests (or NS) as probes: answers say of no question that they belong to it, so they count for the last one."""

    def __init__(self, neighbours: Neighbours, heard: Callable[[str, str], None]) -> None:
        self.neighbours, self.socket, self.heard = neighbours, neighbours.socket, heard
        self.asked = 0

    def send(self, sequence: int) -> None:
        self.asked = sequence
        self.neighbours.ask()

    def answers(self) -> Iterator[tuple[int, float, int]]:
        """As ``Echo.answers``, without TTL."""
        for kind, mac in self.neighbours.claims():
            self.heard(kind, mac)
            if kind == "answer":
                yield self.asked, time.time(), 0


class Record:
    """What was sent and answered, and the summary of it."""

    def __init__(self, late_answer_s: float) -> None:
        self.late_answer_s = late_answer_s
        self.started = time.monotonic()
        self.sent_at = array("d")
        self.answered_after = array("d")
        self.skipped = 0
        self.worst_lateness_s = 0.0
        self.duplicates = 0
        self.claims: list[dict[str, Any]] = []
        self.answerers: list[dict[str, Any]] = []
        self.wall_minus_monotonic = time.time() - time.monotonic()

    def sent(self, now: float) -> int:
        self.sent_at.append(now)
        self.answered_after.append(LOST)
        return len(self.sent_at) - 1

    def answered(self, sequence: int, wall: float, ttl: int) -> None:
        if self.answered_after[sequence] != LOST:
            self.duplicates += 1
            return
        self.answered_after[sequence] = max(0.0, wall - self.wall_minus_monotonic - self.sent_at[sequence])
        self._note(self.answerers, {"ttl": ttl})

    def claimed(self, kind: str, mac: str) -> None:
        self._note(self.claims, {"kind": kind, "mac": mac})

    def _note(self, timeline: list[dict[str, Any]], what: dict[str, Any]) -> None:
        """Extend the last entry of a timeline, or begin another when something else is seen."""
        now = self.milliseconds(time.monotonic())
        if timeline and what.items() <= timeline[-1].items():
            timeline[-1]["until_ms"] = now
            timeline[-1]["count"] += 1
        else:
            timeline.append({"from_ms": now, "until_ms": now, "count": 1} | what)

    def milliseconds(self, moment: float) -> float:
        return round((moment - self.started) * 1000, 2)

    def is_answered(self, sequence: int) -> bool:
        return 0 <= self.answered_after[sequence] <= self.late_answer_s

    def outages(self) -> list[dict[str, float]]:
        """Runs of unanswered probes, each from the first lost one to the arrival of the next answer."""
        found: list[dict[str, float]] = []
        first: int | None = None
        total = len(self.sent_at)
        for sequence in range(total + 1):
            if first is None and sequence < total and not self.is_answered(sequence):
                first = sequence
            elif first is not None and (sequence == total or self.is_answered(sequence)):
                last = min(sequence, total - 1)
                end = self.sent_at[last] + max(0.0, self.answered_after[last])
                outage = {"start_ms": self.milliseconds(self.sent_at[first]), "lost": sequence - first, "ended": sequence < total}
                found.append(outage | {"duration_ms": round((end - self.sent_at[first]) * 1000, 2)})
                first = None
        return found

    def result(self) -> dict[str, Any]:
        answered = [(at, after) for at, after in zip(self.sent_at, self.answered_after, strict=True) if after != LOST]
        in_time = sorted(after for _, after in answered if after <= self.late_answer_s)
        return {
            "started_s": self.started,
            "sent": len(self.sent_at),
            "lost": len(self.sent_at) - len(in_time),
            "late_answers": len(answered) - len(in_time),
            "duplicates": self.duplicates,
            "skipped": self.skipped,
            "worst_lateness_ms": round(self.worst_lateness_s * 1000, 2),
            "rtt_median_ms": round(in_time[len(in_time) // 2] * 1000, 3) if in_time else None,
            "first_answer_ms": self.milliseconds(min(at + after for at, after in answered)) if answered else None,
            "outages": self.outages(),
            "answerers": self.answerers,
            "claims": self.claims,
        }

    def live(self, now: float) -> dict[str, Any]:
        """Counts so far; what was sent just now is not called lost yet."""
        recent = range(max(0, len(self.sent_at) - 100), max(0, len(self.sent_at) - 2))
        answered = sum(map(self.is_answered, recent))
        return {
            "at_s": now,
            "sent": len(self.sent_at),
            "recent": len(recent),
            "recent_answered": answered,
            "ttl": self.answerers[-1]["ttl"] if self.answerers else None,
            "mac": next((claim["mac"] for claim in reversed(self.claims) if claim["kind"] == "answer"), None),
        }


def say(kind: str, what: object) -> None:
    print(json.dumps({kind: what}), flush=True)


def probe(options: argparse.Namespace, stopped: list[bool]) -> Record:
    """The loop: one slot, one probe; between slots, answers."""
    neighbours = Neighbours(options.target, options.interface, options.own)
    slot_s = options.every_ms / 1000
    record = Record(options.late_answer_ms / 1000)
    probes: Echo | Knock | Question = Echo(options.target)
    if options.knock:
        probes = Knock(options.target, options.own, options.knock)
    elif options.question:
        probes = Question(neighbours, record.claimed)
    slot, live_at, ends_at = 0, 0.0, float("inf")
    say("ready", {"started_s": record.started})
    while (now := time.monotonic()) < ends_at:
        if stopped and ends_at == float("inf"):
            ends_at = now + SETTLE_S
        due = record.started + slot * slot_s
        if not stopped and now >= due:
            record.worst_lateness_s = max(record.worst_lateness_s, now - due)
            missed = int((now - due) / slot_s)
            if missed >= SLOT_LATE:
                record.skipped += missed
                slot += missed
            probes.send(record.sent(now))
            if options.ask and slot % NEIGHBOUR_EVERY_SLOTS == 0:
                neighbours.ask()
            slot += 1
        if now >= live_at:
            say("live", record.live(now))
            live_at = now + LIVE_EVERY_S
        pause = min(slot_s, record.started + slot * slot_s - time.monotonic()) if not stopped else slot_s
        select.select([probes.socket, neighbours.socket], [], [], max(0.0, pause))
        for sequence, wall, ttl in probes.answers():
            record.answered(sequence, wall, ttl)
        for kind, mac in neighbours.claims():
            record.claimed(kind, mac)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--own", required=True, help="own address on the interface")
    parser.add_argument("--every-ms", type=float, default=1.0)
    parser.add_argument("--late-answer-ms", type=float, default=100.0, help="an answer later than this is a lost probe")
    parser.add_argument("--ask", action="store_true", help="an ARP request or NS every 10 slots")
    parser.add_argument("--knock", type=int, metavar="PORT", help="each probe is a new TCP connection, not an echo")
    parser.add_argument("--question", action="store_true", help="each probe is an ARP request or NS")
    options = parser.parse_args()
    stopped: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    say("result", probe(options, stopped).result())


if __name__ == "__main__":
    main()
