"""Many groups whose master's host dies: when does each address answer elsewhere?"""

__all__ = ["all_die"]

import time
from typing import Any

from bench.contenders import CONTENDERS, WIDE, Cell, decided_s
from lab.namespace import wait_until
from lab.network import Lab
from lab.sidecar import Sidecar
from lab.sweep import Sweep

START_TIMEOUT_S = 60.0


def all_die(cell: Cell) -> dict[str, Any]:
    """One run, with a new pair: milliseconds from the death to the first answer for each address, sorted."""
    contender = CONTENDERS[cell.contender]
    with Lab.simple(2) as lab:
        wide = lab.segment("wide")
        for number, host in enumerate((lab["a"], lab["b"], lab.client), 1):
            lab.plug_in(host, wide, WIDE, f"10.88.0.{number}/16")
        master, backup = (contender.make(lab, lab[name], rank, cell) for rank, name in enumerate("ab"))
        master.start()
        with Sweep(lab.client, cell.many_addresses, WIDE) as sweep:
            sweep.wait_answered_by(master.host.ttl, START_TIMEOUT_S)
        backup.start()
        wait_until(lambda: contender.follows(backup, cell), START_TIMEOUT_S, "the backup follows in every group")
        time.sleep(cell.steady_after_s)
        with Sweep(lab.client, cell.many_addresses, WIDE) as sweep:
            sweep.wait_answered_by(master.host.ttl, START_TIMEOUT_S)
            lab.kill(master.host)
            died_s = time.monotonic()
            sweep.wait_answered_by(backup.host.ttl, START_TIMEOUT_S)
            answered = sweep.first_answer(backup.host.ttl)
        seen: dict[str, Any] = {"answers_ms": sorted(round((at - died_s) * 1000, 1) for at in answered.values())}
        if isinstance(backup, Sidecar):
            groups = backup.status()["groups"]
            decided = {address_of(one): decided_s(one) for one in groups}
            seen["to_kernel_ms"] = round(max(one["takeover_s"] for one in groups) * 1000, 2)
            seen["to_answer_ms"] = round(max(at - decided[address] for address, at in answered.items()) * 1000, 1)
        return seen


def address_of(group: dict[str, Any]) -> str:
    """The address of a group that has one."""
    address: str = group["addresses"][0]["address"].partition("/")[0]
    return address
