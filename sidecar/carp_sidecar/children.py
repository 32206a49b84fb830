"""Runs one foreign program to its end: bounded in time and output, in a session of its own, without a zombie.

Knows nothing of checks or hooks.
"""

__all__ = ["Outcome", "run_program"]

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TAIL_BYTES = 4096
"""How much of the end of the output is kept: a last line is all that is ever shown."""
_READ_BYTES = 65_536
"""One read: the size of a Linux pipe, so a full pipe is emptied at once."""
_MESSAGE_LENGTH = 200
"""Characters of the last output line that reach a log or a status."""
_LAST_S = 1.0
"""Seconds for which a killed program is waited for: one that hangs in the kernel, on a disk or a file server that is gone, does not end."""
_NOT_INHERITED = frozenset({"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"})
"""Variables by which systemd would take the child for the sidecar."""
_LAUNCHER = ("/bin/sh", "-c", 'exec "$@"', "sh")
"""Python's thread stands still until the kernel has loaded what it starts: for good, if that is on a file server that is gone. So it
starts a shell, and the shell becomes the program: whoever waits for the file server then is the child."""

_undead: dict[tuple[str, ...], asyncio.subprocess.Process] = {}
"""Killed, and not ended when they were last waited for. No second one is started beside such a program: they would pile up."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended."""

    exit_code: int | None
    """None: it could not be started or was killed for taking too long. Negative: the signal that ended it."""
    last_line: str
    """The last line it printed, cut and without control characters."""
    problem: str
    """Why it did not pass, as a phrase; empty when it ended with exit code 0."""


class _Tail:
    """The read end of the program's output; keeps only the last bytes."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._fd, self.write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.write_end, True)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def _read(self) -> bool:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._fd)
            return False
        self._kept += data
        del self._kept[:-_TAIL_BYTES]
        return True

    def close(self) -> str:
        """What the program wrote last; one more read at most, because a child left behind may write for ever."""
        self._read()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        lines = self._kept.decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return "".join(c if c.isprintable() else " " for c in last[:_MESSAGE_LENGTH])


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED} | dict(extra)


async def run_program(argv: Sequence[str], *, timeout_s: float, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run ``argv``, of which no shell reads a word.

    After ``timeout_s`` (or when cancelled) its whole process group is killed, and waited for a moment. Output is read until the
    program itself ends: what it leaves in the background must redirect its own output.
    """
    timed_out = False
    former = _undead.pop(command := tuple(argv), None)
    if former and former.returncode is None:
        _undead[command] = former
        return Outcome(None, "", "not run again: it was killed and does not end, something it uses hangs")
    try:
        tail = _Tail()
    except OSError as error:
        return _not_started(argv, error)
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *_LAUNCHER,
                *argv,
                stdin=subprocess.DEVNULL,
                stdout=tail.write_end,
                stderr=tail.write_end,
                cwd="/",
                env=_environment(environment or {}),
                start_new_session=True,
            )
        finally:
            os.close(tail.write_end)
    except (OSError, ValueError) as error:
        tail.close()
        return _not_started(argv, error)
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        timed_out = True
    finally:
        if process.returncode is None:
            _kill_group(process.pid)
            if not await _ends(process):
                _undead[command] = process
        last_line = tail.close()
    if timed_out:
        return Outcome(None, last_line, f"killed after {timeout_s:g} s")
    code = process.returncode
    return Outcome(code, last_line, _describe(code) if code else "")


def _not_started(argv: Sequence[str], error: Exception) -> Outcome:
    return Outcome(None, "", f"{argv[0]} cannot be started by {_LAUNCHER[0]}: {getattr(error, 'strerror', None) or error}")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it is gone, or it became another user's: then it is waited for in vain
        return


async def _ends(process: asyncio.subprocess.Process) -> bool:
    try:
        async with asyncio.timeout(_LAST_S):
            await process.wait()
    except TimeoutError:
        return False
    return True


def _describe(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
