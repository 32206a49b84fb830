"""What the pods of kubecarp may do, read from the kernel and not from the chart; and that its containers leave each other alone."""

import json
import sys

import pytest

from lab.namespace import wait_until
from lab.real_cluster import NAMESPACE, VIP, RealCluster

pytestmark = [pytest.mark.needs("machines", "kubernetes", "kubelet", "containerd", "buildah"), pytest.mark.timeout(300)]

NET_ADMIN, NET_RAW = 12, 13
TOKEN = "/run/secrets/kubernetes.io/serviceaccount"
"""Without the symbolic link of /var/run, which would lead out of the container's root."""
NODE = "node-1"
STRANGER = 1000
TRY = """
import json, os, socket, sys
user, *places = json.loads(sys.argv[1])
os.setgroups([]), os.setgid(user), os.setuid(user)
for place in places:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(place) if place.endswith(".sock") else open(place).close()
        print("open")
    except OSError as error:
        print(error.strerror)
"""


def status_of(cluster: RealCluster, container: str, field: str) -> str:
    """A field of /proc/PID/status of process 1 of a container."""
    text = cluster[NODE].run("cat", f"/proc/{cluster.process(NODE, container)}/status")
    return next(line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(f"{field}:"))


def capabilities(cluster: RealCluster, container: str, kind: str = "CapBnd") -> set[int]:
    bits = int(status_of(cluster, container, kind), 16)
    return {number for number in range(64) if bits >> number & 1}


def root_of(cluster: RealCluster, container: str, path: str) -> str:
    return f"/proc/{cluster.process(NODE, container)}/root{path}"


def test_the_sidecar_has_two_capabilities_and_no_token(kubecarp: RealCluster) -> None:
    assert capabilities(kubecarp, "sidecar") == capabilities(kubecarp, "sidecar", "CapEff") == {NET_ADMIN, NET_RAW}
    assert status_of(kubecarp, "sidecar", "Uid").split()[0] == "0"
    assert status_of(kubecarp, "sidecar", "NoNewPrivs") == "1"
    assert status_of(kubecarp, "sidecar", "Seccomp") == "2", "a filter"
    assert kubecarp[NODE].run("ls", root_of(kubecarp, "sidecar", TOKEN), check=False) == ""


def test_the_agent_has_a_token_and_no_capability(kubecarp: RealCluster) -> None:
    assert capabilities(kubecarp, "agent") == set()
    assert status_of(kubecarp, "agent", "Uid").split()[0] not in ("0", "")
    assert status_of(kubecarp, "agent", "NoNewPrivs") == "1"
    assert "token" in kubecarp[NODE].run("ls", root_of(kubecarp, "agent", TOKEN))


@pytest.mark.parametrize("container", ["sidecar", "agent"])
def test_nothing_of_the_image_can_be_written(kubecarp: RealCluster, container: str) -> None:
    mounts = kubecarp[NODE].run("cat", f"/proc/{kubecarp.process(NODE, container)}/mounts").splitlines()
    root = next(line.split() for line in mounts if line.split()[1] == "/")
    assert "ro" in root[3].split(",")


def test_a_stranger_on_the_node_reads_no_key_and_opens_no_socket(kubecarp: RealCluster) -> None:
    """A user of the host, or of a pod that has the node's network: by whatever path the node has to what agent and sidecar share."""
    pod = kubecarp.node_pod(NODE)["metadata"]["uid"]
    places = [
        "/var/lib/kubecarp/agent/sidecar.json",
        root_of(kubecarp, "sidecar", "/var/lib/kubecarp/agent/sidecar.json"),
        f"/var/lib/kubelet/pods/{pod}/volumes/kubernetes.io~empty-dir/run/control.sock",
        root_of(kubecarp, "sidecar", "/run/kubecarp/control.sock"),
        root_of(kubecarp, "agent", f"{TOKEN}/token"),
    ]

    def attempt(user: int) -> list[str]:
        return kubecarp[NODE].run(sys.executable, "-IS", "-c", TRY, json.dumps([user, *places])).splitlines()

    assert attempt(0) == ["open"] * len(places), "the places are those"
    assert attempt(STRANGER) == ["Permission denied"] * len(places)
    network = kubecarp[NODE].run("cat", f"/proc/{kubecarp.process(NODE, 'sidecar')}/net/tcp").splitlines()[1:]
    listening = {line.split()[1] for line in network if line.split()[3] == "0A"}
    ours = {address for address in listening if int(address.partition(":")[2], 16) in (9120, 9121)}
    assert ours == {"0100007F:23A0", "0100007F:23A1"}, "metrics on the loopback alone"


@pytest.mark.parametrize("container", ["sidecar", "agent"])
def test_a_restart_of_one_container_leaves_the_other_alone(kubecarp: RealCluster, container: str) -> None:
    other = {"sidecar": "agent", "agent": "sidecar"}[container]
    killed, left = kubecarp.process(NODE, container), kubecarp.process(NODE, other)
    uid = kubecarp.node_pod(NODE)["metadata"]["uid"]
    kubecarp.kill(NODE, container)
    wait_until(lambda: kubecarp.process(NODE, container) != killed, 60, f"the {container} runs again", 0.2)
    kubecarp.wait_ready("intranet", address=VIP)
    assert kubecarp.process(NODE, other) == left
    assert kubecarp.node_pod(NODE)["metadata"]["uid"] == uid
    assert len(kubecarp.holders(VIP)) == 1


def test_the_logs_hold_no_secret_and_no_traceback(kubecarp: RealCluster) -> None:
    ring = kubecarp.api.get("v1/Secret", "kubecarp-key-intranet", NAMESPACE)["data"]["key-1"]
    for name in kubecarp.nodes:
        pod = kubecarp.node_pod(name)["metadata"]["name"]
        said = kubecarp.plane.kubectl("logs", "--namespace", NAMESPACE, pod, "--all-containers")
        assert said
        assert ring not in said
        assert "Traceback (most recent call last)" not in said
