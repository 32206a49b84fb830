"""On which networks a group speaks: VHIDs must be unique there, and only there."""

__all__ = ["networks_of"]

from collections.abc import Iterable

from carp_operator.api.group import CarpGroup
from carp_operator.api.node import Interface

_HOST_PREFIX = {4: 32, 6: 128}


def networks_of(group: CarpGroup, interfaces: Iterable[Interface | None]) -> frozenset[str]:
    """Names of its broadcast domains: the subnets of its members' interfaces; while no member has told any, what the group says itself."""
    told = frozenset[str]().union(*(one.networks for one in interfaces if one))
    if told:
        return told
    prefixed = frozenset(str(address.network) for address in group.addresses if address.network.prefixlen < _HOST_PREFIX[address.version])
    return prefixed or frozenset({f"interface {group.interface or group.interface_pattern or 'of ' + str(group.addresses[0].ip)}"})
