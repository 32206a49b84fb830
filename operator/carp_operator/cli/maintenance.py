"""``kubectl carp maintenance``: keeps a node free of addresses, and waits until it is."""

__all__ = ["command"]

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import click

from carp_operator.api.errors import OperatorError
from carp_operator.api.names import MAINTENANCE_ANNOTATION, MAINTENANCE_DEMOTION

from .arguments import complete_nodes
from .cluster import Cluster
from .screen import Screen, rows
from .seen import GroupSeen
from .session import DONE, FAILED, Session, for_cluster, wait_options
from .views import addresses
from .waiting import Patience
from .words import listed

_TIMEOUT_S = 30
"""A handover takes a second with its report; a node may have many groups."""

_HELP = """Before work on a node: `on` moves its addresses to other members, without loss, and lets it take none while another member can.
Waits until the node has none, and says which addresses have nowhere to go; then the exit code is 1. `off` ends it.

It is an annotation on the Node: it lasts until `off`, also over reboots of the node and while operator or API server are down. Pods stay
where they are; `kubectl drain` moves those. A node that is drained or cordoned hands its addresses over without this command.

Without a node: lists the nodes in maintenance. Without on or off: says whether the node is.

\b
examples:
  kubectl carp maintenance node-a on && ssh node-a reboot
  kubectl carp maintenance node-a off
  kubectl carp maintenance
"""


@click.command("maintenance", help=_HELP, short_help="keep a node free of addresses")
@click.argument("node", required=False, metavar="[NODE]", shell_complete=complete_nodes)
@click.argument("switch", required=False, type=click.Choice(["on", "off"]), metavar="[on|off]")
@wait_options(_TIMEOUT_S)
@for_cluster()
@click.pass_obj
def command(session: Session, node: str | None, switch: str | None, timeout: float, no_wait: bool) -> int:
    """The command."""
    cluster, screen = session.cluster, Screen()
    if node is None:
        return _list(cluster, screen)
    known = cluster.node(node)
    if switch is None:
        screen.say(f"{node} is {'' if known.maintenance else 'not '}in maintenance")
        return DONE
    if switch == "off":
        cluster.annotate_node(node, MAINTENANCE_ANNOTATION, None)
        screen.say(f"{node} may have addresses again" if known.maintenance else f"{node} is not in maintenance")
        return DONE
    before = cluster.groups()
    cluster.annotate_node(node, MAINTENANCE_ANNOTATION, "true")
    again = "already " if known.maintenance else ""
    screen.say(f"{node} is {again}in maintenance, until `kubectl carp maintenance {node} off`")
    return DONE if no_wait else _wait(cluster, screen, node, before, Patience(timeout, session.clock))


def _list(cluster: Cluster, screen: Screen) -> int:
    nodes = cluster.nodes()
    if nodes is None:
        raise OperatorError("you may not list Nodes; name one")
    groups = cluster.groups().values()
    cells = [
        (name, ",".join(sorted(group.name for group in groups if group.master == name)))
        for name, node in sorted(nodes.items())
        if node.maintenance
    ]
    if cells:
        screen.show(rows(("NODE", "STILL HAS"), cells))
    else:
        screen.say("no node is in maintenance")
    return DONE


@dataclass(frozen=True, slots=True)
class _Standing:
    """How far a node has got rid of its addresses."""

    moving: tuple[str, ...]
    """Groups that are about to go."""
    stuck: Mapping[str, str]
    """Groups that have nowhere to go, and why."""
    unaware: tuple[str, ...]
    """Groups that might still come: their member there is not demoted yet."""

    @property
    def settled(self) -> bool:
        return not self.moving and not self.unaware


def _stand(node: str, groups: Iterable[GroupSeen]) -> _Standing:
    moving, stuck, unaware = [], {}, []
    for group in groups:
        member = group.member(node)
        if group.master == node:
            if why := _no_candidate(node, group):
                stuck[group.name] = why
            else:
                moving.append(group.name)
        elif member is not None and member.ready and member.demotion < MAINTENANCE_DEMOTION:
            unaware.append(group.name)
    return _Standing(tuple(moving), stuck, tuple(unaware))


def _no_candidate(node: str, group: GroupSeen) -> str:
    """Why nobody takes the group over from the node; empty if somebody does."""
    others = [member for member in group.members if member.node != node]
    if any(member.ready and member.demotion < MAINTENANCE_DEMOTION for member in others):
        return ""
    demoted = f"demoted by at least {MAINTENANCE_DEMOTION}, such as by maintenance"
    said = [f"{member.node}: {demoted if member.ready else member.message or member.reason or 'not ready'}" for member in others]
    return f"no other member could take over{f' ({listed(said)})' if said else ''}"


def _wait(cluster: Cluster, screen: Screen, node: str, before: Mapping[str, GroupSeen], patience: Patience) -> int:
    groups, standing = dict(before), _Standing((), {}, ())
    with screen.progress() as progress:
        for _ in patience:
            groups = patience.ask(cluster.groups)
            standing = _stand(node, groups.values())
            if standing.settled:
                break
            progress(f"waiting for {listed(standing.moving or standing.unaware)}")
    for name in sorted(before.keys() & groups.keys()):
        group = groups[name]
        if before[name].master == node != group.master:
            screen.say(f"{name}: {group.master or 'nobody'} has {addresses(group)} (was {node})")
    for name, why in standing.stuck.items():
        screen.say(f"{name}: {addresses(groups[name])} stays on {node}: {why}", "yellow")
    if not standing.settled:
        waited = listed(standing.moving or standing.unaware)
        raise OperatorError(
            f"{node} was not free within {patience.elapsed_s:.0f} s: waiting for {waited}; does the operator run, and {node}'s pod?"
        )
    if standing.stuck:
        screen.say(f"taking {node} down now takes {listed(standing.stuck)} off the network", "yellow")
        return FAILED
    screen.say(f"{node} has no addresses")
    return DONE
