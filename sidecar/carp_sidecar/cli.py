"""The command line: what it accepts, what --help says, and exit codes. Every command imports what it needs when it runs."""

__all__ = ["build_parser", "main"]

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from typing import Any

from carp_protocol.config import DEFAULT_CONTROL_SOCKET
from carp_protocol.errors import CarpError, ConfigError
from carp_sidecar import __version__

_PROGRAM = "carp-sidecar"
_DEFAULT_CONFIG = "/etc/kubecarp/sidecar.toml"
_FAILED, _UNUSABLE = 1, 2
_INTERRUPTED, _PIPE_CLOSED = 130, 141
"""128 + SIGINT and 128 + SIGPIPE, as a shell reports them."""
_NO_GROUP = 2**32 - 1
"""(gid_t) -1: chown(2) leaves the group alone."""

_DESCRIPTION = """\
Moves virtual IP addresses between Linux hosts: the hosts elect the owner of each
address among themselves with CARP, and another one takes over when it dies.

`run` is the daemon. The other commands ask or direct a daemon that runs on this
host, through its control socket."""

_EPILOG = f"""\
exit codes:
  0    done
  1    the command failed: no daemon answers, or it refused
  2    bad usage, or a configuration that cannot run

files:
  {_DEFAULT_CONFIG:<32} the configuration (a name that ends in .json is read as JSON)
  {DEFAULT_CONTROL_SOCKET:<32} the control socket
  /var/lib/kubecarp                state that survives restarts

environment:
  NO_COLOR    no colour on a terminal, if set

examples:
  carp-sidecar check                          what would run, or every problem of the configuration
  carp-sidecar run                            run in the foreground, as systemd and containers want it
  carp-sidecar status                         who is master of what
  carp-sidecar handover intranet              give the addresses of group intranet to the next host, without loss
  carp-sidecar demote '*' --exclude           before maintenance: leave every group
  carp-sidecar undemote '*'                   after it
  (umask 077; carp-sidecar key > /etc/kubecarp/key)

`carp-sidecar COMMAND --help` says more about a command."""


def build_parser(command: str = "") -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and those of its commands by name; for ``run`` without the client commands, which cost its start some milliseconds."""
    parser = argparse.ArgumentParser(
        _PROGRAM, description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {__version__}")
    commands = parser.add_subparsers(prog=_PROGRAM, dest="command", metavar="COMMAND", required=True, title="commands")
    _add_local_commands(commands)
    if command != "run":
        _add_client_commands(commands)
    return parser, dict(commands.choices)


_Commands = Any
"""argparse's own type for sub-parsers is private."""


