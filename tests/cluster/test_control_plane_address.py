"""The address of a control plane, made as examples/kubeadm says: static pods hold it where an API server answers.

The DaemonSet of the chart runs on the same nodes and the same interface. kubelets and kubectl know no other way to the API, and the node
that holds it dies.
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.control_plane import PORT, REMOTE_ETCD
from lab.image import KUBECARP
from lab.namespace import wait_until
from lab.programs import find
from lab.real_cluster import VIP, RealCluster

from .conftest import API_ADDRESS

pytestmark = [pytest.mark.needs("machines", "kubernetes", "kubelet", "containerd", "buildah"), pytest.mark.timeout(600)]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "kubeadm"
CONTROL_PLANES = ("node-1", "node-2")
SERVER = f"https://{API_ADDRESS}:{PORT}"
UP_S = 120.0
DETECTED_MS = 1500
"""Half a second on a quiet machine; here two API servers have just been started."""
CHECKED_S = 5.0
"""The health check of the example asks every two seconds: until then its node stays demoted, and takes over later than it can."""
API_AWAY_S = 10.0
"""kubectl gives up on each try after 2 s and is tried again."""


@pytest.fixture
def control_planes(kubecarp: RealCluster, tmp_path: Path) -> Iterator[RealCluster]:
    """API servers on two nodes, the address on one of them, and every kubelet asking the address."""
    files = render(kubecarp, tmp_path)
    try:
        for name in CONTROL_PLANES:
            start_api_server(kubecarp, name)
            install(kubecarp, name, files / name, files / "key")
        wait_until(lambda: answers(kubecarp), UP_S, "the API answers at the address", 0.2)
        for node in kubecarp.nodes.values():
            node.use_server(SERVER)
            node.stop_program("kubelet")
            node.start_program("kubelet")
        before = {name: lease_of(kubecarp, name) for name in kubecarp.nodes}
        wait_until(lambda: all(lease_of(kubecarp, name) > before[name] for name in before), UP_S, "kubelets go through the address", 1)
        yield kubecarp
    finally:
        tidy(kubecarp)


def render(cluster: RealCluster, folder: Path) -> Path:
    """The commands of the example, for these nodes and this address."""
    group = yaml.safe_load((EXAMPLE / "carpgroup.yaml").read_text())
    group["spec"]["addresses"] = [f"{API_ADDRESS}/24"]
    (folder / "carpgroup.yaml").write_text(yaml.safe_dump(group))
    nodes = [{"name": name, "addresses": [f"{cluster[name].address}/24@eth0"]} for name in CONTROL_PLANES]
    (folder / "nodes.yaml").write_text(yaml.safe_dump_all(nodes))
    bin_folder = Path(sys.executable).parent
    static = folder / "static"
    files = ["-f", str(folder / "carpgroup.yaml"), "--node-file", str(folder / "nodes.yaml"), "-o", str(static)]
    render_static = [str(bin_folder / "kubectl-carp"), "render", *files, "--static-pod", "--image", KUBECARP]
    subprocess.run(render_static, check=True, timeout=30, stdout=subprocess.DEVNULL)
    key = subprocess.run([bin_folder / "carp-sidecar", "key"], check=True, timeout=30, capture_output=True, text=True).stdout
    (static / "key").write_text(key)
    return static


def start_api_server(cluster: RealCluster, name: str) -> None:
    settings = cluster.plane.api_server_settings(cluster[name].address, REMOTE_ETCD)
    cluster[name].start_process("kube-apiserver", [str(find("kube-apiserver")), *(f"--{key}={value}" for key, value in settings.items())])


def install(cluster: RealCluster, name: str, files: Path, key: Path) -> None:
    """What the example copies to each node."""
    etc = cluster[name].disk / "etc" / "kubecarp"
    etc.mkdir(exist_ok=True)
    shutil.copy(files / "sidecar.toml", etc)
    shutil.copy(key, etc / "key")
    (etc / "key").chmod(0o600)
    shutil.copy(files / "kubecarp.yaml", cluster[name].manifests)


def kubectl(cluster: RealCluster, *words: str, server: str = API_ADDRESS) -> str:
    """kubectl of a client outside, which knows the address alone; nothing, if it fails."""
    config = cluster.plane.admin_kubeconfig(cluster.lab.directory / f"{server}.conf", f"https://{server}:{PORT}")
    return cluster.client.namespace.run(str(find("kubectl")), "--kubeconfig", str(config), "--request-timeout=2s", *words, check=False)


def answers(cluster: RealCluster) -> bool:
    return "node-1" in kubectl(cluster, "get", "nodes", "-o", "name")


def lives(cluster: RealCluster, name: str) -> bool:
    """What the health check of the example asks."""
    return kubectl(cluster, "get", "--raw=/livez", server=cluster[name].address) == "ok"


def lease_of(cluster: RealCluster, name: str) -> str:
    renewed: str = cluster.api.get("coordination.k8s.io/v1/Lease", name, "kube-node-lease")["spec"]["renewTime"]
    return renewed


def tidy(cluster: RealCluster) -> None:
    """Back to nodes of the kind that other tests expect."""
    for node in cluster.nodes.values():
        node.use_server()
        (node.manifests / "kubecarp.yaml").unlink(missing_ok=True)
        if node.is_on:
            node.power_off()
    cluster.repair()


def holders(cluster: RealCluster) -> list[str]:
    """Control planes that have the address, by their kernels."""
    return [name for name in CONTROL_PLANES if cluster[name].is_on and API_ADDRESS in cluster[name].host.held_addresses(API_ADDRESS)]


def test_the_address_leaves_an_api_server_that_does_not_answer_and_a_node_that_dies(control_planes: RealCluster) -> None:
    cluster = control_planes
    first, *others = holders(cluster)
    assert others == []
    assert cluster.holders(VIP), "the DaemonSet's address is served beside it"
    cluster[first].stop_program("kube-apiserver", signal.SIGKILL)
    second = next(name for name in CONTROL_PLANES if name != first)
    wait_until(lambda: holders(cluster) == [second], 30, "the address has gone to the other one", 0.1)
    wait_until(lambda: answers(cluster), 30, "kubectl goes through it", 0.1)
    start_api_server(cluster, first)
    wait_until(lambda: lives(cluster, first), UP_S, "the first API server answers again", 0.2)
    time.sleep(CHECKED_S)

    with cluster.prober(API_ADDRESS) as address:
        address.wait_answering()
        cluster[second].power_off()
        died = time.monotonic()
        wait_until(lambda: answers(cluster), 30, "kubectl goes through the address again", 0.05)
        api_away_s = time.monotonic() - died
        address.wait_answering()
        result = address.stop()
    assert result.longest_ms <= DETECTED_MS
    assert api_away_s < API_AWAY_S
    assert holders(cluster) == [first]
    survivors = [name for name in cluster.nodes if name != second]
    before = {name: lease_of(cluster, name) for name in survivors}
    wait_until(lambda: all(lease_of(cluster, name) > before[name] for name in survivors), 60, "the other kubelets report again", 1)
