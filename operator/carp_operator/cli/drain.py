"""``kubectl carp drain --simulate``: what would move where. Asks once, changes nothing."""

__all__ = ["command"]

from collections.abc import Iterator
from typing import Any

import click
from rich.console import RenderableType
from rich.text import Text

from carp_operator.api.errors import OperatorError

from .arguments import complete_nodes
from .documents import as_text
from .drain_plan import Drain, Move, simulate
from .screen import Screen, prose, styled
from .session import DONE, FAILED, Session, for_cluster, output_option
from .verdicts import judge
from .words import clean, count, listed, unknown

_NOBODY = "*** NO CANDIDATE ***"

_HELP = """Shows what would happen to every address if a node were drained and went down: who has it now, who would take it over, and
which would be lost; then the exit code is 1. Nothing is changed. It goes by what the nodes have reported, and by the order in which
members take over: the least demoted, then the best priority.

To drain a node use `kubectl drain`: a cordoned node hands its addresses over by itself.

\b
examples:
  kubectl carp drain --simulate node-a
  kubectl carp drain --simulate node-a && kubectl drain node-a --ignore-daemonsets
"""


@click.command("drain", help=_HELP, short_help="show what would move where if a node were drained")
@click.argument("node", metavar="NODE", shell_complete=complete_nodes)
@click.option("--simulate", "simulated", is_flag=True, help="required: nothing else is there")
@output_option("table", "json", "yaml")
@for_cluster()
@click.pass_obj
def command(session: Session, node: str, simulated: bool, output: str) -> int:
    """The command."""
    if not simulated:
        raise click.UsageError(f"this only shows what would happen: add --simulate. To drain the node use `kubectl drain {node}`")
    snapshot, screen = session.cluster.snapshot(), Screen()
    verdict = judge(snapshot, session.clock.time())
    known = {*(snapshot.nodes or ()), *snapshot.carp_nodes, *(member.node for group in verdict.groups for member in group.members)}
    if node not in known:
        raise OperatorError(unknown("node", node, sorted(known)))
    for finding in verdict.operator_findings:
        click.echo(f"note: {clean(finding.sentence)}", err=True)
    drain = simulate(node, verdict.groups)
    if output == "table":
        screen.show(*_picture(drain))
    else:
        screen.write(as_text(_document(drain), output))
    return FAILED if drain.lost else DONE


def _picture(drain: Drain) -> Iterator[RenderableType]:
    yield Text(clean(_headline(drain)), style="bold red" if drain.lost else "green")
    if drain.moves:
        yield Text()
        yield prose(("ADDRESS", "GROUP", "CURRENT", "", "NEXT", "NOTE"), (_row(drain.node, move) for move in drain.moves))
    if drain.stays:
        yield Text()
        yield prose(("GROUP", "STAYS ON", "NOTE"), ((stay.group, stay.master, stay.note) for stay in drain.stays))


def _headline(drain: Drain) -> str:
    if drain.lost:
        return f"without {drain.node} nobody would have {listed(drain.lost)}"
    if drain.moves:
        return f"{count(len(drain.moves), 'address', 'addresses')} would move, none would be lost"
    return f"{drain.node} has no addresses: nothing would move"


def _row(node: str, move: Move) -> list[object]:
    following = styled(move.next, "") if move.next else styled(_NOBODY, "bold red")
    return [move.address, move.group, node, "->", following, move.note]


def _document(drain: Drain) -> dict[str, Any]:
    return {
        "node": drain.node,
        "safe": not drain.lost,
        "moves": [
            {"address": move.address, "group": move.group, "from": drain.node, "to": move.next or None, "note": move.note}
            for move in drain.moves
        ],
        "stays": [{"group": stay.group, "master": stay.master or None, "note": stay.note} for stay in drain.stays],
    }
