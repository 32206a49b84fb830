"""Classic BPF: the socket filters of the sidecar and how they are attached. Knows offsets, not what packets mean.

A program is written as (label, code, operand, if true, if false) and assembled here; falling through needs no label.
"""

__all__ = ["attach", "carp_filter", "drop_all", "kernel_change_filter"]

import array
import socket
import struct
from typing import NamedTuple

SO_ATTACH_FILTER = 26  # asm-generic/socket.h; the socket module does not name it

# linux/filter.h and linux/bpf_common.h
_LD_IMM = 0x00
_LD_WORD = 0x20
_LD_HALF = 0x28
_LD_BYTE = 0x30
_LD_WORD_X = 0x40
_LDX_IMM = 0x01
_LDX_MEM = 0x61
_STORE = 0x02
_EQUAL = 0x15
_EQUAL_X = 0x1D
_ANY_BIT = 0x45
_RETURN = 0x06
_A_TO_X = 0x07
_NETLINK_ATTRIBUTE = 0xFFFFF000 + 12  # SKF_AD_OFF + SKF_AD_NLATTR: A = offset of the attribute of type X at or after A
_VLAN_TAG = 0xFFFFF000 + 44  # SKF_AD_OFF + SKF_AD_VLAN_TAG

_WHOLE_FRAME = 0xFFFF  # bytes to keep: no IP packet is longer


class _Step(NamedTuple):
    label: str
    code: int
    operand: int
    if_true: str = ""
    if_false: str = ""


def _assemble(steps: list[_Step]) -> bytes:
    places = {step.label: number for number, step in enumerate(steps) if step.label}

    def distance(number: int, label: str) -> int:
        return places[label] - number - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", step.code, distance(number, step.if_true), distance(number, step.if_false), step.operand)
        for number, step in enumerate(steps)
    )


def _as_loaded(layout: str, value: int) -> int:
    """What a BPF load, always big-endian, makes of a number in host order."""
    return int.from_bytes(struct.pack(layout, value), "big")


def carp_filter() -> bytes:
    """Lets pass, untagged or priority-tagged only: protocol 112, ARP replies and neighbour advertisements."""
    return _assemble(
        [
            _Step("", _LD_WORD, _VLAN_TAG),
            _Step("", _ANY_BIT, 0x0FFF, "drop"),  # VLAN 0 only carries a priority and is ours
            _Step("", _LD_HALF, 12),
            _Step("", _EQUAL, 0x0800, "ipv4"),
            _Step("", _EQUAL, 0x86DD, "ipv6"),
            _Step("", _EQUAL, 0x0806, "arp", "drop"),
            _Step("arp", _LD_HALF, 20),
            _Step("", _EQUAL, 2, "keep", "drop"),
            _Step("ipv4", _LD_BYTE, 23),
            _Step("", _EQUAL, 112, "", "drop"),
            _Step("", _LD_HALF, 20),
            _Step("", _ANY_BIT, 0x1FFF, "drop", "keep"),  # a later fragment holds no header
            _Step("ipv6", _LD_BYTE, 20),
            _Step("", _EQUAL, 112, "keep"),
            _Step("", _EQUAL, 58, "", "drop"),
            _Step("", _LD_BYTE, 54),
            _Step("", _EQUAL, 136, "keep", "drop"),
            _Step("keep", _RETURN, _WHOLE_FRAME),
            _Step("drop", _RETURN, 0),
        ]
    )


def kernel_change_filter(lease_s: int) -> bytes:
    """Lets rtnetlink notifications pass, but for bridge ports and renewals of a ``lease_s`` address.

    A renewal is told from the first add by its times of creation and of change: 255 addresses renewed twice a
    second must not wake anybody.
    """
    return _assemble(
        [
            _Step("", _LD_HALF, 4),
            _Step("", _EQUAL, _as_loaded("=H", 20), "address"),  # RTM_NEWADDR
            _Step("", _EQUAL, _as_loaded("=H", 21), "keep"),  # RTM_DELADDR
            _Step("", _EQUAL, _as_loaded("=H", 16), "link"),  # RTM_NEWLINK
            _Step("", _EQUAL, _as_loaded("=H", 17), "link", "drop"),  # RTM_DELLINK
            _Step("link", _LD_BYTE, 16),
            _Step("", _EQUAL, socket.AF_UNSPEC, "keep", "drop"),  # AF_BRIDGE: a port joins or leaves a bridge
            _Step("address", _LDX_IMM, 6),  # IFA_CACHEINFO: preferred, valid, created, changed
            _Step("", _LD_IMM, 24),
            _Step("", _LD_WORD, _NETLINK_ATTRIBUTE),
            _Step("", _EQUAL, 0, "keep"),
            _Step("", _A_TO_X, 0),
            _Step("", _LD_WORD_X, 8),
            _Step("", _EQUAL, _as_loaded("=I", lease_s), "", "keep"),
            _Step("", _LD_WORD_X, 12),
            _Step("", _STORE, 0),
            _Step("", _LD_WORD_X, 16),
            _Step("", _LDX_MEM, 0),
            _Step("", _EQUAL_X, 0, "keep", "drop"),
            _Step("keep", _RETURN, _WHOLE_FRAME),
            _Step("drop", _RETURN, 0),
        ]
    )


def drop_all() -> bytes:
    """Lets nothing pass: for sockets that only send."""
    return _assemble([_Step("", _RETURN, 0)])


def attach(target: socket.socket, program: bytes) -> None:
    """Attaches a program; the kernel copies it."""
    instructions = array.array("B", program)
    address, length = instructions.buffer_info()
    target.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", length // 8, address))
