"""Sentences for the changes a daemon reports: one wording for the log and for ``watch``. Pure."""

__all__ = ["LOUD_EVENTS", "describe_change", "describe_reason"]

from collections.abc import Mapping, Sequence
from typing import Any

LOUD_EVENTS = frozenset({"split-brain", "address-conflict"})
"""Changes that are warnings whatever they say."""

_REASONS = {
    "started": "the sidecar started",
    "link-up": "the interface came up",
    "link-down": "the interface went down",
    "closed": "the sidecar stops or the group was removed",
    "master-timed-out": "no advert of the master within the dead time",
    "master-host-dead": "the host of the master does not answer",
    "master-process-dead": "the sidecar of the master is gone",
    "master-bowed-out": "the master bowed out",
    "master-demoted": "the master is demoted",
    "nobody-there": "nobody else answers",
    "preempted-worse-master": "this member is better than the master",
    "better-master": "a better master is heard",
    "successor-heard": "the successor is heard",
    "no-successor": "no successor was heard",
    "requested": "it was requested",
    "excluded": "the group is out of the election here",
    "stalled": "this process was late",
    "address-failed": "the addresses could not be set",
}


def describe_reason(reason: str) -> str:
    """A phrase for a reason; the reason itself if it is a new one."""
    return _REASONS.get(reason, reason)


def describe_change(change: Mapping[str, Any]) -> str:
    """What happened, without the group's name and without the time."""
    match change["event"]:
        case "transition":
            return f"{change['from']} -> {change['to']}: {describe_reason(change['reason'])}"
        case "split-brain":
            outcome = "this member stays master" if change["won"] else "this member steps down"
            return f"{change['source']} is master too; {outcome}"
        case "address-conflict":
            return f"{change['mac']} answers for an address of the group but sends no adverts; find that host and take the address from it"
        case "health":
            return f"health check {change['check']} {'passes' if change['passing'] else 'fails'}: {change['message']}"
        case "demotion":
            return "out of the election" if change["excluded"] else f"demoted by {change['total']}" if change["total"] else "not demoted"
        case "config":
            return _describe_config(change)
        case "link":
            return f"interface is {change['state']}"
        case "interfaces":
            return f"this host has {_describe_interfaces(change['interfaces']) or 'no interface with a subnet'}"
        case other:
            return str(other)


def _describe_interfaces(interfaces: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{entry['name']}{'' if entry['state'] == 'up' else ' (down)'} with {', '.join(entry['addresses'])}" for entry in interfaces
    )


def _describe_config(change: Mapping[str, Any]) -> str:
    problems = change["problems"]
    if problems:
        return f"the new configuration is refused and the old one runs on: {'; '.join(map(str, problems))}"
    return f"configuration generation {change['generation']} runs"
