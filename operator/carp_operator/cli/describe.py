"""``kubectl carp describe``: everything about one group. Asks once; ``detail`` knows how it looks."""

__all__ = ["command"]

import click

from .arguments import complete_groups
from .detail import Detail, detail_picture
from .documents import as_text, event_documents, group_document
from .rotation_steps import read_rotation
from .screen import Screen
from .session import DONE, Session, for_cluster, output_option
from .verdicts import judge

_HELP = """Shows everything about a group: its members in the order in which they take over, with the reason why each is what it is, the
conditions as sentences, where its key comes from and how far a rotation has got, the last Events, and a command that shows its adverts on
the wire.

\b
examples:
  kubectl carp describe intranet
  kubectl carp describe intranet -o yaml
"""


@click.command("describe", help=_HELP, short_help="everything about one group")
@click.argument("group", metavar="GROUP", shell_complete=complete_groups)
@output_option("table", "json", "yaml")
@for_cluster()
@click.pass_obj
def command(session: Session, group: str, output: str) -> int:
    """The command."""
    cluster, screen = session.cluster, Screen()
    cluster.group(group)  # an error that names the others
    snapshot, events = cluster.snapshot(), cluster.events(group)
    now = session.clock.time()
    verdict = judge(snapshot, now, [group])
    (seen,), findings = verdict.groups, verdict.group_findings[group]
    if output != "table":
        screen.write(as_text(group_document(seen, findings) | {"events": event_documents(events)}, output))
        return DONE
    detail = Detail(
        group=seen, findings=findings, events=tuple(events), rotation=read_rotation(group, snapshot.carp_nodes), nodes=snapshot.nodes or {}
    )
    screen.show(*detail_picture(detail, now))
    return DONE
