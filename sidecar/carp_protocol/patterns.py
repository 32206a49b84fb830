"""Which regular expressions may choose an interface: valid ones, whose search ends at once whatever the name is."""

__all__ = ["pattern_problem"]

import re

_MAX_PATTERN = 64
_MAX_CHOICES = 8
"""Repetitions and alternatives. Measured with a name of 15 characters: the worst such pattern takes 25 ms, nested repetitions minutes."""
_NOT_SYNTAX = re.compile(r"\\.|\[\^?\]?(?:\\.|[^]\\])*\]")


def pattern_problem(pattern: str) -> str | None:
    """A sentence why ``pattern`` cannot be used; None if it can."""
    if not 1 <= len(pattern) <= _MAX_PATTERN:
        return f"is {len(pattern)} characters long; a pattern has 1 to {_MAX_PATTERN}, such as ^en"
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"{pattern!r} is not a regular expression: {error}; write for example ^en"
    syntax = _NOT_SYNTAX.sub("x", pattern)
    if "(?" in syntax.replace("(?:", ""):
        return f"{pattern!r} uses (? for more than a group; names of interfaces are short: write it without, for example ^(eth|en)"
    if re.search(r"\)[*+{]", syntax):
        return f"{pattern!r} repeats a group, which can take minutes to search; repeat single characters only, for example ^en[ops0-9]+$"
    choices = len(re.findall(r"[*+?{|]", syntax.replace("(?:", "(")))
    if choices > _MAX_CHOICES:
        return f"{pattern!r} has {choices} repetitions and alternatives; {_MAX_CHOICES} are enough for the names of interfaces"
    return None
