"""What every command shares: options that may stand before or after its name, the cluster they choose, and exit codes.

The cluster is connected to when a command first needs it: help, completion of options and ``render`` need none.
"""

__all__ = ["DONE", "FAILED", "UNUSABLE", "Session", "for_cluster", "output_option", "wait_options"]

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from carp_protocol.fields import parse_duration_s

from .cluster import Cluster
from .waiting import Clock

DONE, FAILED, UNUSABLE = 0, 1, 2
"""Exit codes: done; it did not work, or is not as it should be; wrong usage or a configuration that cannot run."""

_DEFAULT_NAMESPACE = "kubecarp-system"
_C = TypeVar("_C", bound=Callable[..., Any])


@dataclass(slots=True)
class Session:
    """The choices of one run."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str = _DEFAULT_NAMESPACE
    clock: Clock = time
    connected: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        """Raises OperatorError when there is none to talk to."""
        if self.connected is None:
            from carp_operator.kube.api import Api

            self.connected = Cluster(Api(self.kubeconfig or os.environ.get("KUBECONFIG") or None, self.context), self.namespace)
        return self.connected

    @property
    def flags(self) -> str:
        """The options of this run, for commands that are proposed to the reader."""
        given = {"--kubeconfig": self.kubeconfig, "--context": self.context}
        return "".join(f" {name} {value}" for name, value in given.items() if value)


def _keep(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        setattr(context.ensure_object(Session), str(parameter.name), value)


def _refuse_namespace(_context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError("CarpGroups and Nodes belong to the whole cluster, not to a namespace: leave -n out")


def for_cluster(*, hidden: bool = True) -> Callable[[_C], _C]:
    """Adds the options that choose a cluster; ``hidden``: accepted, and described elsewhere."""

    def decorate(command: _C) -> _C:
        for names, metavar, text in (
            (("--operator-namespace", "namespace"), "NAME", f"where the operator and its lease are (default: {_DEFAULT_NAMESPACE})"),
            (("--context",), "NAME", "the context of the kubeconfig"),
            (("--kubeconfig",), "FILE", "the kubeconfig (default: $KUBECONFIG, then ~/.kube/config)"),
        ):
            option = click.option(*names, metavar=metavar, help=text, hidden=hidden, expose_value=False, callback=_keep)
            command = option(command)
        refused = click.option("-n", "--namespace", "refused", hidden=True, expose_value=False, callback=_refuse_namespace)
        return refused(command)

    return decorate


def output_option(*formats: str) -> Callable[[_C], _C]:
    """``-o FORMAT``."""
    return click.option(
        "-o", "--output", type=click.Choice(formats), default="table", metavar="FORMAT", help=f"{', '.join(formats)} (default: table)"
    )


def wait_options(timeout_s: int) -> Callable[[_C], _C]:
    """``--timeout`` and ``--no-wait``."""

    def decorate(command: _C) -> _C:
        command = click.option("--no-wait", is_flag=True, help="order it and return at once")(command)
        return click.option(
            "--timeout",
            callback=_seconds,
            default=f"{timeout_s}s",
            metavar="DURATION",
            help=f"how long to wait, such as 30s or 2m (default: {timeout_s}s)",
        )(command)

    return decorate


def _seconds(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    try:
        return parse_duration_s(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a duration; write a number with its unit, such as 15s or 2m") from None
