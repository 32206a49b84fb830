"""Address plans, the choice of interface and source, and what is found of a predecessor: without any kernel."""

import errno
import struct
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import pytest

from carp_protocol.config import GroupConfig
from carp_sidecar.kernel import rtnl, vip
from carp_sidecar.kernel.links import Address, Change, ChangeKind, Link, Links
from carp_sidecar.kernel.marks import ArpSettings, Mark, owner
from carp_sidecar.report import interfaces

STATE_DIR = "/var/lib/kubecarp"
MARK = Mark(STATE_DIR, "web", ArpSettings(0, 1))
ETH0 = Link(index=2, name="eth0", mac="02:00:00:00:00:01", up=True, running=True)
DEPRECATED, TENTATIVE, SECONDARY, PERMANENT, NOPREFIXROUTE = 0x20, 0x40, 0x01, 0x80, 0x200
NEWADDR, DELADDR, NEWLINK, DELLINK = 20, 21, 16, 17


def group(
    *addresses: str,
    name: str = "web",
    vhid: int = 7,
    interface: str | None = "eth0",
    pattern: str | None = None,
    virtual_mac: bool = True,
) -> GroupConfig:
    return GroupConfig(
        name=name,
        vhid=vhid,
        addresses=tuple(map(ip_interface, addresses or ("10.0.0.9/24", "fd77::9/64"))),
        interface=None if pattern else interface,
        interface_pattern=pattern,
        virtual_mac=virtual_mac,
    )


def address(text: str, index: int = 2, flags: int = 0, *, ours: bool = False) -> Address:
    parsed = ip_interface(text)
    prefix, protocol = parsed.network.prefixlen, 112 if ours else 0
    return Address(index=index, address=str(parsed.ip), prefix=prefix, family=parsed.version, flags=flags, protocol=protocol)


def macvlan(name: str = "carp7-2", index: int = 5, alias: str = MARK.alias, *, vhid: int = 7, up: bool = False) -> Link:
    return Link(index=index, name=name, mac=f"00:00:5e:00:01:{vhid:02x}", up=up, running=up, kind="macvlan", alias=alias, parent=2)


def snapshot(*items: Link | Address) -> Links:
    links = Links()
    links.replace([item for item in items if isinstance(item, Link)], [item for item in items if isinstance(item, Address)])
    return links


def kinds(requests: tuple[bytes, ...]) -> list[int]:
    return [struct.unpack_from("=IH", request)[1] for request in requests]


def test_without_its_device_a_plan_only_prepares() -> None:
    plan = vip.plan_addresses(group(), ETH0, snapshot(ETH0), MARK)
    assert (plan.device, plan.device_name, plan.mac) == (None, "carp7-2", "00:00:5e:00:01:07")
    assert plan.addresses == ("10.0.0.9", "fd77::9")
    assert kinds(plan.create) == kinds(plan.adopt) == [NEWLINK]
    assert plan.take == plan.renew == plan.drop == plan.rest == plan.remove == ()


def test_with_its_device_a_plan_takes_renews_and_releases() -> None:
    plan = vip.plan_addresses(group(), ETH0, snapshot(ETH0, macvlan()), MARK)
    assert (plan.device, plan.create, plan.adopt) == (5, (), ())
    assert plan.take == (rtnl.encode_link_up(5), *plan.renew)
    assert kinds(plan.renew) == [NEWADDR, NEWADDR]
    assert plan.rest == (rtnl.encode_link_down(5),)
    assert kinds(plan.drop) == [DELADDR, DELADDR]
    assert plan.remove == (rtnl.encode_link_del(5),)


