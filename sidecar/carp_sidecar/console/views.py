"""What the command line shows people: lines of text out of status documents, changes and configurations. Pure."""

__all__ = ["change_line", "check_table", "group_detail", "paint_status", "status_table"]

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from carp_protocol.config import GroupConfig
from carp_sidecar.changes import describe_change, describe_reason
from carp_sidecar.console.tables import clean, format_duration, format_interval, format_table

_HEADERS = ("GROUP", "VHID", "INTERFACE", "ADDRESSES", "STATE", "SINCE", "MASTER", "HEALTH", "NOTE")
_WIDE_HEADERS = (*_HEADERS[:-1], "PRIORITY", "MODE", "INTERVAL", "MAC", "PEERS", "TRANSITIONS", "NOTE")
_STATE_COLOURS = {"MASTER": "\x1b[32m", "BACKUP": "\x1b[36m", "HANDOVER": "\x1b[35m", "INIT": "\x1b[33m"}
_WARNING, _RESET = "\x1b[33m", "\x1b[0m"

_Group = Mapping[str, Any]


def paint_status(header: str, cell: str) -> str:
    """Colour for a cell of the status table."""
    text = cell.strip()
    colour = ""
    if header == "STATE":
        colour = _STATE_COLOURS.get(text, "")
    elif text != "-" and (header == "NOTE" or (header == "HEALTH" and len(set(text.split("/"))) > 1)):
        colour = _WARNING
    return f"{colour}{cell}{_RESET}" if colour else cell


def status_table(status: Mapping[str, Any], *, wide: bool = False, paint: Callable[[str, str], str] | None = None) -> list[str]:
    """One line per group."""
    rows = []
    for group in status["groups"]:
        row = [
            group["name"],
            group["vhid"],
            group["interface"],
            _addresses(group, wide=wide),
            group["state"],
            format_duration(group["since_s"]),
            _master(group, status["node"]),
            _health(group),
        ]
        if wide:
            row += [
                group["priority"],
                group["mode"],
                format_interval(group["interval_s"]),
                group["virtual_mac"] or "physical",
                len(group["peers"]),
                group["transitions"],
            ]
        rows.append(["" if cell is None else cell for cell in (*row, "; ".join(_notes(group)))])
    if not rows:
        return ["no groups are configured"]
    return format_table(_WIDE_HEADERS if wide else _HEADERS, rows, paint=paint)


def _fence_detail(fence: Mapping[str, str]) -> str:
    """What silences the member if it hangs as master."""
    name = "gate" if fence["active"] == "Gate" else "lifetime of the addresses"
    return f"{name} ({fence['wanted']}{': ' if fence['reason'] else ''}{fence['reason']})"


def _addresses(group: _Group, *, wide: bool) -> str:
    addresses = [entry["address"] for entry in group["addresses"]]
    if wide or len(addresses) <= 2:
        return ",".join(addresses)
    return f"{addresses[0]} +{len(addresses) - 1}"


def _master(group: _Group, node: str) -> str:
    master = group["master"]
    if not master:
        return ""
    return node if master["local"] else str(master["source"])


def _health(group: _Group) -> str:
    checks = group["health_checks"]
    return f"{sum(check['passing'] is True for check in checks)}/{len(checks)}" if checks else ""


def _notes(group: _Group) -> list[str]:
    """What a person should know at a glance; the daemon's own warnings say what else is wrong."""
    notes = []
    if group["interface_state"] == "down":
        notes.append("interface is down")
    if group["masters_seen"] > 1:
        notes.append(f"{group['masters_seen']} masters (split brain)")
    demotion = group["demotion"]
    names = ", ".join(reason["name"] for reason in demotion["reasons"])
    if demotion["excluded"]:
        notes.append(f"out of the election ({names})" if names else "out of the election")
    elif demotion["total"]:
        notes.append(f"demoted by {demotion['total']} ({names})" if names else f"demoted by {demotion['total']}")
    return notes + list(group["warnings"])


