"""A cluster that fails all the time: real sidecars, some of which never restart, and the faults that they live through in turn.

Measures nothing; ``soak_samples`` looks at what it has become.
"""

__all__ = ["PROBE_PORT", "Cluster", "Step"]

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lab.namespace import LabError, wait_until
from lab.network import Lab
from lab.sidecar import Sidecar, group

PROBE_PORT = 9112
RANK_STEP = 16
"""Of advskew, as the operator gives them."""
SETTLE_TIMEOUT_S = 60.0
"""A Compatible group needs four seconds for a host without carrier; a busy machine takes its time."""
KEYS = ("1a" * 32, "2b" * 32, "3c" * 32)
COMPATIBLE_KEY = "soak"
ADDRESSES = (["10.77.0.{}"], ["fd77::1:{}"], ["10.77.0.{}", "fd77::1:{}"])
FIRST, FIRST_EXTRA = 50, 120
"""Last parts of the addresses: the hosts of the lab have those below 20 and 200."""


class Step(NamedTuple):
    """One fault, or the end of one."""

    name: str
    act: Callable[[], object]


class Cluster:
    """The last member is killed and stopped; the others live from the beginning to the end."""

    def __init__(self, lab: Lab, groups: int) -> None:
        self._lab, self._groups = lab, groups
        self._signs, self._accepts, self._changed = 0, list[int](), False
        self._masters: dict[str, str] = {}
        self.failovers, self.steps, self.unsettled = 0, Counter[str](), list[str]()
        for number, key in enumerate(KEYS):
            self._write_key(f"key-{number}", key)
        self._write_key("key-compatible", COMPATIBLE_KEY)
        self.members = [Sidecar(lab, host, [], probe_port=PROBE_PORT) for host in lab.members()]
        *self.survivors, self.mortal = self.members

    def _write_key(self, name: str, key: str) -> None:
        path = self._lab.directory / name
        path.touch(mode=0o600)
        path.write_text(key + "\n")

    def start(self) -> None:
        """Until every group is where its best member is."""
        self._configure()
        for member in self.members:
            member.start(wait=False)
        for member in self.members:
            member.wait_ready()
        self.wait_home()

    # ---- configuration ----------------------------------------------------------------------------------------

    def _group(self, number: int, rank: int) -> dict[str, Any]:
        """Both ways to hold an address, both families, one group of the old dialect, one with a check and a hook."""
        addresses = [one.format(FIRST + number) for one in ADDRESSES[number % 3]]
        if self._changed and number % 4 == 0:
            addresses.append(f"10.77.0.{FIRST_EXTRA + number}")
        fields: dict[str, Any] = {
            "addresses": addresses,
            "advskew": RANK_STEP * ((number + rank) % len(self.members)),
            "advertisement_interval": "500ms",
            "virtual_mac": number % 2 == 0,
            "preemption": {"enabled": True},
            "authentication": {
                "mode": "Strict",
                "key_file": f"{self._lab.directory}/key-{self._signs}",
                "accept_key_files": [f"{self._lab.directory}/key-{key}" for key in self._accepts],
            },
        }
        if number == 0:
            fields["authentication"] = {"mode": "Compatible", "key_file": f"{self._lab.directory}/key-compatible"}
            fields["advertisement_interval"] = "1s"
        if number == 1:
            fields["health_checks"] = [{"name": "well", "exec": {"command": ["true"]}, "period": "2s"}]
            fields["hook"] = ["true"]
        return group(f"g{number}", number + 1, **fields)

    def _configure(self) -> None:
        for rank, member in enumerate(self.members):
            member.configure([self._group(number, rank) for number in range(self._groups + 2 * self._changed)])

    def _reload(self, signs: int | None = None, accepts: tuple[int, ...] = (), changed: bool | None = None) -> None:
        self._signs = self._signs if signs is None else signs
        self._accepts = list(accepts)
        self._changed = self._changed if changed is None else changed
        self._configure()
        for member in self.members:
            member.request("reload")

    # ---- what the cluster does --------------------------------------------------------------------------------

    def masters(self) -> dict[str, list[str]]:
        """By group: the hosts that say they are its master, and ``?`` for one that has not decided."""
        found: dict[str, list[str]] = {}
        for member in self.members:
            for one in member.status()["groups"] if member.running else ():
                holders = found.setdefault(one["name"], [])
                if one["state"] == "MASTER":
                    holders.append(member.host.name)
                elif one["state"] == "HANDOVER":
                    holders.append("?")
        return found

    def _home(self) -> dict[str, list[str]]:
        count = len(self.members)
        return {f"g{number}": [self.members[-number % count].host.name] for number in range(self._groups)}

    def wait_settled(self) -> None:
        """Until every group has one master; those that moved since the last time are counted as failovers."""
        seen: dict[str, list[str]] = {}

        def settled() -> bool:
            seen.clear()
            seen.update(self.masters())
            return all(len(one) == 1 and one != ["?"] for one in seen.values())

        try:
            wait_until(settled, SETTLE_TIMEOUT_S, "one master of each group", every_s=0.1)
        except LabError as error:
            raise LabError(f"{error}: { {name: one for name, one in seen.items() if len(one) != 1} }") from error
        finally:
            now = {name: one[0] for name, one in seen.items() if len(one) == 1}
            self.failovers += sum(self._masters.get(name, master) != master for name, master in now.items())
            self._masters.update(now)

    def wait_home(self) -> None:
        """Until every group is back on its best member: the state in which nothing may differ from the cycle before."""
        self.wait_settled()
        wait_until(lambda: self.masters() == self._home(), SETTLE_TIMEOUT_S, "every group is on its best member", every_s=0.1)
        self.wait_settled()

    def cycle(self, number: int, every_s: float) -> Iterator[str]:
        """Every fault once, one each ``every_s`` seconds; one of the survivors is the one who suffers. Yields what is being done."""
        for step in self._steps(self.survivors[number % len(self.survivors)]):
            began = time.monotonic()
            yield step.name
            try:
                step.act()
                self.wait_settled()
            except (LabError, OSError) as error:
                self.unsettled.append(f"cycle {number}, {step.name}: {error}"[:2000])
            self.steps[step.name] += 1
            time.sleep(max(0.0, began + every_s - time.monotonic()))
        yield "all come home"
        self.wait_home()

    def _steps(self, victim: Sidecar) -> list[Step]:
        old, new = self._signs, (self._signs + 1) % len(KEYS)
        own = next(name for name, holders in self._home().items() if holders == [victim.host.name])
        return [
            Step("handover", lambda: victim.request("handover", group=own)),
            Step("demote", lambda: victim.request("demote", group="*", exclude=True)),
            Step("undemote", lambda: victim.request("undemote", group="*")),
            Step("link down", lambda: self._lab.unplug(victim.host)),
            Step("link up", lambda: self._lab.heal(victim.host)),
            Step("SIGTERM", self.mortal.stop),
            Step("start", self.mortal.start),
            Step("SIGKILL", self.mortal.kill),
            Step("start", self.mortal.start),
            Step("reload", lambda: self._reload(old, changed=True)),
            Step("reload", lambda: self._reload(old, changed=False)),
            Step("key accepted", lambda: self._reload(old, (new,))),
            Step("key sends", lambda: self._reload(new, (old,))),
            Step("key dropped", lambda: self._reload(new)),
        ]
