"""Which patterns may choose an interface, and that none of those takes long."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_protocol.patterns import pattern_problem


@pytest.mark.parametrize(
    "pattern", ["^en", "0", r"^(eth|ens)\d+$", r"^(?:eth|en)[^v]", r"^en(o|p|s)\d+(s\d+)?(f\d+)?$", "[(?]", r"\(?", "[]*+?|{]+"]
)
def test_useful_patterns(pattern: str) -> None:
    assert pattern_problem(pattern) is None


@pytest.mark.parametrize(
    "pattern, words",
    [
        ("", "is 0 characters long"),
        ("x" * 65, "is 65 characters long"),
        ("(en", "is not a regular expression: missing )"),
        ("*", "is not a regular expression: nothing to repeat"),
        ("a{99999999999}", "is not a regular expression"),
        ("(?i)EN", "uses (? for more than a group"),
        ("(a+)(?#)+$", "uses (? for more than a group"),
        ("(((a+)+)+)+$", "repeats a group"),
        ("(?:a+){9}", "repeats a group"),
        ("a*" * 9 + "$", "has 9 repetitions and alternatives"),
    ],
)
def test_other_patterns_get_a_sentence(pattern: str, words: str) -> None:
    assert words in (pattern_problem(pattern) or "")


@given(st.text("ab.*+?|(){}[]^$\\1:,", max_size=40))
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_no_pattern_takes_long(pattern: str) -> None:
    if pattern_problem(pattern) is None:
        began = time.process_time()
        re.search(pattern, "a" * 14 + "b")
        assert time.process_time() - began < 0.5
