"""One group of the shell between an engine and a kernel that are looked at from outside: retries, devices, changes while it is master."""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_interface
from types import SimpleNamespace
from typing import Any, cast

import pytest

from carp_protocol.config import Authentication, GroupConfig, Mode
from carp_protocol.counter import Identity
from carp_protocol.effects import State
from carp_protocol.engine import Engine
from carp_protocol.heard import Origin
from carp_sidecar import holder, losses
from carp_sidecar import runner as module
from carp_sidecar.afterwards import Afterwards
from carp_sidecar.alarms import Alarms
from carp_sidecar.kernel.links import Address, Link, Links
from carp_sidecar.kernel.marks import ArpSettings, Mark
from carp_sidecar.kernel.parents import ParentSettings
from carp_sidecar.logs import RejectedPackets
from carp_sidecar.measurements import Measurements
from carp_sidecar.runner import Runner
from carp_sidecar.services import Services
from carp_sidecar.wire.frames import gratuitous_arp_reply
from unit.fake_daemon import until

STATE_DIR = "/var/lib/kubecarp"
ETH0 = Link(index=2, name="eth0", mac="02:00:00:00:00:01", up=True, running=True)
OWN = Address(index=2, address="10.77.0.1", prefix=24, family=4)
VIP = "10.77.0.100"
NEWLINK, NEWADDR, DELADDR = 16, 20, 21
COMPATIBLE: dict[str, Any] = {
    "authentication": Authentication(mode=Mode.COMPATIBLE, key=b"secret"),
    "advertisement_interval_s": 1.0,
}


def config(**fields: Any) -> GroupConfig:
    given: dict[str, Any] = {"interface": "eth0", "virtual_mac": False, "authentication": Authentication(key=bytes(32))} | fields
    return GroupConfig(name="web", vhid=7, addresses=(ip_interface(f"{VIP}/24"),), **given)


class Host:
    """Everything around one group. The kernel does what it is asked to, and the gate, the guardian and the wire take it down."""

    def __init__(self, group: GroupConfig) -> None:
        loop = asyncio.get_running_loop()
        mac, alias = group.virtual_mac_address, Mark(STATE_DIR, "web", ArpSettings(0, 0)).alias
        self.device = Link(index=5, name="carp7-2", mac=mac, up=True, running=True, kind="macvlan", alias=alias, parent=2)
        self.snapshot = Links()
        self.snapshot.replace([ETH0, self.device], [OWN])
        self.asked: list[bytes] = []
        self.gate: list[str] = []
        self.frames: list[bytes] = []
        self.refused = False
        self.errno = 0
        taken = SimpleNamespace(submit=self.submit, snapshot=self.snapshot)
        gate = SimpleNamespace(
            problem="",
            hold=lambda *_: self.gate.append("hold"),
            mute=lambda _: self.gate.append("mute"),
            let_go=lambda _: self.gate.append("let go"),
            spoke=lambda _: None,
        )
        services = SimpleNamespace(
            loop=loop,
            alarms=Alarms(loop),
            afterwards=Afterwards(loop),
            netlink=taken,
            guardian=SimpleNamespace(set=lambda *_: None, clear=lambda _: None),
            gate=gate,
            measurements=Measurements(),
            rejected=RejectedPackets(module._log),
            parent_settings=ParentSettings(self.snapshot),
            awaited={},
            state_dir=STATE_DIR,
            open_segment=self.open_segment,
            close_segment=lambda _: None,
            report=lambda *_: None,
            identity_changed=lambda *_, **__: None,
        )
        self.runner = Runner(group, Identity(1, 1), cast(Services, services), {})

    def open_segment(self, _: Link) -> SimpleNamespace:
        wire = SimpleNamespace(send=self.frames.append)
        prober = SimpleNamespace(ask_address=lambda _: None, ask_host=lambda *_: None)
        return SimpleNamespace(join=lambda *_: not self.refused, leave=lambda _: True, watch=lambda *_: None, wire=wire, prober=prober)

    def submit(self, batch: Sequence[bytes], done: Callable[[list[int]], None] | None = None, **_: Any) -> None:
        self.asked += batch
        if done:
            asyncio.get_running_loop().call_soon(done, [self.errno] * len(batch))

    def kinds(self) -> list[int]:
        """What the kernel was asked for since it was last looked at."""
        kinds = [struct.unpack_from("=IH", request)[1] for request in self.asked]
        self.asked.clear()
        return kinds

    def state(self) -> State:
        return self.runner.engine.state

    def announcements(self) -> list[bytes]:
        """The ARP frames that were sent."""
        return [frame for frame in self.frames if frame[12:14] == b"\x08\x06"]

    async def become_master(self) -> None:
        self.runner.start()
        await self.take_over()

    async def take_over(self) -> None:
        """As if nobody answered: its deadlines come at once."""
        while self.state() is not State.MASTER:
            due = self.runner.engine.next_timer()
            assert due is not None
            self.runner.on_alarm(due)
        await settle()
        for seen in (self.asked, self.frames, self.gate):
            seen.clear()


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_a_group_that_waits_has_one_timer_however_often_links_change(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(config())
    host.refused = True
    waiting: list[asyncio.TimerHandle] = []
    later = asyncio.get_running_loop().call_later

    def call_later(delay_s: float, *call: Any) -> asyncio.TimerHandle:
        waiting.append(later(delay_s, *call))
        return waiting[-1]

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)
    for _ in range(5):
        host.runner.place()
    assert len([timer for timer in waiting if not timer.cancelled()]) == 1


