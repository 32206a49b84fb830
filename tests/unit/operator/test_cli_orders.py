"""handover, maintenance and rotate-key: what they refuse, what they write, what they wait for, and what they say when nothing happens."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from carp_operator.api.group import format_time, read_group
from unit.operator.fake_cluster import NODES, NOW, FakeApi, FakeClock, Refused, carp_node, entry, group, member, members, node, report, run

GROUP, CARP_NODE = "/apis/kubecarp.io/v1alpha1/carpgroups/intranet", "/apis/kubecarp.io/v1alpha1/carpnodes/node-a"


def cluster(*more: dict[str, Any]) -> FakeApi:
    return FakeApi(group("intranet", *members()), *map(node, NODES), *(carp_node(name) for name in NODES), *more)


# ---- handover -------------------------------------------------------------------------------------------------


def orders(api: FakeApi) -> list[dict[str, Any]]:
    """What the annotation held, one after the other."""
    values = [body["metadata"]["annotations"]["kubecarp.io/handover"] for _, body in api.written]
    return [json.loads(value) for value in values if value]


def carry_out(api: FakeApi, clock: FakeClock, master: str, after_s: float = 0.4) -> None:
    """An operator and agents that obey."""

    def obey(path: str, body: dict[str, Any]) -> None:
        if path == GROUP and "kubecarp.io/handover" in body["metadata"]["annotations"]:
            clock.after(after_s, lambda: api.put(group("intranet", *members(master))))

    api.changed = obey


def test_handover_orders_waits_and_tells() -> None:
    api, clock = cluster(), FakeClock()
    carry_out(api, clock, "node-b")
    assert run(api, "handover", "intranet", clock=clock) == (0, "intranet: node-b has 10.0.0.5/24 (was node-a), after 0.4 s\n", "")
    (order,) = orders(api)
    assert (order["to"], order["at"]) == ("", format_time(NOW))
    body = api.objects[GROUP] | {"metadata": {"name": "intranet", "annotations": {"kubecarp.io/handover": json.dumps(order)}}}
    request = read_group(body).handover
    assert request is not None, "the operator reads it"
    assert request.id == order["id"]


def test_handover_to_a_member() -> None:
    api, clock = cluster(), FakeClock()
    carry_out(api, clock, "node-c")
    assert run(api, "handover", "intranet", "--to", "node-c", clock=clock)[:2] == (
        0,
        "intranet: node-c has 10.0.0.5/24 (was node-a), after 0.4 s\n",
    )
    assert orders(api)[0]["to"] == "node-c"


def test_handover_to_another_member_than_was_asked_for_is_a_failure() -> None:
    api, clock = cluster(), FakeClock()
    carry_out(api, clock, "node-b")
    code, out, _ = run(api, "handover", "intranet", "--to", "node-c", clock=clock)
    assert code == 1
    assert out.endswith("; node-c was asked for\n")


def test_handover_to_the_master_is_done_already() -> None:
    api = cluster()
    assert run(api, "handover", "intranet", "--to", "node-a") == (0, "intranet: node-a has 10.0.0.5/24 already\n", "")
    assert not api.written


@pytest.mark.parametrize(
    "body, argv, sentence",
    [
        (group("intranet", *members()), ("intrant",), "there is no CarpGroup intrant; did you mean intranet?"),
        (group("intranet", *members("")), ("intranet",), "no node has its addresses, so there is nothing to hand over"),
        (group("intranet", member("node-a", "Master")), ("intranet",), "no other member could take over, it has none"),
        (
            group(
                "intranet",
                *members(node_b={"ready": False, "message": "interface eth0 is down"}, node_c={"ready": False, "reason": "Excluded"}),
            ),
            ("intranet",),
            "no other member could take over: node-b: interface eth0 is down and node-c: Excluded",
        ),
        (
            group("intranet", *members(), spec={"authentication": {"mode": "Compatible"}}),
            ("intranet", "--to", "node-b"),
            "in Compatible mode no member can be named: leave --to out, and the best of the others takes over",
        ),
        (group("intranet", *members()), ("intranet", "--to", "node-x"), "there is no member node-x; did you mean node-c?"),
        (
            group("intranet", *members(node_b={"ready": False, "message": "interface eth0 is down"})),
            ("intranet", "--to", "node-b"),
            "node-b could not take over: interface eth0 is down; choose node-c",
        ),
    ],
)
def test_handover_refuses_what_cannot_succeed(body: dict[str, Any], argv: tuple[str, ...], sentence: str) -> None:
    api = FakeApi(body)
    code, out, err = run(api, "handover", *argv)
    assert (code, out) == (1, "")
    assert sentence in err
    assert not api.written


def answered(**handover: str) -> Callable[[FakeApi], None]:
    """What the master's node says of the order."""

    def say(api: FakeApi) -> None:
        told = {"id": orders(api)[-1]["id"]} | handover
        api.put(carp_node("node-a", report("intranet", "Master", handover=told)))

    return say


