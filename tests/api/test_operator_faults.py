"""The operator on its worst days: killed between any two writes, two at once, an API server that goes, nodes that contradict each other."""

import contextlib
import datetime as dt
import itertools
from collections.abc import Callable

import pytest

from lab.control_plane import ControlPlane
from lab.crashing_operator import EXIT_CODE, LAST_WORDS
from lab.groups import CARP_NODE, GROUP, NODES, SECRET, entries, ready, reasons_of_events, wait_condition
from lab.kube_client import KubeClient
from lab.manifests import carp_group, condition
from lab.namespace import LabError, wait_until
from lab.objects import secret
from lab.operator_process import CRASHING, NAMESPACE, Operator
from lab.stub_agents import StubAgents

pytestmark = pytest.mark.needs("netns", "kubernetes")


def ago(seconds: float) -> str:
    """A time as a sidecar writes it."""
    moment = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("where", ["", "+"], ids=["before the write", "after the write"])
def test_killed_at_every_write_of_a_new_group(
    agents: StubAgents, api: KubeClient, operator: Operator, another: Callable[[], Operator], where: str
) -> None:
    """It dies at its first write, the next one at its second..., until one survives: always one key, and the group runs."""
    operator.stop()
    api.create(carp_group())
    deaths = []
    for number in itertools.count(1):
        doomed = another()
        doomed.start("--no-leader-election", program=CRASHING, wait=False, environment={"KUBECARP_CRASH": f"{number}{where}"})
        wait_until(lambda: not doomed.running or _is_done(api, doomed), 60, "it dies, or it is done")  # noqa: B023  called at once
        if doomed.running:
            doomed.stop()
            break
        assert doomed.wait_end() == EXIT_CODE
        deaths += [line.removeprefix(LAST_WORDS) for line in doomed.log().splitlines() if line.startswith(LAST_WORDS)]
    assert "/secrets" in deaths[0], "the key is written before anybody needs it"
    assert any("/carpnodes/" in death for death in deaths[1:]), "and then what the nodes shall do"
    operator.start()
    wait_condition(api, "web", "Ready", "True")
    ring = api.get(SECRET, "kubecarp-key-web", NAMESPACE)
    assert sorted(ring["data"]) == ["key-1", "sign"]
    assert sorted(entries(api, "web")) == ["a", "b", "c"]
    assert reasons_of_events(api, "web").count("MasterElected") == 1
    assert api.get(GROUP, "web")["status"]["transitions"] == 1


def _is_done(api: KubeClient, doomed: Operator) -> bool:
    """The group is ready, and the operator rests: what makes it ready may be its last write, and may have been that of one before."""
    group = api.get(GROUP, "web")
    conditions = group.get("status", {}).get("conditions", ())
    if any(one["type"] == "Degraded" and one["status"] == "False" for one in conditions):
        with contextlib.suppress(LabError, OSError):  # it dies meanwhile, or does not listen yet
            doomed.wait_acting().settle()
            return True
    return False


def test_two_operators_take_turns(agents: StubAgents, api: KubeClient, operator: Operator, another: Callable[[], Operator]) -> None:
    api.wait("coordination.k8s.io/v1/Lease", "kubecarp-operator", lambda _: True, "is held, also after the reset", namespace=NAMESPACE)
    second = another().start(wait=False)
    wait_until(lambda: "waiting for its lease" in second.log(), 20, "the second one waits")
    ready(api, "first", "10.77.0.101")
    assert second.figures()["carp_operator_leader"] == 0
    operator.kill()
    api.create(carp_group("second", "10.77.0.102"))
    wait_condition(api, "second", "Ready", "True", timeout_s=40)
    assert second.figures()["carp_operator_leader"] == 1
    operator.start(wait=False)
    assert second.stop() == 0
    operator.wait_acting()
    ready(api, "third", "10.77.0.103")


