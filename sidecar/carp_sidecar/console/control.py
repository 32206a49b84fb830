"""The control socket: newline-delimited JSON over a unix socket of mode 0600, or 0660 for an agent (docs/control-socket.md).

Knows requests, clients and their bounds; what a request does is the daemon's.
"""

__all__ = [
    "DEFAULT_DEMOTION",
    "BadRequest",
    "Callback",
    "ControlSocket",
    "ControlSocketError",
    "Daemon",
    "Request",
    "parse_request_untrusted",
]

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from carp_protocol.errors import CarpError
from carp_sidecar.console.steps import StatusSource, groups_in_steps
from carp_sidecar.logs import log_event
from carp_sidecar.sharing import CannotShare, give_to_group, share_folder

DEFAULT_DEMOTION = 128
"""What ``demote`` adds when no amount is given; the default of a failing health check."""
_MAX_DEMOTION = 254
_MAX_LINE_BYTES = 65_536
"""Longest request: the longest useful one has a few hundred bytes."""
_MAX_CLIENTS = 32
_WATCHER_BACKLOG_BYTES = 1_048_576
"""What a watcher may leave unread: a status of 255 groups and some thousand events. Beyond it the watcher is dropped."""
_IDLE_S = 300.0
"""Seconds a client that does not watch may stay silent."""
_SEND_S = 10.0
"""Seconds a client may take to read an answer."""
_RELOAD_S = 30.0
"""Seconds a reload may take: it reads files and moves addresses of up to 255 groups."""
_SOCKET_PATH_BYTES = 107
"""Linux: sun_path holds 108 bytes with its end."""

_FIELDS = {
    "status": {"group"},
    "watch": set(),
    "reload": set(),
    "handover": {"group", "to"},
    "demote": {"group", "amount", "exclude"},
    "undemote": {"group"},
    "resign": {"group"},
}

_log = logging.getLogger(__name__)

Callback = Callable[[Mapping[str, Any]], None]


class BadRequest(CarpError):
    """A request that cannot be carried out; the text is the sentence the client gets."""


class ControlSocketError(CarpError):
    """The control socket cannot be opened; the text says why and what to do."""


