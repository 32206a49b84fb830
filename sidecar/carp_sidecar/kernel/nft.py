"""The nf_tables transactions of the gate, as bytes. Pure; ``transactions`` sends them.

Theory of operation
===================

An address that this host took is *claimed*: on the interface it answers on, and under a lease, which is a set element that ends
by itself after some milliseconds. As long as an address is claimed and its lease has ended, the kernel drops

- IP packets to it that come in by its interface, before connection tracking and so before any DNAT (a Service of kube-proxy);
- its own ARP and neighbour discovery in the name of the address, questions and answers.

Besides, what our own devices say of the multicast groups of IPv6: that they leave one, which the kernel says some milliseconds after
an address was removed and once more within a second, and that they are members, which it says at every renewal of a lifetime. Both
bear the virtual MAC, and the first takes the switch back from a successor. What is let pass is what a switch with MLD snooping
needs to know: that they join, shortly after an address was taken, and answers to its own questions.

What is not claimed is not looked at: a backup routes, translates and asks as if there were no gate, and so does a master for
its own processes and pods. Frames of packet sockets (adverts, announcements) pass by all of it.

An address that is being handed over is claimed once more, under a lease that never is: packets are answered until it is removed, but
to say where it is would be to take clients and switches back from the successor.

Groups of one advertisement interval share a lease: what it vouches for is that this process is on time. So a renewal costs the
same for one group as for hundreds. All leases are written at once, after emptying their sets: to add an element that exists does
not extend it, and to delete one that has ended fails.
"""

__all__ = ["LOWEST_LEASE_MS", "Claim", "Tables", "claim", "mute", "refusals"]

import hashlib
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from carp_sidecar.kernel.rtnl import DEVICE_PREFIX

_JOINING_MS = 1500  # the kernel says it twice, the second time within a second
LOWEST_LEASE_MS = 10  # one tick of the slowest kernel clock, HZ=100; what is rounded down to none would never end
_MUTE = 0  # the lease that never is; it concerns ARP and neighbour discovery alone
_ELEMENTS_AT_ONCE = 500  # of at most 80 bytes: their list is an attribute, of at most 64 KiB

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")

# linux/netlink.h, linux/netfilter/nfnetlink.h
_NLMSG_ERROR = 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_CREATE, _NLM_F_APPEND = 0x1, 0x4, 0x400, 0x800
_NESTED = 0x8000
_BATCH_BEGIN, _BATCH_END = 16, 17
_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES

# linux/netfilter.h, linux/netfilter_arp.h, linux/netfilter_ipv4.h
_INET, _ARP = 1, 3
_PRE_ROUTING, _LOCAL_OUT, _ARP_OUT = 0, 3, 1
_BEFORE_CONNTRACK = -300  # NF_IP_PRI_RAW: after defragmentation (-400), before connection tracking (-200) and DNAT (-100)

# linux/netfilter/nf_tables.h
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _NEWSET, _NEWELEMENT, _DELELEMENT = 0, 2, 3, 6, 9, 12, 14
_SET_TIMEOUT = 0x10
_META_PROTOCOL, _META_IIF, _META_OIF, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 1, 4, 5, 7, 15, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_VERDICT_REGISTER, _REGISTER, _ADDRESS_REGISTER = 0, 1, 9  # _ADDRESS_REGISTER: the second 4 bytes of _REGISTER and on
_EQUAL, _AT_MOST, _AT_LEAST = 0, 3, 5
_INVERTED = 1
_DROP = 0

# nftables' numbers of types, for "nft list" alone
_TYPE_IPV4, _TYPE_IPV6, _TYPE_ETHERTYPE, _TYPE_INTERFACE = 7, 8, 10, 20
_CONCATENATED = 6  # bits for each part of a type

_ARP_SOURCE = 14  # bytes into an ARP message for IPv4 over Ethernet (RFC 826)
_IPV4_DESTINATION, _IPV6_SOURCE, _IPV6_DESTINATION = 16, 8, 24
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136  # RFC 4861 4.3, 4.4
_LISTENER_REPORT, _FIRST_RECORD, _LEAVES, _JOINS = 143, 8, 3, 4  # RFC 3810 5.2; CHANGE_TO_INCLUDE_MODE and CHANGE_TO_EXCLUDE_MODE
_JOINING = "joining"
_ETHERTYPES = {_INET: (0x0800, 0x86DD), _ARP: (0x0806,)}
"""A lease is an element for each protocol it lets pass, for a rule must look something up."""


