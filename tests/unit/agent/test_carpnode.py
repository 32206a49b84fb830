"""What the API server sends, read with suspicion."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_agent.carpnode import parse_event_untrusted, parse_list_untrusted
from carp_agent.errors import BadAnswer

METADATA = {"name": "a", "uid": "u", "generation": 3, "resourceVersion": "7"}
OBJECT = {"metadata": METADATA, "spec": {"groups": [{"name": "x"}, "nonsense"]}, "status": {"problems": []}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["metadata", "items", "type", "object", "spec", "name", "uid"]), inner)
    ),
)


def line(kind: str, content: object = OBJECT) -> bytes:
    return json.dumps({"type": kind, "object": content}).encode()


def test_list_with_the_object() -> None:
    node, version = parse_list_untrusted(json.dumps({"metadata": {"resourceVersion": "9"}, "items": [OBJECT]}).encode(), "a")
    assert node is not None
    assert (version, node.version, node.groups, node.status) == ("9", ("u", 3), [{"name": "x"}], {"problems": []})


def test_list_without_it() -> None:
    assert parse_list_untrusted(b'{"metadata":{"resourceVersion":"9"},"items":[]}', "a") == (None, "9")


def test_events() -> None:
    added = parse_event_untrusted(line("ADDED"), "a")
    assert added.node is not None
    assert (added.version, added.bookmark) == ("7", False)
    deleted = parse_event_untrusted(line("DELETED"), "a")
    assert (deleted.node, deleted.bookmark) == (None, False)
    bookmark = parse_event_untrusted(line("BOOKMARK", {"metadata": {"resourceVersion": "8"}}), "a")
    assert (bookmark.version, bookmark.bookmark) == ("8", True)
    assert parse_event_untrusted(line("SYNCED"), "a").bookmark, "a kind that nobody knows yet changes nothing"
    assert parse_event_untrusted(line("ERROR", {"code": 410}), "a").expired


@pytest.mark.parametrize("spec", [{}, {"groups": None}, {"groups": {}}])
def test_no_groups(spec: dict[str, Any]) -> None:
    node = parse_event_untrusted(line("ADDED", OBJECT | {"spec": spec}), "a").node
    assert node is not None
    assert node.groups == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"items":[{}],"metadata":{"resourceVersion":"1"}}',
        b'{"items":[1,2],"metadata":{"resourceVersion":"1"}}',
        b'{"items":[],"metadata":{"resourceVersion":"1 HTTP/1.1\\r\\n"}}',
        b'{"items":[],"metadata":[]}',
        json.dumps({"items": [OBJECT | {"metadata": METADATA | {"name": "b"}}], "metadata": METADATA}).encode(),
        json.dumps({"items": [OBJECT | {"metadata": METADATA | {"generation": True}}], "metadata": METADATA}).encode(),
        json.dumps({"items": [OBJECT | {"spec": []}], "metadata": METADATA}).encode(),
    ],
)
def test_what_is_no_list(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse_list_untrusted(data, "a")


@given(JSON)
def test_anything_else_is_a_bad_answer_and_nothing_worse(document: object) -> None:
    for parse in (parse_list_untrusted, parse_event_untrusted):
        try:
            parse(json.dumps(document).encode(), "a")
        except BadAnswer:
            continue
