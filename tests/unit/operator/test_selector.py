"""Label selectors mean what metav1.LabelSelector means."""

from typing import Any

import pytest

from carp_operator.api.errors import BadObject
from carp_operator.api.selector import Selector

LABELS = {"zone": "north", "disk": "", "role": "edge"}

CASES = [
    ("nothing selects everything", {}, True),
    ("empty lists select everything", {"matchLabels": {}, "matchExpressions": []}, True),
    ("a label with its value", {"matchLabels": {"zone": "north"}}, True),
    ("a label with another value", {"matchLabels": {"zone": "south"}}, False),
    ("a label that is not there", {"matchLabels": {"rack": "1"}}, False),
    ("a label with an empty value", {"matchLabels": {"disk": ""}}, True),
    ("one label of two", {"matchLabels": {"zone": "north", "role": "core"}}, False),
    ("In", {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["south", "north"]}]}, True),
    ("In, of a label that is not there", {"matchExpressions": [{"key": "rack", "operator": "In", "values": ["1"]}]}, False),
    ("NotIn", {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["south"]}]}, True),
    ("NotIn, and it is", {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["north"]}]}, False),
    ("NotIn, of a label that is not there", {"matchExpressions": [{"key": "rack", "operator": "NotIn", "values": ["1"]}]}, True),
    ("Exists", {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}, True),
    ("Exists, and it does not", {"matchExpressions": [{"key": "rack", "operator": "Exists"}]}, False),
    ("DoesNotExist", {"matchExpressions": [{"key": "rack", "operator": "DoesNotExist"}]}, True),
    ("DoesNotExist, and it does", {"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}, False),
    (
        "labels and expressions together",
        {"matchLabels": {"zone": "north"}, "matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["edge"]}]},
        False,
    ),
]


@pytest.mark.parametrize("title, spec, selected", CASES, ids=[case[0] for case in CASES])
def test_selects(title: str, spec: dict[str, Any], selected: bool) -> None:
    assert Selector.from_spec(spec).matches(LABELS) is selected


def test_an_operator_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(BadObject, match="nodeSelector has the operator 'Gt'; the operators are In, NotIn, Exists, DoesNotExist"):
        Selector.from_spec({"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]})
