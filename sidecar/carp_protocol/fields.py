"""Reads typed fields out of a parsed document, and remembers every problem instead of stopping at the first."""

__all__ = ["Fields", "Problems", "format_duration_s", "parse_duration_s"]

import difflib
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import Problem

_DURATION = re.compile(r"((?:\d+(?:\.\d+)?|\.\d+)(?:ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h)")
_SECONDS = {"ms": (1, 1000), "s": (1, 1), "m": (60, 1), "h": (3600, 1)}
"""Multiply, divide: 9 * 0.001 is not 0.009, but 9 / 1000 is."""
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_MAX_TEXT = 4096
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""What no path, argument or line of a log can hold: the end of a string in C, and halves of characters, which JSON can spell."""


def parse_duration_s(text: str) -> float:
    """Seconds in ``500ms``, ``1s``, ``1m30s``. ValueError for anything else."""
    if not _DURATION.fullmatch(text):
        raise ValueError(text)
    parts = ((float(number), *_SECONDS[unit]) for number, unit in _DURATION_PART.findall(text))
    return math.fsum(number * many / few for number, many, few in parts)


def format_duration_s(seconds: float) -> str:
    """``500ms``, ``1.5s`` or ``1m30s``: the text that ``parse_duration_s`` reads as exactly ``seconds``."""
    if seconds < 1:
        text = f"{seconds * 1000:g}ms" if seconds else "0s"
    elif seconds == int(seconds):
        minutes, rest = divmod(int(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        text = "".join(f"{number}{unit}" for number, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if number)
    else:
        text = ""
    return text if _DURATION.fullmatch(text) and parse_duration_s(text) == seconds else f"{_decimal(seconds)}s"


def _decimal(number: float) -> str:
    """The shortest decimal fraction, without an exponent, that is exactly this number."""
    return next(text for digits in itertools.count() if float(text := f"{number:.{digits}f}") == number)


class Problems:
    """What was found wrong so far."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, place: str, message: str) -> None:
        self.found.append(Problem(place, message))


class Fields:
    """One table of the document at ``place``. Every getter gives a value of its type, also after a problem."""

    def __init__(self, table: object, place: str, problems: Problems) -> None:
        self.place = place
        self.problems = problems
        self._seen: set[str] = set()
        self._table: Mapping[str, Any] = {}
        if isinstance(table, Mapping):
            self._table = table
        else:
            problems.add(place, f"is {_kind(table)}; a table is needed here")

    def has(self, key: str) -> bool:
        return key in self._table

    def is_text(self, key: str) -> bool:
        return isinstance(self._table.get(key), str)

    def problem(self, key: str, message: str) -> None:
        self.problems.add(".".join(filter(None, (self.place, key))), message)

    def refuse_unknown(self) -> None:
        """Report every key that no getter asked for, with the nearest known one."""
        for key in self._table:
            if key not in self._seen:
                near = difflib.get_close_matches(str(key), self._seen, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(self._seen))}"
                self.problem(_UNWRITABLE.sub("?", str(key)), f"unknown key; {hint}")

    def ignore(self, *keys: str) -> None:
        """Keys about which a problem was reported already."""
        self._seen.update(keys)

    def table(self, key: str) -> "Fields":
        return Fields(self._get(key, {}), f"{self.place}.{key}" if self.place else key, self.problems)

    def tables(self, key: str) -> list[Any]:
        value = self._get(key, [])
        if isinstance(value, list):
            return value
        self.problem(key, f"is {_kind(value)}; write it as a list of tables")
        return []

    def text(self, key: str, default: str) -> str:
        value = self._get(key, default)
        if _is_usable_text(value):
            return str(value)
        self.problem(key, f"is {_kind(value)}; write it as text in quotes")
        return default

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key, [])
        if isinstance(value, list) and all(map(_is_usable_text, value)):
            return tuple(value)
        self.problem(key, f'is {_kind(value)}; write it as a list of texts, such as ["a", "b"]')
        return ()

    def name(self, key: str) -> str:
        value = self.text(key, "")
        if not _NAME.fullmatch(value):
            self.problem(key, f"{value!r} is not a name: 1 to 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends")
        return value

    def choice(self, key: str, default: str, choices: Iterable[str]) -> str:
        value = self._get(key, default)
        if value in (choices := list(choices)):
            return str(value)
        self.problem(key, f"{value!r} is not one of {', '.join(choices)}")
        return default

    def boolean(self, key: str, *, default: bool) -> bool:
        value = self._get(key, default)
        if isinstance(value, bool):
            return value
        self.problem(key, f"is {_kind(value)}; write true or false")
        return default

    def integer(self, key: str, default: int | None, lowest: int, highest: int) -> int:
        """A whole number in the range; required when there is no default."""
        if default is None and key not in self._table:
            self._seen.add(key)
            self.problem(key, f"is missing; give a whole number from {lowest} to {highest}")
            return lowest
        value = self._get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        shown = value if isinstance(value, int | float) and not isinstance(value, bool) else _kind(value)
        self.problem(key, f"is {shown}; give a whole number from {lowest} to {highest}")
        return lowest if default is None else default

    def duration_s(self, key: str, default_s: float) -> float:
        value = self._get(key, None)
        if value is None:
            return default_s
        try:
            return parse_duration_s(value)
        except (TypeError, ValueError):
            self.problem(key, f'{value!r} is not a duration; write a number with its unit in quotes, such as "500ms", "1s" or "2m"')
            return default_s

    def _get(self, key: str, default: object) -> Any:
        self._seen.add(key)
        return self._table.get(key, default)


def _is_usable_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT and not _UNWRITABLE.search(value)


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
    if isinstance(value, str) and not _is_usable_text(value):
        return f"text of more than {_MAX_TEXT} characters, or with one that cannot be written"
    return kinds.get(type(value), type(value).__name__)
