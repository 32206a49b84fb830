"""One node of a real cluster: a machine with containerd, kubelet and kube-proxy, whose power can be cut and given back.

Everything that it keeps over a power cut is on its disk. Facts that made this work are beside the settings they explain.
"""

__all__ = ["Node"]

import json
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.control_plane import SERVER, ControlPlane
from lab.image import PAUSE
from lab.machine import Machine
from lab.namespace import LabError, wait_until
from lab.network import Host, Lab, Segment
from lab.pki import kubeconfig
from lab.programs import find

SOCKET = "/run/containerd/containerd.sock"
PROGRAMS = ("containerd", "kubelet", "kube-proxy")
CTR = ("ctr", "--address", SOCKET, "--namespace", "k8s.io")
GATEWAY = "10.77.0.254"
"""Nobody has it: packets to Services need a route before kube-proxy gives them another destination."""
LISTENS_S = 60.0
KUBELET_HEALTH_PORT = 10248
IMPORT_S = 180.0
"""150 MB are unpacked in some seconds; three nodes do it at once on two cores."""

CONTAINERD = f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Root of a sandbox may not lower an OOM score, and there is no cgroup controller in it.
  restrict_oom_score_adj = true
  disable_cgroup = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
"""


def kubelet_config(authority: Path, certificate: Path, key: Path) -> dict[str, Any]:
    """A kubelet that asks nothing of cgroups."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "staticPodPath": "/etc/kubernetes/manifests",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": str(authority)}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        "fileCheckFrequency": "2s",
        "resolvConf": "",
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


