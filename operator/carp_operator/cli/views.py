"""The picture that ``status`` shows, and the lines that ``status --watch`` prints: from verdicts to tables and sentences. Pure."""

__all__ = ["LEVEL_STYLES", "addresses", "differences", "group_line", "status_picture"]

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.text import Text

from carp_operator.api.node import CarpNode, Node
from carp_operator.api.reasons import ConditionType

from .screen import rows, sentences, styled
from .seen import GroupSeen, Snapshot
from .verdicts import Finding, Level, Verdict, worst
from .words import age, clean, listed

LEVEL_STYLES = {Level.NOTE: "", Level.LOOK: "yellow", Level.DOWN: "bold red"}
_HEADERS = ("GROUP", "VHID", "ADDRESSES", "MASTER", "SINCE", "NEXT", "MEMBERS", "NOTE")
_WIDE_HEADERS = (*_HEADERS[:-1], "INTERFACE", "MODE", "INTERVAL", "TRANSITIONS", "NOTE")
_NODE_HEADERS = ("NODE", "STATE", "HAS", "NOTE")


def status_picture(verdict: Verdict, snapshot: Snapshot, now: float, *, wide: bool = False) -> list[RenderableType]:
    """Verdict, groups, what is wrong in sentences, nodes about which there is something to say."""
    picture: list[RenderableType] = [Text(clean(verdict.headline), style=LEVEL_STYLES[verdict.level] or "green")]
    if verdict.groups:
        cells = [_row(group, verdict.group_findings[group.name], now, wide=wide) for group in verdict.groups]
        picture += [Text(), rows(_WIDE_HEADERS if wide else _HEADERS, cells)]
    elif not snapshot.groups:
        picture += [Text(), Text("make one: docs/api-reference.md says what it may hold, `kubectl explain carp.spec` too")]
    said = [*_wrong(verdict)]
    if said:
        picture += [Text(), sentences(said)]
    if verdict.node_findings:
        picture += [Text(), *_nodes(verdict, snapshot)]
    return picture + _asides(verdict)


def addresses(group: GroupSeen, *, wide: bool = False) -> str:
    """The addresses of a group, shortened unless there is room."""
    if wide or len(group.addresses) <= 1:
        return ",".join(group.addresses)
    return f"{group.addresses[0]} +{len(group.addresses) - 1}"


def _row(group: GroupSeen, findings: tuple[Finding, ...], now: float, *, wide: bool) -> list[object]:
    level = worst(findings)
    row: list[object] = [
        styled(group.name, LEVEL_STYLES[level]),
        group.vhid,
        addresses(group, wide=wide),
        styled(group.master, "green" if group.master and level < Level.DOWN else LEVEL_STYLES[level]),
        age(group.since if group.master else _down_since(group), now),
        group.next,
        f"{group.ready_count}/{group.member_count}",
    ]
    if wide:
        row += [group.interface, group.mode.value, group.interval, group.transitions]
    return [*row, styled(",".join(finding.word for finding in findings), LEVEL_STYLES[level])]


def _down_since(group: GroupSeen) -> str:
    """Since when nobody has had the addresses."""
    ready = group.conditions.get(ConditionType.READY)
    return ready.since if ready is not None and ready.status == "False" else ""


def _wrong(verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    for finding in verdict.operator_findings:
        yield "operator", finding.sentence, LEVEL_STYLES[finding.level]
    for group in verdict.groups:
        for finding in verdict.group_findings[group.name]:
            yield group.name, finding.sentence, LEVEL_STYLES[finding.level]


def _nodes(verdict: Verdict, snapshot: Snapshot) -> list[RenderableType]:
    cells: list[tuple[object, ...]] = []
    said: list[tuple[str, str, str]] = []
    for name, findings in verdict.node_findings.items():
        node, style = (snapshot.nodes or {})[name], LEVEL_STYLES[worst(findings)]
        has = [group.name for group in verdict.groups if group.master == name]
        state = _state(node, snapshot.carp_nodes.get(name))
        cells.append((styled(name, style), state, ",".join(has), ",".join(one.word for one in findings)))
        said += [(name, one.sentence, LEVEL_STYLES[one.level]) for one in findings if one.level > Level.NOTE]
    table: list[RenderableType] = [rows(_NODE_HEADERS, cells)]
    return [*table, Text(), sentences(said)] if said else table


def _state(node: Node, carp_node: CarpNode | None) -> str:
    """As ``kubectl get nodes`` says it, and what of kubecarp is missing there."""
    state = "Ready" if node.ready else "NotReady"
    cordoned = ",SchedulingDisabled" if node.cordoned else ""
    silent = "" if carp_node is None or not carp_node.reported or carp_node.sidecar_running else ",NoSidecar"
    return f"{state}{cordoned}{silent}"


def _asides(verdict: Verdict) -> list[RenderableType]:
    """What explains the picture without being part of it."""
    lines = []
    if verdict.wrong_groups:
        lines.append(f"`kubectl carp describe {verdict.wrong_groups[0]}` says more")
    if verdict.unreported:
        lines.append(f"no agent has ever reported from {listed(verdict.unreported)}: no group runs there")
    if "nodes" in verdict.hidden:
        lines.append("you may not list Nodes: their state is not shown")
    return [Text(), *(Text(clean(line), style="dim") for line in lines)] if lines else []


# ---- changes --------------------------------------------------------------------------------------------------


def group_line(group: GroupSeen, findings: Iterable[Finding]) -> str:
    """A group on one line, for a log."""
    has = f"{group.master} has {addresses(group)}" if group.master else f"nobody has {addresses(group)}"
    notes = "; ".join(finding.sentence for finding in findings if finding.level > Level.NOTE)
    return f"{group.name}: {has}{f' ({notes})' if notes else ''}"


def differences(before: Verdict, now: Verdict) -> list[str]:
    """What happened between two pictures, a line each."""
    old = {group.name: group for group in before.groups}
    lines = []
    for group in sorted(now.groups, key=lambda one: one.name):
        was = old.pop(group.name, None)
        findings = now.group_findings[group.name]
        if was is None:
            lines.append(f"{group.name}: new; {group_line(group, findings).partition(': ')[2]}")
            continue
        if group.master != was.master:
            after = f", after {was.master}" if was.master else ""
            lines.append(f"{group.name}: {f'{group.master} has' if group.master else 'nobody has'} {addresses(group)}{after}")
        lines += _changed(group.name, before.group_findings[group.name], findings)
    lines += [f"{name}: gone" for name in sorted(old)]
    for name in sorted(before.node_findings.keys() | now.node_findings.keys()):
        lines += _changed(f"node {name}", before.node_findings.get(name, ()), now.node_findings.get(name, ()))
    return lines + _changed("operator", before.operator_findings, now.operator_findings)


def _changed(name: str, before: Iterable[Finding], now: Iterable[Finding]) -> list[str]:
    """Findings that came, by word, and whether all is well again."""
    words, found = {finding.word for finding in before}, list(now)
    lines = [f"{name}: {finding.word}: {finding.sentence}" for finding in found if finding.word not in words]
    over = sorted(words - {finding.word for finding in found})
    return lines + ([f"{name}: no more {', '.join(over)}"] if over else [])
