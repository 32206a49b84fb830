"""From a parsed TOML or JSON document to a SidecarConfig, or to every problem in it, each with its place.

Knows the rules of single fields and those between fields and groups; reads no file itself: keys come through ``load_key``.
"""

__all__ = ["LoadKey", "read_document", "read_key"]

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any

from .auth import PASSWORD_LENGTH, STRICT_KEY_LENGTH
from .config import (
    DEFAULT_INTERVAL_S,
    SHORTEST_GATED_S,
    Authentication,
    Dialect,
    Fence,
    GroupConfig,
    Mode,
    PeerMode,
    Peers,
    Preemption,
    SidecarConfig,
)
from .config_probes import read_health_checks
from .errors import ConfigError
from .fields import Fields, Problems
from .patterns import pattern_problem

LoadKey = Callable[[str], bytes]
"""Gives the bytes of a key file; raises ValueError with a sentence that says what to do."""

_MAX_ADDRESSES = 32
_STRICT_INTERVAL_S = (0.01, 60.0)
_HOST_AND_PORT = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^][:\s]+):([0-9]{1,5})")
_INTERFACE_NAME = re.compile(r"[^\s/]{1,15}")


def read_document(document: Mapping[str, Any], *, load_key: LoadKey) -> SidecarConfig:
    """The configuration in ``document``; raises ConfigError with every problem, not only the first."""
    problems = Problems()
    top = Fields(document, "", problems)
    groups = tuple(
        group
        for index, table in enumerate(top.tables("group"))
        if (group := _read_group(Fields(table, f"group[{index}]", problems), load_key)) is not None
    )
    config = SidecarConfig(
        groups=groups,
        node=top.text("node", ""),
        generation=top.integer("generation", 0, 0, 2**32 - 1),
        state_dir=top.text("state_dir", SidecarConfig.state_dir),
        control_socket=top.text("control_socket", SidecarConfig.control_socket),
        metrics_address=top.text("metrics_address", SidecarConfig.metrics_address),
        probe_port=top.integer("probe_port", SidecarConfig.probe_port, 0, 65535),
        log_format=top.choice("log_format", "auto", ("auto", "text", "json")),
        log_level=top.choice("log_level", "info", ("debug", "info", "warning", "error")),
    )
    top.refuse_unknown()
    found = _HOST_AND_PORT.fullmatch(config.metrics_address)
    if config.metrics_address and (not found or int(found[1]) > 65_535):
        sentence = f"{config.metrics_address!r} is not HOST:PORT; write 127.0.0.1:9120, 0.0.0.0:9120 for every address, or nothing for none"
        problems.add("metrics_address", sentence)
    _check_across_groups(groups, problems)
    if problems.found:
        raise ConfigError(problems.found)
    return config


def _read_group(fields: Fields, load_key: LoadKey) -> GroupConfig | None:
    before = len(fields.problems.found)
    addresses = _read_addresses(fields)
    authentication = _read_authentication(fields.table("authentication"), load_key)
    group = GroupConfig(
        name=fields.name("name"),
        vhid=fields.integer("vhid", None, 1, 255),
        addresses=addresses,
        interface=_read_interface(fields),
        interface_pattern=_read_interface_pattern(fields),
        advskew=_read_advskew(fields),
        advertisement_interval_s=_read_interval_s(fields, authentication.mode),
        authentication=authentication,
        virtual_mac=fields.boolean("virtual_mac", default=True),
        preemption=_read_preemption(fields.table("preemption")),
        peers=_read_peers(fields.table("peers")),
        health_checks=read_health_checks(fields),
        suspicion=fields.boolean("suspicion", default=authentication.mode is Mode.STRICT),
        demotion=fields.integer("demotion", 0, 0, 254),
        hook=fields.texts("hook"),
        fence=Fence(fields.choice("fence", "Auto", [fence.value for fence in Fence])),
    )
    if group.fence is Fence.REQUIRED and not group.may_be_gated:
        shortest = f"{SHORTEST_GATED_S * 1000:g}ms"
        fields.problem("fence", f"Required needs an advertisement_interval of at least {shortest}; lengthen it, or write Auto")
    fields.refuse_unknown()
    return group if len(fields.problems.found) == before else None