def test_two_operators_that_both_act_come_to_the_same(
    agents: StubAgents, api: KubeClient, operator: Operator, another: Callable[[], Operator]
) -> None:
    second = another().start("--no-leader-election")
    for number in range(10):  # finding a free VHID is what the lease is for: two that do it at once may find the same
        api.create(carp_group(f"g{number}", f"10.77.0.{101 + number}", vhid=1 + number))
    for number in range(10):
        wait_condition(api, f"g{number}", "Ready", "True")
        assert reasons_of_events(api, f"g{number}").count("MasterElected") == 1
    assert operator.settle() == operator.settle(2.0)
    assert second.settle() == second.settle(2.0)
    assert second.stop() == 0


def test_an_api_server_that_is_away_for_longer_than_the_lease(
    agents: StubAgents, api: KubeClient, operator: Operator, control_plane: ControlPlane
) -> None:
    ready(api)
    control_plane.stop_api()
    wait_until(lambda: "lease could not be renewed" in operator.log(), 40, "the operator gives up its lease")
    operator.forget()
    control_plane.start_api()
    operator.wait_acting()
    ready(api, "later", "10.77.0.101")
    assert api.get(GROUP, "web")["status"]["transitions"] == 1


def test_a_key_is_rotated_in_three_steps(agents: StubAgents, api: KubeClient, operator: Operator) -> None:
    """A member that does not follow holds each step up; no member ever signs with what another does not believe."""
    ready(api)
    before = api.get(SECRET, "kubecarp-key-web", NAMESPACE)["data"]
    agents.down.add("c")
    api.annotate(GROUP, "web", {"kubecarp.io/rotate-key": "please"})
    wait_until(lambda: all(_keys(api, node) == ("key-1", ["key-2"]) for node in NODES), 10, "everybody believes both")
    wait_condition(api, "web", "Programmed", "False", "Pending")
    assert (
        "KeyRotation" in str(condition(api.get(GROUP, "web"), "Degraded"))
        or condition(api.get(GROUP, "web"), "Degraded")["status"] == "True"
    )
    agents.down.clear()
    agents.report("c")
    wait_until(lambda: all(_keys(api, node) == ("key-2", []) for node in NODES), 10, "the old key is gone")
    after = api.get(SECRET, "kubecarp-key-web", NAMESPACE)["data"]
    assert sorted(after) == ["key-2", "sign"]
    assert after["key-2"] not in before.values()
    api.annotate(GROUP, "web", {"kubecarp.io/rotate-key": "please"})
    assert operator.settle() == operator.settle()
    assert sorted(api.get(SECRET, "kubecarp-key-web", NAMESPACE)["data"]) == ["key-2", "sign"]


def _keys(api: KubeClient, node: str) -> tuple[str, list[str]]:
    authentication = entries(api, "web")[node]["authentication"]
    return authentication["sign"], authentication.get("accept", [])


def test_a_user_s_secret_is_followed(agents: StubAgents, api: KubeClient) -> None:
    api.create(carp_group(authentication={"secretRef": {"name": "mine"}}))
    wait_condition(api, "web", "Accepted", "False", "SecretNotFound")
    api.create(secret("mine", NAMESPACE, {"key": "9f" * 32}))
    wait_condition(api, "web", "Ready", "True")
    api.patch(SECRET, "mine", {"stringData": {"key": "7a" * 32}}, NAMESPACE)
    wait_until(lambda: _keys(api, "a") == ("key-2", []), 10, "the new key is used")
    api.delete(SECRET, "mine", NAMESPACE)
    refusal = wait_condition(api, "web", "Accepted", "False", "SecretNotFound")
    assert refusal["message"].endswith("; the version before goes on running")
    assert sorted(entries(api, "web")) == ["a", "b", "c"]


def test_a_ring_that_somebody_deleted_is_put_back(agents: StubAgents, api: KubeClient, operator: Operator) -> None:
    """The operator that knows the key puts it back; another one makes a new key, with a name that no agent takes for the old."""
    ready(api)
    before = api.get(SECRET, "kubecarp-key-web", NAMESPACE)["data"]
    api.delete(SECRET, "kubecarp-key-web", NAMESPACE)
    api.wait(SECRET, "kubecarp-key-web", lambda ring: ring["data"] == before, "is back", namespace=NAMESPACE)
    operator.stop()
    api.delete(SECRET, "kubecarp-key-web", NAMESPACE)
    operator.start()
    wait_until(lambda: all(_keys(api, node) == ("key-2", []) for node in NODES), 10, "a new key is used")


