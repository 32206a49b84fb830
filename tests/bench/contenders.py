"""Who is compared, with which settings, and which cells that makes.

Every contender is two members on two hosts, made alike, so that one pair serves many runs.
"""

__all__ = ["CONTENDERS", "INTERVALS_S", "MANY", "WIDE", "Cell", "Contender", "cells", "decided_s", "kubecarp_member"]

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bench.faults import FAULTS, Member
from lab.network import Host, Lab
from lab.peers import Keepalived, Peer, Ucarp
from lab.sidecar import VIP4, VIP6, Sidecar, group

INTERVALS_S = (1.0, 0.2, 0.1, 0.01)
FAST_S = 0.1
"""Below that a busy machine disturbs an election: such cells are not measured at once with others."""
KEY_FAULTS = ("host dies", "SIGTERM", "handover", "preemption")
FULL_INTERVALS_S = (1.0, 0.1)
"""Where all faults are done; elsewhere the key faults have to do, for the sake of the time it takes."""
MANY = (50, 255)
MANY_INTERVALS_S = (1.0, 0.2)
WIDE = "wide0"
"""The interface of groups that are many: their addresses need a wider subnet."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of measurements: the same thing done many times."""

    contender: str
    fault: str
    interval_s: float
    virtual_mac: bool
    families: tuple[int, ...]
    groups: int = 1

    def __str__(self) -> str:
        what = self.fault if self.groups == 1 else f"{self.groups} groups: {self.fault}"
        return f"{self.column}, {what}, {self.interval_s * 1000:g} ms"

    @property
    def column(self) -> str:
        """The contender as tables and plots name it."""
        return f"{self.contender}, virtual MAC" if self.virtual_mac else self.contender

    @property
    def addresses(self) -> dict[int, str]:
        """The virtual address of each family."""
        return {family: {4: VIP4, 6: VIP6}[family] for family in self.families}

    @property
    def steady_after_s(self) -> float:
        """A backup that has followed for so long has heard some adverts."""
        return 3 * self.interval_s + 0.5

    @property
    def many_addresses(self) -> list[str]:
        """The addresses of groups that are many, one each."""
        return [f"10.88.{1 + number // 200}.{1 + number % 200}" for number in range(self.groups)]


@dataclass(frozen=True, slots=True)
class Contender:
    """A program, what it can do, and how a member of it is made and asked."""

    make: Callable[[Lab, Host, int, Cell], Member]
    follows: Callable[[Member, Cell], bool]
    """Whether a member is backup of every group."""
    takeovers: Callable[[Member], int]
    """How many times it became master since its start."""
    faults: tuple[str, ...]
    intervals_s: tuple[float, ...] = INTERVALS_S
    virtual_macs: tuple[bool, ...] = (False,)
    families: tuple[int, ...] = (4,)
    many: bool = False
    """Whether one process runs many groups."""
    program: str | None = None
    """What must be installed."""


def kubecarp_member(lab: Lab, host: Host, rank: int, cell: Cell, **fields: Any) -> Sidecar:
    """A sidecar in Strict mode with everything at its default but what the cell varies."""
    settings: dict[str, Any] = {
        "advskew": rank,
        "advertisement_interval": f"{cell.interval_s * 1000:g}ms",
        "virtual_mac": cell.virtual_mac,
        "preemption": {"enabled": FAULTS[cell.fault].preempts},
    }
    if cell.groups == 1:
        return Sidecar(lab, host, [group(**(settings | {"addresses": list(cell.addresses.values())} | fields))])
    numbered = enumerate(cell.many_addresses, 1)
    return Sidecar(lab, host, [group(f"g{vhid}", vhid, interface=WIDE, addresses=[one], **settings) for vhid, one in numbered])


def decided_s(group: dict[str, Any]) -> float:
    """When a group of a sidecar came into its state, by its status, on our monotonic clock."""
    return datetime.fromisoformat(group["since"]).timestamp() - (time.time() - time.monotonic())


def _sidecar_follows(member: Member, _: Cell) -> bool:
    """Whether it hears the master of every group."""
    assert isinstance(member, Sidecar)
    return all(one["state"] == "BACKUP" and one["master"] for one in member.status()["groups"])


def _peer_follows(member: Member, cell: Cell) -> bool:
    """A peer does not say whom it hears."""
    assert isinstance(member, Peer)
    return member.state == "BACKUP" and member.count("BACKUP") >= cell.groups


def _keepalived(lab: Lab, host: Host, rank: int, cell: Cell) -> Keepalived:
    """The best priorities there are: a backup waits 3 intervals and 1/128 of one."""
    fault, many = FAULTS[cell.fault], cell.groups > 1
    return Keepalived(
        host,
        lab.directory,
        *(cell.many_addresses if many else [VIP4]),
        interface=WIDE if many else None,
        priority=254 - rank,
        interval_s=cell.interval_s,
        virtual_mac=cell.virtual_mac,
        preempt=fault.preempts,
        demotable=cell.fault == "demotion",
    )


def _ucarp(lab: Lab, host: Host, rank: int, cell: Cell) -> Ucarp:
    return Ucarp(host, lab.directory, VIP4, advskew=rank, preempt=FAULTS[cell.fault].preempts)


def _takeovers_of_sidecar(member: Member) -> int:
    return member.log().count('"to": "MASTER"')


def _takeovers_of_peer(member: Member) -> int:
    assert isinstance(member, Peer)
    return member.count("MASTER")


CONTENDERS: dict[str, Contender] = {
    "kubecarp": Contender(
        kubecarp_member, _sidecar_follows, _takeovers_of_sidecar, tuple(FAULTS), virtual_macs=(True, False), families=(4, 6), many=True
    ),
    "keepalived": Contender(
        _keepalived, _peer_follows, _takeovers_of_peer, tuple(FAULTS.keys() - {"handover"}), many=True, program="keepalived"
    ),
    "ucarp": Contender(
        _ucarp,
        _peer_follows,
        _takeovers_of_peer,
        tuple(FAULTS.keys() - {"demotion", "SIGKILL to all", "SIGSTOP to all"}),
        intervals_s=(1.0,),
        program="ucarp",
    ),
}


def cells(names: list[str]) -> Iterator[list[Cell]]:
    """Cells that are compared, together: their runs alternate, or happen at once."""
    for interval_s in INTERVALS_S:
        for fault in FAULTS if interval_s in FULL_INTERVALS_S else KEY_FAULTS:
            if not FAULTS[fault].at_once:
                yield _beside(names, fault, interval_s)
    for fault in (name for name in FAULTS if FAULTS[name].at_once):
        yield [cell for interval_s in INTERVALS_S if interval_s >= FAST_S for cell in _beside(names, fault, interval_s)]
        yield [cell for interval_s in INTERVALS_S if interval_s < FAST_S for cell in _beside(names, fault, interval_s)]
    for interval_s in MANY_INTERVALS_S:
        for count in MANY:
            yield _beside([name for name in names if CONTENDERS[name].many], "host dies", interval_s, count)


def _beside(names: list[str], fault: str, interval_s: float, groups: int = 1) -> list[Cell]:
    able = [name for name in names if interval_s in CONTENDERS[name].intervals_s and fault in CONTENDERS[name].faults]
    families = {name: CONTENDERS[name].families if groups == 1 else (4,) for name in able}
    return [Cell(name, fault, interval_s, mac, families[name], groups) for name in able for mac in CONTENDERS[name].virtual_macs]