class Claim(NamedTuple):
    """An address that this host answers for on an interface, encoded; made by ``claim``."""

    lease_ms: int
    """Of which lease: the name of one is its full length."""
    version: int
    interface: int
    element: bytes


def claim(interface: int, address: IPv4Address | IPv6Address, lease_ms: int) -> Claim:
    """``interface`` is the index of the device that holds the address."""
    return Claim(lease_ms, address.version, interface, _element(struct.pack("=I", interface) + address.packed))


def mute(claimed: Claim) -> Claim:
    """The claim that lets this host say nothing any more about where the address is."""
    return claimed._replace(lease_ms=_MUTE)


def _attribute(kind: int, payload: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _nested(kind: int, *parts: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(parts))


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("!i", value))


def _message(kind: int, family: int, *attributes: bytes) -> bytes:
    body = struct.pack("=BBH", family, 0, 0) + b"".join(attributes)
    flags = _NLM_F_REQUEST | (_NLM_F_CREATE if kind not in (_DELTABLE, _DELELEMENT) else 0) | (_NLM_F_APPEND if kind == _NEWRULE else 0)
    return _HEADER.pack(_HEADER.size + len(body), _NFTABLES << 8 | kind, flags, 0, 0) + body


def _transaction(messages: Iterable[bytes]) -> bytes:
    """All or nothing. The last message is acknowledged, whatever fails is reported unasked."""
    brackets = [
        _HEADER.pack(_HEADER.size + 4, kind, _NLM_F_REQUEST, 0, 0) + struct.pack("!BBH", 0, 0, _NFTABLES)
        for kind in (_BATCH_BEGIN, _BATCH_END)
    ]
    parts = list(messages)
    length, kind, flags, sequence, port = _HEADER.unpack_from(parts[-1])
    parts[-1] = _HEADER.pack(length, kind, flags | _NLM_F_ACK, sequence, port) + parts[-1][_HEADER.size :]
    return b"".join([brackets[0], *parts, brackets[1]])


def refusals(data: bytes) -> Iterator[int]:
    """The errno of every answer in what the kernel sent; 0 is the acknowledgement."""
    place = 0
    while place + _HEADER.size + _ERRNO.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, place)
        if kind == _NLMSG_ERROR:
            yield -_ERRNO.unpack_from(data, place + _HEADER.size)[0]
        place += max(length + 3 & ~3, _HEADER.size)


