"""Runs a program under the seccomp profile of the sidecar, as a container runtime does, and notes which calls were refused.

A process beside the program answers every call that the profile does not allow with the profile's own error, and writes its name to a file:
the program sees what it would see in a container, and a test sees what a silent fallback would hide. Standard library and libseccomp alone.
"""

__all__ = ["PROFILE", "number_of", "refused", "under"]

import argparse
import array
import contextlib
import ctypes
import fcntl
import functools
import json
import os
import select
import socket
import sys
from pathlib import Path
from typing import Any

PROFILE = Path(__file__).resolve().parents[2] / "charts/kubecarp/files/seccomp-sidecar.json"

_ALLOW, _NOTIFY, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
"""SCMP_ACT_*; the low 16 bits of _ERRNO are the error."""
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
"""SECCOMP_IOCTL_NOTIF_RECV and _SEND of linux/seccomp.h."""
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* of linux/audit.h."""
_COMPARISONS = {"SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}


class _Condition(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (("index", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class _Call(ctypes.Structure):
    """struct seccomp_notif with its seccomp_data."""

    _fields_ = (
        ("id", ctypes.c_uint64), ("pid", ctypes.c_uint32), ("flags", ctypes.c_uint32),
        ("number", ctypes.c_int), ("arch", ctypes.c_uint32), ("place", ctypes.c_uint64), ("arguments", ctypes.c_uint64 * 6),
    )  # fmt: skip


class _Answer(ctypes.Structure):
    """struct seccomp_notif_resp."""

    _fields_ = (("id", ctypes.c_uint64), ("value", ctypes.c_int64), ("error", ctypes.c_int32), ("flags", ctypes.c_uint32))


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    return library


def under(log: Path | None = None) -> list[str]:
    """What to start a program with: calls that are refused are written to ``log``; without one the kernel refuses them itself."""
    return [sys.executable, "-IS", __file__, *(["--log", str(log)] if log else []), "--"]


def refused(log: Path) -> set[str]:
    """The calls that were refused, each with its first argument."""
    return set(log.read_text().split("\n")[:-1])


def number_of(name: str, architecture: str) -> int:
    """The number of a call; below zero if the architecture has none of this name, or the library is too old to know it."""
    number: int = _library().seccomp_syscall_resolve_name_arch(ctypes.c_uint32(_ARCHITECTURES[architecture]), name.encode())
    return number


def _install(profile: dict[str, Any], default: int) -> int:
    """Put this process under the profile; for the default _NOTIFY the descriptor on which calls are told, else -1."""
    library = _library()
    context = ctypes.c_void_p(library.seccomp_init(default))
    for rule in profile["syscalls"]:
        conditions = [
            _Condition(one["index"], _COMPARISONS[one["op"]], one["value"], one.get("valueTwo", 0)) for one in rule.get("args", ())
        ]
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number < 0:
                continue  # another architecture's, or newer than this library: a runtime passes over it as well
            array_of = (_Condition * len(conditions))(*conditions)
            _check(library.seccomp_rule_add_array(context, ctypes.c_uint32(_ALLOW), number, len(conditions), array_of), name)
    _check(library.seccomp_load(context), "the filter")
    return library.seccomp_notify_fd(context) if default == _NOTIFY else -1


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"libseccomp refuses {what}: {os.strerror(-result)}")


def _answer_calls(notifications: int, error: int, log: Path) -> None:
    """Until every process under the filter has ended."""
    library, poll = _library(), select.poll()
    native = library.seccomp_arch_native()
    poll.register(notifications, select.POLLIN)
    with log.open("a", buffering=1) as file:
        while poll.poll()[0][1] & select.POLLIN:
            call = _Call()
            with contextlib.suppress(FileNotFoundError):  # ENOENT: the caller was killed meanwhile
                fcntl.ioctl(notifications, _RECEIVE, call)
                name = library.seccomp_syscall_resolve_num_arch(native, call.number) or str(call.number).encode()
                file.write(f"{name.decode()}({call.arguments[0]:#x})\n")
                fcntl.ioctl(notifications, _SEND, _Answer(call.id, 0, -error, 0))


def main() -> None:
    """Ends in the program, or in the sentence why it cannot be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=Path, default=PROFILE)
    parser.add_argument("--log", type=Path)
    parser.add_argument("argv", nargs="+")
    arguments = parser.parse_args()
    profile = json.loads(arguments.profile.read_text())
    if arguments.log is None:
        _install(profile, _ERRNO | profile["defaultErrnoRet"])
    else:
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            _, received, _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(4))
            theirs.close()
            _answer_calls(array.array("i", received[0][2])[0], profile["defaultErrnoRet"], arguments.log)
            os._exit(0)
        theirs.close()
        arguments.log.touch()
        notifications = _install(profile, _NOTIFY)
        ours.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [notifications]))])
        os.close(notifications)
        ours.close()
    os.execvp(arguments.argv[0], arguments.argv)


if __name__ == "__main__":
    main()
