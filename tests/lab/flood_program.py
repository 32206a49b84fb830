"""Sends frames as fast as a virtual wire takes them: ``flood_program.py INTERFACE SECONDS``, a frame in hex on each line of its input.

The frames lie in a ring that the kernel reads: one copy and one system call send all of it. Prints what was sent and in how many seconds.
"""

import mmap
import socket
import struct
import sys
import time

SOL_PACKET, PACKET_VERSION, PACKET_TX_RING, PACKET_QDISC_BYPASS = 263, 10, 13, 20  # linux/socket.h, linux/if_packet.h
TPACKET_V2, SEND_REQUEST = 1, 1
SLOT, SLOTS, BLOCK = 2048, 256, 4096
HEADER = struct.Struct("=IIIHHIIHH4x")
"""tpacket2_hdr; the frame begins behind it."""


def image(frames: list[bytes]) -> bytes:
    """The ring full of frames that wait to be sent."""
    slots = []
    for number in range(SLOTS):
        frame = frames[number % len(frames)]
        slots.append((HEADER.pack(SEND_REQUEST, len(frame), 0, 0, 0, 0, 0, 0, 0) + frame).ljust(SLOT, b"\0"))
    return b"".join(slots)


def main() -> None:
    """Flood for so long."""
    interface, seconds = sys.argv[1], float(sys.argv[2])
    full = image([bytes.fromhex(line) for line in sys.stdin])
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        raw.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        raw.setsockopt(SOL_PACKET, PACKET_TX_RING, struct.pack("=IIII", BLOCK, SLOT * SLOTS // BLOCK, SLOT, SLOTS))
        raw.bind((interface, 0))
        ring = mmap.mmap(raw.fileno(), SLOT * SLOTS)
        print("ready", flush=True)
        began, sent = time.monotonic(), 0
        while (lasted := time.monotonic() - began) < seconds:
            ring[:] = full
            raw.send(b"")
            sent += SLOTS
        print(sent, round(lasted, 3), flush=True)


if __name__ == "__main__":
    main()
