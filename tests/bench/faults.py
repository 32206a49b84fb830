"""What happens to a master: how it begins, how it is undone, and what is to be seen of it."""

__all__ = ["FAULTS", "LOSS", "Fault", "Member"]

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from lab.namespace import LabError
from lab.network import Host, Lab
from lab.peers import Keepalived
from lab.sidecar import Sidecar

LOSS = 0.3
FLAPS, WITHOUT_CARRIER_S, WITH_CARRIER_S = 3, 0.1, 0.2
STARVED_S = 3.0
DEMOTION = 100
WATCH_S, LONG_WATCH_S, LOSS_S = 0.3, 3.0, 60.0
_BUSY = "import os, sys, time; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); end = time.monotonic() + float(sys.argv[1])\n"
_BUSY += "while time.monotonic() < end: pass"


class Member(Protocol):
    """What a run needs of a program, ours or another's."""

    host: Host

    @property
    def pid(self) -> int: ...
    @property
    def state(self) -> str: ...
    def start(self) -> object: ...
    def stop(self) -> object: ...
    def reap(self) -> object: ...
    def log(self) -> str: ...
    def wait_state(self, state: str, timeout_s: float = ...) -> object: ...


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to a member of a pair, the master as a rule."""

    apply: Callable[[Lab, Member], object]
    undo: Callable[[Lab, Member], object]
    means: str
    moves: bool = True
    """The address has to move; else it may stay, and moves are counted."""
    watch_s: float = WATCH_S
    """How long it is watched after that."""
    before: Callable[[Lab, Member], object] | None = None
    """What makes the other one master first: the member that it happens to is the one that returns."""
    preempts: bool = False
    """Members are set up to take the address from a worse master."""
    at_once: bool = False
    """All contenders suffer it during the same time: moves are counted, and no millisecond is."""


def _electing(member: Member) -> int:
    """The process that sends the adverts. keepalived has a second one that starts it again when it dies."""
    return member.vrrp_pid if isinstance(member, Keepalived) else member.pid


def _signal_all(member: Member, number: signal.Signals) -> None:
    for pid in member.host.namespace.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _host_dies(lab: Lab, member: Member) -> None:
    lab.kill(member.host)
    member.reap()


def _reboot(lab: Lab, member: Member) -> None:
    """The host as it is after a boot, whatever it was that happened."""
    lab.reboot(member.host)
    with contextlib.suppress(subprocess.TimeoutExpired):
        member.reap()
    member.start()


def _handover(_: Lab, member: Member) -> None:
    if isinstance(member, Sidecar):
        member.request("handover", group="web")
    else:
        os.kill(member.pid, signal.SIGUSR2)


def _demote(_: Lab, member: Member) -> None:
    if isinstance(member, Sidecar):
        member.request("demote", group="web", amount=DEMOTION)
    elif isinstance(member, Keepalived):
        member.demote(DEMOTION)


def _undemote(_: Lab, member: Member) -> None:
    if isinstance(member, Sidecar):
        member.request("undemote", group="web")
    elif isinstance(member, Keepalived):
        member.demote(0)


def _flap(lab: Lab, member: Member) -> None:
    for _ in range(FLAPS):
        lab.unplug(member.host)
        time.sleep(WITHOUT_CARRIER_S)
        lab.heal(member.host)
        time.sleep(WITH_CARRIER_S)


def _pin(pids: Iterable[int], cores: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), cores)


def _bystanders(lab: Lab, member: Member) -> list[int]:
    return [os.getpid(), *(pid for host in lab.hosts if host is not member.host for pid in host.namespace.processes())]


def _starve(lab: Lab, member: Member) -> None:
    """The last core becomes the master's host; everybody else leaves it, and a real-time process keeps it busy."""
    cores = os.sched_getaffinity(0)
    last = max(cores)
    if len(cores) < 2:
        raise LabError("starving the master needs a core for it and one for the others; this machine has one")
    _pin(_bystanders(lab, member), cores - {last})
    _pin(member.host.namespace.processes(), {last})
    busy = ["taskset", "--cpu-list", str(last), "setpriv", "--pdeathsig", "KILL", sys.executable, "-IS", "-c", _BUSY, str(STARVED_S)]
    try:
        done = subprocess.run(busy, capture_output=True, text=True, timeout=STARVED_S + 10, check=False)
    finally:
        _pin(_bystanders(lab, member), cores)
    if done.returncode != 0:
        raise LabError(f"no busy loop of higher priority (real root is needed): {done.stderr.strip()[-200:]}")


def _feed(_: Lab, member: Member) -> None:
    _pin(member.host.namespace.processes(), os.sched_getaffinity(0))


def _nothing(*_: object) -> None:
    """It undoes itself."""


FAULTS: dict[str, Fault] = {
    "host dies": Fault(_host_dies, _reboot, "its switch port stops forwarding and every process on it is killed"),
    "SIGTERM": Fault(lambda _, member: member.stop(), lambda _, member: member.start(), "the daemon is asked to stop"),
    "handover": Fault(_handover, _nothing, "by command (ucarp: SIGUSR2)"),
    "demotion": Fault(_demote, _undemote, "a health check makes the master the worse one (keepalived: a tracked file)", preempts=True),
    "preemption": Fault(
        lambda _, member: member.start(), _nothing, "the better member comes back and takes over",
        before=lambda _, member: member.stop(), preempts=True,
    ),
    "SIGKILL": Fault(
        lambda _, member: os.kill(_electing(member), signal.SIGKILL), _reboot, "to the process that elects; its host lives",
        moves=False, watch_s=LONG_WATCH_S,
    ),
    "SIGKILL to all": Fault(
        lambda _, member: _signal_all(member, signal.SIGKILL), _reboot, "to every process of the daemon, as for lack of memory",
        watch_s=LONG_WATCH_S,
    ),
    "SIGSTOP": Fault(
        lambda _, member: os.kill(_electing(member), signal.SIGSTOP), lambda _, member: os.kill(_electing(member), signal.SIGCONT),
        "to the process that elects: it hangs", watch_s=LONG_WATCH_S,
    ),
    "SIGSTOP to all": Fault(
        lambda _, member: _signal_all(member, signal.SIGSTOP), lambda _, member: _signal_all(member, signal.SIGCONT),
        "to every process of the daemon, as `docker pause`", watch_s=LONG_WATCH_S,
    ),
    "link down": Fault(lambda lab, member: lab.unplug(member.host), lambda lab, member: lab.heal(member.host), "the master loses carrier"),
    "link flap": Fault(
        _flap, _nothing, f"{FLAPS} times {WITHOUT_CARRIER_S * 1000:g} ms without carrier, {WITH_CARRIER_S * 1000:g} ms with", moves=False,
        watch_s=2.0,
    ),
    "CPU starved": Fault(
        _starve, _feed, f"a real-time busy loop on the core of the master's host for {STARVED_S:g} s", moves=False, watch_s=1.0,
    ),
    "loss": Fault(
        lambda lab, member: lab.lose(member.host, LOSS), lambda lab, member: lab.heal(member.host),
        f"{LOSS:.0%} of the frames from and to the master, for {LOSS_S:g} s", moves=False, watch_s=LOSS_S, at_once=True,
    ),
}  # fmt: skip
