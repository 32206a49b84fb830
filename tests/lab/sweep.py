"""Echo requests to many addresses in turn, for the question when each of them was first answered by whom."""

__all__ = ["Sweep"]

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from lab.namespace import wait_until
from lab.network import Host
from lab.prober_program import internet_checksum

ROUND_S = 0.01
"""Each address is asked a hundred times a second."""


class Sweep:
    """Asks every address each 10 ms from a thread of this process and notes the first answer of each TTL."""

    def __init__(self, client: Host, addresses: Sequence[str], interface: str) -> None:
        self._addresses = addresses
        self._socket = client.namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self._socket.setblocking(False)
        self._first: dict[int, dict[str, float]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        request = struct.pack("!BBHHH", 8, 0, 0, 0x4B43, 1)
        request = request[:2] + struct.pack("!H", internet_checksum(request)) + request[4:]
        while not self._stopping.is_set():
            due = time.monotonic() + ROUND_S
            for address in self._addresses:
                with contextlib.suppress(OSError):
                    self._socket.sendto(request, (address, 0))
            while (left := due - time.monotonic()) > 0:
                if select.select([self._socket], [], [], left)[0]:
                    self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self._socket.recv(128)
                if data[(data[0] & 15) * 4] == 0:
                    address = socket.inet_ntoa(data[12:16])
                    self._first.setdefault(data[8], {}).setdefault(address, time.monotonic())

    def first_answer(self, ttl: int) -> dict[str, float]:
        """When each address was first answered with this TTL (monotonic clock)."""
        return dict(self._first.get(ttl, {}))

    def wait_answered_by(self, ttl: int, timeout_s: float) -> None:
        """Until the host with this TTL has answered for every address."""
        wait_until(lambda: len(self.first_answer(ttl)) == len(self._addresses), timeout_s, f"every address is answered with TTL {ttl}")
