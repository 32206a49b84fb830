"""The CEL rules of the CarpGroup schema in Python, for a machine without an API server. Known by their message, which is what a user reads.

A test holds this table against the schema: a rule that is neither here nor among the rules about changes fails it.
"""

__all__ = ["RULES", "RULES_ABOUT_CHANGES"]

from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

from carp_protocol.config import DEFAULT_INTERVAL_S, SHORTEST_GATED_S, Mode
from carp_protocol.fields import parse_duration_s

_BROADCAST = IPv4Address("255.255.255.255")


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_interface(text).ip
    except ValueError:
        return None


def _can_be_virtual(text: str) -> bool:
    ip = _ip(text)
    return ip is None or not (ip.is_multicast or ip.is_loopback or ip.is_unspecified or ip == _BROADCAST)


def _differ(addresses: list[str]) -> bool:
    hosts = [str(address).partition("/")[0].lower() for address in addresses]
    return len(set(hosts)) == len(hosts)


def _priorities_differ(entries: list[Mapping[str, Any]]) -> bool:
    counted = Counter(entry["priority"] for entry in entries if entry["priority"] != 0)
    return all(number == 1 for number in counted.values())


def _mode(spec: Mapping[str, Any]) -> str:
    return str((spec.get("authentication") or {}).get("mode", "Strict"))


def _interval_s(spec: Mapping[str, Any]) -> float:
    given = spec.get("advertisementInterval")
    return DEFAULT_INTERVAL_S[Mode(_mode(spec))] if given is None else parse_duration_s(given)


def _whole_seconds(spec: Mapping[str, Any]) -> bool:
    interval_s = _interval_s(spec)
    return _mode(spec) != "Compatible" or (interval_s == int(interval_s) and 1 <= interval_s <= 254)


def _values_fit(requirement: Mapping[str, Any]) -> bool:
    return bool(requirement.get("values")) == (requirement["operator"] in {"In", "NotIn"})


def _exactly_one(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda value: sum(name in value for name in names) == 1


RULES: Mapping[str, Callable[[Any], bool]] = {
    "not an IP address; write it as 192.0.2.10, 192.0.2.10/24 or 2001:db8::10/64": lambda text: _ip(text) is not None,
    "a multicast, loopback, broadcast or unspecified address cannot be a virtual address": _can_be_virtual,
    "an address is listed twice; remove one": _differ,
    "give exactly one of name and pattern": _exactly_one("name", "pattern"),
    "two nodes have the same priority; give each its own, so that they never take over at the same moment": _priorities_differ,
    "only Compatible mode has dialects; remove dialect or set mode: Compatible": lambda value: (
        "dialect" not in value or value.get("mode") == "Compatible"
    ),
    "give exactly one of httpGet, tcpSocket and exec": _exactly_one("httpGet", "tcpSocket", "exec"),
    "In and NotIn need values; Exists and DoesNotExist take none": _values_fit,
    "advertisementInterval is outside 10ms to 60s, the range of Strict mode": lambda spec: (
        _mode(spec) != "Strict" or 0.01 <= _interval_s(spec) <= 60
    ),
    "fence: Required needs an advertisementInterval of at least 50ms; lengthen it, or write Auto": lambda spec: (
        spec.get("fence") != "Required" or _interval_s(spec) >= SHORTEST_GATED_S
    ),
    "Compatible mode knows whole seconds from 1s to 254s only; use Strict mode for others": _whole_seconds,
    "the name has more than 63 characters; choose a shorter one": lambda group: len(group["metadata"]["name"]) <= 63,
}
"""Whether a value that has the right shape keeps the rule."""

RULES_ABOUT_CHANGES = frozenset(
    {
        "mode cannot change while the group runs, its members would not understand each other; delete the group and create it anew",
        "vhid cannot change once it is set; delete the group and create it anew",
        "the group already runs with another VHID (status.vhid), which cannot change; delete the group and create it anew",
    }
)
"""Those that need to know the object before, or its status."""
