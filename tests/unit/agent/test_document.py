"""From a CarpNode to the sidecar's file: what the reader of that file makes of it is what was meant."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_agent.carpnode import CarpNode
from carp_agent.document import Settings, keys_named_untrusted, read_ring_untrusted, render_untrusted
from carp_agent.errors import BadNode
from carp_protocol import config_writer
from carp_protocol.config import Dialect, HttpGet, Mode
from carp_protocol.config_reader import read_document
from carp_protocol.spelling import camel, snake
from unit.agent.fake_api import group, key_ring

SETTINGS = Settings("router-003", metrics_address="127.0.0.1:9120", probe_port=9112)
RINGS = {"kubecarp-key-intranet": {"key-1": "11" * 32, "key-2": "22" * 32, "word": "swordfish"}}
NAMES = st.from_regex(r"[a-z]{1,6}(_[a-l][a-z]{1,5}){0,3}(_mac)?", fullmatch=True)
"""An acronym comes last, as in every name there is."""


def node(*groups: dict[str, Any]) -> CarpNode:
    return CarpNode("router-003", "uid-1", 7, {"groups": list(groups)}, {})


def rendered(*groups: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render_untrusted(node(*groups), RINGS, SETTINGS))
    return document


def test_everything_arrives_at_the_sidecar() -> None:
    check = {
        "name": "web",
        "httpGet": {"port": 80, "headers": [{"name": "X-Camel", "value": "itStays"}]},
        "initialDelay": "1s",
        "failureThreshold": 2,
        "demotion": "Exclude",
    }
    full = group(
        preemption={"enabled": True, "delay": "5s"},
        peers={"mode": "Unicast", "addresses": ["10.77.0.2"]},
        healthChecks=[check],
        suspicion=False,
        demotion=100,
        handover={"id": "a1", "requestedAt": "2026-01-01T00:00:00Z"},
    )
    full["authentication"] |= {"accept": ["key-2"]}
    config = read_document(rendered(full), load_key=lambda _path: b"")
    assert (config.node, config.generation, config.metrics_address, config.probe_port) == ("router-003", 7, "127.0.0.1:9120", 9112)
    assert config.log_format == "json"
    (one,) = config.groups
    assert (one.name, one.vhid, one.advskew, one.advertisement_interval_s, one.virtual_mac) == ("intranet", 1, 100, 0.2, True)
    assert (one.preemption.enabled, one.preemption.delay_s, one.peers.addresses) == (True, 5.0, ("10.77.0.2",))
    assert (one.suspicion, one.demotion, one.authentication.mode) == (False, 100, Mode.STRICT)
    assert (one.authentication.key, one.authentication.accept) == (b"\x11" * 32, (b"\x22" * 32,))
    (probe,) = one.health_checks
    assert probe.action == HttpGet(port=80, headers=(("X-Camel", "itStays"),))
    assert (probe.initial_delay_s, probe.failure_threshold, probe.demotion) == (1.0, 2, None)


def test_compatible() -> None:
    wanted = {"mode": "Compatible", "dialect": "OpenBSD", "secretName": "kubecarp-key-intranet", "sign": "word"}
    config = read_document(rendered(group(authentication=wanted, advertisementInterval="1s")), load_key=lambda _path: b"")
    authentication = config.groups[0].authentication
    assert (authentication.mode, authentication.dialect, authentication.key) == (Mode.COMPATIBLE, Dialect.OPENBSD, b"swordfish")


def test_without_a_node_nothing_runs() -> None:
    config = read_document(json.loads(render_untrusted(None, {}, SETTINGS)), load_key=lambda _path: b"")
    assert (config.groups, config.generation) == ((), 0)


def test_the_same_gives_the_same_bytes() -> None:
    shuffled = dict(reversed(list(group().items())))
    assert render_untrusted(node(group()), RINGS, SETTINGS) == render_untrusted(node(shuffled), RINGS, SETTINGS)


def test_a_socket_elsewhere_is_named() -> None:
    settings = Settings("a", metrics_address="", probe_port=0, control_socket="/x/control.sock")
    assert json.loads(render_untrusted(None, {}, settings))["control_socket"] == "/x/control.sock"


def test_keys_are_named_by_secret() -> None:
    other = group("uplink", authentication={"secretName": "kubecarp-key-intranet", "sign": "key-3", "accept": ["key-1"]})
    assert keys_named_untrusted(node(group(), other)) == {"kubecarp-key-intranet": {"key-1", "key-3"}}


@pytest.mark.parametrize(
    "authentication, words",
    [
        (None, "says nothing of its authentication"),
        ({}, "names no Secret"),
        ({"secretName": "../../configmaps/x", "sign": "key-1"}, "names no Secret"),
        ({"secretName": "A b", "sign": "key-1"}, "names no Secret"),
        ({"secretName": "x"}, "does not name its keys"),
        ({"secretName": "x", "sign": "key-1", "accept": "key-2"}, "does not name its keys"),
        ({"secretName": "x", "sign": "key-1", "accept": [7]}, "does not name its keys"),
    ],
)
def test_names_that_are_none(authentication: object, words: str) -> None:
    with pytest.raises(BadNode, match=words):
        keys_named_untrusted(node(group(authentication=authentication)))


def test_a_missing_key_is_a_sentence() -> None:
    with pytest.raises(BadNode, match="group 'intranet': Secret kubecarp-key-intranet has no key key-1"):
        render_untrusted(node(group()), {}, SETTINGS)


def test_too_deep() -> None:
    deep: Any = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(BadNode, match="too deeply"):
        render_untrusted(node(group(peers=deep)), RINGS, SETTINGS)


def test_a_ring() -> None:
    data = json.dumps({"data": key_ring(sign="key-1", key_1="abc")}).encode()
    assert read_ring_untrusted(data, "x") == {"sign": "key-1", "key-1": "abc"}


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"data":null}', b'{"data":{"k":7}}', b'{"data":{"k":"c2VjcmV0!"}}', b'{"data":{"k":"//8="}}', b"[" * 100_000],
)
def test_a_ring_that_cannot_be_read_is_not_told(data: bytes) -> None:
    with pytest.raises(BadNode, match="Secret x ") as refused:
        read_ring_untrusted(data, "x")
    assert "c2Vjcm" not in str(refused.value)
    assert refused.value.__cause__ is None


@given(
    st.recursive(st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
)
def test_spelling_there_and_back(document: object) -> None:
    assert snake(camel(document)) == document
    assert (camel(document), snake(camel(document))) == (config_writer.camel(document), config_writer.snake(camel(document)))


@pytest.mark.parametrize(
    "kubernetes, file",
    [("virtualMAC", "virtual_mac"), ("httpGet", "http_get"), ("interfacePattern", "interface_pattern"), ("vhid", "vhid")],
)
def test_spelling(kubernetes: str, file: str) -> None:
    assert (snake({kubernetes: 1}), camel({file: 1})) == ({file: 1}, {kubernetes: 1})
