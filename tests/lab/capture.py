"""A recorder on an interface of any namespace, and a reader of CARP frames that shares no code with the product.

Also puts frames back on a wire: recorded, altered or invented.
"""

__all__ = ["Capture", "CarpFrame", "Frame", "gratuitous_arp", "inject", "kernel_time_s", "parse_carp"]

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.namespace import LabError, Namespace

ETH_P_ALL, ETH_P_IPV4, ETH_P_ARP, ETH_P_IPV6 = 0x0003, 0x0800, 0x0806, 0x86DD
CARP_PROTOCOL = 112
CARP_HEADER = 36
CARP_AUTHLEN = 7
"""Byte 3 of a CARP header; in VRRP the count of addresses."""
ADVERT_KIND = 1
"""Second byte of the extension of Strict mode; other kinds are questions and answers."""
SO_TIMESTAMPNS = 35
NANOSECOND_PCAP = 0xA1B23C4D
SNAPLEN = 2048
LIMIT = 200_000
"""Frames kept; a test that needs more is wrong."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it passed the interface. ``outgoing``: sent by the recording namespace itself."""

    time_s: float
    interface: str
    outgoing: bool
    data: bytes

    @property
    def source_mac(self) -> str:
        return self.data[6:12].hex(":")

    @property
    def destination_mac(self) -> str:
        return self.data[:6].hex(":")

    @property
    def ethertype(self) -> int:
        return int.from_bytes(self.data[12:14], "big")


@dataclass(frozen=True, slots=True)
class CarpFrame:
    """A CARP advert, field by field."""

    frame: Frame
    source: str
    destination: str
    ttl: int
    vhid: int
    advskew: int
    demotion: int
    advbase: int
    counter: int
    digest: bytes
    extension: bytes

    @property
    def bow_out(self) -> bool:
        return (self.advbase, self.advskew) == (255, 255)

    @property
    def claims_mastership(self) -> bool:
        """An advert of a master: neither a bow-out nor one of the other kinds of packet of Strict mode."""
        return not self.bow_out and (not self.extension or self.extension[1] == ADVERT_KIND)


def parse_carp(frame: Frame) -> CarpFrame | None:
    """The advert in a frame; None when it is something else, VRRP included."""
    data = frame.data
    if frame.ethertype == ETH_P_IPV4 and data[23] == CARP_PROTOCOL:
        begin = 14 + (data[14] & 15) * 4
        end = 14 + int.from_bytes(data[16:18], "big")
        source, destination, ttl = data[26:30], data[30:34], data[22]
    elif frame.ethertype == ETH_P_IPV6 and data[20] == CARP_PROTOCOL:
        begin, end = 54, 54 + int.from_bytes(data[18:20], "big")
        source, destination, ttl = data[22:38], data[38:54], data[21]
    else:
        return None
    body = data[begin:end]
    if len(body) < CARP_HEADER or body[0] >> 4 != 2 or body[3] != CARP_AUTHLEN:
        return None
    return CarpFrame(
        frame=frame,
        source=str(ip_address(source)),
        destination=str(ip_address(destination)),
        ttl=ttl,
        vhid=body[1],
        advskew=body[2],
        demotion=body[4],
        advbase=body[5],
        counter=int.from_bytes(body[8:16], "big"),
        digest=body[16:36],
        extension=body[36:],
    )


def kernel_time_s(said: Sequence[tuple[int, int, bytes]]) -> float:
    """When a frame passed its interface, on the monotonic clock: the kernel tells it on the other one. The reader may be late."""
    for level, kind, data in said:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = map(int, struct.unpack("@qq", data[:16]))
            return time.monotonic() - max(0.0, time.time() - seconds - nanoseconds / 1e9)
    return time.monotonic()


class Capture:
    """Records everything on an interface from construction until ``stop``; ``interface`` None: all of them."""

    def __init__(self, namespace: Namespace, interface: str | None = None) -> None:
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if interface is not None:
            self._socket.bind((interface, ETH_P_ALL))
        self._socket.setblocking(False)
        self._interface = interface
        self._frames: list[Frame] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._record, name=f"capture-{namespace.name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End recording; what was recorded stays."""
        self._stopping.set()
        self._thread.join()
        self._socket.close()

    def _record(self) -> None:
        while not self._stopping.is_set():
            select.select([self._socket], [], [], 0.05)
            with contextlib.suppress(BlockingIOError):
                while len(self._frames) < LIMIT:
                    data, said, _, (interface, _, kind, *_) = self._socket.recvmsg(SNAPLEN, 64)
                    self._frames.append(Frame(kernel_time_s(said), interface, kind == socket.PACKET_OUTGOING, data))

    def frames(self, since_s: float = 0.0) -> list[Frame]:
        """Frames so far, those after a moment of the monotonic clock."""
        return [frame for frame in list(self._frames) if frame.time_s >= since_s]

    def adverts(self, since_s: float = 0.0, vhid: int | None = None) -> list[CarpFrame]:
        """CARP adverts so far."""
        found = (parse_carp(frame) for frame in self.frames(since_s))
        return [advert for advert in found if advert is not None and vhid in (None, advert.vhid)]

    def wait_for_advert(self, wanted: Callable[[CarpFrame], bool] = lambda _: True, timeout_s: float = 10.0) -> CarpFrame:
        """The first advert after this call that satisfies ``wanted``."""
        called, deadline, seen = time.monotonic(), time.monotonic() + timeout_s, len(self._frames)
        while time.monotonic() < deadline:
            fresh = self._frames[seen:]
            seen += len(fresh)
            for frame in fresh:
                advert = parse_carp(frame) if frame.time_s >= called else None
                if advert is not None and wanted(advert):
                    return advert
            time.sleep(0.005)
        raise LabError(f"no such advert on {self._interface} within {timeout_s:g} s; {len(self._frames)} frames seen")

    def write_pcap(self, path: Path) -> None:
        """Everything recorded, for tcpdump -T carp or Wireshark."""
        offset = time.time() - time.monotonic()
        with path.open("wb") as out:
            out.write(struct.pack("=IHHiIII", NANOSECOND_PCAP, 2, 4, 0, 0, SNAPLEN, 1))
            for frame in self.frames():
                seconds, rest = divmod(frame.time_s + offset, 1)
                out.write(struct.pack("=IIII", int(seconds), int(rest * 1e9), len(frame.data), len(frame.data)) + frame.data)


def inject(namespace: Namespace, interface: str, frames: Iterable[bytes]) -> None:
    """Send whole Ethernet frames, as they are."""
    with contextlib.closing(namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) as raw:
        raw.bind((interface, 0))
        for frame in frames:
            raw.send(frame)


def gratuitous_arp(address: str, mac: str) -> bytes:
    """A broadcast ARP request by which ``mac`` claims ``address``."""
    sender, ip = bytes.fromhex(mac.replace(":", "")), ip_address(address).packed
    return b"\xff" * 6 + sender + struct.pack("!HHHBBH6s4s6s4s", ETH_P_ARP, 1, ETH_P_IPV4, 6, 4, 1, sender, ip, bytes(6), ip)
