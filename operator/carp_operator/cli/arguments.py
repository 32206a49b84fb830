"""Names of groups and nodes as arguments, completed from the cluster. A cluster that does not answer at once completes nothing."""

__all__ = ["complete_groups", "complete_nodes"]

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import NoReturn

import click

from carp_operator.api.errors import OperatorError

from .cluster import Cluster
from .session import Session

_PATIENCE_S = 2.0
"""Who presses TAB does not wait longer."""


class _TooSlow(Exception):
    """The cluster has not answered."""


def complete_groups(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return _complete(context, incomplete, lambda cluster: cluster.groups())


def complete_nodes(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return _complete(context, incomplete, lambda cluster: cluster.nodes() or cluster.carp_nodes())


def _complete(context: click.Context, incomplete: str, ask: Callable[[Cluster], object]) -> list[str]:
    session = context.ensure_object(Session)
    given = set(_texts(context.params.values()))
    try:
        with _alarm(_PATIENCE_S):
            known = ask(session.cluster)
    except (OperatorError, _TooSlow):
        return []
    return sorted(name for name in known if name.startswith(incomplete) and name not in given) if isinstance(known, dict) else []


def _texts(values: Iterable[object]) -> Iterator[str]:
    """Every text among the parameters so far."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from _texts(value)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises _TooSlow after so long, whatever is waited for."""

    def ring(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
