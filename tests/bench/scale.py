#!/usr/bin/env python3
"""The operator at scale: 1000 groups on 100 nodes, a real API server, stub agents. `make bench-scale` writes docs/bench/scale.md.

Ten racks of ten nodes, each a network of its own with a hundred groups. Everything runs on one machine: the API server,
etcd, the operator and the stub agents share its cores, so times are upper bounds.
"""

__all__ = ["main"]

import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from carp_operator.api.group_schema import group_crd
from carp_operator.api.node_schema import node_crd
from lab.control_plane import ControlPlane
from lab.kube_client import Json
from lab.manifests import carp_group
from lab.namespace import wait_until
from lab.operator_process import NAMESPACE, Operator
from lab.stub_agents import StubAgents

RACKS, NODES_OF_A_RACK, GROUPS_OF_A_RACK = 10, 10, 100
GROUP = "kubecarp.io/v1alpha1/CarpGroup"
LONG_S = 600.0
IDLE_S = 30.0
CHANGES = 10
REPORT = Path(__file__).resolve().parents[2] / "docs/bench/scale"


def main() -> int:
    """Run it, and write the report; 1 if something did not settle."""
    figures: dict[str, float] = {}
    racks = [[f"r{rack}-n{number}" for number in range(NODES_OF_A_RACK)] for rack in range(RACKS)]
    with contextlib.closing(ControlPlane([group_crd(), node_crd()])) as plane:
        plane.add_namespace(NAMESPACE)
        interfaces = {}
        for rack, names in enumerate(racks):
            for number, name in enumerate(names, 1):
                plane.add_node(name, f"10.{rack}.0.{number}", labels={"rack": str(rack)})
                interfaces[name] = [{"name": "eth0", "state": "Up", "addresses": [f"10.{rack}.0.{number}/16"]}]
        operator = Operator(plane, plane._local_admin, plane.directory).start()
        with StubAgents(plane, interfaces) as agents:
            measure(plane, operator, agents, figures)
        figures["exit_code"] = operator.stop()
    write(figures)
    return 0


def measure(plane: ControlPlane, operator: Operator, agents: StubAgents, figures: dict[str, float]) -> None:
    """Everything that is measured, in order."""
    wait_until(
        lambda: len(plane.api.list("kubecarp.io/v1alpha1/CarpNode")) == RACKS * NODES_OF_A_RACK, LONG_S, "every node has its CarpNode", 0.2
    )
    quiet(operator)
    say("100 nodes are known; making 1000 groups")
    cpu, started = operator.cpu_s(), time.monotonic()
    for number in range(GROUPS_OF_A_RACK):
        for rack in range(RACKS):
            spec = {"nodeSelector": {"matchLabels": {"rack": str(rack)}}}
            plane.api.create(carp_group(f"r{rack}-g{number}", f"10.{rack}.{100 + number // 200}.{number % 200 + 1}", **spec))
    figures["create_s"] = time.monotonic() - started
    wait_until(lambda: condition(operator, "Programmed") == 1000, LONG_S, "every group is programmed", 0.2)
    figures["programmed_s"] = time.monotonic() - started
    wait_until(lambda: condition(operator, "Ready") == 1000, LONG_S, "every group is ready", 0.2)
    quiet(operator)
    figures["cpu_create_s"] = operator.cpu_s() - cpu
    figures["rss_mb"] = operator.memory_kb() / 1024
    figures |= {f"writes_create_{kind}": number for kind, number in writes(operator).items()}
    say("one change at a time")
    changed = [one_change(plane, operator, number) for number in range(CHANGES)]
    figures["change_s"] = statistics.median(entry["seconds"] for entry in changed)
    figures["change_worst_s"] = max(entry["seconds"] for entry in changed)
    figures["change_cpu_s"] = statistics.median(entry["cpu"] for entry in changed)
    for kind in ("CarpNode", "CarpGroup", "Secret", "Event"):
        figures[f"change_writes_{kind}"] = max(entry[kind] for entry in changed)
    say(f"nothing happens for {IDLE_S:g} s")
    before, cpu = writes(operator), operator.cpu_s()
    time.sleep(IDLE_S)
    figures["idle_writes"] = sum(writes(operator).values()) - sum(before.values())
    figures["idle_cpu_percent"] = 100 * (operator.cpu_s() - cpu) / IDLE_S
    say("the operator is killed and started again")
    operator.kill()
    started, cpu_before = time.monotonic(), 0.0
    again = Operator(plane, plane._local_admin, plane.directory, port=9123).start("--no-leader-election")
    wait_until(lambda: condition(again, "Ready") == 1000, LONG_S, "the new operator knows everything", 0.1)
    quiet(again)
    figures["restart_s"] = time.monotonic() - started - QUIET_S
    figures["restart_writes"] = sum(writes(again).values())
    figures["restart_cpu_s"] = again.cpu_s() - cpu_before
    again.stop()
    operator.start()


