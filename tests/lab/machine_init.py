"""Process 1 of a machine, started by ``lab.machine`` with the folder that is its disk and its name: mounts, then reaps until told to end.

A program of its own, because it has to be small: it runs in namespaces where nothing but the standard library is sure to be found.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

LAYERED = ("etc", "var")
"""Folders of the host in which the machine writes for itself: what it writes is on its disk."""
OWN = ("var/lib/containerd", "var/lib/kubelet")
"""Folders that are on its disk alone: containers are made of layers, and layers on layers do not work."""


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, stdout=subprocess.DEVNULL, timeout=20)


def mount_all(disk: Path) -> None:
    mount("--make-rprivate", "/")
    for folder in LAYERED:
        upper, work = disk / folder, disk / f".{folder}"
        upper.mkdir(parents=True, exist_ok=True)
        work.mkdir(exist_ok=True)
        mount("-t", "overlay", "-o", f"lowerdir=/{folder},upperdir={upper},workdir={work}", "none", f"/{folder}")
    for folder in OWN:
        source, target = disk / "own" / folder, Path("/", folder)
        source.mkdir(parents=True, exist_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        mount("--bind", str(source), str(target))
    # A pod's cgroup needs no controllers here, and cgroup v1, which some hosts still have, is not for kubelets any more.
    subprocess.run(["umount", "-R", "/sys/fs/cgroup"], check=False, capture_output=True, timeout=20)
    mount("-t", "cgroup2", "none", "/sys/fs/cgroup")
    mount("-t", "proc", "proc", "/proc")
    mount("-t", "tmpfs", "-o", "mode=755", "none", "/run")
    mount("--make-rshared", "/")


def reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    disk, name = sys.argv[1:]
    socket.sethostname(name)
    mount_all(Path(disk))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=20)
    signal.signal(signal.SIGCHLD, reap)
    print("ready", flush=True)
    while os.read(0, 1024):
        pass


if __name__ == "__main__":
    main()