class Daemon(StatusSource, Protocol):
    """What the control socket asks of the daemon. A group of None means every group; the group exists when it is called."""

    async def refresh_addresses(self) -> None:
        """Ask the kernel which addresses it holds, so that the next status says what is and not what was."""

    def reload(self) -> Awaitable[list[str]]:
        """Read the configuration again, to the end whoever waits; its problems, empty when it runs now."""

    def handover(self, group: str | None, to: str | None) -> str | None:
        """Begin to hand the group over; None, or a sentence why not."""

    async def demote(self, group: str | None, amount: int | None) -> str | None:
        """Set the demotion for maintenance; an amount of None takes the group out of the election. Returns when a restart would keep it."""

    async def undemote(self, group: str | None) -> str | None:
        """Take back what ``demote`` and ``resign`` did. Returns when a restart would not bring it back."""

    def resign(self, group: str | None) -> str | None:
        """Step down at once and stay out of the election until ``undemote`` or a restart."""

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call ``callback`` with every change from now on; the result ends it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, checked."""

    command: str
    group: str | None = None
    to: str | None = None
    amount: int | None = None


def parse_request_untrusted(line: bytes) -> Request:
    """A line of a client as a request; raises BadRequest and nothing else."""
    try:
        document = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise BadRequest('the request is not a line of JSON; write for example {"command":"status"}') from error
    if not isinstance(document, dict):
        raise BadRequest('the request is not a JSON object; write for example {"command":"status"}')
    command = document.pop("command", None)
    if not isinstance(command, str) or command not in _FIELDS:
        raise BadRequest(f"there is no command {_quote(command)}; the commands are {', '.join(_FIELDS)}")
    if unknown := sorted(set(document) - _FIELDS[command]):
        known = ", ".join(sorted(_FIELDS[command])) or "none"
        raise BadRequest(f"{command} has no field {_quote(unknown[0])}; its fields: {known}")
    group = _optional_text(document, "group")
    amount = _amount(document) if command == "demote" else None
    return Request(command, None if group == "*" else group, _optional_text(document, "to"), amount)


def _quote(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _optional_text(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise BadRequest(f"{name} is {_quote(value)}; it must be a text that is not empty")
    return value


def _amount(document: dict[str, Any]) -> int | None:
    exclude = document.get("exclude", False)
    if not isinstance(exclude, bool):
        raise BadRequest(f"exclude is {_quote(exclude)}; it must be true or false")
    if exclude and "amount" in document:
        raise BadRequest("amount and exclude are both given; a group is demoted by an amount or taken out of the election")
    amount = document.get("amount", DEFAULT_DEMOTION)
    if type(amount) is not int or not 1 <= amount <= _MAX_DEMOTION:
        raise BadRequest(f"amount is {_quote(amount)}; it must be a number from 1 to {_MAX_DEMOTION}")
    return None if exclude else amount


def _line(document: Mapping[str, Any]) -> bytes:
    # Half a character, which a request can name and no encoding can write, becomes the escape that JSON has for it.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=str).encode(errors="backslashreplace") + b"\n"


def _refusal(sentence: str, **fields: Any) -> dict[str, Any]:
    return {"ok": False, "error": sentence, **fields}


class ControlSocket:
    """The server. ``open`` it once, early: it also proves that no other sidecar uses the path."""

    def __init__(self, path: str | Path, daemon: Daemon, *, group: int | None = None) -> None:
        """``group``: besides the owner, this group may connect."""
        self._path = Path(path)
        self._daemon = daemon
        self._group = group
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._watchers: set[asyncio.StreamWriter] = set()
        self._unsubscribe: Callable[[], None] | None = None
        self._inode: int | None = None

    async def open(self) -> None:
        """Listen; raises ControlSocketError."""
        listening = _bind(self._path, self._group)
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=_MAX_LINE_BYTES)
        self._unsubscribe = self._daemon.subscribe(self._publish)

    async def close(self) -> None:
        """Hang up on every client and remove the socket."""
        if self._server is None:
            return
        if self._unsubscribe:
            self._unsubscribe()
        self._server.close()
        clients = list(self._clients)
        for task, writer in self._clients.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        self._server = None
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except FileNotFoundError:
            return

    def _publish(self, change: Mapping[str, Any]) -> None:
        """Send a change to every watcher; never waits for one."""
        if not self._watchers:
            return
        line = _line(change)
        for writer in list(self._watchers):
            transport = writer.transport
            if transport.get_write_buffer_size() + len(line) > _WATCHER_BACKLOG_BYTES:
                self._watchers.discard(writer)
                transport.abort()
                log_event(_log, logging.WARNING, "a watcher of the control socket did not read its changes and was dropped")
            else:
                transport.write(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= _MAX_CLIENTS:
            writer.write(_line(_refusal(f"{_MAX_CLIENTS} clients are connected already; close one of them")))
            writer.close()
            return
        self._clients[task] = writer
        writer.transport.set_write_buffer_limits(0)  # an answer is given when the kernel has all of it: what is left at the end is dropped
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError):
            pass  # the client went away or stopped reading
        except asyncio.CancelledError:
            pass  # close() hung up; asyncio's stream code would log the cancellation as an error
        finally:
            self._watchers.discard(writer)
            del self._clients[task]
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(None if writer in self._watchers else _IDLE_S):
                try:
                    line = await reader.readuntil(b"\n")
                except asyncio.IncompleteReadError as error:
                    line = error.partial
                    if not line:
                        return
                except asyncio.LimitOverrunError:
                    await self._send(writer, _refusal(f"the request is longer than {_MAX_LINE_BYTES} bytes"))
                    return
            await self._send(writer, await self._answer(line, writer))

    async def _send(self, writer: asyncio.StreamWriter, answer: Mapping[str, Any] | bytes) -> None:
        writer.write(answer if isinstance(answer, bytes) else _line(answer))
        async with asyncio.timeout(_SEND_S):
            await writer.drain()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> dict[str, Any] | bytes:
        try:
            request = parse_request_untrusted(line)
            if request.group is not None:
                self._must_exist(request.group)
            match request.command:
                case "status":
                    await self._refresh()
                    return await self._status(self._daemon.group_names() if request.group is None else [request.group])
                case "watch":
                    await self._refresh()
                    self._watchers.add(writer)  # in the same step as the answer is made: no change is lost or told twice
                    return {"ok": True, "result": self._daemon.status()}
                case "reload":
                    return await self._reload()
                case _:
                    refusal = await self._act(request)
        except BadRequest as error:
            return _refusal(str(error))
        return _refusal(refusal) if refusal else {"ok": True, "result": None}

    async def _act(self, request: Request) -> str | None:
        log_event(_log, logging.INFO, f"{request.command} was requested on the control socket", group=request.group)
        match request.command:
            case "handover":
                return self._daemon.handover(request.group, request.to)
            case "demote":
                return await self._daemon.demote(request.group, request.amount)
            case "undemote":
                return await self._daemon.undemote(request.group)
            case _:
                return self._daemon.resign(request.group)

    def _must_exist(self, group: str) -> None:
        names = self._daemon.group_names()
        if group not in names:
            raise BadRequest(f"there is no group {_quote(group)}; the groups are {', '.join(names) or 'none'}")

    async def _refresh(self) -> None:
        try:
            await self._daemon.refresh_addresses()
        except (TimeoutError, CarpError) as error:
            why = str(error) or "the kernel did not list its addresses in time"
            log_event(_log, logging.WARNING, f"{why}; the status shows the last list")

    async def _status(self, names: Sequence[str]) -> bytes:
        """The answer to ``status``, encoded in steps."""
        document = self._daemon.status(())
        del document["groups"]
        entries = [_line(entry)[:-1] async for groups in groups_in_steps(self._daemon, names) for entry in groups]
        return b'{"ok":true,"result":%b,"groups":[%b]}}\n' % (_line(document)[:-2], b",".join(entries))

    async def _reload(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_RELOAD_S):
                problems = await self._daemon.reload()
        except TimeoutError:
            return _refusal(f"the reload took more than {_RELOAD_S:g} s; it goes on, and the log says how it ended")
        if problems:
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            return _refusal(f"the new configuration has {count}; the old one runs on", problems=problems)
        return {"ok": True, "result": None}


def _bind(path: Path, group: int | None) -> socket.socket:
    """A listening socket at ``path`` that only its owner and ``group`` may use; raises ControlSocketError."""
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
        raise ControlSocketError(f"control_socket {path} is longer than the {_SOCKET_PATH_BYTES} bytes Linux allows; choose a shorter path")
    listening = socket.socket(socket.AF_UNIX)
    try:
        if group is None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            share_folder(path.parent, group, 0o750)
        _remove_stale(path)
        before = os.umask(0o177 if group is None else 0o117)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            give_to_group(path, group)
        listening.listen(_MAX_CLIENTS)
    except OSError as error:
        listening.close()
        raise ControlSocketError(f"control_socket {path} cannot be opened: {error.strerror}; choose a path this user may write") from error
    except CannotShare as error:
        listening.close()
        raise ControlSocketError(f"control_socket: {error}") from error
    except ControlSocketError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def _remove_stale(path: Path) -> None:
    """Remove the socket of a dead process; refuse to touch anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlSocketError(f"control_socket {path} exists and is not a socket; move it away or choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass  # somebody listens and is busy
    raise ControlSocketError(f"another sidecar answers on control_socket {path}; stop it or choose another path")
