"""What ``kubectl carp render`` writes runs, also beside the sidecar of a node pod: neither touches what is the other's."""

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest
import yaml

from carp_operator.cli.main import main
from lab.network import Host, Lab
from lab.sidecar import CALM, VIP4, Sidecar, group, stays, wait_single_master

pytestmark = pytest.mark.needs("netns")

STATIC_VIP = "10.77.0.110"


def rendered(lab: Lab, host: Host, **spec: object) -> Sidecar:
    """The static sidecar of a host, not started."""
    sidecar = Sidecar(lab, host, [], name=f"static-{host.name}")
    metadata = {"name": "control-plane"}
    spec = {"addresses": [f"{STATIC_VIP}/24"], "vhid": 250, "advertisementInterval": CALM["advertisement_interval"]} | spec
    manifest = lab.directory / "carpgroup.yaml"
    manifest.write_text(yaml.safe_dump({"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpGroup", "metadata": metadata, "spec": spec}))
    nodes = [word for one in lab.members() for word in ("--node", f"{one.name}={one.address(4)}/24")]
    files = ["--state-dir", str(sidecar.state_dir), "--key-file", str(sidecar.key_file)]
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        assert main(["render", "-f", str(manifest), *nodes, *files, "--for", host.name]) == 0
    sidecar.config_path.write_text(f'control_socket = "{sidecar.socket_path}"\n{out.getvalue()}')
    return sidecar


@pytest.mark.parametrize("virtual_mac", [True, False])
def test_static_sidecars_elect_beside_those_of_the_node_pods(lab: Lab, virtual_mac: bool) -> None:
    hosts = list(lab.members())
    static = [rendered(lab, host, virtualMAC=virtual_mac) for host in hosts]
    pods = [Sidecar(lab, host, [group(advskew=16 * rank, virtual_mac=virtual_mac)]) for rank, host in enumerate(hosts)]
    for sidecar in (*static, *pods):
        sidecar.start()
    static_master, pod_master = wait_single_master(static), wait_single_master(pods)
    assert static_master.group()["addresses"] == [{"address": f"{STATIC_VIP}/24", "held": True}]

    pod_master.kill()
    wait_single_master([one for one in pods if one is not pod_master])
    pod_master.start()
    wait_single_master(pods)
    states = ["MASTER" if one is static_master else "BACKUP" for one in static]
    stays(static, states, 1.0)
    assert static_master.group()["transitions"] == 2, "started, and nobody was there: what the other does is nothing to it"
    assert static_master.group()["addresses"][0]["held"]

    static_master.stop()
    wait_single_master([one for one in static if one is not static_master])
    master = wait_single_master(pods)
    assert master.group()["addresses"] == [{"address": f"{VIP4}/32", "held": True}]


def test_the_address_goes_to_a_node_whose_api_server_lives(lab: Lab) -> None:
    check = {"name": "api", "tcpSocket": {"port": 6443}, "periodSeconds": 1, "failureThreshold": 1}
    static = [rendered(lab, host, healthChecks=[check]) for host in lab.members()]
    for sidecar in static:
        sidecar.start()
    first = wait_single_master(static)
    alive = next(one for one in static if one is not first)
    server = ["python3", "-c", "import socket, time; one = socket.create_server(('127.0.0.1', 6443)); time.sleep(60)"]
    alive.host.namespace.start(server, lab.directory / "server.log")
    alive.wait_state("MASTER")
