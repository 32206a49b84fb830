"""A configuration written and read again is the same one; so is a document spelled as Kubernetes does and back."""

import json
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_protocol.config import (
    SHORTEST_GATED_S,
    Authentication,
    Dialect,
    Exec,
    Fence,
    GroupConfig,
    HealthCheck,
    HttpGet,
    Mode,
    PeerMode,
    Peers,
    Preemption,
    SidecarConfig,
    TcpSocket,
)
from carp_protocol.config_reader import read_document
from carp_protocol.config_writer import camel, group_to_document, key_texts, snake, to_document
from carp_protocol.fields import format_duration_s, parse_duration_s

names = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
seconds = st.integers(0, 10_000_000).map(lambda milliseconds: milliseconds / 1000) | st.floats(0, 1e9)
waits = st.floats(0.01, 1e6)
ports = st.integers(1, 65535)
actions = st.one_of(
    st.builds(
        HttpGet,
        port=ports,
        host=texts,
        path=st.from_regex(r"/[!-~]{0,20}", fullmatch=True),
        scheme=st.sampled_from(["HTTP", "HTTPS"]),
        headers=st.lists(st.tuples(st.from_regex(r"[!-~]{1,10}", fullmatch=True), st.from_regex(r"[ -~]{0,10}", fullmatch=True))).map(
            tuple
        ),
    ),
    st.builds(TcpSocket, port=ports, host=texts),
    st.builds(Exec, command=st.lists(texts, min_size=1, max_size=3).map(tuple)),
)
checks = st.lists(
    st.builds(
        HealthCheck,
        name=names,
        action=actions,
        period_s=waits,
        timeout_s=waits,
        initial_delay_s=seconds,
        success_threshold=st.integers(1, 1000),
        failure_threshold=st.integers(1, 1000),
        demotion=st.none() | st.integers(1, 254),
    ),
    max_size=2,
    unique_by=lambda check: check.name,
).map(tuple)
strict_keys = st.binary(min_size=32, max_size=32)
passwords = st.from_regex(r"[!-~äß]{1,9}", fullmatch=True).map(str.encode)
strict = st.builds(Authentication, key=strict_keys, accept=st.lists(strict_keys, max_size=2).map(tuple))
compatible = st.builds(
    Authentication,
    mode=st.just(Mode.COMPATIBLE),
    key=passwords,
    accept=st.lists(passwords, max_size=2).map(tuple),
    dialect=st.sampled_from(Dialect),
)
interfaces: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"interface": st.from_regex(r"[^\s/\0]{1,15}", fullmatch=True)}),
    st.fixed_dictionaries({"interface_pattern": st.sampled_from(["^en", r"^(eth|ens)\d+$", "0"])}),
)
peers = st.just(Peers()) | st.builds(
    Peers,
    mode=st.just(PeerMode.UNICAST),
    addresses=st.lists(st.ip_addresses().filter(lambda one: not one.is_multicast).map(str), min_size=1).map(tuple),
)


def addresses_of(vhid: int) -> st.SearchStrategy[IPv4Interface | IPv6Interface]:
    """Addresses that no other group has."""
    four = st.builds(lambda low, prefix: IPv4Interface((10 << 24 | vhid << 16 | low, prefix)), st.integers(0, 65535), st.integers(0, 32))
    six = st.builds(
        lambda low, prefix: IPv6Interface((0xFD << 120 | vhid << 64 | low, prefix)), st.integers(0, 2**64 - 1), st.integers(0, 128)
    )
    return four | six


@st.composite
def groups(draw: st.DrawFn, vhid: int) -> GroupConfig:
    authentication = draw(strict | compatible)
    interval = st.floats(0.01, 60) | st.integers(10, 60_000).map(lambda milliseconds: milliseconds / 1000)
    interval_s = draw(interval if authentication.mode is Mode.STRICT else st.integers(1, 254).map(float))
    return GroupConfig(
        name=f"{draw(names)[:60]}{vhid:02d}",
        vhid=vhid,
        addresses=tuple(draw(st.lists(addresses_of(vhid), min_size=1, max_size=3, unique_by=lambda one: one.ip))),
        advskew=draw(st.integers(0, 255)),
        advertisement_interval_s=interval_s,
        authentication=authentication,
        virtual_mac=draw(st.booleans()),
        preemption=draw(st.builds(Preemption, enabled=st.booleans(), delay_s=seconds)),
        peers=draw(peers),
        health_checks=draw(checks),
        suspicion=draw(st.booleans()),
        demotion=draw(st.integers(0, 254)),
        hook=tuple(draw(st.lists(texts, max_size=2))),
        fence=draw(st.sampled_from(Fence if interval_s >= SHORTEST_GATED_S else [Fence.AUTO, Fence.LIFETIME])),
        **draw(interfaces),
    )


