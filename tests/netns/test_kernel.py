"""Netlink and address plans on a real kernel: devices, addresses, leases, settings and what is heard of them."""

import asyncio
import errno
import socket
import struct
import time
from collections.abc import Iterator, Sequence

import pytest

from carp_sidecar.kernel import rtnl, vip
from carp_sidecar.kernel.batches import Channel
from carp_sidecar.kernel.links import ChangeKind
from carp_sidecar.kernel.parents import ParentSettings
from lab.hands import STATE_DIR, Hands, group, inside, until
from lab.network import Host, Lab

NO_DEVICE = 9999

pytestmark = pytest.mark.needs("netns", "ip")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.simple(2) as network:
        yield network


def sysctl(host: Host, device: str, name: str) -> str:
    return host.namespace.run("cat", f"/proc/sys/net/ipv4/conf/{device}/{name}").strip()


def test_255_groups_are_taken_in_one_send(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        plans = [await hands.plan(group(vhid)) for vhid in range(1, 256)]
        began = time.perf_counter()
        answers = await asyncio.gather(*(hands.do(*plan.take) for plan in plans))
        took_ms = (time.perf_counter() - began) * 1000
        print(f"255 groups taken in {took_ms:.1f} ms")
        assert {error for answer in answers for error in answer} == {0}
        assert took_ms < 500
        await until(lambda: all(hands.held(plan) for plan in plans))
        await hands.do(*(request for plan in plans for request in plan.drop))
        await until(lambda: not any(hands.held(plan) for plan in plans))

    with Lab.simple(1) as own:  # 255 devices are left to the end of the namespace
        inside(own["a"], work)


def test_all_of_one_turn_of_the_loop_share_one_send(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    sends: list[int] = []
    exchange = Channel.exchange

    def watched(channel: Channel, requests: Sequence[bytes]) -> list[int]:
        sends.append(len(requests))
        return exchange(channel, requests)

    async def work(hands: Hands) -> None:
        plans = [await hands.plan(group(vhid, f"10.77.1.{vhid}/16", virtual_mac=False)) for vhid in range(1, 101)]
        monkeypatch.setattr(Channel, "exchange", watched)
        for plan in plans:
            hands.netlink.submit(plan.take)
            time.sleep(0.0001)  # noqa: ASYNC251 - as sending does, it lets the other thread run
        await until(lambda: all(hands.held(plan) for plan in plans))
        assert sends == [100]
        await hands.do(*(request for plan in plans for request in plan.drop))

    inside(lab["a"], work)


def test_a_refusal_in_the_middle_of_a_send_is_that_of_its_own_request(lab: Lab) -> None:
    """Only the last request of a send is acknowledged; of the others the kernel reports what it refuses."""

    async def work(hands: Hands) -> None:
        plan = await hands.plan(group(1, "10.77.1.1/16", "fd77::1:1/64", virtual_mac=False))
        good, bad = plan.take, rtnl.encode_link_up(NO_DEVICE)
        answers = await asyncio.gather(hands.do(good[0], bad, good[1], bad), hands.do(bad, *good), hands.do(*good))
        assert list(answers) == [[0, errno.ENODEV, 0, errno.ENODEV], [errno.ENODEV, 0, 0], [0, 0]]
        await hands.do(*plan.drop)

    inside(lab["a"], work)


def test_a_lease_that_nobody_renews_ends_by_itself(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        config = group(1, "10.77.1.1/16", "fd77::1:1/64")
        plan = await hands.plan(config)
        assert await hands.do(*plan.take) == [0, 0, 0]
        await until(lambda: hands.held(plan) == {"10.77.1.1", "fd77::1:1"})
        await asyncio.sleep(0.5)
        seen = len(hands.changes)
        assert await hands.do(*plan.renew) == [0, 0]
        renewed = time.monotonic()
        await until(lambda: not hands.held(plan))
        assert 1.4 < time.monotonic() - renewed < 3.2
        kinds = [change.kind for change in hands.changes[seen:]]
        assert kinds == [ChangeKind.ADDRESS_REMOVED] * 2, "renewals must not be reported"
        await hands.do(*plan.remove, urgent=False)

    inside(lab["a"], work)


def test_addresses_are_marked_and_never_chosen_as_a_source(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        plan = await hands.plan(group(1, "10.77.1.1/16", "fd77::1:1/64", virtual_mac=False))
        await hands.do(*plan.take)
        await until(lambda: len(hands.held(plan)) == 2)
        assert plan.device is not None
        for address, prefix in (("10.77.1.1", 32), ("fd77::1:1", 128)):
            item = hands.netlink.snapshot.address(plan.device, address, prefix)
            assert item is not None
            assert (item.ours, item.usable) == (True, False)
        assert vip.own_source(hands.netlink.snapshot, plan.device, 4) == "10.77.0.1"
        link_local = vip.own_source(hands.netlink.snapshot, plan.device, 6)
        assert str(link_local).startswith("fe80::")
        assert await hands.do(*plan.drop) == [0, 0]
        assert await hands.do(*plan.drop) == [0, 0], "removing what is gone is no failure"

    inside(lab["a"], work)


def test_device_settings_are_made_and_put_back(lab: Lab) -> None:
    host = lab["a"]

    async def work(hands: Hands) -> None:
        settings = ParentSettings(hands.netlink.snapshot)
        plan = await hands.plan(group())
        assert [sysctl(host, plan.device_name, name) for name in ("arp_ignore", "arp_announce", "rp_filter")] == ["1", "2", "2"]
        assert await hands.do(*settings.claim(hands.parent, "one")) == [0]
        assert settings.claim(hands.parent, "two") == ()
        assert [sysctl(host, "eth0", name) for name in ("arp_ignore", "arp_announce")] == ["1", "2"]
        assert await hands.do(*plan.remove, urgent=False) == [0]
        assert hands.netlink.snapshot.named(plan.device_name) is None
        settings.yield_back(hands.parent.index, "one")
        assert settings.put_back() == ()
        settings.yield_back(hands.parent.index, "two")
        assert await hands.do(*settings.put_back()) == [0]
        assert [sysctl(host, "eth0", name) for name in ("arp_ignore", "arp_announce")] == ["0", "0"]

    inside(host, work)


def test_what_a_dead_predecessor_left_is_adopted_or_removed(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        plans = [await hands.plan(group(vhid)) for vhid in (1, 2)]
        for plan in plans:
            await hands.do(*plan.take)
        await until(lambda: all(hands.held(plan) for plan in plans))
        found = vip.sweep(hands.netlink.snapshot, STATE_DIR, [(group(1), hands.parent)])
        assert vip.sweep(hands.netlink.snapshot, "/somewhere/else", []).lazy == ()
        assert not any(await hands.do(*found.urgent))
        assert not any(await hands.do(*found.lazy, urgent=False))
        left = [(link.name, link.up) for link in hands.netlink.snapshot if link.kind == "macvlan"]
        assert left == [(plans[0].device_name, False)]
        assert not hands.held(plans[0])
        await hands.do(*plans[0].remove, urgent=False)

    inside(lab["a"], work)


def test_a_waiting_down_is_dropped_when_the_group_is_taken_again(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        plans = [await hands.plan(group(vhid)) for vhid in range(1, 6)]
        for plan in plans:
            await hands.do(*plan.take)
        downs = [asyncio.ensure_future(hands.do(*plan.rest, urgent=False)) for plan in plans]
        await asyncio.sleep(0)  # the downs are queued
        assert await hands.do(*plans[-1].take) == [0, 0]
        assert [await down for down in downs] == [[0]] * 4 + [[errno.ECANCELED]]
        assert hands.held(plans[-1])
        assert await hands.do(*plans[0].take, expires=time.monotonic() - 0.1) == [errno.ETIME] * 2
        assert not hands.held(plans[0])
        down = asyncio.ensure_future(hands.do(*plans[0].rest, *plans[-1].rest, urgent=False))
        gone = [asyncio.ensure_future(hands.do(*plan.remove, urgent=False)) for plan in plans]
        assert [await removal for removal in gone] == [[0]] * 5
        assert (await down)[1] == errno.ECANCELED, "a device that goes need not go down first"

    inside(lab["a"], work)


def test_the_snapshot_follows_carrier_addresses_and_lost_notifications(lab: Lab) -> None:
    host = lab["a"]

    async def work(hands: Hands) -> None:
        lab.unplug(host)
        assert (await hands.change(ChangeKind.LINK_DOWN)).index == hands.parent.index
        assert (hands.parent.up, hands.parent.running) == (True, False)
        lab.heal(host)
        await hands.change(ChangeKind.LINK_UP)
        monitor = hands.netlink._monitor
        assert monitor is not None
        monitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the smallest the kernel knows
        host.namespace.ip(*(f"addr add 10.78.0.{number}/32 dev eth0" for number in range(1, 60)))
        index = hands.parent.index
        await until(lambda: hands.netlink.snapshot.address(index, "10.78.0.59", 32))
        assert sum(item.address.startswith("10.78.") for item in hands.netlink.snapshot.addresses(index)) == 59
        host.namespace.ip(*(f"addr del 10.78.0.{number}/32 dev eth0" for number in range(1, 60)))
        await until(lambda: not any(item.address.startswith("10.78.") for item in hands.netlink.snapshot.addresses(index)))

    inside(host, work)


def test_only_the_kernel_is_believed(lab: Lab) -> None:
    async def work(hands: Hands) -> None:
        monitor = hands.netlink._monitor
        assert monitor is not None
        forged = struct.pack("=IHHII", 32, 17, 0, 0, 0) + struct.pack("=BxHiII", 0, 0, hands.parent.index, 0, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as liar:
            liar.bind((0, 0))
            liar.sendto(forged, (monitor.getsockname()[0], 0))
        lab["a"].namespace.ip("addr add 10.79.0.1/32 dev eth0")
        await hands.change(ChangeKind.ADDRESS_ADDED)
        lab["a"].namespace.ip("addr del 10.79.0.1/32 dev eth0")
        assert hands.netlink.snapshot.named("eth0")
        assert [change.kind for change in hands.changes] == [ChangeKind.ADDRESS_ADDED]

    inside(lab["a"], work)
