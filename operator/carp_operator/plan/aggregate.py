"""From the reports of the nodes to the status of a group: who has it, who could have it, and what is wrong, in sentences."""

__all__ = ["Complaint", "Picture", "complaints_of", "paint"]

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carp_operator.api.conditions import Condition, merge_conditions
from carp_operator.api.group import CarpGroup
from carp_operator.api.group_schema import MAX_LISTED_MEMBERS
from carp_operator.api.node import CarpNode, GroupReport, Node
from carp_operator.api.reasons import ConditionType, Reason
from carp_protocol.config import Fence, Mode

from .decision import Decision
from .masters import Masters
from .successor import successor
from .world import Member, Refusal

Complaint = tuple[Reason, str, str]
"""Reason, node and subject: what makes it the same complaint as before."""

_READY_STATES = {"Master", "Backup", "Handover"}
_SHOWN_NODES = 5
_COMPATIBLE_IS_WEAK = "; Compatible mode: whoever records one advert can take the address"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Everything that a status is made from."""

    group: CarpGroup
    decision: Decision
    reports: Mapping[str, GroupReport]
    masters: Masters
    nodes: Mapping[str, Node]
    carp_nodes: Mapping[str, CarpNode]

    @functools.cached_property
    def unready(self) -> Mapping[str, tuple[str, str]]:
        """Members that could not have the addresses now: why, as a word and a sentence."""
        return {name: why for name in self.members if (why := _not_ready(self, name))}

    @property
    def refusal(self) -> Refusal | None:
        return self.decision.refusal

    @property
    def members(self) -> Mapping[str, Member]:
        return self.decision.members

    @property
    def running(self) -> Mapping[str, Any]:
        """Any member's entry; empty: nothing runs."""
        return next(iter(self.decision.entries.values()), {})


def paint(picture: Picture, time: str) -> dict[str, Any]:
    """The status to write; ``time`` is now, RFC 3339."""
    group, before = picture.group, picture.group.status
    ready = [name for name in picture.members if name not in picture.unready]
    master = picture.masters.node
    changed = bool(master) and (before.master is None or before.master.node != master)
    status: dict[str, Any] = {
        "observedGeneration": group.generation,
        "transitions": before.transitions + changed,
        "memberCount": len(picture.members),
        "readyCount": len(ready),
        "members": [_member(picture, name) for name in list(picture.members)[:MAX_LISTED_MEMBERS]],
    }
    running = picture.running
    if running:
        status |= {"vhid": running["vhid"], "addresses": list(running["addresses"])}
        if "advertisementInterval" in running:
            status["interval"] = running["advertisementInterval"]
    elif before.vhid is not None:
        status["vhid"] = before.vhid
    if master:
        status["master"] = _master(picture, master)
    if best := _next(picture, ready):
        status["next"] = best
    status["summary"] = {"addresses": _short(status.get("addresses", group.written)), "members": f"{len(ready)}/{len(picture.members)}"}
    conditions = [_accepted(picture), _programmed(picture), _ready(picture), _degraded(picture, ready), _split_brain(picture)]
    known = before.raw.get("conditions") or ()
    status["conditions"] = merge_conditions(known, conditions, generation=group.generation, time=time)
    return status


def _short(addresses: Sequence[str]) -> str:
    return addresses[0] if len(addresses) == 1 else f"{addresses[0]} +{len(addresses) - 1}"


def _master(picture: Picture, node: str) -> dict[str, Any]:
    report = picture.reports[node]
    return (
        {"node": node} | ({"since": report.since} if report.since else {}) | ({"interface": report.interface} if report.interface else {})
    )


def _next(picture: Picture, ready: list[str]) -> str:
    """The best of those who wait: least demoted, then best rank."""
    waiting = {name: (picture.reports[name].demotion, picture.members[name].advskew) for name in ready if name != picture.masters.node}
    return successor(waiting, picture.group.mode, picture.group.dialect)


def _member(picture: Picture, name: str) -> dict[str, Any]:
    member, report, why = picture.members[name], picture.reports.get(name), picture.unready.get(name)
    believed = report is not None and _alive(picture, name)
    shown: dict[str, Any] = {
        "node": name,
        "state": report.state if report and believed else "Unknown",
        "ready": not why,
        "priority": member.priority,
        "advskew": member.advskew,
        "demotion": report.demotion if report else member.demotion,
    }
    if report and report.interface:
        shown["interface"] = report.interface
    if report and report.since and believed:
        shown["since"] = report.since
    reason = why[0] if why else report.reason if report else ""
    if reason:
        shown["reason"] = reason
    message = why[1] if why else "; ".join(_notes(picture, report)) if report else ""
    if message:
        shown["message"] = message[:512]
    return shown


