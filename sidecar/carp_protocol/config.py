"""The configuration contract between whoever writes it (a person, the agent, the operator) and the sidecar that reads it.

Only shapes and defaults live here; ``config_reader`` turns a parsed TOML or JSON document into these classes and
reports every problem. Times are seconds (``_s``). Key bytes never appear in ``repr``.
"""

__all__ = [
    "DEFAULT_CONTROL_SOCKET",
    "DEFAULT_INTERVAL_S",
    "DEFAULT_STATE_DIR",
    "SHORTEST_GATED_S",
    "Authentication",
    "Dialect",
    "Exec",
    "Fence",
    "GroupConfig",
    "HealthCheck",
    "HttpGet",
    "Mode",
    "PeerMode",
    "Peers",
    "Preemption",
    "SidecarConfig",
    "TcpSocket",
]

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Interface, IPv6Interface

DEFAULT_STATE_DIR = "/var/lib/kubecarp"
DEFAULT_CONTROL_SOCKET = "/run/kubecarp/control.sock"


class Mode(Enum):
    """How adverts are authenticated, and with that the dialect of the whole group."""

    STRICT = "Strict"
    COMPATIBLE = "Compatible"


DEFAULT_INTERVAL_S = {Mode.STRICT: 0.2, Mode.COMPATIBLE: 1.0}
"""Strict: a dead host costs a quarter of a second, at five packets a second. Compatible: carp(4) knows nothing below a second."""


class Dialect(Enum):
    """What demotion looks like in Compatible mode (protocol.md 3.6)."""

    COMMON = "Common"
    """Demotion raises the advskew that is sent, at most to 240: FreeBSD, NetBSD and ucarp sort by it."""
    OPENBSD = "OpenBSD"
    """Demotion is carried in byte 4 and compared before the advskew, as OpenBSD does."""


class Fence(Enum):
    """What silences a master that hangs: the gate (a lease in nftables, in milliseconds) or only the lifetime of its addresses."""

    AUTO = "Auto"
    """The gate where the kernel has nftables, else the lifetime."""
    LIFETIME = "Lifetime"
    REQUIRED = "Required"
    """The gate; a member that cannot have it does not become master."""


SHORTEST_GATED_S = 0.05
"""The shortest advertisement interval with a gate: below it two ticks of a slow kernel clock (HZ=100, 20 ms) cost a punctual master
the half of what it may be late."""


class PeerMode(Enum):
    """How adverts reach the other members."""

    MULTICAST = "Multicast"
    UNICAST = "Unicast"


@dataclass(frozen=True, kw_only=True)
class Authentication:
    """Keys of a group. ``key`` signs; ``accept`` are further keys that are believed while a key is rotated."""

    mode: Mode = Mode.STRICT
    key: bytes = field(default=b"", repr=False)
    """Strict: 32 bytes. Compatible: the password, at most 19 bytes."""
    accept: tuple[bytes, ...] = field(default=(), repr=False)
    dialect: Dialect = Dialect.COMMON


@dataclass(frozen=True, kw_only=True)
class Preemption:
    """Whether a better backup takes the address from a worse master, and how long after it came up."""

    enabled: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Peers:
    """Multicast, or the addresses of every other member."""

    mode: PeerMode = PeerMode.MULTICAST
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HttpGet:
    """An HTTP GET that passes on a status from 200 to 399."""

    port: int
    host: str = "127.0.0.1"
    path: str = "/"
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class TcpSocket:
    """A TCP connection that passes when it opens."""

    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Exec:
    """A program, run without a shell, that passes on exit code 0."""

    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """One check of a group, with the fields of a Kubernetes probe."""

    name: str
    action: HttpGet | TcpSocket | Exec
    period_s: float = 10.0
    timeout_s: float = 1.0
    initial_delay_s: float = 0.0
    success_threshold: int = 1
    failure_threshold: int = 3
    demotion: int | None = 128
    """Added to the group's demotion until the check passes; None takes the group out of the election instead."""


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """One virtual host: a VHID on an interface, and the addresses that follow its master."""

    name: str
    vhid: int
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    interface: str | None = None
    """None: the interface that ``interface_pattern`` finds, or without one that whose subnet holds the first address."""
    interface_pattern: str | None = None
    """A regular expression that is searched in the names of interfaces; ``interface`` is None then."""
    advskew: int = 0
    """0 is the best, 254 the last resort, 255 (priority 0) never becomes MASTER."""
    advertisement_interval_s: float = 1.0
    """Strict: 0.01 to 60. Compatible: whole seconds 1 to 255, sent as advbase. A document that leaves it out means DEFAULT_INTERVAL_S."""
    authentication: Authentication = Authentication()
    virtual_mac: bool = True
    preemption: Preemption = Preemption()
    peers: Peers = Peers()
    health_checks: tuple[HealthCheck, ...] = ()
    suspicion: bool = True
    """Probe a master whose advert is late instead of waiting for the whole dead time."""
    demotion: int = 0
    """A standing demotion, such as one for maintenance."""
    hook: tuple[str, ...] = ()
    """A program and its arguments, run on every transition and never waited for."""
    fence: Fence = Fence.AUTO

    @property
    def may_be_gated(self) -> bool:
        """Whether a gate is wanted and can keep up with the interval."""
        return self.fence is not Fence.LIFETIME and self.advertisement_interval_s >= SHORTEST_GATED_S

    @property
    def priority(self) -> int:
        """255 - advskew: 255 is the best, 0 never becomes MASTER."""
        return 255 - self.advskew

    @property
    def virtual_mac_address(self) -> str:
        """00:00:5e:00:01:VHID (protocol.md 1.3), for IPv4 and IPv6 alike."""
        return f"00:00:5e:00:01:{self.vhid:02x}"


@dataclass(frozen=True, kw_only=True)
class SidecarConfig:
    """Everything one sidecar process runs."""

    groups: tuple[GroupConfig, ...] = ()
    node: str = ""
    """The name of this host in status, logs and hooks; empty: its host name."""
    generation: int = 0
    """Counts changes of the configuration; carried in Strict adverts so that peers can report a skew."""
    state_dir: str = DEFAULT_STATE_DIR
    control_socket: str = DEFAULT_CONTROL_SOCKET
    metrics_address: str = "127.0.0.1:9120"
    """HOST:PORT of /metrics, /healthz and /readyz; empty: none."""
    probe_port: int = 9112
    """UDP port on which a suspecting backup asks whether this sidecar lives; 0: none."""
    log_format: str = "auto"
    """text, json, or auto: text on a terminal."""
    log_level: str = "info"
