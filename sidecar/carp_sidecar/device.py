"""The macvlan of one group with a virtual MAC, and what it needs of the interface below: made, removed, never another's."""

__all__ = ["Device"]

import asyncio
import errno
import logging
import os
from collections.abc import Callable

from carp_protocol.config import GroupConfig
from carp_sidecar.kernel.links import Link
from carp_sidecar.kernel.marks import Mark, owner
from carp_sidecar.kernel.vip import AddressPlan, plan_addresses
from carp_sidecar.logs import log_event
from carp_sidecar.services import Services

_log = logging.getLogger(__name__)

_REMOVE_LIMIT_S = 10.0
"""Removing a macvlan takes the kernel 15 ms, and 255 groups may leave together."""


class Device:
    """``claim`` the interface, ``make`` what the plan lacks, ``remove`` at the end. Without a virtual MAC only ``plan`` is called."""

    def __init__(self, group: str, services: Services) -> None:
        self._group = group
        self._services = services
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def being_made(self) -> bool:
        """Whether the kernel has not answered yet."""
        return not self._idle.is_set()

    async def made(self) -> None:
        """Until nothing is being made."""
        await self._idle.wait()

    def claim(self, parent: Link) -> None:
        """The interface below must leave the addresses to the device."""
        self._services.netlink.submit(self._services.parent_settings.claim(parent, self._group))

    def plan(self, config: GroupConfig, parent: Link) -> AddressPlan:
        """The requests of the group as the kernel is now."""
        mark = Mark(owner(self._services.state_dir), self._group, self._services.parent_settings.before(parent))
        return plan_addresses(config, parent, self._services.netlink.snapshot, mark)

    def make(self, plan: AddressPlan, done: Callable[[str], None]) -> None:
        """Create and mark the device; ``done`` gets what went wrong, a sentence, or nothing."""
        self._idle.clear()

        def created(errnos: list[int]) -> None:
            if any(errnos):
                adopted(errnos)  # whatever has the name may be another's: it is not touched
            else:
                self._services.netlink.submit(plan.adopt, adopted, urgent=False)

        def adopted(errnos: list[int]) -> None:
            self._idle.set()
            failed = next((number for number in errnos if number), 0)
            if not failed:
                _ignore_router_adverts(plan.device_name)
            done(self._trouble(plan, failed) if failed else "")

        self._services.netlink.submit(plan.create, created, urgent=False)

    def _trouble(self, plan: AddressPlan, failed: int) -> str:
        found = self._services.netlink.snapshot.named(plan.device_name)
        mark = Mark.read(found.alias) if found else None
        if failed == errno.EEXIST and mark:
            holder = f"group {mark.group} of the carp-sidecar with state_dir {mark.owner}"
            return f"{plan.device_name}, the device of this VHID, belongs to {holder}; give each group on the interface its own vhid"
        why = os.strerror(failed)
        return f"the virtual MAC device cannot be made: {why}; trying again, virtual_mac = false does without it"

    async def remove(self, plan: AddressPlan) -> None:
        """Remove the device; after the last one on the interface, of this sidecar or another, put its settings back."""
        if not await self._carried_out(plan.remove):
            log_event(_log, logging.WARNING, f"{plan.device_name} was not removed in time", group=self._group)
        self._services.parent_settings.yield_back(plan.parent, self._group)
        if not await self._carried_out(self._services.parent_settings.put_back()):
            sentence = "arp_ignore and arp_announce of the interface were not put back in time"
            log_event(_log, logging.WARNING, sentence, group=self._group)

    async def _carried_out(self, requests: tuple[bytes, ...]) -> bool:
        done = asyncio.Event()
        self._services.netlink.submit(requests, lambda _: done.set(), urgent=False)
        try:
            await asyncio.wait_for(done.wait(), _REMOVE_LIMIT_S)
        except TimeoutError:
            return False
        return True


def _ignore_router_adverts(name: str) -> None:
    """Where /proc/sys can be written: neither an address nor a route comes to a macvlan from a router."""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{name}/accept_ra", "wb") as file:
            file.write(b"0")
    except OSError as error:
        _log.debug("%s: accept_ra stays as it is: %s", name, error.strerror)
