"""From a CarpNode and the keys it names to the configuration of the sidecar. Pure: what is asked for comes in as arguments.

The translation is mechanical, so a field that a later version adds needs no code here; the sidecar says what is wrong with it.
"""

from __future__ import annotations

__all__ = ["Settings", "keys_named_untrusted", "read_ring_untrusted", "render_untrusted"]

import base64
import binascii
import json
import re

from carp_agent.errors import BadNode
from carp_protocol.spelling import snake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from carp_agent.carpnode import CarpNode

    Rings = Mapping[str, Mapping[str, str]]
    """By name of the Secret and name of the key: the text of the key."""

_NOT_FOR_THE_SIDECAR = frozenset({"authentication", "handover", "version"})
_SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_KEY_NAME = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_MAX_RING_KEYS = 64
_MAX_KEY_CHARS = 4096


class Settings:
    """What the agent's own command line says about the sidecar."""

    __slots__ = ("control_socket", "metrics_address", "node", "probe_port")

    def __init__(self, node: str, *, metrics_address: str, probe_port: int, control_socket: str = "") -> None:
        self.node = node
        self.metrics_address = metrics_address
        self.probe_port = probe_port
        self.control_socket = control_socket
        """Empty: where the sidecar has it by default."""


def keys_named_untrusted(node: CarpNode) -> dict[str, set[str]]:
    """The names of the keys that the groups need, by name of their Secret. Raises BadNode."""
    wanted: dict[str, set[str]] = {}
    for group in node.groups:
        authentication = _authentication_untrusted(group)
        secret, names = authentication.get("secretName"), [authentication.get("sign"), *_accepted_untrusted(authentication)]
        if not isinstance(secret, str) or not _SECRET_NAME.fullmatch(secret):
            raise BadNode(f"group {_name(group)} names no Secret")
        if not all(isinstance(name, str) and _KEY_NAME.fullmatch(name) for name in names):
            raise BadNode(f"group {_name(group)} does not name its keys")
        wanted.setdefault(secret, set()).update(map(str, names))
    return wanted


def read_ring_untrusted(data: bytes, secret: str) -> dict[str, str]:
    """The keys in a Secret by name. Raises BadNode, in whose text no key is."""
    try:
        content = json.loads(data)["data"]
        if not isinstance(content, dict) or len(content) > _MAX_RING_KEYS:
            raise BadNode(f"Secret {secret} is no ring of keys")
        return {str(name): base64.b64decode(value, validate=True).decode()[:_MAX_KEY_CHARS] for name, value in content.items()}
    except (ValueError, RecursionError, TypeError, KeyError, binascii.Error):
        raise BadNode(f"Secret {secret} holds no keys that can be read") from None  # what cannot be read may be a key


def render_untrusted(node: CarpNode | None, rings: Rings, settings: Settings) -> bytes:
    """The file for the sidecar; without a CarpNode it runs no group. Raises BadNode."""
    document: dict[str, Any] = {
        "node": settings.node,
        "generation": node.generation if node else 0,
        "metrics_address": settings.metrics_address,
        "probe_port": settings.probe_port,
        "log_format": "json",
    }
    if settings.control_socket:
        document["control_socket"] = settings.control_socket
    try:
        document["group"] = [_group_untrusted(group, rings) for group in node.groups] if node else []
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    except RecursionError as error:
        raise BadNode("the CarpNode is nested too deeply") from error


def _group_untrusted(group: dict[str, Any], rings: Rings) -> dict[str, Any]:
    authentication = _authentication_untrusted(group)
    ring = rings.get(str(authentication.get("secretName")), {})
    translated = snake({key: value for key, value in group.items() if key not in _NOT_FOR_THE_SIDECAR})
    shown = {"mode": authentication.get("mode", "Strict"), "key": _key(group, ring, authentication.get("sign"))}
    if "dialect" in authentication:
        shown["dialect"] = authentication["dialect"]
    if accepted := _accepted_untrusted(authentication):
        shown["accept_keys"] = [_key(group, ring, name) for name in accepted]
    return {**translated, "authentication": shown}


def _key(group: dict[str, Any], ring: Mapping[str, str], name: object) -> str:
    key = ring.get(str(name))
    if key is None:
        secret = _authentication_untrusted(group).get("secretName")
        raise BadNode(f"group {_name(group)}: Secret {secret} has no key {name}; the operator puts it there")
    return key


def _authentication_untrusted(group: dict[str, Any]) -> dict[str, Any]:
    authentication = group.get("authentication")
    if not isinstance(authentication, dict):
        raise BadNode(f"group {_name(group)} says nothing of its authentication")
    return authentication


def _accepted_untrusted(authentication: dict[str, Any]) -> list[Any]:
    accepted = authentication.get("accept", [])
    return accepted if isinstance(accepted, list) else [None]


def _name(group: dict[str, Any]) -> str:
    return repr(group.get("name"))[:80]
