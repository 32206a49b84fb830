"""The kernel's links and addresses: a snapshot kept current, and batches of requests carried out by one thread.

Requests come encoded (``rtnl``) and take effect inside ``send``, where the interpreter lock is free: hence the thread. What
the kernel reports is for ``decoder`` to read. Knows no group and no state.
"""

__all__ = ["Netlink", "NetlinkFailed"]

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from carp_protocol.errors import CarpError
from carp_sidecar.kernel import bpf, rtnl
from carp_sidecar.kernel.batches import (
    ANSWER_TIMEOUT_S,
    QUEUE_LIMIT,
    READ_SIZE,
    RECEIVE_BUFFER,
    Batch,
    BatchQueue,
    Channel,
    Done,
    Task,
    carry_out,
    carry_out_one,
)
from carp_sidecar.kernel.buffers import Room, widen
from carp_sidecar.kernel.decoder import Decoder
from carp_sidecar.kernel.links import Address, Change, Link, Links

log = logging.getLogger(__name__)

START_TIMEOUT_S = 10.0  # loading the decoder (0.02 s) and two dumps, on a starved machine
JOIN_TIMEOUT_S = 3.0  # longer than one answer may take
DISCARD_LIMIT = 10_000  # notifications: twice as many as RECEIVE_BUFFER holds
DRAIN_LIMIT = 64  # notifications for each turn of the loop, some 0.1 ms each

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


def _ignore(_: Change) -> None:
    """Until somebody listens."""


class NetlinkFailed(CarpError):
    """The kernel could not be asked at all."""


