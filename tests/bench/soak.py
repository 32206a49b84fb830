"""Hours of failovers: what long-lived sidecars hold must not grow. ``make soak ARGS="--hours 1"`` writes docs/bench/soak.*.

A sample is taken at the end of a cycle of faults, when every group is back where it was.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.bar import Bar
from bench.report import machine
from bench.soak_cluster import Cluster
from bench.soak_page import page, picture, slopes
from bench.soak_samples import sample
from lab.namespace import LabError, become_root
from lab.network import Lab

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "bench"
SAMPLE_EVERY_S = 15.0
"""At least: 600 samples of a run of hours are a picture and a file that can be kept."""
FEWEST_HOSTS = 3
"""Two that live on, of which one takes over when the other suffers, and one that dies."""

Document = dict[str, Any]


def run(lab: Lab, document: Document, groups: int, seconds: float, every_s: float, output: Path | None, bar: Bar | None = None) -> None:
    """Cycles until the time is over; ``document`` grows, and is written when there is a folder for it."""
    cluster = Cluster(lab, groups)
    cluster.start()
    document |= {"samples": {member.host.name: [] for member in cluster.survivors}, "every_s": every_s, "groups": groups}
    began = shown = time.monotonic()
    number, sampled_s = 0, -SAMPLE_EVERY_S
    while time.monotonic() - began < seconds:
        for step in cluster.cycle(number, every_s):
            if bar:
                bar.show(f"{cluster.failovers} failovers, cycle {number + 1}: {step}")
        number += 1
        at_s = time.monotonic() - began
        if at_s >= sampled_s + SAMPLE_EVERY_S:
            sampled_s = at_s
            for member in cluster.survivors:
                document["samples"][member.host.name].append({"at_s": round(at_s, 1), "failovers": cluster.failovers} | sample(member))
        document |= {"failovers": cluster.failovers, "steps": dict(cluster.steps), "unsettled": cluster.unsettled, "seconds": at_s}
        if bar:
            bar.advance(time.monotonic() - shown)
            shown = time.monotonic()
        if output:
            (output / "soak.json").write_text(json.dumps(document, indent=1) + "\n")


def main() -> int:
    """0 when nothing grew and every fault was survived."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, metavar="H", help="how long (default: 1)")
    parser.add_argument(
        "--hosts", type=int, default=4, metavar="N", help=f"members, of which the last one dies (default: 4, at least {FEWEST_HOSTS})"
    )
    parser.add_argument("--groups", type=int, default=24, metavar="N", help="groups on every member (default: 24)")
    parser.add_argument("--every", type=float, default=3.0, metavar="S", help="seconds from fault to fault (default: 3)")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR", help="where the result goes (default: docs/bench)")
    parser.add_argument("--page", action="store_true", help="make page and picture again from the soak.json there is")
    options = parser.parse_args()
    if options.hosts < FEWEST_HOSTS:
        parser.error(f"--hosts: at least {FEWEST_HOSTS}")
    options.output.mkdir(parents=True, exist_ok=True)
    if options.page:
        return write(json.loads((options.output / "soak.json").read_text()), options.output)
    become_root()
    facts = {name: value for name, value in machine("make soak").items() if name not in ("keepalived", "ucarp")}
    document: Document = {"machine": facts, "hosts": options.hosts}
    seconds = options.hours * 3600
    try:
        with Lab.simple(options.hosts) as lab, Bar(seconds) as bar:
            run(lab, document, options.groups, seconds, options.every, options.output, bar)
    except KeyboardInterrupt:
        print("interrupted: what was measured until now counts", flush=True)
    except LabError as error:
        document.setdefault("unsettled", []).append(str(error))
    return write(document, options.output)


def write(document: Document, output: Path) -> int:
    """The document, the page and the picture."""
    (output / "soak.json").write_text(json.dumps(document, indent=1) + "\n")
    (output / "soak.md").write_text(page(document))
    (output / "soak.svg").write_text(picture(document))
    print(page(document))
    return 1 if document["unsettled"] or any(not one.flat for one in slopes(document)) else 0


if __name__ == "__main__":
    sys.exit(main())
