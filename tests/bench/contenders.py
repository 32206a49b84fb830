"""What is compared: who stands for election with which settings, and what happens to the master.

Every contender is two members on two hosts, made alike; every fault can be undone, so that one pair serves many runs.
"""

__all__ = ["CONTENDERS", "FAULTS", "Cell", "Contender", "Fault", "Member", "cells", "kubecarp_member"]

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from lab.namespace import wait_until
from lab.network import Host, Lab
from lab.peers import Keepalived, Peer, Ucarp
from lab.sidecar import VIP4, VIP6, Sidecar, group

STEADY_ADVERTS = 3
"""Adverts a backup has heard before a run counts as steady."""


class Member(Protocol):
    """What a run needs of a program, ours or another's."""

    host: Host

    @property
    def state(self) -> str: ...
    def start(self) -> object: ...
    def stop(self) -> object: ...
    def kill(self) -> None: ...
    def reap(self) -> object: ...
    def signal(self, number: signal.Signals) -> None: ...
    def wait_state(self, state: str, timeout_s: float = ...) -> object: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of measurements: the same thing done many times."""

    contender: str
    fault: str
    interval_s: float
    virtual_mac: bool
    families: tuple[int, ...]

    def __str__(self) -> str:
        mac = "virtual" if self.virtual_mac else "physical"
        return f"{self.contender} {self.fault} {self.interval_s * 1000:g} ms, {mac} MAC, IPv{'+'.join(map(str, self.families))}"

    @property
    def addresses(self) -> dict[int, str]:
        """The virtual address of each family."""
        return {family: {4: VIP4, 6: VIP6}[family] for family in self.families}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to a master, and how it ends."""

    apply: Callable[[Lab, Member], object]
    undo: Callable[[Lab, Member], object]


def _host_dies(lab: Lab, member: Member) -> None:
    lab.kill(member.host)
    member.reap()


def _reboot(lab: Lab, member: Member) -> None:
    lab.reboot(member.host)
    member.start()


def _handover(_: Lab, member: Member) -> None:
    assert isinstance(member, Sidecar)
    member.request("handover", group="web")


FAULTS: dict[str, Fault] = {
    "host dies": Fault(_host_dies, _reboot),
    "SIGTERM": Fault(lambda _, member: member.stop(), lambda _, member: member.start()),
    "handover": Fault(_handover, lambda *_: None),
    "SIGKILL": Fault(lambda _, member: member.kill(), lambda _, member: member.start()),
    "SIGSTOP": Fault(lambda _, member: member.signal(signal.SIGSTOP), lambda _, member: member.signal(signal.SIGCONT)),
    "link down": Fault(lambda lab, member: lab.unplug(member.host), lambda lab, member: lab.heal(member.host)),
}


@dataclass(frozen=True, slots=True)
class Contender:
    """A program, what it can do, and how a member of it is made and known to be steady."""

    make: Callable[[Lab, Host, int, Cell], Member]
    steady: Callable[[Member, Cell], None]
    faults: tuple[str, ...]
    intervals_s: tuple[float, ...]
    virtual_macs: tuple[bool, ...]
    families: tuple[int, ...]
    program: str | None = None
    """What must be installed."""


def kubecarp_member(lab: Lab, host: Host, rank: int, cell: Cell, **fields: Any) -> Sidecar:
    """A sidecar in Strict mode with everything at its default but what the cell varies."""
    settings: dict[str, Any] = {
        "advskew": rank,
        "advertisement_interval": f"{cell.interval_s * 1000:g}ms",
        "virtual_mac": cell.virtual_mac,
        "addresses": list(cell.addresses.values()),
    }
    return Sidecar(lab, host, [group(**(settings | fields))])


def _steady_sidecar(member: Member, _: Cell) -> None:
    assert isinstance(member, Sidecar)
    heard = member.wait_for(lambda one: one["state"] == "BACKUP" and one["master"], "hears the master")["adverts"]["received"]
    member.wait_for(lambda one: one["adverts"]["received"] >= heard + STEADY_ADVERTS, "hears some adverts")


def _steady_peer(member: Member, cell: Cell) -> None:
    """A peer does not say what it hears: give it the time."""
    assert isinstance(member, Peer)
    member.wait_state("BACKUP")
    heard_by = time.monotonic() + STEADY_ADVERTS * cell.interval_s + 0.5
    wait_until(lambda: time.monotonic() > heard_by, heard_by, "some adverts have passed")


def _keepalived(lab: Lab, host: Host, rank: int, cell: Cell) -> Keepalived:
    """The best priorities there are: a backup waits 3 intervals and 1/128 of one."""
    return Keepalived(
        host, lab.directory, VIP4, priority=254 - rank, interval_s=cell.interval_s, virtual_mac=cell.virtual_mac, preempt=False
    )


def _ucarp(lab: Lab, host: Host, rank: int, _: Cell) -> Ucarp:
    return Ucarp(host, lab.directory, VIP4, advskew=rank)


CONTENDERS: dict[str, Contender] = {
    "kubecarp": Contender(kubecarp_member, _steady_sidecar, tuple(FAULTS), (1.0, 0.1, 0.01), (True, False), (4, 6)),
    "keepalived": Contender(_keepalived, _steady_peer, ("host dies", "SIGTERM"), (1.0, 0.1, 0.01), (False,), (4,), "keepalived"),
    "ucarp": Contender(_ucarp, _steady_peer, ("host dies", "SIGTERM"), (1.0,), (False,), (4,), "ucarp"),
}


def cells(names: list[str]) -> Iterator[Cell]:
    """Every cell of the named contenders; what is compared stands close together in time."""
    for interval_s in (1.0, 0.1, 0.01):
        for fault in FAULTS:
            for name in names:
                contender = CONTENDERS[name]
                if interval_s in contender.intervals_s and fault in contender.faults:
                    yield from (Cell(name, fault, interval_s, mac, contender.families) for mac in contender.virtual_macs)
