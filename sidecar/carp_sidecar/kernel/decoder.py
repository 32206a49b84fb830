"""Decodes what rtnetlink reports about links and addresses. The only module that knows pyroute2.

``import pyroute2`` loads 160 modules: 0.1 s and 13 MB (measured, 0.9.7), most of a sidecar's start and a third of its
memory. The message classes need 25 of them: 0.02 s and 2 MB. So the package is entered by its search path, without its
``__init__``.

They take 0.4 ms for a link and 0.07 ms for an address (measured), and a node has hundreds. So what nobody asks for, counters above
all, is cut out of a message first, and what is left is decoded once as long as its device is there: the same bytes mean the same link.
"""

__all__ = ["Decoder"]

import importlib.util
import socket
import struct
import sys
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from carp_sidecar.kernel.links import Address, Link

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NO_PARTS: frozenset[int] = frozenset()
_LINK_ATTRIBUTES = {1: _NO_PARTS, 3: _NO_PARTS, 5: _NO_PARTS, 18: frozenset({1}), 20: _NO_PARTS, 26: frozenset({2})}
"""IFLA_ADDRESS, IFNAME, LINK, LINKINFO with INFO_KIND, IFALIAS, AF_SPEC with AF_INET."""
_ADDRESS_ATTRIBUTES = {1: _NO_PARTS, 2: _NO_PARTS, 8: _NO_PARTS, 11: _NO_PARTS}
"""IFA_ADDRESS, LOCAL, FLAGS, PROTO."""
_TYPE_MASK = 0x3FFF
_INDEX = struct.Struct("=I")
_INDEX_PLACE = _HEADER.size + 4
"""Of the device, in messages of both kinds."""
_KNOWN = 2048
"""Messages of one device whose meaning is remembered: each of 255 groups may have some addresses on it, which come and go."""
_DUMP_REQUEST = 0x1 | 0x300  # NLM_F_REQUEST | NLM_F_DUMP
_GETLINK, _GETADDR = 18, 22  # linux/rtnetlink.h
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_DUMP_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_ATTEMPTS = 5
"""On a node where pods come and go without a pause the fifth list, of some milliseconds, has to do."""
_LINK_BODY, _ADDRESS_BODY = bytes(16) + struct.pack("=HHI", 8, 29, 8), bytes(8)  # AF_UNSPEC: all; RTEXT_FILTER_SKIP_STATS
_READ_SIZE = 1 << 18
_TIMEOUT_S = 2.0
_IFF_UP, _IFF_RUNNING, _IFF_LOWER_UP = 0x1, 0x40, 0x10000

T = TypeVar("T")


