"""A CarpGroup as typed values. The API server has checked it against the schema; what slipped through raises BadObject."""

__all__ = ["CarpGroup", "GroupStatus", "HandoverRequest", "MasterRecord", "format_time", "parse_time", "read_group"]

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from carp_protocol.config import DEFAULT_INTERVAL_S, Dialect, Exec, Fence, HealthCheck, HttpGet, Mode, PeerMode, Preemption, TcpSocket
from carp_protocol.fields import parse_duration_s

from .errors import BadObject
from .names import HANDOVER_ANNOTATION, ROTATE_KEY_ANNOTATION
from .selector import Selector

_LONGEST_ID = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterRecord:
    """Who has the addresses, as the status last said it."""

    node: str
    since: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStatus:
    """What the operator wrote the last time, as far as it decides anything."""

    vhid: int | None = None
    addresses: frozenset[str] = frozenset()
    """Without prefix length: those of the last accepted version."""
    master: MasterRecord | None = None
    transitions: int = 0
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The whole of it, to compare with what should be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverRequest:
    """A handover that somebody asked for by annotation."""

    id: str
    to: str
    """A node, or empty for the best."""
    at: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarpGroup:
    """One group, as its user wrote it."""

    name: str
    uid: str
    generation: int
    created: str
    """RFC 3339: of two groups that want the same, the older one gets it."""
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    written: tuple[str, ...]
    """The addresses as they were written: with a prefix length or without."""
    vhid: int | None = None
    interface: str | None = None
    interface_pattern: str | None = None
    node_selector: Selector = Selector()
    interval_s: float = DEFAULT_INTERVAL_S[Mode.STRICT]
    priorities: Mapping[str, int] = field(default_factory=dict)
    preemption: Preemption = Preemption()
    mode: Mode = Mode.STRICT
    dialect: Dialect = Dialect.COMMON
    secret: str | None = None
    virtual_mac: bool = True
    peer_mode: PeerMode = PeerMode.MULTICAST
    health_checks: tuple[HealthCheck, ...] = ()
    suspicion: bool | None = None
    fence: Fence = Fence.AUTO
    hand_over_on_cordon: bool = True
    rotate_key: str = ""
    handover: HandoverRequest | None = None
    status: GroupStatus = field(default_factory=GroupStatus)

    @property
    def hosts(self) -> frozenset[str]:
        """The addresses without prefix length."""
        return frozenset(str(address.ip) for address in self.addresses)


def read_group(body: Mapping[str, Any]) -> CarpGroup:
    """The group in an object of the API server; raises BadObject with a sentence."""
    metadata, spec = body.get("metadata") or {}, body.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    try:
        authentication = spec.get("authentication") or {}
        preemption = spec.get("preemption") or {}
        interface = spec.get("interface") or {}
        mode = Mode(authentication.get("mode", "Strict"))
        return CarpGroup(
            name=metadata["name"],
            uid=metadata.get("uid", ""),
            generation=int(metadata.get("generation", 0)),
            created=metadata.get("creationTimestamp") or "",
            addresses=tuple(ip_interface(text) for text in spec["addresses"]),
            written=tuple(map(str, spec["addresses"])),
            vhid=spec.get("vhid"),
            interface=interface.get("name"),
            interface_pattern=interface.get("pattern"),
            node_selector=Selector.from_spec(spec.get("nodeSelector") or {}),
            interval_s=_read_interval_s(spec.get("advertisementInterval"), mode),
            priorities={str(entry["node"]): int(entry["priority"]) for entry in spec.get("priorities") or ()},
            preemption=Preemption(enabled=bool(preemption.get("enabled", False)), delay_s=parse_duration_s(preemption.get("delay", "0s"))),
            mode=mode,
            dialect=Dialect(authentication.get("dialect", "Common")),
            secret=(authentication.get("secretRef") or {}).get("name"),
            virtual_mac=bool(spec.get("virtualMAC", True)),
            peer_mode=PeerMode((spec.get("peers") or {}).get("mode", "Multicast")),
            health_checks=tuple(_read_check(check) for check in spec.get("healthChecks") or ()),
            suspicion=spec.get("suspicion"),
            fence=Fence(spec.get("fence", "Auto")),
            hand_over_on_cordon=spec.get("onCordon", "HandOver") == "HandOver",
            rotate_key=annotations.get(ROTATE_KEY_ANNOTATION, ""),
            handover=_read_handover(annotations.get(HANDOVER_ANNOTATION)),
            status=_read_status(body.get("status") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        name = metadata.get("name", "without a name")
        raise BadObject(f"CarpGroup {name} cannot be read: {type(error).__name__}: {error}") from error


def _read_interval_s(text: str | None, mode: Mode) -> float:
    return DEFAULT_INTERVAL_S[mode] if text is None else parse_duration_s(text)


def _read_check(check: Mapping[str, Any]) -> HealthCheck:
    return HealthCheck(
        name=check["name"],
        action=_read_action(check),
        period_s=float(check.get("periodSeconds", 10)),
        timeout_s=float(check.get("timeoutSeconds", 1)),
        initial_delay_s=float(check.get("initialDelaySeconds", 0)),
        success_threshold=int(check.get("successThreshold", 1)),
        failure_threshold=int(check.get("failureThreshold", 3)),
        demotion=None if check.get("onFailure") == "Exclude" else int(check.get("demotion", 128)),
    )


def _read_action(check: Mapping[str, Any]) -> HttpGet | TcpSocket | Exec:
    if http := check.get("httpGet"):
        headers = tuple((header["name"], header["value"]) for header in http.get("httpHeaders") or ())
        given = {key: http[key] for key in ("host", "path", "scheme") if key in http}
        return HttpGet(port=int(http["port"]), headers=headers, **given)
    if tcp := check.get("tcpSocket"):
        return TcpSocket(port=int(tcp["port"]), host=tcp.get("host", TcpSocket.host))
    return Exec(command=tuple(check["exec"]["command"]))


def _read_handover(text: str | None) -> HandoverRequest | None:
    """A request that cannot be read is none: annotations are free text, and anybody may write them."""
    try:
        request = json.loads(text or "")
        identity, to, at = str(request["id"])[:_LONGEST_ID], str(request.get("to") or ""), parse_time(request["at"])
        if not identity or at is None:
            return None
        return HandoverRequest(id=identity, to=to, at=at)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _read_status(status: Mapping[str, Any]) -> GroupStatus:
    master = status.get("master") or {}
    return GroupStatus(
        vhid=status.get("vhid"),
        addresses=frozenset(str(ip_interface(text).ip) for text in status.get("addresses") or ()),
        master=MasterRecord(node=master["node"], since=master.get("since", "")) if master.get("node") else None,
        transitions=int(status.get("transitions") or 0),
        raw=status,
    )


def parse_time(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 time; None for anything else."""
    try:
        time = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return time.timestamp() if time.tzinfo else None


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC, as Kubernetes writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
