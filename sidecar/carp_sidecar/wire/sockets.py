"""The sockets of one interface: frames in through filters, frames and unicast adverts out. Knows no group.

What comes in waits in three queues, so that no flood displaces what an election lives on: adverts of hosts that proved to know
a key, adverts of all others, claims of addresses. The kernel sorts; the last two are read at a limited pace.

Receiving taps the interface before everything else: before a macvlan of ours that may hold the sender's MAC, and before
the host's firewall. Nothing here blocks, and no error of the network reaches the caller as an exception.
"""

__all__ = ["Wire", "WireFailed"]

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from carp_protocol.errors import BadPacket, CarpError
from carp_sidecar.kernel import bpf
from carp_sidecar.kernel.buffers import Room, widen
from carp_sidecar.wire.frames import (
    GROUP_IPV4,
    GROUP_IPV6,
    GROUP_MAC_IPV4,
    GROUP_MAC_IPV6,
    HOP_LIMIT,
    LOW_DELAY,
    PROTOCOL_CARP,
    Frame,
    decode_frame_untrusted,
    mac_to_bytes,
)

log = logging.getLogger(__name__)

DRAIN_LIMIT = 64  # frames for each turn of the loop: 4 us for each, so timers are late by 0.3 ms at most
STRANGERS_PAUSE_S = 0.002  # after so many frames of strangers at once: a flood costs a third of a core, no more
RECEIVE_BUFFER = 1 << 20  # bytes: bursts of 1000 adverts survive; the default of 212992 lost two thirds of them
FRAME_LIMIT = 1 << 16  # bytes: the largest IP packet, an offloading interface may hand up that much
CONTROL_PRIORITY = 7  # TC_PRIO_CONTROL: first band of the default queue, before bulk traffic of a busy host

_ETH_P_ALL = 0x0003
_SOL_PACKET = 263  # linux/socket.h, linux/if_packet.h
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_MR_MULTICAST = 0
_PACKET_STATISTICS = 6
_PACKET_IGNORE_OUTGOING = 23  # since 4.20
_IP_MTU_DISCOVER = 10  # linux/in.h, linux/in6.h
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_DO = 2
_IP_PKTINFO = 8
_STATISTICS = struct.Struct("=II")  # packets and, of these, dropped since they were last asked for

OnFrame = Callable[[Frame], None]
OnRejected = Callable[[BadPacket], None]


class WireFailed(CarpError):
    """The sockets of an interface could not be opened."""


