"""Sends nf_tables transactions (``nft``) from a thread of their own.

The kernel carries one out within ``send``, and any other on the host waits for it: kube-proxy changing thousands of rules must
delay neither an advert nor an address.
"""

__all__ = ["Transactions"]

import asyncio
import contextlib
import errno
import queue
import socket
import threading
import time
from collections.abc import Callable

from carp_sidecar.kernel import nft
from carp_sidecar.kernel.buffers import widen

SEND_BUFFER = 1 << 21  # bytes: 255 groups of 32 addresses, 60 bytes each in two tables
JOIN_TIMEOUT_S = 3.0  # for a kernel that is busy with the rules of another
_READ_SIZE = 1 << 12  # bytes: an answer is an errno
_NETLINK_NETFILTER = 12  # linux/netlink.h
_SOL_NETLINK, _NETLINK_CAP_ACK = 270, 10  # acknowledgements without a copy of the request

Done = Callable[[int], None]
_Job = tuple[bytes, Done, float | None]


class Transactions:
    """For the loop's thread; ``done`` is called there, with 0 or the first errno of the kernel."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="netfilter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, transaction: bytes, done: Done, *, expires: float | None = None) -> None:
        """Has it carried out, in order; one that was not begun at ``expires`` (loop time) is not: ETIME."""
        self._jobs.put((transaction, done, expires))

    def close(self) -> None:
        """Carries out what waits, then ends the thread."""
        self._jobs.put(None)
        if self._thread.ident is not None:
            self._thread.join(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        kernel: socket.socket | None = None
        while job := self._jobs.get():
            transaction, done, expires = job
            try:
                if kernel is None:
                    kernel = _open()
                number = errno.ETIME if expires is not None and time.monotonic() > expires else _exchange(kernel, transaction)
            except OSError as error:
                number = error.errno or errno.EIO
                if kernel is not None:
                    kernel.close()
                kernel = None
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody is left to tell
                self._loop.call_soon_threadsafe(done, number)
        if kernel is not None:
            kernel.close()


def _open() -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    kernel.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    widen(kernel, send=SEND_BUFFER, receive=SEND_BUFFER)  # if all is refused, each message is answered
    kernel.bind((0, 0))
    return kernel


def _exchange(kernel: socket.socket, transaction: bytes) -> int:
    """All answers are there when ``send`` returns."""
    kernel.sendto(transaction, (0, 0))
    answered, refusal = False, 0
    with contextlib.suppress(BlockingIOError):
        while True:
            for number in nft.refusals(kernel.recv(_READ_SIZE, socket.MSG_DONTWAIT)):
                answered, refusal = True, refusal or number
    return refusal if answered else errno.EPROTO
