"""The agent between a real API server and a real sidecar, with the rights that both have in a cluster; the tests write the CarpNodes."""

import base64
import json
import signal
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from carp_agent.times import read_time, write_time
from lab.cluster import Cluster, KubeMember
from lab.control_plane import ControlPlane
from lab.groups import CARP_NODE, SECRET
from lab.kube_client import LONG_S, Json, KubeClient
from lab.namespace import wait_until
from lab.network import Lab
from lab.operator_process import NAMESPACE
from lab.pod import AGENT
from lab.sidecar import KEY, VIP4

pytestmark = pytest.mark.needs("netns", "kubernetes", "helm4")

MEMORY_LIMIT_KB, NODE_MEMORY_LIMIT_KB = 22 * 1024, 65 * 1024
"""Of the agent, and of everything on a node: what a node pays with MetalLB."""
IDLE_CPU_LIMIT = 0.005
"""Share of a core."""
NOISE = 10
"""A test machine may be busy; these tests find what waits for a timer, not what takes some milliseconds."""
LATENCY_S = 0.05
ROUNDS = 3
RECOVERY_S = 10.0
"""Seconds after an outage of the API server: 5 s is the longest wait while nobody listens."""


@pytest.fixture
def pair(control_plane: ControlPlane, lab: Lab) -> Iterator[Cluster]:
    """Nodes a and b: sidecars and agents run, without CarpNodes."""
    made = Cluster(control_plane, lab, ("a", "b"), operator=False)
    make_ring(made.api, "web", key_1=KEY)
    yield made
    made.close()


@pytest.fixture
def member(pair: Cluster) -> KubeMember:
    return pair["a"]


def figure(metrics: str, name: str) -> float:
    """One figure of a page of metrics."""
    return next(float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(name))


def make_ring(api: KubeClient, group: str, **keys: str) -> None:
    """The Secret of a group, as the operator makes it."""
    data = {name.replace("_", "-"): base64.b64encode(key.encode()).decode() for name, key in keys.items()}
    metadata = {"name": f"kubecarp-key-{group}", "namespace": NAMESPACE}
    api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubecarp.io/key-ring", "data": data})


def entry(name: str = "web", vhid: int = 1, **fields: Any) -> Json:
    """A group of a CarpNode."""
    return {
        "name": name,
        "version": "v1",
        "vhid": vhid,
        "addresses": [VIP4],
        "advskew": 0,
        "advertisementInterval": "200ms",
        "authentication": {"mode": "Strict", "secretName": f"kubecarp-key-{name}", "sign": "key-1"},
        "virtualMAC": True,
    } | fields


def program(api: KubeClient, node: str, *groups: Json) -> int:
    """What should run on a node; the generation that says so."""
    body = {"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpNode", "metadata": {"name": node}, "spec": {"groups": list(groups)}}
    generation: int = api.apply(body)["metadata"]["generation"]
    return generation


def wait_status(api: KubeClient, node: str, predicate: Callable[[Json], Any], what: str, timeout_s: float = LONG_S) -> Json:
    """Until the status of a CarpNode is so; the status."""
    status: Json = api.wait(CARP_NODE, node, lambda one: predicate(one["status"]), what, timeout_s=timeout_s)["status"]
    return status


def wait_running(api: KubeClient, node: str, generation: int) -> Json:
    return wait_status(api, node, lambda status: status["observedGeneration"] == generation, f"runs generation {generation}")


def wait_state(api: KubeClient, node: str, state: str, timeout_s: float = LONG_S) -> Json:
    """Until the first group is in a state there, as the API server knows."""
    return wait_status(api, node, lambda status: status["groups"][0]["state"] == state, f"is {state}", timeout_s)


def status_of(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


def test_from_the_object_to_the_wire_and_back(pair: Cluster, member: KubeMember) -> None:
    api, sidecar = pair.api, member.sidecar
    generation = program(api, "a", entry())
    status = wait_running(api, "a", generation)
    status = wait_state(api, "a", "Master")
    assert member.host.held_addresses(VIP4) == [VIP4]
    wait_status(api, "a", lambda one: one["groups"][0]["addresses"] == [{"address": f"{VIP4}/32", "held": True}], "holds the address")
    (group,) = status["groups"]
    assert (group["version"], group["interface"], group["interfaceState"], group["master"]) == (
        "v1",
        "eth0",
        "Up",
        {"source": "10.77.0.1", "local": True},
    )
    assert status["interfaces"] == [{"name": "eth0", "state": "Up", "addresses": ["10.77.0.1/24", "fd77::1/64"]}]
    assert "problems" not in status
    found = member.config_file.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, AGENT, AGENT)
    assert member.config()["group"][0]["authentication"] == {"mode": "Strict", "key": KEY}
    assert (status_of(member.agent_pid, "Uid"), status_of(member.agent_pid, "CapEff")) == ("\t".join([str(AGENT)] * 4), "0" * 16)
    assert sidecar.capabilities() == 1 << 12 | 1 << 13, "NET_ADMIN and NET_RAW"
    assert KEY not in member.agent_log()


