"""A Node and its CarpNode as typed values: where a group could run, and what runs there."""

__all__ = ["CarpNode", "GroupReport", "Interface", "Node", "read_carp_node", "read_node"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import Any

from .errors import BadObject
from .names import MAINTENANCE_ANNOTATION


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What of a Node decides whether and how it is a member."""

    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    ready: bool = True
    cordoned: bool = False
    maintenance: bool = False
    addresses: tuple[str, ...] = ()
    """Its InternalIPs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """An interface of a node, as its sidecar sees it."""

    name: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    networks: frozenset[str] = frozenset()
    """Its subnets, as texts."""
    subnets: tuple[tuple[int, int, int, int], ...] = ()
    """The same as numbers: IP version, network, mask and prefix length."""

    def prefix_holding(self, address: IPv4Address | IPv6Address) -> int:
        """The length of the longest of its prefixes that holds the address; -1 if none does."""
        version, number, longest = address.version, int(address), -1
        for own, network, mask, length in self.subnets:
            if length > longest and own == version and number & mask == network:
                longest = length
        return longest


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReport:
    """One group, as the sidecar of one node sees it."""

    name: str
    version: str = ""
    """Version of the entry of the spec that runs."""
    state: str = "Init"
    since: str = ""
    reason: str = ""
    interface: str = ""
    interface_state: str = "Missing"
    source: str = ""
    """The address that its adverts come from; empty if it has not told any."""
    demotion: int = 0
    excluded: bool = False
    demoted_by: tuple[str, ...] = ()
    held: Mapping[str, bool] = field(default_factory=dict)
    master_source: str = ""
    master_is_local: bool = False
    authentication_failed: bool = False
    conflicting_mac: str = ""
    failing_checks: Mapping[str, str] = field(default_factory=dict)
    """What each failing check said."""
    ungated: str = ""
    """Why no lease in nftables silences it if it hangs as master; empty: one does."""
    warnings: tuple[str, ...] = ()
    handover_id: str = ""
    handover_refusal: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarpNode:
    """The CarpNode of a node: what should run there, and the last report of its agent."""

    name: str
    generation: int = 0
    owner_uid: str = ""
    roll_call: int = 0
    spec_groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name, as they stand in the spec."""
    reported: bool = False
    """An agent has written the status."""
    observed_generation: int = 0
    problems: tuple[str, ...] = ()
    sidecar_running: bool = False
    interfaces: tuple[Interface, ...] = ()
    """By name. Whether one is up is not here: it decides nothing, and it changes often."""
    groups: Mapping[str, GroupReport] = field(default_factory=dict)


def read_node(body: Mapping[str, Any]) -> Node:
    """The Node in an object of the API server; raises BadObject."""
    try:
        metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        ready = [condition.get("status") == "True" for condition in status.get("conditions") or () if condition.get("type") == "Ready"]
        addresses = [entry["address"] for entry in status.get("addresses") or () if entry.get("type") == "InternalIP"]
        return Node(
            name=metadata["name"],
            uid=metadata.get("uid", ""),
            labels=metadata.get("labels") or {},
            ready=all(ready) and bool(ready),
            cordoned=bool(spec.get("unschedulable")),
            maintenance=(metadata.get("annotations") or {}).get(MAINTENANCE_ANNOTATION, "").lower() in {"true", "on", "yes"},
            addresses=tuple(str(ip_address(address)) for address in addresses),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadObject(f"a Node cannot be read: {type(error).__name__}: {error}") from error


def read_carp_node(body: Mapping[str, Any], before: CarpNode | None = None) -> CarpNode:
    """The CarpNode in an object of the API server; raises BadObject. What is as ``before`` is not read again."""
    known = before.groups if before else {}
    try:
        metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        owners = metadata.get("ownerReferences") or [{}]
        return CarpNode(
            name=metadata["name"],
            generation=int(metadata.get("generation", 0)),
            owner_uid=owners[0].get("uid", ""),
            roll_call=int(spec.get("rollCall") or 0),
            spec_groups={entry["name"]: entry for entry in spec.get("groups") or ()},
            reported=bool(status),
            observed_generation=int(status.get("observedGeneration") or 0),
            problems=tuple(map(str, status.get("problems") or ())),
            sidecar_running=bool((status.get("sidecar") or {}).get("running")),
            interfaces=tuple(sorted((_read_interface(entry) for entry in status.get("interfaces") or ()), key=lambda one: one.name)),
            groups={entry["name"]: _read_report(entry, known.get(entry["name"])) for entry in status.get("groups") or ()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadObject(f"a CarpNode cannot be read: {type(error).__name__}: {error}") from error


def _read_interface(entry: Mapping[str, Any]) -> Interface:
    addresses = tuple(ip_interface(text) for text in entry.get("addresses") or ())
    networks = {address.network for address in addresses}
    return Interface(
        name=entry["name"],
        addresses=addresses,
        networks=frozenset(map(str, networks)),
        subnets=tuple((one.version, int(one.network_address), int(one.netmask), one.prefixlen) for one in networks),
    )


def _read_report(entry: Mapping[str, Any], before: GroupReport | None) -> GroupReport:
    if before is not None and entry == before.raw:
        return before
    demotion, master, handover = (entry.get(key) or {} for key in ("demotion", "master", "handover"))
    checks = entry.get("healthChecks") or ()
    return GroupReport(
        name=entry["name"],
        version=entry.get("version", ""),
        state=entry.get("state", "Init"),
        since=entry.get("since", ""),
        reason=entry.get("reason", ""),
        interface=entry.get("interface") or "",
        interface_state=entry.get("interfaceState", "Missing"),
        source=entry.get("source", ""),
        demotion=int(demotion.get("total") or 0),
        excluded=bool(demotion.get("excluded")),
        demoted_by=tuple(reason["name"] for reason in demotion.get("reasons") or ()),
        held={str(address["address"]).partition("/")[0]: bool(address["held"]) for address in entry.get("addresses") or ()},
        master_source=master.get("source", ""),
        master_is_local=bool(master.get("local")),
        authentication_failed=bool(entry.get("authenticationFailed")),
        conflicting_mac=(entry.get("addressConflict") or {}).get("mac", ""),
        failing_checks={check["name"]: check.get("message", "") for check in checks if check.get("passing") is False},
        ungated=(entry.get("fence") or {}).get("reason", ""),
        warnings=tuple(map(str, entry.get("warnings") or ())),
        raw=entry,
        handover_id=handover.get("id", ""),
        handover_refusal=handover.get("message", "") if handover.get("result") == "Refused" else "",
    )