async def test_a_master_that_a_reload_sends_away_leaves_the_announcing_to_its_successor() -> None:
    host = Host(config())
    await host.become_master()
    host.runner.reconfigure(config(advskew=255))
    await settle()
    assert host.state() is State.HANDOVER
    assert host.gate == ["mute"], "clients and switches are the successor's from now on"
    assert not host.announcements()
    host.runner.reconfigure(config(advskew=255, suspicion=False))
    assert host.gate == ["mute"]
    assert not host.announcements()


async def test_a_master_that_hears_a_better_one_answers_packets_a_little_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answers to ARP of just now may have taken a switch back; and what was on its way to it is not lost."""
    monkeypatch.setattr(holder, "LINGER_S", 0.02)
    host = Host(config(**COMPATIBLE, advskew=100))
    await host.become_master()
    host.runner.receive_packet(better_advert(), Origin("10.77.0.2", "224.0.0.18", 255))
    assert host.state() is State.BACKUP
    assert (host.kinds(), host.gate) == ([], ["mute"])
    await until(lambda: DELADDR in host.kinds())
    await until(lambda: host.gate == ["mute", "let go"])


async def test_without_a_gate_it_lets_go_at_once() -> None:
    host = Host(config(**COMPATIBLE, advskew=100))
    host.runner._services.gate.problem = "no nftables"
    await host.become_master()
    host.runner.receive_packet(better_advert(), Origin("10.77.0.2", "224.0.0.18", 255))
    assert host.kinds() == [DELADDR]


async def test_who_is_master_again_meanwhile_keeps_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "LINGER_S", 0.02)
    host = Host(config(**COMPATIBLE, advskew=100))
    await host.become_master()
    host.runner.receive_packet(better_advert(), Origin("10.77.0.2", "224.0.0.18", 255))
    await host.take_over()
    await asyncio.sleep(0.06)
    assert (host.state(), host.kinds()) == (State.MASTER, [])


async def test_a_reload_does_not_lose_sight_of_addresses_that_linger() -> None:
    host = Host(config(**COMPATIBLE, advskew=100))
    await host.become_master()
    host.runner.receive_packet(better_advert(), Origin("10.77.0.2", "224.0.0.18", 255))
    host.runner.reconfigure(replace(config(**COMPATIBLE, advskew=100), addresses=(ip_interface("10.77.0.101/24"),)))
    (request,) = host.asked
    assert socket.inet_aton(VIP) in request, "what it held goes"


def better_advert() -> bytes:
    """What a master with the best rank sends."""
    engine = Engine(config(**COMPATIBLE), Identity(2, 1), lambda _: 0)
    engine.start(0.0)
    while engine.state is not State.MASTER:
        engine.handle_timer(engine.next_timer() or 0.0)
    return engine.packets_to_send()[-1]


async def test_a_master_whose_interface_has_another_mac_says_so_and_never_the_old_one_again() -> None:
    host = Host(config())
    await host.become_master()
    changed = replace(ETH0, mac="02:00:00:00:00:99")
    host.snapshot.put_link(changed)
    host.runner.link_changed(changed)
    await settle()
    assert gratuitous_arp_reply(changed.mac, VIP) in host.announcements()
    host.frames.clear()
    host.runner._holder._announcer.on_alarm(0.0)
    assert {frame[6:12].hex(":") for frame in host.announcements()} == {changed.mac}


async def test_a_device_that_somebody_sets_down_is_set_up_while_the_group_is_master() -> None:
    host = Host(config(virtual_mac=True))
    await host.become_master()
    host.runner.device_changed(host.device.index, replace(host.device, up=False, running=False))
    await settle()
    assert host.kinds() == [NEWLINK, NEWADDR], "up, and the addresses that IPv6 loses with it"
    assert host.state() is State.MASTER
    host.runner.device_changed(host.device.index + 1, replace(host.device, up=False))
    assert host.kinds() == []
    for _ in range(10):
        host.runner.device_changed(host.device.index, replace(host.device, up=False))
        await settle()
    assert host.state() is State.BACKUP, "but not for ever"


async def test_a_device_that_goes_down_on_the_way_to_an_election_is_no_event() -> None:
    host = Host(config(virtual_mac=True))
    host.runner.start()
    await settle()
    host.asked.clear()
    host.runner.device_changed(host.device.index, replace(host.device, up=False))
    assert host.kinds() == []


async def test_all_addresses_that_somebody_flushes_are_put_back_at_once() -> None:
    many = tuple(ip_interface(f"10.77.0.{100 + number}/24") for number in range(32))
    host = Host(replace(config(), addresses=many))
    await host.become_master()
    for ip in many:
        host.runner.address_removed(Address(index=ETH0.index, address=str(ip.ip), prefix=32, family=4, protocol=112))
    await settle()
    assert host.state() is State.MASTER
    assert host.kinds() == [NEWADDR] * 32
    for _ in range(10):
        host.runner.address_removed(Address(index=ETH0.index, address=VIP, prefix=32, family=4, protocol=112))
        await settle()
    assert host.state() is State.BACKUP, "but not again and again"


async def test_a_kernel_that_refuses_each_time_is_not_asked_each_time() -> None:
    """One without IPv6, for example: the group would change its state three times a second, for ever."""
    host = Host(config())
    host.errno = errno.EACCES
    host.runner.start()
    for _ in range(3):
        assert not host.runner.engine.demotions.excluded
        await host.take_over()
        assert host.state() is State.BACKUP
    assert host.runner.engine.demotions.items() == [("kernel", None)]
    host.errno = 0
    host.runner.reconfigure(config(suspicion=False))
    assert not host.runner.engine.demotions.excluded, "another configuration is tried at once"
    await host.take_over()
    assert host.state() is State.MASTER


async def test_after_a_pause_it_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_LONGEST_PAUSE_S", 0.01)
    host = Host(config())
    host.errno = errno.EACCES
    host.runner.start()
    for _ in range(3):
        await host.take_over()
    assert host.runner.engine.demotions.excluded
    host.errno = 0
    await until(lambda: not host.runner.engine.demotions.excluded)
    await host.take_over()
    assert host.state() is State.MASTER
