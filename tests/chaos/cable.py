"""A cable with a bad temper between a host and its switch: it delays, reorders and duplicates frames. Needs no qdisc of the kernel."""

__all__ = ["Cable"]

import contextlib
import heapq
import random
import select
import socket
import threading
import time
from collections.abc import Callable

from lab.network import Host, Lab

SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23  # linux/socket.h, linux/if_packet.h
ETH_P_ALL = 0x0003
FRAME = 65_600  # bytes: the header of virtio and the largest packet that segmentation offload makes of a frame

Copies = Callable[[], list[float]]
"""Delays in seconds of the copies of one frame that arrive."""


class Cable:
    """From construction to ``close``; checksums that the sender left to its card travel as they are."""

    def __init__(self, lab: Lab, host: Host, copies: Copies) -> None:
        self._lab, self._port, self._copies = lab, host.port(), copies
        self._ends = (f"cable{host.number}a", f"cable{host.number}b")
        near, far = self._ends
        lab.switch.ip(
            f"link add {near} type veth peer name {far}",
            f"link set {far} master {self._port.segment.bridge} up",
            f"link set {near} up",
            f"link set {self._port.device} nomaster",
        )
        self._sockets = [self._open(self._port.device), self._open(near)]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cable", daemon=True)
        self._thread.start()

    @classmethod
    def delaying(cls, lab: Lab, host: Host, delay_s: float, jitter_s: float = 0.0, twice: float = 0.0) -> "Cable":
        """``jitter_s`` reorders; ``twice`` is the share of frames that arrive two times."""
        draw = random.Random(0)

        def copies() -> list[float]:
            return [delay_s + draw.uniform(0, jitter_s) for _ in range(2 if draw.random() < twice else 1)]

        return cls(lab, host, copies)

    def close(self) -> None:
        """The plain cable again."""
        self._stopping.set()
        self._thread.join()
        for one in self._sockets:
            one.close()
        self._lab.switch.ip(f"link set {self._port.device} master {self._port.segment.bridge}", f"link del {self._ends[0]}")

    def _open(self, device: str) -> socket.socket:
        opened = self._lab.switch.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        opened.bind((device, ETH_P_ALL))
        opened.setblocking(False)
        return opened

    def _run(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        count = 0
        while not self._stopping.is_set():
            left = waiting[0][0] - time.monotonic() if waiting else 0.05
            for ready in select.select(self._sockets, [], [], max(0.0, min(left, 0.05)))[0]:
                with contextlib.suppress(OSError):
                    while True:
                        frame = ready.recv(FRAME)
                        for delay_s in self._copies():
                            count += 1
                            heapq.heappush(waiting, (time.monotonic() + delay_s, count, 1 - self._sockets.index(ready), frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, way, frame = heapq.heappop(waiting)
                with contextlib.suppress(OSError):
                    self._sockets[way].send(frame)
