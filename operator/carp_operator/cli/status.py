"""``kubectl carp status``: one screen with everything, once or live. Knows when to look; ``views`` knows how it looks."""

__all__ = ["command"]

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click
from rich.console import RenderableType
from rich.text import Text

from carp_operator.api.errors import OperatorError

from .arguments import complete_groups
from .documents import as_text, status_document
from .screen import Screen
from .seen import Snapshot
from .session import DONE, FAILED, Session, for_cluster, output_option
from .verdicts import Verdict, judge
from .views import differences, group_line, status_picture
from .words import clean, local_time, unknown

_LOOK_S = 1.0
"""Between two looks; times on the screen count in seconds."""
_SHARE = 5
"""Between two looks at least so many times as long as the look took: a large cluster is not asked without a pause."""
_SHOWN_CHANGES = 6

_HELP = """Shows every group, or those that are named: who has its addresses and since when, who takes over if that node dies now, and
what is wrong. The most urgent comes first; a sentence says what is wrong and what to do. Below are the nodes about which there is
something to say.

What is shown comes from the API server: CarpGroups, CarpNodes, Nodes, and the lease of the operator. When the nodes report another master
than the operator has written down, the nodes are believed, and the screen says so.

\b
columns:
  NEXT      who takes over if the master dies now
  MEMBERS   how many could have the addresses, and how many there are
  NOTE      words for what the sentences below say

\b
examples:
  kubectl carp status                      everything
  kubectl carp status intranet uplink      two groups
  kubectl carp status --watch              live on a terminal, else one line for each change
  kubectl carp status --check -o json      for scripts: exit code 1 when something is wrong
"""


@click.command("status", help=_HELP, short_help="who has what, since when, who is next, what is wrong")
@click.argument("groups", nargs=-1, metavar="[GROUP...]", shell_complete=complete_groups)
@output_option("table", "wide", "json", "yaml")
@click.option("-w", "--watch", is_flag=True, help="go on, and show every change, until interrupted")
@click.option("--check", is_flag=True, help="exit code 1 when a group, a node or the operator needs attention")
@for_cluster()
@click.pass_obj
def command(session: Session, groups: tuple[str, ...], output: str, watch: bool, check: bool) -> int:
    """The command."""
    if watch and check:
        raise click.UsageError("--check looks once; leave out --watch")
    if watch and output == "yaml":
        raise click.UsageError("--watch has no YAML; use -o json: one document per change on a line")
    looker = _Looker(session, groups)
    screen = Screen()
    if watch:
        return _watch(looker, screen, output)
    look = looker.look()
    if output in {"json", "yaml"}:
        screen.write(as_text(look.document(), output))
    else:
        screen.show(*look.picture(wide=output == "wide"))
    return FAILED if check and not look.verdict.healthy else DONE


@dataclass(frozen=True, slots=True)
class _Look:
    """The cluster at one moment, judged."""

    snapshot: Snapshot
    verdict: Verdict
    now: float

    def picture(self, *, wide: bool) -> list[RenderableType]:
        return status_picture(self.verdict, self.snapshot, self.now, wide=wide)

    def document(self) -> dict[str, object]:
        return status_document(self.verdict, self.snapshot.nodes)


class _Looker:
    """Looks at the cluster, once or again and again."""

    def __init__(self, session: Session, groups: Sequence[str]) -> None:
        self.clock = session.clock
        self._session = session
        self._groups = groups

    def look(self) -> _Look:
        """Raises OperatorError."""
        snapshot = self._session.cluster.snapshot()
        known = [group.name for group in snapshot.groups]
        for name in self._groups:
            if name not in known:
                raise OperatorError(unknown("CarpGroup", name, known))
        now = self.clock.time()
        return _Look(snapshot, judge(snapshot, now, self._groups), now)

    def look_again(self) -> _Look | str:
        """The cluster after a pause, or why it cannot be seen now."""
        self.clock.sleep(_LOOK_S)
        started = self.clock.monotonic()
        try:
            return self.look()
        except OperatorError as error:
            return str(error)
        finally:
            self.clock.sleep(max(0.0, (self.clock.monotonic() - started) * _SHARE - _LOOK_S))


def _watch(looker: _Looker, screen: Screen, output: str) -> int:
    first = looker.look()
    if output == "json":
        _watch_documents(looker, screen, first)
    elif screen.is_terminal:
        _watch_live(looker, screen, first, wide=output == "wide")
    else:
        _watch_lines(looker, screen, first)
    return DONE


def _watch_lines(looker: _Looker, screen: Screen, look: _Look) -> None:
    """One line for each group, then one for each change."""
    for group in sorted(look.verdict.groups, key=lambda one: one.name):
        screen.say(f"{local_time(look.now)} {group_line(group, look.verdict.group_findings[group.name])}")
    for lines, _ in _changes(looker, look):
        for line in lines:
            screen.say(line)


def _watch_documents(looker: _Looker, screen: Screen, look: _Look) -> None:
    """A document on one line, and again at each change."""
    before = ""
    while True:
        text = json.dumps(look.document(), ensure_ascii=False)
        if text != before:
            screen.write(text + "\n")
            before = text
        seen = looker.look_again()
        if isinstance(seen, _Look):
            look = seen


def _watch_live(looker: _Looker, screen: Screen, look: _Look, *, wide: bool) -> None:
    """The picture, drawn anew each second, with the last changes below it."""
    last: deque[str] = deque(maxlen=_SHOWN_CHANGES)
    with screen.live() as draw:
        draw(look.picture(wide=wide))
        for lines, now in _changes(looker, look):
            last.extend(lines)
            below: list[RenderableType] = [Text(), *(Text(clean(line), style="dim") for line in last)] if last else []
            draw([*now.picture(wide=wide), *below])


def _changes(looker: _Looker, look: _Look) -> Iterator[tuple[list[str], _Look]]:
    """For ever: lines about what changed, and the newest look there is."""
    trouble = ""
    while True:
        seen = looker.look_again()
        if isinstance(seen, str):
            lines = [f"{seen}; what is shown is of {local_time(look.now)}"] if seen != trouble else []
            trouble = seen
        else:
            lines = [*(["the API server answers again"] if trouble else []), *differences(look.verdict, seen.verdict)]
            look, trouble = seen, ""
        now = local_time(looker.clock.time())
        yield [f"{now} {line}" for line in lines], look
