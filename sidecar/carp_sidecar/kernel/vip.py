"""A group's device and addresses: what the kernel should hold and the encoded requests that bring it there. Pure.

Nothing here is sent: ``Netlink.submit`` does that. ``take``, ``renew`` and ``drop`` only move bytes that exist already.
"""

__all__ = [
    "AddressPlan",
    "Missing",
    "Sweep",
    "choose_interface",
    "device_name",
    "held",
    "moves",
    "own_source",
    "own_subnets",
    "plan_addresses",
    "refusal",
    "sweep",
]

import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface

from carp_protocol.config import GroupConfig
from carp_protocol.timing import timing_of
from carp_sidecar.kernel import rtnl
from carp_sidecar.kernel.links import Address, Link, Links
from carp_sidecar.kernel.marks import ArpSettings, Mark, owner
from carp_sidecar.kernel.nft import Claim, claim

_VIRTUAL_MACS = "00:00:5e:00:01:"
_LOOPBACK_MAC = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Missing:
    """No interface can be used now; ``reason`` is a sentence for status and log."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPlan:
    """The requests of one group on one device; made anew when the group, its parent or its device changes."""

    group: str
    parent: int
    """Index of the interface adverts travel on."""
    device: int | None
    """Index of the device that holds the addresses; None until the macvlan was made (``create``, ``adopt``)."""
    device_name: str
    mac: str
    """The MAC that answers for the addresses: announcements carry it."""
    addresses: tuple[str, ...]
    """Without prefix length, in the order of the configuration."""
    create: tuple[bytes, ...]
    """Lazy, at start: makes the macvlan, down. Empty if there is one or none is wanted."""
    adopt: tuple[bytes, ...]
    """Lazy, only once ``create`` has succeeded: marks the macvlan, found by its name. Empty if it is ours already."""
    take: tuple[bytes, ...]
    """Urgent, one send: device up, addresses added."""
    renew: tuple[bytes, ...]
    """Urgent: extends the lifetime of every address."""
    keep: tuple[bytes, ...]
    """Urgent: the same, for longer."""
    drop: tuple[bytes, ...]
    """Urgent: removes the addresses."""
    rest: tuple[bytes, ...]
    """Lazy, after ``drop``: sets the macvlan down."""
    remove: tuple[bytes, ...]
    """Lazy, when the group goes: removes the macvlan."""
    claims: tuple[Claim, ...]
    """What the gate knows the addresses by."""
    gated: bool
    """Whether it lets them pass only as long as this member is punctual."""


def device_name(vhid: int, parent: int) -> str:
    """The name of the macvlan: cut to the 15 bytes the kernel takes."""
    return f"{rtnl.DEVICE_PREFIX}{vhid}-{parent}"[:15]


def plan_addresses(group: GroupConfig, parent: Link, snapshot: Links, mark: Mark) -> AddressPlan:
    """The plan of a group on ``parent``, using its macvlan if the snapshot shows that ours exists."""
    name = device_name(group.vhid, parent.index) if group.virtual_mac else parent.name
    mac = group.virtual_mac_address if group.virtual_mac else parent.mac
    device: int | None = parent.index
    create: tuple[bytes, ...] = ()
    adopt: tuple[bytes, ...] = ()
    if group.virtual_mac:
        found = snapshot.named(name)
        device = found.index if found is not None and _fits(found, parent, mac, mark) else None
        if device is None:
            adopt = (rtnl.encode_macvlan_adopt(name, mark.alias),)
        if device is None and not (found is not None and _is_unmarked(found, parent, mac)):
            create = (rtnl.encode_macvlan_create(parent.index, name, mac),)
    add: tuple[bytes, ...] = ()
    keep: tuple[bytes, ...] = ()
    drop: tuple[bytes, ...] = ()
    claims: tuple[Claim, ...] = ()
    own_device = device if group.virtual_mac else None
    if device is not None:
        lease_ms = round(timing_of(group).lease_s() * 1000)
        claims = tuple(claim(device, ip.ip, lease_ms) for ip in group.addresses)
        add = tuple(rtnl.encode_address_add(device, ip) for ip in group.addresses)
        keep = tuple(rtnl.encode_address_add(device, ip, rtnl.KEPT_S) for ip in group.addresses)
        drop = tuple(rtnl.encode_address_del(device, ip) for ip in group.addresses)
    return AddressPlan(
        group=group.name,
        parent=parent.index,
        device=device,
        device_name=name,
        mac=mac,
        addresses=tuple(str(ip.ip) for ip in group.addresses),
        create=create,
        adopt=adopt,
        take=(() if own_device is None else (rtnl.encode_link_up(own_device),)) + add,
        renew=add,
        keep=keep,
        drop=drop,
        rest=() if own_device is None else (rtnl.encode_link_down(own_device),),
        remove=() if own_device is None else (rtnl.encode_link_del(own_device),),
        claims=claims,
        gated=bool(claims) and group.may_be_gated,
    )


def _fits(device: Link, parent: Link, mac: str, mark: Mark) -> bool:
    found = Mark.read(device.alias)
    return found is not None and found.is_of(mark) and (device.kind, device.parent, device.mac) == ("macvlan", parent.index, mac)


def _is_unmarked(device: Link, parent: Link, mac: str) -> bool:
    """What a sidecar leaves that dies between the creation of a device and its marking."""
    return (device.kind, device.parent, device.mac, device.alias) == ("macvlan", parent.index, mac, "")


def refusal(plan: AddressPlan, errnos: Sequence[int]) -> str:
    """What the kernel refused first of ``plan.take``, a sentence with what helps where that is known; empty if nothing."""
    asked = [*[plan.device_name] * (len(plan.take) - len(plan.addresses)), *plan.addresses]
    what, number = next(((one, number) for one, number in zip(asked, errnos, strict=True) if number), ("", 0))
    if not number:
        return ""
    remedy = ""
    if ":" in what and number == errno.EACCES:
        settings = "/proc/sys/net/ipv6/conf"
        remedy = f"; IPv6 is off: write 0 to disable_ipv6 in {settings}/{plan.device_name} and in {settings}/default"
    elif ":" in what and number == errno.EOPNOTSUPP:
        remedy = "; this kernel runs without IPv6: start it with IPv6, or remove the address"
    return f"the kernel refused {what}: {os.strerror(number)}{remedy}"


def held(snapshot: Links, plan: AddressPlan) -> frozenset[str]:
    """Which of the plan's addresses the kernel really holds on a device that is up."""
    device = snapshot.get(plan.device) if plan.device is not None else None
    if device is None or not device.up:
        return frozenset()
    here = {item.address for item in snapshot.addresses(device.index) if item.prefix == _host_prefix(item)}
    return frozenset(plan.addresses) & here


