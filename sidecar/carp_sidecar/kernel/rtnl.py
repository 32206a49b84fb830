"""rtnetlink requests as bytes, encoded once and sent often, and what their acknowledgements say. Pure.

Written by hand because a library takes 0.25 ms for each address where the kernel needs 5 microseconds, and because the
per-device settings of IFLA_AF_SPEC have no encoder elsewhere.
"""

__all__ = [
    "ALIAS_PREFIX",
    "DEVICE_PREFIX",
    "KEPT_S",
    "LEASE_S",
    "PROTOCOL_CARP",
    "Sysctl",
    "acknowledgements",
    "encode_address_add",
    "encode_address_del",
    "encode_device_sysctls",
    "encode_link_del",
    "encode_link_down",
    "encode_link_up",
    "encode_macvlan_adopt",
    "encode_macvlan_create",
    "link_brought_down",
    "link_brought_up",
    "link_removed",
    "numbered",
    "remaining_errno",
]

import errno
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

ALIAS_PREFIX = "kubecarp:"  # IFALIAS of every device of ours starts with it
DEVICE_PREFIX = "carp"  # and its name with this
LEASE_S = 2  # the kernel counts whole seconds and takes up to one more to act; 1 would expire between two renewals
KEPT_S = 10
"""Where the gate silences a host that hangs. Longer than its lease at most intervals, or a family would end before the other, whose answers
draw the packets of both; and few renewals, for the kernel tells the segment of IPv6 memberships at each of them."""
PROTOCOL_CARP = 112  # IFA_PROTO of our addresses: whose they are, for people (ip address show proto) and for the sweep

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")
_FLAGS_AND_SEQUENCE = struct.Struct("=HI")

# linux/netlink.h, linux/rtnetlink.h
_NLMSG_ERROR = 2
_NEWLINK = 16
_DELLINK = 17
_NEWADDR = 20
_DELADDR = 21
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_REPLACE = 0x100
_EXCLUSIVE = 0x200
_CREATE = 0x400
_NESTED = 0x8000
_IFF_UP = 1
_GONE_ALREADY = frozenset((errno.EADDRNOTAVAIL, errno.ENODEV))

# linux/if_addr.h
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_CACHEINFO = 6
_IFA_FLAGS = 8
_IFA_PROTO = 11  # ignored by kernels before 5.18
_IFA_F_NODAD = 0x02
_IFA_F_NOPREFIXROUTE = 0x200

# linux/if_link.h
_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_LINK = 5
_IFLA_TXQLEN = 13
_IFLA_LINKINFO = 18
_IFLA_IFALIAS = 20
_IFLA_AF_SPEC = 26
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_IFLA_MACVLAN_MODE = 1
_MACVLAN_MODE_BRIDGE = 4
_MACVLAN_QUEUE = 999  # not the default 1000: a macvlan has no queue, but only a change of this reports the alias of a down device
_IFLA_INET_CONF = 1
_IFLA_INET6_ADDR_GEN_MODE = 8
_ADDR_GEN_NONE = 1


class Sysctl(IntEnum):
    """Per-device IPv4 settings by their number in linux/ip.h; the name is that under /proc/sys/net/ipv4/conf."""

    RP_FILTER = 8
    ARP_ANNOUNCE = 18
    ARP_IGNORE = 19


def _attribute(kind: int, payload: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK | flags, 0, 0) + body


def _address_body(index: int, address: IPv4Address | IPv6Address) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    header = _ADDRESS.pack(family, address.max_prefixlen, 0, 0, index)
    return header + _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)


def encode_address_add(index: int, ip: IPv4Interface | IPv6Interface, lease_s: int = LEASE_S) -> bytes:
    """Adds or renews ``ip`` as a host address that ends by itself; the same bytes take and renew."""
    address = ip.ip
    flags = _IFA_F_NOPREFIXROUTE | (_IFA_F_NODAD if address.version == 6 else 0)
    body = (
        _address_body(index, address)
        + _attribute(_IFA_FLAGS, struct.pack("=I", flags))
        + _attribute(_IFA_CACHEINFO, struct.pack("=IIII", 0, lease_s, 0, 0))  # preferred 0: never chosen as a source
        + _attribute(_IFA_PROTO, struct.pack("=B", PROTOCOL_CARP))
    )
    return _message(_NEWADDR, _REPLACE | _CREATE, body)


def encode_address_del(index: int, ip: IPv4Interface | IPv6Interface) -> bytes:
    """Removes what ``encode_address_add`` added."""
    return _message(_DELADDR, 0, _address_body(index, ip.ip))


def encode_link_up(index: int) -> bytes:
    """Sets a device up."""
    return _message(_NEWLINK, 0, _LINK.pack(0, 0, index, _IFF_UP, _IFF_UP))


def encode_link_down(index: int) -> bytes:
    """Sets a device down: some 15 ms in the kernel, never on a path that must stay on time."""
    return _message(_NEWLINK, 0, _LINK.pack(0, 0, index, 0, _IFF_UP))


