"""The nodes of a group when no cluster tells them: from ``--node NAME=ADDRESS...``, or from a file. Text to typed values, no files.

A node that is written without the name of its interface may have any: the sidecar on the node finds it by its subnet.
"""

__all__ = ["StaticNode", "parse_node", "read_node_documents"]

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from carp_operator.api.errors import BadObject, OperatorError
from carp_operator.api.node import read_node

from .manifests import Document

_HOSTNAME_LABEL = "kubernetes.io/hostname"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_INTERFACE = re.compile(r"[^\s/@,]{1,15}")
_FORM = "write NAME=ADDRESS/PREFIX@INTERFACE, such as cp-1=10.0.0.11/24@eth0; PREFIX and @INTERFACE may be left out"


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """An address of a node."""

    address: IPv4Interface | IPv6Interface
    prefixed: bool
    """Its prefix length was given; if not, it is guessed."""
    interface: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticNode:
    """A node as somebody wrote it down."""

    name: str
    addresses: tuple[NodeAddress, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


def parse_node(text: str) -> StaticNode:
    """What follows ``--node``; raises ValueError with a sentence."""
    name, given, addresses = text.partition("=")
    if not given or not _NAME.fullmatch(name):
        raise ValueError(f"{text!r} is no node; {_FORM}")
    return StaticNode(name=name, addresses=tuple(map(_parse_address, addresses.split(","))), labels={_HOSTNAME_LABEL: name})


def _parse_address(text: str) -> NodeAddress:
    address, named, interface = text.strip().partition("@")
    try:
        found = ip_interface(address)
    except ValueError:
        raise ValueError(f"{address!r} is not an IP address; {_FORM}") from None
    if named and not _INTERFACE.fullmatch(interface):
        raise ValueError(f"{interface!r} cannot be the name of an interface; {_FORM}")
    return NodeAddress(found, "/" in address, interface)


def read_node_documents(documents: Iterable[Document]) -> list[StaticNode]:
    """Nodes out of a file: Node objects, as ``kubectl get nodes -o yaml`` prints them, or documents of name, addresses and labels.

    Raises OperatorError.
    """
    found = []
    for document in documents:
        if document.body.get("kind") == "Node":
            found.append(_of_object(document))
        elif "kind" not in document.body and {"name", "addresses"} <= document.body.keys() <= {"name", "addresses", "labels"}:
            found.append(_of_short(document))
        else:
            raise OperatorError(f"{document.place}: a Node object is needed, or name: and addresses: (and labels:)")
    return found


def _of_object(document: Document) -> StaticNode:
    try:
        node = read_node(document.body)
    except BadObject as error:
        raise OperatorError(f"{document.path}: {error}") from error
    addresses = tuple(NodeAddress(ip_interface(address), prefixed=False) for address in node.addresses)
    return StaticNode(name=node.name, addresses=addresses, labels=node.labels)


def _of_short(document: Document) -> StaticNode:
    name, addresses, labels = (document.body.get(key) for key in ("name", "addresses", "labels"))
    texts = [addresses] if isinstance(addresses, str) else addresses
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise OperatorError(f"{document.path}: addresses of {name} must be a list of texts, such as [10.0.0.11/24@eth0]")
    try:
        node = parse_node(f"{name}={','.join(texts)}")
    except ValueError as error:
        raise OperatorError(f"{document.path}: {error}") from error
    own: Any = labels or {}
    if not isinstance(own, Mapping):
        raise OperatorError(f"{document.path}: labels of {name} must be a table of texts")
    return StaticNode(
        name=node.name, addresses=node.addresses, labels={**node.labels, **{str(key): str(value) for key, value in own.items()}}
    )
