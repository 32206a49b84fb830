"""What this host's kernel holds: links and addresses, and how they change. Plain data; asks nobody."""

__all__ = ["Address", "Change", "ChangeKind", "Link", "Links"]

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from carp_sidecar.kernel.rtnl import PROTOCOL_CARP

# linux/if_addr.h
_IFA_F_SECONDARY = 0x01
_IFA_F_DADFAILED = 0x08
_IFA_F_DEPRECATED = 0x20
_IFA_F_TENTATIVE = 0x40
_IFA_F_PERMANENT = 0x80
_IFA_F_NOPREFIXROUTE = 0x200

_LEASED = _IFA_F_DEPRECATED | _IFA_F_NOPREFIXROUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One network device."""

    index: int
    name: str
    mac: str
    up: bool
    """Somebody set it up."""
    running: bool
    """It is up and has a carrier."""
    kind: str = ""
    """macvlan, bridge, veth ...; empty for hardware."""
    alias: str = ""
    parent: int | None = None
    """Index of the device below it."""
    arp_ignore: int = 0
    arp_announce: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address of a device."""

    index: int
    """Of the device."""
    address: str
    prefix: int
    family: int
    """4 or 6."""
    flags: int = 0
    protocol: int = 0
    """IFA_PROTO; 112 is ours. 0 on kernels before 5.18."""

    @property
    def ours(self) -> bool:
        """Whether a sidecar put it there. A kernel before 5.18 does not say; then by what nobody else makes: a host address that ends by
        itself, is never a source and has no route.
        """
        if self.protocol:
            return self.protocol == PROTOCOL_CARP
        return self.flags & (_LEASED | _IFA_F_PERMANENT) == _LEASED and self.prefix == (32 if self.family == 4 else 128)

    @property
    def usable(self) -> bool:
        """Whether it may be the source of what we send: not about to end, not still being checked."""
        return not self.flags & (_IFA_F_DEPRECATED | _IFA_F_TENTATIVE | _IFA_F_DADFAILED)

    @property
    def secondary(self) -> bool:
        """IPv4: a further address of the same subnet."""
        return self.family == 4 and bool(self.flags & _IFA_F_SECONDARY)


class ChangeKind(Enum):
    LINK_NEW = "link-new"
    LINK_UP = "link-up"
    """It is running now."""
    LINK_DOWN = "link-down"
    """It is not running any more."""
    LINK_CHANGED = "link-changed"
    """Its name, MAC, alias or another field than ``running`` changed."""
    LINK_GONE = "link-gone"
    ADDRESS_ADDED = "address-added"
    ADDRESS_REMOVED = "address-removed"


@dataclass(frozen=True, slots=True)
class Change:
    """One change; ``address`` is set for the address kinds, ``link`` is None if the device is not known (any more)."""

    kind: ChangeKind
    index: int
    link: Link | None
    address: Address | None = None


@dataclass(slots=True)
class Links:
    """The links and addresses of this host as last heard. Readers only read; ``put`` and ``drop`` are netlink's."""

    _links: dict[int, Link] = field(default_factory=dict)
    _by_name: dict[str, Link] = field(default_factory=dict)
    _addresses: dict[int, dict[tuple[str, int], Address]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links.values())

    def get(self, index: int) -> Link | None:
        """The device of that index."""
        return self._links.get(index)

    def named(self, name: str) -> Link | None:
        """The device of that name."""
        return self._by_name.get(name)

    def addresses(self, index: int) -> Iterable[Address]:
        """The addresses of a device, in the kernel's order."""
        return self._addresses.get(index, {}).values()

    def address(self, index: int, address: str, prefix: int) -> Address | None:
        """That address of a device, if the device holds it."""
        return self._addresses.get(index, {}).get((address, prefix))

    def put_link(self, link: Link) -> Change | None:
        """Learns a device; None if nothing changed."""
        known = self._links.get(link.index)
        if known == link:
            return None
        if known is not None and known.name != link.name:
            self._forget_name(known)
        self._links[link.index] = self._by_name[link.name] = link
        if known is None:
            return Change(ChangeKind.LINK_NEW, link.index, link)
        if known.running != link.running:
            return Change(ChangeKind.LINK_UP if link.running else ChangeKind.LINK_DOWN, link.index, link)
        return Change(ChangeKind.LINK_CHANGED, link.index, link)

    def drop_link(self, index: int) -> Change | None:
        """Forgets a device and its addresses."""
        link = self._links.pop(index, None)
        self._addresses.pop(index, None)
        if link is None:
            return None
        self._forget_name(link)
        return Change(ChangeKind.LINK_GONE, index, link)

    def _forget_name(self, link: Link) -> None:
        if self._by_name.get(link.name) == link:
            del self._by_name[link.name]

    def put_address(self, address: Address) -> Change | None:
        """Learns an address; None if it was known with the same flags."""
        held = self._addresses.setdefault(address.index, {})
        key = (address.address, address.prefix)
        known = held.get(key)
        held[key] = address
        if known is not None and known.flags == address.flags:
            return None
        return Change(ChangeKind.ADDRESS_ADDED, address.index, self._links.get(address.index), address)

    def drop_address(self, address: Address) -> Change | None:
        """Forgets an address."""
        known = self._addresses.get(address.index, {}).pop((address.address, address.prefix), None)
        if known is None:
            return None
        return Change(ChangeKind.ADDRESS_REMOVED, address.index, self._links.get(address.index), known)

    def replace(self, links: Iterable[Link], addresses: Iterable[Address]) -> list[Change]:
        """Takes over a full dump, and says what had been missed."""
        links, addresses = list(links), list(addresses)
        found = {link.index for link in links}
        held = {(item.index, item.address, item.prefix) for item in addresses}
        lost = [item for known in self._addresses.values() for item in known.values()]
        changes = [self.drop_address(item) for item in lost if (item.index, item.address, item.prefix) not in held]
        changes += [self.drop_link(index) for index in list(self._links) if index not in found]
        changes += [self.put_link(link) for link in links]
        changes += [self.put_address(item) for item in addresses]
        return [change for change in changes if change is not None]