class Node:
    """Made off; ``start`` powers it on. Its pods get addresses out of 10.244.NUMBER.0/24."""

    def __init__(self, lab: Lab, segment: Segment, plane: ControlPlane, images: Sequence[Path]) -> None:
        self._lab = lab
        self._plane = plane
        self._images = images
        self.number = len(lab.hosts) + 1
        self.name = f"node-{self.number}"
        self.disk = lab.directory / "disk" / self.name
        self.address = f"10.77.0.{self.number}"
        self.pods = f"10.244.{self.number}.0/24"
        self.host: Host = lab.host(self.name, self._make_machine)
        lab.plug_in(self.host, segment, "eth0", f"{self.address}/24", f"fd77::{self.number}/64")
        self._running: dict[str, subprocess.Popen[str]] = {}
        self.others: Sequence[Node] = ()
        self._write_files()

    def _make_machine(self, name: str) -> Machine:
        return Machine(name, self.disk)

    # Files

    @property
    def _etc(self) -> Path:
        """/etc/kubernetes of the machine."""
        return self.disk / "etc" / "kubernetes"

    @property
    def manifests(self) -> Path:
        """Where static pods are put."""
        return self._etc / "manifests"

    def _write_files(self) -> None:
        self.manifests.mkdir(parents=True, exist_ok=True)
        self._cert, self._key = self._plane.authority.issue(
            self.name, f"system:node:{self.name}", "system:nodes", hosts=(self.name, self.address)
        )
        self._write("containerd.toml", CONTAINERD)
        self._write("kubelet.json", json.dumps(kubelet_config(self._plane.ca, self._cert, self._key)))
        self.use_server()
        network = {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "subnet": self.pods, "routes": [{"dst": "0.0.0.0/0"}]}}],
        }
        networks = self.disk / "etc/cni/net.d"
        networks.mkdir(parents=True, exist_ok=True)
        (networks / "10-pods.conflist").write_text(json.dumps(network))

    def _write(self, name: str, text: str) -> None:
        (self._etc / name).write_text(text)

    def use_server(self, server: str = SERVER) -> None:
        """Whom kubelet and kube-proxy ask, once they are started again."""
        kubeconfig(
            self._etc / "kubelet.conf", server, self._plane.ca, {"client-certificate": str(self._cert), "client-key": str(self._key)}
        )
        proxy_cert, proxy_key = self._plane.authority.issue(f"{self.name}-proxy", "system:kube-proxy")
        user = {"client-certificate": str(proxy_cert), "client-key": str(proxy_key)}
        kubeconfig(self._etc / "kube-proxy.conf", server, self._plane.ca, user)

    # Power and programs

    def start(self) -> None:
        """Power on. Returns when the programs run, not when the Node is Ready."""
        self.start_runtime()
        self.import_images()
        self.start_kubelet()

    def start_runtime(self) -> None:
        """Network and containerd."""
        routes = [f"route replace {other.pods} via {other.address}" for other in self.others if other is not self]
        self.host.namespace.sysctl("net.ipv4.ip_forward", 1)
        self.host.namespace.ip(f"route replace default via {GATEWAY}", *routes)
        self.start_program("containerd")

    def start_kubelet(self) -> None:
        """kubelet and kube-proxy."""
        self.start_program("kubelet")
        self.start_program("kube-proxy")

    def power_off(self) -> None:
        """A power cut: unreachable first, then every process ends without a word."""
        self._lab.kill(self.host)
        self._running.clear()

    def power_on(self) -> None:
        """The machine after ``power_off``: nothing but its disk is as it was."""
        self._lab.replace(self.host, self._make_machine)
        self.start()

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return bool(self._running)

    def missing(self) -> list[str]:
        """Its programs that do not run although it has power."""
        return [program for program in PROGRAMS if program not in self._running or self._running[program].poll() is not None]

    def start_program(self, program: str) -> None:
        """containerd, kubelet or kube-proxy."""
        self.start_process(program, self._command(program))
        if program == "containerd":
            ready = [*CTR, "version"]
            wait_until(lambda: self._alive(program) and self._succeeds(ready), LISTENS_S, f"containerd of {self.name} answers", 0.1)
        if program == "kubelet":
            wait_until(self._kubelet_stands, LISTENS_S, f"kubelet of {self.name} stands", 0.1)

    def _kubelet_stands(self) -> bool:
        """containerd answers before its half for Kubernetes does. A kubelet that comes in between ends, and systemd would start it anew."""
        if self._running["kubelet"].poll() is not None:
            self.start_process("kubelet", self._command("kubelet"))
            return False
        try:
            self.host.namespace.call(socket.create_connection, ("127.0.0.1", KUBELET_HEALTH_PORT), 1.0).close()
        except OSError:
            return False
        return True

    def start_process(self, name: str, argv: Sequence[str]) -> None:
        """A program of a test on the node; it ends by ``stop_program``, or with the node's power."""
        self._running[name] = self.host.namespace.start(argv, self.log_path(name))

    def stop_program(self, program: str, signal_number: int = signal.SIGTERM) -> None:
        """End one of them as systemd would, or kill it."""
        process = self._running.pop(program)
        pid = Machine.inner_pid(process)
        subprocess.run(["kill", f"-{int(signal_number)}", str(pid)], check=True, timeout=5)
        process.wait(LISTENS_S)

    def _command(self, program: str) -> list[str]:
        if program == "containerd":
            return ["containerd", "--config", "/etc/kubernetes/containerd.toml"]
        path = str(find(program))
        if program == "kubelet":
            files = [
                "--config=/etc/kubernetes/kubelet.json",
                "--kubeconfig=/etc/kubernetes/kubelet.conf",
                "--cert-dir=/var/lib/kubelet/pki",
            ]
            return [path, *files, f"--hostname-override={self.name}", f"--node-ip={self.address}"]
        limits = ["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"]
        return [path, "--kubeconfig=/etc/kubernetes/kube-proxy.conf", "--proxy-mode=nftables", f"--hostname-override={self.name}", *limits]

    def log_path(self, program: str) -> Path:
        """What it says; on the disk, so it holds the time before a power cut as well."""
        path = self.disk / "logs"
        path.mkdir(parents=True, exist_ok=True)
        return path / f"{program}.log"

    def _alive(self, program: str) -> bool:
        code = self._running[program].poll()
        if code is not None:
            raise LabError(f"{program} of {self.name} ended with {code}:\n{self.log_path(program).read_text(errors='replace')[-2000:]}")
        return True

    def _succeeds(self, argv: Sequence[str]) -> bool:
        try:
            self.run(*argv)
        except LabError:
            return False
        return True

    def import_images(self) -> None:
        """What pulls from a registry would do; once, as a disk keeps them."""
        for image in self._images:
            mark = self.disk / f".{image.parent.name}-{image.name}"
            if not mark.exists():
                self.run(*CTR, "images", "import", str(image), timeout_s=IMPORT_S)
                mark.touch()

    # Looking inside

    def run(self, *argv: str, check: bool = True, timeout_s: float = 20.0) -> str:
        """Run a program on the node and return what it printed."""
        return self.host.namespace.run(*argv, check=check, timeout_s=timeout_s)

    def process_of(self, container_id: str) -> int | None:
        """Process 1 of a container (``containerd://...`` in its Pod's status), as it is numbered on the node; None if it does not run."""
        wanted = container_id.removeprefix("containerd://")
        for line in self.run(*CTR, "tasks", "list").splitlines()[1:]:
            task, pid, state = line.split()
            if task == wanted and state == "RUNNING":
                return int(pid)
        return None