class Wire:
    """One interface: open from construction (or WireFailed), receiving from ``start``, until ``close``."""

    def __init__(self, name: str, index: int, mac: str, remembered: Collection[str] = ()) -> None:
        """``remembered``: hosts whose adverts have that queue, too, as long as there is room."""
        self.name = name
        self.index = index
        self.mac = mac
        self.errors: Counter[str] = Counter()
        """Errors of sending and receiving by their name, such as ENOBUFS."""
        self.known: set[str] = set()
        """Whose adverts have a queue of their own: the first so many that proved to know a key."""
        self._remembered = remembered
        self._room = Room(FRAME_LIMIT)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_frame: OnFrame = _ignore
        self._on_rejected: OnRejected = _ignore
        self._on_lost: Callable[[], None] = lambda: None
        with contextlib.ExitStack() as undo:
            try:
                self._known = undo.enter_context(_open_packets(name, index, bpf.advert_filter(self._listed(), among=True)))
                self._strangers = undo.enter_context(_open_packets(name, index, bpf.advert_filter(self._listed(), among=False)))
                self._claims = undo.enter_context(_open_packets(name, index, bpf.claim_filter(mac_to_bytes(mac), ())))
                self._raw = {version: undo.enter_context(_open_raw(version, name)) for version in _families()}
                self._members = [undo.enter_context(member) for member in _join_groups(name, index)]
            except OSError as error:
                raise WireFailed(f"interface {name} cannot be listened to ({error.strerror}): NET_RAW and NET_ADMIN are needed") from None
            self._sockets = undo.pop_all()

    def start(self, loop: asyncio.AbstractEventLoop, on_frame: OnFrame, on_rejected: OnRejected, on_lost: Callable[[], None]) -> None:
        """Hands every frame that passes a filter to ``on_frame``, or why not to ``on_rejected``.

        ``on_lost`` is called when adverts of known hosts came faster than they could be read.
        """
        self._loop, self._on_frame, self._on_rejected, self._on_lost = loop, on_frame, on_rejected, on_lost
        loop.add_reader(self._known, self._read_known)
        for queue in (self._strangers, self._claims):
            loop.add_reader(queue, self._read_slowly, queue)

    def know(self, source: str) -> None:
        """Give the adverts of ``source`` a queue of their own, which nobody floods who does not use its address."""
        if source in self.known or len(self.known) >= bpf.MATCHED_ADDRESSES:
            return
        self.known.add(source)
        bpf.attach(self._known, bpf.advert_filter(self._listed(), among=True))  # first: rather twice than never
        bpf.attach(self._strangers, bpf.advert_filter(self._listed(), among=False))

    def _listed(self) -> list[str]:
        """As many as a filter takes, those who proved it in this run first."""
        return list(dict.fromkeys((*self.known, *self._remembered)))[: bpf.MATCHED_ADDRESSES]

    def use_mac(self, mac: str, addresses: Collection[str]) -> None:
        """The interface has another MAC now: ask with it, and take no claim from it for another host's."""
        self.mac = mac
        self.watch(addresses)

    def watch(self, addresses: Collection[str]) -> None:
        """Hand up every claim of one of ``addresses`` from now on."""
        bpf.attach(self._claims, bpf.claim_filter(mac_to_bytes(self.mac), addresses))

    def _read_known(self) -> None:
        if self._read(self._known) and _STATISTICS.unpack(self._known.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))[1]:
            self._on_lost()

    def _read_slowly(self, queue: socket.socket) -> None:
        """Rest after a full turn, unless nobody is known yet and a stranger may be the master."""
        if self._read(queue) and self.known and self._loop:
            self._loop.remove_reader(queue)
            self._loop.call_later(STRANGERS_PAUSE_S, partial(self._resume, queue))

    def _resume(self, queue: socket.socket) -> None:
        if self._loop:
            self._loop.add_reader(queue, self._read_slowly, queue)

    def _read(self, queue: socket.socket) -> bool:
        """Whether there may be more."""
        for _ in range(DRAIN_LIMIT):
            try:
                frame = self._room.receive(queue)
            except BlockingIOError:
                return False
            except OSError as error:  # ENETDOWN once when the interface goes down; the socket lives on
                self._count(error)
                return False
            try:
                received = decode_frame_untrusted(frame)
            except BadPacket as reason:
                self._on_rejected(reason)
            else:
                self._on_frame(received)
            if self._loop is None:  # closed by what it was told
                return False
        return True

    def send(self, frame: bytes) -> bool:
        """Sends a whole Ethernet frame; False if it did not leave, the reason is counted in ``errors``."""
        try:
            self._known.send(frame)
        except OSError as error:
            self._count(error)
            return False
        return True

    def send_unicast(self, payload: bytes, address: str, source: str | None = None) -> bool:
        """Sends an advert to one host, from ``source`` if given; the kernel finds the way."""
        target = ip_address(address)
        raw = self._raw.get(target.version)
        if raw is None:
            self.errors["EAFNOSUPPORT"] += 1
            return False
        try:
            if target.version == 4:
                origin = IPv4Address(source).packed if source else bytes(4)
                raw.sendmsg([payload], [(socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4x", self.index, origin))], 0, (address, 0))
            else:
                origin = IPv6Address(source).packed if source else bytes(16)
                extra = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16si", origin, self.index))
                raw.sendmsg([payload], [extra], 0, (address, 0, 0, self.index if target.is_link_local else 0))
        except OSError as error:
            self._count(error)
            return False
        return True

    def _count(self, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, "unknown")
        self.errors[name] += 1
        if self.errors[name] == 1:
            log.warning("%s: %s (%s); further ones are only counted", self.name, os.strerror(error.errno or 0), name)

    def close(self) -> None:
        """Leaves the groups and closes everything."""
        if self._loop is not None:
            for queue in (self._known, self._strangers, self._claims):
                self._loop.remove_reader(queue)
            self._loop = None
        self._sockets.close()


def _ignore(_: object) -> None:
    """Until ``start``."""


def _families() -> list[int]:
    return [4, 6] if Path("/proc/net/if_inet6").exists() else [4]


def _open_packets(name: str, index: int, program: bytes) -> socket.socket:
    # Protocol 0 receives nothing until bind: no frame can slip in before the filter is attached.
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        bpf.attach(packets, program)
        widen(packets, receive=RECEIVE_BUFFER)
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, CONTROL_PRIORITY)
        packets.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        for mac in (GROUP_MAC_IPV4, GROUP_MAC_IPV6):
            request = struct.pack("=iHH8s", index, _PACKET_MR_MULTICAST, len(mac), mac)
            packets.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
        packets.bind((name, _ETH_P_ALL))
    except OSError:
        packets.close()
        raise
    return packets


def _open_raw(version: int, name: str) -> socket.socket:
    """Sends unicast adverts. It reads none, but that it exists keeps the kernel from answering "protocol unreachable"."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, PROTOCOL_CARP)
    try:
        bpf.attach(raw, bpf.drop_all())
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, CONTROL_PRIORITY)
        if version == 4:
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, HOP_LIMIT)
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, LOW_DELAY)
            raw.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
        else:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
            raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)
    except OSError:
        raw.close()
        raise
    return raw


def _join_groups(name: str, index: int) -> list[socket.socket]:
    """Sockets whose only purpose is membership: the IGMP and MLD reports open the ports of switches that snoop."""
    members = []
    for version in _families():
        member = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        members.append(member)
        try:
            if version == 4:
                request = struct.pack("=4s4si", GROUP_IPV4.packed, bytes(4), index)
                member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            else:
                member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, struct.pack("=16si", GROUP_IPV6.packed, index))
        except OSError as error:
            # Without it a switch that snoops may withhold adverts; the packet socket hears all the others.
            log.info("%s: the IPv%d group of CARP was not joined (%s)", name, version, error.strerror)
    return members