class Tables:
    """Two tables of one name, for a set belongs to one family only: ``arp``, and ``inet`` for the rest.

    ``owner`` tells the sidecars of one host apart and is shown beside the table's name by ``nft list``.
    """

    def __init__(self, owner: str) -> None:
        self.name = f"kubecarp-{hashlib.sha256(owner.encode()).hexdigest()[:8]}"
        self._table = _text(1, self.name)
        note = owner.encode() + b"\0"
        self._note = _attribute(6, struct.pack("=BB", 0, len(note)) + note)
        self.remove = _transaction(self._remove())
        """The transaction that leaves nothing, whatever there is."""

    def build(self, claims: Sequence[Claim], leases_ms: Mapping[int, int], joining: Sequence[int] = ()) -> bytes:
        """Everything anew, whatever there is, without a moment in between. ``leases_ms``: by full length, what is left of it;
        ``joining``: devices whose addresses were just taken.
        """
        made = [self._message(_NEWTABLE, family, self._note) for family in (_INET, _ARP)]
        made += [*self._chains(), self._joining(), *self._quiet_membership()]
        for lease_ms in (_MUTE, *leases_ms):
            made += [*self._sets(lease_ms), *self._rules(lease_ms)]
        return _transaction([*self._remove(), *made, *self._claim(_NEWELEMENT, claims), *self._let_join(joining), *self._renew(leases_ms)])

    def renew(
        self,
        leases_ms: Mapping[int, int],
        claimed: Sequence[Claim] = (),
        released: Sequence[Claim] = (),
        joining: Sequence[int] = (),
    ) -> bytes:
        """These leases, all of which were built, each for so long from now; ``claimed`` must be new, ``released`` must be there."""
        changes = [*self._claim(_DELELEMENT, released), *self._claim(_NEWELEMENT, claimed), *self._let_join(joining)]
        return _transaction([*changes, *self._renew(leases_ms)])

    def _remove(self) -> list[bytes]:
        """A table that does not exist cannot be deleted, one that exists can be made."""
        return [self._message(kind, family) for family in (_INET, _ARP) for kind in (_NEWTABLE, _DELTABLE)]

    def _message(self, kind: int, family: int, *attributes: bytes) -> bytes:
        return _message(kind, family, self._table, *attributes)

    def _sets(self, lease_ms: int) -> Iterator[bytes]:
        for family, version, number in ((_INET, 4, 1), (_INET, 6, 2), (_ARP, 4, 1)):
            address_type, size = (_TYPE_IPV4, 4) if version == 4 else (_TYPE_IPV6, 16)
            key = _number(4, _TYPE_INTERFACE << _CONCATENATED | address_type) + _number(5, 4 + size)
            yield self._message(_NEWSET, family, _text(2, _claims(version, lease_ms)), _number(3, 0), key, _number(10, number))
        for family in (_INET, _ARP):
            key = _number(4, _TYPE_ETHERTYPE) + _number(5, 2)
            yield self._message(_NEWSET, family, _text(2, _lease(lease_ms)), _number(3, _SET_TIMEOUT), key, _number(10, 3))

    def _chains(self) -> Iterator[bytes]:
        places = (
            (_INET, "prerouting", _PRE_ROUTING, _BEFORE_CONNTRACK),
            (_INET, "output", _LOCAL_OUT, _BEFORE_CONNTRACK),
            (_ARP, "output", _ARP_OUT, 0),
        )
        for family, name, hook, priority in places:
            yield self._message(_NEWCHAIN, family, _text(3, name), _nested(4, _number(1, hook), _number(2, priority)), _text(7, "filter"))

    def _joining(self) -> bytes:
        """The set of devices that may say which groups they join."""
        key = _number(4, _TYPE_INTERFACE) + _number(5, 4)
        return self._message(_NEWSET, _INET, _text(2, _JOINING), _number(3, _SET_TIMEOUT), key, _number(10, 4))

    def _quiet_membership(self) -> Iterator[bytes]:
        report = _only(_load_meta(_META_OIFNAME), _EQUAL, DEVICE_PREFIX.encode()) + _icmpv6(_EQUAL, _LISTENER_REPORT)
        record = _load(_TRANSPORT_HEADER, _FIRST_RECORD, 1, _REGISTER)
        unasked = _load_meta(_META_OIF) + _expression("lookup", _text(1, _JOINING), _number(2, _REGISTER), _number(5, _INVERTED))
        for kind, when in ((_LEAVES, b""), (_JOINS, unasked)):
            rule = report + _only(record, _EQUAL, bytes([kind])) + when + _drop()
            yield self._message(_NEWRULE, _INET, _text(2, "output"), _nested(4, rule))

    def _let_join(self, interfaces: Sequence[int]) -> Iterator[bytes]:
        for start in range(0, len(interfaces), _ELEMENTS_AT_ONCE):
            elements = [_element(struct.pack("=I", one), _JOINING_MS) for one in interfaces[start : start + _ELEMENTS_AT_ONCE]]
            yield self._elements(_NEWELEMENT, _INET, _JOINING, elements)

    def _rules(self, lease_ms: int) -> Iterator[bytes]:
        iif, oif = _load_meta(_META_IIF), _load_meta(_META_OIF)
        ipv4, ipv6 = (_of_protocol(family) for family in (socket.AF_INET, socket.AF_INET6))
        discovery = _icmpv6(_AT_LEAST, _SOLICITATION) + _only(b"", _AT_MOST, bytes([_ADVERTISEMENT]))
        drop4, drop6 = (_drop_unless_leased(version, lease_ms) for version in (4, 6))
        where = (
            (_ARP, "output", oif + _load(_NETWORK_HEADER, _ARP_SOURCE, 4) + drop4),
            (_INET, "output", discovery + oif + _load(_NETWORK_HEADER, _IPV6_SOURCE, 16) + drop6),
        )
        packets = (
            (_INET, "prerouting", ipv4 + iif + _load(_NETWORK_HEADER, _IPV4_DESTINATION, 4) + drop4),
            (_INET, "prerouting", ipv6 + iif + _load(_NETWORK_HEADER, _IPV6_DESTINATION, 16) + drop6),
        )
        for family, chain, rule in where if lease_ms == _MUTE else (*where, *packets):
            yield self._message(_NEWRULE, family, _text(2, chain), _nested(4, rule))

    def _claim(self, kind: int, claims: Sequence[Claim]) -> Iterator[bytes]:
        for lease_ms, version in sorted({(one.lease_ms, one.version) for one in claims}):
            elements = [one.element for one in claims if (one.lease_ms, one.version) == (lease_ms, version)]
            for start in range(0, len(elements), _ELEMENTS_AT_ONCE):
                for family in (_INET, _ARP) if version == 4 else (_INET,):
                    yield self._elements(kind, family, _claims(version, lease_ms), elements[start : start + _ELEMENTS_AT_ONCE])

    def _renew(self, leases_ms: Mapping[int, int]) -> Iterator[bytes]:
        for lease_ms, left_ms in leases_ms.items():
            for family, ethertypes in _ETHERTYPES.items():
                yield self._message(_DELELEMENT, family, _text(2, _lease(lease_ms)))  # without a list: all of them
                if left_ms >= LOWEST_LEASE_MS:
                    elements = [_element(struct.pack("!H", ethertype), left_ms) for ethertype in ethertypes]
                    yield self._elements(_NEWELEMENT, family, _lease(lease_ms), elements)

    def _elements(self, kind: int, family: int, name: str, elements: Sequence[bytes]) -> bytes:
        return self._message(kind, family, _text(2, name), _nested(3, *elements))


