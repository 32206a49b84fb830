"""describe and drain --simulate: every fact of a group, and what would move where."""

import json
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from carp_operator.cli.detail import capture_command
from carp_operator.cli.seen import see_group
from carp_operator.plan.successor import successor
from carp_protocol.config import Dialect, Mode
from unit.operator.fake_cluster import NODES, FakeApi, carp_node, entry, event, group, lease, member, members, node, report, run


def described(*bodies: dict[str, Any]) -> str:
    code, out, err = run(FakeApi(*map(node, NODES), *bodies), "describe", "intranet")
    assert (code, err) == (0, "")
    return out


def test_describe_tells_every_fact() -> None:
    spec = {
        "authentication": {"mode": "Compatible", "dialect": "OpenBSD", "secretRef": {"name": "mine"}},
        "preemption": {"enabled": True},
        "peers": {"mode": "Unicast"},
        "onCordon": "Keep",
        "virtualMAC": False,
        "healthChecks": [{"name": "web"}, {"name": "db"}],
    }
    text = described(group("intranet", *members(), addresses=("10.0.0.5/24", "fd00::5/64"), spec=spec))
    for line in (
        "Group:         intranet (VHID 1)",
        "Addresses:     10.0.0.5/24\n               fd00::5/64",
        "Master:        node-a on eth0, for 1h (since 2026-03-01T11:00:00Z)",
        "Next:          node-b",
        "Mode:          Compatible, an advert every 1s, to each member (unicast)",
        "MAC:           physical",
        "Preemption:    a better member takes the addresses back",
        "On cordon:     stays on the node",
        "Checks:        web and db",
        "Key:           from your Secret mine",
        "Transitions:   3 changes of the master",
    ):
        assert f"{line}\n" in text


def test_describe_lists_members_with_their_reasons() -> None:
    text = described(
        group(
            "intranet", *members(node_b={"ready": False, "state": "Unknown", "reason": "NodeNotReady", "message": "the node is not ready"})
        ),
        node("node-c", maintenance=True, cordoned=True),
    )
    assert "Members, the best first (2 of 3 could have the addresses):" in text
    assert "  node-b   Unknown   1h    255        0          eth0        NodeNotReady; the node is not ready\n" in text
    assert "started; maintenance, cordoned\n" in text


def test_describe_says_that_more_members_are_there_than_listed() -> None:
    assert "\n  and 97 more\n" in described(group("intranet", *members(), memberCount=100))


def test_describe_tells_conditions_and_events_in_order() -> None:
    events = [event("intranet", f"Reason{age}", "told", age_s=age) for age in range(60, 660, 60)]
    text = described(group("intranet", *members(), conditions={"Degraded": ("True", "NoBackup", "nobody")}), *events)
    assert "  Degraded     yes   1h    NoBackup: nobody\n" in text
    assert "What to look at:\n  NoBackup   nobody\n" in text
    assert "Events (the last 8 of 10):\n  8m ago   Reason480: told\n" in text
    assert text.index("Reason480") < text.index("Reason60:")


@pytest.mark.parametrize(
    "sign, accept, late, said",
    [
        ("key-1", ("key-2",), "v0", "made by the operator; is being replaced, step accept (1 of 3), waiting for node-a"),
        ("key-2", ("key-1",), "v1", "made by the operator; is being replaced, step send (2 of 3)"),
        ("key-2", (), "v0", "made by the operator; the newest order is not everywhere yet, waiting for node-a"),
        ("key-2", (), "v1", "made by the operator"),
    ],
)
def test_describe_knows_how_far_a_rotation_is(sign: str, accept: tuple[str, ...], late: str, said: str) -> None:
    one = carp_node("node-a", report("intranet", version=late), entries=(entry("intranet", sign=sign, accept=accept),))
    assert f"Key:           {said}\n" in described(group("intranet", *members()), one)


def test_describe_as_a_document() -> None:
    api = FakeApi(group("intranet", *members()), *map(node, NODES), event("intranet", "Handover", "it was requested", warning=True))
    document = json.loads(run(api, "describe", "intranet", "-o", "json")[1])
    assert document["events"] == [{"time": "2026-03-01T11:59:00Z", "type": "Warning", "reason": "Handover", "note": "it was requested"}]
    assert yaml.safe_load(run(api, "describe", "intranet", "-o", "yaml")[1]) == document


def test_describe_a_group_that_never_ran() -> None:
    body = group("intranet")
    del body["status"]
    text = described(body)
    assert "Master:        nobody has the addresses\n" in text
    assert "NotSeen" in text
    assert "tcpdump" not in text
    assert "Mode:          Strict, an advert every 200ms, multicast\n" in text
    document = json.loads(run(FakeApi(body), "describe", "intranet", "-o", "json")[1])
    assert "vhid" not in document, "what is not known is left out"
    assert document["interval"] == "200ms"


