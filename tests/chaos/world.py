"""The hosts, sidecars and configurations of a scene, and what a person could do to them between faults."""

__all__ = ["ADDRESSES", "Member", "World"]

import secrets
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaos.bounds import Bounds, bounds_of
from chaos.plan import SKEWS, Scenery
from chaos.watch import Watch
from lab.namespace import LabError, wait_until
from lab.network import Host, Lab
from lab.sidecar import VIP4, VIP6, Sidecar, group

ADDRESSES = (VIP4, VIP6)
MORE = "10.77.0.101"
"""An address that reloads add and remove."""
SETTLED_TIMEOUT_S = 40.0
TESTS = Path(__file__).resolve().parents[1]


@dataclass(slots=True)
class Member:
    """One host, its sidecar, and the clock that it is shown."""

    host: Host
    sidecar: Sidecar
    clock: Path
    alive: bool = False


class World:
    """Everything of a scene between ``with`` and its end. ``bug``: what ``chaos.launch`` breaks in the sidecars."""

    def __init__(self, scenery: Scenery, bug: str = "none") -> None:
        self.scenery, self._bug = scenery, bug
        self.settings: dict[str, Any] = {
            "interval_s": scenery.interval_s,
            "preemption": scenery.preemption,
            "suspicion": True,
            "more": False,
        }
        self.lab = Lab.simple(scenery.hosts)
        try:
            self.skews = dict(zip((host.name for host in self.lab.members()), SKEWS, strict=False))
            segment = self.lab.client.port().segment
            self.watcher = self._extra(segment, "watcher", 201)
            self.intruder = self._extra(segment, "intruder", 202)
            self.lab.observe(self.watcher)
            self.keys = [self.new_key()]
            self.sending = {host.name: 0 for host in self._hosts()}
            self.members = [self._member(host) for host in self._hosts()]
            self.watch = Watch(self.lab, self.watcher, ADDRESSES, self._hosts())
        except BaseException:
            self.lab.close()
            raise

    def _extra(self, segment: Any, name: str, number: int) -> Host:
        host = self.lab.host(name)
        self.lab.plug_in(host, segment, "eth0", f"10.77.0.{number}/24", f"fd77::{number}/64")
        return host

    def _hosts(self) -> list[Host]:
        return [host for host in self.lab.members() if host.name not in ("watcher", "intruder")]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.watch.__exit__(kind, error, trace)
        self.lab.close()

    def new_key(self) -> str:
        return secrets.token_hex(32) if self.scenery.mode == "Strict" else secrets.token_hex(8)

    def _member(self, host: Host) -> Member:
        sidecar = Sidecar(self.lab, host, [], metrics_address="")
        member = Member(host, sidecar, sidecar.directory / "clock")
        member.clock.write_text("0")
        self.write(member)
        return member

    def write(self, member: Member) -> None:
        """The configuration file of one member, as the settings are now."""
        settings, skew = self.settings, self.skews[member.host.name]
        fields: dict[str, Any] = {
            "addresses": [*ADDRESSES, *([MORE] if settings["more"] else [])],
            "advskew": skew,
            "advertisement_interval": f"{round(settings['interval_s'] * 1000)}ms" if self.scenery.mode == "Strict" else "1s",
            "virtual_mac": self.scenery.virtual_mac,
            "suspicion": settings["suspicion"],
            "preemption": {"enabled": settings["preemption"]},
        }
        key = self.keys[self.sending[member.host.name]]
        accept = [one for one in self.keys if one != key]
        fields["authentication"] = {"mode": self.scenery.mode, "key": key, "accept_keys": accept}
        member.sidecar.configure([group(**fields)])
        member.sidecar.config_path.chmod(0o600)

    def start(self, member: Member) -> None:
        """Until its control socket answers."""
        path = ":".join(str(TESTS.parent / folder) for folder in ("sidecar", "tests"))
        launch = [sys.executable, "-m", "chaos.launch", str(member.clock), self._bug]
        member.sidecar.start(under=["env", f"PYTHONPATH={path}", *launch])
        member.alive = True

    def kill(self, member: Member) -> None:
        """SIGKILL of the sidecar alone; its guardian lives on."""
        member.sidecar.kill()
        member.alive = False

    def reload(self, members: Sequence[Member] = ()) -> None:
        """Write the files anew, and tell those that run."""
        for member in members or self.members:
            self.write(member)
            if member.alive:
                member.sidecar.signal(signal.SIGHUP)

    @property
    def master(self) -> int:
        """The number of the member that answers now (the first when nobody does)."""
        answering = self.watch.answering(ADDRESSES[0])
        return next((number for number, one in enumerate(self.members) if one.host.name in answering), 0)

    @property
    def best(self) -> str:
        """Whose rank is best, where that decides."""
        return min(self.skews, key=lambda name: self.skews[name]) if self.settings["preemption"] else ""

    def bounds(self, slowest_s: float, *, remade: bool = False) -> Bounds:
        """Of the configurations that the group had since it had this interval."""
        slowest_s = max(slowest_s, self.settings["interval_s"])
        return bounds_of(interval_s=slowest_s, worst_advskew=max(self.skews.values()), mode=self.scenery.mode, remade=remade)

    def start_all(self) -> None:
        """Start everybody and wait until one answers for everything."""
        for member in self.members:
            self.start(member)
        wait_until(
            lambda: all(len(self.watch.answering(address)) == 1 for address in ADDRESSES), SETTLED_TIMEOUT_S, "one answers", every_s=0.05
        )
        time.sleep(self.bounds(0.0).healed_s)

    def troubles(self) -> list[str]:
        """Sentences about sidecars that ended by themselves, tracebacks and errors in logs."""
        found = []
        for member in self.members:
            name, log = member.host.name, member.sidecar.log()
            if member.alive and not member.sidecar.running:
                found.append(f"{name}: the sidecar ended by itself")
            found += [f"{name}: {line}" for line in log.splitlines() if "Traceback" in line or '"level": "error"' in line]
        return found

    def splits(self) -> list[str]:
        """Sentences about members that still count more than one master."""
        told = [(one.host.name, one.sidecar.group()) for one in self.members]
        return [f"{name}: counts {group['masters_seen']} masters" for name, group in told if group["masters_seen"] > 1]

    def stop_all(self) -> list[str]:
        """SIGTERM to everybody; sentences about what did not end well and what is left in the kernels."""
        found = []
        for member in self.members:
            member.sidecar.signal(signal.SIGTERM)
        for member in self.members:
            name = member.host.name
            if (code := member.sidecar.reap()) != 0:
                found.append(f"{name}: exit code {code} after SIGTERM")
            member.alive = False
            try:
                wait_until(lambda member=member: not member.host.namespace.processes(), 5.0, "no process is left")  # type: ignore[misc]
            except LabError:
                found.append(f"{name}: processes are left: {member.host.namespace.processes()}")
            if held := member.host.held_addresses():
                found.append(f"{name}: addresses are left: {', '.join(held)}")
            kinds = [link["ifname"] for link in member.host.namespace.ip_json("link") if "linkinfo" in link and link["ifname"] != "eth0"]
            if kinds:
                found.append(f"{name}: devices are left: {', '.join(kinds)}")
            if rules := member.host.namespace.run("nft", "list", "ruleset").strip():
                found.append(f"{name}: nftables: {rules}")
        return found