def test_the_physical_mac_touches_no_device() -> None:
    plan = vip.plan_addresses(group(virtual_mac=False), ETH0, snapshot(ETH0), MARK)
    assert (plan.device, plan.mac, plan.create, plan.adopt) == (2, ETH0.mac, (), ())
    assert plan.take == plan.renew
    assert plan.rest == ()
    assert plan.rest == plan.remove == ()


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(macvlan(alias=MARK._replace(owner="/other").alias), id="of another sidecar"),
        pytest.param(macvlan(vhid=8), id="with another MAC"),
    ],
)
def test_a_device_that_does_not_fit_is_not_used(device: Link) -> None:
    plan = vip.plan_addresses(group(), ETH0, snapshot(ETH0, device), MARK)
    assert (plan.device, len(plan.create), len(plan.adopt)) == (None, 1, 1)


def test_a_device_that_was_never_marked_is_marked_and_not_made_again() -> None:
    plan = vip.plan_addresses(group(), ETH0, snapshot(ETH0, macvlan(alias="")), MARK)
    assert (plan.device, plan.create, kinds(plan.adopt)) == (None, (), [NEWLINK])


def test_names_and_marks_fit_the_kernels_limits() -> None:
    assert len(vip.device_name(255, 1_234_567_890)) == 15
    longest = Mark(owner("/very" * 60), "x" * 63, ArpSettings(2**31 - 1, 2**31 - 1))
    assert Mark.read(longest.alias) == longest
    plan = vip.plan_addresses(group(), ETH0, snapshot(ETH0), longest._replace(owner=owner("/" + "v" * 126)))
    length = next(size - 4 for size, kind in attributes(plan.adopt[0][32:]) if kind == 20)
    assert length <= 255


def attributes(data: bytes) -> list[tuple[int, int]]:
    """Length and type of every attribute."""
    found, place = [], 0
    while place < len(data):
        found.append(struct.unpack_from("=HH", data, place))
        place += (found[-1][0] + 3) & ~3
    return found


def test_held_is_what_the_kernel_shows_on_a_device_that_is_up() -> None:
    addresses = [address("10.0.0.9/32", 5, ours=True), address("fd77::9/64", 5)]
    plan = vip.plan_addresses(group(), ETH0, snapshot(ETH0, macvlan()), MARK)
    assert vip.held(snapshot(ETH0, macvlan(), *addresses), plan) == frozenset()
    assert vip.held(snapshot(ETH0, macvlan(up=True), *addresses), plan) == {"10.0.0.9"}
    assert vip.held(snapshot(ETH0), plan) == frozenset()


def test_the_longest_subnet_chooses_the_interface() -> None:
    eth1 = Link(index=3, name="eth1", mac="02:00:00:00:00:02", up=True, running=True)
    links = snapshot(ETH0, eth1, address("10.0.0.1/8", 2), address("10.0.0.2/24", 3), address("10.0.0.9/32", 2, ours=True))
    assert vip.choose_interface(links, group(interface=None)) == eth1
    assert vip.choose_interface(links, group("10.1.0.9/24", interface=None)) == ETH0
    assert vip.choose_interface(links, group(interface="eth0")) == ETH0


def link(index: int, name: str, **fields: Any) -> Link:
    return replace(Link(index=index, name=name, mac=f"02:00:00:00:00:{index:02x}", up=True, running=True), **fields)


def test_a_pattern_chooses_by_subnet_and_then_by_name() -> None:
    ens2, ens1, eno1 = link(3, "ens2"), link(4, "ens1"), link(5, "eno1")
    links = snapshot(ETH0, ens2, ens1, eno1, address("10.0.0.1/24", 2), address("10.0.0.2/16", 3), address("10.0.0.3/8", 5))
    assert vip.choose_interface(links, group(pattern="^en")) == ens2, "eth0 has the longer subnet, and another name"
    assert vip.choose_interface(links, group(pattern="o1$")) == eno1
    assert vip.choose_interface(links, group("192.0.2.1", pattern="^en")) == eno1
    assert vip.choose_interface(links, group("192.0.2.1", pattern="s")) == ens1
    missing = vip.choose_interface(links, group(pattern="^vmx"))
    assert isinstance(missing, vip.Missing)
    assert "^vmx matches" in missing.reason


