"""Reading a CarpGroup: every field, every default, and what slipped through the schema."""

import json
from ipaddress import ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_operator.api.errors import BadObject
from carp_operator.api.group import CarpGroup, GroupStatus, HandoverRequest, MasterRecord, format_time, parse_time, read_group
from carp_operator.api.selector import Selector
from carp_protocol.config import Dialect, Exec, HealthCheck, HttpGet, Mode, PeerMode, Preemption, TcpSocket
from lab.pieces import group

WHEN = "2026-11-25T12:00:00Z"


def handover(annotation: str) -> HandoverRequest | None:
    return group(annotations={"kubecarp.io/handover": annotation}).handover


def test_addresses_alone_make_a_group() -> None:
    body = {"metadata": {"name": "web", "uid": "1"}, "spec": {"addresses": ["10.0.0.1"]}}
    assert read_group(body) == CarpGroup(
        name="web", uid="1", generation=0, created="", addresses=(ip_interface("10.0.0.1"),), written=("10.0.0.1",)
    )


def test_every_field_is_read() -> None:
    found = group(
        "web",
        "10.0.0.1/24",
        "2001:DB8::1",
        vhid=7,
        interface={"name": "eth1"},
        nodeSelector={"matchLabels": {"zone": "a"}},
        advertisementInterval="200ms",
        priorities=[{"node": "a", "priority": 255}, {"node": "b", "priority": 0}],
        preemption={"enabled": True, "delay": "1m"},
        authentication={"mode": "Compatible", "dialect": "OpenBSD", "secretRef": {"name": "mine"}},
        virtualMAC=False,
        peers={"mode": "Unicast"},
        suspicion=False,
        onCordon="Keep",
        annotations={"kubecarp.io/rotate-key": "now", "kubecarp.io/handover": json.dumps({"id": "1", "to": "b", "at": WHEN})},
        status={"vhid": 7, "addresses": ["10.0.0.1/24", "2001:DB8::1"], "master": {"node": "a", "since": WHEN}, "transitions": 3},
    )
    assert found.written == ("10.0.0.1/24", "2001:DB8::1")
    assert found.hosts == {"10.0.0.1", "2001:db8::1"}
    assert (found.vhid, found.interface, found.interface_pattern, found.interval_s) == (7, "eth1", None, 0.2)
    assert found.node_selector == Selector.from_spec({"matchLabels": {"zone": "a"}})
    assert found.priorities == {"a": 255, "b": 0}
    assert found.preemption == Preemption(enabled=True, delay_s=60.0)
    assert (found.mode, found.dialect, found.secret) == (Mode.COMPATIBLE, Dialect.OPENBSD, "mine")
    assert (found.virtual_mac, found.peer_mode, found.suspicion, found.hand_over_on_cordon) == (False, PeerMode.UNICAST, False, False)
    assert found.rotate_key == "now"
    assert found.handover == HandoverRequest(id="1", to="b", at=1_795_608_000.0)
    assert found.status.vhid == 7
    assert found.status.addresses == {"10.0.0.1", "2001:db8::1"}
    assert (found.status.master, found.status.transitions) == (MasterRecord(node="a", since=WHEN), 3)
    assert group(interface={"pattern": "^en"}).interface_pattern == "^en"


CHECKS: list[tuple[dict[str, Any], HealthCheck]] = [
    ({"tcpSocket": {"port": 80}}, HealthCheck(name="web", action=TcpSocket(port=80))),
    ({"tcpSocket": {"port": 80, "host": "::1"}}, HealthCheck(name="web", action=TcpSocket(port=80, host="::1"))),
    ({"exec": {"command": ["/bin/true", "-v"]}}, HealthCheck(name="web", action=Exec(command=("/bin/true", "-v")))),
    ({"httpGet": {"port": 80}}, HealthCheck(name="web", action=HttpGet(port=80))),
    (
        {"httpGet": {"port": 8443, "host": "h", "path": "/x", "scheme": "HTTPS", "httpHeaders": [{"name": "A", "value": "b"}]}},
        HealthCheck(name="web", action=HttpGet(port=8443, host="h", path="/x", scheme="HTTPS", headers=(("A", "b"),))),
    ),
    (
        {
            "tcpSocket": {"port": 80},
            "periodSeconds": 5,
            "timeoutSeconds": 2,
            "initialDelaySeconds": 3,
            "successThreshold": 4,
            "failureThreshold": 6,
            "demotion": 7,
        },
        HealthCheck(
            name="web",
            action=TcpSocket(port=80),
            period_s=5.0,
            timeout_s=2.0,
            initial_delay_s=3.0,
            success_threshold=4,
            failure_threshold=6,
            demotion=7,
        ),
    ),
    ({"tcpSocket": {"port": 80}, "onFailure": "Exclude"}, HealthCheck(name="web", action=TcpSocket(port=80), demotion=None)),
]


@pytest.mark.parametrize("check, expected", CHECKS)
def test_health_checks(check: dict[str, Any], expected: HealthCheck) -> None:
    assert group(healthChecks=[{"name": "web"} | check]).health_checks == (expected,)


@pytest.mark.parametrize(
    "spec",
    [{}, {"addresses": ["10.0.0.300"]}, {"addresses": 7}, {"addresses": ["10.0.0.1"], "priorities": [{"node": "a"}]}, None, [], "spec"],
    ids=repr,
)
def test_what_slipped_through_names_the_group(spec: Any) -> None:
    with pytest.raises(BadObject, match="CarpGroup web cannot be read"):
        read_group({"metadata": {"name": "web"}, "spec": spec})


def test_a_body_without_metadata_is_refused() -> None:
    with pytest.raises(BadObject, match="CarpGroup without a name cannot be read: KeyError: 'name'"):
        read_group({"spec": {"addresses": ["10.0.0.1"]}})


def test_a_handover_is_read_whatever_notation_its_time_has() -> None:
    assert handover('{"id": "x", "at": "2026-11-25T13:00:00+01:00"}') == HandoverRequest(id="x", to="", at=1_795_608_000.0)
    long = handover(json.dumps({"id": "x" * 100, "to": None, "at": WHEN}))
    assert long is not None
    assert long.id == "x" * 63


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "[]",
        "7",
        "null",
        "{}",
        '{"id": "x"}',
        '{"id": "", "at": "2026-11-25T12:00:00Z"}',
        '{"id": "x", "at": "2026-11-25T12:00:00"}',
        '{"id": "x", "at": "yesterday"}',
        '{"id": "x", "at": 7}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_a_handover_that_cannot_be_read_is_none(text: str) -> None:
    assert handover(text) is None


@given(
    st.text()
    | st.recursive(
        st.none() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "to", "at"]), inner, max_size=3),
    ).map(json.dumps)
)
def test_no_annotation_stops_the_operator(text: str) -> None:
    assert isinstance(handover(text), HandoverRequest | None)


def test_a_status_that_is_not_there_is_an_empty_one() -> None:
    assert group().status == GroupStatus()
    assert group(status={"master": {}}).status.master is None


@pytest.mark.parametrize("text", ["", "now", "2026-11-25", "2026-11-25T12:00:00", "2026-13-25T12:00:00Z", None, 7])
def test_what_is_no_time(text: Any) -> None:
    assert parse_time(text) is None


def test_times_are_written_as_kubernetes_writes_them() -> None:
    assert parse_time(WHEN) == 1_795_608_000.0
    assert parse_time("2026-11-25T12:00:00.250Z") == 1_795_608_000.25
    assert format_time(1_795_608_000.9) == WHEN
