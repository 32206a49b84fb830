"""CarpGroups that the API server refuses, and the sentence it refuses them with: one list for the tests and for docs/messages.md."""

__all__ = ["REFUSED_AT_APPLY", "REFUSED_CHANGES", "REFUSED_LATER", "Refused", "RefusedLater", "carp_group", "condition"]

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """A spec, and what a user reads."""

    title: str
    spec: Json
    message: str
    name: str = "web"
    before: Json = field(default_factory=dict)
    """The spec before, when a change is refused."""


def carp_group(name: str = "web", *addresses: str, **spec: Any) -> Json:
    """A CarpGroup as a user writes it."""
    given = {"addresses": list(addresses or ("10.77.0.100",))} | spec
    return {"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpGroup", "metadata": {"name": name}, "spec": given}


def condition(group: Json, kind: str) -> Json:
    """A condition of an object; LookupError while it has none."""
    found: Json = next((one for one in group["status"]["conditions"] if one["type"] == kind), {})
    if not found:
        raise LookupError(kind)
    return found


def _with(**spec: Any) -> Json:
    return {"addresses": ["10.77.0.100"]} | spec


def _check(**check: Any) -> Json:
    return _with(healthChecks=[{"name": "web"} | check])


REFUSED_AT_APPLY = [
    Refused("no address", {"addresses": []}, "spec.addresses in body should have at least 1 items"),
    Refused("addresses left out", {}, "spec.addresses: Required value"),
    Refused(
        "something that is no address",
        {"addresses": ["10.77.0.300"]},
        "not an IP address; write it as 192.0.2.10, 192.0.2.10/24 or 2001:db8::10/64",
    ),
    Refused(
        "a multicast address",
        {"addresses": ["224.0.0.18"]},
        "a multicast, loopback, broadcast or unspecified address cannot be a virtual address",
    ),
    Refused(
        "a loopback address with a prefix",
        {"addresses": ["127.0.0.1/8"]},
        "a multicast, loopback, broadcast or unspecified address cannot be a virtual address",
    ),
    Refused(
        "the unspecified address",
        {"addresses": ["::"]},
        "a multicast, loopback, broadcast or unspecified address cannot be a virtual address",
    ),
    Refused("an address twice", {"addresses": ["10.77.0.100", "10.77.0.100/24"]}, "an address is listed twice; remove one"),
    Refused("VHID 0", _with(vhid=0), "spec.vhid in body should be greater than or equal to 1"),
    Refused("VHID 256", _with(vhid=256), "spec.vhid in body should be less than or equal to 255"),
    Refused(
        "an interface by name and by pattern", _with(interface={"name": "eth0", "pattern": "^en"}), "give exactly one of name and pattern"
    ),
    Refused("an interface without either", _with(interface={}), "give exactly one of name and pattern"),
    Refused("an interface name that cannot be", _with(interface={"name": "eth 0"}), "spec.interface.name in body should match"),
    Refused(
        "an interval of 5 ms",
        _with(advertisementInterval="5ms"),
        "advertisementInterval is outside 10ms to 60s, the range of Strict mode",
    ),
    Refused("an interval without its unit", _with(advertisementInterval="1"), "spec.advertisementInterval in body should match"),
    Refused(
        "an interval of 1.5 s in Compatible mode",
        _with(advertisementInterval="1500ms", authentication={"mode": "Compatible"}),
        "Compatible mode knows whole seconds from 1s to 254s only; use Strict mode for others",
    ),
    Refused(
        "a mode that does not exist",
        _with(authentication={"mode": "Simple"}),
        'Unsupported value: "Simple": supported values: "Strict", "Compatible"',
    ),
    Refused(
        "a dialect in Strict mode",
        _with(authentication={"mode": "Strict", "dialect": "OpenBSD"}),
        "only Compatible mode has dialects; remove dialect or set mode: Compatible",
    ),
    Refused(
        "the same priority twice",
        _with(priorities=[{"node": "a", "priority": 200}, {"node": "b", "priority": 200}]),
        "two nodes have the same priority; give each its own, so that they never take over at the same moment",
    ),
    Refused("a node twice", _with(priorities=[{"node": "a", "priority": 200}, {"node": "a", "priority": 100}]), "Duplicate value"),
    Refused("a priority of 256", _with(priorities=[{"node": "a", "priority": 256}]), "should be less than or equal to 255"),
    Refused(
        "a selector without values",
        _with(nodeSelector={"matchExpressions": [{"key": "zone", "operator": "In"}]}),
        "In and NotIn need values; Exists and DoesNotExist take none",
    ),
    Refused("a check without an action", _check(), "give exactly one of httpGet, tcpSocket and exec"),
    Refused(
        "a check with two actions",
        _check(tcpSocket={"port": 80}, exec={"command": ["/bin/true"]}),
        "give exactly one of httpGet, tcpSocket and exec",
    ),
    Refused("a check without a port", _check(tcpSocket={}), "port: Required value"),
    Refused("two checks of one name", _with(healthChecks=[{"name": "web", "tcpSocket": {"port": 80}}] * 2), "Duplicate value"),
    Refused("a name of more than 63 characters", _with(), "the name has more than 63 characters; choose a shorter one", name="w" * 64),
    Refused("a misspelt field", _with(preemtion={"enabled": True}), 'unknown field "spec.preemtion"'),
]