configurations = st.builds(
    SidecarConfig,
    groups=st.integers(0, 3).flatmap(lambda count: st.tuples(*map(groups, range(1, count + 1)))),
    node=texts,
    generation=st.integers(0, 2**32 - 1),
    state_dir=texts,
    control_socket=texts,
    metrics_address=st.sampled_from(["", "127.0.0.1:9120", "[::1]:1", "0.0.0.0:9120"]),
    probe_port=st.integers(0, 65535),
    log_format=st.sampled_from(["auto", "text", "json"]),
    log_level=st.sampled_from(["debug", "info", "warning", "error"]),
)


def no_files(path: str) -> bytes:
    raise ValueError(f"{path} is not asked for")


@given(configurations)
def test_what_is_written_is_read_as_the_same(config: SidecarConfig) -> None:
    document = json.loads(json.dumps(to_document(config, key_texts)))
    assert read_document(document, load_key=no_files) == config


@given(configurations)
def test_the_spelling_of_kubernetes_and_back(config: SidecarConfig) -> None:
    document = to_document(config, key_texts)
    assert snake(camel(document)) == document
    assert "_" not in "".join(keys_of(camel(document)))


def keys_of(document: Any) -> list[str]:
    """Every key at any depth."""
    if isinstance(document, dict):
        return [*document, *(key for value in document.values() for key in keys_of(value))]
    return [key for item in document for key in keys_of(item)] if isinstance(document, list) else []


def make_group(**fields: Any) -> GroupConfig:
    return GroupConfig(name="intranet", vhid=1, addresses=(ip_interface("172.27.27.13/27"),), **fields)


def test_a_group_without_surprises_is_short() -> None:
    assert group_to_document(make_group(authentication=Authentication(key=b"k" * 32))) == {
        "name": "intranet",
        "vhid": 1,
        "addresses": ["172.27.27.13/27"],
        "advskew": 0,
        "advertisement_interval": "1s",
        "authentication": {"mode": "Strict"},
        "virtual_mac": True,
    }


def test_a_group_in_the_spelling_of_kubernetes() -> None:
    check = HealthCheck(name="web", action=HttpGet(port=80, headers=(("Host", "a_b"),)), timeout_s=0.5, demotion=None)
    group = make_group(interface_pattern="^en", preemption=Preemption(enabled=True, delay_s=90.0), health_checks=(check,), suspicion=False)
    assert camel(group_to_document(group)) == {
        "name": "intranet",
        "vhid": 1,
        "addresses": ["172.27.27.13/27"],
        "interfacePattern": "^en",
        "advskew": 0,
        "advertisementInterval": "1s",
        "authentication": {"mode": "Strict"},
        "virtualMAC": True,
        "preemption": {"enabled": True, "delay": "1m30s"},
        "healthChecks": [
            {
                "name": "web",
                "timeout": "500ms",
                "httpGet": {"port": 80, "headers": [{"name": "Host", "value": "a_b"}]},
                "demotion": "Exclude",
            }
        ],
        "suspicion": False,
    }


def test_keys_are_written_as_the_caller_wants() -> None:
    authentication = Authentication(key=b"k" * 32, accept=(b"l" * 32,))
    config = SidecarConfig(groups=(make_group(authentication=authentication),))
    assert "6b" * 32 not in json.dumps(to_document(config, lambda _: {}))
    assert to_document(config, lambda group: {"key_file": f"/keys/{group.name}"})["group"][0]["authentication"] == {
        "mode": "Strict",
        "key_file": "/keys/intranet",
    }
    assert key_texts(config.groups[0]) == {"key": "6b" * 32, "accept_keys": ["6c" * 32]}


def test_a_password_that_is_no_text_is_a_sentence() -> None:
    group = make_group(authentication=Authentication(mode=Mode.COMPATIBLE, key=b"\xff"))
    with pytest.raises(ValueError, match="group intranet: the password is not UTF-8 text"):
        key_texts(group)


@pytest.mark.parametrize(
    "text", ["0s", "1ms", "9ms", "12.5ms", "200ms", "999ms", "1s", "1.5s", "10.25s", "1m", "1m30s", "1h", "1h30s", "27h46m40s"]
)
def test_durations_keep_their_text(text: str) -> None:
    assert format_duration_s(parse_duration_s(text)) == text


@given(st.floats(0, allow_infinity=False, allow_nan=False))
def test_durations_are_exact(value: float) -> None:
    assert parse_duration_s(format_duration_s(value)) == value


@given(st.integers(0, 10**9))
def test_milliseconds_are_exact(value: int) -> None:
    assert parse_duration_s(f"{value}ms") == value / 1000
