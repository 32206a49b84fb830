"""The alerts, evaluated by Prometheus' own promtool over series as three nodes would write them: each fires when it should."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.extremes import ALERTS
from chart.helm import NAMESPACE, Helm, one_of

pytestmark = pytest.mark.needs("promtool", "helm4")

NODES = ("a", "b", "c")
PROMTOOL_S = 60


@dataclass
class Case:
    """Series that differ from those of a healthy cluster, and what fires after some minutes."""

    name: str
    alert: str
    series: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    minutes: int = 12


def matchers(labels: dict[str, str]) -> str:
    """Labels as PromQL writes them."""
    return ", ".join(f'{name}="{text}"' for name, text in labels.items())


def sidecar(metric: str, node: str, **labels: str) -> str:
    """The name of a series as a scrape of a sidecar stores it."""
    target = {"namespace": NAMESPACE, "pod": f"node-{node}", "container": "sidecar", "node": node, "instance": f"{node}:9120"} | labels
    return f"{metric}{{{matchers(target)}}}"


OPERATOR = f'carp_operator_leader{{namespace="{NAMESPACE}", pod="operator-1", container="operator"}}'
GROUP = {"group": "intranet"}


def healthy() -> dict[str, str]:
    """Node a is master of one group."""
    found = {OPERATOR: "1x60"}
    for node in NODES:
        master = node == "a"
        found |= {
            sidecar("up", node): "1x60",
            sidecar("carp_masters_seen", node, **GROUP): "1x60",
            sidecar("carp_interface_up", node, **GROUP, interface="eth0"): "1x60",
            sidecar("carp_address_held", node, **GROUP, address="192.0.2.10"): f"{int(master)}x60",
            sidecar("carp_transitions_total", node, **GROUP, reason="started"): "1x60",
            sidecar("carp_transitions_total", node, **GROUP, reason="stalled"): "0x60",
            sidecar("carp_packets_rejected_total", node, **GROUP, reason="bad-digest"): "0x60",
            sidecar("carp_address_conflicts_total", node, **GROUP): "0x60",
        }
        for state in ("INIT", "BACKUP", "MASTER", "HANDOVER"):
            is_in = state == ("MASTER" if master else "BACKUP")
            found[sidecar("carp_state", node, **GROUP, state=state)] = f"{int(is_in)}x60"
        for bound, step in (("0.05", 10), ("0.25", 10), ("0.5", 10), ("+Inf", 10)):
            found[sidecar("carp_loop_lateness_seconds_bucket", node, le=bound)] = f"0+{step}x60"
    return found


CASES = [
    Case("nobody is master", "NoMaster", {sidecar("carp_masters_seen", node, **GROUP): "1 1 0x60" for node in NODES}, GROUP),
    Case(
        "two masters that do not hear each other",
        "MultipleMasters",
        {
            sidecar("carp_state", "b", **GROUP, state="MASTER"): "0 0 1x60",
            sidecar("carp_address_held", "b", **GROUP, address="192.0.2.10"): "0 0 1x60",
        },
        GROUP,
    ),
    Case("two masters on the wire, one of them a stranger", "MultipleMasters", {sidecar("carp_masters_seen", "c", **GROUP): "2x60"}, GROUP),
    Case(
        "the master's address is gone",
        "AddressConflict",
        {sidecar("carp_address_held", "a", **GROUP, address="192.0.2.10"): "1 0x60"},
        {"node": "a", **GROUP, "address": "192.0.2.10"},
    ),
    Case(
        "a host without adverts has the address",
        "AddressConflict",
        {sidecar("carp_address_conflicts_total", "b", **GROUP): "0x9 1x60"},
        {"node": "b", **GROUP},
    ),
    Case(
        "the address was taken before the first scrape",
        "AddressConflict",
        {sidecar("carp_address_conflicts_total", "b", **GROUP): "_x9 1x60"},
        {"node": "b", **GROUP},
    ),
    Case("to and fro", "Flapping", {sidecar("carp_transitions_total", "b", **GROUP, reason="requested"): "0+2x60"}, GROUP),
    Case("a sidecar is silent", "MemberDown", {sidecar("up", "c"): "1 0x60"}, {"node": "c"}),
    Case(
        "an interface is gone",
        "MemberDown",
        {sidecar("carp_interface_up", "c", **GROUP, interface="eth0"): "1 0x60"},
        {"node": "c", **GROUP},
    ),
    Case(
        "a wrong key",
        "AuthenticationFailed",
        {sidecar("carp_packets_rejected_total", "b", **GROUP, reason="bad-digest"): "0+60x60"},
        {"node": "b", **GROUP},
    ),
    Case(
        "a master stalled",
        "LoopLag",
        {sidecar("carp_transitions_total", "a", **GROUP, reason="stalled"): "0x8 1x60"},
        {"node": "a"},
    ),
    Case(
        "a slow node",
        "LoopLag",
        {sidecar("carp_loop_lateness_seconds_bucket", "b", le=bound): "0x60" for bound in ("0.05", "0.25")},
        {"node": "b"},
    ),
    Case("the operator waits for a lease that nobody holds", "OperatorDown", {OPERATOR: "1 0x60"}),
    Case("the operator is not there", "OperatorDown", {OPERATOR: "_x60"}),
]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The rules as the chart renders them."""
    rendered = Helm("helm4", tmp_path).render({"prometheus": {"prometheusRule": {"enabled": True}}})
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(one_of(rendered, "PrometheusRule")["spec"]))
    return path


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=PROMTOOL_S, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def evaluate(rules: Path, series: dict[str, str], minutes: int, firing: dict[str, list[dict[str, str]]]) -> str:
    """What promtool has against the claim that exactly these alerts fire then; empty if it is so."""
    tests: dict[str, Any] = {
        "rule_files": [str(rules)],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count by (alertname) (ALERTS{{alertname="Kubecarp{name}", alertstate="firing"}}) > 0',
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": f'{{alertname="Kubecarp{name}"}}', "value": 1}] if name in firing else [],
                    }
                    for name in (alert[0].upper() + alert[1:] for alert in ALERTS)
                ]
                + [
                    {
                        "expr": f"count(ALERTS{{{matchers(labels)}}})",
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                    for name, every in firing.items()
                    for labels in every
                ],
            }
        ],
    }
    path = rules.with_name("test.yaml")
    path.write_text(yaml.safe_dump(tests))
    return promtool("test", "rules", str(path))


