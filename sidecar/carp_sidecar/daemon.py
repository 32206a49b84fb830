"""The groups of a sidecar, and what they share. Starts, stops, reloads by difference; decides nothing about elections."""

__all__ = ["Daemon"]

import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from carp_protocol.config import GroupConfig, SidecarConfig
from carp_protocol.effects import State
from carp_protocol.errors import ConfigError
from carp_sidecar import __version__, logs
from carp_sidecar.afterwards import Afterwards
from carp_sidecar.alarms import Alarms
from carp_sidecar.console.control import Callback, ControlSocket
from carp_sidecar.console.endpoints import Endpoints
from carp_sidecar.gate import Gate
from carp_sidecar.hooks import HookRunner
from carp_sidecar.kernel.links import Address, Change, ChangeKind, Link
from carp_sidecar.kernel.marks import owner
from carp_sidecar.kernel.netlink import Netlink
from carp_sidecar.kernel.parents import ParentSettings
from carp_sidecar.kernel.rtnl import ALIAS_PREFIX
from carp_sidecar.kernel.vip import choose_interface, sweep
from carp_sidecar.kernel.wills import Guardian
from carp_sidecar.logs import RejectedPackets, iso_time, log_change, log_event
from carp_sidecar.measurements import Measurements
from carp_sidecar.memory import Memory
from carp_sidecar.report import group_status, interfaces
from carp_sidecar.runner import Runner
from carp_sidecar.segment import Segment
from carp_sidecar.services import Services
from carp_sidecar.source import load
from carp_sidecar.state import StateDir
from carp_sidecar.together import together
from carp_sidecar.wire.probe import Responder

_log = logging.getLogger(__name__)

_RENEW_S = 0.6
"""Three renewals fit into a lease of 2 s: one late one does not cost the addresses."""
_SETTLE_S = 1.0
"""What is not needed for an election (metrics) begins this long after the start."""
_TELL_S = 60.0
_COLLECT_S = 5.0
"""Connections of asyncio and groups that were replaced are garbage in cycles. When it was left for up to a minute, 2400 blocks of memory
were found in it (measured, with a client that asks ten times a second), and the heap rises to the most that ever lay there."""
_HOOK_GRACE_S = 2.0
_RELOAD_GRACE_S = 5.0
"""A stop does not wait longer for a reload, which may hang with the disk that its files are on."""
_INTERFACES_S = 1.0
"""Between two looks at what is told of the host's interfaces, however often they change."""
_MANUAL, _RESIGNED = "manual", "resigned"
"""Names of the demotions that the control socket sets; only the first is kept across restarts."""