def _read_addresses(fields: Fields) -> tuple[IPv4Interface | IPv6Interface, ...]:
    texts = fields.texts("addresses")
    if not 1 <= len(texts) <= _MAX_ADDRESSES:
        fields.problem("addresses", f'{len(texts)} addresses; a group has 1 to {_MAX_ADDRESSES}, such as ["192.0.2.10/24"]')
    found: list[IPv4Interface | IPv6Interface] = []
    for index, text in enumerate(texts):
        place = f"addresses[{index}]"
        try:
            address = ip_interface(text)
        except ValueError:
            fields.problem(place, f"{text!r} is not an IP address; write it as 192.0.2.10, 192.0.2.10/24 or 2001:db8::10/64")
            continue
        if address.ip.is_multicast or address.ip.is_unspecified or address.ip.is_loopback:
            fields.problem(place, f"{text} cannot be a virtual address: it is a multicast, loopback or unspecified one")
        elif address.ip in [other.ip for other in found]:
            fields.problem(place, f"{address.ip} is listed twice; remove one")
        else:
            found.append(address)
    return tuple(found)


def _read_interface(fields: Fields) -> str | None:
    name = fields.text("interface", "")
    if name and not _INTERFACE_NAME.fullmatch(name):
        fields.problem("interface", f"{name!r} cannot be the name of an interface: 1 to 15 characters without spaces and slashes")
    return name or None


def _read_interface_pattern(fields: Fields) -> str | None:
    if not fields.has("interface_pattern"):
        fields.ignore("interface_pattern")
        return None
    pattern = fields.text("interface_pattern", "")
    if (sentence := pattern_problem(pattern)) is not None:
        fields.problem("interface_pattern", sentence)
    if fields.has("interface"):
        fields.problem("interface_pattern", "interface is given too; keep one of them")
    return pattern


def _read_advskew(fields: Fields) -> int:
    if fields.has("advskew") and fields.has("priority"):
        fields.problem("priority", "advskew is given too; keep one of them (advskew = 255 - priority)")
    fields.ignore("advskew", "priority")
    if fields.has("priority"):
        return 255 - fields.integer("priority", 255, 0, 255)
    return fields.integer("advskew", 0, 0, 255)


def _read_interval_s(fields: Fields, mode: Mode) -> float:
    interval_s = fields.duration_s("advertisement_interval", DEFAULT_INTERVAL_S[mode])
    shortest, longest = _STRICT_INTERVAL_S
    if mode is Mode.STRICT and not shortest <= interval_s <= longest:
        fields.problem("advertisement_interval", f"{interval_s:g}s is outside 10ms to 60s, the range of Strict mode")
    if mode is Mode.COMPATIBLE and (interval_s != int(interval_s) or not 1 <= interval_s <= 254):
        fields.problem(
            "advertisement_interval",
            f"{interval_s:g}s: Compatible mode knows whole seconds from 1s to 254s only; use Strict mode for others",
        )
    return interval_s


def _read_preemption(fields: Fields) -> Preemption:
    preemption = Preemption(enabled=fields.boolean("enabled", default=False), delay_s=fields.duration_s("delay", 0.0))
    fields.refuse_unknown()
    return preemption


def _read_peers(fields: Fields) -> Peers:
    mode = PeerMode(fields.choice("mode", "Multicast", [mode.value for mode in PeerMode]))
    addresses = fields.texts("addresses")
    for index, text in enumerate(addresses):
        try:
            if ip_address(text.partition("%")[0]).is_multicast:
                fields.problem(f"addresses[{index}]", f"{text} is a multicast address; list the peers' own addresses")
        except ValueError:
            fields.problem(f"addresses[{index}]", f"{text!r} is not an IP address; list the peers' own addresses")
    if mode is PeerMode.UNICAST and not addresses:
        fields.problem("addresses", "mode is Unicast but no peer is listed; give the address of every other member")
    if mode is PeerMode.MULTICAST and addresses:
        fields.problem("addresses", 'peers are listed but mode is Multicast; set mode = "Unicast" or remove the addresses')
    fields.refuse_unknown()
    return Peers(mode=mode, addresses=addresses)


