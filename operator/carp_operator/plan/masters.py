"""Who is master, when reports are all there is: some are old, some come from nodes that are gone, and some contradict each other.

A report says what was true when it was written, and nobody writes one while nothing changes. So:

- A node that Kubernetes calls not ready counts as master only while a live member hears it: what the wire says wins.
- Of several that call themselves master, the one that became it last is. The others may be dead, or their report may be on its way.
- After a second the operator asks them (a roll call: their CarpNode's generation grows, and a living agent answers). Who
  answers and is still master makes a split brain. Who does not answer is history.
"""

__all__ = ["SETTLE_S", "Masters", "find_masters"]

from collections.abc import Mapping
from dataclasses import dataclass

from carp_operator.api.group import parse_time
from carp_operator.api.node import CarpNode, GroupReport, Node

SETTLE_S = 1.0
"""A handover overlaps by milliseconds and reports are written at most once a second: sooner a second master means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masters:
    """The outcome."""

    node: str = ""
    """The master; empty: none."""
    rivals: tuple[str, ...] = ()
    """Others that are master too, proven."""
    ask: Mapping[str, int] | None = None
    """Roll calls to raise, by node."""
    again_in_s: float | None = None
    """Look again by then, although nothing may have been reported."""


def find_masters(reports: Mapping[str, GroupReport], nodes: Mapping[str, Node], carp_nodes: Mapping[str, CarpNode], now: float) -> Masters:
    """``reports`` of one group by node; ``now`` in seconds since 1970."""
    heard = _heard(reports, nodes)
    claims = [
        name
        for name, report in reports.items()
        if report.state == "Master" and (_alive(name, nodes) or heard & _sources(name, nodes, carp_nodes))
    ]
    claims.sort(key=lambda name: (_since(reports[name]), name), reverse=True)
    if len(claims) <= 1:
        return Masters(node=claims[0] if claims else "")
    newest, *others = claims
    call = int(_since(reports[newest]) * 1000)
    age_s = now - _since(reports[newest])
    if age_s < SETTLE_S:
        return Masters(node=newest, again_in_s=SETTLE_S - max(0.0, age_s))
    asked = [name for name in others if name in carp_nodes and carp_nodes[name].roll_call >= call]
    proven = [name for name in asked if carp_nodes[name].observed_generation == carp_nodes[name].generation]
    return Masters(node=newest, rivals=tuple(sorted(proven)), ask={name: call for name in others if name not in asked})


def _alive(name: str, nodes: Mapping[str, Node]) -> bool:
    return name in nodes and nodes[name].ready


def _heard(reports: Mapping[str, GroupReport], nodes: Mapping[str, Node]) -> set[str]:
    """Addresses from which live members hear a master."""
    return {
        report.master_source
        for name, report in reports.items()
        if _alive(name, nodes) and report.master_source and not report.master_is_local
    }


def _sources(name: str, nodes: Mapping[str, Node], carp_nodes: Mapping[str, CarpNode]) -> set[str]:
    found = set(nodes[name].addresses) if name in nodes else set()
    interfaces = carp_nodes[name].interfaces if name in carp_nodes else ()
    return found | {str(address.ip) for interface in interfaces for address in interface.addresses}


def _since(report: GroupReport) -> float:
    return parse_time(report.since) or 0.0