class Daemon:
    """Everything of one process, between ``start`` and ``stop``. Implements what control socket and endpoints ask for."""

    def __init__(
        self, path: str, config: SidecarConfig, state_dir: StateDir, *, problems: Sequence[str] = (), agent_group: int | None = None
    ) -> None:
        """``problems``: why ``config`` is not what ``path`` holds."""
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._config = config
        self._memory = Memory(self._loop, state_dir)
        self._runners: dict[str, Runner] = {}
        self._segments: dict[int, Segment] = {}
        self._own_addresses: frozenset[str] | None = None
        self._watchers: list[Callback] = []
        self._problems = list(problems)
        self._started = self._loaded = iso_time()
        self._interfaces: list[dict[str, Any]] = []
        self._interfaces_due: asyncio.TimerHandle | None = None
        self._lateness_s = 0.0
        self._renew_at = 0.0
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[list[str]]] = set()
        self._next_reload: asyncio.Task[list[str]] | None = None
        self._measurements = Measurements()
        self._rejected = RejectedPackets(_log)
        self._hooks = HookRunner()
        self._afterwards = Afterwards(self._loop)
        self._netlink = Netlink(self._loop, self._on_change)
        self._guardian = Guardian(self._loop)
        self._gate = Gate(self._loop, owner(config.state_dir), self._fence_changed)
        self._parent_settings = ParentSettings(self._netlink.snapshot)
        self._responder = Responder(self._loop, config.probe_port)
        self._control = ControlSocket(config.control_socket, self, group=agent_group)
        self._endpoints = Endpoints(config.metrics_address, self, self._measurements)
        self._services = Services(
            loop=self._loop,
            alarms=Alarms(self._loop),
            afterwards=self._afterwards,
            netlink=self._netlink,
            guardian=self._guardian,
            gate=self._gate,
            measurements=self._measurements,
            rejected=self._rejected,
            parent_settings=self._parent_settings,
            awaited={},
            state_dir=config.state_dir,
            open_segment=self._open_segment,
            close_segment=self._close_segment,
            report=self._report,
            identity_changed=self._identity_changed,
        )

    # ---- life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Sweep what a dead predecessor left, then run the groups. Raises CarpError when that cannot be."""
        async with self._reloading:  # who finds the control socket open may ask for a reload at once
            await self._start()
        count = "1 group" if len(self._runners) == 1 else f"{len(self._runners)} groups"
        log_event(_log, logging.INFO, f"carp-sidecar {__version__} runs {count}", node=self.node, config=self._path)

    async def _start(self) -> None:
        await self._control.open()
        self._memory.save()
        await self._netlink.start()
        self._interfaces = interfaces(self._netlink.snapshot)
        self._sweep()
        self._gate.start()
        for group in self._config.groups:
            self._add(group)
        self._guardian.leave_last(self._gate.removal)
        self._guardian.start()
        self._renew_at = self._loop.time() + _RENEW_S
        self._loop.call_at(self._renew_at, self._renew)
        self._loop.call_later(_SETTLE_S, lambda: self._endpoints.start())  # noqa: PLW0108 - not those of now: a reload may replace them
        self._loop.call_later(_TELL_S, self._tell_rejected)
        self._loop.call_later(_COLLECT_S, self._collect)

    async def stop(self) -> None:
        """Hand everything over, remove everything, end. A reload that comes meanwhile never begins: what it started nobody would end."""
        log_event(_log, logging.INFO, "stopping: handing over")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RELOAD_GRACE_S):
                await self._reloading.acquire()
        for reload in self._reloads:
            reload.cancel()
        await together(runner.close() for runner in self._runners.values())
        self._afterwards.flush()
        await self._hooks.close(grace_s=_HOOK_GRACE_S)
        await self._endpoints.close()
        await self._control.close()
        self._responder.close()
        self._netlink.close()
        self._gate.close()
        self._guardian.close()
        await self._memory.close()
        log_event(_log, logging.INFO, "stopped")

    @property
    def node(self) -> str:
        return self._config.node or socket.gethostname()

    def _sweep(self) -> None:
        snapshot = self._netlink.snapshot
        found = [(group, choose_interface(snapshot, group)) for group in self._config.groups]
        result = sweep(snapshot, self._config.state_dir, [(group, link) for group, link in found if isinstance(link, Link)])
        for note in result.notes:
            log_event(_log, logging.WARNING, note)
        self._netlink.submit(result.urgent)
        self._parent_settings.remember(result.parents)
        self._netlink.submit(result.lazy, lambda _: self._netlink.submit(self._parent_settings.put_back()), urgent=False)

    def _renew(self) -> None:
        """Extend the leases of everything this process holds, in one send; every group must have been punctual."""
        now = self._loop.time()
        self._lateness_s = now - self._renew_at
        self._measurements.observe_lateness(self._lateness_s)
        self._netlink.submit([request for runner in self._runners.values() for request in runner.renewals(now)], expires=now + _RENEW_S)
        self._renew_at = max(self._renew_at + _RENEW_S, now)
        self._loop.call_at(self._renew_at, self._renew)

    def _tell_rejected(self) -> None:
        """Tell what was only counted."""
        self._rejected.flush()
        self._loop.call_later(_TELL_S, self._tell_rejected)

    def _collect(self) -> None:
        """Free what Python's collector would leave for hours."""
        gc.collect()  # 0.6 ms with 255 groups, and half a MB less after 500 rounds of demotions (measured)
        self._loop.call_later(_COLLECT_S, self._collect)

    def _fence_changed(self) -> None:
        for runner in self._runners.values():
            runner.fence_changed()

    # ---- groups -----------------------------------------------------------------------------------------------

    def _add(self, group: GroupConfig) -> None:
        kept = self._memory.state.demotions
        demotions = {_MANUAL: kept[group.name]} if group.name in kept else {}
        runner = self._runners[group.name] = Runner(group, self._memory.state.identity, self._services, demotions)
        runner.use_generation(self._config.generation)
        runner.start()

    async def _replace(self, group: GroupConfig) -> None:
        await self._runners[group.name].close()
        self._add(group)

    async def _remove(self, name: str) -> None:
        await self._runners[name].close()
        del self._runners[name]
        self._measurements.forget(name)

    def _open_segment(self, link: Link) -> Segment:
        if link.index not in self._segments:
            self._segments[link.index] = Segment(self._loop, link, self._config.probe_port, self._addresses_of_this_host, self._memory)
        return self._segments[link.index]

    def _close_segment(self, segment: Segment) -> None:
        del self._segments[segment.index]

    def _addresses_of_this_host(self) -> frozenset[str]:
        """Not the virtual ones: those may be another master's source."""
        if self._own_addresses is None:
            virtual = {str(address.ip) for group in self._config.groups for address in group.addresses}
            snapshot = self._netlink.snapshot
            here = {item.address for link in snapshot for item in snapshot.addresses(link.index) if not item.ours}
            self._own_addresses = frozenset(here - virtual)
        return self._own_addresses

    def _on_change(self, change: Change) -> None:
        """The kernel says that a link or an address changed."""
        runners = list(self._runners.values())
        if change.address and change.address.ours:
            self._virtual_address_changed(change.address, gone=change.kind is ChangeKind.ADDRESS_REMOVED)
            return
        if not self._interfaces_due:
            self._interfaces_due = self._loop.call_later(_INTERFACES_S, self._tell_interfaces)
        if change.address:
            self._own_addresses = None
            for runner in runners:
                if runner.link and runner.link.index == change.index:
                    runner.refresh_voice()
        elif change.link and change.link.alias.startswith(ALIAS_PREFIX):
            device = None if change.kind is ChangeKind.LINK_GONE else change.link
            if device is None or not device.up:
                for runner in runners:
                    runner.device_changed(change.index, device)
            return
        else:
            self._link_changed(change, runners)
        for runner in runners:
            runner.place()

    def _virtual_address_changed(self, address: Address, *, gone: bool) -> None:
        if gone:
            for runner in self._runners.values():
                runner.address_removed(address)
        elif waiting := self._services.awaited.pop(place := (address.index, address.address), None):
            waiting(place)

    def _link_changed(self, change: Change, runners: list[Runner]) -> None:
        link = None if change.kind is ChangeKind.LINK_GONE else change.link
        self._netlink.submit(self._parent_settings.changed(change.index, link))
        if link and change.index in self._segments:
            self._segments[change.index].use_mac(link.mac)
        state = "missing" if link is None else "up" if link.running else "down"
        for runner in runners:
            if runner.link and runner.link.index == change.index:
                if change.kind is not ChangeKind.LINK_CHANGED:
                    event = {"event": "link", "group": runner.config.name, "vhid": runner.config.vhid, "interface": runner.link.name}
                    self._report(runner.config, {**event, "state": state})
                runner.link_changed(link)

    # ---- what others are told ---------------------------------------------------------------------------------

    def _tell_interfaces(self) -> None:
        """Some time after the first of many changes: most of them, such as those of a burst of pods, are not worth telling."""
        self._interfaces_due = None
        before, self._interfaces = self._interfaces, interfaces(self._netlink.snapshot)
        if self._interfaces != before:
            self._report(None, {"event": "interfaces", "interfaces": self._interfaces})

    def _report(self, group: GroupConfig | None, change: Mapping[str, Any]) -> None:
        dated = {"event": change["event"], "time": iso_time(), **change}
        log_change(_log, dated)
        if group and change["event"] == "transition":
            self._hooks.fire(group.hook, dated)
        for watcher in list(self._watchers):
            watcher(dated)

    def _identity_changed(self, epoch: int, *, twin: bool) -> None:
        if twin:
            log_event(_log, logging.WARNING, "another member uses the identity of this one (a cloned machine?); a new one was made")
        self._memory.learn_identity(epoch, twin=twin)

    # ---- what the control socket and the endpoints ask for ----------------------------------------------------

    def group_names(self) -> list[str]:
        return list(self._runners)

    def status(self, names: Collection[str] | None = None) -> dict[str, Any]:
        now = self._loop.time()
        runners = self._runners.values() if names is None else [self._runners[name] for name in names if name in self._runners]
        return {
            "version": __version__,
            "node": self.node,
            "pid": os.getpid(),
            "started": self._started,
            "config": {
                "path": self._path,
                "generation": self._config.generation,
                "loaded": self._loaded,
                "problems": self._problems,
            },
            "gate": {"table": self._gate.table, "problem": self._gate.problem, "rebuilt": self._gate.rebuilt},
            "loop_lateness_s": round(self._lateness_s, 6),
            "memory_blocks": sys.getallocatedblocks(),
            "interfaces": interfaces(self._netlink.snapshot),
            "groups": [group_status(runner, self._netlink.snapshot, now) for runner in runners],
        }

    async def refresh_addresses(self) -> None:
        await self._netlink.refresh()

    def reload(self) -> asyncio.Future[list[str]]:
        """Read the configuration again and change what differs; a bad one changes nothing. Gives the problems.

        It goes on when whoever asked waits no more, or half of the groups would be of one configuration and half of another.
        """
        if not self._next_reload:  # else one has not begun: it will read what there is to read now
            self._next_reload = self._loop.create_task(self._reload())
            self._reloads.add(self._next_reload)
            self._next_reload.add_done_callback(self._reloads.discard)
        return asyncio.shield(self._next_reload)

    async def _reload(self) -> list[str]:
        async with self._reloading:
            self._next_reload = None
            try:
                config = await self._loop.run_in_executor(None, load, self._path)
            except ConfigError as error:
                self._problems = [str(problem) for problem in error.problems]
            else:
                self._problems = self._cannot_change(config)
                if not self._problems:
                    await self._apply(config)
                    self._loaded = iso_time()
            self._report(None, {"event": "config", "generation": self._config.generation, "problems": self._problems})
            return self._problems

    def _cannot_change(self, config: SidecarConfig) -> list[str]:
        fixed = ("state_dir", "control_socket")
        changed = [name for name in fixed if getattr(config, name) != getattr(self._config, name)]
        return [f"{name}: cannot change while the sidecar runs; restart it for that, or put the old value back" for name in changed]

    async def _apply(self, config: SidecarConfig) -> None:
        old, self._config = self._config, config
        self._own_addresses = None
        if (config.log_format, config.log_level) != (old.log_format, old.log_level):
            logs.configure(config.log_format, config.log_level)
        if config.metrics_address != old.metrics_address:
            await self._endpoints.close()
            self._endpoints = Endpoints(config.metrics_address, self, self._measurements)
            self._endpoints.start()
        if config.probe_port != old.probe_port:
            self._responder.close()
            self._responder = Responder(self._loop, config.probe_port)
            for segment in self._segments.values():
                segment.use_probe_port(config.probe_port)
        wanted = {group.name: group for group in config.groups}
        await together(self._remove(name) for name in list(self._runners) if name not in wanted)
        restarts = [group for group in config.groups if group.name in self._runners and self._runners[group.name].needs_restart(group)]
        await together(self._replace(group) for group in restarts)
        for group in config.groups:
            if group.name not in self._runners:
                self._add(group)
            elif group != self._runners[group.name].config:
                self._runners[group.name].reconfigure(group)
            self._runners[group.name].use_generation(config.generation)
        self._runners = {name: self._runners[name] for name in wanted}

    def handover(self, group: str | None, to: str | None) -> str | None:
        runners = self._chosen(group)
        masters = [runner for runner in runners if runner.engine.state is State.MASTER]
        if not masters:
            name = f"group {group} is {runners[0].engine.state.value}" if group and runners else "no group is MASTER"
            return f"{name} on {self.node}: only the master can hand over; ask there"
        successors = [runner.peer_id(to) if to else 0 for runner in masters]
        for runner, successor_id in zip(masters, successors, strict=True):
            if successor_id is None:
                known = ", ".join(runner.peer_sources()) or "nobody yet"
                return f"group {runner.config.name} knows no member {to}; it knows {known}"
        for runner, successor_id in zip(masters, successors, strict=True):
            runner.handover(successor_id or 0)
        return None

    async def demote(self, group: str | None, amount: int | None) -> str | None:
        for runner in self._chosen(group):
            self._memory.state.demotions[runner.config.name] = amount
            runner.demote(_MANUAL, amount)
        return await self._memory.keep()

    async def undemote(self, group: str | None) -> str | None:
        for runner in self._chosen(group):
            self._memory.state.demotions.pop(runner.config.name, None)
            runner.engine.allow_preemption()
            runner.demote(_MANUAL, 0)
            runner.demote(_RESIGNED, 0)
        return await self._memory.keep()

    def resign(self, group: str | None) -> str | None:
        for runner in self._chosen(group):
            runner.demote(_RESIGNED, None)
        return None

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def _chosen(self, group: str | None) -> list[Runner]:
        return list(self._runners.values()) if group is None else [self._runners[group]]
