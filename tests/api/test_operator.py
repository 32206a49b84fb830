"""The operator against a real API server, with stub agents on three nodes: what it writes, what it refuses, what it tells."""

import pytest

from lab.control_plane import ControlPlane
from lab.groups import CARP_NODE, GROUP, NODES, SECRET, entries, ready, wait_condition
from lab.kube_client import Json, KubeClient
from lab.manifests import REFUSED_LATER, RefusedLater, carp_group, condition
from lab.namespace import wait_until
from lab.objects import secret
from lab.operator_process import NAMESPACE, Operator
from lab.stub_agents import StubAgents

pytestmark = pytest.mark.needs("netns", "kubernetes")


def test_a_group_reaches_its_nodes_and_its_status_names_the_master(agents: StubAgents, api: KubeClient) -> None:
    group = ready(api)
    programmed = entries(api, "web")
    assert sorted(programmed) == ["a", "b", "c"]
    assert sorted(entry["advskew"] for entry in programmed.values()) == [0, 16, 32]
    best = min(programmed, key=lambda name: programmed[name]["advskew"])
    status = group["status"]
    assert status["master"]["node"] == best
    assert status["next"] == next(name for name, entry in programmed.items() if entry["advskew"] == 16)
    assert status["summary"] == {"addresses": "10.77.0.100", "members": "3/3"}
    assert (status["vhid"], status["interval"], status["transitions"], status["readyCount"]) == (1, "200ms", 1, 3)
    assert [member["node"] for member in status["members"]] == sorted(programmed, key=lambda name: programmed[name]["advskew"])
    wait_condition(api, "web", "Degraded", "False", "Healthy")
    wait_condition(api, "web", "SplitBrain", "False", "OneMaster")


def test_a_key_is_made_and_never_shown(agents: StubAgents, api: KubeClient, operator: Operator) -> None:
    ready(api)
    ring = api.get(SECRET, "kubecarp-key-web", NAMESPACE)
    assert ring["type"] == "kubecarp.io/key-ring"
    assert sorted(ring["data"]) == ["key-1", "sign"]
    assert ring["metadata"]["ownerReferences"][0]["kind"] == "CarpGroup"
    entry = entries(api, "web")["a"]["authentication"]
    assert entry == {"mode": "Strict", "secretName": "kubecarp-key-web", "sign": "key-1"}
    assert ring["data"]["key-1"] not in operator.log()


def test_nothing_is_added_to_what_the_user_wrote(agents: StubAgents, api: KubeClient) -> None:
    group = ready(api)
    assert "finalizers" not in group["metadata"]
    assert "annotations" not in group["metadata"]


@pytest.mark.parametrize("case", REFUSED_LATER, ids=lambda case: case.title)
def test_what_only_a_look_at_other_objects_shows_is_refused_with_a_sentence(
    agents: StubAgents, api: KubeClient, case: RefusedLater
) -> None:
    for name, spec in case.others.items():
        api.create(carp_group(name) | {"spec": spec})
        wait_condition(api, name, "Accepted", "True")
    for name, data in case.secrets.items():
        api.create(secret(name, NAMESPACE, data))
    api.create(carp_group() | {"spec": case.spec})
    refusal = wait_condition(api, "web", "Accepted", "False", case.reason)
    assert refusal["message"].startswith(case.message)
    assert entries(api, "web") == {}
    assert condition(api.get(GROUP, "web"), "Ready")["status"] == "False"


def test_a_refused_change_leaves_what_runs_running(agents: StubAgents, api: KubeClient) -> None:
    ready(api, "first", "10.77.0.101")
    ready(api, "web", "10.77.0.100")
    before = entries(api, "web")
    api.patch(GROUP, "web", {"spec": {"addresses": ["10.77.0.100", "10.77.0.101"]}})
    refusal = wait_condition(api, "web", "Accepted", "False", "AddressConflict")
    assert refusal["message"].endswith("; the version before goes on running")
    assert entries(api, "web") == before
    assert api.get(GROUP, "web")["status"]["addresses"] == ["10.77.0.100"]
    assert condition(api.get(GROUP, "web"), "Ready")["status"] == "True"
    api.patch(GROUP, "web", {"spec": {"addresses": ["10.77.0.100", "10.77.0.102"]}})
    wait_condition(api, "web", "Programmed", "True")
    assert entries(api, "web")["a"]["addresses"] == ["10.77.0.100", "10.77.0.102"]


