"""The metrics page: what a status document becomes, and that the documentation lists exactly that."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from carp_agent.agent import Stats
from carp_agent.endpoints import page
from carp_agent.kubeapi import Contact
from carp_agent.logs import Log
from carp_operator.metrics import Metrics as OperatorMetrics
from carp_sidecar.console.metrics import render
from carp_sidecar.measurements import Histogram, Measurements
from unit.fake_daemon import group_status, status_document

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def full_status() -> dict[str, object]:
    """A status in which every metric has a sample."""
    checks = [
        {"name": "web", "passing": True, "message": "", "consecutive": 1},
        {"name": "dns", "passing": None, "message": "", "consecutive": 0},
    ]
    master = group_status("uplink", state="MASTER", master={"source": "10.0.0.1", "local": True, "advert_age_s": 0.0}, interface=None)
    return status_document(group_status(health_checks=checks), master)


def samples(status: dict[str, object], measurements: Measurements | None = None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = render(status, measurements or Measurements())[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_values() -> None:
    got = samples(full_status())
    assert got[key("carp_state", group="intranet", state="BACKUP")] == 1
    assert got[key("carp_state", group="intranet", state="MASTER")] == 0
    assert got[key("carp_state", group="uplink", state="MASTER")] == 1
    assert got[key("carp_transitions_total", group="intranet", reason="started")] == 1
    assert got[key("carp_packets_rejected_total", group="intranet", reason="bad-digest")] == 2
    assert got[key("carp_advertisements_received_total", group="intranet")] == 7
    assert got[key("carp_address_held", group="intranet", address="172.27.27.13")] == 0
    assert got[key("carp_interface_up", group="uplink", interface="")] == 1
    assert got[key("carp_health_check_passing", group="intranet", check="web")] == 1
    assert got[key("carp_health_check_passing", group="intranet", check="dns")] == 0
    assert got[key("carp_config_generation")] == 4
    assert got[key("carp_memory_blocks")] == 141_210


def test_the_age_of_an_advert_is_about_another_master() -> None:
    got = samples(full_status())
    assert got[key("carp_last_advert_age_seconds", group="intranet")] == 0.1
    assert key("carp_last_advert_age_seconds", group="uplink") not in got
    assert key("carp_last_advert_age_seconds", group="intranet") not in samples(status_document(group_status(master=None)))


def test_histograms() -> None:
    measurements = Measurements()
    measurements.observe_lateness(0.0004)
    measurements.observe_lateness(99.0)
    measurements.observe_takeover("intranet", 0.001)
    measurements.observe_takeover("gone", 0.001)
    measurements.forget("gone")
    measurements.observe_step("decision", 0.02)
    got = samples(full_status(), measurements)
    assert got[key("carp_loop_lateness_seconds_count")] == 2
    assert got[key("carp_loop_lateness_seconds_bucket", le="0.0005")] == 1
    assert got[key("carp_loop_lateness_seconds_bucket", le="2.5")] == 1
    assert got[key("carp_loop_lateness_seconds_bucket", le="+Inf")] == 2
    assert got[key("carp_loop_lateness_seconds_sum")] == pytest.approx(99.0004)
    assert got[key("carp_takeover_seconds_bucket", group="intranet", le="0.001")] == 1, "an upper bound belongs to its bucket"
    assert key("carp_takeover_seconds_count", group="gone") not in got
    assert [got[key("carp_takeover_step_seconds_count", step=step)] for step in ("decision", "addresses", "announcement")] == [1, 0, 0]
    assert got[key("carp_takeover_step_seconds_sum", step="decision")] == pytest.approx(0.02)


def test_a_copy_does_not_move() -> None:
    histogram = Histogram((1.0,))
    copy = histogram.copy()
    histogram.observe(0.5)
    assert copy.cumulative() == [("1.0", 0.0), ("+Inf", 0.0)]
    assert histogram.cumulative() == [("1.0", 1.0), ("+Inf", 1.0)]


def test_openmetrics_when_asked() -> None:
    body, content_type = render(full_status(), Measurements(), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_no_groups_is_a_page() -> None:
    assert samples(status_document())[key("carp_config_generation")] == 4


def sidecar_page() -> str:
    measurements = Measurements()
    measurements.observe_takeover("intranet", 0.001)
    return render(full_status(), measurements)[0].decode()


def agent_page() -> str:
    stats = Stats(Contact(Log("info")))
    stats.contact.last = 1.0
    return page("/metrics", stats, 2.0)[1]


def operator_page() -> str:
    return OperatorMetrics().text(None).decode()


@pytest.mark.parametrize(
    "prefix, exposition", [("carp_agent_", agent_page), ("carp_operator_", operator_page), ("carp_(?!agent_|operator_)", sidecar_page)]
)
def test_documentation_lists_exactly_the_metrics(prefix: str, exposition: Callable[[], str]) -> None:
    types = re.findall(r"^# TYPE (carp_\w+) (\w+)$", exposition(), re.MULTILINE)
    exported = {name: kind for name, kind in types if not name.endswith("_created")}
    documented = dict(re.findall(rf"^\| `({prefix}\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE))
    assert documented == exported


def test_documentation_lists_the_labels() -> None:
    rows = dict(re.findall(r"^\| `(carp_\w+)` \| \w+ \|([^|]*)\|", DOCUMENT.read_text(), re.MULTILINE))
    measurements = Measurements()
    measurements.observe_takeover("intranet", 0.001)
    text = render(full_status(), measurements)[0].decode()
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("carp_"):
            continue
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        row = next(rows[name] for suffix in ("", "_total", "_info") if (name := family.name + suffix) in rows)
        assert set(re.findall(r"`(\w+)`", row)) == labels, family.name
