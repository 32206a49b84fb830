"""What is wrong, most urgent first: findings about groups, nodes and the operator, each a word and a sentence. Pure.

DOWN: clients notice. LOOK: it works, and somebody should look before the next failure. NOTE: worth knowing, nothing is wrong.
"""

__all__ = ["Finding", "Level", "Verdict", "judge", "worst"]

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from carp_operator.api.group import parse_time
from carp_operator.api.node import CarpNode, Node
from carp_operator.api.reasons import ConditionType, Reason
from carp_operator.plan.masters import find_masters

from .seen import GroupSeen, Snapshot
from .words import age, count, span

_LAG_S = 10.0
"""A report becomes a status within a second; a difference that is older is one that nobody works on."""
_SILENT_S = 60.0
"""The operator renews its lease every 5 s; the clock here may differ by some seconds."""


class Level(IntEnum):
    """How urgent a finding is."""

    NOTE = 0
    LOOK = 1
    DOWN = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know."""

    level: Level
    word: str
    """For programs and for a narrow column."""
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of a whole cluster."""

    groups: tuple[GroupSeen, ...]
    """The most urgent first, then by name; a master that the status does not know yet is put right."""
    group_findings: Mapping[str, tuple[Finding, ...]]
    node_findings: Mapping[str, tuple[Finding, ...]]
    """Only of nodes about which there is something to say."""
    operator_findings: tuple[Finding, ...]
    unreported: tuple[str, ...] = ()
    """Nodes from which no agent has ever reported."""
    hidden: frozenset[str] = field(default_factory=frozenset)
    """What the user may not see: ``nodes``."""

    @property
    def wrong_groups(self) -> list[str]:
        return [group.name for group in self.groups if worst(self.group_findings[group.name]) > Level.NOTE]

    @property
    def level(self) -> Level:
        return worst(finding for findings in self._all() for finding in findings)

    @property
    def healthy(self) -> bool:
        return self.level is Level.NOTE

    @property
    def headline(self) -> str:
        """One line that says whether to go on sleeping."""
        groups, wrong = len(self.groups), len(self.wrong_groups)
        if not groups:
            return "no CarpGroups"
        nodes = sum(worst(findings) > Level.NOTE for findings in self.node_findings.values())
        parts = [f"{wrong if groups > 1 else 'it'} need{'s' if wrong == 1 else ''} attention"] if wrong else []
        parts += [f"{count(nodes, 'node')} in trouble"] if nodes else []
        parts += ["the operator is silent"] if self.operator_findings else []
        return f"{count(groups, 'group')}, {', '.join(parts) if parts else 'all is well'}"

    def _all(self) -> Iterable[tuple[Finding, ...]]:
        yield from self.group_findings.values()
        yield from self.node_findings.values()
        yield self.operator_findings


def worst(findings: Iterable[Finding]) -> Level:
    return max((finding.level for finding in findings), default=Level.NOTE)


def judge(snapshot: Snapshot, now: float, names: Iterable[str] = ()) -> Verdict:
    """Everything that is to be said; of groups, only of ``names`` if there are any. ``now``: seconds since 1970."""
    wanted = set(names)
    found: dict[str, tuple[Finding, ...]] = {}
    groups = []
    for group in snapshot.groups:
        if wanted and group.name not in wanted:
            continue
        late = _late(group, snapshot, now)
        groups.append(replace(group, master=late[0], since=late[1], next="") if late else group)
        found[group.name] = tuple(_of_group(group, late, now))
    groups.sort(key=lambda group: (-worst(found[group.name]), group.name))
    nodes = {name: tuple(_of_node(node, snapshot.carp_nodes.get(name))) for name, node in sorted((snapshot.nodes or {}).items())}
    return Verdict(
        groups=tuple(groups),
        group_findings=found,
        node_findings={name: findings for name, findings in nodes.items() if findings},
        operator_findings=tuple(_of_operator(snapshot, now)),
        unreported=tuple(sorted(name for name in snapshot.nodes or () if not _reports(snapshot.carp_nodes.get(name)))),
        hidden=frozenset() if snapshot.nodes is not None else frozenset({"nodes"}),
    )


# ---- groups ---------------------------------------------------------------------------------------------------