def test_what_a_deleted_group_had_is_free_for_the_one_that_waited(agents: StubAgents, api: KubeClient) -> None:
    ready(api, "first", vhid=7)
    api.create(carp_group("web", "10.77.0.100", vhid=7))
    wait_condition(api, "web", "Accepted", "False")
    api.delete(GROUP, "first")
    wait_condition(api, "web", "Ready", "True")
    assert api.get(GROUP, "web")["status"]["vhid"] == 7


def test_a_deleted_group_leaves_nothing(agents: StubAgents, api: KubeClient) -> None:
    ready(api)
    api.delete(GROUP, "web")
    wait_until(lambda: not entries(api, "web"), 10, "the entries are gone")
    api.wait_gone(SECRET, "kubecarp-key-web", NAMESPACE)


def test_a_group_that_was_deleted_while_no_operator_ran_leaves_nothing(agents: StubAgents, api: KubeClient, operator: Operator) -> None:
    ready(api)
    operator.stop()
    api.delete(GROUP, "web")
    api.wait_gone(GROUP, "web")
    operator.start()
    wait_until(lambda: not entries(api, "web"), 10, "the entries are gone")


@pytest.mark.timeout(300)
def test_255_groups_fit_on_a_network_and_the_next_is_told_why_not(agents: StubAgents, api: KubeClient) -> None:
    for number in range(256):
        api.create(carp_group(f"g{number}", f"fd77::1:{number + 1:x}"))

    def by_readiness(status: str) -> list[Json]:
        return [
            group
            for group in api.list(GROUP)
            if any(one["type"] == "Ready" and one["status"] == status for one in group.get("status", {}).get("conditions", ()))
        ]

    wait_until(lambda: len(by_readiness("True")) == 255, 150, "255 groups are ready", 0.5)
    (refused,) = [group for group in by_readiness("False") if condition(group, "Accepted")["status"] == "False"]
    refusal = wait_condition(api, refused["metadata"]["name"], "Accepted", "False", "VhidsExhausted")
    assert refusal["message"].startswith("every VHID from 1 to 255 is taken on 10.77.0.0/24, fd77::/64; put further addresses into")
    ready_groups = by_readiness("True")
    assert {group["status"]["vhid"] for group in ready_groups} == set(range(1, 256))
    masters = [group["status"]["master"]["node"] for group in ready_groups]
    assert all(60 <= masters.count(node) <= 110 for node in NODES), "masters are spread over the nodes"
    api.delete(GROUP, ready_groups[0]["metadata"]["name"])
    wait_condition(api, refused["metadata"]["name"], "Ready", "True")


def test_one_changed_group_writes_its_members_only(agents: StubAgents, api: KubeClient, operator: Operator) -> None:
    ready(api, "here", "10.77.0.101", members=1, nodeSelector={"matchLabels": {"zone": "a"}})
    ready(api, "there", "10.77.0.102", members=1, nodeSelector={"matchLabels": {"zone": "b"}})
    untouched = {name: api.get(CARP_NODE, name)["metadata"]["resourceVersion"] for name in ("b", "c")}
    api.patch(GROUP, "here", {"spec": {"advertisementInterval": "200ms"}})
    wait_condition(api, "here", "Programmed", "True")
    assert entries(api, "here")["a"]["advertisementInterval"] == "200ms"
    assert {name: api.get(CARP_NODE, name)["metadata"]["resourceVersion"] for name in ("b", "c")} == untouched


def test_when_nothing_changes_nothing_is_written(agents: StubAgents, api: KubeClient, operator: Operator) -> None:
    ready(api)
    wait_condition(api, "web", "Degraded", "False")
    settled = operator.settle()
    api.annotate("v1/Node", "a", {"example.com/heartbeat": "1"})
    api.annotate(GROUP, "web", {"example.com/note": "hello"})
    assert operator.settle() == settled


