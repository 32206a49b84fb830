"""What ``-o json`` and ``-o yaml`` print: documents for programs. Fields are added, never renamed or removed. Pure.

``docs/kubectl-carp.md`` describes them.
"""

__all__ = ["as_text", "event_documents", "group_document", "status_document"]

import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from carp_operator.api.node import Node

from .seen import EventSeen, GroupSeen, MemberSeen
from .verdicts import Finding, Level, Verdict, worst

Json = dict[str, Any]

_LEVELS = {Level.NOTE: "Note", Level.LOOK: "Attention", Level.DOWN: "Down"}


def as_text(document: object, output: str) -> str:
    """The document as ``json`` or ``yaml``."""
    if output == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def status_document(verdict: Verdict, nodes: Mapping[str, Node] | None) -> Json:
    """The whole picture."""
    return {
        "healthy": verdict.healthy,
        "headline": verdict.headline,
        "groups": [group_document(group, verdict.group_findings[group.name]) for group in verdict.groups],
        "nodes": [_node(node, verdict.node_findings.get(name, ())) for name, node in sorted((nodes or {}).items())],
        "operator": {"findings": _findings(verdict.operator_findings)},
    }


def group_document(group: GroupSeen, findings: Iterable[Finding]) -> Json:
    """One group; what is not known is left out."""
    found = tuple(findings)
    document: Json = {"name": group.name, "healthy": worst(found) is Level.NOTE}
    if group.vhid is not None:
        document["vhid"] = group.vhid
    document |= {"addresses": list(group.addresses), "mode": group.mode.value, "interval": group.interval}
    if group.master:
        master = {"node": group.master, "since": group.since, "interface": group.interface}
        document["master"] = {key: value for key, value in master.items() if value}
    if group.next:
        document["next"] = group.next
    return document | {
        "transitions": group.transitions,
        "memberCount": group.member_count,
        "readyCount": group.ready_count,
        "members": [_member(member) for member in group.members],
        "findings": _findings(found),
    }


def event_documents(events: Iterable[EventSeen]) -> list[Json]:
    return [
        {"time": event.time, "type": "Warning" if event.warning else "Normal", "reason": event.reason, "note": event.note}
        for event in events
    ]


def _member(member: MemberSeen) -> Json:
    document: Json = {
        "node": member.node,
        "state": member.state,
        "ready": member.ready,
        "priority": member.priority,
        "advskew": member.advskew,
        "demotion": member.demotion,
    }
    told = {"interface": member.interface, "since": member.since, "reason": member.reason, "message": member.message}
    return document | {key: value for key, value in told.items() if value}


def _node(node: Node, findings: Iterable[Finding]) -> Json:
    return {
        "name": node.name,
        "ready": node.ready,
        "cordoned": node.cordoned,
        "maintenance": node.maintenance,
        "findings": _findings(findings),
    }


def _findings(findings: Iterable[Finding]) -> list[Json]:
    return [{"level": _LEVELS[finding.level], "word": finding.word, "sentence": finding.sentence} for finding in findings]
