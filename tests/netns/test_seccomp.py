"""The seccomp profile: a sidecar lives its whole life under it without missing a call, and what it does not need is refused."""

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.namespace import wait_until
from lab.network import Lab
from lab.prober import Prober
from lab.seccomp import PROFILE, number_of, refused, under
from lab.sidecar import VIP4, VIP6, Sidecar, group, wait_master

pytestmark = [pytest.mark.needs("netns", "libseccomp"), pytest.mark.timeout(180)]

FALLBACKS = ("clone3(",)
"""A filter cannot look at the flags of clone3, so that runtimes refuse it; the C library then calls clone."""
HOOK = """#!/bin/sh
{program} -c 'import json, ssl, subprocess, threading; threading.Thread(target=print).start(); subprocess.run(["true"])' || exit 1
echo "$@" | tr a-z A-Z | sort >> $0.told && cp $0.told $0.new && mv $0.new $0.last
ls -l $0.told && timeout 5 sleep 0.01 && cat $0.last && rm -f $0.none
"""
NEWER_NAMES = {
    "access": "faccessat", "alarm": "setitimer", "chmod": "fchmodat", "chown": "fchownat", "dup2": "dup3",
    "epoll_create": "epoll_create1", "epoll_wait": "epoll_pwait", "fork": "clone", "getpgrp": "getpgid",
    "lchown": "fchownat", "link": "linkat", "lstat": "newfstatat", "mkdir": "mkdirat", "open": "openat", "pause": "ppoll",
    "pipe": "pipe2", "poll": "ppoll", "readlink": "readlinkat", "rename": "renameat", "rmdir": "unlinkat",
    "select": "pselect6", "stat": "newfstatat", "symlink": "symlinkat", "time": "clock_gettime", "unlink": "unlinkat",
    "utime": "utimensat", "utimes": "utimensat", "vfork": "clone",
}  # fmt: skip
"""Calls that aarch64 does not have, and what its C library calls instead."""
FORBIDDEN = """
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
user_namespace, children_namespace = 0x10000000, 0x20000000
calls = {
    "ptrace": (0, 0, 0, 0), "mount": (b"none", b"/mnt", b"tmpfs", 0, 0), "unshare": (user_namespace,), "setns": (0, 0),
    "clone": (children_namespace | 17, 0, 0, 0, 0), "init_module": (0, 0, b""), "keyctl": (0, 0, 0), "bpf": (0, 0, 0),
    "perf_event_open": (0, 0, 0, 0, 0), "io_uring_setup": (1, 0), "userfaultfd": (0,), "process_vm_readv": (1, 0, 0, 0, 0, 0),
    "kexec_load": (0, 0, 0, 0), "chroot": (b"/",), "pivot_root": (b"/", b"/"), "swapon": (b"/none", 0), "reboot": (0, 0, 0, 0),
    "setuid": (1,), "settimeofday": (0, 0), "sethostname": (b"x", 1), "name_to_handle_at": (0, 0, 0, 0, 0), "memfd_create": (b"x", 0),
}
seccomp = ctypes.CDLL("libseccomp.so.2")
for name, arguments in calls.items():
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if libc.syscall(number, *arguments) != -1 or ctypes.get_errno() != errno.ENOSYS:
        print(name, ctypes.get_errno())
for family in (socket.AF_ALG, socket.AF_VSOCK, socket.AF_CAN, 16 + 28):
    try:
        socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        print(*([] if error.errno == errno.ENOSYS else [family, error.errno]), end="")
    else:
        print("family", family)
"""


def missing(log: Path) -> set[str]:
    """Calls that somebody made and the profile does not have."""
    return {call for call in refused(log) if not call.startswith(FALLBACKS)}


