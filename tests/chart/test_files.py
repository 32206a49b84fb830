"""What stands in two places of the chart and the code is the same in both. Reads files; renders nothing."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from carp_operator.api.names import MANAGER
from carp_operator.metrics import Metrics
from carp_operator.plan.world import World
from carp_sidecar import __version__
from chart.extremes import ALERTS
from chart.generate import crd_files, readme, value_rows
from chart.helm import CHART

ROOT = CHART.parents[1]
VALUES = (CHART / "values.yaml").read_text()
WRITE_ANEW = "run `make pages`"


def chart_yaml() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
    return found


def test_the_crds_are_those_of_the_code() -> None:
    files = crd_files()
    assert {path.name for path in (CHART / "files" / "crds").iterdir()} == {path.name for path in files}
    for path, text in files.items():
        assert path.read_text() == text, f"{path.name} is old: {WRITE_ANEW}"


def test_the_readme_lists_the_values_as_they_are() -> None:
    text = (CHART / "README.md").read_text()
    assert text == readme(text, VALUES), f"the table is old: {WRITE_ANEW}"


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every value that is not a group of values."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def test_every_value_is_described() -> None:
    described = {tuple(path.split(".")) for path, _, _ in value_rows(VALUES)}
    for leaf in leaves(yaml.safe_load(VALUES)):
        assert any(leaf[: len(path)] == path for path in described), ".".join(leaf)


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(place: dict[str, Any], values: Any, path: str) -> None:
        place = schema["definitions"][place["$ref"].rpartition("/")[2]] if "$ref" in place else place
        if "properties" not in place:
            return
        assert place["additionalProperties"] is False, path
        optional = {"global", "requests", "limits", "claims", "localhostProfile"}
        assert set(values) - set(place["properties"]) == set(), path
        assert set(place["properties"]) - set(values) <= optional, path
        for name, value in values.items():
            compare(place["properties"][name], value, f"{path}.{name}")

    compare(schema, yaml.safe_load(VALUES), "values")


def test_versions() -> None:
    chart = chart_yaml()
    assert chart["appVersion"] == __version__
    images = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
    values = yaml.safe_load(VALUES)
    assert [image["image"] for image in images] == [f"{values['image']['repository']}:{__version__}"]


def test_artifact_hub_knows_the_crds() -> None:
    annotations = chart_yaml()["annotations"]
    crds = [yaml.safe_load(text) for text in crd_files().values()]
    listed = {(one["name"], one["kind"], one["version"]) for one in yaml.safe_load(annotations["artifacthub.io/crds"])}
    versions = {
        (crd["metadata"]["name"], crd["spec"]["names"]["kind"], version["name"]) for crd in crds for version in crd["spec"]["versions"]
    }
    assert listed == versions


def test_the_lease_is_the_one_that_the_operator_takes() -> None:
    role = (CHART / "templates" / "operator-rbac.yaml").read_text()
    assert f"resourceNames: [{MANAGER}]" in role


# ---- alerts -----------------------------------------------------------------------------------------------------


def alerts() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    return found


def test_every_alert_has_a_switch() -> None:
    names = [one["alert"].removeprefix("Kubecarp") for one in alerts()]
    switches = yaml.safe_load(VALUES)["prometheus"]["prometheusRule"]["alerts"]
    assert sorted(name[0].lower() + name[1:] for name in names) == sorted(switches) == sorted(ALERTS)


def exported() -> set[str]:
    """Every metric that documentation and operator know, with the suffixes of a histogram."""
    names = set(re.findall(r"^\| `(carp_\w+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    operator = Metrics().text(World()).decode()
    names |= set(re.findall(r"^# TYPE (\w+)", operator, re.MULTILINE))
    return names | {f"{name}_bucket" for name in names} | {"up"}


@pytest.mark.parametrize("alert", [pytest.param(one, id=one["alert"]) for one in alerts()])
def test_an_alert_reads_metrics_that_exist_and_says_what_to_do(alert: dict[str, Any]) -> None:
    used = set(re.findall(r"\b(carp_\w+|up)\{", alert["expr"]))
    assert used
    assert used <= exported()
    assert alert["expr"].count("{") == alert["expr"].count('namespace="$NAMESPACE"'), "another installation's metrics are not ours"
    assert set(alert["annotations"]) == {"summary", "description"}
