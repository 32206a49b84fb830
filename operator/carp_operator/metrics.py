"""Figures of the operator for Prometheus (docs/metrics.md)."""

__all__ = ["Metrics"]

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from carp_operator.plan.world import World

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One registry; ``text`` is what a scrape gets."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.reconciles = Counter("carp_operator_reconcile", "Plans carried out", ["result"], registry=self._registry)
        self.duration = Histogram(
            "carp_operator_reconcile_duration_seconds", "From the change to everything written", buckets=_SECONDS, registry=self._registry
        )
        self.writes = Counter("carp_operator_api_writes", "Objects written to the API server", ["kind", "result"], registry=self._registry)
        self.objects = Gauge("carp_operator_objects", "Objects known", ["kind"], registry=self._registry)
        self.leader = Gauge("carp_operator_leader", "1 while this operator acts", registry=self._registry)
        self.groups = Gauge("carp_operator_groups", "Groups by condition", ["condition", "status"], registry=self._registry)
        self.last_reconcile = Gauge(
            "carp_operator_last_reconcile_timestamp_seconds", "When the last plan was carried out", registry=self._registry
        )

    def text(self, world: World | None) -> bytes:
        """The exposition, with the objects counted now; without a world while another operator acts."""
        world = world or World()
        self.objects.labels("CarpGroup").set(len(world.groups))
        self.objects.labels("Node").set(len(world.nodes))
        self.objects.labels("CarpNode").set(len(world.carp_nodes))
        self.groups.clear()
        for group in world.groups.values():
            for condition in group.status.raw.get("conditions") or ():
                self.groups.labels(condition["type"], condition["status"]).inc()
        return generate_latest(self._registry)