class Netlink:
    """One per process. All methods are for the loop's thread; every callback runs there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_change: Callable[[Change], None] | None = None) -> None:
        self.snapshot = Links()
        """Links and addresses, a live view: valid once ``start`` returned."""
        self.on_change: Callable[[Change], None] = on_change or _ignore
        self._loop = loop
        self._queue = BatchQueue()
        self._gathered: list[tuple[Batch, bool]] = []
        """Batches of this turn of the loop, and whether they are urgent."""
        self._dumped: list[asyncio.Future[None]] = []
        self._dumping = False
        self._started = False
        """The first dump is no news."""
        self._held_back: list[list[Batch]] = []
        """Lazy batches that end during a dump: the snapshot cannot show their effect before its end."""
        self._monitor: socket.socket | None = None
        self._room = Room(READ_SIZE)
        self._decoder: Decoder
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
        if not self._dumping:  # else one more would be under way when that one ends, and undo what is reported in between
            self._ask_for_dump()
        await asyncio.wait_for(waiting, timeout_s)

    def submit(self, batch: Sequence[bytes], done: Done | None = None, *, urgent: bool = True, expires: float | None = None) -> None:
        """Has a batch of encoded requests carried out in order; ``done`` gets one errno for each, 0 being success.

        Urgent batches go first and all of one turn of the loop share one send. Lazy ones (anything that sets a link down or removes
        it) are carried out request by request in between, and when ``done`` is called the snapshot shows their effect.
        A waiting lazy "down" is dropped with ECANCELED when an urgent batch sets the same link up or a lazy one removes it.
        A batch not begun at ``expires`` (loop time) is not carried out: ETIME. A full queue answers ENOBUFS.
        """
        if not batch:
            if done is not None:
                self._loop.call_soon(done, [])
            return
        self._gathered.append((Batch(batch, done, expires), urgent))
        if len(self._gathered) == 1:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Give the thread all batches of a turn at once: else it would send them one by one, and take the lock from us for each."""
        gathered, self._gathered = self._gathered, []
        for batch, urgent in gathered:
            if not self._queue.put(batch, urgent=urgent):
                log.error("the kernel has not answered %d netlink batches: a change was not made", QUEUE_LIMIT)
                if batch.done is not None:
                    self._loop.call_soon(batch.done, [errno.ENOBUFS] * len(batch.requests))

    def close(self) -> None:
        """Carries out what waits, then ends the thread, waiting for at most JOIN_TIMEOUT_S."""
        self._hand_over()
        self._queue.stop()
        if self._thread.ident is not None:
            self._thread.join(JOIN_TIMEOUT_S)
        if self._monitor is not None:
            self._loop.remove_reader(self._monitor)
            self._monitor.close()
            self._monitor = None
        for waiting in self._dumped:
            waiting.cancel()

    def _ask_for_dump(self) -> None:
        # Unread until the dump is in: a notification applied before an older dump would be undone by it.
        self._dumping = True
        if self._monitor is not None:
            self._loop.remove_reader(self._monitor)
        self._queue.ask_for_dump()

    def _take_dump(self, links: list[Link], addresses: list[Address]) -> None:
        self._end_dump(None)
        changes = self.snapshot.replace(links, addresses)
        if self._started:
            for change in changes:
                self.on_change(change)
        self._started = True

    def _end_dump(self, failure: str | None) -> None:
        if self._monitor is not None:
            self._loop.add_reader(self._monitor, self._read_notifications)
        self._dumping = False
        for batches in self._held_back:
            self._loop.call_soon(self._deliver, batches, True)
        self._held_back = []
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

    def _deliver(self, batches: list[Batch], lazy: bool) -> None:
        if lazy and self._dumping:
            self._held_back.append(batches)
            return
        while lazy and self._read_notifications():
            pass
        for batch in batches:
            if batch.done is not None:
                self._loop.call_soon(batch.done, batch.errnos)

    def _read_notifications(self) -> bool:
        """Handles what the kernel reported; True if there may be more."""
        if self._monitor is None:
            return False
        for _ in range(DRAIN_LIMIT):
            try:
                data, sender = self._room.receive_from(self._monitor)
            except BlockingIOError:
                return False
            except OSError as error:
                log.info("notifications of the kernel were lost (%s): links and addresses are read anew", error.strerror)
                self._discard_notifications()
                self._ask_for_dump()
                return False
            if sender[0] != 0:  # any process may send to us; only port 0 is the kernel
                continue
            for change in self._changes(data):
                self.on_change(change)
        return True

    def _discard_notifications(self) -> None:
        """Empties the socket: until then the kernel drops further notifications without another error."""
        for _ in range(DISCARD_LIMIT):
            try:
                if self._monitor is not None:
                    self._room.receive(self._monitor)
            except BlockingIOError:
                return
            except OSError as error:
                log.debug("notifications of the kernel were lost (%s)", error.strerror)

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
            self._decoder.forget(index)
            return self.snapshot.drop_link(index)
        if kind != _NEWLINK:
            return None
        known = self.snapshot.get(index)
        if known is not None and known.alias.startswith(rtnl.ALIAS_PREFIX):
            # Our own devices change nothing but flags, hundreds of them at a takeover; decoding takes 0.2 ms each.
            return self.snapshot.put_link(replace(known, up=_is_up(flags), running=_is_running(flags)))
        return self.snapshot.put_link(self._decoder.link(message))

    def _run(self) -> None:
        try:
            self._decoder = Decoder()
            channel = Channel()
        except (ImportError, OSError) as error:
            self._tell(self._end_dump, f"netlink cannot be used: {error}")
            return
        while (due := self._queue.next()) is not Task.STOP:
            if isinstance(due, list):
                carry_out(channel, due)
                self._tell(self._deliver, due, False)
            elif isinstance(due, Batch):
                if carry_out_one(channel, self._queue, due):
                    self._tell(self._deliver, [due], True)
            else:
                self._dump()
        channel.close()

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


def _is_up(flags: int) -> bool:
    return bool(flags & _IFF_UP)


def _is_running(flags: int) -> bool:
    wanted = _IFF_UP | _IFF_RUNNING | _IFF_LOWER_UP
    return flags & wanted == wanted


def _open_monitor() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    monitor = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        widen(monitor, receive=RECEIVE_BUFFER)
        bpf.attach(monitor, bpf.kernel_change_filter(rtnl.LEASE_S, rtnl.KEPT_S))
        monitor.bind((0, _MULTICAST_GROUPS))
    except OSError:
        monitor.close()
        raise
    return monitor
