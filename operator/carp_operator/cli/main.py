"""Entry point of ``kubectl carp``: its commands, what --help says, and how a failure ends: with one sentence, never with a traceback."""

__all__ = ["carp", "main"]

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from carp_operator import __version__
from carp_operator.api.errors import OperatorError

from .session import FAILED, Session, for_cluster

PROGRAM = "kubectl carp"
COMPLETE_VARIABLE = "_KUBECTL_CARP_COMPLETE"
_INTERRUPTED, _PIPE_CLOSED = 130, 141
"""128 + SIGINT and 128 + SIGPIPE, as a shell reports them."""
_TRACEBACK_VARIABLE = "KUBECTL_CARP_TRACEBACK"

_COMMANDS = {
    "status": "status",
    "describe": "describe",
    "handover": "handover",
    "maintenance": "maintenance",
    "drain": "drain",
    "rotate-key": "rotation",
    "render": "render",
    "completion": "completion",
}
"""Commands and the modules that hold them: only the one that runs is loaded."""

_HELP = """Shows and directs CarpGroups: virtual IP addresses that belong to one node at a time, which the nodes elect among themselves.

Nothing here is on the path of a failover. The commands read what operator and nodes have written to the API server, and order by
annotations, which the operator carries out. `render` needs no cluster.
"""
_EPILOG = f"""\b
exit codes:
  0     done
  1     it did not work, or (status --check, drain --simulate, maintenance on) something is not as it should be
  2     wrong usage, or manifests that cannot run

\b
files:
  ~/.kube/config       the cluster, unless $KUBECONFIG or --kubeconfig names another
  /etc/kubecarp/key    on each node of a static group, its key (render)

\b
environment:
  KUBECONFIG               kubeconfig files, separated by colons
  NO_COLOR                 no colour on a terminal, if set
  {_TRACEBACK_VARIABLE}   show where an error comes from, if set; for reports of bugs

\b
examples:
  kubectl carp status                         the screen to begin with
  kubectl carp status --watch                 the same, live
  kubectl carp describe intranet              everything about one group
  kubectl carp handover intranet --to node-b  move its addresses now, without loss
  kubectl carp maintenance node-a on          before work on a node
  kubectl carp drain --simulate node-a        what would move where
  kubectl carp render -f carpgroup.yaml --node cp-1=10.0.0.11/24 --node cp-2=10.0.0.12/24 -o static

`kubectl carp COMMAND --help` says more about a command.
"""


class _Commands(click.Group):
    """Loads a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's interface
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"carp_operator.cli.{_COMMANDS[cmd_name]}").command
        return command


@click.group(
    cls=_Commands,
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@for_cluster(hidden=False)
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def carp(context: click.Context) -> None:
    """The program."""
    context.ensure_object(Session)


def main(argv: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run one command; the exit code."""
    try:
        code = carp.main(argv, prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, standalone_mode=False, obj=session)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OperatorError as error:
        return _fail(error, _sentence(error))
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`); the interpreter must not complain about it once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except Exception as error:  # noqa: BLE001  a person gets a sentence, whatever happened
        return _fail(error, f"this is a bug, please report it: {type(error).__name__}: {error} (set {_TRACEBACK_VARIABLE}=1 to see where)")


def _fail(error: Exception, sentence: str) -> int:
    if os.environ.get(_TRACEBACK_VARIABLE):
        raise error
    sys.stderr.write(f"{PROGRAM}: {sentence}\n")
    return FAILED


def _sentence(error: OperatorError) -> str:
    """What the error says; of a server that does not answer, the cause without the words of the libraries on the way."""
    if getattr(error, "reason", "") != "Unreachable":
        return str(error).replace(".;", ";")
    cause: BaseException | None = error
    why = ""
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            why = cause.strerror
        cause = cause.__cause__ or cause.__context__
    head = str(error).partition(" cannot be reached")[0]
    return (
        f"{head} cannot be reached{f': {why}' if why else ''}. The addresses do not depend on it; on a node, carp-sidecar shows its groups"
    )
