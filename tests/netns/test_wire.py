"""The packet sockets on a real kernel: what the filter lets pass, two masters with one virtual MAC, unicast."""

from collections.abc import Iterator
from functools import partial

import pytest

from carp_sidecar.wire import frames
from lab.hands import Ear, Hands, group, inside, until, with_ears
from lab.network import Lab

pytestmark = pytest.mark.needs("netns", "ip")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.simple(2) as network:
        yield network


@pytest.fixture
def two_masters(lab: Lab) -> Iterator[str]:
    """Both hosts hold the same virtual MAC, up; the MAC."""
    config = group(9)
    plans = {}

    for name in "ab":

        async def take(hands: Hands, name: str = name) -> None:
            plans[name] = await hands.plan(config)
            assert not any(await hands.do(*plans[name].take))

        inside(lab[name], take)
    yield config.virtual_mac_address
    for name in "ab":

        async def remove(hands: Hands, name: str = name) -> None:
            await hands.do(*plans[name].remove, urgent=False)

        inside(lab[name], remove)


@pytest.mark.parametrize("family", [4, 6])
def test_two_masters_with_one_virtual_mac_hear_each_other_and_not_themselves(lab: Lab, two_masters: str, family: int) -> None:
    async def work(one: Ear, two: Ear) -> None:
        sources = ("10.77.0.1", "10.77.0.2") if family == 4 else ("fe80::1", "fe80::2")
        for ear, source in zip((one, two), sources, strict=True):
            assert ear.wire.send(frames.AdvertHeader(two_masters, source).frame(source.encode()))
        await until(lambda: one.heard and two.heard)
        assert (one.payloads, two.payloads) == ([sources[1].encode()], [sources[0].encode()])
        (advert,) = one.heard
        assert isinstance(advert, frames.ReceivedAdvert)
        assert (advert.source, advert.source_mac, advert.ttl, advert.family) == (sources[1], two_masters, 255, family)

    with_ears(lab, work)


def _readdressed(mac: bytes, frame: bytes) -> bytes:
    return mac + frame[6:]


def test_the_filters_let_only_what_concerns_us_pass(lab: Lab) -> None:
    async def work(one: Ear, two: Ear) -> None:
        advert = frames.AdvertHeader(two.mac, "10.77.0.2").frame(b"advert")
        tagged = advert[:12] + bytes.fromhex("81000005") + advert[12:]
        prioritised = frames.AdvertHeader(two.mac, "10.77.0.2").frame(b"priority")
        to_us = partial(_readdressed, frames.mac_to_bytes(one.mac))
        udp = bytearray(advert)
        udp[23] = 17
        later_fragment = bytearray(advert)
        later_fragment[20:22] = b"\x00\x10"
        for frame in (
            tagged,
            bytes(udp),
            bytes(later_fragment),
            frames.arp_request(two.mac, "10.77.0.2", "10.77.0.77"),
            frames.neighbor_solicitation(two.mac, "fe80::2", "fd77::77"),
            prioritised[:12] + bytes.fromhex("8100e000") + prioritised[12:],
            frames.gratuitous_arp_reply(two.mac, "10.77.0.2"),
            to_us(frames.gratuitous_arp_reply(two.mac, "10.77.0.2")),
            frames.unsolicited_neighbor_advert(two.mac, "fd77::2", router=False),
            to_us(frames.unsolicited_neighbor_advert(two.mac, "fd77::2", router=False)),
            advert,
        ):
            assert two.wire.send(frame)
        await until(lambda: len(one.heard) == 4)
        assert sorted(type(frame).__name__ for frame in one.heard) == ["ArpReply", "NeighborAdvert", "ReceivedAdvert", "ReceivedAdvert"]
        assert one.rejected == []
        assert two.heard == []
        one.heard.clear()
        one.wire.watch([lab["b"].address(4), lab["b"].address(6)])
        one.wire.know("10.77.0.2")
        for frame in (
            frames.gratuitous_arp_request(two.mac, "10.77.0.2"),
            frames.gratuitous_arp_request(two.mac, "10.77.0.3"),
            frames.unsolicited_neighbor_advert(two.mac, "fd77::2", router=False),
            frames.unsolicited_neighbor_advert(two.mac, "fd77::3", router=False),
            frames.AdvertHeader(two.mac, "10.77.0.3").frame(b"stranger"),
            frames.AdvertHeader(two.mac, "fe80::3").frame(b"stranger"),
            advert,
        ):
            assert two.wire.send(frame)
        await until(lambda: len(one.heard) == 5)
        assert sorted(type(frame).__name__ for frame in one.heard) == ["ArpRequest", "NeighborAdvert", *["ReceivedAdvert"] * 3]
        assert sorted(one.payloads) == [b"advert", b"stranger", b"stranger"]

    with_ears(lab, work)


@pytest.mark.parametrize("version", [4, 6])
def test_unicast_adverts_arrive_whole_and_a_bad_target_is_only_counted(lab: Lab, version: int) -> None:
    async def work(one: Ear, two: Ear) -> None:
        target, source = lab["a"].address(version), lab["b"].address(version)
        assert two.wire.send_unicast(b"hello", target, source)
        await until(lambda: one.payloads)
        (advert,) = [frame for frame in one.heard if isinstance(frame, frames.ReceivedAdvert)]
        assert (advert.source, advert.destination, advert.ttl, advert.payload) == (source, target, 255, b"hello")
        assert not two.wire.send_unicast(b"hello", "255.255.255.255" if version == 4 else "2001:db8::1")
        assert two.wire.errors == {"EACCES" if version == 4 else "ENETUNREACH": 1}

    with_ears(lab, work)


def test_a_wire_survives_its_interface_going_down(lab: Lab) -> None:
    async def work(one: Ear, two: Ear) -> None:
        lab["a"].namespace.ip("link set eth0 down")
        assert not one.wire.send(frames.arp_request(one.mac, "10.77.0.1", "10.77.0.2"))
        assert one.wire.errors["ENETDOWN"] >= 1
        lab["a"].namespace.ip("link set eth0 up")
        advert = frames.AdvertHeader(two.mac, "10.77.0.2").frame(b"again")

        def heard() -> bool:
            two.wire.send(advert)
            return bool(one.payloads)

        await until(heard)

    with_ears(lab, work)
