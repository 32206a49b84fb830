#!/usr/bin/env python3
"""A thousand segments of 100 nodes and 255 groups, in virtual time: `make bench-simulation` writes docs/bench/simulation.md.

Measures and predicts; what it means is on the page (``simulation_page``). Everything is decided by seeds.
"""

__all__ = ["main"]

import hashlib
import json
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.loss import burst_share, false_per_advert, patience_s
from bench.segment import BIN_S, LAN, Group, Segment, Weather, windows
from bench.simulation_page import page
from carp_operator.plan.ranks import rank_members
from carp_protocol.config import Authentication, GroupConfig
from simulation.members import make_config

NODES, GROUPS = 100, 255
KNOWN = 16
"""Members that a member has on record after a start, besides the first eight."""
INTERVALS_S = (1.0, 0.2, 0.1, 0.01)
REPORT = Path(__file__).resolve().parents[2] / "docs/bench"
BUSY_VM = replace(LAN, pause_s=0.05, pause_every_s=10.0)
WIFI = Weather(loss=0.01, delay_s=0.002, jitter_s=0.005)


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def configs(nodes: int, groups: int, interval_s: float, **fields: Any) -> list[list[GroupConfig]]:
    """What the operator would give them: for each group the members in the order of the hosts."""
    names = [f"node-{number}" for number in range(nodes)]
    found = []
    for number in range(groups):
        name = f"group-{number}"
        ranks = rank_members(name, names, {})
        key = Authentication(key=hashlib.sha256(name.encode()).digest())
        common: dict[str, Any] = {"name": name, "vhid": number + 1, "advertisement_interval_s": interval_s, "authentication": key} | fields
        found.append([make_config(advskew=ranks[node], **common) for node in names])
    return found


def steady(nodes: int, groups: int, interval_s: float, seed: int, weather: Weather = LAN) -> Segment:
    """Some intervals after the start; who knows whom is set up as a start leaves it."""
    segment = Segment(configs(nodes, groups, interval_s), seed, weather)
    for group in segment.groups:
        ranked = sorted(group.members, key=lambda member: member.engine.config.advskew)
        begin = segment.now + segment.dice.random() * interval_s
        segment.start(ranked[0], begin)
        for member in ranked:
            segment.acquaint(member, ranked[:8] + segment.dice.sample(ranked, min(KNOWN, nodes)))
            if member is not ranked[0]:
                segment.join(member, begin + 0.06)
    segment.run(segment.now + 0.2 + 5 * interval_s)
    return segment


def quantiles(values: list[float]) -> dict[str, float]:
    """In milliseconds, but for the number."""
    ordered = sorted(values)
    parts = {"median": 0.5, "p90": 0.9, "p99": 0.99, "worst": 1.0}
    return {"n": len(ordered)} | {name: 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] for name, part in parts.items()}


