"""A laboratory network: hosts with chosen interface names, segments (bridges) that join them, and the faults a wire can have.

Knows nothing of CARP. Every host answers with its own TTL, so that a prober can tell who answered.
"""

__all__ = ["PREFIX", "TTL_BASE", "Host", "Lab", "Port", "Segment"]

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.namespace import LabError, Namespace, wait_until

PREFIX = "kubecarp-lab-"
TTL_BASE = 100
"""The n-th host sends echo replies with this TTL plus n."""
BRIDGE_DISABLED, BRIDGE_FORWARDING = 0, 3
CARRIER_S = 5.0
WAYS = ("iifname", "oifname")
"""From a port into the switch, and out of the switch into a port, as nftables names them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A switch: one bridge in the switches' namespace."""

    name: str
    bridge: str
    number: int


@dataclass(frozen=True, slots=True)
class Port:
    """A plug of a host in a segment; ``device`` is its end on the switch."""

    segment: Segment
    interface: str
    device: str
    mac: str
    addresses: tuple[str, ...]


@dataclass(slots=True)
class Host:
    """A machine: a namespace and its plugs."""

    namespace: Namespace
    number: int
    ports: list[Port] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.namespace.name

    @property
    def ttl(self) -> int:
        return TTL_BASE + self.number

    def port(self, interface: str | None = None) -> Port:
        """The plug behind ``interface`` (the first one when left out)."""
        return next(port for port in self.ports if interface in (None, port.interface))

    def address(self, version: int = 4, interface: str | None = None) -> str:
        """The host's own address, without prefix length."""
        found = (ip_interface(text) for text in self.port(interface).addresses)
        return next(str(one.ip) for one in found if one.version == version)

    def held_addresses(self, *interesting: str) -> list[str]:
        """Addresses on any interface, those of the lab itself left out; only ``interesting`` ones when named."""
        own = {str(ip_interface(text).ip) for port in self.ports for text in port.addresses}
        shown = [entry["local"] for link in self.namespace.ip_json("addr") for entry in link["addr_info"] if entry["scope"] != "link"]
        held = [address for address in shown if address not in own | {"127.0.0.1", "::1"}]
        return [address for address in held if not interesting or address in interesting]