def group_detail(status: Mapping[str, Any], group: _Group) -> list[str]:
    """Everything about one group, a fact per line."""
    held = sum(entry["held"] for entry in group["addresses"])
    facts: list[tuple[str, object]] = [
        ("Group", f"{group['name']} (VHID {group['vhid']})"),
        ("Node", status["node"]),
        ("Interface", f"{group['interface'] or '-'} ({group['interface_state']})"),
        ("State", f"{group['state']} for {format_duration(group['since_s'])}, since {group['since']}"),
        ("Reason", describe_reason(group["reason"])),
        ("Master", _master_detail(group, status["node"])),
        ("Priority", f"{group['priority']} (advskew {group['advskew']}), preemption {'on' if group['preemption'] else 'off'}"),
        ("Demotion", _demotion_detail(group["demotion"])),
        ("Mode", f"{group['mode']}, an advert every {format_interval(group['interval_s'])}"),
        ("MAC", group["virtual_mac"] or "physical"),
        ("Fence", _fence_detail(group["fence"])),
        ("Transitions", f"{group['transitions']}{_counts(group['transitions_by_reason'])}"),
        ("Split brains", group["split_brains"]),
        ("Conflicts", group["address_conflicts"]),
        ("Adverts", _adverts_detail(group["adverts"])),
        ("Takeover", "none yet" if group["takeover_s"] is None else f"last one took {format_interval(group['takeover_s'])}"),
    ]
    lines = [f"{name + ':':<14}{clean(value)}" for name, value in facts]
    lines += _section(f"Addresses ({held} of {len(group['addresses'])} held)", ("ADDRESS", "HELD"), _address_rows(group))
    lines += _section("Health checks", ("NAME", "PASSING", "MESSAGE"), [_check_row(check) for check in group["health_checks"]])
    lines += _section("Peers", ("SOURCE", "ID", "ADVSKEW", "DEMOTION", "SEEN"), [_peer_row(peer) for peer in group["peers"]])
    lines += [f"Warning: {clean(note)}" for note in _notes(group)]
    return lines


def _section(title: str, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in format_table(headers, rows))] if rows else []


def _address_rows(group: _Group) -> list[tuple[str, str]]:
    return [(entry["address"], "yes" if entry["held"] else "no") for entry in group["addresses"]]


def _check_row(check: Mapping[str, Any]) -> tuple[str, str, str]:
    passing = {True: "yes", False: "no", None: "pending"}[check["passing"]]
    return check["name"], f"{passing} ({check['consecutive']} in a row)", check["message"]


def _peer_row(peer: Mapping[str, Any]) -> tuple[object, ...]:
    return peer["source"], peer["id"] or "", peer["advskew"], peer["demotion"], f"{format_interval(peer['seen_s_ago'])} ago"


def _master_detail(group: _Group, node: str) -> str:
    master = group["master"]
    if not master:
        return "none heard"
    if master["local"]:
        return f"{node} (this host)"
    return f"{master['source']} (advskew {master['advskew']}, last advert {format_interval(master['advert_age_s'])} ago)"


def _demotion_detail(demotion: Mapping[str, Any]) -> str:
    reasons = [f"{r['name']} {'excludes' if r['amount'] is None else r['amount']}" for r in demotion["reasons"]]
    total = "out of the election" if demotion["excluded"] else str(demotion["total"])
    return f"{total} ({', '.join(reasons)})" if reasons else total


def _adverts_detail(adverts: Mapping[str, Any]) -> str:
    rejected = adverts["rejected"]
    return f"{adverts['sent']} sent, {adverts['received']} received, {sum(rejected.values())} rejected{_counts(rejected)}"


def _counts(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {count}' for name, count in sorted(counts.items()))})" if counts else ""


def change_line(change: Mapping[str, Any]) -> str:
    """One change on one line."""
    group = f"{change['group']}: " if change.get("group") else ""
    return clean(f"{change.get('time', '')} {group}{describe_change(change)}".strip())


def check_table(groups: Sequence[GroupConfig], interfaces: set[str]) -> list[str]:
    """What a configuration would run on a host with these interfaces."""
    headers = ("GROUP", "VHID", "INTERFACE", "ADDRESSES", "PRIORITY", "MODE", "INTERVAL", "MAC", "PEERS", "CHECKS", "NOTE")
    rows = [
        (
            group.name,
            group.vhid,
            group.interface or group.interface_pattern or "by subnet",
            ",".join(map(str, group.addresses)),
            group.priority,
            group.authentication.mode.value,
            format_interval(group.advertisement_interval_s),
            group.virtual_mac_address if group.virtual_mac else "physical",
            ",".join(group.peers.addresses) or group.peers.mode.value,
            ",".join(check.name for check in group.health_checks),
            "" if _is_there(group, interfaces) else "waits: no such interface here yet",
        )
        for group in groups
    ]
    return format_table(headers, rows) if rows else ["no groups are configured"]


def _is_there(group: GroupConfig, interfaces: set[str]) -> bool:
    if group.interface_pattern is not None:
        return any(re.search(group.interface_pattern, name) for name in interfaces)
    return group.interface is None or group.interface in interfaces
