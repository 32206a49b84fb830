"""The same faults for every contender, as a client outside sees them: who answers ARP, and do new connections through the Service come up.

A fault is a list of phases; what was lost is told for each of them.
"""

__all__ = ["APPLIES", "FAULTS", "PHASES", "SLOW", "measure", "measure_apply"]

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.cluster_contenders import PORT, Contender
from lab.namespace import LabError
from lab.prober import Prober, ProbeResult
from lab.real_cluster import VIP, RealCluster

QUESTION_MS, KNOCK_MS = 10.0, 5.0
APPLIES = 2
"""Measured in each run; one more goes before, which fills kubectl's cache."""
API_AWAY_S = 60.0
ANSWER_S = 60.0
"""So long is waited for an answer after a node's death or return; who is silent then is called silent."""
REST_S = 3.0
"""After all is well again: a late change of mind still counts."""
SILENT_MS = 200.0


@dataclass(slots=True)
class Watch:
    """A contender in its cluster, and the two probers."""

    cluster: RealCluster
    contender: Contender
    questions: Prober
    knocks: Prober
    holder: str = ""
    moments_s: list[float] = field(default_factory=list)

    def wait_answering(self) -> None:
        """Until both are answered without a gap."""
        self.questions.wait_answering(ANSWER_S)
        self.knocks.wait_answering(ANSWER_S)


Deed = Callable[[Watch], None]


def _delete_pod(watch: Watch) -> None:
    watch.contender.delete_pod(watch.cluster, watch.holder)
    _rest(watch)


def _kill(watch: Watch) -> None:
    watch.contender.kill(watch.cluster, watch.holder)
    time.sleep(REST_S)
    _rest(watch)


def _power_off(watch: Watch) -> None:
    watch.cluster[watch.holder].power_off()
    with contextlib.suppress(LabError):
        watch.questions.wait_silent(REST_S)
    with contextlib.suppress(LabError):
        watch.questions.wait_answering(ANSWER_S)
    time.sleep(REST_S)


def _power_on(watch: Watch) -> None:
    watch.cluster[watch.holder].power_on()
    watch.cluster.wait_nodes(watch.holder)
    _rest(watch)


def _stop_api(watch: Watch) -> None:
    watch.cluster.plane.stop_api()
    time.sleep(API_AWAY_S)


def _return_all(watch: Watch) -> None:
    watch.cluster.plane.start_api()
    _power_on(watch)


def _rest(watch: Watch) -> None:
    """Until all is well, as far as pods and Nodes can tell; who answers nothing even then is silent."""
    watch.contender.settle(watch.cluster)
    with contextlib.suppress(LabError):
        watch.wait_answering()
    time.sleep(REST_S)


FAULTS: dict[str, dict[str, Deed]] = {
    "pod deleted": {"pod deleted": _delete_pod},
    "process killed": {"process killed": _kill},
    "node dies": {"node dies": _power_off, "the node returns": _power_on},
    "control plane down": {
        f"control plane down for {API_AWAY_S:.0f} s": _stop_api,
        "then the node dies": _power_off,
        "control plane and node return": _return_all,
    },
}
"""Fault: its phases, done to the node that answers for the address."""
SLOW = ("control plane down",)
"""Those that take minutes."""
PHASES = [phase for phases in FAULTS.values() for phase in phases]


@contextlib.contextmanager
def _watching(cluster: RealCluster, contender: Contender) -> Iterator[Watch]:
    questions = Prober(cluster.client, VIP, every_ms=QUESTION_MS, how=["--question"])
    with questions, Prober(cluster.client, VIP, every_ms=KNOCK_MS, how=["--knock", str(PORT)]) as knocks:
        yield Watch(cluster, contender, questions, knocks)


def measure(cluster: RealCluster, contender: Contender, fault: str) -> dict[str, Any]:
    """One fault, from health to health: for each phase, what was lost of either kind of probe."""
    cluster.repair()
    contender.settle(cluster)
    with _watching(cluster, contender) as watch:
        watch.wait_answering()
        watch.holder = contender.holder(cluster, watch.questions)
        began = {}
        for phase, deed in FAULTS[fault].items():
            began[phase] = time.monotonic()
            deed(watch)
        seen = {"arp": watch.questions.stop(), "tcp": watch.knocks.stop()}
    ends = [*list(began.values())[1:], time.monotonic()]
    phases = {
        phase: {"lasted_s": round(until - since, 1)} | {kind: _lost(result, since, until) for kind, result in seen.items()}
        for (phase, since), until in zip(began.items(), ends, strict=True)
    }
    return {"phases": phases, "two_answers_ms": seen["arp"].duplicates * QUESTION_MS, "load": round(os.getloadavg()[0], 2)}


def _lost(result: ProbeResult, since_s: float, until_s: float) -> dict[str, Any]:
    """The longest outage within a phase; ``silent``: it lasted until the end of the phase."""
    spans = result.between(since_s, until_s)
    start, length = max(spans, key=lambda span: span[1], default=(0.0, 0.0))
    silent = length > SILENT_MS and start + length > (until_s - since_s) * 1000 - SILENT_MS
    return {"longest_ms": length, "after_ms": start, "silent": silent, "total_ms": round(sum(length for _, length in spans), 2)}


def measure_apply(cluster: RealCluster, contender: Contender) -> list[float]:
    """Milliseconds from the start of ``kubectl apply`` to the first ARP answer. The address stays at the end."""
    found = []
    for number in range(APPLIES + 1):
        if number:
            cluster.plane.kubectl("delete", "-f", "-", stdin=json.dumps(contender.asked))
        with Prober(cluster.client, VIP, every_ms=QUESTION_MS, how=["--question"]) as questions:
            questions.wait_silent()
            time.sleep(REST_S)
            started = time.monotonic()
            cluster.plane.kubectl("apply", "-f", "-", stdin=json.dumps(contender.asked))
            questions.wait_answering(ANSWER_S)
            seen = questions.stop()
        silence = seen.since(started)[0]
        found.append(round(silence.start_ms + silence.duration_ms - (started - seen.started_s) * 1000, 1))
    return found[1:]
