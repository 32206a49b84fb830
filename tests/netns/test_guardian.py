"""The guardian: what happens to the addresses of a sidecar that is killed, and that a clean stop leaves no trace of it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carp_sidecar.kernel.links import Link
from carp_sidecar.wire import frames
from lab.hands import TIMEOUT_S, Ear, Hands, until, with_ears
from lab.namespace import wait_until
from lab.network import Lab

pytestmark = pytest.mark.needs("netns", "ip")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.simple(2) as network:
        yield network


WAITS_MS = 60
"""Between farewell and removal, as the master below asks."""
AT_ONCE_MS = 1000
"""A machine that pauses may need hundreds of milliseconds more; the lifetime of the addresses, if it were that, ends later."""
MASTER = """
import asyncio, sys
from ipaddress import ip_interface
from carp_protocol.config import GroupConfig
from carp_sidecar.kernel import vip
from carp_sidecar.wire import frames
from carp_sidecar.kernel.guardian import Will
from carp_sidecar.kernel.marks import ArpSettings, Mark
from carp_sidecar.kernel.netlink import Netlink
from carp_sidecar.kernel.wills import Guardian

async def run():
    loop = asyncio.get_running_loop()
    netlink, guardian = Netlink(loop), Guardian(loop)
    await netlink.start()
    guardian.start()
    def close():
        guardian.close()
        sys.exit(0)
    loop.add_reader(0, close)
    async def do(batch, urgent):
        done = loop.create_future()
        netlink.submit(batch, done.set_result, urgent=urgent)
        assert not any(await done)
    addresses = (ip_interface("10.77.1.7/16"), ip_interface("fd77::1:7/64"))
    group = GroupConfig(name="web", vhid=7, addresses=addresses, virtual_mac=sys.argv[1] == "virtual")
    def plan():
        mark = Mark("/run/kubecarp-test", "web", ArpSettings(0, 0))
        return vip.plan_addresses(group, netlink.snapshot.named("eth0"), netlink.snapshot, mark)
    await do((*plan().create, *plan().adopt), False)
    ready = plan()
    bow_out = frames.AdvertHeader(ready.mac, "10.77.0.1").frame(b"bow-out")
    guardian.set("other", Will((), 0, b"", b""))
    guardian.clear("other")
    guardian.set("web", Will(((ready.parent, bow_out),), 60, b"".join(ready.drop), b"".join(ready.rest)))
    await do(ready.take, True)
    while True:
        print(guardian.pid, flush=True)
        await do(ready.renew, True)
        await asyncio.sleep(0.2)

asyncio.run(run())
"""


class Master:
    """A process on host a that holds two addresses and has a guardian."""

    def __init__(self, lab: Lab, mac: str) -> None:
        self.lab = lab
        self.process = subprocess.Popen(
            lab["a"].namespace.command(["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", MASTER, mac]),
            env={**os.environ, "PYTHONPATH": str(Path(frames.__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def guardian(self, but: int = 0) -> int:
        """The pid of its guardian, once it is another than ``but`` and in place."""

        def named() -> int:
            assert self.process.stdout is not None
            line = self.process.stdout.readline().strip()
            with contextlib.suppress(OSError, ValueError):
                if int(line) != but and Path(f"/proc/{line}/comm").read_text() == "carp-guardian\n":
                    return int(line)
            return 0

        return wait_until(named, TIMEOUT_S, "a guardian of the master")

    def close(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        held = self.lab["a"].held_addresses
        wait_until(lambda: not held("10.77.1.7", "fd77::1:7"), TIMEOUT_S, "the addresses are gone")
        self.lab["a"].namespace.run("ip", "link", "delete", "type", "macvlan", check=False)


@pytest.fixture
def master(lab: Lab) -> Iterator[Callable[[str], Master]]:
    with contextlib.ExitStack() as stack:

        def start(mac: str) -> Master:
            made = Master(lab, mac)
            stack.callback(made.close)
            return made

        yield start


@pytest.mark.timing
@pytest.mark.parametrize("mac", ["virtual", "physical"])
def test_the_guardian_bows_out_and_removes_the_addresses_of_a_killed_sidecar(lab: Lab, master: Callable[[str], Master], mac: str) -> None:
    async def work(one: Ear, two: Ear) -> None:
        async def watch() -> float:
            async with Hands() as hands:
                device = await until(lambda: next((link for link in hands.netlink.snapshot if holds(hands, link)), None))
                killed = time.perf_counter()
                started.process.kill()
                await until(lambda: not holds(hands, device))
                return (time.perf_counter() - killed) * 1000

        took_ms = await asyncio.to_thread(lab["a"].namespace.call, asyncio.run, watch())
        print(f"{mac} MAC: addresses gone {took_ms:.0f} ms after SIGKILL")
        assert WAITS_MS <= took_ms < AT_ONCE_MS
        await until(lambda: b"bow-out" in two.payloads)

    def holds(hands: Hands, link: Link) -> bool:
        return any(item.address in {"10.77.1.7", "fd77::1:7"} for item in hands.netlink.snapshot.addresses(link.index))

    started = master(mac)
    pid = started.guardian()
    memory = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    print("guardian", memory)
    assert int(memory.split()[1]) < 16_000
    assert set(os.listdir(f"/proc/{pid}/fd")) == {"0", "1", "2", "3", "4", "5"}, "no descriptor but its own"
    with_ears(lab, work)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), TIMEOUT_S, "the guardian ended")


def test_a_guardian_that_dies_is_replaced_and_the_new_one_knows_everything(lab: Lab, master: Callable[[str], Master]) -> None:
    started = master("virtual")
    first = started.guardian()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(first, number)
    assert started.guardian() == first, "it ignores what ends the sidecar"
    os.kill(first, signal.SIGKILL)
    second = started.guardian(but=first)
    started.process.kill()
    wait_until(lambda: not Path(f"/proc/{second}").exists(), TIMEOUT_S, "the guardian ended")
    assert lab["a"].held_addresses("10.77.1.7", "fd77::1:7") == []


def test_a_clean_stop_takes_the_guardian_along_and_nothing_is_carried_out(lab: Lab, master: Callable[[str], Master]) -> None:
    started = master("virtual")
    pid = started.guardian()
    assert started.process.stdin is not None
    started.process.stdin.write("close\n")
    started.process.stdin.flush()
    started.process.wait(TIMEOUT_S)
    assert not Path(f"/proc/{pid}").exists()
    assert sorted(lab["a"].held_addresses("10.77.1.7", "fd77::1:7")) == ["10.77.1.7", "fd77::1:7"]
