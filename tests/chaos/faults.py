"""The hands: does a fault of the plan to a world, and says what is left to do to end it."""

__all__ = ["Step", "begin"]

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from chaos.cable import Cable
from chaos.plan import INTERVALS_S, Strike
from chaos.world import ADDRESSES, Member, World
from lab.capture import gratuitous_arp, inject

Step = tuple[float, Callable[[], None]]
"""A later part of a fault: when, as a share of the time it lasts, and what."""
Hand = Callable[[World, Sequence[Member], Strike], list[Step]]
DAY_S = 86_400
HUNGRY = 2
"""Busy processes beside a starved one; each gets 300 times its share of the processor (SCHED_IDLE weighs 3, they 1024)."""


def begin(world: World, members: Sequence[Member], strike: Strike) -> list[Step]:
    """Let a fault happen to these members; what comes back ends it."""
    return HANDS[strike.word](world, members, strike)


def _kill(world: World, members: Sequence[Member], _: Strike) -> list[Step]:
    (member,) = members
    world.kill(member)
    return [(1.0, lambda: world.start(member))]


def _kill_both(world: World, members: Sequence[Member], _: Strike) -> list[Step]:
    """The guardian is stopped first, so that it does not see the other die."""
    (member,) = members
    guardians = member.sidecar.companions()
    for pid in guardians:
        os.kill(pid, signal.SIGSTOP)
    world.kill(member)
    for pid in guardians:
        os.kill(pid, signal.SIGKILL)
    return [(1.0, lambda: world.start(member))]


def _state_lost(world: World, members: Sequence[Member], _: Strike) -> list[Step]:
    (member,) = members
    world.kill(member)
    shutil.rmtree(member.sidecar.state_dir)
    return [(1.0, lambda: world.start(member))]


def _stop(_: World, members: Sequence[Member], __: Strike) -> list[Step]:
    (member,) = members
    member.sidecar.freeze()
    return [(1.0, member.sidecar.thaw)]


def _starve(_: World, members: Sequence[Member], strike: Strike) -> list[Step]:
    """On one processor, behind processes that never sleep."""
    (member,) = members
    cpus = os.sched_getaffinity(0)
    cpu = sorted(cpus)[int(strike.strength * len(cpus)) % len(cpus)]
    pids = [member.sidecar.pid, *member.sidecar.companions()]
    threads = [int(path.name) for pid in pids for path in Path(f"/proc/{pid}/task").iterdir()]
    busy = [
        subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"]) for _ in range(HUNGRY)
    ]
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, {cpu})
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))

    def feed() -> None:
        for one in busy:
            one.kill()
            one.wait()
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
                os.sched_setaffinity(thread, cpus)

    return [(1.0, feed)]


def _clock(world: World, members: Sequence[Member], strike: Strike) -> list[Step]:
    """The wall clock jumps by up to a day, either way; half of the time the sidecar starts anew in that time."""
    (member,) = members
    member.clock.write_text(str(round((strike.strength - 0.5) * 2 * DAY_S)))
    if int(strike.strength * 1000) % 2:
        world.kill(member)
        world.start(member)

    def set_right() -> None:
        member.clock.write_text("0")

    return [(1.0, set_right)]


def _carrier(world: World, members: Sequence[Member], _: Strike) -> list[Step]:
    (member,) = members
    world.lab.unplug(member.host)
    return [(1.0, lambda: world.lab.plug(member.host))]


def _unplug(world: World, members: Sequence[Member], _: Strike) -> list[Step]:
    (member,) = members
    ports = world.lab.pull_out(member.host)

    def put_in() -> None:
        world.lab.put_in(member.host, ports)
        world.watch.listen(member.host)

    return [(1.0, put_in)]


def _address(_: World, members: Sequence[Member], strike: Strike) -> list[Step]:
    """One of the addresses is deleted by hand, where it is."""
    (member,) = members
    wanted = ADDRESSES[int(strike.strength * len(ADDRESSES)) % len(ADDRESSES)]
    for link in member.host.namespace.ip_json("addr"):
        for entry in [one for one in link["addr_info"] if one["local"] == wanted]:
            member.host.namespace.run("ip", "addr", "del", f"{wanted}/{entry['prefixlen']}", "dev", link["ifname"], check=False)
    return []


def _device(world: World, members: Sequence[Member], strike: Strike) -> list[Step]:
    """The device of the virtual MAC is removed; without one an address is."""
    return _at_devices(world, members, strike, "ip link del $one")