def encode_link_del(index: int) -> bytes:
    """Removes a device: some 15 ms in the kernel."""
    return _message(_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0))


def encode_macvlan_create(parent: int, name: str, mac: str) -> bytes:
    """Creates a macvlan in bridge mode, down; ``encode_macvlan_adopt`` must follow in the same batch.

    In private mode an up macvlan swallows every broadcast of another host with its MAC, adverts included.
    """
    mode = _attribute(_IFLA_MACVLAN_MODE, struct.pack("=I", _MACVLAN_MODE_BRIDGE))
    info = _attribute(_IFLA_INFO_KIND, b"macvlan\0") + _attribute(_IFLA_INFO_DATA | _NESTED, mode)
    body = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + _attribute(_IFLA_LINK, struct.pack("=I", parent))
        + _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
        + _attribute(_IFLA_LINKINFO | _NESTED, info)
    )
    return _message(_NEWLINK, _CREATE | _EXCLUSIVE, body)


def encode_macvlan_adopt(name: str, alias: str) -> bytes:
    """Marks a device, found by its name, as ours and makes it answer only for its own addresses.

    Apart from the creation because the kernel ignores alias and IFLA_AF_SPEC there; no IPv6 address of its own.
    """
    settings = {Sysctl.ARP_IGNORE: 1, Sysctl.ARP_ANNOUNCE: 2, Sysctl.RP_FILTER: 2}
    no_address = _attribute(_IFLA_INET6_ADDR_GEN_MODE, struct.pack("=B", _ADDR_GEN_NONE))
    families = _inet_settings(settings) + _attribute(socket.AF_INET6 | _NESTED, no_address)
    body = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + _attribute(_IFLA_IFALIAS, alias.encode())
        + _attribute(_IFLA_TXQLEN, struct.pack("=I", _MACVLAN_QUEUE))
        + _attribute(_IFLA_AF_SPEC | _NESTED, families)
    )
    return _message(_NEWLINK, 0, body)


def _inet_settings(settings: Mapping[Sysctl, int]) -> bytes:
    values = b"".join(_attribute(key, struct.pack("=I", value)) for key, value in settings.items())
    return _attribute(socket.AF_INET | _NESTED, _attribute(_IFLA_INET_CONF | _NESTED, values))


def encode_device_sysctls(index: int, settings: Mapping[Sysctl, int]) -> bytes:
    """Sets IPv4 settings of one device; needs NET_ADMIN but no writable /proc/sys."""
    return _message(_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + _attribute(_IFLA_AF_SPEC | _NESTED, _inet_settings(settings)))


def _link_switched(message: bytes, up: int) -> int | None:
    if _HEADER.unpack_from(message)[1] != _NEWLINK:
        return None
    _, _, index, flags, change = _LINK.unpack_from(message, _HEADER.size)
    return int(index) if change & _IFF_UP and flags & _IFF_UP == up else None


def link_brought_up(message: bytes) -> int | None:
    """The device that a request sets up."""
    return _link_switched(message, _IFF_UP)


def link_brought_down(message: bytes) -> int | None:
    """The device that a request sets down."""
    return _link_switched(message, 0)


def link_removed(message: bytes) -> int | None:
    """The device that a request removes."""
    removes = _HEADER.unpack_from(message)[1] == _DELLINK
    return int(_LINK.unpack_from(message, _HEADER.size)[2]) if removes else None


def numbered(requests: Sequence[bytes]) -> bytearray:
    """Requests as one message, each with its place as sequence number; only the last asks for an acknowledgement.

    The kernel carries them out in order and reports what fails unasked, so that one answers for all: each costs it a buffer
    and us a system call.
    """
    message = bytearray().join(requests)
    place = 0
    for number, request in enumerate(requests):
        flags = _HEADER.unpack_from(request)[2]
        if number < len(requests) - 1:
            flags &= ~_NLM_F_ACK
        _FLAGS_AND_SEQUENCE.pack_into(message, place + 6, flags, number)
        place += len(request)
    return message


def acknowledgements(data: bytes) -> Iterator[tuple[int, int]]:
    """The sequence number and errno of every acknowledgement in what the kernel sent; 0 is success."""
    place = 0
    while place + _HEADER.size + 4 <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, place)
        if kind == _NLMSG_ERROR:
            yield sequence, -_ERRNO.unpack_from(data, place + _HEADER.size)[0]
        place += max(length + 3 & ~3, _HEADER.size)


def remaining_errno(request: bytes, error: int) -> int:
    """What is left of an errno once the wish counts: an address that exists was added, one that is missing removed."""
    kind = _HEADER.unpack_from(request)[1]
    if kind == _NEWADDR and error == errno.EEXIST:
        return 0
    if error in _GONE_ALREADY and (kind in (_DELADDR, _DELLINK) or link_brought_down(request) is not None):
        return 0
    return error
