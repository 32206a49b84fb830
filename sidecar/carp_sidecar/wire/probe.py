"""Asks a suspected master's host whether it lives: ARP or NS to its address, a datagram to its sidecar. And answers others.

The datagram proves nothing and is not signed: a forged answer can only make a backup wait for the dead time, as CARP does.
"""

__all__ = ["Prober", "Responder"]

import asyncio
import contextlib
import errno
import logging
import secrets
import socket
import struct
from collections.abc import Callable, Sequence

from carp_protocol.suspicion import Evidence
from carp_sidecar.logs import log_event
from carp_sidecar.wire.frames import arp_request, neighbor_solicitation
from carp_sidecar.wire.sockets import STRANGERS_PAUSE_S, Wire

_log = logging.getLogger(__name__)

_DATAGRAM = struct.Struct("!4sB3x8s")
"""Magic, 0 for a question or 1 for an answer, and the asker's random bytes."""
_MAGIC = b"carp"
_QUESTION, _ANSWER = 0, 1
_MIN_GAP_S = 0.0015
"""Groups with one master ask together: closer questions are one question, and its answer serves all."""
_DRAIN_LIMIT = 64
_MAX_TARGETS = 64
"""Masters a host can suspect at one time; the one asked longest ago is forgotten."""
_REOPEN_S = 10.0
"""Between attempts at a port that another program has."""
_V4_ANY_ADDRESS = struct.Struct("=i4s4s")

_CONSEQUENCE = "other members will wait for the dead time when this sidecar dies"

OnEvidence = Callable[[Evidence, str], None]


class _Target:
    """One host that is asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, source: str, port: int, index: int, on_evidence: OnEvidence) -> None:
        self._loop = loop
        self._source = source
        self._on_evidence = on_evidence
        self._token = secrets.token_bytes(8)
        self.mac: str | None = None
        self.asked_at = 0.0
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        address = (source, port, 0, index) if family == socket.AF_INET6 else (source, port)
        with contextlib.suppress(OSError):  # no route now: then it never answers, and is not used as evidence
            self._socket.connect(address)
        loop.add_reader(self._socket, self._read)

    def ask(self) -> None:
        with contextlib.suppress(OSError):  # what matters of it, ECONNREFUSED, is seen by _read
            self._socket.send(_DATAGRAM.pack(_MAGIC, _QUESTION, self._token))

    def _read(self) -> None:
        for _ in range(_DRAIN_LIMIT):
            try:
                data = self._socket.recv(64)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                self._on_evidence(Evidence.PORT_UNREACHABLE, self._source)
                continue
            except OSError:
                return  # the host or its network is unreachable: silence, which is judged elsewhere
            if data == _DATAGRAM.pack(_MAGIC, _ANSWER, self._token):
                self._on_evidence(Evidence.PROCESS_ANSWERED, self._source)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()


class Prober:
    """Questions that leave through one interface; every answer goes to ``on_evidence(evidence, source)``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wire: Wire, port: int, on_evidence: OnEvidence) -> None:
        self._loop = loop
        self._wire = wire
        self.port = port
        self._on_evidence = on_evidence
        self._targets: dict[str, _Target] = {}

    def ask_host(self, source: str, own: str) -> None:
        """Ask the host at ``source``, from our own address on this interface."""
        try:
            target = self._targets.get(source) or self._new_target(source)
        except OSError as error:  # no IPv6 here: a master that was never asked is never suspected
            _log.debug("%s cannot be asked whether it lives: %s", source, error.strerror)
            return
        now = self._loop.time()
        if now - target.asked_at < _MIN_GAP_S:
            return
        target.asked_at = now
        self._ask_address(source, own, target.mac)
        if self.port:
            target.ask()

    def ask_address(self, address: str) -> None:
        """Ask whether anybody answers for ``address``, without claiming one ourselves (RFC 5227)."""
        self._ask_address(address, "::" if ":" in address else "0.0.0.0", None)

    def _ask_address(self, address: str, own: str, mac: str | None) -> None:
        if ":" in address:
            self._wire.send(neighbor_solicitation(self._wire.mac, own, address, mac))
        elif mac:
            self._wire.send(arp_request(self._wire.mac, own, address, mac))
        else:
            self._wire.send(arp_request(self._wire.mac, own, address))

    def answered(self, address: str, mac: str) -> None:
        """An ARP reply or NA was received; if it is from a host that was asked, it lives, and is asked directly from now on."""
        target = self._targets.get(address)
        if target:
            target.mac = mac
            self._on_evidence(Evidence.HOST_ANSWERED, address)

    def _new_target(self, source: str) -> _Target:
        if len(self._targets) >= _MAX_TARGETS:
            self._targets.pop(min(self._targets, key=lambda known: self._targets[known].asked_at)).close()
        self._targets[source] = _Target(self._loop, source, self.port, self._wire.index, self._on_evidence)
        return self._targets[source]

    def close(self) -> None:
        for target in self._targets.values():
            target.close()
        self._targets.clear()


