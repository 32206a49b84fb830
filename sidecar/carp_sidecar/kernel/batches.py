"""Batches of encoded requests: the queue in which they wait for the netlink thread, and the socket they leave by.

Urgent batches go first, all that wait in one send. Lazy ones are carried out request by request in between. Knows of a
request only whether it sets a device up or down (``rtnl``).
"""

__all__ = ["Batch", "BatchQueue", "Channel", "Done", "Task", "carry_out", "carry_out_one"]

import errno
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from carp_sidecar.kernel import rtnl
from carp_sidecar.kernel.buffers import Room, widen

QUEUE_LIMIT = 8192  # batches: 16 for each of 512 groups; more is a kernel that stopped answering
SEND_LIMIT = 2048  # requests in one send: if all fail, their answers (768 bytes of accounting each) fit RECEIVE_BUFFER
ANSWER_TIMEOUT_S = 2  # whole seconds: the slowest request, a link down, takes 0.06 s under load
IDLE_S = 60.0  # a wait needs an end; nothing happens at it
SEND_BUFFER = 1 << 20  # bytes: SEND_LIMIT requests of 100 bytes must be one message
RECEIVE_BUFFER = 4 << 20  # bytes
READ_SIZE = 1 << 16  # bytes: the kernel fills at most 32 KiB

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10  # acknowledgements without a copy of the request

Done = Callable[[list[int]], None]


class Task(Enum):
    """What the thread may have to do besides batches."""

    DUMP = "dump"
    STOP = "stop"


@dataclass(slots=True, eq=False)
class Batch:
    """Requests that belong together; ``errnos`` grows as they are carried out."""

    requests: Sequence[bytes]
    done: Done | None = None
    expires: float | None = None
    errnos: list[int] = field(default_factory=list)
    cancelled: set[int] = field(default_factory=set)
    """Positions of requests that an urgent batch made wrong."""

    @property
    def expired(self) -> bool:
        """Whether it is too late to begin it."""
        return self.expires is not None and time.monotonic() > self.expires


class BatchQueue:
    """What waits for the thread: filled by the loop, emptied by the thread."""

    def __init__(self) -> None:
        self._urgent: deque[Batch] = deque()
        self._lazy: deque[Batch] = deque()
        self._downs: dict[int, tuple[Batch, int]] = {}
        """Where in a lazy batch a device is to be set down."""
        self._dump = False
        self._stop = False
        self._changed = threading.Condition()

    def put(self, batch: Batch, *, urgent: bool) -> bool:
        """Queues a batch; False if the queue is full."""
        with self._changed:
            if len(self._urgent) + len(self._lazy) >= QUEUE_LIMIT:
                return False
            if urgent:
                self._cancel_downs(map(rtnl.link_brought_up, batch.requests))
                self._urgent.append(batch)
            else:
                self._lazy.append(batch)
                self._note_downs(batch)
            self._changed.notify()
            return True

    def ask_for_dump(self) -> None:
        """A dump is wanted, before any lazy request."""
        with self._changed:
            self._dump = True
            self._changed.notify()

    def stop(self) -> None:
        """No more will come: ``next`` returns STOP once all is done."""
        with self._changed:
            self._stop = True
            self._changed.notify()

    def _cancel_downs(self, indexes: Iterable[int | None]) -> None:
        for index in indexes:
            batch, position = self._downs.pop(index, (None, 0)) if index is not None else (None, 0)
            if batch is not None:
                batch.cancelled.add(position)

    def _note_downs(self, batch: Batch) -> None:
        for position, request in enumerate(batch.requests):
            self._cancel_downs([rtnl.link_removed(request)])  # a device that goes need not go down first
            index = rtnl.link_brought_down(request)
            if index is not None:
                self._cancel_downs([index])
                self._downs[index] = (batch, position)

    def next(self) -> list[Batch] | Task | Batch:
        """Waits, then: urgent batches for one send, or DUMP, or a lazy batch of which one request is due, or STOP."""
        with self._changed:
            while not (self._urgent or self._dump or self._lazy or self._stop):
                self._changed.wait(IDLE_S)
            if self._urgent:
                return self._take_some()
            if self._dump:
                self._dump = False
                return Task.DUMP
            return self._lazy[0] if self._lazy else Task.STOP

    def _take_some(self) -> list[Batch]:
        batches: list[Batch] = []
        count = 0
        while self._urgent and (not batches or count + len(self._urgent[0].requests) <= SEND_LIMIT):
            batches.append(self._urgent.popleft())
            count += len(batches[-1].requests)
        return batches

    def begin_lazy(self, batch: Batch) -> bytes | None:
        """The next request of the first lazy batch, from now on beyond recall; None if it was cancelled."""
        with self._changed:
            position = len(batch.errnos)
            if position in batch.cancelled:
                return None
            request = batch.requests[position]
            index = rtnl.link_brought_down(request)
            if index is not None:
                self._downs.pop(index, None)
            return request

    def end_lazy(self, batch: Batch) -> bool:
        """Whether that was its last request; then it leaves the queue."""
        if len(batch.errnos) < len(batch.requests):
            return False
        with self._changed:
            self._lazy.popleft()
        return True


def carry_out(channel: "Channel", batches: list[Batch]) -> None:
    """All batches in one send, but for those that come too late."""
    alive = []
    for batch in batches:
        if batch.expired:
            batch.errnos = [errno.ETIME] * len(batch.requests)
        else:
            alive.append(batch)
    answers = channel.exchange([request for batch in alive for request in batch.requests])
    place = 0
    for batch in alive:
        end = place + len(batch.requests)
        batch.errnos, place = answers[place:end], end


def carry_out_one(channel: "Channel", queue: BatchQueue, batch: Batch) -> bool:
    """The next request of a lazy batch; whether the batch is complete."""
    request = queue.begin_lazy(batch)
    if request is None:
        batch.errnos.append(errno.ECANCELED)
    elif batch.expired:
        batch.errnos.append(errno.ETIME)
    else:
        batch.errnos += channel.exchange([request])
    return queue.end_lazy(batch)


class Channel:
    """The socket on which requests are sent and acknowledged."""

    def __init__(self) -> None:
        self._room = Room(READ_SIZE)
        self._socket = self._open()

    def _open(self) -> socket.socket:
        channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        channel.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        widen(channel, receive=RECEIVE_BUFFER, send=SEND_BUFFER)
        # The kernel's own timeout: Python's would add a poll to each read, and to hundreds if all requests fail.
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", ANSWER_TIMEOUT_S, 0))
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
        errnos: dict[int, int] = {}
        last = len(requests) - 1
        unanswered = 0  # without a word about them, those before the last succeeded
        try:
            self._socket.sendto(rtnl.numbered(requests), (0, 0))
            while last not in errnos:
                data, sender = self._room.receive_from(self._socket)
                if sender[0] == 0:
                    errnos |= rtnl.acknowledgements(data)
        except OSError as error:
            unanswered = errno.ETIMEDOUT if error.errno == errno.EAGAIN else error.errno or errno.EIO
            # A late acknowledgement must not be taken for that of a later request.
            self._socket.close()
            self._socket = self._open()
        return [errnos.get(place, unanswered) for place in range(len(requests))]
