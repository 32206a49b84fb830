"""The sidecar's netlink and wires in the namespaces of a laboratory, awaitable for tests."""

__all__ = ["STATE_DIR", "TIMEOUT_S", "Ear", "Hands", "group", "inside", "until", "with_ears"]

import asyncio
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_interface
from typing import Self, TypeVar

from carp_protocol.config import GroupConfig
from carp_sidecar.kernel import vip
from carp_sidecar.kernel.links import Change, ChangeKind, Link
from carp_sidecar.kernel.marks import ArpSettings, Mark
from carp_sidecar.kernel.netlink import Netlink
from carp_sidecar.wire import frames
from carp_sidecar.wire.sockets import Wire
from lab.network import Host, Lab

STATE_DIR = "/var/lib/kubecarp"
TIMEOUT_S = 10.0
"""Everything here takes milliseconds; a busy machine may take seconds."""
T = TypeVar("T")


def group(vhid: int = 1, *addresses: str, virtual_mac: bool = True) -> GroupConfig:
    own = addresses or (f"10.77.1.{vhid}/16",)
    return GroupConfig(name=f"group-{vhid}", vhid=vhid, addresses=tuple(map(ip_interface, own)), interface="eth0", virtual_mac=virtual_mac)


class Hands:
    """A netlink with the changes it saw, awaitable."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.netlink = Netlink(asyncio.get_running_loop(), self.changes.append)

    async def __aenter__(self) -> Self:
        await self.netlink.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.netlink.close()

    @property
    def parent(self) -> Link:
        link = self.netlink.snapshot.named("eth0")
        assert link is not None
        return link

    async def do(self, *batch: bytes, urgent: bool = True, expires: float | None = None) -> list[int]:
        done: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self.netlink.submit(batch, done.set_result, urgent=urgent, expires=expires)
        return await asyncio.wait_for(done, TIMEOUT_S)

    async def plan(self, config: GroupConfig) -> vip.AddressPlan:
        """A plan whose device exists."""
        mark = Mark(STATE_DIR, config.name, ArpSettings.of(self.parent))
        first = vip.plan_addresses(config, self.parent, self.netlink.snapshot, mark)
        assert not any(await self.do(*first.create, *first.adopt, urgent=False))
        plan = vip.plan_addresses(config, self.parent, self.netlink.snapshot, mark)
        assert plan.device is not None
        assert not plan.adopt
        return plan

    def held(self, plan: vip.AddressPlan) -> frozenset[str]:
        return vip.held(self.netlink.snapshot, plan)

    async def change(self, kind: ChangeKind, timeout_s: float = TIMEOUT_S) -> Change:
        return await until(lambda: next((one for one in self.changes if one.kind is kind), None), timeout_s)


async def until(probe: Callable[[], T | None], timeout_s: float = TIMEOUT_S) -> T:
    deadline = time.monotonic() + timeout_s
    while not (found := probe()):
        assert time.monotonic() < deadline, "nothing of the kind happened in time"
        await asyncio.sleep(0.002)
    return found


def inside(host: Host, work: Callable[[Hands], Awaitable[None]]) -> None:
    """Runs ``work`` on a loop in the namespace of ``host``."""

    async def run() -> None:
        async with Hands() as hands:
            await work(hands)

    host.namespace.call(asyncio.run, run())


class Ear:
    """A wire in the namespace of a host, read by our loop, and what it heard."""

    def __init__(self, host: Host) -> None:
        (shown,) = host.namespace.ip_json("link", "show", "eth0")
        self.mac = shown["address"]
        self.heard: list[frames.Frame] = []
        self.rejected: list[str] = []
        self.wire = host.namespace.call(Wire, "eth0", shown["ifindex"], self.mac)
        self.wire.start(asyncio.get_running_loop(), self.heard.append, lambda why: self.rejected.append(why.reason), lambda: None)

    @property
    def payloads(self) -> list[bytes]:
        return [frame.payload for frame in self.heard if isinstance(frame, frames.ReceivedAdvert)]


def with_ears(lab: Lab, work: Callable[[Ear, Ear], Awaitable[None]]) -> None:
    """Runs ``work`` with the wires of hosts a and b."""

    async def run() -> None:
        ears = [Ear(lab[name]) for name in "ab"]
        try:
            await work(*ears)
        finally:
            for ear in ears:
                ear.wire.close()

    asyncio.run(run())
