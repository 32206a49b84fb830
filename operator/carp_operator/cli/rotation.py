"""``kubectl carp rotate-key``: orders a new key by annotation, and shows how it goes round. Never sees a key."""

__all__ = ["command"]

import secrets
from collections.abc import Mapping

import click

from carp_operator.api.errors import OperatorError
from carp_operator.api.names import ROTATE_KEY_ANNOTATION

from .arguments import complete_groups
from .cluster import Cluster
from .rotation_steps import Phase, Rotation, read_rotation
from .screen import Screen
from .session import DONE, Session, for_cluster, wait_options
from .waiting import Patience
from .words import count, listed

_TIMEOUT_S = 60
"""Three steps; each waits for a report of every member."""
_STEPS = {
    "accept": "every member believes the new key",
    "send": "every member signs with the new key",
    "drop": "the old key is forgotten everywhere",
}

_HELP = """Replaces the key of a group without a gap. The new key goes round in three steps, and each begins when every member has taken
the one before:

\b
  accept   every member believes the new key too, and signs with the old one
  send     every member signs with the new key, and believes the old one too
  drop     the old key is forgotten

A member that does not follow holds the rotation up: until then it and the others understand each other. It goes on by itself, also when
this command does not wait any longer. The key of a group with `authentication.secretRef` is yours: change the Secret, and the same three
steps follow.

\b
examples:
  kubectl carp rotate-key intranet
"""


@click.command("rotate-key", help=_HELP, short_help="replace the key of a group without a gap")
@click.argument("group", metavar="GROUP", shell_complete=complete_groups)
@wait_options(_TIMEOUT_S)
@for_cluster()
@click.pass_obj
def command(session: Session, group: str, timeout: float, no_wait: bool) -> int:
    """The command."""
    cluster, screen = session.cluster, Screen()
    seen = cluster.group(group)
    if seen.secret:
        raise OperatorError(
            f"{group}: its key comes from your Secret {seen.secret} in the namespace {cluster.namespace}. Change it there: "
            "the operator rolls it out in the same steps"
        )
    before = read_rotation(group, cluster.carp_nodes())
    if before is None:
        raise OperatorError(f"{group}: no node runs it, so there is no key to replace; `kubectl carp describe {group}` says why")
    if before.phase is Phase.SETTLED:
        cluster.annotate_group(group, ROTATE_KEY_ANNOTATION, secrets.token_hex(6))
        old = before.signing
        screen.say(f"{group}: a new key was ordered")
    else:
        old = before.signing if before.phase is Phase.ACCEPT else ""
        screen.say(f"{group}: its key is being replaced already; no second one was ordered")
    if no_wait:
        return DONE
    _follow(cluster, screen, group, old, Patience(timeout, session.clock))
    return DONE


def _follow(cluster: Cluster, screen: Screen, group: str, old: str, patience: Patience) -> None:
    """Tells of each step when it is done; raises OperatorError when the time is over. ``old``: the key that signed before."""
    told: set[str] = set()
    hindrance = ""
    with screen.progress() as progress:
        for _ in patience:
            rotation = read_rotation(group, patience.ask(cluster.carp_nodes))
            if rotation is None:
                raise OperatorError(f"{group}: no node runs it any more")
            done, step = _progress(rotation, old)
            for name in done:
                if name not in told:
                    told.add(name)
                    screen.say(f"  {name:<8} {_STEPS[name]} ({count(len(rotation.nodes), 'member')}, {patience.elapsed_s:.1f} s)")
            if "drop" in told:
                screen.say(f"{group}: done")
                return
            hindrance = _hindrance(rotation.waiting) if step else "the operator has not begun; does it run?"
            progress(f"{step or 'waiting'}: {hindrance}")
    unfinished = f"{group}: not done within {patience.elapsed_s:.0f} s: {hindrance}"
    raise OperatorError(f"{unfinished}. It goes on by itself; `kubectl carp describe {group}` shows how far")


def _progress(rotation: Rotation, old: str) -> tuple[list[str], str]:
    """The steps that are done, and the one that goes on; empty: none has begun."""
    steps = list(_STEPS)
    order = {Phase.ACCEPT: 1, Phase.SETTLED: 0} if rotation.signing == old else {Phase.SEND: 2, Phase.SETTLED: 3}
    begun = order.get(rotation.phase, 0)
    if not begun:
        return [], ""
    done = begun if not rotation.waiting else begun - 1
    return steps[:done], steps[begun - 1]


def _hindrance(waiting: Mapping[str, str]) -> str:
    if not waiting:
        return "waiting for the operator"
    said = [f"{node} ({why})" if why else node for node, why in waiting.items()]
    return f"waiting for {listed(said)}"
