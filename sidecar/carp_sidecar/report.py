"""The status document: what one group, and the whole sidecar, is doing. Reads, changes nothing."""

__all__ = ["fence_status", "group_status", "interfaces"]

import time
from typing import Any

from carp_protocol.config import SHORTEST_GATED_S, Fence, GroupConfig
from carp_protocol.effects import State
from carp_protocol.heard import MasterSeen
from carp_sidecar.kernel.links import Links
from carp_sidecar.kernel.vip import held, own_subnets
from carp_sidecar.logs import iso_time
from carp_sidecar.runner import Runner

_RIVAL_INTERVALS = 4
"""A second master counts as seen for this many intervals after its last advert: one more than its dead time."""


def interfaces(snapshot: Links) -> list[dict[str, Any]]:
    """Where addresses of this host could have their subnet: every interface with an address that others may reach, by name."""
    shown = []
    for link in sorted(snapshot, key=lambda one: one.name):
        reachable = sorted(str(subnet) for subnet in own_subnets(snapshot, link) if not (subnet.is_loopback or subnet.is_link_local))
        if reachable:
            shown.append({"name": link.name, "state": "up" if link.running else "down", "addresses": reachable})
    return shown


def group_status(runner: Runner, snapshot: Links, now: float) -> dict[str, Any]:
    """One entry of ``groups``; which addresses are held comes from the kernel, not from what we believe."""
    config, engine = runner.config, runner.engine
    in_state_s = max(0.0, now - engine.since)
    really_held = held(snapshot, runner.plan) if runner.plan else frozenset()
    return {
        "name": config.name,
        "vhid": config.vhid,
        "interface": runner.link.name if runner.link else config.interface,
        "interface_state": "missing" if not runner.link else "up" if runner.link.running else "down",
        "source": runner.own_source or None,
        "state": engine.state.value,
        "since": iso_time(time.time() - in_state_s),
        "since_s": round(in_state_s, 3),
        "reason": engine.reason.value,
        "priority": config.priority,
        "advskew": config.advskew,
        "mode": config.authentication.mode.value,
        "interval_s": config.advertisement_interval_s,
        "virtual_mac": config.virtual_mac_address if config.virtual_mac else None,
        "preemption": config.preemption.enabled,
        "demotion": {
            "total": engine.demotions.total,
            "excluded": engine.demotions.excluded,
            "reasons": [{"name": name, "amount": amount} for name, amount in engine.demotions.items()],
        },
        "addresses": [{"address": str(address), "held": str(address.ip) in really_held} for address in config.addresses],
        "master": _master(runner, now),
        "peers": _peers(runner, now),
        "transitions": runner.transitions.total(),
        "transitions_by_reason": runner.transitions.as_dict(),
        "split_brains": runner.split_brains,
        "address_conflicts": runner.address_conflicts,
        "masters_seen": _masters_seen(runner, now),
        "adverts": {"sent": runner.sent, "received": runner.received, "rejected": runner.rejected.as_dict()},
        "takeover_s": runner.arrival.took_s,
        "health_checks": runner.health.snapshot(),
        "fence": fence_status(config, runner.gate_problem),
        "warnings": _warnings(runner, really_held),
    }


def fence_status(config: GroupConfig, gate_problem: str) -> dict[str, str]:
    """What silences this member if it hangs while it is master, and why it is not the gate."""
    reason = gate_problem
    if config.fence is Fence.LIFETIME:
        reason = "as configured"
    elif not config.may_be_gated:
        reason = f"an advertisement interval below {SHORTEST_GATED_S * 1000:g} ms is too short for the kernel's clock"
    return {"wanted": config.fence.value, "active": "Lifetime" if reason else "Gate", "reason": reason}


def _master(runner: Runner, now: float) -> dict[str, Any] | None:
    engine = runner.engine
    if engine.state.holds_addresses:
        own = runner.own_source
        sender_id = engine.strict.sender_id if engine.strict else None
        return _seen(own, sender_id, runner.config.advskew, engine.demotions.total, 0.0, local=True)
    if engine.master is None:
        return None
    standing = engine.master.standing
    age_s = round(now - engine.master.heard_at, 3)
    return _seen(engine.master.source, standing.sender_id or None, standing.advskew, standing.demotion, age_s, local=False)


def _seen(source: str, sender_id: int | None, advskew: int, demotion: int, age_s: float, *, local: bool) -> dict[str, Any]:
    shown = None if sender_id is None else f"{sender_id:016x}"
    return {"source": source, "id": shown, "advskew": advskew, "demotion": demotion, "advert_age_s": age_s, "local": local}


def _peers(runner: Runner, now: float) -> list[dict[str, Any]]:
    if not runner.engine.strict:
        return []
    return [
        {
            "source": peer.source,
            "id": f"{peer.sender_id:016x}",
            "advskew": peer.advskew,
            "demotion": peer.demotion,
            "generation": peer.generation,
            "seen_s_ago": round(now - peer.seen_at, 3),
        }
        for peer in runner.engine.strict.peers.values()
    ]


def _masters_seen(runner: Runner, now: float) -> int:
    engine = runner.engine
    fresh_s = _RIVAL_INTERVALS * runner.config.advertisement_interval_s
    others: list[MasterSeen | None] = [engine.master, engine.rival if engine.state is State.MASTER else None]
    return engine.state.holds_addresses + sum(1 for seen in others if seen and now - seen.heard_at < fresh_s)


def _warnings(runner: Runner, really_held: frozenset[str]) -> list[str]:
    warnings = [sentence for sentence in (runner.waiting_for, runner.losses.refusal) if sentence]
    engine = runner.engine
    if engine.state is State.MASTER and len(really_held) < len(runner.config.addresses):
        missing = sorted({str(address.ip) for address in runner.config.addresses} - really_held)
        warnings.append(f"master, but the kernel does not hold {', '.join(missing)}")
    if runner.config.advskew == 255:
        warnings.append("priority 0: this member never becomes master")
    if runner.config.fence is Fence.REQUIRED and runner.gate_problem:
        warnings.append(f"this member never becomes master: its fence is Required, and {runner.gate_problem}")
    return warnings