def _notes(picture: Picture, report: GroupReport) -> list[str]:
    notes = [f"demoted by {report.demotion} ({', '.join(report.demoted_by)})"] if report.demotion else []
    if report.ungated and picture.group.fence is not Fence.LIFETIME:
        notes.append(f"if it hangs as master, only the lifetime of its addresses silences it: {report.ungated}")
    return notes + list(report.warnings)


def _alive(picture: Picture, name: str) -> bool:
    """Whether its report can be believed."""
    if name in picture.masters.silent:
        return False
    node, carp_node = picture.nodes.get(name), picture.carp_nodes.get(name)
    return bool(node and node.ready and carp_node and carp_node.sidecar_running) or name == picture.masters.node


def _not_ready(picture: Picture, name: str) -> tuple[str, str] | None:
    node, carp_node, report = picture.nodes.get(name), picture.carp_nodes.get(name), picture.reports.get(name)
    if node is None or not node.ready:
        return "NodeNotReady", "the node is not ready"
    if carp_node is None or not carp_node.sidecar_running:
        return "SidecarNotRunning", "the sidecar does not run; look at its pod"
    if name in picture.masters.silent:
        return "Silent", f"it was master before {picture.masters.node} and answers no roll call: the host, its kubelet or its agent is gone"
    if report is None:
        return "NotProgrammed", carp_node.problems[0] if carp_node.problems else "the sidecar does not run the group yet"
    if report.interface_state != "Up":
        where = f"interface {report.interface}" if report.interface else "the interface"
        return f"Interface{report.interface_state}", f"{where} is {report.interface_state.lower()}"
    if report.excluded:
        return "Excluded", f"out of the election ({', '.join(report.demoted_by)})"
    if report.state not in _READY_STATES:
        return "Starting", f"the sidecar is in state {report.state}"
    if picture.members[name].advskew == 255:
        return "PriorityZero", "priority 0: it never becomes master"
    return None


# ---- conditions -----------------------------------------------------------------------------------------------


def _accepted(picture: Picture) -> Condition:
    if picture.refusal is None:
        sentence = f"runs with VHID {picture.running['vhid']} on {_nodes(list(picture.members))}"
        weak = _COMPATIBLE_IS_WEAK if picture.group.mode is Mode.COMPATIBLE else ""
        return Condition(ConditionType.ACCEPTED, True, Reason.ACCEPTED, sentence + weak)
    kept = "; the version before goes on running" if picture.running else ""
    return Condition(ConditionType.ACCEPTED, False, picture.refusal.reason, picture.refusal.message + kept)


def _programmed(picture: Picture) -> Condition:
    kind = ConditionType.PROGRAMMED
    if not picture.running:
        return Condition(kind, False, Reason.NOT_ACCEPTED, "nothing runs, because the group is not accepted")
    waiting = [name for name, entry in picture.decision.entries.items() if not _runs(picture, name, entry)]
    refused = [
        f"{name}: {picture.carp_nodes[name].problems[0]}"
        for name in waiting
        if name in picture.carp_nodes and picture.carp_nodes[name].problems
    ]
    if refused:
        return Condition(
            kind,
            False,
            Reason.REFUSED,
            f"{refused[0]}{f' (and {_more(len(refused) - 1)})' if refused[1:] else ''}; the version before runs on there",
        )
    if waiting:
        return Condition(kind, False, Reason.PENDING, f"waiting for {_nodes(waiting)} to run the newest version")
    if picture.refusal:
        return Condition(kind, False, Reason.NOT_ACCEPTED, "the newest version is not accepted; the one before runs on every member")
    return Condition(kind, True, Reason.PROGRAMMED, f"runs on {_nodes(list(picture.decision.entries))}")


def _runs(picture: Picture, name: str, entry: Mapping[str, Any]) -> bool:
    report = picture.reports.get(name)
    return report is not None and report.version == entry["version"]


def _ready(picture: Picture) -> Condition:
    kind, master = ConditionType.READY, picture.masters.node
    if not master:
        if picture.masters.outside:
            return Condition(
                kind, True, Reason.MASTER_OUTSIDE, f"{picture.masters.outside} has the addresses: a member that is no node of the cluster"
            )
        if not picture.members:
            return Condition(kind, False, Reason.NO_MEMBER, "no node runs the group; the condition Accepted says why")
        if claimant := _unconfirmed(picture):
            message = (
                f"{claimant} said last that it has the addresses, but Kubernetes calls no node of the group ready, and nobody else can "
                "confirm it: kubelets without an API server, or dead hosts; carp-sidecar status on a node says which"
            )
            return Condition(kind, False, Reason.NO_MASTER, message)
        detail = "; ".join(f"{name}: {why}" for name, (_, why) in list(picture.unready.items())[:_SHOWN_NODES])
        return Condition(kind, False, Reason.NO_MASTER, f"no member has the addresses{': ' + detail if detail else ''}")
    if picture.masters.rivals:
        return Condition(
            kind, False, Reason.SEVERAL_MASTERS, f"{_nodes([master, *picture.masters.rivals])} have the addresses at the same time"
        )
    missing = sorted(address for address, held in picture.reports[master].held.items() if not held)
    if missing:
        return Condition(
            kind,
            False,
            Reason.ADDRESS_NOT_HELD,
            f"{master} is the master, but its kernel does not hold {', '.join(missing)}; look at the log of its sidecar",
        )
    return Condition(kind, True, Reason.MASTER_ELECTED, f"{master} has the addresses")