def _claims(version: int, lease_ms: int) -> str:
    return f"claims{version}_{lease_ms}ms"


def _lease(lease_ms: int) -> str:
    return f"lease_{lease_ms}ms"


def _element(key: bytes, lasts_ms: int = 0) -> bytes:
    lasts = _attribute(4, struct.pack("!Q", lasts_ms)) if lasts_ms else b""
    return _nested(1, _nested(1, _attribute(1, key)), lasts)


def _expression(name: str, *attributes: bytes) -> bytes:
    return _nested(1, _text(1, name), _nested(2, *attributes))


def _load_meta(key: int) -> bytes:
    return _expression("meta", _number(1, _REGISTER), _number(2, key))


def _load(base: int, offset: int, size: int, register: int = _ADDRESS_REGISTER) -> bytes:
    return _expression("payload", _number(1, register), _number(2, base), _number(3, offset), _number(4, size))


def _only(load: bytes, comparison: int, data: bytes) -> bytes:
    """Go on only where the first bytes that ``load`` brings into the register compare so."""
    return load + _expression("cmp", _number(1, _REGISTER), _number(2, comparison), _nested(3, _attribute(1, data)))


def _of_protocol(family: int) -> bytes:
    return _only(_load_meta(_META_NFPROTO), _EQUAL, bytes([family]))


def _icmpv6(comparison: int, kind: int) -> bytes:
    """Go on only with ICMPv6 whose type compares so."""
    protocol = _only(_load_meta(_META_L4PROTO), _EQUAL, bytes([_ICMPV6]))
    return _of_protocol(socket.AF_INET6) + protocol + _only(_load(_TRANSPORT_HEADER, 0, 1, _REGISTER), comparison, bytes([kind]))


def _drop_unless_leased(version: int, lease_ms: int) -> bytes:
    expressions = (
        _expression("lookup", _text(1, _claims(version, lease_ms)), _number(2, _REGISTER)),
        _load_meta(_META_PROTOCOL),
        _expression("lookup", _text(1, _lease(lease_ms)), _number(2, _REGISTER), _number(5, _INVERTED)),
    )
    return b"".join(expressions) + _drop()


def _drop() -> bytes:
    return _expression("counter") + _expression("immediate", _number(1, _VERDICT_REGISTER), _nested(2, _nested(2, _number(1, _DROP))))
