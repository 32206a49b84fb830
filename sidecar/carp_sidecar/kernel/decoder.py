"""Decodes what rtnetlink reports about links and addresses. The only module that knows pyroute2.

``import pyroute2`` loads 160 modules: 0.1 s and 13 MB (measured, 0.9.7), most of a sidecar's start and a third of its
memory. The message classes need 25 of them: 0.02 s and 2 MB. So the package is entered by its search path, without its
``__init__``.
"""

__all__ = ["Decoder"]

import importlib.util
import socket
import struct
import sys
import types
from collections.abc import Iterator
from typing import Any

from carp_sidecar.kernel.links import Address, Link

_HEADER = struct.Struct("=IHHII")
_DUMP_REQUEST = 0x1 | 0x300  # NLM_F_REQUEST | NLM_F_DUMP
_GETLINK, _GETADDR = 18, 22  # linux/rtnetlink.h
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_LINK_BODY, _ADDRESS_BODY = bytes(16), bytes(8)  # AF_UNSPEC: all
_READ_SIZE = 1 << 18
_TIMEOUT_S = 2.0
_IFF_UP, _IFF_RUNNING, _IFF_LOWER_UP = 0x1, 0x40, 0x10000
_FOR_EVER_S = 0xFFFF_FFFF


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

    def dump(self) -> tuple[list[Link], list[Address]]:
        """Every link and address of this network namespace; raises OSError."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
            kernel.settimeout(_TIMEOUT_S)
            links = [self.link(message) for message in _dump(kernel, _GETLINK, _LINK_BODY)]
            return links, [self.address(message) for message in _dump(kernel, _GETADDR, _ADDRESS_BODY)]

    def link(self, data: bytes) -> Link:
        """The link in one RTM_NEWLINK message."""
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

    def address(self, data: bytes) -> Address:
        """The address in one RTM_NEWADDR or RTM_DELADDR message."""
        message = self._address(data)
        message.decode()
        times = message.get_attr("IFA_CACHEINFO") or {}
        valid = times.get("ifa_valid", _FOR_EVER_S)
        return Address(
            index=message["index"],
            address=message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"),
            prefix=message["prefixlen"],
            family=4 if message["family"] == socket.AF_INET else 6,
            flags=message.get_attr("IFA_FLAGS") or message["flags"],
            protocol=message.get_attr("IFA_PROTO") or 0,
            valid_lft_s=None if valid == _FOR_EVER_S else valid,
        )


def _dump(kernel: socket.socket, kind: int, body: bytes) -> Iterator[bytes]:
    """The messages of one dump; raises OSError if the kernel refuses or falls silent."""
    kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, _DUMP_REQUEST, kind, 0) + body)
    while True:
        data = kernel.recv(_READ_SIZE)
        place = 0
        while place + _HEADER.size <= len(data):
            length, reported, _, _, _ = _HEADER.unpack_from(data, place)
            if reported == _NLMSG_DONE:
                return
            if reported == _NLMSG_ERROR:
                (negative,) = struct.unpack_from("=i", data, place + _HEADER.size)
                raise OSError(-negative, "the kernel refused to list its links or addresses")
            yield data[place : place + length]
            place += (length + 3) & ~3
