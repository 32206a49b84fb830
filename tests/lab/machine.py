"""A machine of its own on this one: network, host name, processes and mounts, with a folder as its disk. Its power can be cut.

When its process 1 ends, the kernel kills every other process in it at once, whatever has been daemonized; only the disk remains.
"""

__all__ = ["NEW", "Machine"]

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.namespace import COMMAND_TIMEOUT_S, Namespace, wait_until

INIT = Path(__file__).with_name("machine_init.py")
NEW = ("unshare", "--net", "--uts", "--mount", "--pid", "--cgroup", "--fork", "--kill-child")
_CGROUPS = "/sys/fs/cgroup/kubecarp-lab"
"""Each machine has a folder here, named after the process that holds it: containers leave cgroups behind."""
_MOUNT_CGROUPS = "mount -t cgroup2 none /sys/fs/cgroup"
_ENTER = f'set -e; {_MOUNT_CGROUPS}; mkdir -p {_CGROUPS}/$$; echo $$ > {_CGROUPS}/$$/cgroup.procs; exec "$@"'
_GONE = f"[ ! -d {_CGROUPS}/$1 ]"
_SWEEP = f"{_MOUNT_CGROUPS}; {_GONE} || find {_CGROUPS}/$1 -depth -type d -exec rmdir {{}} \\;; {_GONE} && {{ rmdir {_CGROUPS}; true; }}"
IN_PRIVATE = ("unshare", "--mount", "sh", "-c")
GONE_S = 10.0


class Machine(Namespace):
    """Needs real root: a user namespace may not mount a file system of its own for containers."""

    def __init__(self, name: str, disk: Path) -> None:
        super().__init__(name, (*IN_PRIVATE, _ENTER, "sh", *NEW, sys.executable, "-IS", str(INIT), str(disk)))
        self.disk = disk

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` inside, seeing what its processes see."""
        places = {kind: f"/proc/{self.pid}/ns/{kind}" for kind in ("net", "uts", "mnt", "cgroup")}
        # Mounts last: the paths before are those of our /proc.
        enter = [
            f"--net={places['net']}",
            f"--uts={places['uts']}",
            f"--cgroup={places['cgroup']}",
            f"--pid=/proc/{self.pid}/ns/pid_for_children",
            f"--mount={places['mnt']}",
        ]
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", *enter, "--", *argv]

    def kill_all(self) -> None:
        """A power cut: process 1 dies, and with it everything."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._holder.wait(COMMAND_TIMEOUT_S)
        wait_until(self._sweep, GONE_S, f"the cgroups of {self.name} are gone", 0.05)

    def _sweep(self) -> bool:
        """Whether its cgroups could be removed: a process that has not been buried yet keeps one."""
        sweep = [*IN_PRIVATE, _SWEEP, "sweep", str(self.pid)]
        return subprocess.run(sweep, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False).returncode == 0

    @staticmethod
    def inner_pid(process: "subprocess.Popen[str]") -> int:
        """The program that ``start`` started, as it is numbered out here: ``process`` is who entered the machine for it."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return int(children[0]) if children else process.pid
