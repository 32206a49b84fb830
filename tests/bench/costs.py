"""What a sidecar costs and how soon it answers: memory, processor time, start. Knows no faults but a host's death."""

__all__ = ["COSTS"]

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.contenders import Cell, kubecarp_member
from lab.namespace import wait_until
from lab.network import Lab
from lab.prober import Prober
from lab.sidecar import VIP4, Sidecar, group
from lab.sweep import Sweep

MANY = 255
WATCH_S = 20.0
"""Long enough that 10 ms steps of the processor clock are below 0.1 %."""


def start_to_answer(runs: int) -> dict[str, Any]:
    """From the start of the process to the first answered probe, nobody else being there."""
    cell = Cell("kubecarp", "host dies", 1.0, True, (4,))
    seen = []
    for _ in range(runs):
        with Lab.simple(1) as lab, Prober(lab.client, VIP4) as prober:
            wait_until(lambda: prober.live.get("sent", 0) > 100, 10, "the prober runs")
            started = time.monotonic()
            kubecarp_member(lab, lab["a"], 0, cell).start(wait=False)
            prober.wait_answering()
            result = prober.stop()
            assert result.first_answer_ms is not None
            seen.append(result.first_answer_ms - (started - result.started_s) * 1000)
    return {"runs": runs, "median_ms": round(median(seen), 1), "worst_ms": round(max(seen), 1), "all_ms": [round(one, 1) for one in seen]}


def memory_with_ten_groups(_: int) -> dict[str, Any]:
    """Resident memory of the sidecar process, as master and as backup of ten groups."""
    with Lab.simple(2) as lab:
        master, backup = _pair(lab, 10, "eth0", lambda number: f"10.77.0.{100 + number}")
        _watch(WATCH_S / 2)
        return {"master_kb": master.memory_kb(), "backup_kb": backup.memory_kb()}


def many_groups(_: int) -> dict[str, Any]:
    """255 groups at 1 s: processor time of master and backup, memory, and what happens when their host dies."""
    with Lab.simple(2) as lab:
        wide = lab.segment("wide")
        for number, host in enumerate((lab["a"], lab["b"], lab.client), 1):
            lab.plug_in(host, wide, "wide0", f"10.88.0.{number}/16")
        master, backup = _pair(lab, MANY, "wide0", lambda number: f"10.88.{1 + number // 200}.{1 + number % 200}")
        before = (time.monotonic(), master.cpu_s(), backup.cpu_s())
        _watch(WATCH_S)
        seconds = time.monotonic() - before[0]
        cost = {
            "master_cpu_percent": round((master.cpu_s() - before[1]) / seconds * 100, 2),
            "backup_cpu_percent": round((backup.cpu_s() - before[2]) / seconds * 100, 2),
            "master_kb": master.memory_kb(),
            "backup_kb": backup.memory_kb(),
        }
        return cost | _all_move(lab, master, backup)


def _all_move(lab: Lab, master: Sidecar, backup: Sidecar) -> dict[str, Any]:
    addresses = [one["addresses"][0]["address"].partition("/")[0] for one in backup.status()["groups"]]
    with Sweep(lab.client, addresses, "wide0") as sweep:
        sweep.wait_answered_by(master.host.ttl, 30)
        lab.kill(master.host)
        died = time.monotonic()
        sweep.wait_answered_by(backup.host.ttl, 60)
        answers = sorted(at - died for at in sweep.first_answer(backup.host.ttl).values())
    takeovers = sorted(one["takeover_s"] for one in backup.status()["groups"])
    return {
        "detection_to_address_median_ms": round(median(takeovers) * 1000, 2),
        "detection_to_address_worst_ms": round(takeovers[-1] * 1000, 2),
        "death_to_first_answer_ms": round(answers[0] * 1000, 1),
        "death_to_last_answer_ms": round(answers[-1] * 1000, 1),
    }


def _pair(lab: Lab, count: int, interface: str, address: Callable[[int], str]) -> tuple[Sidecar, Sidecar]:
    """A master of ``count`` groups and a backup that hears all of them."""
    groups = [
        group(f"g{number}", number, interface=interface, addresses=[address(number)], advertisement_interval="1s")
        for number in range(1, count + 1)
    ]
    master = Sidecar(lab, lab["a"], groups).start()
    _all_groups(master, lambda one: one["state"] == "MASTER")
    backup = Sidecar(lab, lab["b"], [one | {"advskew": 1} for one in groups]).start()
    _all_groups(backup, lambda one: one["state"] == "BACKUP" and one["master"])
    return master, backup


def _all_groups(member: Sidecar, satisfied: Callable[[dict[str, Any]], Any]) -> None:
    wait_until(lambda: all(map(satisfied, member.status()["groups"])), 60, f"all groups of {member.host.name}", every_s=0.2)


def _watch(seconds: float) -> None:
    """Let time pass while something is measured."""
    ends = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= ends, seconds + 1, "time passes", every_s=0.2)


COSTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "start to first answer": start_to_answer,
    "memory with 10 groups": memory_with_ten_groups,
    "255 groups": many_groups,
}
