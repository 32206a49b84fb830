"""``kubectl carp`` as a person has it: the real kubectl starts it, a real API server answers, the operator carries its orders out."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab import programs
from lab.control_plane import ControlPlane
from lab.groups import CARP_NODE, GROUP, NODES, entries, ready, wait_condition
from lab.kube_client import Json, KubeClient
from lab.manifests import carp_group
from lab.operator_process import NAMESPACE, Operator
from lab.stub_agents import StubAgents

pytestmark = pytest.mark.needs("netns", "kubernetes")

BIN = Path(sys.executable).parent
LIMIT_S = 60
SOON = "2030-01-01T00:00:00Z"
"""A since that no report had before."""


class Kubectl:
    """kubectl with the plugin beside this Python, as the administrator or with another kubeconfig."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.kubeconfig = plane._local_admin

    def _command(self, *argv: str) -> list[str]:
        kubectl = programs.find("kubectl")
        assert kubectl is not None
        path = os.pathsep.join((str(BIN), os.environ["PATH"]))
        environment = [f"PATH={path}", f"HOME={self._plane.directory}", f"KUBECONFIG={self.kubeconfig}"]
        return self._plane.namespace.command(["env", "-u", "KUBERNETES_SERVICE_HOST", *environment, str(kubectl), *argv])

    def run(self, *argv: str) -> tuple[int, str, str]:
        """Exit code, output, complaints."""
        done = subprocess.run(self._command(*argv), capture_output=True, text=True, timeout=LIMIT_S, check=False)
        return done.returncode, done.stdout, done.stderr

    def carp(self, *argv: str) -> str:
        """The output of a command that succeeds."""
        code, out, err = self.run("carp", *argv)
        assert code == 0, err
        return out

    def document(self, *argv: str) -> Json:
        found: Json = json.loads(self.carp(*argv, "-o", "json"))
        return found

    def start(self, *argv: str) -> "subprocess.Popen[str]":
        """A command that waits for something."""
        return subprocess.Popen(self._command("carp", *argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def kubectl(control_plane: ControlPlane) -> Kubectl:
    return Kubectl(control_plane)


def best(api: KubeClient, group: str) -> list[str]:
    """The members, the best first."""
    found = entries(api, group)
    return sorted(found, key=lambda name: found[name]["advskew"])


def obey(agents: StubAgents, api: KubeClient, group: str, successor: str) -> Callable[[], None]:
    """Carries out the next handover of a group, as agent and sidecar do; call the result to wait until that is done."""

    def work() -> None:
        def ordered(node: Json) -> bool:
            return any(entry.get("handover") for entry in node["spec"]["groups"] if entry["name"] == group)

        old = api_of_thread.get(GROUP, group)["status"]["master"]["node"]
        node = api_of_thread.wait(CARP_NODE, old, ordered, "is asked to hand over")
        (identity,) = (entry["handover"]["id"] for entry in node["spec"]["groups"] if entry["name"] == group)
        agents.handled.setdefault(group, {})[old] = identity
        agents.masters[group] = {successor: SOON}
        agents.report(successor, old)

    api_of_thread = agents._plane._client(agents._plane._admin_files)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def finish() -> None:
        thread.join(LIMIT_S)
        api_of_thread.close()
        assert not thread.is_alive()

    return finish


# ---- looking --------------------------------------------------------------------------------------------------


def test_kubectl_knows_the_plugin(kubectl: Kubectl) -> None:
    assert "kubectl-carp" in kubectl.run("plugin", "list")[1]
    assert kubectl.carp("--version").startswith("kubectl carp, version ")


def test_status_shows_what_the_cluster_shows(agents: StubAgents, api: KubeClient, kubectl: Kubectl) -> None:
    ready(api, "web")
    ready(api, "intranet", "10.77.0.101", "fd77::101")
    wait_condition(api, "intranet", "Degraded", "False")
    shown = kubectl.carp("status").splitlines()
    assert shown[0] == "2 groups, all is well"
    first, second, *_ = best(api, "web")
    (row,) = [line.split() for line in shown if line.startswith("web ")]
    assert row[:4] == ["web", "1", "10.77.0.100", first]
    assert row[5:] == [second, "3/3", "-"]
    assert [line.split()[0] for line in shown[3:5]] == ["intranet", "web"]
    assert kubectl.run("carp", "status", "--check")[0] == 0
    document = kubectl.document("status", "web")
    assert document["groups"][0]["master"]["node"] == first
    assert [node["name"] for node in document["nodes"]] == list(NODES)


def test_status_of_a_group_in_trouble(agents: StubAgents, api: KubeClient, kubectl: Kubectl) -> None:
    ready(api, "web")
    api.create(carp_group("late", "10.77.0.100"))
    wait_condition(api, "late", "Accepted", "False")
    code, out, _ = kubectl.run("carp", "status", "--check")
    assert code == 1
    assert out.splitlines()[0] == "2 groups, 1 needs attention"
    assert "10.77.0.100 belongs to CarpGroup web; remove it from one of the two" in out


def test_describe_tells_members_conditions_and_events(agents: StubAgents, api: KubeClient, kubectl: Kubectl) -> None:
    ready(api, "web")
    first, *_ = best(api, "web")
    text = kubectl.carp("describe", "web")
    assert f"Master:        {first} on eth0, for " in text
    assert "Members, the best first (3 of 3 could have the addresses):" in text
    assert f"MasterElected: {first} has the addresses" in text
    assert f"MasterElected: {first} has 10.77.0.100" in text, "the Event"
    assert "tcpdump -nvi eth0 -T carp 'ip proto 112 and ip[21] = 1'" in text
    assert kubectl.document("describe", "web")["events"][-1]["reason"] == "MasterElected"


def test_drain_is_simulated_and_changes_nothing(agents: StubAgents, api: KubeClient, kubectl: Kubectl) -> None:
    before = ready(api, "web")["metadata"]["generation"]
    first, second, third = best(api, "web")
    document = kubectl.document("drain", "--simulate", first)
    assert document["moves"] == [{"address": "10.77.0.100", "group": "web", "from": first, "to": second, "note": ""}]
    assert kubectl.document("drain", "--simulate", third)["stays"][0]["master"] == first
    assert api.get(GROUP, "web")["metadata"]["generation"] == before


def test_a_reader_sees_everything_but_nodes(agents: StubAgents, api: KubeClient, control_plane: ControlPlane, kubectl: Kubectl) -> None:
    ready(api, "web")
    rules = [{"apiGroups": ["kubecarp.io"], "resources": ["carpgroups", "carpnodes"], "verbs": ["get", "list", "watch"]}]
    rbac = "rbac.authorization.k8s.io"
    api.create({"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "carp-reader"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": "default"}
    reference = {"apiGroup": rbac, "kind": "ClusterRole", "name": "carp-reader"}
    binding = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "carp-reader"}}
    api.create(binding | {"subjects": [subject], "roleRef": reference})
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": "default"}})
    config = json.loads(control_plane._local_admin.read_text())
    config["users"][0]["user"] = {"token": control_plane.token("reader", "default")}
    kubectl.kubeconfig = control_plane.directory / "reader.conf"
    kubectl.kubeconfig.write_text(json.dumps(config))
    assert "you may not list Nodes: their state is not shown" in kubectl.carp("status")
    assert kubectl.carp("describe", "web").startswith("Group:         web (VHID 1)")
    code, _, err = kubectl.run("carp", "handover", "web")
    assert code == 1
    assert 'User "system:serviceaccount:default:reader" cannot patch resource "carpgroups"' in err
    assert err.count("\n") == 1


# ---- orders ---------------------------------------------------------------------------------------------------


def test_handover_goes_through_operator_and_agent(agents: StubAgents, api: KubeClient, kubectl: Kubectl) -> None:
    ready(api, "web")
    first, second, third = best(api, "web")
    finish = obey(agents, api, "web", third)
    out = kubectl.carp("handover", "web", "--to", third)
    finish()
    assert out.startswith(f"web: {third} has 10.77.0.100 (was {first}), after ")
    order = json.loads(api.get(GROUP, "web")["metadata"]["annotations"]["kubecarp.io/handover"])
    assert order["to"] == third
    managers = {entry["manager"] for entry in api.get(GROUP, "web")["metadata"]["managedFields"]}
    assert "kubectl-carp" in managers
    code, _, err = kubectl.run("carp", "handover", "web", "--to", "d")
    assert (code, err.count("\n")) == (1, 1)
    assert second in err


def test_handover_that_no_agent_carries_out_is_withdrawn(agents: StubAgents, api: KubeClient, kubectl: Kubectl) -> None:
    ready(api, "web")
    first, *_ = best(api, "web")
    code, _, err = kubectl.run("carp", "handover", "web", "--timeout", "2s")
    assert code == 1
    assert f"the request is withdrawn: the agent on {first} has not answered; does its pod run?" in err
    assert "kubecarp.io/handover" not in api.get(GROUP, "web")["metadata"].get("annotations", {})


def test_maintenance_frees_a_node(agents: StubAgents, api: KubeClient, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    told = agents._group

    def with_demotion(node: str, entry: Mapping[str, Any]) -> Json:
        return told(node, entry) | {"demotion": {"total": entry.get("demotion", 0), "reasons": []}}

    monkeypatch.setattr(agents, "_group", with_demotion)
    ready(api, "web")
    first, second, _ = best(api, "web")
    process = kubectl.start("maintenance", first, "on")
    api.wait(CARP_NODE, first, lambda node: node["spec"]["groups"][0]["demotion"] == 200, "is demoted")
    agents.masters["web"] = {second: SOON}
    agents.report(second, first)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert f"web: {second} has 10.77.0.100 (was {first})" in out
    assert out.endswith(f"{first} has no addresses\n")
    assert api.get("v1/Node", first)["metadata"]["annotations"]["kubecarp.io/maintenance"] == "true"
    assert kubectl.carp("maintenance").splitlines()[1].split() == [first, "-"]
    assert kubectl.carp("maintenance", first, "off") == f"{first} may have addresses again\n"
    api.wait(CARP_NODE, first, lambda node: "demotion" not in node["spec"]["groups"][0], "is not demoted")


def test_rotate_key_goes_round(agents: StubAgents, api: KubeClient, kubectl: Kubectl) -> None:
    ready(api, "web")
    wait_condition(api, "web", "Programmed", "True")
    out = kubectl.carp("rotate-key", "web").splitlines()
    assert [line.split()[0] for line in out] == ["web:", "accept", "send", "drop", "web:"]
    ring = api.get("v1/Secret", "kubecarp-key-web", NAMESPACE)
    assert sorted(ring["data"]) == ["key-2", "sign"]
    assert entries(api, "web")["a"]["authentication"]["sign"] == "key-2"


def test_watching_tells_of_a_new_master(agents: StubAgents, api: KubeClient, kubectl: Kubectl) -> None:
    ready(api, "web")
    first, second, _ = best(api, "web")
    process = kubectl.start("status", "--watch")
    assert process.stdout is not None
    lines: list[str] = []
    assert process.stdout.readline().split(" ", 1)[1] == f"web: {first} has 10.77.0.100\n"
    agents.masters["web"] = {second: SOON}
    agents.report(second, first)
    while f"web: {second} has 10.77.0.100, after {first}" not in "".join(lines):
        lines.append(process.stdout.readline())
        assert lines[-1], "it goes on until it is told to end"
    process.send_signal(2)
    process.communicate(timeout=LIMIT_S)


# ---- completion and failures ----------------------------------------------------------------------------------


def test_kubectl_asks_the_plugin_for_completion(agents: StubAgents, api: KubeClient, kubectl: Kubectl) -> None:
    ready(api, "web")
    assert kubectl.run("__complete", "carp", "des")[1].splitlines() == ["describe\teverything about one group", ":4"]
    assert kubectl.run("__complete", "carp", "describe", "")[1].splitlines() == ["web", ":4"]
    assert kubectl.run("__complete", "carp", "drain", "--simulate", "")[1].splitlines() == [*NODES, ":4"]


def test_an_api_server_that_is_gone_is_one_sentence(operator: Operator, control_plane: ControlPlane, kubectl: Kubectl) -> None:
    control_plane.stop_api()
    try:
        code, out, err = kubectl.run("carp", "status")
    finally:
        control_plane.start_api()
    assert (code, out) == (1, "")
    assert err == (
        "kubectl carp: the API server https://127.0.0.1:6443 cannot be reached: Connection refused. "
        "The addresses do not depend on it; on a node, carp-sidecar shows its groups\n"
    )


def test_a_cluster_without_the_definitions_is_told_what_to_do(control_plane: ControlPlane, api: KubeClient, kubectl: Kubectl) -> None:
    code, _, err = kubectl.run("carp", "status", "--context", "nowhere")
    assert (code, err.count("\n")) == (1, 1)
    assert "no cluster to talk to" in err