def passed_on(api: FakeApi) -> None:
    api.put(carp_node("node-a", entries=(entry("intranet", handover={"id": orders(api)[-1]["id"]}),)))


@pytest.mark.parametrize(
    "happens, sentence",
    [
        (lambda _api: None, "the operator has not passed it on; does it run?"),
        (passed_on, "the agent on node-a has not answered; does its pod run?"),
        (answered(result="Started"), "node-a has said goodbye, and no other member reports that it has the addresses"),
    ],
)
def test_handover_says_where_it_is_stuck_and_withdraws(happens: Callable[[FakeApi], None], sentence: str) -> None:
    api, clock = cluster(), FakeClock()
    clock.after(1, lambda: happens(api))
    code, out, err = run(api, "handover", "intranet", "--timeout", "5s", clock=clock)
    assert (code, out) == (1, "")
    assert err == f"kubectl carp: intranet: nobody took over within 5 s, the request is withdrawn: {sentence}\n"
    assert api.objects[GROUP]["metadata"]["annotations"] == {}
    assert 5 <= clock.monotonic() < 6


def test_handover_that_the_node_refuses_ends_at_once() -> None:
    api, clock = cluster(), FakeClock()
    clock.after(1, lambda: answered(result="Refused", message="nobody else is heard")(api))
    assert run(api, "handover", "intranet", clock=clock)[::2] == (1, "kubectl carp: intranet: node-a refuses: nobody else is heard\n")
    assert clock.monotonic() < 2


def test_handover_without_waiting() -> None:
    api, clock = cluster(), FakeClock()
    assert (
        run(api, "handover", "intranet", "--no-wait", clock=clock)[1]
        == "intranet: node-a was asked to hand over to the best of the others\n"
    )
    assert clock.monotonic() == 0


def test_handover_from_a_machine_whose_clock_is_wrong_has_the_time_of_the_server() -> None:
    api, clock = cluster(), FakeClock()
    api.server_time = NOW + 300
    run(api, "handover", "intranet", "--no-wait", clock=clock)
    first, second = orders(api)
    assert (first["at"], second["at"]) == (format_time(NOW), format_time(NOW + 300))
    assert first["id"] == second["id"], "it is one order"


@pytest.mark.parametrize("duration", ["5", "soon", "-1s"])
def test_a_timeout_needs_a_unit(duration: str) -> None:
    code, _, err = run(cluster(), "handover", "intranet", "--timeout", duration)
    assert code == 2
    assert "write a number with its unit, such as 15s or 2m" in err


# ---- maintenance ----------------------------------------------------------------------------------------------

DEMOTED: dict[str, Any] = {"demotion": 200}


def test_maintenance_waits_until_the_node_is_free() -> None:
    api, clock = cluster(group("web", *members("node-b"), addresses=("10.0.0.6",))), FakeClock()
    clock.after(1, lambda: api.put(group("intranet", *members("node-b", node_a=DEMOTED))))
    clock.after(3, lambda: api.put(group("web", *members("node-b", node_a=DEMOTED), addresses=("10.0.0.6",))))
    code, out, err = run(api, "maintenance", "node-a", "on", clock=clock)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "node-a is in maintenance, until `kubectl carp maintenance node-a off`",
        "intranet: node-b has 10.0.0.5/24 (was node-a)",
        "node-a has no addresses",
    ]
    assert api.objects["/api/v1/nodes/node-a"]["metadata"]["annotations"] == {"kubecarp.io/maintenance": "true"}
    assert clock.monotonic() >= 3, "a member that is not demoted yet could still take over"


