"""One run: a fault happens to a member of a pair while a client and a witness watch. Knows no contender and writes nothing."""

__all__ = ["TAKEOVER_TIMEOUT_S", "Pair", "Run"]

import contextlib
import random
import time
from types import TracebackType
from typing import Any, Self

from bench.contenders import CONTENDERS, Cell, decided_s
from bench.faults import FAULTS, Member
from lab.namespace import LabError, wait_until
from lab.network import Host, Lab
from lab.prober import Prober, ProbeResult
from lab.sidecar import Sidecar
from lab.witness import Sighting, Witness

TAKEOVER_TIMEOUT_S = 20.0


class Pair:
    """Two members of a contender on two hosts, one of them master, through any number of runs."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.fault = cell, FAULTS[cell.fault]
        self._contender = CONTENDERS[cell.contender]
        self.lab = Lab.simple(2)
        try:
            self.watcher = self._plug_in_watcher()
            self.master, self.backup = (self._contender.make(self.lab, self.lab[name], rank, cell) for rank, name in enumerate("ab"))
            self.master.start()
            self.master.wait_state("MASTER", TAKEOVER_TIMEOUT_S)
            self.backup.start()
            self._undone_s = time.monotonic()
        except BaseException:
            self.lab.close()
            raise

    def _plug_in_watcher(self) -> Host:
        watcher = self.lab.host("watcher")
        self.lab.plug_in(watcher, self.lab.client.port().segment, "eth0", "10.77.0.201/24", "fd77::201/64")
        return watcher

    def close(self) -> None:
        """End everything of it."""
        self.lab.close()

    def find_roles(self) -> None:
        """Until one is master and the other follows it, whichever they are."""
        wait_until(lambda: sorted(map(_state, (self.master, self.backup))) == ["BACKUP", "MASTER"], TAKEOVER_TIMEOUT_S, "one is master")
        if _state(self.backup) == "MASTER":
            self.master, self.backup = self.backup, self.master
        wait_until(lambda: self._contender.follows(self.backup, self.cell), TAKEOVER_TIMEOUT_S, f"{self.backup.host.name} follows")

    def settle(self) -> None:
        """Until the backup has heard some adverts; while others are measured, that time passes by itself."""
        time.sleep(max(0.0, self._undone_s + self.cell.steady_after_s - time.monotonic()))
        self.find_roles()  # last: a better member may have taken over meanwhile

    def takeovers(self) -> int:
        """How many times either became master, by their own word."""
        return self._contender.takeovers(self.master) + self._contender.takeovers(self.backup)

    def undo(self) -> None:
        """End the fault."""
        self.fault.undo(self.lab, self.master)
        wait_until(lambda: _state(self.master) != "", TAKEOVER_TIMEOUT_S, f"{self.master.host.name} has a state")
        self.find_roles()
        self._undone_s = time.monotonic()


def _state(member: Member) -> str:
    """MASTER, BACKUP or another; nothing while it does not answer."""
    with contextlib.suppress(OSError):
        return member.state
    return ""


class Run:
    """Probes and questions from before the fault until ``finish``."""

    def __init__(self, pair: Pair, watch_s: float) -> None:
        self._pair, self._fault = pair, pair.fault
        self._watch_s = watch_s if self._fault.moves else max(watch_s, 3 * pair.cell.interval_s + 1)
        self._stack = contextlib.ExitStack()
        self._probers: dict[int, Prober] = {}
        self._witnesses: dict[int, Witness] = {}
        self._began_s = 0.0
        self._takeovers = 0

    def __enter__(self) -> Self:
        pair = self._pair
        hosts = [pair.master.host, pair.backup.host]
        try:
            if self._fault.before:
                self._fault.before(pair.lab, pair.master)
                pair.backup.wait_state("MASTER", TAKEOVER_TIMEOUT_S)
            for family, address in ({} if self._fault.at_once else pair.cell.addresses).items():
                self._witnesses[family] = self._stack.enter_context(Witness(pair.lab, pair.watcher, address, hosts))
                self._probers[family] = self._stack.enter_context(Prober(pair.lab.client, address))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def begin(self) -> None:
        """Let the fault happen, at a random moment between two adverts."""
        for prober in self._probers.values():
            prober.wait_answering()
        time.sleep(random.uniform(0, self._pair.cell.interval_s))
        self._takeovers = self._pair.takeovers()
        self._began_s = time.monotonic()
        self._fault.apply(self._pair.lab, self._pair.master)

    def finish(self) -> dict[str, Any]:
        """Until it has had its effect and has been watched long enough; what was seen, by family."""
        pair, watched_from_s = self._pair, self._began_s
        successor = pair.master if self._fault.before else pair.backup
        if self._fault.moves:
            successor.wait_state("MASTER", TAKEOVER_TIMEOUT_S)
        if not self._fault.at_once:
            watched_from_s = time.monotonic()
        time.sleep(max(0.0, watched_from_s + self._watch_s - time.monotonic()))
        for prober in self._probers.values():
            prober.wait_answering()
        told = {family: _told(witness.sighting(self._began_s)) for family, witness in self._witnesses.items()}
        seen: dict[str, Any] = {str(family): told[family] | self._probed(prober.stop()) for family, prober in self._probers.items()}
        if not self._fault.moves:
            seen["takeovers"] = pair.takeovers() - self._takeovers
        elif isinstance(successor, Sidecar):
            group = successor.group()
            seen["decided_ms"] = round((decided_s(group) - self._began_s) * 1000, 1)
            if seen["decided_ms"] < 0:
                raise LabError(f"the address moved {-seen['decided_ms']:g} ms before the fault: the machine stood still")
            seen["to_kernel_ms"] = round(group["takeover_s"] * 1000, 2)
        return seen

    def _probed(self, result: ProbeResult) -> dict[str, Any]:
        """The outages, and how far they can be trusted: probes that the prober itself was late for were not sent."""
        fault_ms = (self._began_s - result.started_s) * 1000
        return {
            "longest_ms": result.longest_ms,
            "lost": result.lost,
            "sent": result.sent,
            "skipped": result.skipped,
            "late_by_ms": result.worst_lateness_ms,
            "outages": [[round(one.start_ms - fault_ms, 1), one.duration_ms] for one in result.outages],
            "answered_by": [self._pair.lab.host_by_ttl(ttl) for ttl in result.ttls],
        }


def _told(sighting: Sighting) -> dict[str, Any]:
    return {"two_hosts_ms": sighting.two_hosts_ms, "nobody_ms": sighting.nobody_ms, "answering_at_the_end": sighting.at_the_end}
