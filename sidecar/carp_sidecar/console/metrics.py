"""The metrics page: turns a status document and measurements into Prometheus families (docs/metrics.md lists them).

Expensive to import, so only the web server's thread does.
"""

__all__ = ["render"]

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from carp_protocol.effects import State
from carp_sidecar.measurements import Measurements

_Samples = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class _Family:
    """One metric of every group: ``samples(group)`` gives the values of ``labels`` and the number."""

    kind: type[CounterMetricFamily | GaugeMetricFamily]
    name: str
    text: str
    samples: Callable[[dict[str, Any]], _Samples]
    labels: tuple[str, ...] = ()


def _single(pick: Callable[[dict[str, Any]], float]) -> Callable[[dict[str, Any]], _Samples]:
    return lambda group: [((), pick(group))]


_FAMILIES = (
    _Family(
        GaugeMetricFamily,
        "carp_state",
        "1 for the state the group is in.",
        lambda g: [((state.value,), g["state"] == state.value) for state in State],
        ("state",),
    ),
    _Family(
        CounterMetricFamily,
        "carp_transitions",
        "State changes, by reason.",
        lambda g: [((reason,), n) for reason, n in g["transitions_by_reason"].items()],
        ("reason",),
    ),
    _Family(
        GaugeMetricFamily,
        "carp_masters_seen",
        "Masters heard lately, this member included; more than 1 is a split brain.",
        _single(lambda g: g["masters_seen"]),
    ),
    _Family(
        CounterMetricFamily,
        "carp_split_brains",
        "Times another master was heard while this member was one.",
        _single(lambda g: g["split_brains"]),
    ),
    _Family(
        CounterMetricFamily,
        "carp_address_conflicts",
        "Times a host that sends no adverts answered for an address of the group, or claimed it, while this member took or held it.",
        _single(lambda g: g["address_conflicts"]),
    ),
    _Family(GaugeMetricFamily, "carp_demotion", "Sum of the demotions of the group.", _single(lambda g: g["demotion"]["total"])),
    _Family(
        GaugeMetricFamily,
        "carp_excluded",
        "1 if the group is out of the election here.",
        _single(lambda g: g["demotion"]["excluded"]),
    ),
    _Family(
        GaugeMetricFamily,
        "carp_gated",
        "1 if a lease in nftables silences this member when it hangs, 0 if only the lifetime of its addresses does.",
        _single(lambda g: g["fence"]["active"] == "Gate"),
    ),
    _Family(CounterMetricFamily, "carp_advertisements_sent", "Adverts sent.", _single(lambda g: g["adverts"]["sent"])),
    _Family(
        CounterMetricFamily,
        "carp_advertisements_received",
        "Packets for the group that were received, the rejected ones too.",
        _single(lambda g: g["adverts"]["received"]),
    ),
    _Family(
        CounterMetricFamily,
        "carp_packets_rejected",
        "Packets that changed nothing, by reason.",
        lambda g: [((reason,), n) for reason, n in g["adverts"]["rejected"].items()],
        ("reason",),
    ),
    _Family(
        GaugeMetricFamily,
        "carp_last_advert_age_seconds",
        "Age of the newest advert of the master; absent while this member is the master or none is heard.",
        lambda g: [((), g["master"]["advert_age_s"])] if g["master"] and not g["master"]["local"] else [],
    ),
    _Family(
        GaugeMetricFamily,
        "carp_interface_up",
        "1 if the interface exists and has a carrier.",
        lambda g: [((g["interface"] or "",), g["interface_state"] == "up")],
        ("interface",),
    ),
    _Family(
        GaugeMetricFamily,
        "carp_address_held",
        "1 if the kernel of this host holds the address.",
        lambda g: [((a["address"].partition("/")[0],), a["held"]) for a in g["addresses"]],
        ("address",),
    ),
    _Family(
        GaugeMetricFamily,
        "carp_health_check_passing",
        "1 if the check passes, 0 if it fails or has not passed yet.",
        lambda g: [((c["name"],), c["passing"] is True) for c in g["health_checks"]],
        ("check",),
    ),
)


class _StatusCollector(Collector):
    """One scrape: families over one status document."""

    def __init__(self, status: dict[str, Any], measurements: Measurements) -> None:
        self._status = status
        self._measurements = measurements

    def collect(self) -> Iterator[Metric]:
        yield from self._process()
        for family in _FAMILIES:
            metric = family.kind(family.name, family.text, labels=("group", *family.labels))
            for group in self._status["groups"]:
                for values, number in family.samples(group):
                    metric.add_metric((group["name"], *values), number)
            yield metric
        takeover = HistogramMetricFamily(
            "carp_takeover_seconds", "From the decision to take over until the kernel had the addresses.", labels=("group",)
        )
        for name, histogram in self._measurements.takeover.items():
            takeover.add_metric([name], histogram.cumulative(), histogram.total)
        yield takeover
        steps = HistogramMetricFamily("carp_takeover_step_seconds", "Steps of the takeovers of all groups.", labels=("step",))
        for name, histogram in self._measurements.steps.items():
            steps.add_metric([name], histogram.cumulative(), histogram.total)
        yield steps

    def _process(self) -> Iterator[Metric]:
        config = self._status["config"]
        build = {"version": self._status["version"], "python": platform.python_version()}
        yield InfoMetricFamily("carp_build", "Version of the sidecar and of its Python.", build)
        yield GaugeMetricFamily("carp_config_generation", "Generation of the running configuration.", config["generation"])
        problems = "Problems of the newest configuration, which was refused; 0: it runs."
        yield GaugeMetricFamily("carp_config_problems", problems, len(config["problems"]))
        text = "Blocks of memory that Python holds; a leak raises it without end."
        yield GaugeMetricFamily("carp_memory_blocks", text, self._status["memory_blocks"])
        late = self._measurements.loop_lateness
        text = "How late the event loop woke after its deadlines."
        yield HistogramMetricFamily("carp_loop_lateness_seconds", text, late.cumulative(), late.total)


def render(status: dict[str, Any], measurements: Measurements, accept: str = "") -> tuple[bytes, str]:
    """The page and its content type, in the format the client accepts."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status, measurements))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