def _device_down(world: World, members: Sequence[Member], strike: Strike) -> list[Step]:
    """The device of the virtual MAC is set down; without one an address is removed."""
    return _at_devices(world, members, strike, "ip link set $one down")


def _at_devices(world: World, members: Sequence[Member], strike: Strike, command: str) -> list[Step]:
    (member,) = members
    if not world.scenery.virtual_mac:
        return _address(world, members, strike)
    member.host.namespace.run("sh", "-c", f"for one in $(ls /sys/class/net | grep ^carp); do {command}; done", check=False)
    return []


def _mtu(_: World, members: Sequence[Member], strike: Strike) -> list[Step]:
    """Down to the least that IPv6 takes: below, the kernel removes the host's own addresses too."""
    (member,) = members
    namespace = member.host.namespace
    namespace.ip(f"link set eth0 mtu {1280 + round(strike.strength * 220)}")
    return [(1.0, lambda: namespace.ip("link set eth0 mtu 1500"))]


def _loss(world: World, members: Sequence[Member], strike: Strike) -> list[Step]:
    (member,) = members
    world.lab.lose(member.host, 0.1 + strike.strength / 2)
    return [(1.0, lambda: world.lab.mend(member.host))]


def _one_way(world: World, members: Sequence[Member], strike: Strike) -> list[Step]:
    (member,) = members
    (world.lab.mute if strike.strength < 0.5 else world.lab.deafen)(member.host)
    return [(1.0, lambda: world.lab.mend(member.host))]


def _partition(world: World, members: Sequence[Member], _: Strike) -> list[Step]:
    world.lab.part(*(member.host for member in members))

    def join() -> None:
        for member in members:
            world.lab.mend(member.host)

    return [(1.0, join)]


def _cable(delay_s: float, jitter_s: float, twice: float) -> Hand:
    def hand(world: World, members: Sequence[Member], strike: Strike) -> list[Step]:
        (member,) = members
        cable = Cable.delaying(world.lab, member.host, delay_s * strike.strength, jitter_s * strike.strength, twice)
        return [(1.0, cable.close)]

    return hand


def _intruder(world: World, _: Sequence[Member], __: Strike) -> list[Step]:
    """A host that is no member takes the IPv4 address, and says so to everybody."""
    namespace = world.intruder.namespace
    namespace.ip(f"addr add {ADDRESSES[0]}/32 dev eth0")
    inject(namespace, "eth0", [gratuitous_arp(ADDRESSES[0], world.intruder.port().mac)])
    return [(1.0, lambda: namespace.ip(f"addr del {ADDRESSES[0]}/32 dev eth0"))]


def _reload(world: World, members: Sequence[Member], strike: Strike) -> list[Step]:
    """One thing of the configuration changes on every member, one after the other."""
    draw = random.Random(strike.strength)
    settings, what = world.settings, draw.choice(["ranks", "interval_s", "more", "suspicion", "preemption"])
    if what == "ranks":
        shuffled = draw.sample(sorted(world.skews.values()), len(world.skews))
        world.skews = dict(zip(world.skews, shuffled, strict=True))
    elif what == "interval_s":
        settings[what] = draw.choice(INTERVALS_S[world.scenery.mode])
    else:
        settings[what] = not settings[what]
    world.reload(members)
    return []


def _key(world: World, members: Sequence[Member], _: Strike) -> list[Step]:
    """Accept the new one, send it, drop the old one."""
    world.keys.append(world.new_key())
    world.reload(members)

    def send() -> None:
        world.sending = dict.fromkeys(world.sending, 1)
        world.reload(members)

    def drop() -> None:
        del world.keys[0]
        world.sending = dict.fromkeys(world.sending, 0)
        world.reload(members)

    return [(0.5, send), (1.0, drop)]


HANDS: dict[str, Hand] = {
    "kill": _kill,
    "kill-both": _kill_both,
    "stop": _stop,
    "starve": _starve,
    "state-lost": _state_lost,
    "clock": _clock,
    "carrier": _carrier,
    "unplug": _unplug,
    "address": _address,
    "device": _device,
    "device-down": _device_down,
    "mtu": _mtu,
    "loss": _loss,
    "one-way": _one_way,
    "partition": _partition,
    "delay": _cable(0.05, 0.0, 0.0),
    "reorder": _cable(0.0, 0.03, 0.0),
    "duplicate": _cable(0.0, 0.0, 0.5),
    "intruder": _intruder,
    "reload": _reload,
    "key": _key,
}
