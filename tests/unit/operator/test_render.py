"""Entries of CarpNodes: what a sidecar reads, what tells two of them apart, and what stays when a change is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_operator.api.group import CarpGroup
from carp_operator.api.node_schema import node_crd
from carp_operator.api.reasons import Reason
from carp_operator.plan.render import demotion_of, entries_for, refresh_entry, refuse_invalid, source_address, with_handover
from carp_operator.plan.world import KeyRing, Member, Refusal
from carp_protocol.config import GroupConfig
from carp_protocol.config_reader import read_document
from carp_protocol.spelling import snake
from lab.admission import admit
from lab.pieces import group, interface, node

ENTRY = node_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["groups"]["items"]
RING = KeyRing(sign="key-1", keys={"key-1": b"1" * 64}, owner="uid-web")
NODES = {name: node(name, f"10.77.0.{number}", f"fd77::{number}") for number, name in enumerate("abc", 1)}
ETH0 = {name: interface("eth0", f"10.77.0.{number}/24", f"fd77::{number}/64") for number, name in enumerate("abc", 1)}
MEMBERS = {name: Member(node=name, advskew=16 * number, interface=ETH0[name]) for number, name in enumerate("abc")}

FULL: dict[str, Any] = {
    "advertisementInterval": "200ms",
    "preemption": {"enabled": True, "delay": "1m30s"},
    "virtualMAC": False,
    "suspicion": False,
    "healthChecks": [
        {
            "name": "web",
            "httpGet": {"port": 80, "host": "h", "path": "/x", "scheme": "HTTPS", "httpHeaders": [{"name": "A", "value": "b"}]},
        },
        {
            "name": "db",
            "tcpSocket": {"port": 80},
            "onFailure": "Exclude",
            "periodSeconds": 3600,
            "timeoutSeconds": 3600,
            "initialDelaySeconds": 1,
        },
        {"name": "x", "exec": {"command": ["/bin/true"]}, "demotion": 1, "successThreshold": 2, "failureThreshold": 1000},
    ],
}
GROUPS = {
    "addresses alone": group("web"),
    "everything": group("web", "10.77.0.100/24", "FD77::9", interface={"name": "eth0"}, peers={"mode": "Unicast"}, **FULL),
    "a pattern": group("web", interface={"pattern": "^en"}),
    "Compatible": group("web", authentication={"mode": "Compatible", "dialect": "OpenBSD"}, suspicion=True),
    "delays that are no whole number of anything": group(
        "web", advertisementInterval="33.333333333ms", preemption={"delay": "0.7h0.7m0.7ms"}
    ),
}


def entries(one: CarpGroup, ring: KeyRing = RING, members: dict[str, Member] = MEMBERS, **more: Any) -> dict[str, dict[str, Any]]:
    return entries_for(one, 7, members, ring, NODES, **more)


def as_read(entry: dict[str, Any], mode: str) -> GroupConfig:
    """What the sidecar makes of an entry, with the translation of the agent."""
    document = {key: value for key, value in snake(entry).items() if key not in {"version", "handover"}}
    told = {"mode": mode, "key": "1" * 64 if mode == "Strict" else "secret"}
    document["authentication"] = told | ({"dialect": entry["authentication"]["dialect"]} if "dialect" in entry["authentication"] else {})
    return read_document({"group": [document]}, load_key=lambda _path: b"").groups[0]


@pytest.mark.parametrize("title", GROUPS)
def test_an_entry_is_stored_and_read_as_the_group_was_written(title: str) -> None:
    one = GROUPS[title]
    for name, entry in entries(one).items():
        assert admit(ENTRY, entry) == json.loads(json.dumps(entry)) == entry, "what is written comes back as it was"
        read = as_read(entry, one.mode.value)
        assert (read.name, read.vhid, read.addresses, read.advskew) == ("web", 7, one.addresses, MEMBERS[name].advskew)
        assert (read.interface, read.interface_pattern, read.advertisement_interval_s) == (
            one.interface,
            one.interface_pattern,
            one.interval_s,
        )
        assert (read.virtual_mac, read.preemption, read.health_checks) == (one.virtual_mac, one.preemption, one.health_checks)
        assert read.suspicion is (one.suspicion if one.suspicion is not None else one.mode.value == "Strict")
        assert (read.authentication.dialect, read.peers.mode) == (one.dialect, one.peer_mode)


@given(st.from_regex(r"\A([0-9]{1,4}(\.[0-9]{1,4})?(ms|s|m|h)){1,2}\Z").filter(lambda text: len(text) <= 16))
def test_every_delay_that_the_schema_takes_fits_into_an_entry(delay: str) -> None:
    entry = entries(group("web", preemption={"enabled": True, "delay": delay}))["a"]
    admit(ENTRY, entry)
    assert as_read(entry, "Strict").preemption == group("web", preemption={"enabled": True, "delay": delay}).preemption


def test_keys_are_named_never_written() -> None:
    ring = KeyRing(sign="key-2", keys={"key-1": b"1" * 64, "key-2": b"2" * 64, "key-10": b"3" * 64})
    assert entries(group("web"), ring)["a"]["authentication"] == {
        "mode": "Strict",
        "secretName": "kubecarp-key-web",
        "sign": "key-2",
        "accept": ["key-1", "key-10"],
    }
    assert "accept" not in entries(group("web"))["a"]["authentication"]


def test_members_find_each_other_by_the_addresses_they_send_from() -> None:
    one = group("web", peers={"mode": "Unicast"})
    assert {name: entry["peers"] for name, entry in entries(one).items()} == {
        "a": {"mode": "Unicast", "addresses": ["10.77.0.2", "10.77.0.3"]},
        "b": {"mode": "Unicast", "addresses": ["10.77.0.1", "10.77.0.3"]},
        "c": {"mode": "Unicast", "addresses": ["10.77.0.1", "10.77.0.2"]},
    }
    assert all("peers" not in entry for entry in entries(group("web")).values())


def test_a_lone_member_has_nobody_to_send_to() -> None:
    """The sidecar refuses Unicast without peers, and with it everything else that the node should run."""
    alone = entries(group("web", peers={"mode": "Unicast"}), members={"a": MEMBERS["a"]})
    assert "peers" not in alone["a"]
    as_read(alone["a"], "Strict")


def test_nobody_forgets_a_peer_that_tells_no_address_just_now() -> None:
    one = group("web", "fd77::100", peers={"mode": "Unicast"})
    before = entries(one)
    silent = MEMBERS | {"b": Member(node="b", advskew=16)}
    nodes = NODES | {"b": node("b", "10.77.0.2")}
    after = entries_for(one, 7, silent, RING, nodes, before)
    assert after["a"]["peers"]["addresses"] == ["fd77::2", "fd77::3"]
    assert after["c"]["peers"]["addresses"] == ["fd77::1", "fd77::2"]
    assert after["b"]["peers"]["addresses"] == ["fd77::1", "fd77::2", "fd77::3"]


def test_a_peer_that_left_is_forgotten() -> None:
    one = group("web", peers={"mode": "Unicast"})
    rest = {name: MEMBERS[name] for name in "ab"}
    assert entries(one, members=rest, before=entries(one))["a"]["peers"]["addresses"] == ["10.77.0.2"]


@pytest.mark.parametrize(
    "address, own, expected",
    [
        ("10.77.0.100", interface("eth0", "fd77::5/64", "10.77.0.5/24"), "10.77.0.5"),
        ("fd77::100", interface("eth0", "10.77.0.5/24", "fd77::5/64"), "fd77::5"),
        ("10.77.0.100", None, "10.77.0.1"),
        ("fd77::100", None, "fd77::1"),
        ("fd77::100", interface("eth0", "10.77.0.5/24"), "fd77::1"),
    ],
)
def test_the_address_a_member_sends_from(address: str, own: Any, expected: str) -> None:
    assert source_address(group("web", address), own, NODES["a"]) == expected
    assert source_address(group("web", address), None, None) == ""


def test_whatever_changes_changes_the_version_and_nothing_else_does() -> None:
    one = group("web")
    same = entries(one)["a"]["version"]
    assert same == entries(group("web"))["a"]["version"]
    others = {
        entries_for(one, 8, MEMBERS, RING, NODES)["a"]["version"],
        entries(group("web", "10.77.0.101"))["a"]["version"],
        entries(group("web", virtualMAC=False))["a"]["version"],
        entries(one, KeyRing(sign="key-2", keys={"key-2": b""}))["a"]["version"],
        entries(one, members={"a": Member(node="a", advskew=1)})["a"]["version"],
        entries(one, members={"a": Member(node="a", demotion=100)})["a"]["version"],
        entries(group("web", peers={"mode": "Unicast"}))["a"]["version"],
        entries(one)["b"]["version"],
        same,
    }
    assert len(others) == 9


@pytest.mark.parametrize("title", GROUPS)
def test_an_entry_that_carries_on_is_the_same_entry(title: str) -> None:
    for entry in entries(GROUPS[title]).values():
        stored = json.loads(json.dumps(entry, sort_keys=True))
        assert refresh_entry(stored, 0) == entry


def test_maintenance_reaches_an_entry_that_carries_on() -> None:
    entry = entries(group("web"))["a"]
    demoted = refresh_entry(entry, 200)
    assert demoted == entry | {"demotion": 200, "version": demoted["version"]}
    assert demoted["version"] != entry["version"]
    assert refresh_entry(demoted, 0) == entry
    in_maintenance = entries(group("web"), members={"a": Member(node="a", demotion=200)})["a"]
    assert demoted == in_maintenance, "the same whether the group is accepted or carries on"


def test_a_handover_is_not_another_version() -> None:
    one = group("web", annotations={"kubecarp.io/handover": '{"id": "x", "at": "2026-11-25T13:00:00+01:00"}'})
    assert one.handover is not None
    entry = entries(one)["a"]
    assert with_handover(entry, one.handover, "") == entry | {"handover": {"id": "x", "requestedAt": "2026-11-25T12:00:00Z"}}
    to = with_handover(entry, one.handover, "10.77.0.2")
    assert admit(ENTRY, to) == to == entry | {"handover": {"id": "x", "requestedAt": "2026-11-25T12:00:00Z", "to": "10.77.0.2"}}
    assert refresh_entry(to, 0) == entry


@pytest.mark.parametrize(
    "state, on_cordon, demotion",
    [
        ({}, "HandOver", 0),
        ({"cordoned": True}, "HandOver", 100),
        ({"cordoned": True}, "Keep", 0),
        ({"maintenance": True}, "Keep", 200),
        ({"maintenance": True, "cordoned": True}, "HandOver", 200),
        ({"ready": False}, "HandOver", 0),
    ],
)
def test_standing_demotions(state: dict[str, bool], on_cordon: str, demotion: int) -> None:
    assert demotion_of(group("web", onCordon=on_cordon), node("a", **state)) == demotion


def test_a_node_that_is_gone_is_not_demoted() -> None:
    assert demotion_of(group("web"), None) == 0


@pytest.mark.parametrize("title", GROUPS)
def test_what_a_sidecar_would_run_is_not_refused(title: str) -> None:
    if title != "delays that are no whole number of anything":
        assert refuse_invalid(GROUPS[title]) is None


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"advertisementInterval": "5ms"}, "advertisement_interval: 0.005s is outside 10ms to 60s, the range of Strict mode"),
        (
            {"interface": {"pattern": "(eth"}},
            (
                "interface_pattern: '(eth' is not a regular expression: missing ), unterminated subpattern at position 0; "
                "write for example ^en"
            ),
        ),
        (
            {"advertisementInterval": "1500ms", "authentication": {"mode": "Compatible"}},
            "advertisement_interval: 1.5s: Compatible mode knows whole seconds from 1s to 254s only; use Strict mode for others",
        ),
    ],
)
def test_what_a_sidecar_would_refuse_is_refused_with_its_words(spec: dict[str, Any], message: str) -> None:
    assert refuse_invalid(group("web", **spec)) == Refusal(Reason.INVALID, message)


def test_one_address_in_two_notations_is_refused() -> None:
    refusal = refuse_invalid(group("web", "fd77::9", "fd77:0::9"))
    assert refusal == Refusal(Reason.INVALID, "addresses[1]: fd77::9 is listed twice; remove one")
