"""Who is master, when reports are all there is: some are old, some come from nodes that are gone, and some contradict each other.

A report says what was true when it was written, and nobody writes one while nothing changes. So:

- A node that Kubernetes calls not ready counts as master only while a live member hears it: what the wire says wins.
- Of several that call themselves master, the one that became it last is. The others may be dead, or their report may be on its way.
- After a second the operator asks all of them (a roll call: their CarpNode's generation grows, and a living agent answers). Two that
  answer and are still master make a split brain. Who does not answer for five seconds is gone, long before Kubernetes says so.
"""

__all__ = ["ANSWER_S", "SETTLE_S", "Masters", "find_masters"]

from collections.abc import Mapping
from dataclasses import dataclass

from carp_operator.api.group import parse_time
from carp_operator.api.node import CarpNode, GroupReport, Node

SETTLE_S = 1.0
"""A handover overlaps by milliseconds and reports are written at most once a second: sooner a second master means nothing."""
ANSWER_S = 5.0
"""A living agent answers a roll call within about a second; for so long the newest claim is believed without an answer."""
_LINK_LOCAL = "fe80:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Masters:
    """The outcome."""

    node: str = ""
    """The master; empty: none of the nodes."""
    rivals: tuple[str, ...] = ()
    """Others that are master too, proven."""
    silent: tuple[str, ...] = ()
    """Others that called themselves master once, and did not answer the roll call: they, or their agents, are gone."""
    outside: str = ""
    """Without a master among the nodes: the address of another host that members hear as master."""
    between: bool = False
    """No master, and a member has just changed: the report of the next one is on its way."""
    ask: Mapping[str, int] | None = None
    """Roll calls to raise, by node."""
    again_in_s: float | None = None
    """Look again by then, although nothing may have been reported."""


def find_masters(
    reports: Mapping[str, GroupReport], nodes: Mapping[str, Node], carp_nodes: Mapping[str, CarpNode], now: float, *, split: bool = False
) -> Masters:
    """``reports`` of one group by node; ``now`` in seconds since 1970. ``split``: the last outcome had rivals."""
    heard = _heard(reports, nodes)
    claims = _claims(reports, nodes, carp_nodes, heard)
    if not claims:
        silent_s = now - max((_since(report) for name, report in reports.items() if _alive(name, nodes)), default=0.0)
        between = 0 <= silent_s < SETTLE_S
        again_in_s = SETTLE_S - silent_s if between else None
        return Masters(outside=_stranger(heard, nodes, carp_nodes), between=between, again_in_s=again_in_s)
    newest, *others = claims
    if not others:
        return Masters(node=newest)
    settled = _since(reports[newest]) + SETTLE_S
    if now < settled:
        return Masters(node=newest, again_in_s=min(SETTLE_S, settled - now))
    due = int(settled * 1000)
    reachable = [name for name in claims if name in carp_nodes and name in nodes]
    asked = {name: carp_nodes[name].roll_call / 1000 for name in reachable if carp_nodes[name].roll_call >= due}
    ask = {name: int(now * 1000) for name in reachable if name not in asked}
    # Every change of a CarpNode is another question, so a split brain that was proven lasts until a claim of it ends.
    proven = [name for name in claims if name in asked and (split or carp_nodes[name].observed_generation == carp_nodes[name].generation)]
    if newest in reachable and newest not in proven:
        wait_s = asked.get(newest, now) + ANSWER_S - now
        if wait_s > 0:
            return Masters(node=newest, ask=ask, again_in_s=wait_s)
    master = (proven or claims)[0]
    rivals = tuple(sorted(name for name in proven if name != master))
    waits_s = {name: asked.get(name, now) + ANSWER_S - now for name in reachable if name != master and name not in proven}
    silent = tuple(sorted(name for name, wait_s in waits_s.items() if wait_s <= 0))
    again_in_s = min((wait_s for wait_s in waits_s.values() if wait_s > 0), default=None)
    return Masters(node=master, rivals=rivals, silent=silent, ask=ask, again_in_s=again_in_s)


def _claims(
    reports: Mapping[str, GroupReport], nodes: Mapping[str, Node], carp_nodes: Mapping[str, CarpNode], heard: set[str]
) -> list[str]:
    """Who calls itself master and can be believed, the newest first."""
    masters = sorted(
        (name for name, report in reports.items() if report.state == "Master"), key=lambda name: (-_since(reports[name]), name)
    )
    claims = [name for name in masters if _alive(name, nodes) or heard & _sources(name, nodes, carp_nodes)]
    # IPv6 adverts come from link-local addresses, which no report lists: better the one that says so than nobody.
    return claims or (masters if any(source.startswith(_LINK_LOCAL) for source in heard) else [])


def _stranger(heard: set[str], nodes: Mapping[str, Node], carp_nodes: Mapping[str, CarpNode]) -> str:
    """An address that is heard and belongs to no node."""
    unknown = {source for source in heard if not source.startswith(_LINK_LOCAL)}
    for name in nodes.keys() | carp_nodes.keys() if unknown else ():
        unknown -= _sources(name, nodes, carp_nodes)
    return min(unknown, default="")


def _alive(name: str, nodes: Mapping[str, Node]) -> bool:
    return name in nodes and nodes[name].ready


def _heard(reports: Mapping[str, GroupReport], nodes: Mapping[str, Node]) -> set[str]:
    """Addresses from which live members hear a master."""
    return {
        report.master_source.partition("%")[0]
        for name, report in reports.items()
        if _alive(name, nodes) and report.master_source and not report.master_is_local
    }


def _sources(name: str, nodes: Mapping[str, Node], carp_nodes: Mapping[str, CarpNode]) -> set[str]:
    found = set(nodes[name].addresses) if name in nodes else set()
    interfaces = carp_nodes[name].interfaces if name in carp_nodes else ()
    return found | {str(address.ip) for interface in interfaces for address in interface.addresses}


def _since(report: GroupReport) -> float:
    return parse_time(report.since) or 0.0
