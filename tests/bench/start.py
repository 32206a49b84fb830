"""How soon a sidecar that is alone answers after its start."""

__all__ = ["start_to_answer_ms"]

import time

from bench.contenders import Cell, kubecarp_member
from lab.namespace import wait_until
from lab.network import Lab
from lab.prober import Prober
from lab.sidecar import VIP4


def start_to_answer_ms(interval_s: float) -> float:
    """From the start of the process to the first answered probe, nobody else being there."""
    cell = Cell("kubecarp", "host dies", interval_s, True, (4,))
    with Lab.simple(1) as lab, Prober(lab.client, VIP4) as prober:
        wait_until(lambda: prober.live.get("sent", 0) > 100, 10, "the prober runs")
        started_s = time.monotonic()
        kubecarp_member(lab, lab["a"], 0, cell).start(wait=False)
        prober.wait_answering()
        result = prober.stop()
    assert result.first_answer_ms is not None
    return round(result.first_answer_ms - (started_s - result.started_s) * 1000, 1)