QUIET_S = 2.0


def quiet(operator: Operator) -> None:
    """Until nothing was written for a while."""

    def still() -> bool:
        before = writes(operator)
        time.sleep(QUIET_S)
        return writes(operator) == before

    wait_until(still, LONG_S, "the operator comes to rest", 0.0)


def one_change(plane: ControlPlane, operator: Operator, number: int) -> dict[str, float]:
    """Another interval for one group: the time until it is programmed, and what was written for it."""
    name = f"r{number % RACKS}-g{number}"
    before, cpu, started = writes(operator), operator.cpu_s(), time.monotonic()
    generation = plane.api.patch(GROUP, name, {"spec": {"advertisementInterval": f"{200 + number}ms"}})["metadata"]["generation"]
    plane.api.wait(GROUP, name, lambda group: programmed(group, generation), "is programmed", timeout_s=LONG_S)
    seconds = time.monotonic() - started
    quiet(operator)
    after = writes(operator)
    return {kind: after.get(kind, 0) - before.get(kind, 0) for kind in ("CarpNode", "CarpGroup", "Secret", "Event")} | {
        "seconds": seconds,
        "cpu": operator.cpu_s() - cpu,
    }


def programmed(group: Json, generation: int) -> bool:
    conditions = group["status"]["conditions"]
    return any(one["type"] == "Programmed" and one["status"] == "True" and one["observedGeneration"] == generation for one in conditions)


def condition(operator: Operator, name: str) -> int:
    """How many groups are true in it."""
    return int(operator.figures().get(f'carp_operator_groups{{condition="{name}",status="True"}}', 0))


def writes(operator: Operator) -> dict[str, float]:
    """Objects written so far, by kind."""
    found: dict[str, float] = {}
    for name, value in operator.figures().items():
        if name.startswith("carp_operator_api_writes_total"):
            kind = name.split('kind="')[1].split('"')[0]
            found[kind] = found.get(kind, 0) + value
    return found


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


ROWS: list[tuple[str, Callable[[dict[str, float]], str]]] = [
    ("1000 groups made one after the other by one client", lambda f: f"{f['create_s']:.1f} s"),
    ("from the first to all programmed on their nodes", lambda f: f"{f['programmed_s']:.1f} s"),
    ("processor time of the operator for it", lambda f: f"{f['cpu_create_s']:.1f} s"),
    ("objects written for it", lambda f: written(f, "writes_create_")),
    ("memory of the operator (RSS)", lambda f: f"{f['rss_mb']:.0f} MB"),
    (
        "one group of ten members changed: until programmed everywhere, median (worst)",
        lambda f: f"{f['change_s'] * 1000:.0f} ms ({f['change_worst_s'] * 1000:.0f} ms)",
    ),
    ("objects written for it, worst", lambda f: written(f, "change_writes_")),
    ("processor time for it, median", lambda f: f"{f['change_cpu_s'] * 1000:.0f} ms"),
    (f"nothing happens for {IDLE_S:g} s: objects written (the lease apart)", lambda f: f"{f['idle_writes']:.0f}"),
    ("nothing happens: processor", lambda f: f"{f['idle_cpu_percent']:.2f} % of a core"),
    (
        "operator killed and started: until it knows everything",
        lambda f: f"{f['restart_s']:.1f} s, {f['restart_cpu_s']:.1f} s of processor",
    ),
    ("objects written after that start", lambda f: f"{f['restart_writes']:.0f}"),
]


def written(figures: dict[str, float], prefix: str) -> str:
    """Numbers of objects by kind."""
    return ", ".join(f"{number:.0f} {key.removeprefix(prefix)}" for key, number in figures.items() if key.startswith(prefix))


def write(figures: dict[str, float]) -> None:
    """The page, and the figures it was made from."""
    about = {"machine": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version(), "command": "make bench-scale"}
    REPORT.with_suffix(".json").write_text(json.dumps({"about": about, "figures": figures}, indent=1) + "\n")
    lines = [
        "# The operator at scale",
        "",
        "1000 groups on 100 nodes: ten networks with ten nodes and a hundred groups each. A real kube-apiserver and etcd, the real",
        "operator, stub agents that answer at once.",
        f"All of it on one machine ({about['cores']} cores, {about['machine']}, Python {about['python']}),",
        f"so times are upper bounds. `{about['command']}` makes this page anew.",
        "",
        "| what | measured |",
        "|---|---|",
        *(f"| {title} | {show(figures)} |" for title, show in ROWS),
        "",
    ]
    REPORT.with_suffix(".md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
