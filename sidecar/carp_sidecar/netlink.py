"""The kernel's links and addresses: a snapshot kept current, and batches of requests carried out by one thread.

The only module that knows pyroute2, which decodes what the kernel reports. Requests come encoded (``rtnl``) and take
effect inside ``send``, where the interpreter lock is free: hence the thread. Knows no group and no state.
"""

__all__ = ["Netlink", "NetlinkFailed"]

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from carp_protocol.errors import CarpError
from carp_sidecar import bpf, rtnl
from carp_sidecar.links import Address, Change, Link, Links

log = logging.getLogger(__name__)

QUEUE_LIMIT = 8192  # batches: 16 for each of 512 groups; more is a kernel that stopped answering
SEND_LIMIT = 2048  # requests in one send: their acknowledgements (768 bytes of accounting each) fit RECEIVE_BUFFER
ANSWER_TIMEOUT_S = 2.0  # the slowest request, a link down, takes 0.06 s under load
START_TIMEOUT_S = 10.0  # import of pyroute2 (0.14 s) and two dumps on a starved machine
IDLE_S = 60.0  # a wait needs an end; nothing happens at it
JOIN_TIMEOUT_S = 3.0  # longer than one answer may take
SEND_BUFFER = 1 << 20  # bytes: SEND_LIMIT requests of 100 bytes must be one message
RECEIVE_BUFFER = 4 << 20  # bytes
READ_SIZE = 1 << 16  # bytes: the kernel fills at most 32 KiB
DRAIN_LIMIT = 64  # notifications for each turn of the loop, some 0.1 ms each

_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_SO_RCVBUFFORCE = 33
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10  # acknowledgements without a copy of the request
_MULTICAST_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_HEADER = struct.Struct("=IHHII")
_LINK_INDEX_AND_FLAGS = struct.Struct("=4xiI4x")
_NEWLINK = 16
_DELLINK = 17
_NEWADDR = 20
_DELADDR = 21
_IFF_UP = 0x1
_IFF_RUNNING = 0x40
_IFF_LOWER_UP = 0x10000
_FOR_EVER_S = 0xFFFF_FFFF

Done = Callable[[list[int]], None]


def _ignore(_: Change) -> None:
    """Until somebody listens."""


class NetlinkFailed(CarpError):
    """The kernel could not be asked at all."""


@dataclass(slots=True)
class _Job:
    batch: Sequence[bytes]
    done: Done | None
    expires: float | None
    errnos: list[int] = field(default_factory=list)
    cancelled: set[int] = field(default_factory=set)
    """Positions of requests that an urgent batch made wrong."""

    def __len__(self) -> int:
        return len(self.batch)


@dataclass(slots=True)
class _Work:
    """What waits for the thread, under one lock."""

    urgent: deque[_Job] = field(default_factory=deque)
    lazy: deque[_Job] = field(default_factory=deque)
    downs: dict[int, tuple[_Job, int]] = field(default_factory=dict)
    """Where in ``lazy`` a device is to be set down."""
    dump: bool = False
    stop: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)