def test_prometheus_reads_the_rules(rules: Path) -> None:
    assert promtool("check", "rules", str(rules)) == ""


def test_a_healthy_cluster_is_quiet(rules: Path) -> None:
    assert evaluate(rules, healthy(), 30, {}) == ""


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name.replace(" ", "-")) for case in CASES])
def test_an_alert_fires(rules: Path, case: Case) -> None:
    labels = {"alertname": f"Kubecarp{case.alert}", "alertstate": "firing"} | case.labels
    assert evaluate(rules, healthy() | case.series, case.minutes, {case.alert: [labels]}) == ""


def test_an_address_conflict_of_long_ago_is_over(rules: Path) -> None:
    assert evaluate(rules, healthy() | {sidecar("carp_address_conflicts_total", "b", **GROUP): "0x9 1x60"}, 25, {}) == ""


def test_another_namespace_is_not_ours(rules: Path) -> None:
    elsewhere = {name.replace(NAMESPACE, "other"): "0x60" for name in healthy() if "masters_seen" in name}
    assert evaluate(rules, healthy() | elsewhere, 30, {}) == ""


def test_a_handover_between_two_scrapes_alarms_nobody(rules: Path) -> None:
    series = {
        sidecar("carp_state", "a", **GROUP, state="MASTER"): "1x10 1 0x60",
        sidecar("carp_state", "b", **GROUP, state="MASTER"): "0x10 1x60",
        sidecar("carp_address_held", "b", **GROUP, address="192.0.2.10"): "0x10 1x60",
        sidecar("carp_transitions_total", "b", **GROUP, reason="master-bowed-out"): "0x10 1x60",
    }
    for minutes in (10, 11, 12):
        assert evaluate(rules, healthy() | series, minutes, {}) == ""
