"""Real sidecars on the hosts of a lab: write a configuration, start, hurt and ask them.

Asks only through what a user has: the control socket, the command line, signals and the log.
"""

__all__ = [
    "CALM",
    "ENVIRONMENT",
    "PROGRAM",
    "VIP4",
    "VIP6",
    "Sidecar",
    "group",
    "start_cluster",
    "stays",
    "to_toml",
    "wait_master",
    "wait_single_master",
]

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.namespace import COMMAND_TIMEOUT_S, LabError, wait_until
from lab.network import Host, Lab

VIP4 = "10.77.0.100"
VIP6 = "fd77::64"
SOURCES = Path(__file__).resolve().parents[2] / "sidecar"
PROGRAM = [sys.executable, "-m", "carp_sidecar"]
_HEAP = ("arena_max=1", "tcache_count=0", "mmap_threshold=65536", "trim_threshold=65536")
MALLOC = {"GLIBC_TUNABLES": ":".join(f"glibc.malloc.{setting}" for setting in _HEAP)}
"""As in the Dockerfile, where it is said why."""
ENVIRONMENT = {"PYTHONPATH": str(SOURCES)} | MALLOC
KEY = "9f" * 32
READY_TIMEOUT_S = 20.0
"""Python starts in 0.2 s; a busy machine takes its time."""
STOP_TIMEOUT_S = 15.0
CALM: dict[str, Any] = {"advertisement_interval": "500ms"}
"""Where nothing may happen: a master that is late by 2.75 intervals steps down, and a virtual machine may pause for half a second.
With the 200 ms of ``group``, which make faults short, 350 ms can be enough."""


def group(name: str = "web", vhid: int = 1, **fields: Any) -> dict[str, Any]:
    """A group as a configuration file has it; the lab's key is filled in when no authentication is given."""
    return {"name": name, "vhid": vhid, "interface": "eth0", "addresses": [VIP4], "advertisement_interval": "200ms"} | fields