def power_cut(groups: int, interval_s: float, seed: int, nodes: int = NODES) -> dict[str, Any]:
    """Half of the hosts at once, at a random moment."""
    segment = steady(nodes, groups, interval_s, seed)
    began = segment.now
    segment.run(began + 2 * interval_s + segment.dice.random() * interval_s)
    cut, end = segment.now, segment.now + 4.5 * interval_s + 0.3
    received = {host: host.received for host in segment.hosts}
    busy = {host: host.busy_s for host in segment.hosts}
    for host in segment.hosts:
        host.longest_queue = 0
    segment.kill(segment.dice.sample(segment.hosts, nodes // 2))
    orphans = [group for group in segment.groups if not group.masters]
    segment.run(end)
    living = [host for host in segment.hosts if host.alive]
    before, after = [*windows(segment.multicasts, began, cut)], [*windows(segment.multicasts, cut, end)]
    return {
        "interval_s": interval_s, "groups": groups, "nodes": nodes, "orphans": len(orphans), "seed": seed,
        "without_ms": quantiles([group.time_with(range(1), cut, end) for group in orphans]),
        "with_two_ms": quantiles([group.time_with(range(2, nodes), cut, end) for group in segment.groups]),
        "takeovers": sum(takeovers_since(group, cut) for group in segment.groups),
        "by_reason": Counter(reason for group in orphans for at, _, reason in group.takeovers if at >= cut),
        "one_master": sum(group.masters == 1 for group in segment.groups),
        "steady_per_s": sum(before) / len(before) / BIN_S, "steady_peak": max(before), "cut_peak": max(after),
        "probe_peak": max(windows(segment.unicasts, cut, end)),
        "received_by_a_node": max(host.received - received[host] for host in living),
        "busy_share": max(host.busy_s - busy[host] for host in living) / (end - cut),
        "longest_queue": max(host.longest_queue for host in living),
    }  # fmt: skip


def takeovers_since(group: Group, since: float) -> int:
    return sum(at >= since for at, *_ in group.takeovers)


def start(nodes: int, within_s: float) -> dict[str, Any]:
    """One group whose members start within so long, from nothing."""
    segment = Segment(configs(nodes, 1, 0.2), 1)
    (group,) = segment.groups
    for member in group.members:
        segment.start(member, segment.now + segment.dice.random() * within_s)
    began = segment.now
    segment.run(began + within_s + 1.0)
    return {
        "nodes": nodes, "within_s": within_s, "packets": sum(segment.kinds.values()), "peak": max(segment.multicasts.values()),
        "takeovers": len(group.takeovers), "two_ms": 1000 * group.time_with(range(2, nodes), began, segment.now),
        "first_ms": 1000 * (group.changes[0][0] - began),
    }  # fmt: skip


def load(nodes: int, groups: int) -> dict[str, Any]:
    """What a node handles in a second while nothing happens, adverts every 200 ms."""
    segment = steady(nodes, groups, 0.2, 1)
    handled, busy, began = segment.events, sum(host.busy_s for host in segment.hosts), time.process_time()
    received = sum(host.received for host in segment.hosts)
    segment.run(segment.now + 1.0)
    return {
        "nodes": nodes, "groups": groups, "received_per_s": (sum(host.received for host in segment.hosts) - received) / nodes,
        "busy_share": (sum(host.busy_s for host in segment.hosts) - busy) / nodes, "events": (segment.events - handled) / nodes,
        "python_us": 1e6 * (time.process_time() - began) / max(1, segment.events - handled),
    }  # fmt: skip


def living_master(interval_s: float, weather: Weather, adverts: int, *, suspicion: bool, members: int = 3) -> dict[str, Any]:
    """Takeovers although nobody dies."""
    segment = Segment(configs(members, 1, interval_s, suspicion=suspicion), int(1000 * interval_s) + suspicion, weather)
    (group,) = segment.groups
    ranked = sorted(group.members, key=lambda member: member.engine.config.advskew)
    segment.start(ranked[0], segment.now)
    for member in ranked:
        segment.acquaint(member, ranked)
        if member is not ranked[0]:
            segment.join(member, segment.now + 0.1)
    segment.run(segment.now + 0.2 + 10 * interval_s)
    since = segment.now
    segment.run(since + adverts * interval_s)
    took = takeovers_since(group, since)
    return {
        "interval_s": interval_s, "suspicion": suspicion, "members": members, "adverts": adverts, "takeovers": took,
        "per_advert": took / adverts / (members - 1), "per_hour": 3600 * took / (adverts * interval_s),
        "two_share": group.time_with(range(2, 9), since, segment.now) / (adverts * interval_s),
    }  # fmt: skip


def false_failovers() -> dict[str, Any]:
    """By loss, against the formula; by bursts, against the formula; by jitter, as simulated."""
    by_loss, by_burst, by_jitter = [], [], []
    for suspicion in (False, True):
        for interval_s in INTERVALS_S:
            for loss, adverts in ((0.1, 60_000), (0.3, 10_000)):
                one = living_master(interval_s, replace(LAN, loss=loss), adverts, suspicion=suspicion)
                by_loss.append(one | {"loss": loss, "formula": false_per_advert(loss, suspicion=suspicion)})
            burst_s, every_s = 0.2, 30.0
            weather = replace(LAN, burst_s=burst_s, burst_every_s=every_s)
            seconds = 20_000 if interval_s >= 0.1 else 1500
            one = living_master(interval_s, weather, int(seconds / interval_s), suspicion=suspicion)
            share = burst_share(interval_s, burst_s, patience_s(interval_s, suspicion=suspicion))
            bursts = 3 * one["adverts"] * interval_s / every_s
            by_burst.append(one | {"burst_s": burst_s, "per_burst": one["takeovers"] / bursts, "formula": share})
            for name, what in (("LAN", LAN), ("Wi-Fi", WIFI), ("busy VM", BUSY_VM)):
                seconds = 7200 if interval_s >= 0.1 else 600
                by_jitter.append(living_master(interval_s, what, int(seconds / interval_s), suspicion=suspicion) | {"network": name})
    return {"loss": by_loss, "burst": by_burst, "jitter": by_jitter}


def host_dies(interval_s: float, runs: int) -> list[float]:
    """Outages of two members in milliseconds, as the failover bench makes them, without what the kernel takes."""
    outages = []
    for seed in range(runs):
        pair = [[make_config(advskew=rank, advertisement_interval_s=interval_s) for rank in (0, 1)]]
        segment = Segment(pair, seed, LAN)
        (group,) = segment.groups
        segment.start(group.members[0], segment.now)
        segment.start(group.members[1], segment.now + 0.5)
        segment.run(segment.now + 0.6 + (8 + segment.dice.random()) * interval_s)
        died = segment.now
        segment.kill(segment.hosts[:1])
        segment.run(died + 4 * interval_s)
        outages.append(1000 * group.time_with(range(1), died, segment.now))
    return sorted(outages)


def against_the_bench() -> list[dict[str, Any]]:
    """Medians and how far the distributions are apart (Kolmogorov-Smirnov), after adding one constant for kernel and loop."""
    cells = json.loads((REPORT / "outages.json").read_text())["cells"]
    rows: list[dict[str, Any]] = []
    for interval_s in INTERVALS_S:
        same = [one for one in cells if one["contender"] == "kubecarp" and one["fault"] == "host dies" and one.get("groups", 1) == 1]
        measured = sorted(run["4"]["longest_ms"] for one in same if one["interval_s"] == interval_s for run in one["runs"])
        if measured:
            rows.append({"interval_s": interval_s, "measured": measured, "simulated": host_dies(interval_s, 400)})
    offset = next((median(one["measured"]) - median(one["simulated"]) for one in rows if one["interval_s"] == min(INTERVALS_S)), 0.0)
    for one in rows:
        model = [value + offset for value in one["simulated"]]
        low, high = sorted(one["measured"])[len(one["measured"]) // 2 - 4 : len(one["measured"]) // 2 + 5 : 8]
        one |= {"offset_ms": offset, "model_median": median(model), "measured_median": median(one["measured"]), "low": low, "high": high}
        steps = enumerate(one["measured"])
        below = [(place, mean(value <= at for value in model)) for place, at in steps]
        one["distance"] = max(max(share - place / len(below), (place + 1) / len(below) - share) for place, share in below)
    return rows


def main() -> int:
    figures: dict[str, Any] = {"cut": [], "start": [], "load": []}
    for interval_s, groups, seeds in ((1.0, GROUPS, 2), (0.2, GROUPS, 3), (0.1, GROUPS, 2), (0.01, 25, 1)):
        for seed in range(seeds):
            say(f"half of {NODES} hosts with {groups} groups die, adverts every {interval_s * 1000:g} ms, seed {seed}")
            figures["cut"].append(power_cut(groups, interval_s, seed))
    for nodes, within_s in ((16, 0.0001), (32, 0.0001), (64, 0.0001), (100, 0.0001), (100, 10.0)):
        say(f"a group of {nodes} starts within {within_s:g} s")
        figures["start"].append(start(nodes, within_s))
    for nodes, groups in ((10, 50), (25, 50), (50, 50), (100, 50), (50, 25), (50, 100), (50, 200)):
        figures["load"].append(load(nodes, groups))
    say("masters that are well: loss, bursts, jitter")
    figures["false"] = false_failovers()
    say("against docs/bench/outages.json")
    figures["bench"] = against_the_bench()
    (REPORT / "simulation.json").write_text(json.dumps(figures, indent=1) + "\n")
    (REPORT / "simulation.md").write_text(page(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