@pytest.mark.timing
def test_memory_of_a_node(pair: Cluster, member: KubeMember, record_property: Callable[[str, object], None]) -> None:
    wait_running(pair.api, "a", program(pair.api, "a", entry()))
    wait_state(pair.api, "a", "Master")
    wait_until(lambda: "serving /metrics" in member.sidecar.log(), 10, "everything is loaded")
    resident = {pid: int(status_of(pid, "VmRSS").split()[0]) for pid in member.host.namespace.processes()}
    record_property("agent_rss_kb", resident[member.agent_pid])
    record_property("node_rss_kb", sum(resident.values()))
    assert len(resident) == 3, "agent, sidecar and its guardian"
    assert resident[member.agent_pid] <= MEMORY_LIMIT_KB
    assert sum(resident.values()) <= NODE_MEMORY_LIMIT_KB


def sidecar_runs(member: KubeMember, generation: int) -> bool:
    return bool(member.sidecar.status()["config"]["generation"] == generation)


def is_since_another_time(past: str, status: Json) -> bool:
    return bool(status["groups"][0]["since"] != past)


@pytest.mark.timing
def test_latency_both_ways(pair: Cluster, member: KubeMember, record_property: Callable[[str, object], None]) -> None:
    api = pair.api
    wait_running(api, "a", program(api, "a", entry()))
    wait_state(api, "a", "Master")
    down, up = [], []
    for number in range(ROUNDS):
        began = time.time()
        generation = program(api, "a", entry(demotion=number + 1))
        wait_until(partial(sidecar_runs, member, generation), 10, "the sidecar runs it", every_s=0.001)
        down.append(time.time() - began)
        wait_running(api, "a", generation)
        time.sleep(3.1)  # the limit of reports is for storms: a change now and then is told at once
        since = member.sidecar.group()["since"]
        member.sidecar.request("demote", group="web", exclude=True)
        told = wait_status(api, "a", partial(is_since_another_time, since), "has another state")
        up.append(time.time() - (read_time(told["groups"][0]["since"]) or 0.0))
        member.sidecar.request("undemote", group="web")
        wait_state(api, "a", "Master")
        time.sleep(3.1)
    record_property("object_to_sidecar_s", sorted(down)[ROUNDS // 2])
    record_property("transition_to_object_s", sorted(up)[ROUNDS // 2])
    assert sorted(down)[ROUNDS // 2] < LATENCY_S * NOISE
    assert sorted(up)[ROUNDS // 2] < LATENCY_S * NOISE


@pytest.mark.timing
def test_idle_costs_nothing_and_writes_nothing(pair: Cluster, member: KubeMember, record_property: Callable[[str, object], None]) -> None:
    wait_running(pair.api, "a", program(pair.api, "a", entry()))
    wait_state(pair.api, "a", "Master")
    time.sleep(2.0)
    before = pair.api.get(CARP_NODE, "a")["metadata"]["resourceVersion"]
    began, used = time.monotonic(), member.agent_cpu_s()
    time.sleep(15.0)
    share = (member.agent_cpu_s() - used) / (time.monotonic() - began)
    record_property("idle_cpu_share", share)
    assert share <= IDLE_CPU_LIMIT
    assert pair.api.get(CARP_NODE, "a")["metadata"]["resourceVersion"] == before


def test_a_missing_secret_is_told_and_waited_for(pair: Cluster, member: KubeMember) -> None:
    api = pair.api
    first = program(api, "a", entry())
    wait_running(api, "a", first)
    second = program(api, "a", entry(), entry("uplink", 2, addresses=["10.77.0.101"]))
    status = wait_status(api, "a", lambda one: one["problems"], "has a problem")
    assert f"Secret kubecarp-key-uplink does not exist in namespace {NAMESPACE}" in status["problems"][0]
    assert status["observedGeneration"] == first
    assert [one["name"] for one in member.config()["group"]] == ["web"]
    make_ring(api, "uplink", key_1="22" * 32)
    status = wait_running(api, "a", second)
    assert "problems" not in status
    wait_status(api, "a", lambda one: {group["state"] for group in one["groups"]} == {"Master"}, "is master of both")


def test_a_refused_configuration_leaves_what_runs(pair: Cluster, member: KubeMember) -> None:
    api = pair.api
    first = program(api, "a", entry())
    wait_state(api, "a", "Master")
    program(api, "a", entry(advertisementInterval="1ms"))
    status = wait_status(api, "a", lambda one: one["problems"], "has a problem")
    assert "0.001s is outside 10ms to 60s" in status["problems"][0]
    assert (status["observedGeneration"], status["groups"][0]["state"]) == (first, "Master")
    assert member.config()["generation"] == first, "a sidecar that starts now must find what is good"
    third = program(api, "a", entry(advertisementInterval="100ms"))
    assert "problems" not in wait_running(api, "a", third)


def masters(pair: Cluster) -> None:
    """a is master of web, b its backup, and the API server knows."""
    program(pair.api, "a", entry())
    wait_state(pair.api, "a", "Master")
    program(pair.api, "b", entry(advskew=50))
    wait_status(pair.api, "b", lambda one: one["groups"][0]["master"]["source"] == "10.77.0.1", "hears the master")


@pytest.mark.parametrize("outage", ["stopped", "hung"])
def test_a_master_dies_while_the_api_is_away(pair: Cluster, control_plane: ControlPlane, outage: str) -> None:
    masters(pair)
    outages = pair["b"].agent_log().count("the API server cannot be used")
    control_plane.stop_api() if outage == "stopped" else control_plane.freeze_api()
    pair.lab.kill(pair["a"].host)
    pair["b"].sidecar.wait_state("MASTER", 5)
    since = pair["b"].sidecar.group()["since"]
    time.sleep(2.0)
    if outage == "stopped":  # looked at now: a server that starts may answer, refuse, and answer
        found = pair["b"].agent_log().count("the API server cannot be used")
        assert found == outages + 1, "one line for an outage and not one for each try"
    control_plane.start_api() if outage == "stopped" else control_plane.thaw_api()
    back = time.monotonic()
    status = wait_state(pair.api, "b", "Master", RECOVERY_S * 2)
    assert time.monotonic() - back < RECOVERY_S
    told, happened = read_time(status["groups"][0]["since"]), read_time(since)
    assert told is not None
    assert happened is not None
    assert abs(told - happened) < 0.01
    if outage == "stopped":
        wait_until(lambda: "the API server answers again" in pair["b"].agent_log(), 5, "the end of the outage is logged")


def test_an_agent_that_is_killed_and_started_disturbs_nobody(pair: Cluster, member: KubeMember) -> None:
    masters(pair)
    before = pair.api.get(CARP_NODE, "a")
    member.kill_agent()
    member.start_agent()
    wait_until(lambda: member.agent_log().count("the sidecar answers") == 2, 15, "the new agent follows the sidecar")
    generation = program(pair.api, "a", entry(version="v2", suspicion=False))
    status = wait_running(pair.api, "a", generation)
    assert status["groups"][0]["since"] == before["status"]["groups"][0]["since"]
    assert status["groups"][0]["version"] == "v2"
    member.kill_agent()
    version = pair.api.get(CARP_NODE, "a")["metadata"]["resourceVersion"]
    loaded = member.sidecar.status()["config"]["loaded"]
    member.start_agent()
    wait_until(lambda: member.agent_log().count("the sidecar answers") == 3, 15, "the new agent follows the sidecar")
    time.sleep(1.0)
    assert pair.api.get(CARP_NODE, "a")["metadata"]["resourceVersion"] == version, "nothing changed, so nothing is written"
    assert member.sidecar.status()["config"]["loaded"] == loaded, "nor read again"
    assert member.sidecar.group()["transitions"] == status["groups"][0]["transitions"]


def test_both_start_without_an_api(pair: Cluster, member: KubeMember, control_plane: ControlPlane) -> None:
    masters(pair)
    control_plane.stop_api()
    member.kill_agent()
    member.sidecar.stop()
    pair["b"].sidecar.wait_state("MASTER")
    member.sidecar.start()
    member.start_agent()
    member.sidecar.wait_for(lambda one: one["state"] == "BACKUP" and one["master"], "runs from the file")
    control_plane.start_api()
    wait_state(pair.api, "a", "Backup", RECOVERY_S * 2)


def test_tokens_are_rotated(pair: Cluster, member: KubeMember, control_plane: ControlPlane) -> None:
    wait_running(pair.api, "a", program(pair.api, "a", entry()))
    pair.api.delete("v1/Pod", "node-a", NAMESPACE)  # with it the token that the agent has used goes
    control_plane.add_pod("node-a", NAMESPACE, "a", "kubecarp-node")
    member.renew_token()
    wait_running(pair.api, "a", program(pair.api, "a", entry(demotion=1)))
    make_ring(pair.api, "uplink", key_1="22" * 32)
    wait_running(pair.api, "a", program(pair.api, "a", entry(), entry("uplink", 2, addresses=["10.77.0.101"])))


def test_a_handover_is_carried_out_once(pair: Cluster, member: KubeMember) -> None:
    masters(pair)
    request = {"id": "a1", "to": "10.77.0.2", "requestedAt": write_time(time.time())}
    program(pair.api, "a", entry(handover=request))
    wait_state(pair.api, "b", "Master")
    status = wait_status(pair.api, "a", lambda one: one["groups"][0]["handover"]["id"] == "a1", "has handed over")
    assert status["groups"][0]["handover"] == {"id": "a1", "result": "Started"}
    member.kill_agent()
    member.start_agent()
    program(pair.api, "a", entry(handover=request, demotion=1))
    program(pair.api, "b", entry(advskew=50, handover=request | {"id": "b2", "to": "10.77.0.9"}))
    status = wait_status(pair.api, "b", lambda one: one["groups"][0]["handover"], "has answered")
    assert status["groups"][0]["handover"]["result"] == "Refused"
    assert "knows no member 10.77.0.9" in status["groups"][0]["handover"]["message"]
    assert pair.api.get(CARP_NODE, "b")["status"]["groups"][0]["state"] == "Master"


def test_a_deleted_object_takes_the_addresses_along(pair: Cluster, member: KubeMember, control_plane: ControlPlane) -> None:
    member.kill_agent()
    member.start_agent("--gone-after", "2")
    wait_running(pair.api, "a", program(pair.api, "a", entry()))
    wait_state(pair.api, "a", "Master")
    pair.api.delete(CARP_NODE, "a")
    wait_running(pair.api, "a", program(pair.api, "a", entry()))
    assert member.sidecar.group()["transitions"] == 2, "a CarpNode that is put back at once: nothing has happened"
    told = member.agent_log().count("the CarpNode is gone")  # it may have heard of the first end as well
    pair.api.delete(CARP_NODE, "a")
    wait_until(lambda: member.agent_log().count("the CarpNode is gone") > told, 10, "the agent has heard it")
    control_plane.stop_api()
    wait_until(lambda: not member.sidecar.status()["groups"], 10, "no group runs")
    assert not member.host.held_addresses(VIP4)
    assert member.config()["group"] == []


def test_the_end_of_a_pod_is_told(pair: Cluster, member: KubeMember) -> None:
    masters(pair)
    member.sidecar.signal(signal.SIGTERM)
    assert member.stop_agent() == 0
    member.sidecar.reap()
    status = pair.api.get(CARP_NODE, "a")["status"]
    assert status["sidecar"] == {"running": False}
    assert status["groups"][0]["state"] == "Init"
    wait_state(pair.api, "b", "Master")
    began = time.monotonic()
    assert pair["b"].stop_agent() == 0
    assert time.monotonic() - began < 10
    assert pair.api.get(CARP_NODE, "b")["status"]["sidecar"]["running"], "only the agent ended"


def test_probes_and_metrics(pair: Cluster, member: KubeMember) -> None:
    wait_running(pair.api, "a", program(pair.api, "a", entry()))

    def page(path: str) -> str:
        code = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:9121{path}', timeout=5).read().decode())"
        return member.host.namespace.run("/usr/bin/env", "python3", "-c", code)

    assert page("/healthz").strip() == page("/readyz").strip() == "ok"
    name = 'carp_agent_configurations_total{{result="{}"}}'
    attempts = {result: figure(page("/metrics"), name.format(result)) for result in ("ok", "failed", "refused")}
    assert attempts["ok"] in (1, 2), "the second if the CarpNode came before the sidecar's first word"
    assert attempts["failed"] == attempts["refused"] == 0


def test_secrets_of_others_stay_out_of_reach(pair: Cluster, control_plane: ControlPlane, member: KubeMember) -> None:
    """A CarpNode cannot make the agent read, or tell, anything but a ring in its own namespace."""
    program(pair.api, "a", entry(authentication={"mode": "Strict", "secretName": "../../kube-system/secrets/x", "sign": "key-1"}))
    status = wait_status(pair.api, "a", lambda one: one["problems"], "has a problem")
    assert status["problems"] == ["group 'web' names no Secret"]
    assert json.dumps(pair.api.list(SECRET, NAMESPACE)).count(KEY) == 0
