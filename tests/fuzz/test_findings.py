"""What fuzzing found, said as a person would: one test each. The inputs themselves are in ``regressions``."""

import json
from pathlib import Path
from typing import Any

import pytest

from carp_operator.api.errors import BadObject
from carp_operator.api.group import read_group
from carp_operator.api.node import read_carp_node
from carp_operator.cli.seen import see_group
from carp_protocol.config_reader import read_document
from carp_protocol.errors import ConfigError
from carp_sidecar.console.control import _line
from carp_sidecar.state import StateDir

HALF = json.loads('"\\ud800"')
STRICT = {"key": "9f" * 32}


@pytest.mark.parametrize(
    "fields, place",
    [
        ({"authentication": {"key": HALF}}, "group[0].authentication.key"),
        ({"hook": ["/bin/true", HALF]}, "group[0].hook"),
        ({"hook": ["/bin/true", "a\0b"]}, "group[0].hook"),
        ({"addresses": [f"fe80::1%{HALF}"]}, "group[0].addresses"),
        ({HALF: 1}, "group[0].?"),
    ],
)
def test_a_text_that_nothing_can_hold_is_a_problem_with_its_place(fields: dict[str, Any], place: str) -> None:
    table = {"name": "web", "vhid": 1, "addresses": ["10.0.0.1"], "authentication": STRICT} | fields
    with pytest.raises(ConfigError) as caught:
        read_document({"group": [table]}, load_key=lambda _path: b"")
    assert place in [problem.place for problem in caught.value.problems]
    str(caught.value).encode()


@pytest.mark.parametrize("amount", ["1e999", "-1", "255", "true", '"5"', "1.5"])
def test_a_state_file_with_a_demotion_that_nobody_sets_is_set_aside(tmp_path: Path, amount: str) -> None:
    (tmp_path / "state.json").write_text(f'{{"sender_id":7,"epoch":3,"demotions":{{"web":{amount}}}}}')
    directory = StateDir(str(tmp_path))
    assert directory.load().demotions == {}
    assert (tmp_path / "state.corrupt").exists()
    directory.close()


def test_a_state_file_with_demotions_that_somebody_set_is_kept(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"sender_id":7,"epoch":3,"demotions":{"web":254,"db":1,"old":null}}')
    directory = StateDir(str(tmp_path))
    assert (directory.load().sender_id, directory.load().demotions) == (7, {"web": 254, "db": 1, "old": None})
    directory.close()


def test_a_sentence_with_half_a_character_is_a_line_of_json_all_the_same() -> None:
    assert json.loads(_line({"ok": False, "error": f"knows no member {HALF}"}))["error"] == f"knows no member {HALF}"


@pytest.mark.parametrize("status", [{"members": [None]}, {"conditions": ["x"]}, {"transitions": "many"}, {"master": "node-a"}])
def test_a_status_of_another_shape_is_a_sentence_of_kubectl_carp(status: dict[str, Any]) -> None:
    with pytest.raises(BadObject, match="a CarpGroup cannot be read"):
        see_group({"metadata": {"name": "web"}, "spec": {}, "status": status})


def test_a_number_beyond_all_bounds_is_a_refused_object() -> None:
    endless = json.loads("1e999")
    with pytest.raises(BadObject):
        read_carp_node({"metadata": {"name": "a"}, "spec": {"rollCall": endless}})
    with pytest.raises(BadObject):
        read_group({"metadata": {"name": "a", "generation": endless}, "spec": {"addresses": ["10.0.0.1"]}})