def _read_authentication(fields: Fields, load_key: LoadKey) -> Authentication:
    mode = Mode(fields.choice("mode", "Strict", [mode.value for mode in Mode]))
    dialect = Dialect(fields.choice("dialect", "Common", [dialect.value for dialect in Dialect]))
    if fields.has("dialect") and mode is Mode.STRICT:
        fields.problem("dialect", 'only Compatible mode has dialects; remove it or set mode = "Compatible"')
    key = b""
    if fields.has("key") == fields.has("key_file"):
        fields.problem("key_file", 'give exactly one of key_file and key; "carp-sidecar key > FILE" makes a Strict key')
        fields.ignore("key", "key_file")
    elif fields.has("key"):
        key = _checked_key(fields, "key", fields.text("key", "").encode(), mode)
    else:
        key = _loaded_key(fields, "key_file", fields.text("key_file", ""), mode, load_key)
    accept = [_checked_key(fields, f"accept_keys[{i}]", text.encode(), mode) for i, text in enumerate(fields.texts("accept_keys"))]
    accept += [
        _loaded_key(fields, f"accept_key_files[{i}]", path, mode, load_key) for i, path in enumerate(fields.texts("accept_key_files"))
    ]
    fields.refuse_unknown()
    return Authentication(mode=mode, key=key, accept=tuple(accept), dialect=dialect)


def _loaded_key(fields: Fields, place: str, path: str, mode: Mode, load_key: LoadKey) -> bytes:
    try:
        return _checked_key(fields, place, load_key(path), mode)
    except ValueError as error:
        fields.problem(place, str(error))
        return b""


def _checked_key(fields: Fields, place: str, data: bytes, mode: Mode) -> bytes:
    try:
        return read_key(data, mode)
    except ValueError as error:
        fields.problem(place, str(error))
        return b""


def read_key(data: bytes, mode: Mode) -> bytes:
    """The key in a file or field: Strict 64 hex digits or base64 of 32 bytes, Compatible the first line. ValueError says what is wrong."""
    line = data.split(b"\n", 1)[0].strip(b"\r")
    if mode is Mode.COMPATIBLE:
        if not 1 <= len(line) <= PASSWORD_LENGTH:
            raise ValueError(f"the password has {len(line)} bytes; carp(4) uses 1 to {PASSWORD_LENGTH}, the first line counts")
        return line
    try:
        key = (
            binascii.unhexlify(line.strip())
            if len(line.strip()) == 2 * STRICT_KEY_LENGTH
            else base64.b64decode(line.strip(), validate=True)
        )
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != STRICT_KEY_LENGTH:
        raise ValueError('a Strict key is 32 bytes, as 64 hex digits or base64; make one with "carp-sidecar key > FILE"')
    return key


def _check_across_groups(groups: tuple[GroupConfig, ...], problems: Problems) -> None:
    names: dict[str, int] = {}
    vhids: dict[tuple[str, int], str] = {}
    holders: dict[str, str] = {}
    for index, group in enumerate(groups):
        if group.name in names:
            problems.add(f"group[{index}].name", f"{group.name!r} is the name of group[{names[group.name]}] too; names must differ")
        names.setdefault(group.name, index)
        # An interface that is found at run time is looked at then: groups of different subnets may have the same VHID.
        holder = vhids.setdefault((group.interface, group.vhid), group.name) if group.interface else group.name
        if holder != group.name:
            where = f"VHID {group.vhid} on interface {group.interface}"
            problems.add(f"group[{index}].vhid", f"{where} is taken by group {holder!r}; give each group its own")
        for position, address in enumerate(group.addresses):
            holder = holders.setdefault(str(address.ip), group.name)
            if holder != group.name:
                problems.add(f"group[{index}].addresses[{position}]", f"{address.ip} belongs to group {holder!r} already; remove one")