class Lab:
    """Everything that is built here ends with the ``with`` block, or with the process."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.switch = self._namespace("switch")
        self.hosts: list[Host] = []
        self._segments: list[Segment] = []
        self._filters: dict[str, set[str]] = {}
        self._loss: dict[str, float] = {}
        self._side: set[str] = set()
        self._observers: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End every process, namespace and file of the lab."""
        self._stack.close()

    @classmethod
    def simple(cls, count: int = 3, interface: str = "eth0") -> "Lab":
        """Hosts a, b, c... with 10.77.0.N and fd77::N on one segment, and a client with .200."""
        lab = cls()
        try:
            lan = lab.segment("lan")
            for number, name in enumerate("abcdefghijklmnopqrst"[:count], 1):
                lab.plug_in(lab.host(name), lan, interface, f"10.77.0.{number}/24", f"fd77::{number}/64")
            lab.plug_in(lab.host("client"), lan, interface, "10.77.0.200/24", "fd77::200/64")
        except BaseException:
            lab.close()
            raise
        return lab

    def __getitem__(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    @property
    def client(self) -> Host:
        return self["client"]

    def members(self) -> Iterator[Host]:
        """Every host but the client."""
        return (host for host in self.hosts if host.name != "client")

    def host_by_ttl(self, ttl: int) -> str:
        """Which host sends this TTL."""
        return next((host.name for host in self.hosts if host.ttl == ttl), f"ttl {ttl}")

    def _namespace(self, name: str, make: Callable[[str], Namespace] = Namespace) -> Namespace:
        namespace = make(name)
        self._stack.callback(namespace.close)
        return namespace

    def segment(self, name: str) -> Segment:
        """A new switch that forwards at once and floods multicast."""
        segment = Segment(name, f"br-{name}", len(self._segments))
        self.switch.ip(
            f"link add {segment.bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set {segment.bridge} up",
        )
        self._segments.append(segment)
        return segment

    def host(self, name: str, make: Callable[[str], Namespace] = Namespace) -> Host:
        """A new machine without plugs."""
        host = Host(self._namespace(name, make), len(self.hosts) + 1)
        _set_ttl(host)
        self.hosts.append(host)
        return host

    def replace(self, host: Host, make: Callable[[str], Namespace]) -> None:
        """The host after a power cut, as a new machine: the same plugs and addresses, and nothing else of what was in its kernel."""
        host.namespace.close()
        ports = self.pull_out(host)  # the kernel keeps a dead namespace while one of its connections waits for an acknowledgement
        host.namespace = self._namespace(host.name, make)
        _set_ttl(host)
        self.put_in(host, ports)

    def pull_out(self, host: Host) -> list[Port]:
        """Every interface of the host is gone; ``put_in`` makes them again."""
        ports, host.ports = host.ports, []
        for port in ports:
            self.switch.run("ip", "link", "del", port.device, check=False)
        return ports

    def put_in(self, host: Host, ports: Sequence[Port]) -> None:
        """The same plugs and addresses, as new interfaces."""
        for port in ports:
            self.plug_in(host, port.segment, port.interface, *port.addresses)

    def plug_in(self, host: Host, segment: Segment, interface: str, *addresses: str) -> Port:
        """Give ``host`` an interface in ``segment``."""
        device = f"{segment.name[:10]}.{host.number}"
        port = Port(segment, interface, device, f"02:00:00:00:{segment.number:02x}:{host.number:02x}", addresses)
        self.switch.ip(
            f"link add {device} type veth peer name {interface} address {port.mac} netns {host.namespace.pid}",
            f"link set {device} master {segment.bridge} up",
        )
        host.namespace.sysctl(f"net.ipv6.conf.{interface}.accept_dad", 0)
        host.namespace.sysctl(f"net.ipv6.conf.{interface}.router_solicitations", 0)  # else kernels ask for one now and then, for ever
        host.namespace.ip(f"link set {interface} up", *(f"addr add {address} dev {interface}" for address in addresses))
        host.ports.append(port)
        return port

    def cut(self, host: Host, interface: str | None = None) -> None:
        """Nothing passes any more, and the host sees no difference (a switch or cable fails far away)."""
        self._set_state(host, interface, BRIDGE_DISABLED)

    def heal(self, host: Host, interface: str | None = None) -> None:
        """End every fault of the host's plugs: cut, unplugged, deaf, mute, lossy, parted."""
        self.mend(host, interface)
        self.plug(host, interface)
        self._set_state(host, interface, BRIDGE_FORWARDING)

    def mend(self, host: Host, interface: str | None = None) -> None:
        """End what filters do to the host's frames: deaf, mute, lossy, parted."""
        for port in self._ports(host, interface):
            self._filters.pop(port.device, None)
            self._loss.pop(port.device, None)
            self._side.discard(port.device)
        self._apply_filters()

    def plug(self, host: Host, interface: str | None = None) -> None:
        """The host has carrier again."""
        self.switch.ip(*(f"link set {port.device} up" for port in self._ports(host, interface)))

    def unplug(self, host: Host, interface: str | None = None) -> None:
        """The host loses carrier."""
        self.switch.ip(*(f"link set {port.device} down" for port in self._ports(host, interface)))

    def kill(self, host: Host) -> None:
        """A power cut: unreachable first, then every process ends without a word."""
        self.cut(host)
        host.namespace.kill_all()

    def reboot(self, host: Host) -> None:
        """The host comes back after ``kill``: without processes, without what they added, and reachable."""
        host.namespace.kill_all()
        made = [link["ifname"] for link in host.namespace.ip_json("link") if link.get("linkinfo", {}).get("info_kind") == "macvlan"]
        for port in host.ports:
            addresses = [f"addr add {address} dev {port.interface}" for address in port.addresses]
            host.namespace.ip(f"addr flush dev {port.interface} scope global", *addresses)
        host.namespace.ip(*(f"link del {name}" for name in made), "link set lo up")
        self.heal(host)

    def mute(self, host: Host, interface: str | None = None) -> None:
        """Nothing the host sends arrives anywhere."""
        self._add_filter(host, interface, "iifname")

    def deafen(self, host: Host, interface: str | None = None) -> None:
        """Nothing arrives at the host."""
        self._add_filter(host, interface, "oifname")

    def lose(self, host: Host, share: float, interface: str | None = None) -> None:
        """Lose this share of the frames from and to the host, at random."""
        for port in self._ports(host, interface):
            self._loss[port.device] = share
        self._apply_filters()

    def part(self, *hosts: Host) -> None:
        """These hosts and all others do not hear each other; observers are heard by all. ``heal`` ends it, host by host."""
        self._side |= {port.device for host in hosts for port in host.ports}
        self._apply_filters()

    def observe(self, host: Host) -> None:
        """No filter holds up what this host sends and hears: it sees what each side of a fault does."""
        self._observers |= {port.device for port in host.ports}

    def reflect(self, host: Host, interface: str | None = None, on: bool = True) -> None:
        """The switch returns to the host what the host sends, as some hypervisors do."""
        for port in self._ports(host, interface):
            self.switch.run("bridge", "link", "set", "dev", port.device, "hairpin", "on" if on else "off")

    def _ports(self, host: Host, interface: str | None) -> list[Port]:
        found = [port for port in host.ports if interface in (None, port.interface)]
        if not found:
            raise LabError(f"{host.name} has no interface {interface}")
        return found

    def _set_state(self, host: Host, interface: str | None, state: int) -> None:
        for port in self._ports(host, interface):
            wait_until(partial(self._takes_state, port.device, state), CARRIER_S, f"{port.device} has carrier")

    def _takes_state(self, device: str, state: int) -> bool:
        """The kernel refuses until one of its workers has seen the carrier, some time after a plug."""
        try:
            self.switch.run("bridge", "link", "set", "dev", device, "state", str(state))
        except LabError as error:
            if "Network is down" not in str(error):
                raise
            return False
        return True

    def _add_filter(self, host: Host, interface: str | None, direction: str) -> None:
        for port in self._ports(host, interface):
            self._filters.setdefault(port.device, set()).add(direction)
        self._apply_filters()

    def _apply_filters(self) -> None:
        lossy = ((way, device, share) for device, share in self._loss.items() for way in WAYS)
        rules = [f'{way} "{device}" drop' for device, ways in self._filters.items() for way in ways]
        rules += [f'{way} "{device}" numgen random mod 1000 < {round(share * 1000)} drop' for way, device, share in lossy]
        if self._side:
            side = "{ " + ", ".join(f'"{device}"' for device in sorted(self._side)) + " }"
            rules += [f"iifname {side} oifname != {side} drop", f"iifname != {side} oifname {side} drop"]
        table = "table bridge lab"
        if not rules:
            self.switch.run("nft", f"add {table}; delete {table}", check=False)
            return
        seen = [f'{way} "{device}" accept' for device in sorted(self._observers) for way in WAYS]
        chain = "\n".join(["chain wire {", "type filter hook forward priority 0", *seen, *rules, "}"])
        self.switch.run("nft", "-f", "-", stdin=f"add {table}\ndelete {table}\n{table} {{\n{chain}\n}}\n")


def _set_ttl(host: Host) -> None:
    host.namespace.sysctl("net.ipv4.ip_default_ttl", host.ttl)
    host.namespace.sysctl("net.ipv6.conf.default.hop_limit", host.ttl)
