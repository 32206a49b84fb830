"""Doors for documents: configurations, CarpNodes as the agent reads them, objects as the operator and ``kubectl carp`` read them."""

import base64
import contextlib
import copy
import io
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carp_agent.carpnode import parse_event_untrusted, parse_list_untrusted
from carp_agent.document import Settings, keys_named_untrusted, read_ring_untrusted, render_untrusted
from carp_agent.errors import BadAnswer, BadNode
from carp_operator.api.errors import BadObject, OperatorError
from carp_operator.api.group import read_group
from carp_operator.api.node import read_carp_node, read_node
from carp_operator.cli.documents import as_text, status_document
from carp_operator.cli.screen import Screen
from carp_operator.cli.seen import Snapshot, read_event, read_operator, see_group
from carp_operator.cli.verdicts import judge
from carp_operator.cli.views import status_picture
from carp_protocol.config import SidecarConfig
from carp_protocol.config_reader import read_document
from carp_protocol.config_writer import key_texts, to_document
from carp_protocol.errors import ConfigError
from lab.sidecar import KEY, group, to_toml
from unit.operator import fake_cluster as fake

ROOT = Path(__file__).resolve().parents[2]
Json = dict[str, Any]

NAME = "a"
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**63, 2**200, 1.5, float("inf"), float("nan"), "", "*", "a", "\x1b[2J", "\ud800", "x" * 300, "10.0.0.1/33",
    "fe80::1%eth0", "1970-01-01T00:00:00Z",
    "9999-99-99", "99999999999999999999h", "[bold]", [], {}, [[]], [None], [{}], {"": None}, {"name": None},
)  # fmt: skip


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key in a document."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def bend(document: Any, data: bytes) -> Any:
    """The document with some of its values replaced, removed or doubled, as the bytes say."""
    bent = copy.deepcopy(document)
    for at in range(0, len(data) - 2, 3):
        places = list(_places(bent))
        if not places:
            break
        holder, key = places[(data[at] << 8 | data[at + 1]) % len(places)]
        what = data[at + 2] % (len(HOSTILE) + 2)
        if what < len(HOSTILE):
            holder[key] = copy.deepcopy(HOSTILE[what])
        elif what == len(HOSTILE):
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[f"{key}2"] = copy.deepcopy(holder[key])
    return bent


# ---- configurations -------------------------------------------------------------------------------------------


def _no_file(path: str) -> bytes:
    raise ValueError(f"{path} cannot be read")


def _configuration(document: Any) -> None:
    try:
        config = read_document(document, load_key=_no_file)
    except ConfigError as error:
        told = error
    else:
        _written_and_read(config)
        return
    assert told.problems
    assert all(problem.message for problem in told.problems)
    str(told).encode()


def _written_and_read(config: SidecarConfig) -> None:
    try:
        written = to_document(config, key_texts)
    except ValueError as error:
        assert "password" in str(error) or "text" in str(error)  # noqa: PT017  a password that is no text has no document
        return
    assert read_document(json.loads(json.dumps(written)), load_key=_no_file) == config


def _whole() -> Json:
    checks: list[Json] = [{"name": "w", "http_get": {"port": 80, "path": "/x", "headers": [{"name": "H", "value": "v"}]}, "period": "2s"}]
    checks += [{"name": "t", "tcp_socket": {"port": 1}, "demotion": "Exclude"}, {"name": "e", "exec": {"command": ["true"]}}]
    strict = {"mode": "Strict", "key": KEY, "accept_keys": ["00" * 32]}
    one = group(authentication=strict, health_checks=checks, preemption={"enabled": True, "delay": "3s"}, hook=["true", "x"])
    two = group("old", 2, advertisement_interval="1s", authentication={"mode": "Compatible", "key": "secret", "dialect": "OpenBSD"})
    three = group("uni", 3, authentication=strict, peers={"mode": "Unicast", "addresses": ["10.0.0.2"]}, virtual_mac=False)
    del three["interface"]
    return {"node": "n", "generation": 7, "group": [one, two, three | {"interface_pattern": "^en"}]}


def json_seeds() -> list[bytes]:
    return [json.dumps(_whole()).encode(), b"{}", b"\x00\x05\x01", b"\x00\x21\x0b\x00\x30\x10"]


def json_configuration(data: bytes) -> None:
    """Bytes that are no JSON bend the configuration that has everything."""
    try:
        document = json.loads(data.decode())
    except (ValueError, RecursionError):
        document = bend(_whole(), data)
    if isinstance(document, dict):
        _configuration(document)


