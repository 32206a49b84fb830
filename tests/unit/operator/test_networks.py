"""On which interface a group runs, by the rule of the sidecar, and on which networks its VHID must be unique."""

import time
from typing import Any

import pytest

from carp_operator.api.node import Interface
from carp_operator.plan.networks import carrier, networks_of, place_of, place_of_entry
from lab.pieces import group, interface

ETH0 = interface("eth0", "10.77.0.1/24", "fd77::1/64")
ETH1 = interface("eth1", "10.0.0.1/8", "192.0.2.1/24")
ENS3 = interface("ens3", "10.77.0.2/16")
ALL = (ENS3, ETH0, ETH1)


@pytest.mark.parametrize(
    "address, interfaces, expected",
    [
        pytest.param("10.77.0.9", ALL, ETH0, id="the longest prefix that holds it"),
        pytest.param("10.77.1.9", ALL, ENS3, id="the next longest"),
        pytest.param("10.1.1.1", ALL, ETH1, id="the only one"),
        pytest.param("192.0.2.200", ALL, ETH1, id="the second subnet of an interface"),
        pytest.param("fd77::9", ALL, ETH0, id="IPv6"),
        pytest.param("198.51.100.1", ALL, None, id="none holds it"),
        pytest.param("10.77.0.9", (), None, id="there is none"),
        pytest.param("10.77.0.9", (ETH0, interface("eth9", "10.77.0.3/24")), ETH0, id="of two with one subnet the first by name"),
    ],
)
def test_by_the_subnet_of_the_first_address(address: str, interfaces: tuple[Interface, ...], expected: Interface | None) -> None:
    assert carrier(place_of(group("web", address, "192.0.2.7")), interfaces) == expected


def test_by_name_whatever_its_subnets_are() -> None:
    assert carrier(place_of(group("web", "198.51.100.1", interface={"name": "eth1"})), ALL) == ETH1
    assert carrier(place_of(group("web", "10.77.0.9", interface={"name": "eth7"})), ALL) is None


@pytest.mark.parametrize(
    "pattern, address, expected",
    [
        pytest.param("^e", "10.77.0.9", ETH0, id="of several the one whose subnet holds it"),
        pytest.param("^e", "198.51.100.1", ENS3, id="if none holds it the first by name"),
        pytest.param("1$", "10.77.0.9", ETH1, id="the only one that matches"),
        pytest.param("^wl", "10.77.0.9", None, id="none matches"),
        pytest.param("(eth", "10.77.0.9", None, id="not a regular expression"),
    ],
)
def test_by_pattern(pattern: str, address: str, expected: Interface | None) -> None:
    assert carrier(place_of(group("web", address, interface={"pattern": pattern})), ALL) == expected


def test_a_hostile_pattern_is_not_searched() -> None:
    slow = group("web", interface={"pattern": "(((e*)*)*)*x"})
    started = time.process_time()
    assert carrier(place_of(slow), [interface("e" * 15, "10.77.0.1/24")]) is None
    assert time.process_time() - started < 0.5


def test_networks_are_those_of_the_interfaces() -> None:
    assert networks_of(place_of(group("web", "10.77.0.9")), [ETH0, None, ETH0]) == {"10.77.0.0/24", "fd77::/64"}


@pytest.mark.parametrize(
    "addresses, interface_name, expected",
    [
        pytest.param(("10.77.0.9/24", "fd77::9", "fd78::9/64"), None, {"10.77.0.0/24", "fd78::/64"}, id="prefixes it gives"),
        pytest.param(("10.77.0.9",), "eth0", {"interface eth0"}, id="the interface it names"),
        pytest.param(("10.77.0.9", "10.77.0.8"), None, {"interface of 10.77.0.9"}, id="its first address"),
    ],
)
def test_networks_while_no_member_has_told_any(addresses: tuple[str, ...], interface_name: str | None, expected: set[str]) -> None:
    spec: dict[str, Any] = {"interface": {"name": interface_name}} if interface_name else {}
    assert networks_of(place_of(group("web", *addresses, **spec)), [None]) == expected


def test_an_entry_of_a_carp_node_has_a_place_too() -> None:
    for spec in ({"name": "eth1"}, {"pattern": "^e"}, {}):
        of_group = place_of(group("web", "10.77.0.9/24", interface=spec))
        entry = {"addresses": ["10.77.0.9/24"], "interface": of_group.interface, "interfacePattern": of_group.pattern}
        assert place_of_entry(entry) == of_group