def _add(commands: _Commands, name: str, summary: str, text: str, *, output: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if output:
        parser.add_argument(
            "-o", "--output", choices=output, default="table", metavar="FORMAT", help=f"{', '.join(output)} (default: table)"
        )
    return parser


def _add_local_commands(commands: _Commands) -> None:
    run = _add(
        commands, "run", "run the daemon in the foreground",
        "Runs the daemon until SIGTERM or SIGINT; both hand the addresses over before it ends.\n"
        "SIGHUP reads the configuration again. Needs CAP_NET_ADMIN and CAP_NET_RAW.",
    )  # fmt: skip
    run.add_argument("-c", "--config", metavar="FILE", default=_DEFAULT_CONFIG, help=f"the configuration (default: {_DEFAULT_CONFIG})")
    run.add_argument(
        "--agent-group", type=_group_id, metavar="GID",
        help="an agent of this group writes FILE, which may be missing at first, and uses the control socket",
    )  # fmt: skip
    check = _add(
        commands, "check", "validate a configuration",
        "Reads a configuration and its key files as `run` would. Prints what would run, or every\n"
        "problem with its place; then the exit code is 2.",
        output=("table", "json"),
    )  # fmt: skip
    check.add_argument("file", nargs="?", metavar="FILE", default=_DEFAULT_CONFIG, help=f"default: {_DEFAULT_CONFIG}")
    _add(
        commands, "key", "print a new key",
        "Prints a new random key for authentication mode Strict: 32 bytes as 64 hexadecimal digits.\n"
        "Every member of a group needs the same key, in a file that only its owner may read:\n\n"
        "  (umask 077; carp-sidecar key > /etc/kubecarp/key)",
    )  # fmt: skip
    completion = _add(
        commands, "completion", "print a completion script for a shell",
        "Prints a script that completes commands, options and group names:\n\n  source <(carp-sidecar completion bash)",
    )  # fmt: skip
    completion.add_argument("shell", choices=("bash", "zsh"), help="bash or zsh")


def _add_client_commands(commands: _Commands) -> None:
    status = _add(
        commands, "status", "show the groups, or one of them in detail",
        "Shows the state of every group, or all that is known of one.\n"
        "HEALTH counts the health checks that pass; NOTE says what a person should look at.",
        output=("table", "wide", "json", "name"),
    )  # fmt: skip
    status.add_argument("group", nargs="?", metavar="GROUP")
    _add(
        commands, "watch", "follow changes as they happen",
        "On a terminal: the table of `status`, redrawn at every change. Otherwise one line per change;\n"
        "with -o json the status document first, then one JSON document per change.",
        output=("table", "wide", "json"),
    )  # fmt: skip
    handover = _add(
        commands, "handover", "give a group to another host without loss",
        "Bows out of a group: the addresses stay here until the successor is heard. Waits until that\n"
        "is done; exit code 1 if nobody took over.",
        output=("table", "json"),
    )  # fmt: skip
    handover.add_argument("--to", metavar="PEER", help="the member that should take over, by its address; default: the best one")
    handover.add_argument("--no-wait", action="store_true", help="do not wait for the successor")
    demote = _add(
        commands, "demote", "make this host a worse candidate, or none",
        "Adds to the demotion of a group until `undemote`; a better host takes over.\nThe demotion survives a restart.",
        output=("table", "json"),
    )  # fmt: skip
    _add(commands, "undemote", "take a demotion by hand back", "Takes back what `demote` and `resign` did.", output=("table", "json"))
    _add(
        commands,
        "resign",
        "step down now",
        "Steps down at once; the best other host takes over. This host stays out of the election until\n`undemote` or a restart.",
        output=("table", "json"),
    )
    _add(
        commands, "reload", "read the configuration again",
        "Reads the configuration again and changes only what differs. If it has problems they are\n"
        "printed, the old configuration runs on, and the exit code is 2.",
        output=("table", "json"),
    )  # fmt: skip
    for name in ("handover", "demote", "undemote", "resign"):
        commands.choices[name].add_argument("group", metavar="GROUP", help="a group, or '*' for all")
    how_much = demote.add_mutually_exclusive_group()
    how_much.add_argument("amount", nargs="?", type=_amount, metavar="AMOUNT", help="1 to 254 (default: 128)")
    how_much.add_argument("--exclude", action="store_true", help="leave the election altogether")
    for name in ("status", "watch", "handover", "demote", "undemote", "resign", "reload"):
        text = f"the control socket of the daemon (default: {DEFAULT_CONTROL_SOCKET})"
        commands.choices[name].add_argument("-s", "--socket", metavar="PATH", default=DEFAULT_CONTROL_SOCKET, help=text)


def _amount(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 254:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 254")
    return int(text)


def _group_id(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text) < _NO_GROUP:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a group")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        parser, commands = build_parser(*words[:1])
        arguments, unknown = parser.parse_known_args(words)
        if unknown:  # argparse would show the usage of the program, where no option of the command is
            commands[arguments.command].error(f"unrecognized arguments: {' '.join(unknown)}")
        code = _dispatch(arguments, commands)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        _complain(*map(str, error.problems))
        return _UNUSABLE
    except CarpError as error:
        _complain(str(error))
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`); the interpreter must not complain about it once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED


def _complain(*sentences: str) -> None:
    sys.stderr.write("".join(f"{_PROGRAM}: {sentence}\n" for sentence in sentences))


def _dispatch(arguments: argparse.Namespace, commands: dict[str, argparse.ArgumentParser]) -> int:
    match arguments.command:
        case "run":
            gc.disable()  # until everything is loaded: collecting meanwhile costs a tenth of the start (measured)
            from carp_sidecar.process import run

            return run(arguments.config, arguments.agent_group)
        case "check":
            return _check(arguments)
        case "key":
            sys.stdout.write(os.urandom(32).hex() + "\n")
            return 0
        case "completion":
            from carp_sidecar.console.completion import script

            sys.stdout.write(script(arguments.shell, _PROGRAM, commands))
            return 0
    from carp_sidecar.console import client

    match arguments.command:
        case "status":
            return client.status(arguments)
        case "watch":
            return client.watch(arguments)
        case "handover":
            return client.handover(arguments)
        case "reload":
            return client.reload(arguments)
        case _:
            return client.act(arguments)


def _check(arguments: argparse.Namespace) -> int:
    import json
    import socket

    from carp_sidecar.console.views import check_table
    from carp_sidecar.source import load

    as_json = arguments.output == "json"
    try:
        config = load(arguments.file)
    except ConfigError as error:
        problems = error.problems
        if as_json:
            sys.stdout.write(json.dumps({"problems": [{"place": p.place, "message": p.message} for p in problems]}, indent=2) + "\n")
        else:
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            sys.stdout.write("".join(f"{problem}\n" for problem in problems) + f"{count} in {arguments.file}\n")
        return _UNUSABLE
    if as_json:
        sys.stdout.write(json.dumps({"problems": [], "groups": [group.name for group in config.groups]}, indent=2) + "\n")
    else:
        interfaces = {name for _, name in socket.if_nameindex()}
        sys.stdout.write("".join(f"{line}\n" for line in check_table(config.groups, interfaces)))
    return 0
