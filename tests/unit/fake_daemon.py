"""A daemon without network: one status document, and a memory of what it was asked to do."""

__all__ = ["DEADLINE_S", "FakeDaemon", "group_status", "status_document", "transition", "until"]

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

DEADLINE_S = 30.0
"""Longer than anything takes on a busy machine; only a failing test waits for it."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something outside the loop has happened."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  files, processes and threads set no event
            await asyncio.sleep(0.005)


def group_status(name: str = "intranet", **fields: Any) -> dict[str, Any]:
    """The status of a healthy backup."""
    return {
        "name": name,
        "vhid": 1,
        "interface": "vmx0",
        "interface_state": "up",
        "source": "172.27.27.3",
        "state": "BACKUP",
        "since": "2026-03-01T12:00:00Z",
        "since_s": 192.4,
        "reason": "started",
        "priority": 155,
        "advskew": 100,
        "mode": "Strict",
        "interval_s": 0.2,
        "virtual_mac": "00:00:5e:00:01:01",
        "preemption": False,
        "demotion": {"total": 0, "excluded": False, "reasons": []},
        "addresses": [{"address": "172.27.27.13/27", "held": False}],
        "master": {"source": "172.27.27.2", "id": "9f", "advskew": 0, "demotion": 0, "advert_age_s": 0.1, "local": False},
        "peers": [{"source": "172.27.27.2", "id": "9f", "advskew": 0, "demotion": 0, "seen_s_ago": 0.1}],
        "transitions": 1,
        "transitions_by_reason": {"started": 1},
        "split_brains": 0,
        "address_conflicts": 0,
        "masters_seen": 1,
        "adverts": {"sent": 0, "received": 7, "rejected": {"bad-digest": 2}},
        "takeover_s": None,
        "health_checks": [],
        "fence": {"wanted": "Auto", "active": "Gate", "reason": ""},
        "warnings": [],
    } | fields


def status_document(*groups: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A status with these groups."""
    return {
        "version": "0.1.0",
        "node": "router-003",
        "pid": 1,
        "started": "2026-03-01T11:59:00Z",
        "config": {"path": "/etc/kubecarp/sidecar.toml", "generation": 4, "loaded": "2026-03-01T11:59:00Z", "problems": []},
        "gate": {"table": "kubecarp-dbb834f8", "problem": "", "rebuilt": 0},
        "loop_lateness_s": 0.001,
        "memory_blocks": 141_210,
        "interfaces": [{"name": "vmx0", "state": "up", "addresses": ["172.27.27.3/27"]}],
        "groups": list(groups),
    } | fields


def transition(old: str = "BACKUP", new: str = "MASTER", reason: str = "master-timed-out", group: str = "intranet") -> dict[str, Any]:
    """A transition of the change stream."""
    return {
        "event": "transition",
        "time": "2026-03-01T12:00:00.123Z",
        "group": group,
        "vhid": 1,
        "interface": "vmx0",
        "from": old,
        "to": new,
        "reason": reason,
        "master": None,
    }


class FakeDaemon:
    """Answers like the daemon; ``calls`` holds what it was asked, ``refusal`` what it says to it."""

    def __init__(self, *groups: dict[str, Any]) -> None:
        self.document = status_document(*(groups or (group_status(),)))
        self.calls: list[tuple[Any, ...]] = []
        self.refusal: str | None = None
        self.problems: list[str] = []
        self.callbacks: list[Callable[[Mapping[str, Any]], None]] = []
        self.refreshed = 0
        self.on_handover: Callable[[], None] = lambda: None

    def group_names(self) -> list[str]:
        return [group["name"] for group in self.document["groups"]]

    def status(self, names: Collection[str] | None = None) -> dict[str, Any]:
        return self.document | {"groups": [group for group in self.document["groups"] if names is None or group["name"] in names]}

    async def refresh_addresses(self) -> None:
        self.refreshed += 1

    async def reload(self) -> list[str]:
        await asyncio.sleep(0)
        self.calls.append(("reload",))
        return self.problems

    def handover(self, group: str | None, to: str | None) -> str | None:
        self.calls.append(("handover", group, to))
        self.on_handover()
        return self.refusal

    async def demote(self, group: str | None, amount: int | None) -> str | None:
        self.calls.append(("demote", group, amount))
        return self.refusal

    async def undemote(self, group: str | None) -> str | None:
        self.calls.append(("undemote", group))
        return self.refusal

    def resign(self, group: str | None) -> str | None:
        self.calls.append(("resign", group))
        return self.refusal

    def subscribe(self, callback: Callable[[Mapping[str, Any]], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def publish(self, change: Mapping[str, Any]) -> None:
        """Tell every subscriber."""
        for callback in list(self.callbacks):
            callback(change)
