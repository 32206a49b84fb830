"""What a host and its sidecar hold at one moment: memory, descriptors, sockets, queues, and objects of the kernel."""

__all__ = ["KERNEL", "PROCESS", "net_rows", "sample"]

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.namespace import wait_until
from lab.sidecar import Sidecar

PROCESS = {
    "rss_kb": "memory, RSS, KB",
    "pss_kb": "memory, PSS, KB",
    "heap_kb": "heap of the C library, mapped, KB",
    "blocks": "blocks of memory that Python holds",
    "fds": "file descriptors",
    "threads": "threads",
    "guardian_rss_kb": "guardian: RSS, KB",
    "guardian_fds": "guardian: file descriptors",
    "netlink_queue_bytes": "netlink sockets: bytes that wait",
    "netlink_drops": "netlink sockets: drops",
    "packet_queue_bytes": "packet and UDP sockets: bytes that wait",
    "log_bytes": "log, bytes",
    "state_bytes": "state file, bytes",
}
"""What a process holds: name in the document, and for people."""
KERNEL = {
    "sockets": "sockets of the host",
    "netlink_sockets": "netlink sockets",
    "processes": "processes",
    "links": "links",
    "addresses": "addresses",
    "routes": "routes",
    "rules": "rules",
    "nft_lines": "nftables, lines of the ruleset",
    "memberships": "multicast memberships of the interface",
    "sysctls": "sysctls of interfaces, digest of all values",
}
"""What the kernel holds for the host."""

_COUNTS = """
ip -o link | wc -l
ip -o addr | wc -l
{ ip route show table all; ip -6 route show table all; } | wc -l
{ ip rule; ip -6 rule; } | wc -l
nft list ruleset | grep -vc elements
grep -rs . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf | sort | cksum | cut -d' ' -f1
"""
_COUNTED = ("links", "addresses", "routes", "rules", "nft_lines", "sysctls")
SETTLE_TIMEOUT_S = 10.0
LOOKS, LOOK_EVERY_S = 4, 0.05
"""A check of the cluster takes a few milliseconds every two seconds."""


def sample(member: Sidecar) -> dict[str, Any]:
    """All figures of a member that runs."""
    guardian = wait_until(lambda: _only(member.companions()), SETTLE_TIMEOUT_S, f"{member.host.name}: no hook or check runs")
    pid = member.pid
    said = member.host.namespace.run("sh", "-c", _COUNTS).split()
    looks = [_look(member)]
    while len(looks) < LOOKS:
        time.sleep(LOOK_EVERY_S)
        looks.append(_look(member))
    return {
        "rss_kb": member.memory_kb(),
        "pss_kb": _kb(f"/proc/{pid}/smaps_rollup", "Pss:"),
        "heap_kb": _heap_kb(pid),
        **{name: min(look[name] for look in looks) for name in looks[0]},
        "guardian_rss_kb": _kb(f"/proc/{guardian}/status", "VmRSS:"),
        "guardian_fds": len(os.listdir(f"/proc/{guardian}/fd")),
        "netlink_drops": sum(int(row[8]) for row in net_rows(pid, "netlink")),
        "log_bytes": member.log_path.stat().st_size,
        "state_bytes": (member.state_dir / "state.json").stat().st_size,
        "memberships": _memberships(pid, member.host.port().interface),
        **dict(zip(_COUNTED, map(int, said), strict=True)),
    }


def _only(pids: Sequence[int]) -> int | None:
    return pids[0] if len(pids) == 1 else None


def _look(member: Sidecar) -> dict[str, int]:
    """What is more for an instant while a check, a hook or a request runs; of several looks the least counts.

    The status is asked for last: its connection is closed by the next look.
    """
    pid = member.pid
    return {
        "fds": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "netlink_queue_bytes": sum(int(row[4]) for row in net_rows(pid, "netlink")),
        "packet_queue_bytes": _packet_queues(pid),
        "sockets": next(int(row[2]) for row in net_rows(pid, "sockstat", header=0) if row[0] == "sockets:"),
        "netlink_sockets": sum(1 for _ in net_rows(pid, "netlink")),
        "processes": len(member.host.namespace.processes()),
        "blocks": member.status()["memory_blocks"],
    }


def _kb(path: str, name: str) -> int:
    return next(int(line.split()[1]) for line in Path(path).read_text().splitlines() if line.startswith(name))


def _heap_kb(pid: int) -> int:
    """How far the heap reaches: so many of its pages can be touched for the first time. Python's pools for what is small lie elsewhere."""
    heap = next(line.split()[0] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if line.endswith("[heap]"))
    first, end = (int(address, 16) for address in heap.split("-"))
    return (end - first) // 1024


def net_rows(pid: int, name: str, header: int = 1) -> Iterator[list[str]]:
    """The words of each line of a table of /proc/net, as the process sees it."""
    for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[header:]:
        yield line.split()


def _memberships(pid: int, interface: str) -> int:
    """How many times groups have been joined on the interface, by the kernel or a socket; what macvlans join ends with them."""
    joined, device = sum(int(row[3]) for row in net_rows(pid, "igmp6", header=0) if row[1] == interface), ""
    for row in net_rows(pid, "igmp"):
        if row[0].isdigit() and len(row) > 3 and ":" in row:
            device = row[1]
        elif device == interface:
            joined += int(row[1])
    return joined


def _packet_queues(pid: int) -> int:
    """Bytes that the sidecar's packet, UDP and raw sockets have received or are sending."""
    queued = sum(int(row[6]) for row in net_rows(pid, "packet"))
    for name in ("udp", "udp6", "raw", "raw6"):
        queued += sum(int(half, 16) for row in net_rows(pid, name) for half in row[4].split(":"))
    return queued
