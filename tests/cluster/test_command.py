"""`make cluster` as a developer uses it: it stays up by itself, is looked at, loses a node, and leaves nothing."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.image import kubecarp_image, pause_image
from lab.namespace import wait_until
from lab.programs import find

pytestmark = [pytest.mark.needs("machines", "kubernetes", "kubelet", "helm4", "containerd", "buildah"), pytest.mark.timeout(400)]

TESTS = Path(__file__).resolve().parents[1]
LIMIT_S = 300


class Developer:
    """Somebody at a terminal, with a cache of his own that holds what has been built already."""

    def __init__(self, cache: Path) -> None:
        self.place = cache / "kubecarp" / "cluster"
        self.place.parent.mkdir()
        programs = [path for path in map(find, ("etcd", "kubectl", "helm4")) if path]
        for built in {path.parent for path in (*programs, kubecarp_image(), pause_image())}:
            (self.place.parent / built.name).symlink_to(built)
        paths = os.pathsep.join(str(path) for path in (TESTS.parent / "operator", TESTS.parent / "sidecar", TESTS))
        self._environment = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": paths}

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-m", "lab.cluster_command", *words]
        return subprocess.run(argv, env=self._environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    def kubectl(self, *words: str) -> str:
        """kubectl with the KUBECONFIG and the PATH that were printed, on this machine."""
        environment = self._environment | {"KUBECONFIG": str(self.place / "kubeconfig")}
        argv = [str(self.place / "bin" / "kubectl"), *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.fixture
def developer(tmp_path: Path) -> Iterator[Developer]:
    somebody = Developer(tmp_path)
    yield somebody
    somebody.command("down")


def test_a_cluster_to_break(developer: Developer) -> None:
    up = developer.command("up")
    assert up.returncode == 0, up.stderr
    assert "kubecarp runs on 3 nodes" in up.stdout
    assert developer.command("up").stderr == "a cluster is up already; `make cluster-down` ends it\n"
    master = developer.kubectl("get", "carp", "intranet", "-o", "jsonpath={.status.master.node}")
    assert developer.command("kill", "node-9").stderr == "there is no node 'node-9'; there are node-1, node-2, node-3\n"

    hang_up(developer, "ping")
    assert developer.command("kill", master).stdout == f"{master} has no power any more\n"
    wait_until(lambda: developer.kubectl("get", "carp", "intranet", "-o", "jsonpath={.status.master.node}") != master, 40, "it moves", 0.2)
    assert developer.command("boot", master).returncode == 0

    state = json.loads((developer.place / "state.json").read_text())
    assert developer.command("down").stdout == "the cluster has ended\n"
    assert not Path(f"/proc/{state['client']}").exists(), "nothing runs any more"
    assert developer.command("kill", "node-1").stderr == "no cluster is up; `make cluster` starts one\n"


def hang_up(developer: Developer, *words: str) -> None:
    """Ask, and go before the answer, as Ctrl-C does; and say what nobody understands."""
    for said in (json.dumps(words).encode(), b"not JSON"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(developer.place / "socket"))
            connection.sendall(said)
