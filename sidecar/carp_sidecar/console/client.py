"""The client commands: status, watch, handover and their kin, over the control socket of a running sidecar.

Blocking and single-threaded; knows the control socket's language, not how its answers look (views).
"""

__all__ = ["Client", "CommandFailed", "act", "handover", "reload", "status", "watch"]

import json
import os
import shutil
import socket
import sys
import time
from argparse import Namespace
from collections import deque
from typing import Any, Self

from carp_protocol.errors import CarpError
from carp_sidecar.console import views
from carp_sidecar.console.tables import cut

_ANSWER_S = 5.0
"""Seconds a daemon may take for an answer; a hung one must not hang the command."""
_RELOAD_S = 35.0
"""Longer than the daemon's own limit for a reload."""
_HANDOVER_S = 10.0
"""Seconds ``handover`` waits for the group to leave MASTER: three dead times at the default interval."""
_POLL_S = 0.05
_REDRAW_S = 1.0
"""Seconds between two pictures of ``watch`` when nothing changes: its times count in seconds."""
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""More is no status of any sidecar."""
_SHOWN_CHANGES = 6


class CommandFailed(CarpError):
    """The command could not be carried out; the text says why."""


class Client:
    """One connection to the control socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_S)
        try:
            self._socket.connect(path)
        except (OSError, ValueError) as error:
            self._socket.close()
            raise CommandFailed(_why_no_connection(path, error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, **fields: Any) -> None:
        """Send a request; fields of None are left out."""
        request = {name: value for name, value in fields.items() if value is not None}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise CommandFailed("the sidecar has gone away") from error

    def read(self, timeout_s: float) -> dict[str, Any] | None:
        """The next line of the daemon, or None if none comes in time."""
        deadline = time.monotonic() + timeout_s
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                return None
            except OSError as error:
                raise CommandFailed("the sidecar has gone away") from error
            if not data:
                raise CommandFailed("the sidecar has gone away")
            self._buffer += data
            if len(self._buffer) > _MAX_ANSWER_BYTES:
                raise CommandFailed(f"what listens on {self._path} is not a sidecar")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            document = json.loads(line)
        except ValueError as error:
            raise CommandFailed(f"what listens on {self._path} is not a sidecar") from error
        if not isinstance(document, dict):
            raise CommandFailed(f"what listens on {self._path} is not a sidecar")
        return document

    def ask(self, timeout_s: float = _ANSWER_S, **fields: Any) -> dict[str, Any]:
        """Send a request and return its whole answer, refusals too."""
        self.send(**fields)
        answer = self.read(timeout_s)
        if answer is None:
            raise CommandFailed(f"the sidecar did not answer within {timeout_s:g} s; look at its log")
        return answer

    def request(self, **fields: Any) -> Any:
        """The result of a request; a refusal raises CommandFailed."""
        return result_of(self.ask(**fields))


def result_of(answer: dict[str, Any]) -> Any:
    """The result in an answer; a refusal raises CommandFailed with its sentence."""
    if not answer.get("ok"):
        raise CommandFailed(str(answer.get("error", "the sidecar refused")))
    return answer["result"]


def _why_no_connection(path: str, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no sidecar here: {path} does not exist; start one with `carp-sidecar run` or name its socket with --socket"
    if isinstance(error, ConnectionRefusedError):
        return f"the sidecar of {path} is not running any more; start it with `carp-sidecar run`"
    if isinstance(error, PermissionError):
        return f"{path} may be used by its owner only; run this command as root"
    return f"{path} cannot be used: {getattr(error, 'strerror', None) or error}"


def _print(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _print_json(document: Any) -> None:
    _print(json.dumps(document, indent=2, ensure_ascii=False))


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def status(arguments: Namespace) -> int:
    """The table of all groups, or one group in detail."""
    with Client(arguments.socket) as client:
        document = client.request(command="status", group=arguments.group)
    if arguments.output == "json":
        _print_json(document)
    elif arguments.output == "name":
        _print(*(group["name"] for group in document["groups"]))
    elif arguments.group and arguments.output == "table":
        _print(*views.group_detail(document, document["groups"][0]))
    else:
        _print(*views.status_table(document, wide=arguments.output == "wide", paint=views.paint_status if _colour() else None))
        if problems := document["config"]["problems"]:
            _print("", "The configuration file was refused; an older one runs:", *(f"  {problem}" for problem in problems))
    return 0


def act(arguments: Namespace) -> int:
    """demote, undemote and resign: ask, and say that it was done."""
    fields: dict[str, Any] = {"command": arguments.command, "group": arguments.group}
    if arguments.command == "demote":
        fields |= {"amount": arguments.amount, "exclude": arguments.exclude or None}
    return _finish(arguments, fields, {"demote": "demoted", "undemote": "not demoted by hand any more", "resign": "resigned"})


def reload(arguments: Namespace) -> int:
    """Read the configuration again; its problems are exit code 2, as for ``check``."""
    with Client(arguments.socket) as client:
        answer = client.ask(_RELOAD_S, command="reload")
    if arguments.output == "json":
        _print_json(answer)
    problems = answer.get("problems", [])
    if not problems:
        if arguments.output != "json":
            result_of(answer)
            _print("the configuration was read again and runs")
        return 0 if answer.get("ok") else 1
    if arguments.output != "json":
        _print(*map(str, problems), f"{answer['error']}")
    return 2


def _finish(arguments: Namespace, fields: dict[str, Any], done: dict[str, str]) -> int:
    with Client(arguments.socket) as client:
        answer = client.ask(**fields)
    if arguments.output == "json":
        _print_json(answer)
        return 0 if answer.get("ok") else 1
    result_of(answer)
    _print(f"{'all groups' if arguments.group == '*' else arguments.group}: {done[arguments.command]}")
    return 0


def handover(arguments: Namespace) -> int:
    """Begin the handover and wait until this host is not the master any more."""
    if arguments.no_wait or arguments.output == "json":
        return _finish(arguments, {"command": "handover", "group": arguments.group, "to": arguments.to}, {"handover": "handover begun"})
    with Client(arguments.socket) as client:
        before = _groups(client, arguments.group)
        masters = [name for name, group in before.items() if group["state"] == "MASTER"]
        client.request(command="handover", group=arguments.group, to=arguments.to)
        deadline = time.monotonic() + _HANDOVER_S
        while True:
            after = _groups(client, arguments.group)
            waiting = [name for name in masters if name in after and not _settled(before[name], after[name])]
            if not waiting or time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
    kept = [name for name in masters if name in after and after[name]["state"] in {"MASTER", "HANDOVER"}]
    _print(*(f"{name}: {_successor(after[name])}" for name in masters if name in after))
    return 1 if kept else 0


def _groups(client: Client, group: str) -> dict[str, dict[str, Any]]:
    document = client.request(command="status", group=None if group == "*" else group)
    return {entry["name"]: entry for entry in document["groups"]}


def _settled(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether the handover is over: left MASTER and knows the new one, or came back."""
    if after["transitions"] == before["transitions"] or after["state"] == "HANDOVER":
        return False
    return after["state"] == "MASTER" or bool(after["master"])


def _successor(group: dict[str, Any]) -> str:
    if group["state"] in {"MASTER", "HANDOVER"}:
        return "still master: nobody took over"
    return f"{group['master']['source']} is the master now" if group["master"] else f"{group['state']} here; no new master is heard yet"


def watch(arguments: Namespace) -> int:
    """Changes as they happen, until interrupted: a live table on a terminal, lines otherwise."""
    with Client(arguments.socket) as client:
        document = client.request(command="watch")
        if arguments.output == "json":
            _print(json.dumps(document, ensure_ascii=False))
        elif sys.stdout.isatty():
            _watch_live(client, document, wide=arguments.output == "wide")
        else:
            _print(*(f"{group['name']}: {group['state']}" for group in document["groups"]))
        while True:
            change = client.read(_REDRAW_S)
            if change is not None:
                _print(json.dumps(change, ensure_ascii=False) if arguments.output == "json" else views.change_line(change))


def _watch_live(client: Client, document: dict[str, Any], *, wide: bool) -> None:
    """Redraw the table in place at every change and every second."""
    changes: deque[str] = deque(maxlen=_SHOWN_CHANGES)
    drawn = 0
    while True:
        drawn = _draw(document, changes, drawn, wide=wide)
        line = client.read(_REDRAW_S)
        client.send(command="status")
        while line is None or "event" in line:
            if line is not None:
                changes.append(views.change_line(line))
            line = client.read(_ANSWER_S)
        document = result_of(line)


def _draw(document: dict[str, Any], changes: deque[str], drawn: int, *, wide: bool) -> int:
    """Replace the last ``drawn`` lines of the terminal by a new picture; its height."""
    columns, rows = shutil.get_terminal_size()
    lines = views.status_table(document, wide=wide, paint=views.paint_status if _colour() else None)
    room = max(1, rows - 2 - _SHOWN_CHANGES)
    if len(lines) > room:
        lines = [*lines[:room], f"... and {len(lines) - room} more"]
    if changes:
        lines += ["", *changes]
    # A line that wraps would spoil the count of lines to go back.
    lines = [cut(line, columns - 1) for line in lines]
    sys.stdout.write((f"\x1b[{drawn}A\r" if drawn else "") + "\x1b[J" + "".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    return len(lines)
