"""A cluster without kubelets: a real API server, the operator, and on each host a real agent and a real sidecar, each with its own rights.

Roles, bindings and the admission policy are those of the chart. Only the pods are missing: their processes are started here.
"""

__all__ = ["Cluster", "KubeMember"]

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lab.control_plane import PORT, ControlPlane
from lab.groups import CARP_NODE
from lab.kube_client import Json
from lab.namespace import COMMAND_TIMEOUT_S, LabError
from lab.network import Host, Lab
from lab.operator_process import NAMESPACE, Operator
from lab.pod import FedSidecar
from lab.programs import find

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/kubecarp"
AS_AGENT = Path(__file__).with_name("as_agent.py")
RELEASE = "kubecarp"
OPERATOR_ACCOUNT, NODE_ACCOUNT = f"{RELEASE}-operator", f"{RELEASE}-node"
RIGHTS = (
    "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
    "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
)  # fmt: skip


@functools.cache
def rights() -> list[Json]:
    """Accounts, roles and policy of the chart."""
    helm = find("helm4")
    if helm is None:
        raise LabError("there is no helm4: run `make kubernetes`")
    argv = [str(helm), "template", RELEASE, str(CHART), "--namespace", NAMESPACE]
    rendered = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True).stdout
    return [body for body in yaml.safe_load_all(rendered) if body and body["kind"] in RIGHTS]


class KubeMember:
    """The pod of one node: sidecar and agent."""

    def __init__(self, plane: ControlPlane, lab: Lab, host: Host) -> None:
        self._plane = plane
        self._lab = lab
        self.host = host
        self.sidecar = FedSidecar(lab, host)
        self.directory = self.sidecar.directory
        self.log_path = lab.directory / f"agent-{host.name}" / "log"
        self.log_path.parent.mkdir()
        self._agent: subprocess.Popen[str] | None = None
        self._credentials = self.directory / "credentials"
        plane.add_pod(f"node-{host.name}", NAMESPACE, host.name, NODE_ACCOUNT)
        self.renew_token()

    def renew_token(self, seconds: int = 3600) -> None:
        """What the kubelet does now and then."""
        self._plane.credentials(self._credentials, NODE_ACCOUNT, NAMESPACE, f"node-{self.host.name}", seconds)
        self._credentials.chmod(0o755)
        for file in self._credentials.iterdir():
            file.chmod(0o644)

    def start(self) -> "KubeMember":
        """Sidecar, then agent."""
        self.sidecar.start()
        return self.start_agent()

    def start_agent(self, *arguments: str) -> "KubeMember":
        argv = [sys.executable, "-m", "carp_agent", "run", "--node", self.host.name, *arguments]
        folders = [str(self.sidecar.state_dir), str(self.directory / "run"), str(self._credentials)]
        environment = {
            "PYTHONPATH": str(ROOT / "sidecar"),
            "KUBERNETES_SERVICE_HOST": "10.77.0.250",
            "KUBERNETES_SERVICE_PORT": str(PORT),
        }
        self._agent = self.host.namespace.start(["unshare", "--mount", str(AS_AGENT), *folders, *argv], self.log_path, environment)
        return self

    @property
    def agent_pid(self) -> int:
        assert self._agent is not None
        return self._agent.pid

    def stop_agent(self) -> int:
        """SIGTERM, and wait for the end."""
        assert self._agent is not None
        self._agent.send_signal(signal.SIGTERM)
        return self._agent.wait(COMMAND_TIMEOUT_S)

    def kill_agent(self) -> None:
        assert self._agent is not None
        self._agent.kill()
        self._agent.wait(COMMAND_TIMEOUT_S)

    def agent_log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def agent_memory_kb(self) -> int:
        """Resident memory of the agent."""
        lines = Path(f"/proc/{self.agent_pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def agent_cpu_s(self) -> float:
        """Processor time of the agent so far."""
        fields: list[Any] = Path(f"/proc/{self.agent_pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def config_file(self) -> Path:
        """What the agent has written."""
        return self.sidecar.agent_folder / "sidecar.json"

    def config(self) -> Json:
        document: Json = json.loads(self.config_file.read_text())
        return document


class Cluster:
    """Three nodes a, b, c of a lab; started when it is made, gone with the lab."""

    def __init__(self, plane: ControlPlane, lab: Lab, hosts: Sequence[str] = ("a", "b", "c"), *, operator: bool = True) -> None:
        self.plane = plane
        self.lab = lab
        self.api = plane.api
        plane.add_namespace(NAMESPACE)
        for body in rights():
            self.api.apply(body)
        self.operator = Operator(plane, self._operator_kubeconfig(), lab.directory)
        for name in hosts:
            plane.add_node(lab[name], labels={"zone": name})
        self.members = {name: KubeMember(plane, lab, lab[name]) for name in hosts}
        if operator:
            self.operator.start(wait=False)
        for member in self.members.values():
            member.sidecar.start(wait=False)
        for member in self.members.values():
            member.sidecar.wait_ready()
            member.start_agent()
        if operator:
            self.operator.wait_acting()
            self.wait_reported()

    def _operator_kubeconfig(self) -> Path:
        return self.plane.kubeconfig(self.lab.directory / "operator.conf", self.plane.token(OPERATOR_ACCOUNT, NAMESPACE))

    def __getitem__(self, name: str) -> KubeMember:
        return self.members[name]

    def wait_reported(self) -> None:
        """Until every agent has reported its interfaces."""
        for name in self.members:
            self.api.wait(CARP_NODE, name, lambda node: node["status"]["interfaces"], "has reported", timeout_s=30)

    def close(self) -> None:
        """The operator ends; everything else ends with the lab."""
        if self.operator.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.operator.stop()