def test_a_hand_that_changes_a_carp_node_is_overruled(agents: StubAgents, api: KubeClient) -> None:
    ready(api)
    before = api.get(CARP_NODE, "a")["spec"]
    api.patch(CARP_NODE, "a", {"spec": {"groups": []}})
    api.wait(CARP_NODE, "a", lambda node: node["spec"] == before, "is as it was")
    api.delete(CARP_NODE, "b")
    api.wait(CARP_NODE, "b", lambda node: node["spec"]["groups"], "is back")


def test_nodes_come_and_go(agents: StubAgents, api: KubeClient, control_plane: ControlPlane) -> None:
    ready(api)
    control_plane.add_node("d", "10.77.0.4")
    api.wait(GROUP, "web", lambda group: group["status"]["summary"]["members"] == "4/4", "has four members")
    api.delete("v1/Node", "d")
    api.wait(GROUP, "web", lambda group: group["status"]["summary"]["members"] == "3/3", "has three members")
    api.wait_gone(CARP_NODE, "d")
    control_plane.set_ready("c", None)
    api.wait(GROUP, "web", lambda group: group["status"]["summary"]["members"] == "2/3", "has a member that is not ready")
    assert "c" in entries(api, "web"), "a node that is not ready stays a member"


def test_labels_decide_who_is_a_member(agents: StubAgents, api: KubeClient) -> None:
    ready(api, members=2, nodeSelector={"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]})
    assert sorted(entries(api, "web")) == ["a", "b"]
    api.patch("v1/Node", "b", {"metadata": {"labels": {"zone": "x"}}})
    wait_until(lambda: sorted(entries(api, "web")) == ["a"], 10, "b is no member any more")
    wait_condition(api, "web", "Degraded", "True", "NoBackup")


def test_named_priorities_are_taken_as_they_are(agents: StubAgents, api: KubeClient) -> None:
    ready(api, priorities=[{"node": "b", "priority": 255}, {"node": "c", "priority": 0}])
    assert {name: entry["advskew"] for name, entry in entries(api, "web").items()} == {"b": 0, "a": 16, "c": 255}
    member = next(one for one in api.get(GROUP, "web")["status"]["members"] if one["node"] == "c")
    assert (member["ready"], member["message"]) == (False, "priority 0: it never becomes master")


def test_maintenance_and_a_cordoned_node_are_demoted(agents: StubAgents, api: KubeClient) -> None:
    ready(api)
    ready(api, "kept", "10.77.0.101", onCordon="Keep")
    api.annotate("v1/Node", "a", {"kubecarp.io/maintenance": "true"})
    wait_until(lambda: entries(api, "web")["a"].get("demotion") == 200, 10, "a is in maintenance")
    api.patch("v1/Node", "b", {"spec": {"unschedulable": True}})
    wait_until(lambda: entries(api, "web")["b"].get("demotion") == 100, 10, "b is demoted")
    assert "demotion" not in entries(api, "kept")["b"]
    api.annotate("v1/Node", "a", {"kubecarp.io/maintenance": None})
    wait_until(lambda: "demotion" not in entries(api, "web")["a"], 10, "a is back")


def test_unicast_members_know_each_other(agents: StubAgents, api: KubeClient) -> None:
    ready(api, peers={"mode": "Unicast"})
    assert {name: entry["peers"]["addresses"] for name, entry in entries(api, "web").items()} == {
        "a": ["10.77.0.2", "10.77.0.3"],
        "b": ["10.77.0.1", "10.77.0.3"],
        "c": ["10.77.0.1", "10.77.0.2"],
    }


def test_a_vhid_range_is_kept(agents: StubAgents, api: KubeClient, operator: Operator) -> None:
    operator.stop()
    operator.start("--vhid-range", "128-130")
    try:
        for number in range(3):
            ready(api, f"g{number}", f"10.77.0.{101 + number}")
        assert sorted(group["status"]["vhid"] for group in api.list(GROUP)) == [128, 129, 130]
        api.create(carp_group("last", "10.77.0.120"))
        wait_condition(api, "last", "Accepted", "False", "VhidsExhausted")
    finally:
        operator.stop()
        operator.start()