def test_a_master_that_died_with_its_node_is_forgotten_when_another_reports(
    agents: StubAgents, api: KubeClient, control_plane: ControlPlane
) -> None:
    group = ready(api)
    dead, successor = group["status"]["master"]["node"], group["status"]["next"]
    agents.down.add(dead)
    agents.masters["web"] = {successor: ago(0)}
    agents.report(successor)
    api.wait(GROUP, "web", lambda group: group["status"]["master"]["node"] == successor, "has another master")
    control_plane.set_ready(dead, None)
    api.wait(GROUP, "web", lambda group: group["status"]["summary"]["members"] == "2/3", "counts two members")
    assert condition(api.get(GROUP, "web"), "SplitBrain")["status"] == "False"
    assert reasons_of_events(api, "web").count("SplitBrain") == 0
    assert api.get(GROUP, "web")["status"]["transitions"] == 2


def test_two_living_masters_are_a_split_brain_until_one_gives_way(agents: StubAgents, api: KubeClient) -> None:
    ready(api)
    agents.masters["web"] = {"a": ago(100), "b": ago(5)}
    agents.report("a", "b", "c")
    told = wait_condition(api, "web", "SplitBrain", "True")
    assert told["message"] == (
        "a and b are masters and do not hear each other; look at the network between them: it must let IP protocol 112 through"
    )
    assert condition(api.get(GROUP, "web"), "Ready")["status"] == "False"
    agents.masters["web"] = {"b": ago(5)}
    agents.report("a")
    wait_condition(api, "web", "SplitBrain", "False")
    assert [reason for reason in reasons_of_events(api, "web") if reason.startswith("Split")] == ["SplitBrain", "SplitBrainHealed"]


def test_a_dead_agent_that_once_was_master_makes_no_split_brain(agents: StubAgents, api: KubeClient) -> None:
    """Its node is ready, its report says Master, and nobody is there to answer the roll call."""
    ready(api)
    agents.masters["web"] = {"a": ago(100)}
    agents.report("b", "c", "a")  # the one that was master first, so that at no time two say it
    api.wait(GROUP, "web", lambda group: group["status"]["master"]["node"] == "a", "has a as master")
    agents.down.add("a")
    agents.masters["web"] = {"b": ago(5)}
    agents.report("b")
    api.wait(GROUP, "web", lambda group: group["status"]["master"]["node"] == "b", "has another master")
    api.wait(CARP_NODE, "a", lambda node: node["spec"]["rollCall"] > 0, "is asked")
    assert condition(api.get(GROUP, "web"), "SplitBrain")["status"] == "False"


def test_a_handover_is_passed_to_the_master_once(agents: StubAgents, api: KubeClient) -> None:
    group = ready(api)
    master, successor = group["status"]["master"]["node"], group["status"]["next"]
    request = f'{{"id": "h1", "to": "{successor}", "at": "{ago(0)}"}}'
    api.annotate(GROUP, "web", {"kubecarp.io/handover": request})
    wait_until(lambda: "handover" in entries(api, "web")[master], 10, "the master is asked")
    asked = entries(api, "web")[master]["handover"]
    assert asked["id"] == "h1"
    assert asked["to"] == f"10.77.0.{NODES.index(successor) + 1}"
    assert not any("handover" in entry for node, entry in entries(api, "web").items() if node != master)
    agents.handled["web"] = {master: "h1"}
    agents.masters["web"] = {successor: ago(0)}
    agents.report(master, successor)
    wait_until(lambda: not any("handover" in entry for entry in entries(api, "web").values()), 10, "the request is over")


def test_an_old_handover_is_ignored(agents: StubAgents, api: KubeClient, operator: Operator) -> None:
    ready(api)
    api.annotate(GROUP, "web", {"kubecarp.io/handover": f'{{"id": "h1", "at": "{ago(600)}"}}'})
    operator.settle()
    assert not any("handover" in entry for entry in entries(api, "web").values())