def toml_seeds() -> list[bytes]:
    everything = "".join(f"{name} = {to_toml(value)}\n" for name, value in _whole().items())
    return [everything.encode(), *(path.read_bytes() for path in sorted((ROOT / "examples").rglob("*.toml")))]


def toml_configuration(data: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        _configuration(tomllib.loads(data.decode()))


# ---- the agent ------------------------------------------------------------------------------------------------

SETTINGS = Settings(NAME, metrics_address="", probe_port=0)


def _carp_node() -> Json:
    shown = {"mode": "Strict", "secretName": "kubecarp-key-web", "sign": "key-1", "accept": ["key-0"]}
    checks = [{"name": "w", "httpGet": {"port": 80}, "period": "2s"}]
    one = {"name": "web", "vhid": 1, "addresses": ["10.0.0.1/24"], "advskew": 16, "authentication": shown, "healthChecks": checks}
    metadata = {"name": NAME, "uid": "u", "generation": 3, "resourceVersion": "12"}
    return {"metadata": metadata, "spec": {"rollCall": 1, "groups": [one, one | {"name": "b", "vhid": 2}]}, "status": {}}


def carp_node_seeds() -> list[bytes]:
    listed = {"metadata": {"resourceVersion": "12"}, "items": [_carp_node()]}
    return [json.dumps(listed).encode(), json.dumps({"type": "MODIFIED", "object": _carp_node()}).encode(), b"\x00\x09\x03"]


def carp_node(data: bytes) -> None:
    """As a list, as a line of a watch, and bent as an object of the API server."""
    with contextlib.suppress(BadAnswer):
        parse_list_untrusted(data, NAME)
    with contextlib.suppress(BadAnswer):
        parse_event_untrusted(data, NAME)
    bent = {"type": "MODIFIED", "object": bend(_carp_node(), data)}
    with contextlib.suppress(BadAnswer, BadNode, ConfigError):
        node = parse_event_untrusted(json.dumps(bent).encode(), NAME).node
        if node:
            rings = {secret: dict.fromkeys(names, KEY) for secret, names in keys_named_untrusted(node).items()}
            read_document(json.loads(render_untrusted(node, rings, SETTINGS)), load_key=_no_file)


def _ring() -> Json:
    return {"data": {"key-1": base64.b64encode(KEY.encode()).decode()}}


def ring_seeds() -> list[bytes]:
    return [json.dumps(_ring()).encode(), b"\x00\x01\x00", b"{}"]


def ring(data: bytes) -> None:
    for text in (data, json.dumps(bend(_ring(), data)).encode()):
        try:
            read_ring_untrusted(text, "s")
        except BadNode as error:
            assert KEY[:16] not in str(error)  # noqa: PT017


# ---- the operator and kubectl carp ----------------------------------------------------------------------------


def _objects() -> Json:
    return {
        "group": fake.group("web", *fake.members()),
        "node": fake.node("node-a"),
        "carpNode": fake.carp_node("node-a", fake.report("web")),
        "lease": fake.lease(),
        "event": fake.event("web", "MasterChanged", "a note"),
    }


def object_seeds() -> list[bytes]:
    return [b"", b"\x00\x04\x03", b"\x00\x21\x0d\x00\x30\x19", json.dumps(_objects()).encode()]


def objects(data: bytes) -> None:
    """Spec and status are bent: what Kubernetes itself defines, metadata among it, the API server has checked."""
    body = _objects()
    own = bend([{part: body[kind][part] for part in ("spec", "status")} for kind in ("group", "carpNode")], data)
    for kind, parts in zip(("group", "carpNode"), own, strict=False):
        body[kind] |= parts if isinstance(parts, dict) else {}
    with contextlib.suppress(BadObject):
        read_group(body["group"])
    with contextlib.suppress(OperatorError):
        nodes, carp_nodes = read_node(body["node"]), read_carp_node(body["carpNode"])
        read_event(body["event"])
        groups = (see_group(body["group"]),)
        snapshot = Snapshot(
            groups=groups, nodes={nodes.name: nodes}, carp_nodes={carp_nodes.name: carp_nodes}, operator=read_operator(body["lease"])
        )
        verdict = judge(snapshot, fake.NOW)
        shown = io.StringIO()
        Screen(shown).show(*status_picture(verdict, snapshot, fake.NOW, wide=True))
        assert "\x1b" not in shown.getvalue(), "what is in an object reaches the terminal as a command"
        for output in ("json", "yaml"):
            as_text(status_document(verdict, snapshot.nodes), output)