def test_maintenance_says_what_has_nowhere_to_go() -> None:
    lonely = members(node_a=DEMOTED, node_b={"ready": False, "message": "interface eth0 is down"}, node_c=DEMOTED)
    code, out, err = run(FakeApi(group("intranet", *lonely), *map(node, NODES)), "maintenance", "node-a", "on")
    assert (code, err) == (1, "")
    why = "node-b: interface eth0 is down and node-c: demoted by at least 200, such as by maintenance"
    assert out.splitlines()[1:] == [
        f"intranet: 10.0.0.5/24 stays on node-a: no other member could take over ({why})",
        "taking node-a down now takes intranet off the network",
    ]


def test_maintenance_that_nobody_carries_out() -> None:
    code, _, err = run(cluster(), "maintenance", "node-a", "on", "--timeout", "3s")
    assert code == 1
    assert err == "kubectl carp: node-a was not free within 3 s: waiting for intranet; does the operator run, and node-a's pod?\n"


def test_maintenance_without_waiting_and_twice() -> None:
    api = cluster()
    assert run(api, "maintenance", "node-a", "on", "--no-wait")[1].startswith("node-a is in maintenance")
    assert run(api, "maintenance", "node-a", "on", "--no-wait")[1].startswith("node-a is already in maintenance")


def test_maintenance_off_and_asking() -> None:
    api = cluster(node("node-a", maintenance=True))
    assert run(api, "maintenance", "node-a")[1] == "node-a is in maintenance\n"
    assert run(api, "maintenance")[1].splitlines() == ["NODE     STILL HAS", "node-a   intranet"]
    assert run(api, "maintenance", "node-a", "off")[1] == "node-a may have addresses again\n"
    assert run(api, "maintenance", "node-a", "off")[1] == "node-a is not in maintenance\n"
    assert run(api, "maintenance", "node-a")[1] == "node-a is not in maintenance\n"
    assert run(api, "maintenance")[1] == "no node is in maintenance\n"


def test_maintenance_of_a_node_that_is_not_there() -> None:
    assert run(cluster(), "maintenance", "node-x", "on")[2] == "kubectl carp: there is no node node-x; did you mean node-c?\n"


def test_maintenance_of_all_nodes_needs_to_list_them() -> None:
    api = cluster()
    api.forbidden = {"/api/v1/nodes"}
    assert run(api, "maintenance")[::2] == (1, "kubectl carp: you may not list Nodes; name one\n")


# ---- rotate-key -----------------------------------------------------------------------------------------------


def ring(version: str, sign: str, *accept: str, late: str = "", problem: str = "") -> list[dict[str, Any]]:
    """The CarpNodes of a group with such an order, which ``late`` does not run yet."""
    return [
        carp_node(
            name,
            report("intranet", version="before" if name == late else version),
            entries=(entry("intranet", version=version, sign=sign, accept=accept),),
            problems=(problem,) if problem and name == late else (),
        )
        for name in NODES
    ]


def rotating(api: FakeApi, clock: FakeClock, steps: list[tuple[float, list[dict[str, Any]]]]) -> None:
    for at, bodies in steps:
        clock.after(at, partial(api.put_all, bodies))


def test_rotate_key_shows_the_three_steps() -> None:
    api, clock = cluster(*ring("v1", "key-1")), FakeClock()
    steps = [
        (1.0, ring("v2", "key-1", "key-2", late="node-c")),
        (2.0, ring("v2", "key-1", "key-2")),
        (3.0, ring("v3", "key-2", "key-1", late="node-c")),
        (4.0, ring("v3", "key-2", "key-1")),
        (5.0, ring("v4", "key-2", late="node-a")),
        (6.0, ring("v4", "key-2")),
    ]
    rotating(api, clock, steps)
    code, out, err = run(api, "rotate-key", "intranet", clock=clock)
    assert (code, err) == (0, "")
    shown = out.splitlines()
    assert shown[0] == "intranet: a new key was ordered"
    assert [line.split("(")[0].strip() for line in shown[1:]] == [
        "accept   every member believes the new key",
        "send     every member signs with the new key",
        "drop     the old key is forgotten everywhere",
        "intranet: done",
    ]
    assert api.written[0][1]["metadata"]["annotations"]["kubecarp.io/rotate-key"]


def test_rotate_key_that_is_over_between_two_looks() -> None:
    api, clock = cluster(*ring("v1", "key-1")), FakeClock()
    rotating(api, clock, [(1.0, ring("v4", "key-2"))])
    assert [line.split()[0] for line in run(api, "rotate-key", "intranet", clock=clock)[1].splitlines()[1:4]] == ["accept", "send", "drop"]