@pytest.mark.parametrize("addresses", [("10.0.0.5",), ("fd00::5",), ("10.0.0.5", "fd00::5")])
def test_tcpdump_understands_the_command(addresses: tuple[str, ...]) -> None:
    command = capture_command(see_group(group("intranet", *members(), addresses=addresses)))
    assert command is not None
    expression = command.partition("'")[2].rstrip("'")
    assert command.startswith("tcpdump -nvi eth0 -T carp")
    if shutil.which("tcpdump"):
        subprocess.run(["tcpdump", "-y", "EN10MB", "-d", expression], check=True, capture_output=True, timeout=20)


# ---- drain ----------------------------------------------------------------------------------------------------


def drained(*bodies: dict[str, Any], node_name: str = "node-a") -> tuple[int, dict[str, Any], str]:
    api = FakeApi(*map(node, NODES), *bodies)
    code, out, err = run(api, "drain", "--simulate", node_name, "-o", "json")
    assert err == ""
    return code, json.loads(out), run(api, "drain", node_name, "--simulate")[1]


def test_drain_moves_each_address_to_the_least_demoted_and_then_the_best() -> None:
    code, document, text = drained(
        group("one", *members(), addresses=("10.0.0.5", "fd00::5")),
        group("two", *members(node_b={"demotion": 128}), addresses=("10.0.0.6",)),
        group("three", *members("node-b"), addresses=("10.0.0.7",)),
    )
    assert (code, document["safe"]) == (0, True)
    assert [(move["address"], move["from"], move["to"]) for move in document["moves"]] == [
        ("10.0.0.5", "node-a", "node-b"),
        ("fd00::5", "node-a", "node-b"),
        ("10.0.0.6", "node-a", "node-c"),
    ]
    assert document["stays"] == [{"group": "three", "master": "node-b", "note": ""}]
    assert text.startswith("3 addresses would move, none would be lost\n")
    assert "10.0.0.6   two     node-a    ->   node-c   -\n" in text


def test_drain_shouts_when_nobody_could_take_over() -> None:
    code, document, text = drained(
        group("one", member("node-a", "Master"), member("node-b", ready=False, message="interface eth0 is down"))
    )
    assert (code, document["safe"]) == (1, False)
    assert document["moves"][0] == {
        "address": "10.0.0.5/24",
        "group": "one",
        "from": "node-a",
        "to": None,
        "note": "node-b: interface eth0 is down",
    }
    assert text.startswith("without node-a nobody would have 10.0.0.5/24\n")
    assert "node-a    ->   *** NO CANDIDATE ***   node-b: interface eth0 is down\n" in text


def test_drain_tells_what_moves_only_when_the_node_goes_down() -> None:
    demoted = {"demotion": 200}
    _, document, _ = drained(
        group("keeps", *members(), spec={"onCordon": "Keep"}),
        group("worse", *members(node_b=demoted, node_c=demoted), addresses=("10.0.0.6",)),
    )
    assert [move["note"] for move in document["moves"]] == [
        "when the node goes down: onCordon is Keep",
        "when the node goes down: node-b is demoted by 200",
    ]


def test_drain_tells_which_groups_lose_their_last_backup() -> None:
    _, document, text = drained(group("one", member("node-a"), member("node-b", "Master")), group("two", member("node-a")))
    assert [stay["note"] for stay in document["stays"]] == ["without a backup for node-b then", "nobody has it now"]
    assert text.startswith("node-a has no addresses: nothing would move\n")


def test_drain_knows_members_that_the_status_has_no_room_for() -> None:
    _, document, _ = drained(group("one", member("node-a", "Master"), memberCount=80, next="node-c"))
    assert document["moves"][0]["to"] == "node-c"


def test_drain_believes_the_nodes_when_the_operator_is_late_and_says_that_it_is() -> None:
    late = (carp_node("node-a", report("one", since=100)), carp_node("node-b", report("one", "Master", since=100)))
    api = FakeApi(*map(node, NODES), group("one", *members()), *late, lease(silent_s=240))
    code, out, err = run(api, "drain", "--simulate", "node-b", "-o", "json")
    assert code == 0
    assert [(move["from"], move["to"]) for move in json.loads(out)["moves"]] == [("node-b", "node-a")]
    assert err == "note: the operator has been silent for 4m: what is shown may be old. Failover does not need it\n"


def test_drain_refuses() -> None:
    api = FakeApi(*map(node, NODES), group("one", *members()))
    assert run(api, "drain", "--simulate", "node-x")[::2] == (1, "kubectl carp: there is no node node-x; did you mean node-c?\n")
    code, _, err = run(api, "drain", "node-a")
    assert code == 2
    assert "To drain the node use `kubectl drain node-a`" in err


def test_successor_goes_by_what_members_say_in_their_mode() -> None:
    waiting = {"demoted": (128, 0), "worse": (0, 200)}
    assert successor(waiting) == "worse"
    assert successor(waiting, Mode.COMPATIBLE, Dialect.OPENBSD) == "worse"
    assert successor(waiting, Mode.COMPATIBLE, Dialect.COMMON) == "demoted", "there demotion raises the advskew: 128 is better than 200"
    assert successor({}) == ""
