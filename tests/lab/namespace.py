"""One network namespace held by a process that ends with us: enter it, run in it, open sockets in it.

Needs root, or a user namespace (``unshare -Urn``). Nothing is registered under /run/netns, so nothing can be left
there: when this process dies, however it dies, the kernel closes a pipe, the holder ends and the namespace with it.
"""

__all__ = ["LabError", "Namespace", "become_root", "wait_until"]

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

COMMAND_TIMEOUT_S = 20.0
"""ip, nft and the like take milliseconds; a busy machine may take seconds."""
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
_HOLDER = 'hostname "$0"; ip link set lo up; echo ready; exec cat > /dev/null'
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The laboratory could not do what it was asked to; the message holds the command and what it said."""


def become_root() -> None:
    """Enter a user namespace in which we are root, when we are not root anyway. Only while this process has one thread."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return
    if _libc.unshare(CLONE_NEWUSER) != 0:
        raise LabError(f"cannot enter a user namespace: {os.strerror(ctypes.get_errno())}; be root, or start under `unshare -Ur`")
    for name, content in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(content)


def wait_until(probe: Callable[[], T], timeout_s: float, what: str, every_s: float = 0.01) -> T:
    """Call ``probe`` until it returns something true and return that; LabError at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)
    return found


class Namespace:
    """A network and host-name namespace. Start things in it from the main thread: they die with the thread that started them."""

    def __init__(self, name: str, holder: Sequence[str] = ("unshare", "--net", "--uts", "sh", "-c", _HOLDER)) -> None:
        self.name = name
        self._holder = subprocess.Popen(
            [*holder, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise LabError(
                f"no namespace for {name}: {self._holder.stderr.read().decode().strip()}; be root, or start under `unshare -Urn`"
            )
        self._started: list[subprocess.Popen[str]] = []
        self.pid = self._holder.pid
        self._inode = os.stat(f"/proc/{self.pid}/ns/net").st_ino

    def close(self) -> None:
        """Kill what still runs inside and let the namespace go."""
        self.kill_all()
        self._holder.kill()
        self._holder.wait(COMMAND_TIMEOUT_S)
        for process in self._started:
            process.kill()  # one that was started just now has not entered yet
            process.wait(COMMAND_TIMEOUT_S)
        for pipe in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` inside."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", f"--uts=/proc/{self.pid}/ns/uts", "--", *argv]

    def run(self, *argv: str, stdin: str = "", check: bool = True, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run to the end and return what it printed; LabError when it fails."""
        done = subprocess.run(self.command(argv), check=False, input=stdin, text=True, capture_output=True, timeout=timeout_s)
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: {' '.join(argv)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def ip(self, *lines: str) -> None:
        """Run many lines of ip(8) as one batch."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def ip_json(self, *argv: str) -> list[dict[str, Any]]:
        """What ip(8) shows, as objects."""
        shown = json.loads(self.run("ip", "-json", "-details", *argv) or "[]")
        return [entry for entry in shown if entry]

    def start(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, *, pipe: bool = False) -> "subprocess.Popen[str]":
        """Start a program that lives in the namespace; its pid is the returned pid and it dies when we do.

        What it says goes to ``log``; with ``pipe`` its standard output comes here.
        """
        with log.open("a") as sink:
            process = subprocess.Popen(
                self.command(["setpriv", "--pdeathsig", "KILL", *argv]),
                env=None if env is None else {**os.environ, **env},
                start_new_session=True,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else sink,
                stderr=sink,
            )
        self._started.append(process)
        return process

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call ``function`` in a thread that has entered the namespace: sockets it opens belong there, for good."""
        with ThreadPoolExecutor(1, thread_name_prefix=f"in-{self.name}") as thread:
            return thread.submit(self._enter_and_call, function, *args).result()

    def _enter_and_call(self, function: Callable[..., T], *args: Any) -> T:
        with open(f"/proc/{self.pid}/ns/net") as namespace:
            if _libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise LabError(f"cannot enter {self.name}: {os.strerror(ctypes.get_errno())}")
        return function(*args)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace, usable from here."""
        return self.call(socket.socket, family, kind, protocol)

    def processes(self) -> list[int]:
        """Every process inside except the holder."""
        return [pid for pid in _pids() if pid != self.pid and _namespace_inode(pid) == self._inode]

    def kill_all(self) -> None:
        """SIGKILL everything inside, as a power cut would."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def sysctl(self, name: str, value: str | int) -> None:
        """Write a sysctl of the namespace (a dot in an interface name is written as a slash)."""
        self.run("sh", "-c", 'printf %s "$1" > "$2"', "sysctl", str(value), f"/proc/sys/{name.replace('.', '/')}")


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _namespace_inode(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None
