"""What somebody on the network can do without the key: alter, invent, replay, flood. Takes adverts off the wire, as anybody could."""

__all__ = ["Flood", "altered", "forged", "overheard", "refitted", "sum_of"]

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.capture import Capture
from lab.namespace import COMMAND_TIMEOUT_S
from lab.network import Host

PROGRAM = Path(__file__).with_name("flood_program.py")
IPV4_HEADER = 34
"""Bytes of Ethernet and IPv4 before an advert."""
CHECKSUM_AT, DIGEST_AT, HEADER_LENGTH = 6, 16, 36


def overheard(host: Host, vhid: int = 1, timeout_s: float = 15.0) -> bytes:
    """The next advert of a master, as a frame."""
    with Capture(host.namespace, host.port().interface) as wire:
        return wire.wait_for_advert(lambda advert: advert.vhid == vhid and advert.claims_mastership, timeout_s).frame.data


def sum_of(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071)."""
    total = sum(int.from_bytes(data[place : place + 2].ljust(2, b"\0"), "big") for place in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def altered(frame: bytes, changes: dict[int, bytes], *, length: int | None = None) -> bytes:
    """Other bytes at places of the CARP header, cut or filled to ``length``; the checksum is right."""
    packet = bytearray(frame[IPV4_HEADER:])
    for place, data in changes.items():
        packet[place : place + len(data)] = data
    if length is not None:
        packet = packet[:length].ljust(length, b"\0")
    if CHECKSUM_AT not in changes:
        packet[CHECKSUM_AT : CHECKSUM_AT + 2] = bytes(2)
        packet[CHECKSUM_AT : CHECKSUM_AT + 2] = sum_of(bytes(packet))
    return refitted(frame[:IPV4_HEADER] + bytes(packet))


def refitted(frame: bytes, changes: dict[int, bytes] | None = None) -> bytes:
    """Other bytes at places of the Ethernet or IPv4 header; length and checksum are right."""
    whole = bytearray(frame)
    for place, data in (changes or {}).items():
        whole[place : place + len(data)] = data
    whole[16:18] = (len(whole) - 14).to_bytes(2, "big")
    whole[24:26] = bytes(2)
    whole[24:26] = sum_of(bytes(whole[14:IPV4_HEADER]))
    return bytes(whole)


def forged(frame: bytes, count: int) -> list[bytes]:
    """Adverts that are right but for the digest, which is noise."""
    return [altered(frame, {DIGEST_AT: os.urandom(HEADER_LENGTH - DIGEST_AT)}) for _ in range(count)]


class Flood:
    """Sends these frames from ``host``, over and over, as fast as one processor can; runs from the beginning of the block to its end."""

    def __init__(self, host: Host, frames: Sequence[bytes], seconds: float) -> None:
        argv = [sys.executable, str(PROGRAM), host.port().interface, str(seconds)]
        self._process = subprocess.Popen(host.namespace.command(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._seconds = seconds
        self._frames = frames
        self.sent, self.lasted_s = 0, 0.0

    def __enter__(self) -> Self:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n".join(frame.hex() for frame in self._frames))
        self._process.stdin.close()
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdout is not None
        if error:
            self._process.kill()
        with self._process.stdout as said:
            words = said.read().split()
        self._process.wait(self._seconds + COMMAND_TIMEOUT_S)
        if not error:
            self.sent, self.lasted_s = int(words[0]), float(words[1])

    @property
    def rate_per_s(self) -> float:
        """What was sent each second."""
        return self.sent / self.lasted_s

    @property
    def running(self) -> bool:
        return self._process.poll() is None
