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

from lab.namespace import COMMAND_TIMEOUT_S, Namespace

INIT = Path(__file__).with_name("machine_init.py")
NEW = ("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child")


class Machine(Namespace):
    """Needs real root: a user namespace may not mount a file system of its own for containers."""

    def __init__(self, name: str, disk: Path) -> None:
        super().__init__(name, (*NEW, sys.executable, "-IS", str(INIT), str(disk)))
        self.disk = disk

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` inside, seeing what its processes see."""
        places = {kind: f"/proc/{self.pid}/ns/{kind}" for kind in ("net", "uts", "mnt")}
        # Mounts last: the paths before are those of our /proc.
        enter = [
            f"--net={places['net']}",
            f"--uts={places['uts']}",
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

    @staticmethod
    def inner_pid(process: "subprocess.Popen[str]") -> int:
        """The program that ``start`` started, as it is numbered out here: ``process`` is who entered the machine for it."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return int(children[0]) if children else process.pid