def test_a_pattern_never_means_a_virtual_mac_or_the_loopback() -> None:
    loopback, young = link(1, "lo", mac="00:00:00:00:00:00"), link(6, "carp9-2", mac="00:00:5e:00:01:09", kind="macvlan", parent=2)
    links = snapshot(loopback, macvlan(), young, ETH0)
    assert vip.choose_interface(links, group(pattern=".")) == ETH0


def test_the_interfaces_of_the_status_are_those_with_a_subnet() -> None:
    held = macvlan(up=True)
    others = [link(3, "tunl0"), link(4, "docker0", running=False), link(8, "cali1")]
    links = snapshot(
        link(1, "lo", mac="00:00:00:00:00:00"), ETH0, held, *others,
        address("127.0.0.1/8", 1), address("192.0.2.1/24", 1), address("fd77::1/64"), address("10.0.0.1/24"), address("fe80::1/64"),
        address("10.0.0.7/32"), address("10.0.0.9/32", 5, ours=True), address("10.244.0.1/32", 3), address("172.17.0.1/16", 4),
        address("169.254.1.1/16", 8),
    )  # fmt: skip
    assert interfaces(links) == [
        {"name": "docker0", "state": "down", "addresses": ["172.17.0.1/16"]},
        {"name": "eth0", "state": "up", "addresses": ["10.0.0.1/24", "fd77::1/64"]},
    ]


def test_an_interface_that_is_missing_is_named() -> None:
    links = snapshot(ETH0, address("10.0.0.9/24", 2, ours=True), address("10.0.0.9/32", 2))
    found = vip.choose_interface(links, group(interface=None))
    assert isinstance(found, vip.Missing)
    assert "10.0.0.9" in found.reason
    found = vip.choose_interface(links, group(interface="vmx0"))
    assert isinstance(found, vip.Missing)
    assert "vmx0 does not exist" in found.reason


@pytest.mark.parametrize(
    "addresses, family, expected",
    [
        ([address("10.0.0.9/32", ours=True), address("10.0.0.1/24")], 4, "10.0.0.1"),
        ([address("10.0.0.2/24", flags=SECONDARY), address("192.168.0.1/24")], 4, "192.168.0.1"),
        ([address("10.0.0.1/24", flags=DEPRECATED)], 4, None),
        ([address("10.0.0.50/24")], 4, None),
        ([address("fd77::1/64"), address("fe80::1/64")], 6, "fe80::1"),
        ([address("fe80::1/64", flags=TENTATIVE), address("fd77::1/64")], 6, "fd77::1"),
        ([address("10.0.0.1/24")], 6, None),
    ],
)
def test_the_source_of_adverts_is_the_hosts_own(addresses: list[Address], family: int, expected: str | None) -> None:
    assert vip.own_source(snapshot(ETH0, *addresses), 2, family, vips={"10.0.0.50"}) == expected


def test_the_sweep_keeps_what_fits_and_removes_the_rest() -> None:
    links = snapshot(
        ETH0,
        macvlan(up=True),
        macvlan("carp8-2", 6, MARK._replace(group="gone").alias, vhid=8),
        macvlan("carp9-2", 7, MARK._replace(owner="/other").alias, vhid=9, up=True),
        Link(index=8, name="mv0", mac="02:00:00:00:00:08", up=True, running=True, kind="macvlan", parent=2),
        address("10.0.0.9/32", 5, ours=True),
        address("10.0.0.77/32", 7, ours=True),
        address("10.0.0.88/32", 2, ours=True),
        address("10.0.0.99/32", 2, ours=True),
    )
    physical = group("10.0.0.88/24", name="physical", virtual_mac=False)
    found = vip.sweep(links, STATE_DIR, [(group(), ETH0), (physical, ETH0)])
    assert found.urgent == (
        rtnl.encode_address_del(5, ip_interface("10.0.0.9/32")),
        rtnl.encode_address_del(2, ip_interface("10.0.0.88/32")),
    )
    assert found.lazy == (rtnl.encode_link_down(5), rtnl.encode_link_del(6))
    assert [note.split(":")[0] for note in found.notes] == ["carp7-2", "carp8-2", "10.0.0.88"]
    assert found.parents == {2: ArpSettings(0, 1)}


