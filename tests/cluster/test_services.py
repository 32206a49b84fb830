"""A Service on a group's address, through kube-proxy: clients outside reach pods on any node, also when the master dies."""

import contextlib
import http.client
import socket
import time

import pytest

from lab.image import KUBECARP
from lab.kube_client import Json
from lab.namespace import wait_until
from lab.real_cluster import READY_S, VIP, RealCluster

pytestmark = [pytest.mark.needs("machines", "kubernetes", "kubelet", "kube-proxy", "containerd", "buildah"), pytest.mark.timeout(420)]

PORT = 8080
FIRST_ANSWER_S = 60.0
REFUSED_S = 2.5
"""After the master's death its own pods stay in the Service until Kubernetes calls the Node dead: connections to them get no answer."""
TRY_S = 0.3
SERVER = """
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["NODE"].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8080), Answer).serve_forever()
"""


def workload() -> list[Json]:
    """A web server on every node that says where it is, and its Service."""
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": KUBECARP,
        "imagePullPolicy": "Never",
        "command": ["python", "-c", SERVER],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 2},
    }
    meta = {"name": "web", "namespace": "default"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": PORT}], "externalIPs": [VIP]}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": meta,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
    ]


def ask(cluster: RealCluster) -> str:
    """Who answers a new connection of a client; empty: nobody, in time."""
    with contextlib.closing(http.client.HTTPConnection(VIP, timeout=TRY_S)) as connection:
        connection.sock = cluster.client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.sock.settimeout(TRY_S)
        try:
            connection.sock.connect((VIP, 80))
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""


@pytest.fixture
def web(kubecarp: RealCluster) -> RealCluster:
    if kubecarp.api.find("v1/Service", "web", "default"):
        kubecarp.api.delete("v1/Service", "web", "default")
    kubecarp.apply(*workload())
    kubecarp.api.wait(
        "apps/v1/DaemonSet", "web", lambda one: one["status"]["numberReady"] == 3, "is ready", namespace="default", timeout_s=READY_S
    )
    wait_until(lambda: ask(kubecarp), FIRST_ANSWER_S, "the Service answers", 0.1)
    return kubecarp


def test_clients_outside_reach_pods_on_every_node(web: RealCluster) -> None:
    wait_until(lambda: {ask(web) for _ in range(60)} == set(web.nodes), FIRST_ANSWER_S, "pods on all nodes answer, through the master", 0.5)


def test_a_load_balancer_with_the_address_in_its_status_does_the_same(web: RealCluster) -> None:
    """The field that stays when externalIPs, which are deprecated, go."""
    web.api.patch("v1/Service", "web", {"spec": {"externalIPs": None, "type": "LoadBalancer"}}, namespace="default")
    wait_until(lambda: not ask(web), FIRST_ANSWER_S, "the Service does not answer at an address that it does not name", 0.1)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": VIP}]}}}
    web.api.patch("v1/Service", "web", status, namespace="default", subresource="status")
    wait_until(lambda: ask(web), FIRST_ANSWER_S, "the Service answers again", 0.1)


def test_clients_outside_reach_pods_after_the_master_has_died(web: RealCluster) -> None:
    master = web.status("intranet")["master"]["node"]
    web[master].power_off()
    died = time.monotonic()
    first = wait_until(lambda: ask(web), 5, "the Service answers again", 0.01)
    recovered_s = time.monotonic() - died
    assert first != master
    assert recovered_s < REFUSED_S
    later = [ask(web) for _ in range(30)]
    assert later.count("") < len(later) * 2 / 3, "only the share of the dead node's own pod fails"
    assert master not in later
    web[master].power_on()
    web.wait_ready("intranet")
    wait_until(lambda: master in {ask(web) for _ in range(10)}, FIRST_ANSWER_S, "its pod serves again", 0.5)