class Responder:
    """Answers the questions of other hosts' probers, each from the address that was asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self._loop = loop
        self._port = port
        self._sockets: list[socket.socket] = []
        self._reopen: asyncio.TimerHandle | None = None
        if port:
            self._open((socket.AF_INET, socket.AF_INET6), again=False)

    def _open(self, families: Sequence[socket.AddressFamily], *, again: bool) -> None:
        taken = []
        for family in families:
            try:
                opened = _open(family, self._port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    taken.append(family)
                else:
                    sentence = f"UDP port {self._port} cannot be opened: {error.strerror}; {_CONSEQUENCE}"
                    log_event(_log, logging.WARNING if family == socket.AF_INET else logging.INFO, sentence)
                continue
            self._sockets.append(opened)
            self._loop.add_reader(opened, self._read, opened)
        if taken and not again:
            mend = "give each sidecar of this host its own probe_port, the same on every host"
            log_event(_log, logging.WARNING, f"UDP port {self._port} is used by another program: {mend}. Until then {_CONSEQUENCE}")
        elif again and not taken:
            log_event(_log, logging.INFO, f"UDP port {self._port} is open now")
        self._reopen = self._loop.call_later(_REOPEN_S, lambda: self._open(taken, again=True)) if taken else None

    def _read(self, opened: socket.socket) -> None:
        for _ in range(_DRAIN_LIMIT):
            try:
                data, ancillary, _, sender = opened.recvmsg(64, 128)
            except OSError:  # nothing more to read, or an ICMP error of an earlier answer
                return
            if len(data) != _DATAGRAM.size:
                continue
            magic, kind, token = _DATAGRAM.unpack(data)
            if magic == _MAGIC and kind == _QUESTION:
                with contextlib.suppress(OSError):
                    opened.sendmsg([_DATAGRAM.pack(_MAGIC, _ANSWER, token)], _from_same_address(ancillary), 0, sender)
        self._loop.remove_reader(opened)  # anybody may ask, at any rate
        self._loop.call_later(STRANGERS_PAUSE_S, self._resume, opened)

    def _resume(self, opened: socket.socket) -> None:
        if opened in self._sockets:
            self._loop.add_reader(opened, self._read, opened)

    def close(self) -> None:
        if self._reopen:
            self._reopen.cancel()
        closing, self._sockets = self._sockets, []
        for opened in closing:
            self._loop.remove_reader(opened)
            opened.close()


def _open(family: socket.AddressFamily, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET:
            opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        opened.bind(("", port))
    except OSError:
        opened.close()
        raise
    return opened


_IP_PKTINFO = 8  # linux/in.h


def _from_same_address(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Ancillary data that sends an answer from the address the question came to."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, local, _ = _V4_ANY_ADDRESS.unpack(data)
            return [(level, kind, _V4_ANY_ADDRESS.pack(0, local, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, data)]
    return []
