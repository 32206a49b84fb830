"""Classic BPF: the socket filters of the sidecar and how they are attached. Knows offsets, not what packets mean.

A program is written as (label, code, operand, if true, if false) and assembled here; falling through needs no label.
"""

__all__ = ["MATCHED_ADDRESSES", "advert_filter", "attach", "claim_filter", "drop_all", "kernel_change_filter"]

import array
import socket
import struct
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from itertools import accumulate
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
_JUMP = 0x05
_EQUAL = 0x15
_EQUAL_X = 0x1D
_ANY_BIT = 0x45
_RETURN = 0x06
_A_TO_X = 0x07
_NETLINK_ATTRIBUTE = 0xFFFFF000 + 12  # SKF_AD_OFF + SKF_AD_NLATTR: A = offset of the attribute of type X at or after A
_VLAN_TAG = 0xFFFFF000 + 44  # SKF_AD_OFF + SKF_AD_VLAN_TAG

_WHOLE_FRAME = 0xFFFF  # bytes to keep: no IP packet is longer
MATCHED_ADDRESSES = 64
"""What a filter compares with: 9 instructions for each of IPv6, of which a kernel grants a socket about 2000 (net.core.optmem_max)."""


_INSTRUCTION = struct.Struct("=HBBI")
_REACH = 255  # instructions that a conditional jump passes at most


class _Step(NamedTuple):
    label: str
    code: int
    operand: int
    if_true: str = ""
    if_false: str = ""


def _assemble(steps: list[_Step]) -> bytes:
    """Conditional jumps that must go further than they reach lead to unconditional ones right behind them."""
    far: set[int] = set()
    while True:
        starts = list(accumulate((3 if number in far else 1 for number in range(len(steps))), initial=0))
        places = {step.label: start for step, start in zip(steps, starts, strict=False) if step.label}
        beyond = {number for number, step in enumerate(steps) if _furthest(step, starts[number], places) > _REACH} - far
        if not beyond:
            return b"".join(_encode(step, starts[number], places, number in far) for number, step in enumerate(steps))
        far |= beyond


def _furthest(step: _Step, start: int, places: Mapping[str, int]) -> int:
    if step.code == _JUMP:
        return 0
    return max(places[label] - start - 1 if label else 0 for label in (step.if_true, step.if_false))


def _encode(step: _Step, start: int, places: Mapping[str, int], far: bool) -> bytes:
    if step.code == _JUMP:
        return _encode_jump(places[step.if_true] - start - 1)
    if not far:
        near = (places[label] - start - 1 if label else 0 for label in (step.if_true, step.if_false))
        return _INSTRUCTION.pack(step.code, *near, step.operand)
    following = start + 3
    choice = _INSTRUCTION.pack(step.code, 0 if step.if_true else 2, 1 if step.if_false else 2, step.operand)
    jumps = ((step.if_true, start + 1), (step.if_false, start + 2))
    return choice + b"".join(_encode_jump((places[label] if label else following) - here - 1) for label, here in jumps)


def _encode_jump(distance: int) -> bytes:
    return _INSTRUCTION.pack(_JUMP, 0, 0, distance)


def _as_loaded(layout: str, value: int) -> int:
    """What a BPF load, always big-endian, makes of a number in host order."""
    return int.from_bytes(struct.pack(layout, value), "big")


def _untagged() -> list[_Step]:
    """Drop what belongs to a VLAN; VLAN 0 only carries a priority and is ours."""
    return [_Step("", _LD_WORD, _VLAN_TAG), _Step("", _ANY_BIT, 0x0FFF, "drop"), _Step("", _LD_HALF, 12)]


def _verdicts() -> list[_Step]:
    return [_Step("keep", _RETURN, _WHOLE_FRAME), _Step("drop", _RETURN, 0)]


def _branch(place: int, version: int, addresses: Collection[str], found: str, missing: str) -> list[_Step]:
    """Go to ``found`` if one of the addresses of this family is at ``place`` of the frame, else to ``missing``."""
    steps: list[_Step] = []
    packed = [address.packed for address in map(ip_address, addresses) if address.version == version]
    for number, address in enumerate(packed):
        following = f"{version}/{number + 1}"
        for word in range(0, len(address), 4):
            label = f"{version}/{number}" if word == 0 else ""
            steps.append(_Step(label, _LD_WORD, place + word))
            steps.append(_Step("", _EQUAL, int.from_bytes(address[word : word + 4], "big"), "", following))
        steps.append(_Step("", _JUMP, 0, found))
    return [*steps, _Step(f"{version}/{len(packed)}", _JUMP, 0, missing)]


