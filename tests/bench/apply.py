#!/usr/bin/env python3
"""How long it takes from `kubectl apply` to an address that answers, at the defaults. `make bench-apply` writes docs/bench/apply.md.

Three nodes in network namespaces, a real API server, the operator, real agents and sidecars. The clock starts with kubectl's process.
"""

__all__ = ["main"]

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from carp_operator.api.group_schema import group_crd
from carp_operator.api.node_schema import node_crd
from lab.cluster import Cluster
from lab.control_plane import ControlPlane
from lab.fixtures import simple_lab
from lab.groups import GROUP, wait_condition
from lab.manifests import carp_group
from lab.namespace import wait_until
from lab.prober import Prober
from lab.programs import find
from lab.sidecar import VIP4

RUNS = 20
REPORT = Path(__file__).resolve().parents[2] / "docs/bench/apply"
STEPS = ("kubectl has ended", "first ARP answer", "first ping answer", "status says Ready")


def one_run(cluster: Cluster) -> dict[str, float]:
    """Milliseconds since the start of kubectl, by step."""
    manifest = json.dumps(carp_group("web", VIP4))
    kubectl, plane = str(find("kubectl")), cluster.plane
    environment = [f"HOME={plane.directory}", f"KUBECONFIG={plane._local_admin}"]
    with Prober(cluster.lab.client, VIP4, ask=True) as prober:
        wait_until(lambda: prober.live.get("sent", 0) > 100, 10, "the prober runs")
        started = time.monotonic()
        argv = plane.namespace.command(["env", *environment, kubectl, "apply", "-f", "-"])
        subprocess.run(argv, input=manifest, text=True, check=True, capture_output=True, timeout=30)
        applied = time.monotonic()
        prober.wait_answering()
        wait_condition(cluster.api, "web", "Ready", "True")
        is_ready = time.monotonic()
        seen = prober.stop()
    offset = (started - seen.started_s) * 1000
    answers = [claim["from_ms"] for claim in seen.claims]
    assert seen.first_answer_ms is not None
    moments = ((applied - started) * 1000, min(answers) - offset, seen.first_answer_ms - offset, (is_ready - started) * 1000)
    return dict(zip(STEPS, moments, strict=True))


def clean(cluster: Cluster) -> None:
    """Nothing of the run is left, and nobody is busy with it."""
    cluster.api.delete(GROUP, "web")
    wait_until(lambda: not any(member.host.held_addresses(VIP4) for member in cluster.members.values()), 20, "the address is gone")
    cluster.operator.settle(1.0)


def main() -> int:
    """Run it and write the report."""
    runs = []
    with contextlib.closing(ControlPlane([group_crd(), node_crd()])) as plane, simple_lab() as lab, plane.plugged_into(lab):
        cluster = Cluster(plane, lab)
        for number in range(RUNS + 1):
            run = one_run(cluster)
            clean(cluster)
            if number:  # the first one warms the caches of kubectl
                runs.append(run)
            print(f"{number:2} " + "  ".join(f"{step} {run[step]:.0f} ms" for step in STEPS), file=sys.stderr, flush=True)
        cluster.close()
    write(runs)
    return 0


def write(runs: list[dict[str, float]]) -> None:
    """The page, and the figures it was made from."""
    about = {"machine": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version(), "command": "make bench-apply"}
    REPORT.with_suffix(".json").write_text(json.dumps({"about": about, "runs": runs}, indent=1) + "\n")
    lines = [
        "# From `kubectl apply` to an answer",
        "",
        f"Milliseconds since kubectl was started, {len(runs)} runs, a CarpGroup with nothing but an address, three nodes.",
        "API server, etcd, operator, agents, sidecars and the client share one machine",
        f"({about['cores']} cores, {about['machine']}, Python {about['python']}).",
        f"`{about['command']}` makes this page anew.",
        "",
        "| step | median | fastest | slowest |",
        "|---|---|---|---|",
    ]
    for step in STEPS:
        values = [run[step] for run in runs]
        lines.append(f"| {step} | {statistics.median(values):.0f} | {min(values):.0f} | {max(values):.0f} |")
    REPORT.with_suffix(".md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