def _unconfirmed(picture: Picture) -> str:
    """Who said last that it is master, when every member's node is not ready; empty if nobody, or if a living one knows better."""
    if any(name in picture.nodes and picture.nodes[name].ready for name in picture.members):
        return ""
    return next((name for name in picture.members if name in picture.reports and picture.reports[name].state == "Master"), "")


def _degraded(picture: Picture, ready: list[str]) -> Condition:
    kind = ConditionType.DEGRADED
    found = _problems(picture, ready)
    if not found:
        healthy = f"{len(ready)} members could have the addresses" if picture.running else "nothing runs"
        return Condition(kind, False, Reason.HEALTHY, healthy)
    return Condition(kind, True, found[0].reason, "; ".join(problem.message for problem in found))


def _problems(picture: Picture, ready: list[str]) -> list[Refusal]:
    """What wants a look, the most urgent first."""
    found = [Refusal(reason, message) for (reason, _, _), message in complaints_of(picture).items()]
    found.sort(key=lambda problem: _URGENCY.index(problem.reason))
    unready = [name for name in picture.unready if picture.members[name].advskew != 255]
    if unready:
        what = "has the addresses, but" if unready[0] == picture.masters.node else "could not take over:"
        rest = f", and {_more(len(unready) - 1)}" if unready[1:] else ""
        found.append(Refusal(Reason.MEMBER_NOT_READY, f"{unready[0]} {what} {picture.unready[unready[0]][1]}{rest}"))
    if picture.running and not [name for name in ready if name != picture.masters.node]:
        found.append(Refusal(Reason.NO_BACKUP, "no other node could take over; status.members says why, or add a node"))
    if picture.decision.rotating:
        found.append(Refusal(Reason.KEY_ROTATION, "a key is being replaced; it goes on when every member has followed"))
    return found


_URGENCY = (Reason.ADDRESS_TAKEN, Reason.AUTHENTICATION_FAILED, Reason.HEALTH_CHECK_FAILED)


def complaints_of(picture: Picture) -> dict[Complaint, str]:
    """What members complain of, in sentences."""
    found: dict[Complaint, str] = {}
    for name, report in picture.reports.items():
        if name not in picture.members or not _alive(picture, name):
            continue
        if mac := report.conflicting_mac:
            found[Reason.ADDRESS_TAKEN, name, mac] = (
                f"{mac} answers for an address of the group without CARP, as {name} sees; find that host and take the address from it"
            )
        if report.authentication_failed:
            found[Reason.AUTHENTICATION_FAILED, name, ""] = (
                f"{name} hears adverts with a wrong signature; "
                f"another group or router uses VHID {picture.running['vhid']}, or its key differs"
            )
        for check, message in report.failing_checks.items():
            found[Reason.HEALTH_CHECK_FAILED, name, check] = f"health check {check} fails on {name}{': ' if message else ''}{message}"
    return found


def _split_brain(picture: Picture) -> Condition:
    kind, masters = ConditionType.SPLIT_BRAIN, picture.masters
    if masters.rivals:
        message = (
            f"{_nodes(sorted([masters.node, *masters.rivals]))} are masters and do not hear each other; "
            "look at the network between them: it must let IP protocol 112 through"
        )
        return Condition(kind, True, Reason.SEVERAL_MASTERS, message)
    only = masters.node or masters.outside
    if not only:
        return Condition(kind, False, Reason.NO_MASTER, "no member is master")
    return Condition(kind, False, Reason.ONE_MASTER, f"{only} is the only master")


def _nodes(names: list[str]) -> str:
    """Names as people say them: a, b and c; at most five of them."""
    if len(names) > _SHOWN_NODES:
        return f"{', '.join(names[:_SHOWN_NODES])} and {_more(len(names) - _SHOWN_NODES)}"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:]))) or "no node"


def _more(number: int) -> str:
    return "1 more node" if number == 1 else f"{number} more nodes"
