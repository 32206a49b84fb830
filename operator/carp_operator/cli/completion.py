"""Completion: scripts for shells that call ``kubectl-carp`` itself, and ``kubectl_complete-carp``, which kubectl asks for its plugin.

kubectl's protocol: the words behind ``carp``, the last one unfinished, come as arguments; candidates go out, one on a line, with a
description behind a tab; the last line tells the shell what else it may offer, as a number of cobra's.
"""

__all__ = ["command", "main"]

import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from .main import COMPLETE_VARIABLE, PROGRAM, carp
from .session import DONE

_EXECUTABLE = "kubectl-carp"
_NO_FILES, _DEFAULT = 4, 0
"""cobra's ShellCompDirectiveNoFileComp, and ShellCompDirectiveDefault: the shell offers files."""

_HELP = f"""Prints a script that completes commands, options, and names of groups and nodes of `{_EXECUTABLE}`.

For `kubectl carp` no script is needed: kubectl completes its plugins by itself, when its own completion is installed and
`kubectl_complete-carp` is in the PATH, beside `kubectl-carp`.

\b
examples:
  source <(kubectl carp completion bash)
  kubectl carp completion zsh > "${{fpath[1]}}/_kubectl-carp"
  kubectl carp completion fish > ~/.config/fish/completions/kubectl-carp.fish
"""


@click.command("completion", help=_HELP, short_help="print a completion script for a shell")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """The command."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(carp, {}, _EXECUTABLE, COMPLETE_VARIABLE).source())
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """``kubectl_complete-carp``. Whatever goes wrong, nothing is offered and nothing is said: the reader is typing."""
    *words, unfinished = list(sys.argv[1:] if argv is None else argv) or [""]
    try:
        items = ShellComplete(carp, {}, PROGRAM, COMPLETE_VARIABLE).get_completions(words, unfinished)
    except Exception:  # noqa: BLE001
        return 1
    files = any(item.type in {"file", "dir"} for item in items)
    lines = [_line(item) for item in items if item.type == "plain"]
    sys.stdout.write("".join(f"{line}\n" for line in [*lines, f":{_DEFAULT if files else _NO_FILES}"]))
    return 0


def _line(item: CompletionItem) -> str:
    return f"{item.value}\t{item.help}" if item.help else str(item.value)