class Netlink:
    """One per process. All methods are for the loop's thread; every callback runs there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_change: Callable[[Change], None] | None = None) -> None:
        self.snapshot = Links()
        """Links and addresses, a live view: valid once ``start`` returned."""
        self.on_change: Callable[[Change], None] = on_change or _ignore
        self._loop = loop
        self._work = _Work()
        self._dumped: list[asyncio.Future[None]] = []
        self._monitor: socket.socket | None = None
        self._decoder: Any = None
        self._thread = threading.Thread(target=self._run, name="netlink", daemon=True)

    async def start(self) -> None:
        """Starts the thread and returns with the snapshot taken; raises NetlinkFailed."""
        try:
            self._monitor = _open_monitor()
        except OSError as error:
            raise NetlinkFailed(f"netlink cannot be opened ({error.strerror}): run as root or with NET_ADMIN") from None
        self._thread.start()
        try:
            await self.refresh(START_TIMEOUT_S)
        except TimeoutError:
            raise NetlinkFailed(f"the kernel did not list its links within {START_TIMEOUT_S:.0f} s") from None

    async def refresh(self, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Reads links and addresses anew from the kernel; what had been missed goes to ``on_change``."""
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._dumped.append(waiting)
        self._ask_for_dump()
        await asyncio.wait_for(waiting, timeout_s)

    def submit(self, batch: Sequence[bytes], done: Done | None = None, *, urgent: bool = True, expires: float | None = None) -> None:
        """Has a batch of encoded requests carried out in order; ``done`` gets one errno for each, 0 being success.

        Urgent batches go first and all that wait share one send. Lazy ones (anything that sets a link down or removes
        it) are carried out request by request in between, and when ``done`` is called the snapshot shows their effect.
        A waiting lazy "down" is dropped with ECANCELED when an urgent batch sets the same link up. A batch not begun
        at ``expires`` (loop time) is not carried out: ETIME. A full queue answers ENOBUFS.
        """
        if not batch:
            if done is not None:
                self._loop.call_soon(done, [])
            return
        job = _Job(batch, done, expires)
        with self._work.changed:
            full = len(self._work.urgent) + len(self._work.lazy) >= QUEUE_LIMIT
            if not full and urgent:
                self._cancel_downs(map(rtnl.link_brought_up, batch))
                self._work.urgent.append(job)
            elif not full:
                self._work.lazy.append(job)
                self._note_downs(job)
            self._work.changed.notify()
        if full:
            log.error("the kernel has not answered %d netlink batches: a change was not made", QUEUE_LIMIT)
            if done is not None:
                self._loop.call_soon(done, [errno.ENOBUFS] * len(batch))

    def close(self) -> None:
        """Carries out what waits, then ends the thread, waiting for at most JOIN_TIMEOUT_S."""
        with self._work.changed:
            self._work.stop = True
            self._work.changed.notify()
        if self._thread.ident is not None:
            self._thread.join(JOIN_TIMEOUT_S)
        if self._monitor is not None:
            self._loop.remove_reader(self._monitor)
            self._monitor.close()
            self._monitor = None
        for waiting in self._dumped:
            waiting.cancel()

    # -- the loop's side -------------------------------------------------------------------------------------------

    def _cancel_downs(self, indexes: Iterable[int | None]) -> None:
        for index in indexes:
            job, position = self._work.downs.pop(index, (None, 0)) if index is not None else (None, 0)
            if job is not None:
                job.cancelled.add(position)

    def _note_downs(self, job: _Job) -> None:
        for position, request in enumerate(job.batch):
            index = rtnl.link_brought_down(request)
            if index is not None:
                self._cancel_downs([index])
                self._work.downs[index] = (job, position)

    def _ask_for_dump(self) -> None:
        # Unread until the dump is in: a notification applied before an older dump would be undone by it.
        if self._monitor is not None:
            self._loop.remove_reader(self._monitor)
        with self._work.changed:
            self._work.dump = True
            self._work.changed.notify()

    def _take_dump(self, links: list[Link], addresses: list[Address]) -> None:
        self._end_dump(None)
        for change in self.snapshot.replace(links, addresses):
            self.on_change(change)

    def _end_dump(self, failure: str | None) -> None:
        if self._monitor is not None:
            self._loop.add_reader(self._monitor, self._read_notifications)
        waiting, self._dumped = self._dumped, []
        for future in waiting:
            if future.done():
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(NetlinkFailed(failure))
        if failure is not None and not waiting:
            log.error("%s; what happens to links and addresses is not seen until the next refresh", failure)

    def _deliver(self, jobs: list[_Job], lazy: bool) -> None:
        while lazy and self._read_notifications():
            pass
        for job in jobs:
            if job.done is not None:
                self._loop.call_soon(job.done, job.errnos)

    def _read_notifications(self) -> bool:
        """Handles what the kernel reported; True if there may be more."""
        if self._monitor is None:
            return False
        for _ in range(DRAIN_LIMIT):
            try:
                data, sender = self._monitor.recvfrom(READ_SIZE)
            except BlockingIOError:
                return False
            except OSError as error:
                log.info("notifications of the kernel were lost (%s): links and addresses are read anew", error.strerror)
                self._ask_for_dump()
                return False
            if sender[0] != 0:  # any process may send to us; only port 0 is the kernel
                continue
            for change in self._changes(data):
                self.on_change(change)
        return True

    def _changes(self, data: bytes) -> Iterable[Change]:
        place = 0
        while place + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, place)
            if length < _HEADER.size:
                return
            change = self._change(kind, data[place : place + length])
            if change is not None:
                yield change
            place += length + 3 & ~3

    def _change(self, kind: int, message: bytes) -> Change | None:
        if kind == _NEWADDR:
            return self.snapshot.put_address(self._decoder.address(message))
        if kind == _DELADDR:
            return self.snapshot.drop_address(self._decoder.address(message))
        index, flags = _LINK_INDEX_AND_FLAGS.unpack_from(message, _HEADER.size)
        if kind == _DELLINK:
            return self.snapshot.drop_link(index)
        if kind != _NEWLINK:
            return None
        known = self.snapshot.get(index)
        if known is not None and known.alias.startswith(rtnl.ALIAS_PREFIX):
            # Our own devices change nothing but flags, hundreds of them at a takeover; decoding takes 0.2 ms each.
            return self.snapshot.put_link(replace(known, up=_is_up(flags), running=_is_running(flags)))
        return self.snapshot.put_link(self._decoder.link(message))

    # -- the thread's side -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._decoder = _Decoder()
            channel = _Channel()
        except (ImportError, OSError) as error:
            self._tell(self._end_dump, f"netlink cannot be used: {error}")
            return
        while self._do_next(channel):
            pass
        channel.close()

    def _do_next(self, channel: "_Channel") -> bool:
        work = self._work
        with work.changed:
            if not (work.urgent or work.dump or work.lazy or work.stop):
                work.changed.wait(IDLE_S)
            urgent = _take_some(work.urgent)
            dump = work.dump and not urgent
            lazy = work.lazy[0] if work.lazy and not (urgent or dump) else None
            if dump:
                work.dump = False
            stop = work.stop and not (urgent or dump or lazy)
        if urgent:
            _carry_out(channel, urgent)
            self._tell(self._deliver, urgent, False)
        elif dump:
            self._dump()
        elif lazy:
            self._carry_out_one(channel, lazy)
        return not stop

    def _carry_out_one(self, channel: "_Channel", job: _Job) -> None:
        """The next request of the first lazy job."""
        position = len(job.errnos)
        request = job.batch[position]
        index = rtnl.link_brought_down(request)
        with self._work.changed:
            cancelled = position in job.cancelled
            if index is not None and not cancelled:
                self._work.downs.pop(index, None)
        if cancelled:
            job.errnos.append(errno.ECANCELED)
        elif _expired(job):
            job.errnos.append(errno.ETIME)
        else:
            job.errnos += channel.exchange([request])
        if len(job.errnos) == len(job):
            with self._work.changed:
                self._work.lazy.popleft()
            self._tell(self._deliver, [job], True)

    def _dump(self) -> None:
        try:
            links, addresses = self._decoder.dump()
        except Exception as error:  # noqa: BLE001 - whatever the library raises, the loop must hear of it
            self._tell(self._end_dump, f"the kernel's links and addresses cannot be read: {error}")
        else:
            self._tell(self._take_dump, links, addresses)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody is left to tell
            self._loop.call_soon_threadsafe(callback, *arguments)


