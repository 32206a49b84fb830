"""From a SidecarConfig back to the document that ``config_reader`` reads; ``camel`` gives that the spelling of Kubernetes.

What is default is left out, except what a reader wants to see of a group. No key gets into a document unless the caller puts it there.
"""

__all__ = ["WriteKeys", "camel", "group_to_document", "key_texts", "snake", "to_document"]

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from .config import (
    Authentication,
    Dialect,
    Exec,
    Fence,
    GroupConfig,
    HealthCheck,
    HttpGet,
    Mode,
    Peers,
    Preemption,
    SidecarConfig,
    TcpSocket,
)
from .fields import format_duration_s
from .spelling import camel, snake

WriteKeys = Callable[[GroupConfig], Mapping[str, Any]]
"""Gives the keys of a group as entries of its ``authentication``: ``key`` and ``accept_keys``, or ``key_file`` and ``accept_key_files``."""


def to_document(config: SidecarConfig, keys: WriteKeys) -> dict[str, Any]:
    """What ``read_document`` reads as ``config``; ``keys`` may be ``key_texts``."""
    document = _differing(config, SidecarConfig, "groups")
    if config.groups:
        document["group"] = [_with_keys(group, keys) for group in config.groups]
    return document


def key_texts(group: GroupConfig) -> dict[str, Any]:
    """The keys of a group in the document itself; ValueError if a password is no text."""
    authentication = group.authentication
    accepted = [_key_text(key, group) for key in authentication.accept]
    return {"key": _key_text(authentication.key, group)} | ({"accept_keys": accepted} if accepted else {})


def group_to_document(group: GroupConfig) -> dict[str, Any]:
    """One group without its keys."""
    document: dict[str, Any] = {"name": group.name, "vhid": group.vhid, "addresses": [str(address) for address in group.addresses]}
    for name in ("interface", "interface_pattern"):
        if (given := getattr(group, name)) is not None:
            document[name] = given
    document["advskew"] = group.advskew
    document["advertisement_interval"] = format_duration_s(group.advertisement_interval_s)
    document["authentication"] = _authentication(group.authentication)
    document["virtual_mac"] = group.virtual_mac
    if group.preemption != Preemption():
        document["preemption"] = {"enabled": group.preemption.enabled, "delay": format_duration_s(group.preemption.delay_s)}
    if group.peers != Peers():
        document["peers"] = {"mode": group.peers.mode.value, "addresses": list(group.peers.addresses)}
    if group.health_checks:
        document["health_checks"] = [_health_check(check) for check in group.health_checks]
    if group.suspicion is not (group.authentication.mode is Mode.STRICT):
        document["suspicion"] = group.suspicion
    if group.demotion:
        document["demotion"] = group.demotion
    if group.fence is not Fence.AUTO:
        document["fence"] = group.fence.value
    if group.hook:
        document["hook"] = list(group.hook)
    return document


def _differing(thing: Any, kind: type, *left_out: str) -> dict[str, Any]:
    """The fields that are not at their default; seconds as durations, under the names of a document."""
    document: dict[str, Any] = {}
    for field in fields(kind):
        value = getattr(thing, field.name)
        if field.name in left_out or (field.default is not MISSING and value == field.default):
            continue
        if field.name.endswith("_s"):
            document[field.name.removesuffix("_s")] = format_duration_s(value)
        else:
            document[field.name] = value
    return document


def _with_keys(group: GroupConfig, keys: WriteKeys) -> dict[str, Any]:
    document = group_to_document(group)
    return document | {"authentication": document["authentication"] | keys(group)}


def _key_text(key: bytes, group: GroupConfig) -> str:
    if group.authentication.mode is Mode.STRICT:
        return key.hex()
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"group {group.name}: the password is not UTF-8 text; hand it over in a key file") from error


def _authentication(authentication: Authentication) -> dict[str, Any]:
    document: dict[str, Any] = {"mode": authentication.mode.value}
    if authentication.dialect is not Dialect.COMMON:
        document["dialect"] = authentication.dialect.value
    return document


def _health_check(check: HealthCheck) -> dict[str, Any]:
    document = _differing(check, HealthCheck, "action", "demotion")
    match check.action:
        case HttpGet():
            action = _differing(check.action, HttpGet, "headers")
            if check.action.headers:
                action["headers"] = [{"name": name, "value": value} for name, value in check.action.headers]
            document["http_get"] = action
        case TcpSocket():
            document["tcp_socket"] = _differing(check.action, TcpSocket)
        case Exec():
            document["exec"] = {"command": list(check.action.command)}
    if check.demotion != HealthCheck.demotion:
        document["demotion"] = "Exclude" if check.demotion is None else check.demotion
    return document