REFUSED_CHANGES = [
    Refused("another VHID", _with(vhid=2), "vhid cannot change once it is set; delete the group and create it anew", before=_with(vhid=1)),
    Refused("no VHID any more", _with(), "vhid cannot change once it is set; delete the group and create it anew", before=_with(vhid=1)),
    Refused(
        "another mode",
        _with(authentication={"mode": "Compatible"}),
        "mode cannot change while the group runs, its members would not understand each other; delete the group and create it anew",
        before=_with(authentication={"mode": "Strict"}),
    ),
]


@dataclass(frozen=True, slots=True)
class RefusedLater:
    """A mistake that the operator finds: the world in which it is one, and what ``Accepted`` says."""

    title: str
    reason: str
    spec: Json
    message: str
    others: dict[str, Json] = field(default_factory=dict)
    """Groups that are there before, by name."""
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    """Secrets of the operator's namespace, with their entries."""


REFUSED_LATER = [
    RefusedLater(
        "another group of the network has the VHID",
        "VhidConflict",
        _with(vhid=7),
        "VHID 7 belongs to CarpGroup first on 10.77.0.0/24, fd77::/64; create it anew without vhid to get a free one",
        others={"first": {"addresses": ["10.77.0.101"], "vhid": 7}},
    ),
    RefusedLater(
        "another group has the address",
        "AddressConflict",
        _with(),
        "10.77.0.100 belongs to CarpGroup first; remove it from one of the two",
        others={"first": {"addresses": ["10.77.0.100"]}},
    ),
    RefusedLater(
        "the address is a node's own",
        "NodeAddress",
        {"addresses": ["10.77.0.1"]},
        "10.77.0.1 is the own address of node a; a virtual address must be one that no host has",
    ),
    RefusedLater(
        "no node is selected",
        "NoEligibleNode",
        _with(nodeSelector={"matchLabels": {"zone": "moon"}}),
        "no node can be a member: 3 nodes not selected by nodeSelector",
    ),
    RefusedLater(
        "no node has the network",
        "InterfaceNotFound",
        {"addresses": ["192.0.2.10"]},
        "no node can be a member: 3 nodes without an interface whose subnet holds 192.0.2.10 "
        "(name one in spec.interface to use it all the same)",
    ),
    RefusedLater(
        "no node has the interface",
        "InterfaceNotFound",
        _with(interface={"name": "eth7"}),
        "no node can be a member: 3 nodes without an interface eth7",
    ),
    RefusedLater(
        "the Secret is not there",
        "SecretNotFound",
        _with(authentication={"secretRef": {"name": "mine"}}),
        "Secret mine is not in the operator's namespace; create it there, or leave secretRef out to have a key made",
    ),
    RefusedLater(
        "another Secret has the name of the group's key ring",
        "SecretTaken",
        _with(),
        "Secret kubecarp-key-web is not the operator's, and the group's keys go by this name; delete it, or name the group otherwise",
        secrets={"kubecarp-key-web": {"key": "9f" * 32}},
    ),
    RefusedLater(
        "the Secret has no key",
        "KeyMissing",
        _with(authentication={"secretRef": {"name": "mine"}}),
        "Secret mine has no entry key; add it",
        secrets={"mine": {"kay": "9f" * 32}},
    ),
    RefusedLater(
        "the key is none",
        "KeyInvalid",
        _with(authentication={"secretRef": {"name": "mine"}}),
        'Secret mine: a Strict key is 32 bytes, as 64 hex digits or base64; make one with "carp-sidecar key > FILE"',
        secrets={"mine": {"key": "secret"}},
    ),
    RefusedLater(
        "the password is too long for carp(4)",
        "KeyTooLong",
        _with(authentication={"mode": "Compatible", "secretRef": {"name": "mine"}}),
        "Secret mine: the password has 20 bytes; carp(4) uses 1 to 19, the first line counts",
        secrets={"mine": {"password": "p" * 20}},
    ),
    RefusedLater(
        "a pattern that is no regular expression",
        "Invalid",
        _with(interface={"pattern": "(eth"}),
        "interface_pattern: '(eth' is not a regular expression",
    ),
]