class Decoder:
    """Loads the message classes; construct it in the thread that may wait for that. Raises ImportError."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("pyroute2")
        if spec is None:
            raise ImportError("pyroute2 is not installed")
        bare = types.ModuleType("pyroute2")
        bare.__path__ = list(spec.submodule_search_locations or ())
        loaded = sys.modules.setdefault("pyroute2", bare)
        try:
            from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
            from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        finally:
            if loaded is bare:  # whoever wants the whole package later shall get it
                del sys.modules["pyroute2"]
        self._link: Any = ifinfmsg
        self._address: Any = ifaddrmsg
        self._links = _Meanings(self._decode_link)
        self._addresses = _Meanings(self._decode_address)

    def dump(self) -> tuple[list[Link], list[Address]]:
        """Every link and address of this network namespace; raises OSError.

        A list in whose middle something changed may lack what did not: then both are asked for again, a few times.
        """
        links, addresses = _Listed(), _Listed()
        for _ in range(_ATTEMPTS):
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
                kernel.settimeout(_TIMEOUT_S)
                links, addresses = _dump(kernel, _GETLINK, _LINK_BODY), _dump(kernel, _GETADDR, _ADDRESS_BODY)
            if links.whole and addresses.whole:
                break
        found = [self.link(message) for message in links.messages]
        here = {link.index for link in found}
        self._links.keep(here)
        self._addresses.keep(here)
        return found, [self.address(message) for message in addresses.messages]

    def link(self, data: bytes) -> Link:
        """The link in one RTM_NEWLINK message."""
        body = data[_HEADER.size : _HEADER.size + 12] + bytes(4)  # not ifi_change
        return self._links.of(_message(data, body + _only(data, _HEADER.size + 16, len(data), _LINK_ATTRIBUTES)))

    def address(self, data: bytes) -> Address:
        """The address in one RTM_NEWADDR or RTM_DELADDR message."""
        place = _HEADER.size + 8
        return self._addresses.of(_message(data, data[_HEADER.size : place] + _only(data, place, len(data), _ADDRESS_ATTRIBUTES)))

    def forget(self, index: int) -> None:
        """The device has gone, and its index does not come back."""
        self._links.forget(index)
        self._addresses.forget(index)

    def _decode_link(self, data: bytes) -> Link:
        message = self._link(data)
        message.decode()
        settings = message.get_nested("IFLA_AF_SPEC", "AF_INET") or {}
        flags = message["flags"]
        return Link(
            index=message["index"],
            name=message.get_attr("IFLA_IFNAME"),
            mac=message.get_attr("IFLA_ADDRESS") or "",
            up=bool(flags & _IFF_UP),
            running=flags & (wanted := _IFF_UP | _IFF_RUNNING | _IFF_LOWER_UP) == wanted,
            kind=message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
            alias=message.get_attr("IFLA_IFALIAS") or "",
            parent=message.get_attr("IFLA_LINK"),
            arp_ignore=settings.get("arp_ignore", 0),
            arp_announce=settings.get("arp_announce", 0),
        )

    def _decode_address(self, data: bytes) -> Address:
        message = self._address(data)
        message.decode()
        return Address(
            index=message["index"],
            address=message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"),
            prefix=message["prefixlen"],
            family=4 if message["family"] == socket.AF_INET else 6,
            flags=message.get_attr("IFA_FLAGS") or message["flags"],
            protocol=message.get_attr("IFA_PROTO") or 0,
        )


class _Meanings(Generic[T]):
    """What messages mean, by device. Two threads ask: each step is one of a dictionary, and the worst of a race is to decode again."""

    def __init__(self, decode: Callable[[bytes], T]) -> None:
        self._decode = decode
        self._known: dict[int, dict[bytes, T]] = {}

    def of(self, message: bytes) -> T:
        (index,) = _INDEX.unpack_from(message, _INDEX_PLACE)
        known = self._known.setdefault(index, {})
        meaning = known.get(message)
        if meaning is None:
            if len(known) >= _KNOWN:
                known.clear()
            meaning = known[message] = self._decode(message)
        return meaning

    def forget(self, index: int) -> None:
        self._known.pop(index, None)

    def keep(self, indices: Collection[int]) -> None:
        """Forget all other devices: that they went may have been said while nobody could listen, or while they were being listed."""
        for index in self._known.keys() - indices:
            self.forget(index)


def _message(data: bytes, body: bytes) -> bytes:
    """``body`` as a message of the same type as ``data``, and without its sequence number and addressee."""
    _, kind, *_ = _HEADER.unpack_from(data)
    return _HEADER.pack(_HEADER.size + len(body), kind, 0, 0, 0) + body


def _only(data: bytes, place: int, end: int, wanted: Mapping[int, frozenset[int]]) -> bytes:
    """The attributes between ``place`` and ``end`` that are wanted, and of nested ones the parts that are."""
    kept = []
    while place + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, place)
        if length < _ATTRIBUTE.size:
            break
        parts = wanted.get(kind & _TYPE_MASK)
        if parts:
            content = _only(data, place + _ATTRIBUTE.size, place + length, dict.fromkeys(parts, _NO_PARTS))
            kept.append(_ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), kind) + content)
        elif parts is not None:
            kept.append(data[place : place + length] + bytes(-length % 4))
        place += length + 3 & ~3
    return b"".join(kept)


class _Listed(NamedTuple):
    """One dump; ``whole`` unless the kernel says that something changed meanwhile."""

    messages: Sequence[bytes] = ()
    whole: bool = True


def _dump(kernel: socket.socket, kind: int, body: bytes) -> _Listed:
    """Raises OSError if the kernel refuses, breaks off or falls silent."""
    kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, _DUMP_REQUEST, kind, 0) + body)
    messages: list[bytes] = []
    whole = True
    while True:
        data = kernel.recv(_READ_SIZE)
        place = 0
        while place + _HEADER.size <= len(data):
            length, reported, flags, _, _ = _HEADER.unpack_from(data, place)
            whole = whole and not flags & _DUMP_INTERRUPTED
            if reported in (_NLMSG_ERROR, _NLMSG_DONE):
                (negative,) = struct.unpack_from("=i", data, place + _HEADER.size)
                if negative or reported == _NLMSG_ERROR:
                    raise OSError(-negative, "the kernel did not list all its links or addresses")
                return _Listed(messages, whole)
            messages.append(data[place : place + length])
            place += (length + 3) & ~3
