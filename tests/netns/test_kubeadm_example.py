"""examples/kubeadm as it is written: the address of a control plane from static pods, beside node pods with groups of their own."""

import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from carp_operator.cli.main import main
from lab.network import Host, Lab
from lab.pki import Authority
from lab.pod import FedSidecar, StaticPod, document
from lab.prober import Prober, ProbeResult
from lab.sidecar import CALM, Sidecar, group, wait_single_master

pytestmark = [pytest.mark.needs("netns"), pytest.mark.usefixtures("real_root")]

EXAMPLE = Path(__file__).parents[2] / "examples" / "kubeadm"
CONTROL_PLANE, WEB = "10.0.0.10", "10.0.0.100"
MACS = {CONTROL_PLANE: "00:00:5e:00:01:fa", WEB: "00:00:5e:00:01:01"}
API_SERVER = """
import http.server, ssl, sys
class Livez(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/livez" else 404)
        self.end_headers()
server = http.server.ThreadingHTTPServer(("0.0.0.0", 6443), Livez)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture
def nodes() -> Iterator[Lab]:
    """The nodes of the example, and a client."""
    with Lab() as lab:
        lan = lab.segment("lan")
        for node in yaml.safe_load_all((EXAMPLE / "nodes.yaml").read_text()):
            address, _, interface = node["addresses"][0].partition("@")
            lab.plug_in(lab.host(node["name"]), lan, interface, address)
        lab.plug_in(lab.host("client"), lan, "eth0", "10.0.0.200/24")
        yield lab


def static_pods(lab: Lab) -> list[StaticPod]:
    """What the example's second command writes, on its nodes."""
    folder = lab.directory / "static"
    with redirect_stdout(io.StringIO()):
        argv = ["render", "-f", str(EXAMPLE / "carpgroup.yaml"), "--node-file", str(EXAMPLE / "nodes.yaml"), "--static-pod"]
        assert main([*argv, "-o", str(folder)]) == 0
    return [StaticPod(lab, host, folder / host.name) for host in lab.members()]


def node_pods(lab: Lab) -> list[FedSidecar]:
    """The chart's sidecars, as an agent feeds them: groups of the cluster, and the defaults of everything else."""
    pods = [FedSidecar(lab, host).start() for host in lab.members()]
    for rank, pod in enumerate(pods):
        assert pod.agent("reload", document(group("web", addresses=[f"{WEB}/24"], advskew=16 * rank, **CALM)))["ok"]
    return pods


class Servers:
    """The API servers."""

    def __init__(self, lab: Lab) -> None:
        certificate, key = Authority(lab.directory).issue("server", "server")
        self._argv = [sys.executable, "-c", API_SERVER, str(certificate), str(key)]
        self._log = lab.directory / "api-server.log"
        self._running = {host.name: host.namespace.start(self._argv, self._log) for host in lab.members()}

    def kill(self, host: Host) -> None:
        self._running[host.name].kill()
        self._running[host.name].wait(5)


class Clients:
    """Two that ask for an address by ARP and echo every millisecond."""

    def __init__(self, lab: Lab) -> None:
        self._stack = ExitStack()
        self._probers = {address: self._stack.enter_context(Prober(lab.client, address, ask=True)) for address in MACS}
        self.wait_answering()

    def wait_answering(self) -> None:
        for prober in self._probers.values():
            prober.wait_answering()

    def stop(self) -> dict[str, ProbeResult]:
        with self._stack:
            return {address: prober.stop() for address, prober in self._probers.items()}


def dies(members: list[Sidecar], master: Sidecar) -> Sidecar:
    """The process is killed and comes back, as a kubelet has it; the new master."""
    master.kill()
    new = wait_single_master([one for one in members if one is not master])
    master.start()
    assert wait_single_master(members) is new
    return new


def settings(host: Host) -> list[str]:
    """How the interface answers and asks by ARP."""
    return [host.namespace.run("cat", f"/proc/sys/net/ipv4/conf/eth0/{name}").strip() for name in ("arp_ignore", "arp_announce")]


def test_both_fail_over_and_neither_disturbs_the_other(nodes: Lab) -> None:
    static: list[Sidecar] = [pod.start() for pod in static_pods(nodes)]
    wait_single_master(static)
    assert not any(one.group()["health_checks"][0]["passing"] for one in static), "the address is there before any API server"
    servers = Servers(nodes)
    for one in static:
        one.wait_for(lambda status: status["demotion"]["total"] == 0, "its API server lives", timeout_s=20)
    pods: list[Sidecar] = [*node_pods(nodes)]
    control_plane, web = wait_single_master(static), wait_single_master(pods)

    clients = Clients(nodes)
    control_plane = dies(static, control_plane)
    assert wait_single_master(pods) is web
    web = dies(pods, web)
    assert wait_single_master(static) is control_plane
    clients.wait_answering()
    servers.kill(control_plane.host)
    control_plane = wait_single_master_but(static, control_plane)
    seen = clients.stop()
    assert {address: result.macs for address, result in seen.items()} == {address: {mac} for address, mac in MACS.items()}
    assert {address: result.longest_ms for address, result in seen.items() if result.longest_ms > 100} == {}

    for metrics in (9120, 9123):
        assert control_plane.host.namespace.call(lambda port: urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).status, metrics) == 200
    nodes.kill(control_plane.host)
    static, pods = ([one for one in members if one.host is not control_plane.host] for members in (static, pods))
    for members, name in ((static, "control-plane"), (pods, "web")):
        assert wait_single_master(members, name).running
    for member in (*static, *pods):
        assert member.stop() == 0
    assert [settings(one.host) for one in static] == [["0", "0"]] * 2


def wait_single_master_but(members: list[Sidecar], former: Sidecar) -> Sidecar:
    """Another one than that, which becomes BACKUP."""
    former.wait_state("BACKUP", 30)
    return wait_single_master(members)
