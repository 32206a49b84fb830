"""The operator as a process beside the API server: start, stop, kill it, read its log and its figures."""

__all__ = ["CRASHING", "NAMESPACE", "Operator"]

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from lab.control_plane import ControlPlane
from lab.kube_client import Json
from lab.namespace import LabError, wait_until

NAMESPACE = "kubecarp-system"
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "carp_operator", "run"]
CRASHING = [sys.executable, str(ROOT / "tests/lab/crashing_operator.py")]
SOURCES = os.pathsep.join(str(ROOT / folder) for folder in ("operator", "sidecar"))
PORT = 9122
READY_S, STOP_S = 30.0, 20.0


class Operator:
    """One ``carp-operator run`` in the network namespace of the control plane."""

    def __init__(self, plane: ControlPlane, kubeconfig: Path, directory: Path, *, port: int = PORT) -> None:
        self._plane = plane
        self._kubeconfig = kubeconfig
        self._port = port
        self.log_path = directory / f"operator-{port}.log"
        self._lives = 0
        self._process: subprocess.Popen[str] | None = None

    def start(
        self, *arguments: str, program: Sequence[str] = PROGRAM, wait: bool = True, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Start it; with ``wait``, until it acts."""
        argv = [*program, "--kubeconfig", str(self._kubeconfig), "--namespace", NAMESPACE, "--log-format", "json"]
        argv += ["--metrics-address", f"127.0.0.1:{self._port}", *arguments]
        self.forget()
        self._process = self._plane.namespace.start(argv, self.log_path, {"PYTHONPATH": SOURCES} | dict(environment or {}))
        return self.wait_acting() if wait else self

    def forget(self) -> None:
        """What the log says of its acting so far does not count: ``wait_acting`` then waits for it to act again."""
        self._lives = sum(" knows " in entry["msg"] for entry in self.entries())

    def wait_acting(self) -> Self:
        """Until it holds the lease and has learned the world."""
        wait_until(self._is_acting, READY_S, "the operator acts")
        return self

    def _is_acting(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"the operator ended with {self._process.returncode}:\n{self.log()[-3000:]}")
        return sum(" knows " in entry["msg"] for entry in self.entries()) > self._lives

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM, and wait for the end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_S)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_S)

    def wait_end(self, timeout_s: float = STOP_S) -> int:
        """Until it ends by itself; its exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def entries(self) -> list[Json]:
        """The lines of the log."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{") and line.endswith("}")]

    def get(self, path: str) -> str:
        """One of its endpoints."""
        plain = self._plane.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        plain.settimeout(10)
        plain.connect(("127.0.0.1", self._port))
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.sock = plain
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def figures(self) -> dict[str, float]:
        """Its metrics by name and labels."""
        lines = (line.rpartition(" ") for line in self.get("/metrics").splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def writes(self) -> float:
        """Objects written so far; the lease is not counted."""
        return sum(value for name, value in self.figures().items() if name.startswith("carp_operator_api_writes_total"))

    def settle(self, quiet_s: float = 1.5, timeout_s: float = 30.0) -> float:
        """Until nothing was written for ``quiet_s``; the number of writes so far.

        The operator itself waits up to a second, for another report or for a second try, and the machine may pause.
        """

        def still() -> bool:
            before = self.writes()
            time.sleep(quiet_s)
            return self.writes() == before

        wait_until(still, timeout_s, "the operator comes to rest", 0.0)
        return self.writes()

    def memory_kb(self) -> int:
        """Resident memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def cpu_s(self) -> float:
        """Processor time used so far."""
        fields: list[Any] = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