def to_toml(value: object) -> str:
    """A value as TOML: JSON does for everything but tables."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {to_toml(one)}" for name, one in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


class Sidecar:
    """One ``carp-sidecar run`` on one host, with files of its own below the lab's directory."""

    def __init__(self, lab: Lab, host: Host, groups: Sequence[Mapping[str, Any]], *, name: str = "", **settings: Any) -> None:
        self.host = host
        self.directory = lab.directory / f"sidecar-{name or host.name}"
        self.directory.mkdir()
        self.config_path = self.directory / "sidecar.toml"
        self.log_path = self.directory / "log"
        self.socket_path = self.directory / "control.sock"
        self.state_dir = self.directory / "state"
        self.key_file = self.directory / "key"
        self.write_key(KEY)
        self._settings = {"state_dir": str(self.state_dir), "control_socket": str(self.socket_path)} | settings
        self._process: subprocess.Popen[str] | None = None
        self.configure(groups)

    def write_key(self, key: str) -> None:
        """The key file every group without authentication of its own uses."""
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(key + "\n")

    def configure(self, groups: Sequence[Mapping[str, Any]], **settings: Any) -> None:
        """Write the configuration file anew; nobody is told."""
        self._settings |= settings
        authentication = {"authentication": {"mode": "Strict", "key_file": str(self.key_file)}}
        lines = [f"{name} = {to_toml(value)}" for name, value in self._settings.items()]
        for one in groups:
            lines += ["", "[[group]]", *(f"{name} = {to_toml(value)}" for name, value in (authentication | dict(one)).items())]
        self.config_path.write_text("\n".join(lines) + "\n")

    def start(self, wait: bool = True, under: Sequence[str] = ()) -> "Sidecar":
        """Start it, ``under`` a program that ends in exec if one is given; with ``wait``, until the control socket answers."""
        argv = [*under, *PROGRAM, "run", "--config", str(self.config_path)]
        self._process = self.host.namespace.start(argv, self.log_path, ENVIRONMENT)
        return self.wait_ready() if wait else self

    def wait_ready(self) -> "Sidecar":
        """Until the control socket answers."""
        wait_until(self._is_ready, READY_TIMEOUT_S, f"the sidecar on {self.host.name} answers")
        return self

    def _is_ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"the sidecar on {self.host.name} ended with {self._process.returncode}:\n{self.log()[-2000:]}")
        try:
            return bool(self.status())
        except OSError:
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the sidecar itself."""
        os.kill(self.pid, number)

    def reap(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for its end and return the exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM, and wait for the end."""
        self.signal(signal.SIGTERM)
        return self.reap()

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        self.reap()

    def freeze(self) -> None:
        """SIGSTOP: it hangs, and the host lives."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def companions(self) -> list[int]:
        """Processes of the host other than the sidecar: its guardian, and hooks while they run."""
        return [pid for pid in self.host.namespace.processes() if pid != self.pid]

    def request(self, command: str, **fields: Any) -> Any:
        """One request on the control socket; LabError when it is refused."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(COMMAND_TIMEOUT_S)
            client.connect(str(self.socket_path))
            client.sendall(json.dumps({"command": command} | fields).encode() + b"\n")
            with client.makefile("rb") as answers:
                line = answers.readline()
        if not line:
            raise ConnectionError(f"the sidecar on {self.host.name} hung up")
        answer = json.loads(line)
        if not answer["ok"]:
            raise LabError(f"{command} on {self.host.name}: {answer['error']}")
        return answer["result"]

    def status(self) -> dict[str, Any]:
        """The status document."""
        status: dict[str, Any] = self.request("status")
        return status

    def group(self, name: str | None = None) -> dict[str, Any]:
        """The status of one group (the first when left out)."""
        return next(entry for entry in self.status()["groups"] if name in (None, entry["name"]))

    @property
    def state(self) -> str:
        """The state of the first group: INIT, BACKUP, MASTER or HANDOVER."""
        state: str = self.group()["state"]
        return state

    def wait_for(
        self, predicate: Callable[[dict[str, Any]], Any], what: str, timeout_s: float = 15.0, name: str | None = None
    ) -> dict[str, Any]:
        """Until the status of a group satisfies ``predicate``; returns that status. The error holds the last one and the log."""
        last: dict[str, Any] = {}

        def satisfied() -> bool:
            last.update(self.group(name))
            return bool(predicate(last))

        try:
            wait_until(satisfied, timeout_s, f"{self.host.name}: {what}")
        except (LabError, OSError) as error:
            raise LabError(f"{error}\nlast status: {json.dumps(last)}\nlog:\n{self.log()[-3000:]}") from error
        return last

    def wait_state(self, state: str, timeout_s: float = 15.0, name: str | None = None) -> dict[str, Any]:
        """Until a group is in ``state``. The decision comes a moment before the kernel has given the addresses, or taken them away."""
        held = {"MASTER": {True}, "BACKUP": {False}}.get(state, {True, False})

        def there(one: dict[str, Any]) -> bool:
            return bool(one["state"] == state) and {address["held"] for address in one["addresses"]} <= held

        return self.wait_for(there, f"becomes {state}", timeout_s, name)

    def cli(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        """Run ``carp-sidecar`` on the host, with this sidecar's socket for the commands that have one."""
        control = [] if argv[0] in ("check", "key", "run") else ["--socket", str(self.socket_path)]
        return subprocess.run(
            self.host.namespace.command([*PROGRAM, argv[0], *control, *argv[1:]]),
            env=os.environ | ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def memory_kb(self) -> int:
        """Resident memory of the sidecar process."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def cpu_s(self) -> float:
        """Processor time used so far, with the kernel's part."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_single_master(sidecars: Sequence[Sidecar], name: str | None = None, timeout_s: float = 15.0) -> Sidecar:
    """Until exactly one of the sidecars is MASTER and has the addresses, and all others are BACKUP; returns the master."""
    states: dict[str, str] = {}

    def settled() -> bool:
        groups = {one.host.name: one.group(name) for one in sidecars}
        states.update({host: one["state"] for host, one in groups.items()})
        followed = all(address["held"] == (one["state"] == "MASTER") for one in groups.values() for address in one["addresses"])
        return followed and sorted(states.values()) == ["BACKUP"] * (len(sidecars) - 1) + ["MASTER"]

    try:
        wait_until(settled, timeout_s, "exactly one master")
    except LabError as error:
        raise LabError(f"{error}: {states}") from error
    return next(one for one in sidecars if states[one.host.name] == "MASTER")


def wait_master(master: Sidecar, *others: Sidecar, name: str | None = None, timeout_s: float = 15.0) -> None:
    """Until ``master`` is MASTER and all others are BACKUP."""
    master.wait_state("MASTER", timeout_s, name)
    for other in others:
        other.wait_state("BACKUP", timeout_s, name)


def start_cluster(lab: Lab, count: int = 2, step: int = 50, **fields: Any) -> list[Sidecar]:
    """Sidecars on the first ``count`` hosts with advskew 0, 50, 100...; the first is MASTER, the others BACKUP on return."""
    members = [Sidecar(lab, host, [group(**{"advskew": rank * step} | fields)]) for rank, host in enumerate(list(lab.members())[:count])]
    members[0].start().wait_state("MASTER")
    for member in members[1:]:
        member.start(wait=False)
    for member in members[1:]:
        member.wait_ready().wait_for(lambda one: one["state"] == "BACKUP" and one["master"] is not None, "hears the master")
    return members


def stays(sidecars: Sequence[Sidecar], states: Sequence[str], duration_s: float) -> None:
    """Assert that states do not change for a while (a negative can only be waited for)."""
    ends = time.monotonic() + duration_s
    while time.monotonic() < ends:
        seen = [one.state for one in sidecars]
        if seen != list(states):
            raise LabError(f"states became {seen}, expected {list(states)} to last {duration_s:g} s")
        time.sleep(0.02)
