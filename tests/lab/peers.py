"""The programs a user would run instead, as Debian packages them: ucarp and keepalived, wrapped alike.

Both answer the same three questions: is it there, is it master, when did it become so.
"""

__all__ = ["PASSWORD", "Keepalived", "Peer", "Ucarp", "version_of"]

import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.namespace import wait_until
from lab.network import Host

PASSWORD = "secret"
STOP_TIMEOUT_S = 10.0
_SCRIPT = "#!/bin/sh\nexec ip addr {verb} {address} dev {interface}\n"
_KEEPALIVED = """\
global_defs {{
  router_id {host}
  vrrp_version 3
  vrrp_garp_master_delay 1
}}
"""
_TRACKED = """\
track_file demotion {{
  file {demotion}
  weight -1
  init_file 0
}}
"""
_INSTANCE = """\
vrrp_instance probe{vrid} {{
  state BACKUP
  interface {interface}
  virtual_router_id {vrid}
  priority {priority}
  advert_int {interval_s:g}
  {options}
  virtual_ipaddress {{
    {address}
  }}
}}
"""


def version_of(program: str) -> str | None:
    """What the program says of its version; None when it is not installed."""
    path = shutil.which(program)
    if path is None:
        return None
    said = subprocess.run(
        [path, "--version" if program == "keepalived" else "--help"], check=False, capture_output=True, text=True, timeout=STOP_TIMEOUT_S
    )
    return next((line.strip() for line in (said.stdout + said.stderr).splitlines() if line.strip()), "unknown")


class Peer:
    """A running program whose log tells its state; subclasses name the words."""

    master_words = ""
    backup_words = ""

    def __init__(self, host: Host, directory: Path, program: str) -> None:
        self.host = host
        self.directory = directory / f"{program}-{host.name}"
        self.directory.mkdir(exist_ok=True)
        self.log_path = self.directory / "log"
        self._process: subprocess.Popen[str] | None = None

    def argv(self) -> Sequence[str]:
        """The command line."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the program in its host, with an empty log and without the pid files a boot would have removed."""
        for left in self.directory.glob("*pid"):
            left.unlink()
        self.log_path.write_text("")
        self._process = self.host.namespace.start(self.argv(), self.log_path)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        assert self._process is not None
        self._process.send_signal(number)

    def reap(self) -> None:
        """Wait for its end, however that was brought about."""
        assert self._process is not None
        self._process.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self.signal(signal.SIGTERM)
        self.reap()

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        self.reap()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def count(self, state: str) -> int:
        """How many times it said since its start that it, or one of its instances, is now MASTER or BACKUP."""
        return len(re.findall(self.master_words if state == "MASTER" else self.backup_words, self.log()))

    @property
    def state(self) -> str:
        """MASTER, BACKUP or "" while it has not said anything."""
        words = re.findall(f"{self.master_words}|{self.backup_words}", self.log())
        return "" if not words else "MASTER" if re.fullmatch(self.master_words, words[-1]) else "BACKUP"

    def wait_state(self, state: str, timeout_s: float = 15.0) -> None:
        """Until the program says that it is in ``state``."""
        wait_until(lambda: self.state == state, timeout_s, f"{type(self).__name__} on {self.host.name} becomes {state}")


class Ucarp(Peer):
    """Debian's ucarp with scripts that add and remove the address."""

    master_words = "Switching to state: MASTER"
    backup_words = "Switching to state: BACKUP"

    def __init__(
        self,
        host: Host,
        directory: Path,
        address: str,
        *,
        vhid: int = 1,
        password: str = PASSWORD,
        advskew: int = 0,
        advbase: int = 1,
        preempt: bool = False,
    ) -> None:
        super().__init__(host, directory, "ucarp")
        self._options = {"vhid": vhid, "pass": password, "advskew": advskew, "advbase": advbase, "addr": address}
        self._preempt = preempt
        for name, verb in (("up", "add"), ("down", "del")):
            script = self.directory / name
            script.write_text(_SCRIPT.format(verb=verb, address=f"{address}/32", interface=host.port().interface))
            script.chmod(0o755)

    def argv(self) -> list[str]:
        argv = ["ucarp", f"--interface={self.host.port().interface}", f"--srcip={self.host.address()}", "--facility=none", "--shutdown"]
        argv += [f"--{name}={value}" for name, value in self._options.items()]
        argv += [f"--upscript={self.directory}/up", f"--downscript={self.directory}/down"]
        return argv + ["--preempt"] * self._preempt


class Keepalived(Peer):
    """Debian's keepalived, with one VRRP instance for each address; they are numbered from ``vrid`` on."""

    master_words = "Entering MASTER STATE"
    backup_words = "Entering BACKUP STATE"

    def __init__(
        self,
        host: Host,
        directory: Path,
        *addresses: str,
        interface: str | None = None,
        vrid: int = 1,
        priority: int = 100,
        interval_s: float = 1.0,
        virtual_mac: bool = False,
        preempt: bool = True,
        demotable: bool = False,
    ) -> None:
        super().__init__(host, directory, "keepalived")
        self._config = self.directory / "keepalived.conf"
        self._demotion = self.directory / "demotion"
        options = ["use_vmac"] * virtual_mac + ["nopreempt"] * (not preempt) + ["track_file {\n    demotion\n  }"] * demotable
        common = {"interface": host.port(interface).interface, "priority": priority, "interval_s": interval_s}
        instances = [
            _INSTANCE.format(vrid=number, address=address, options="\n  ".join(options), **common)
            for number, address in enumerate(addresses, vrid)
        ]
        tracked = _TRACKED.format(demotion=self._demotion) if demotable else ""
        self._config.write_text(_KEEPALIVED.format(host=host.name) + tracked + "".join(instances))

    def argv(self) -> list[str]:
        pids = [f"--pid={self.directory}/pid", f"--vrrp_pid={self.directory}/vrrp.pid", f"--checkers_pid={self.directory}/checkers.pid"]
        return ["keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={self._config}", *pids]

    @property
    def vrrp_pid(self) -> int:
        """The process that elects; the one that was started only watches over it."""
        return int((self.directory / "vrrp.pid").read_text())

    def demote(self, amount: int) -> None:
        """Lower the priority of a demotable one while it runs, through the file that it tracks; 0 ends it."""
        self._demotion.write_text(f"{amount}\n")