def test_errors_that_mean_the_wish_is_met_are_none() -> None:
    add, remove = (encode(2, ip_interface("10.0.0.9/24")) for encode in (rtnl.encode_address_add, rtnl.encode_address_del))
    assert rtnl.remaining_errno(add, 17) == 0
    assert rtnl.remaining_errno(add, 19) == 19
    assert [rtnl.remaining_errno(request, 19) for request in (remove, rtnl.encode_link_del(2), rtnl.encode_link_down(2))] == [0, 0, 0]
    assert rtnl.remaining_errno(rtnl.encode_link_up(2), 19) == 19
    assert rtnl.remaining_errno(remove, 1) == 1


def test_links_tell_what_changed() -> None:
    links = snapshot(ETH0, address("10.0.0.1/24"))
    down = Link(index=2, name="lan0", mac=ETH0.mac, up=True, running=False)
    assert links.put_link(ETH0) is None
    assert links.put_link(down) == Change(ChangeKind.LINK_DOWN, 2, down)
    assert (links.named("eth0"), links.named("lan0")) == (None, down)
    assert links.put_address(address("10.0.0.1/24")) is None
    gone = links.drop_address(address("10.0.0.1/24"))
    assert gone is not None
    assert (gone.kind, gone.link) == (ChangeKind.ADDRESS_REMOVED, down)
    assert links.drop_address(address("10.0.0.1/24")) is None
    assert [change.kind for change in links.replace([ETH0], [address("10.0.0.2/24")])] == [ChangeKind.LINK_UP, ChangeKind.ADDRESS_ADDED]
    assert [change.kind for change in links.replace([], [])] == [ChangeKind.ADDRESS_REMOVED, ChangeKind.LINK_GONE]


@pytest.mark.parametrize(
    "text, flags, protocol, ours",
    [
        ("10.0.0.9/32", 0, 112, True),
        ("10.0.0.9/32", NOPREFIXROUTE | DEPRECATED, 0, True),
        ("fd77::9/128", NOPREFIXROUTE | DEPRECATED, 0, True),
        ("10.0.0.9/32", NOPREFIXROUTE | DEPRECATED | PERMANENT, 0, False),
        ("10.0.0.9/24", NOPREFIXROUTE | DEPRECATED, 0, False),
        ("10.0.0.9/32", DEPRECATED, 0, False),
        ("10.0.0.9/32", NOPREFIXROUTE | DEPRECATED, 18, False),
    ],
)
def test_whose_an_address_is_can_be_told_on_a_kernel_that_keeps_no_protocol(text: str, flags: int, protocol: int, ours: bool) -> None:
    assert replace(address(text, flags=flags), protocol=protocol).ours is ours


SWITCHES = "disable_ipv6 in /proc/sys/net/ipv6/conf/carp7-2 and in /proc/sys/net/ipv6/conf/default"
NO_IPV6 = "this kernel runs without IPv6: start it with IPv6, or remove the address"


@pytest.mark.parametrize(
    "errnos, sentence",
    [
        ([0, 0, 0], ""),
        ([errno.ENODEV, 0, 0], "the kernel refused carp7-2: No such device"),
        ([0, errno.EACCES, 0], "the kernel refused 10.0.0.9: Permission denied"),
        ([0, 0, errno.EACCES], f"the kernel refused fd77::9: Permission denied; IPv6 is off: write 0 to {SWITCHES}"),
        ([0, 0, errno.EOPNOTSUPP], f"the kernel refused fd77::9: Operation not supported; {NO_IPV6}"),
    ],
)
def test_what_the_kernel_refused_is_said_with_what_helps(errnos: list[int], sentence: str) -> None:
    assert vip.refusal(vip.plan_addresses(group(), ETH0, snapshot(ETH0, macvlan()), MARK), errnos) == sentence