def _take_some(urgent: deque[_Job]) -> list[_Job]:
    """As many waiting jobs as one send takes."""
    jobs: list[_Job] = []
    count = 0
    while urgent and (not jobs or count + len(urgent[0]) <= SEND_LIMIT):
        jobs.append(urgent.popleft())
        count += len(jobs[-1])
    return jobs


def _expired(job: _Job) -> bool:
    return job.expires is not None and time.monotonic() > job.expires


def _carry_out(channel: "_Channel", jobs: list[_Job]) -> None:
    """All jobs in one send, but for those that come too late."""
    alive = []
    for job in jobs:
        if _expired(job):
            job.errnos = [errno.ETIME] * len(job)
        else:
            alive.append(job)
    answers = channel.exchange([request for job in alive for request in job.batch])
    place = 0
    for job in alive:
        job.errnos = answers[place : place + len(job)]
        place += len(job)


class _Channel:
    """The socket on which requests are sent and acknowledged."""

    def __init__(self) -> None:
        self._socket = self._open()

    def _open(self) -> socket.socket:
        channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        channel.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        _widen(channel)
        # The kernel's own timeout: Python's would add a poll to each of hundreds of acknowledgements.
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(ANSWER_TIMEOUT_S), 0))
        channel.bind((0, 0))
        return channel

    def close(self) -> None:
        self._socket.close()

    def exchange(self, requests: Sequence[bytes]) -> list[int]:
        """Sends requests as one message (SEND_LIMIT at a time) and returns an errno for each."""
        answers: list[int] = []
        for start in range(0, len(requests), SEND_LIMIT):
            answers += self._exchange_once(requests[start : start + SEND_LIMIT])
        return [rtnl.remaining_errno(request, error) if error else 0 for request, error in zip(requests, answers, strict=True)]

    def _exchange_once(self, requests: Sequence[bytes]) -> list[int]:
        answers: list[int] = []
        try:
            self._socket.sendto(b"".join(requests), (0, 0))
            while len(answers) < len(requests):
                data, sender = self._socket.recvfrom(READ_SIZE)
                if sender[0] == 0:
                    answers += rtnl.acknowledgements(data)
        except OSError as error:
            code = errno.ETIMEDOUT if error.errno == errno.EAGAIN else error.errno or errno.EIO
            answers += [code] * (len(requests) - len(answers))
            # A late acknowledgement must not be taken for that of a later request.
            self._socket.close()
            self._socket = self._open()
        return answers