@pytest.mark.parametrize(
    "bodies, sentence",
    [
        (ring("v1", "key-1"), "the operator has not begun; does it run?"),
        (
            ring("v2", "key-1", "key-2", late="node-c", problem="Secret kubecarp-key-intranet has no key-2"),
            "waiting for node-c (Secret kubecarp-key-intranet has no key-2)",
        ),
        (ring("v3", "key-2", "key-1", late="node-c"), "waiting for node-c"),
    ],
)
def test_rotate_key_says_who_holds_it_up(bodies: list[dict[str, Any]], sentence: str) -> None:
    api, clock = cluster(*ring("v1", "key-1")), FakeClock()
    rotating(api, clock, [(1.0, bodies)])
    code, _, err = run(api, "rotate-key", "intranet", "--timeout", "4s", clock=clock)
    assert code == 1
    assert f"not done within 4 s: {sentence}. It goes on by itself" in err


def test_rotate_key_follows_one_that_is_under_way() -> None:
    api, clock = cluster(*ring("v3", "key-2", "key-1")), FakeClock()
    rotating(api, clock, [(1.0, ring("v4", "key-2"))])
    code, out, _ = run(api, "rotate-key", "intranet", clock=clock)
    assert code == 0
    assert out.splitlines()[0] == "intranet: its key is being replaced already; no second one was ordered"
    assert not api.written


@pytest.mark.parametrize(
    "bodies, sentence",
    [
        (
            [group("intranet", *members(), spec={"authentication": {"secretRef": {"name": "mine"}}})],
            "its key comes from your Secret mine in the namespace kubecarp-system. Change it there: the operator rolls it out",
        ),
        ([group("intranet")], "no node runs it, so there is no key to replace"),
    ],
)
def test_rotate_key_refuses(bodies: list[dict[str, Any]], sentence: str) -> None:
    api = FakeApi(*bodies)
    code, out, err = run(api, "rotate-key", "intranet")
    assert (code, out) == (1, "")
    assert sentence in err
    assert not api.written


# ---- an API server that is away while somebody waits ----------------------------------------------------------


def away(api: FakeApi, clock: FakeClock, error: Refused, from_s: float, to_s: float) -> None:
    clock.after(from_s, lambda: setattr(api, "trouble", error))
    clock.after(to_s, lambda: setattr(api, "trouble", None))


@pytest.mark.parametrize(
    "error", [Refused(0, "the API server cannot be reached: reset", "Unreachable"), Refused(429, "later"), Refused(503, "")]
)
def test_an_order_is_followed_over_an_outage(error: Refused) -> None:
    """As when the address that moves is that of the API server."""
    api, clock = cluster(), FakeClock()
    carry_out(api, clock, "node-b")
    away(api, clock, error, 0.1, 3)
    assert run(api, "handover", "intranet", clock=clock)[::2] == (0, "")
    api, clock = cluster(), FakeClock()
    clock.after(1, lambda: api.put(group("intranet", *members("node-b", node_a=DEMOTED))))
    away(api, clock, error, 0.1, 3)
    code, out, err = run(api, "maintenance", "node-a", "on", clock=clock)
    assert (code, err) == (0, "")
    assert out.endswith("node-a has no addresses\n")
    api, clock = cluster(*ring("v1", "key-1")), FakeClock()
    rotating(api, clock, [(1.0, ring("v4", "key-2"))])
    away(api, clock, error, 0.1, 3)
    assert run(api, "rotate-key", "intranet", clock=clock)[::2] == (0, "")


def test_an_outage_that_lasts_is_told_when_the_time_is_over() -> None:
    api, clock = cluster(), FakeClock()
    away(api, clock, Refused(503, "etcd is away"), 0.1, 60)
    assert run(api, "maintenance", "node-a", "on", "--timeout", "5s", clock=clock)[::2] == (1, "kubectl carp: etcd is away\n")
    assert 5 <= clock.monotonic() < 6


def test_a_refusal_is_not_waited_for() -> None:
    api, clock = cluster(), FakeClock()
    away(api, clock, Refused(403, "you may not"), 0.1, 60)
    assert run(api, "maintenance", "node-a", "on", clock=clock)[::2] == (1, "kubectl carp: you may not\n")
    assert clock.monotonic() < 1
