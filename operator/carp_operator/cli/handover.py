"""``kubectl carp handover``: orders a handover by annotation, and follows it from the operator over the agent to the successor."""

__all__ = ["command"]

import json
import secrets
from collections.abc import Iterator

import click

from carp_operator.api.errors import OperatorError
from carp_operator.api.group import format_time
from carp_operator.api.names import HANDOVER_ANNOTATION
from carp_protocol.config import Mode

from .arguments import complete_groups, complete_nodes
from .cluster import Cluster
from .screen import Screen
from .seen import GroupSeen, MemberSeen
from .session import DONE, FAILED, Session, for_cluster, wait_options
from .views import addresses
from .waiting import Clock, Patience
from .words import listed, unknown

_TIMEOUT_S = 15
"""The operator and an agent need a fraction of a second each; reports are written at most once a second."""
_LARGEST_SKEW_S = 30.0
"""An operator takes a request for old after 120 s by its own clock."""

_HELP = """Moves the addresses of a group to another member now, without loss: the master says goodbye, and keeps answering until it hears
its successor.

Without --to the best of the others takes over; in Compatible mode no other can be named. With `preemption` on, a better member takes the
addresses back at once: use `maintenance` to keep a node free of them.

The request is an annotation on the CarpGroup. The operator passes it to the master's node, which carries it out once or says why not. A
request that nobody has carried out within --timeout is withdrawn; none is carried out after two minutes.

\b
examples:
  kubectl carp handover intranet
  kubectl carp handover intranet --to node-b
"""


@click.command("handover", help=_HELP, short_help="move the addresses of a group now, without loss")
@click.argument("group", metavar="GROUP", shell_complete=complete_groups)
@click.option("--to", default="", metavar="NODE", help="the member that shall take over (default: the best)", shell_complete=complete_nodes)
@wait_options(_TIMEOUT_S)
@for_cluster()
@click.pass_obj
def command(session: Session, group: str, to: str, timeout: float, no_wait: bool) -> int:
    """The command."""
    cluster, screen = session.cluster, Screen()
    before = cluster.group(group)
    if to and to == before.master:
        screen.say(f"{group}: {to} has {addresses(before)} already")
        return DONE
    _check(before, to)
    identity = _request(cluster, group, to, session.clock)
    if no_wait:
        screen.say(f"{group}: {before.master} was asked to hand over to {to or 'the best of the others'}")
        return DONE
    patience = Patience(timeout, session.clock)
    with screen.progress() as progress:
        for stage in _follow(cluster, before, identity, patience):
            if isinstance(stage, GroupSeen):
                break
            progress(stage)
        else:
            cluster.annotate_group(group, HANDOVER_ANNOTATION, None)
            raise OperatorError(f"{group}: nobody took over within {timeout:g} s, the request is withdrawn: {stage}")
    now = f"{stage.master} has {addresses(stage)} (was {before.master}), after {patience.elapsed_s:.1f} s"
    wrong = f"; {to} was asked for" if to and stage.master != to else ""
    screen.say(f"{group}: {now}{wrong}")
    return FAILED if wrong else DONE


def _check(group: GroupSeen, to: str) -> None:
    """Refuses what cannot succeed, before anything is ordered."""
    name = group.name
    if not group.master:
        raise OperatorError(f"{name}: no node has its addresses, so there is nothing to hand over; `kubectl carp describe {name}` says why")
    if to and group.mode is Mode.COMPATIBLE:
        raise OperatorError(f"{name}: in Compatible mode no member can be named: leave --to out, and the best of the others takes over")
    others = [member for member in group.members if member.node != group.master]
    ready = [member.node for member in others if member.ready]
    if not to:
        if not ready:
            raise OperatorError(f"{name}: no other member could take over{_reasons(others)}")
        return
    target = group.member(to)
    if target is None and len(group.members) == group.member_count:
        raise OperatorError(f"{name}: {unknown('member', to, [member.node for member in others])}")
    if target is not None and not target.ready:
        instead = f"; choose {' or '.join(ready)}" if ready else ", and no other member could take over either"
        raise OperatorError(f"{name}: {to} could not take over: {target.message or target.reason}{instead}")


def _reasons(members: list[MemberSeen]) -> str:
    said = [f"{member.node}: {member.message or member.reason or 'not ready'}" for member in members]
    return f": {listed(said)}" if said else ", it has none"


def _request(cluster: Cluster, group: str, to: str, clock: Clock) -> str:
    """Writes the annotation; its id. If our clock is wrong, the time is the API server's."""
    identity, now = secrets.token_hex(6), clock.time()
    there = cluster.annotate_group(group, HANDOVER_ANNOTATION, _annotation(identity, to, now))
    if there is not None and abs(there - now) > _LARGEST_SKEW_S:
        cluster.annotate_group(group, HANDOVER_ANNOTATION, _annotation(identity, to, there))
    return identity


def _annotation(identity: str, to: str, at: float) -> str:
    return json.dumps({"id": identity, "to": to, "at": format_time(at)})


def _follow(cluster: Cluster, before: GroupSeen, identity: str, patience: Patience) -> Iterator[str | GroupSeen]:
    """What is waited for, again and again; at last the group with its new master. Raises OperatorError for a refusal."""
    old = before.master
    for _ in patience:
        group = patience.ask(lambda: cluster.group(before.name))
        if group.master not in {"", old}:
            yield group
            return
        node = patience.ask(lambda: cluster.carp_node(old))
        report = node.groups.get(before.name) if node else None
        if report is not None and report.handover_id == identity:
            if report.handover_refusal:
                raise OperatorError(f"{before.name}: {old} refuses: {report.handover_refusal}")
            yield f"{old} has said goodbye, and no other member reports that it has the addresses"
            continue
        ordered = node is not None and (node.spec_groups.get(before.name, {}).get("handover") or {}).get("id") == identity
        yield f"the agent on {old} has not answered; does its pod run?" if ordered else "the operator has not passed it on; does it run?"