class _Decoder:
    """pyroute2, imported where its 0.14 s stop nobody: in the thread."""

    def __init__(self) -> None:
        from pyroute2 import IPRoute
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

        self._iproute: Any = IPRoute
        self._address: Any = ifaddrmsg
        self._link: Any = ifinfmsg

    def dump(self) -> tuple[list[Link], list[Address]]:
        """Every link and address of this network namespace."""
        with self._iproute() as route:
            links = [_link_from(message) for message in route.get_links()]
            return links, [_address_from(message) for message in route.get_addr()]

    def link(self, data: bytes) -> Link:
        message = self._link(data)
        message.decode()
        return _link_from(message)

    def address(self, data: bytes) -> Address:
        message = self._address(data)
        message.decode()
        return _address_from(message)


def _is_up(flags: int) -> bool:
    return bool(flags & _IFF_UP)


def _is_running(flags: int) -> bool:
    wanted = _IFF_UP | _IFF_RUNNING | _IFF_LOWER_UP
    return flags & wanted == wanted


def _link_from(message: Any) -> Link:
    settings = message.get_nested("IFLA_AF_SPEC", "AF_INET") or {}
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=message.get_attr("IFLA_ADDRESS") or "",
        up=_is_up(message["flags"]),
        running=_is_running(message["flags"]),
        kind=message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
        alias=message.get_attr("IFLA_IFALIAS") or "",
        parent=message.get_attr("IFLA_LINK"),
        mtu=message.get_attr("IFLA_MTU") or 0,
        arp_ignore=settings.get("arp_ignore", 0),
        arp_announce=settings.get("arp_announce", 0),
    )


def _address_from(message: Any) -> Address:
    times = message.get_attr("IFA_CACHEINFO") or {}
    valid = times.get("ifa_valid", _FOR_EVER_S)
    return Address(
        index=message["index"],
        address=message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"),
        prefix=message["prefixlen"],
        family=4 if message["family"] == socket.AF_INET else 6,
        flags=message.get_attr("IFA_FLAGS") or message["flags"],
        protocol=message.get_attr("IFA_PROTO") or 0,
        valid_lft_s=None if valid == _FOR_EVER_S else valid,
    )


def _widen(target: socket.socket) -> None:
    target.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER)
    target.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)


def _open_monitor() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    monitor = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        _widen(monitor)
        bpf.attach(monitor, bpf.kernel_change_filter(rtnl.LEASE_S))
        monitor.bind((0, _MULTICAST_GROUPS))
    except OSError:
        monitor.close()
        raise
    return monitor