def _of_group(group: GroupSeen, late: tuple[str, str] | None, now: float) -> Iterable[Finding]:
    if late:
        yield Finding(Level.LOOK, "OperatorLate", _late_sentence(group, late, now))
    if not group.looked_at:
        yield Finding(Level.DOWN, "NotSeen", "the operator has not looked at it yet; does it run?")
        return
    if group.observed_generation < group.generation:
        yield Finding(Level.LOOK, "NotSeen", "the operator has not looked at its newest version yet; does it run?")
    findings = [*_of_conditions(group)]
    yield from sorted(findings, key=lambda finding: -finding.level)


def _of_conditions(group: GroupSeen) -> Iterable[Finding]:
    """What the conditions say, without saying anything twice."""
    said = {kind: group.conditions.get(kind) for kind in ConditionType}
    accepted, programmed, ready = said[ConditionType.ACCEPTED], said[ConditionType.PROGRAMMED], said[ConditionType.READY]
    refused = accepted is not None and accepted.status == "False"
    runs = programmed is None or not (programmed.status == "False" and programmed.reason == Reason.NOT_ACCEPTED and not group.members)
    if accepted is not None and refused:
        yield Finding(Level.LOOK if runs else Level.DOWN, accepted.reason, accepted.message)
    split = said[ConditionType.SPLIT_BRAIN]
    if split is not None and split.status == "True":
        yield Finding(Level.DOWN, "SplitBrain", split.message)
    elif ready is not None and ready.status != "True" and not (refused and not runs):
        yield Finding(Level.DOWN, ready.reason, ready.message)
    if programmed is not None and programmed.status == "False" and programmed.reason == Reason.REFUSED:
        yield Finding(Level.LOOK, programmed.reason, programmed.message)
    elif programmed is not None and programmed.status == "False" and programmed.reason == Reason.PENDING:
        yield Finding(Level.NOTE, programmed.reason, programmed.message)
    degraded = said[ConditionType.DEGRADED]
    if degraded is not None and degraded.status == "True":
        level = Level.NOTE if degraded.reason == Reason.KEY_ROTATION else Level.LOOK
        yield Finding(level, degraded.reason, degraded.message)


def _late(group: GroupSeen, snapshot: Snapshot, now: float) -> tuple[str, str] | None:
    """The master and its time as the nodes report them, when the status has not followed for a while."""
    if snapshot.nodes is None or not group.looked_at:
        return None
    reports = {name: node.groups[group.name] for name, node in snapshot.carp_nodes.items() if group.name in node.groups}
    master = find_masters(reports, snapshot.nodes, snapshot.carp_nodes, now).node
    since = reports[master].since if master else ""
    changed = parse_time(since)
    if not master or master == group.master or changed is None or now - changed < _LAG_S:
        return None
    return master, since


def _late_sentence(group: GroupSeen, late: tuple[str, str], now: float) -> str:
    before = f"the status still says {group.master}" if group.master else "the status names no master yet"
    return (
        f"{late[0]} reports that it has the addresses, for {age(late[1], now)}, and {before}: the operator does not keep up; does it run?"
    )


# ---- nodes and the operator -----------------------------------------------------------------------------------


def _reports(carp_node: CarpNode | None) -> bool:
    return carp_node is not None and carp_node.reported


def _of_node(node: Node, carp_node: CarpNode | None) -> Iterable[Finding]:
    if carp_node is not None and carp_node.reported:
        if not node.ready:
            yield Finding(Level.LOOK, "NotReady", "Kubernetes says that the node is not ready")
        if not carp_node.sidecar_running:
            yield Finding(Level.LOOK, "SidecarNotRunning", "the sidecar does not run; look at the node's pod")
        for problem in carp_node.problems:
            yield Finding(Level.LOOK, "Problem", problem)
    elif carp_node is not None and carp_node.spec_groups:
        yield Finding(Level.LOOK, "NotReporting", f"no agent has reported, but {count(len(carp_node.spec_groups), 'group')} should run")
    if node.maintenance:
        yield Finding(Level.NOTE, "Maintenance", "it takes no addresses while another member can")
    if node.cordoned:
        yield Finding(Level.NOTE, "Cordoned", "it hands over what it has, except groups with onCordon: Keep")


def _of_operator(snapshot: Snapshot, now: float) -> Iterable[Finding]:
    operator = snapshot.operator
    if operator is None or now - operator.renewed < _SILENT_S:
        return
    sentence = f"the operator has been silent for {span(now - operator.renewed)}: what is shown may be old. Failover does not need it"
    yield Finding(Level.LOOK, "OperatorSilent", sentence)
