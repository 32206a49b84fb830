"""Where a group speaks: on which interface of a node, and on which networks. VHIDs must be unique there, and only there."""

__all__ = ["Place", "carrier", "networks_of", "place_of", "place_of_entry"]

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from carp_operator.api.group import CarpGroup
from carp_operator.api.node import Interface
from carp_protocol.patterns import pattern_problem

_HOST_PREFIX = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Place:
    """What the interface is found by: its name, a pattern, or else the subnet that holds the first address."""

    interface: str | None
    pattern: str | None
    addresses: tuple[IPv4Interface | IPv6Interface, ...]


def place_of(group: CarpGroup) -> Place:
    return Place(group.interface, group.interface_pattern, group.addresses)


def place_of_entry(entry: Mapping[str, Any]) -> Place:
    """Where an entry of a CarpNode runs."""
    return Place(entry.get("interface"), entry.get("interfacePattern"), tuple(map(ip_interface, entry["addresses"])))


def carrier(place: Place, interfaces: Sequence[Interface]) -> Interface | None:
    """The interface that a sidecar takes, by the same rule as its own; ``interfaces`` by name."""
    if place.interface:
        return next((one for one in interfaces if one.name == place.interface), None)
    if place.pattern:
        if pattern_problem(place.pattern):
            return None  # it would be refused, and searching it could take minutes
        interfaces = [one for one in interfaces if re.search(place.pattern, one.name)]
    first, longest = place.addresses[0].ip, -1
    best = interfaces[0] if place.pattern and interfaces else None
    for one in interfaces:
        if (length := one.prefix_holding(first)) > longest:
            best, longest = one, length
    return best


def networks_of(place: Place, interfaces: Iterable[Interface | None]) -> frozenset[str]:
    """Names of its broadcast domains: the subnets of its members' interfaces; while no member has told any, what the place says itself."""
    told = frozenset[str]().union(*(one.networks for one in interfaces if one))
    if told:
        return told
    prefixed = frozenset(str(address.network) for address in place.addresses if address.network.prefixlen < _HOST_PREFIX[address.version])
    return prefixed or frozenset({f"interface {place.interface or place.pattern or 'of ' + str(place.addresses[0].ip)}"})