def _host_prefix(address: Address) -> int:
    return 32 if address.family == 4 else 128


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a dead predecessor left."""

    urgent: tuple[bytes, ...]
    """Addresses to remove at once."""
    lazy: tuple[bytes, ...]
    """Devices to set down (adopted ones) or to remove."""
    notes: tuple[str, ...]
    """A sentence for the log about each."""
    parents: dict[int, ArpSettings]
    """By index, how the interfaces below the removed devices were before."""


def sweep(snapshot: Links, state_dir: str, wanted: Iterable[tuple[GroupConfig, Link]]) -> Sweep:
    """Finds devices and addresses of an earlier run; ``wanted`` are the groups that have an interface now.

    A device that fits a wanted group stays, down and empty: its group starts as BACKUP. In physical-MAC mode nothing
    tells whose an address is, so only those of wanted groups go; the rest end with their lease.
    """
    pairs = list(wanted)
    own = owner(state_dir)
    fitting = {
        (device_name(group.vhid, parent.index), parent.index, group.virtual_mac_address, group.name)
        for group, parent in pairs
        if group.virtual_mac
    }
    urgent: list[bytes] = []
    lazy: list[bytes] = []
    notes: list[str] = []
    parents: dict[int, ArpSettings] = {}
    for link in snapshot:
        mark = Mark.read(link.alias) if link.kind == "macvlan" else None
        if mark is None or mark.owner != own:
            continue
        urgent += [_delete(item) for item in snapshot.addresses(link.index) if item.ours]
        if (link.name, link.parent, link.mac, mark.group) not in fitting:
            lazy.append(rtnl.encode_link_del(link.index))
            notes.append(f"{link.name}: removed, an earlier run left it")
            if link.parent is not None:
                parents[link.parent] = mark.before
        elif link.up:
            lazy.append(rtnl.encode_link_down(link.index))
            notes.append(f"{link.name}: set down, an earlier run left it up")
    for group, parent in pairs:
        for ip in group.addresses:
            left = snapshot.address(parent.index, str(ip.ip), ip.max_prefixlen)
            if left is not None and left.ours:
                urgent.append(_delete(left))
                notes.append(f"{ip.ip}: removed from {parent.name}, an earlier run left it")
    return Sweep(tuple(urgent), tuple(lazy), tuple(notes), parents)


def _delete(item: Address) -> bytes:
    return rtnl.encode_address_del(item.index, ip_interface(item.address))


def choose_interface(snapshot: Links, group: GroupConfig) -> Link | Missing:
    """The interface of a group: the named one, or that whose longest subnet holds the first address, among those its pattern allows."""
    first = group.addresses[0].ip
    if group.interface is not None:
        link = snapshot.named(group.interface)
        return link or Missing(f"interface {group.interface} does not exist (yet): it is waited for")
    if group.interface_pattern is None:
        best = _by_subnet(snapshot, snapshot, first)
        return best or Missing(f"no interface has an address in the subnet of {first}: one is waited for, or name it with interface =")
    pattern = re.compile(group.interface_pattern)
    allowed = sorted((link for link in snapshot if _may_carry(link) and pattern.search(link.name)), key=lambda link: link.name)
    if not allowed:
        return Missing(f"no interface has a name that {group.interface_pattern} matches (yet): one is waited for")
    return _by_subnet(snapshot, allowed, first) or allowed[0]


def moves(snapshot: Links, link: Link | None, former: GroupConfig, group: GroupConfig) -> bool:
    """Whether the group would be placed on another interface than ``link``; other words for the same one move nothing."""
    now, then = ((one.interface, one.interface_pattern, one.addresses[0]) for one in (group, former))
    if now == then:
        return False
    found = choose_interface(snapshot, group)
    return link is None or isinstance(found, Missing) or found.index != link.index


def _may_carry(link: Link) -> bool:
    """Whether a pattern may mean it: neither the device of a virtual MAC, ours or another's, nor the loopback."""
    return link.mac != _LOOPBACK_MAC and not link.mac.startswith(_VIRTUAL_MACS)


def _by_subnet(snapshot: Links, links: Iterable[Link], first: IPv4Address | IPv6Address) -> Link | None:
    found = [(subnet.network.prefixlen, link) for link in links for subnet in own_subnets(snapshot, link) if first in subnet.network]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def own_subnets(snapshot: Links, link: Link) -> Iterator[IPv4Interface | IPv6Interface]:
    """The addresses of this host on an interface that come with a subnet; those of groups never do."""
    if link.mac == _LOOPBACK_MAC or link.alias.startswith(rtnl.ALIAS_PREFIX):
        return
    for item in snapshot.addresses(link.index):
        if not item.ours and item.prefix != _host_prefix(item):
            yield ip_interface((item.address, item.prefix))


def own_source(snapshot: Links, index: int, family: int, vips: Collection[str] = ()) -> str | None:
    """The host's own address for adverts on an interface, never a VIP; IPv6 prefers link-local."""
    own = [item for item in snapshot.addresses(index) if item.family == family and not item.ours and item.address not in vips]
    usable = [item for item in own if item.usable]
    if not usable:
        return None
    usable.sort(key=lambda item: (item.secondary, family == 6 and not ip_address(item.address).is_link_local))
    return usable[0].address