@pytest.fixture
def members(lab: Lab) -> Iterator[tuple[Sidecar, Sidecar]]:
    """Two sidecars under the profile, with everything that a configuration can ask for; at the end none of them has missed a call."""
    web = lab.directory / "web"
    web.touch()
    checks = [
        {"name": "file", "exec": {"command": ["/usr/bin/test", "-e", str(web)]}, "period": "100ms"},
        {"name": "port", "tcp_socket": {"host": "localhost", "port": 9120}, "period": "100ms"},
        {"name": "page", "http_get": {"host": "localhost", "port": 9120, "path": "/healthz"}, "period": "100ms"},
    ]
    wanted: dict[str, Any] = {"addresses": [VIP4, VIP6], "health_checks": checks}
    pair = (Sidecar(lab, lab["a"], []), Sidecar(lab, lab["b"], []))
    for member, skew in zip(pair, (0, 50), strict=True):
        hook = member.directory / "hook"
        hook.write_text(HOOK.format(program=sys.executable))
        hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
        member.configure([group(**wanted, hook=[str(hook)], advskew=skew)])
        member.start(under=under(member.directory / "refused"))
    yield pair
    assert {member.host.name: missing(member.directory / "refused") for member in pair} == {"a": set(), "b": set()}


def test_a_whole_life_under_the_profile(lab: Lab, members: tuple[Sidecar, Sidecar]) -> None:
    """Start, takeover, metrics, health checks, hook, handover, demotion, reload, a link that goes, a guardian that works, a clean stop."""
    first, second = members
    wait_until(lambda: all(check["passing"] for one in members for check in one.group()["health_checks"]), 20, "the checks pass")
    wait_until(lambda: {one.state for one in members} == {"MASTER", "BACKUP"}, 20, "one is master")
    if second.state == "MASTER":
        assert second.cli("handover", "web").returncode == 0
    wait_master(first, second)
    assert "carp_build_info" in lab["a"].namespace.run(*fetch("http://127.0.0.1:9120/metrics"))
    told = first.directory / "hook.last"
    wait_until(lambda: told.exists() and "BACKUP MASTER" in told.read_text(), 20, "the hook was told, and moved what it wrote")
    assert first.cli("handover", "web").returncode == 0
    wait_master(second, first)
    assert second.cli("demote", "web").returncode == 0
    wait_master(first, second)
    assert second.cli("undemote", "web").returncode == 0
    for member, skew in ((first, 0), (second, 50)):
        member.configure([group(addresses=[VIP4, "10.77.0.101"], virtual_mac=False, advskew=skew)])
        assert member.cli("reload").returncode == 0
    wait_until(lambda: "10.77.0.101" in lab["a"].held_addresses() + lab["b"].held_addresses(), 20, "the new address is there")
    lab["a"].namespace.ip("link set eth0 down")
    wait_master(second)
    lab["a"].namespace.ip("link set eth0 up")
    wait_master(second, first)
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        second.kill()
        first.wait_state("MASTER")
        wait_until(lambda: not lab["b"].held_addresses(), 20, "the guardian has removed the addresses")
        prober.wait_answering()
    assert "master-bowed-out" in first.group()["transitions_by_reason"], "its guardian said goodbye"
    assert first.stop() == 0


def test_what_no_sidecar_needs_is_refused() -> None:
    """By the kernel, with "no such call": so that a C library which knows newer calls tries the older ones."""
    done = subprocess.run([*under(), sys.executable, "-IS", "-c", FORBIDDEN], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.stderr, done.returncode) == ([], "", 0)


def test_what_aarch64_does_not_have_is_allowed_by_its_newer_name() -> None:
    names = {name for rule in json.loads(PROFILE.read_text())["syscalls"] for name in rule["names"]}
    strange = {name for name in names if number_of(name, "aarch64") < 0} - {"arch_prctl"}
    assert strange - NEWER_NAMES.keys() == set()
    assert {NEWER_NAMES[name] for name in strange} - names == set()
    assert [name for name in names if number_of(name, "x86_64") < 0] == []


def test_a_call_that_is_missing_is_named(tmp_path: Path) -> None:
    """So that the test of the whole life means something."""
    log = tmp_path / "refused"
    program = "import ctypes; ctypes.CDLL(None).chroot(b'/'); import socket; socket.socket(socket.AF_ALG)"
    done = subprocess.run([*under(log), sys.executable, "-IS", "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "Function not implemented" in done.stderr
    wait_until(lambda: {call.partition("(")[0] for call in missing(log)} == {"chroot", "socket"}, 10, "both were noted")


def fetch(url: str) -> list[str]:
    return [sys.executable, "-IS", "-c", f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=10).read().decode())"]
