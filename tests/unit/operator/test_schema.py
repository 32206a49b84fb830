"""The definitions: what an API server demands of them, and what a reader of ``kubectl explain`` may expect."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from carp_operator.api.crds import crds_yaml
from carp_operator.api.group_schema import group_crd
from carp_operator.api.node_schema import node_crd
from carp_operator.api.reasons import ConditionType, EventReason, Reason
from carp_operator.api.schema import DURATION
from lab.admission import Refused, admit

Json = dict[str, Any]
CRDS = {"CarpGroup": group_crd(), "CarpNode": node_crd()}


def schema_of(kind: str) -> Json:
    found: Json = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def fields(schema: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Every field with its path, at every depth."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from fields(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from fields(schema[key], f"{path}[]")


FIELDS = [
    (path, field)
    for kind in CRDS
    for part in ("spec", "status")
    for path, field in fields(schema_of(kind)["properties"][part], f"{kind}.{part}")
]


def test_every_field_is_explained() -> None:
    bare = [path for path, field in FIELDS if not field.get("description", "").strip() and not path.endswith("matchLabels[]")]
    assert bare == []


def test_every_sentence_ends() -> None:
    assert [path for path, field in FIELDS if "description" in field and not field["description"].endswith(".")] == []


def test_every_field_has_a_bound() -> None:
    """Without one a CEL rule over it has no cost limit, and a hostile object has none either."""
    bounds = {"string": {"maxLength", "format"}, "array": {"maxItems"}, "integer": {"maximum"}, "object": {"properties", "maxProperties"}}
    endless = [path for path, field in FIELDS if field.get("type") in bounds and not bounds[field["type"]] & field.keys()]
    assert endless == []


def test_required_fields_and_list_keys_exist() -> None:
    for path, field in FIELDS:
        assert set(field.get("required", ())) <= field.get("properties", {}).keys(), path
        for key in field.get("x-kubernetes-list-map-keys", ()):
            assert key in field["items"]["required"], f"{path}: a list is a map only by keys that are always there"


def test_defaults_are_what_they_are_defaults_for() -> None:
    for path, field in FIELDS:
        if "default" in field:
            admit(field, field["default"], path)


def test_a_spec_with_addresses_alone_is_filled_in() -> None:
    spec = admit(schema_of("CarpGroup"), {"metadata": {}, "spec": {"addresses": ["10.0.0.1"]}})["spec"]
    assert spec == {
        "addresses": ["10.0.0.1"],
        "authentication": {"mode": "Strict"},
        "fence": "Auto",
        "onCordon": "HandOver",
        "peers": {"mode": "Multicast"},
        "preemption": {"enabled": False, "delay": "0s"},
        "virtualMAC": True,
    }


@pytest.mark.parametrize(
    "spec",
    [{}, {"addresses": []}, {"addresses": ["10.0.0.1"], "preemtion": {}}, {"addresses": ["10.0.0.1"], "advertisementInterval": "1"}],
    ids=repr,
)
def test_what_the_structure_refuses(spec: Json) -> None:
    with pytest.raises(Refused):
        admit(schema_of("CarpGroup"), {"metadata": {}, "spec": spec})


@pytest.mark.parametrize("text", ["0s", "200ms", "1.5s", "1m30s", "1h"])
def test_durations_as_people_write_them(text: str) -> None:
    assert re.search(DURATION, text)


@pytest.mark.parametrize("text", ["", "1", "s", "1 s", "-1s", "1d", "1s ", ".5s", "1e3s"])
def test_what_is_no_duration(text: str) -> None:
    assert not re.search(DURATION, text)


def test_conditions_may_have_every_type_and_every_reason_fits() -> None:
    condition = schema_of("CarpGroup")["properties"]["status"]["properties"]["conditions"]["items"]
    assert condition["properties"]["type"]["enum"] == list(ConditionType)
    for word in (*Reason, *EventReason):
        assert re.fullmatch(r"[A-Z][A-Za-z]{1,63}", word), "one word in CamelCase, as the API conventions want it"


@pytest.mark.parametrize("kind", CRDS)
def test_columns_point_at_fields_that_exist(kind: str) -> None:
    known = {path.removeprefix(kind): field["type"] for path, field in FIELDS if "type" in field}
    known |= {".metadata.creationTimestamp": "date", ".metadata.generation": "integer"}
    for column in CRDS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = re.sub(r"\[\?\(@\.type==.*?\)\]|\[0\]", "[]", column["jsonPath"])
        assert path in known, column["name"]
        assert known.get(path, column["type"]) in {column["type"], "string"}, column["name"]


@pytest.mark.parametrize("kind", CRDS)
def test_both_are_cluster_scoped_with_a_status_of_its_own(kind: str) -> None:
    spec = CRDS[kind]["spec"]
    assert spec["scope"] == "Cluster"
    assert [(one["name"], one["subresources"]) for one in spec["versions"]] == [("v1alpha1", {"status": {}})]
    assert not set(spec["names"]["categories"]) & {*spec["names"]["shortNames"], "carp"}, "a category hides a short name"


def test_the_yaml_is_the_code() -> None:
    assert {name: yaml.safe_load(text) for name, text in crds_yaml().items()} == {
        "carpgroups.yaml": CRDS["CarpGroup"],
        "carpnodes.yaml": CRDS["CarpNode"],
    }
