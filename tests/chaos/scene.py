"""Plays rounds in a world: does the faults of the plan on time, and hands what the wire showed to the checker."""

__all__ = ["Result", "Scene"]

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos import faults
from chaos.bounds import Bounds
from chaos.invariants import OBSERVED_S, RESOLUTION_S, Violation, check
from chaos.plan import Round, Scenery, Strike
from chaos.timeline import Happening, Timeline
from chaos.world import Member, World
from lab.capture import Capture

REMAKING = ("unplug", "device", "carrier")
Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """One round as it went."""

    scenery: Scenery
    number: int
    seen: Timeline
    bounds: Bounds
    violations: tuple[Violation, ...]
    troubles: tuple[str, ...]
    """What is wrong that the wire does not show: logs, exits, counters."""


class Scene:
    """A world with everybody started, between ``with`` and its end; ``keep`` is where captures of violations go."""

    def __init__(self, scenery: Scenery, keep: Path, bug: str = "none") -> None:
        self.scenery, self._keep = scenery, keep
        self._stack = contextlib.ExitStack()
        self._world = self._stack.enter_context(World(scenery, bug))
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self._world.start_all()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def end(self) -> tuple[str, ...]:
        """Stop everybody; sentences about what is wrong then."""
        return (*self._new_troubles(), *self._world.stop_all())

    def play(self, plan: Round, where: str, tell: Show) -> Result:
        """One round, from the first fault until everything had time to heal; ``tell`` hears ``where`` and what is being done."""

        def show(what: str) -> None:
            tell(f"{where}: {what}")

        world = self._world
        first = world.master
        order = [world.members[first], *(one for number, one in enumerate(world.members) if number != first)]
        slowest_s, could_preempt = world.settings["interval_s"], world.settings["preemption"]
        world.watch.forget()
        began_s = time.monotonic()
        with Capture(world.watcher.namespace, "eth0") as capture:
            happened = self._strike(plan, order, show)
            bounds = world.bounds(slowest_s, remade=any(one.word in REMAKING for one in happened))
            last_s = max((one.ended_s for one in happened), default=began_s)
            show("healing")
            time.sleep(max(0.0, last_s + bounds.healed_s + OBSERVED_S + RESOLUTION_S - time.monotonic()))
            members = tuple(one.host.name for one in world.members)
            asked, answers, pauses = world.watch.seen()
            seen = Timeline(began_s, asked[-1], members, asked, answers, pauses, happened, world.best, could_preempt)
            violations = tuple(check(seen, bounds))
            troubles = (*self._new_troubles(), *world.splits())
        if violations or troubles:
            capture.write_pcap(self._keep / f"round-{plan.number}.pcap")
            for member in world.members:
                (self._keep / f"round-{plan.number}-{member.host.name}.log").write_text(member.sidecar.log())
        return Result(self.scenery, plan.number, seen, bounds, violations, troubles)

    def _new_troubles(self) -> list[str]:
        found = [one for one in self._world.troubles() if one not in self._told]
        self._told.update(found)
        return found

    def _strike(self, plan: Round, order: list[Member], show: Show) -> list[Happening]:
        """Every part of every fault when its time has come; a slow part makes later ones late, and what really was is what counts."""
        start_s = time.monotonic()
        happened: list[Happening] = []
        waiting: list[tuple[float, int, Callable[[], None]]] = []
        count = 0

        def strike_now(strike: Strike) -> None:
            nonlocal count
            members = [order[victim] for victim in strike.victims]
            began_s = time.monotonic()
            show(strike.word)
            steps = faults.begin(self._world, members, strike)
            names = tuple(member.host.name for member in members)
            place = len(happened)
            happened.append(Happening(strike.word, names, began_s, time.monotonic()))

            def extend(action: Callable[[], None]) -> None:
                action()
                happened[place] = Happening(strike.word, names, began_s, time.monotonic())

            for share, action in steps:
                count += 1
                waiting.append((strike.at_s + share * strike.lasts_s, count, lambda action=action: extend(action)))  # type: ignore[misc]

        for strike in plan.strikes:
            count += 1
            waiting.append((strike.at_s, count, lambda strike=strike: strike_now(strike)))  # type: ignore[misc]
        while waiting:
            waiting.sort(key=lambda one: one[:2])
            at_s, _, action = waiting.pop(0)
            time.sleep(max(0.0, start_s + at_s - time.monotonic()))
            action()
        return happened