def advert_filter(sources: Collection[str], *, among: bool) -> bytes:
    """Lets pass, untagged or priority-tagged only, protocol 112: what comes from one of ``sources``, or (not ``among``) from any other."""
    found, missing = ("keep", "drop") if among else ("drop", "keep")
    return _assemble(
        [
            *_untagged(),
            _Step("", _EQUAL, 0x0800, "ipv4"),
            _Step("", _EQUAL, 0x86DD, "", "neither"),
            _Step("", _LD_BYTE, 20),
            _Step("", _EQUAL, 112, "ipv6"),
            _Step("neither", _RETURN, 0),
            _Step("ipv4", _LD_BYTE, 23),
            _Step("", _EQUAL, 112, "", "later"),
            _Step("", _LD_HALF, 20),
            _Step("", _ANY_BIT, 0x1FFF, "", "first"),  # a later fragment holds no header
            _Step("later", _RETURN, 0),
            *_labelled("first", _branch(26, 4, sources, found, missing)),
            *_labelled("ipv6", _branch(22, 6, sources, found, missing)),
            *_verdicts(),
        ]
    )


def claim_filter(mac: bytes, addresses: Collection[str]) -> bytes:
    """Lets pass, untagged or priority-tagged only: ARP replies and neighbour advertisements to ``mac``, and claims of ``addresses``.

    A claim is an ARP packet whose sender has the address, or a neighbour advertisement of it. Of more than MATCHED_ADDRESSES
    addresses, every reply and advertisement passes.
    """
    many = len(addresses) > MATCHED_ADDRESSES
    high, low = int.from_bytes(mac[:4], "big"), int.from_bytes(mac[4:], "big")
    return _assemble(
        [
            *_untagged(),
            _Step("", _EQUAL, 0x0806, "arp"),
            _Step("", _EQUAL, 0x86DD, "", "neither"),
            _Step("", _LD_BYTE, 20),
            _Step("", _EQUAL, 58, "", "neither"),
            _Step("", _LD_BYTE, 54),
            _Step("", _EQUAL, 136, "advertisement"),
            _Step("neither", _RETURN, 0),
            _Step("arp", _LD_HALF, 20),
            _Step("", _EQUAL, 2, "reply", "ipv4"),
            *_addressed("reply", high, low, "ipv4", many=many),
            *_labelled("ipv4", _branch(28, 4, () if many else addresses, "keep", "drop")),
            *_addressed("advertisement", high, low, "ipv6", many=many),
            *_labelled("ipv6", _branch(62, 6, () if many else addresses, "keep", "drop")),
            *_verdicts(),
        ]
    )


def _addressed(label: str, high: int, low: int, otherwise: str, *, many: bool) -> list[_Step]:
    """Keep what is addressed to this MAC, or everything."""
    if many:
        return [_Step(label, _RETURN, _WHOLE_FRAME)]
    return [
        _Step(label, _LD_WORD, 0),
        _Step("", _EQUAL, high, "", otherwise),
        _Step("", _LD_HALF, 4),
        _Step("", _EQUAL, low, "", otherwise),
        _Step("", _RETURN, _WHOLE_FRAME),
    ]


def _labelled(label: str, steps: list[_Step]) -> list[_Step]:
    """The steps, which begin at ``label``."""
    return [_Step(label, _JUMP, 0, steps[0].label), *steps]


def kernel_change_filter(*lifetimes_s: int) -> bytes:
    """Lets rtnetlink notifications pass, but for bridge ports and renewals of an address with such a lifetime.

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
            *(_Step("", _EQUAL, _as_loaded("=I", one), "times") for one in lifetimes_s[:-1]),
            _Step("", _EQUAL, _as_loaded("=I", lifetimes_s[-1]), "times", "keep"),
            _Step("times", _LD_WORD_X, 12),
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
