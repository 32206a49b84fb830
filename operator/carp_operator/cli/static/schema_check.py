"""Checks a value against an OpenAPI schema as an API server would, and fills in the defaults. Pure; knows of schemas what ours use.

Every problem has its place and a sentence, not only the first one.
"""

__all__ = ["check", "with_defaults"]

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from carp_protocol.errors import Problem

from .schema_rules import RULES

_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "object": ((dict,), "a table of fields"),
    "array": ((list,), "a list"),
    "string": ((str,), "text"),
    "integer": ((int,), "a whole number"),
    "boolean": ((bool,), "true or false"),
}
Schema = Mapping[str, Any]


def with_defaults(schema: Schema, value: Any) -> Any:
    """A copy of ``value`` in which every field that was left out has its default, at every depth."""
    if isinstance(value, dict):
        known = schema.get("properties") or {}
        filled = {key: part["default"] for key, part in known.items() if "default" in part} | value
        return {key: with_defaults(known.get(key, {}), part) for key, part in filled.items()}
    if isinstance(value, list):
        return [with_defaults(schema.get("items") or {}, part) for part in value]
    return value


def check(schema: Schema, value: Any) -> list[Problem]:
    """Everything wrong with ``value``, which has its defaults. A rule is asked only where the shape is right, as an API server does."""
    return [*_shape(schema, value, ""), *_rules(schema, value, "")]


def _shape(schema: Schema, value: Any, place: str) -> list[Problem]:
    types, wanted = _KINDS[schema["type"]]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        return [Problem(place, f"is {_kind(value)}; give {wanted}")]
    problems = [Problem(place, sentence) for sentence in _bounds(schema, value)]
    if isinstance(value, dict):
        problems += _fields(schema, value, place)
    if isinstance(value, list):
        problems += _entries(schema, value, place)
    return problems


def _rules(schema: Schema, value: Any, place: str) -> Iterator[Problem]:
    if not _shape(schema, value, place):
        for message in (rule["message"] for rule in schema.get("x-kubernetes-validations") or ()):
            if message in RULES and not RULES[message](value):
                yield Problem(place, message)
    if isinstance(value, dict):
        known = schema.get("properties") or {}
        for key in (key for key in known if key in value):
            yield from _rules(known[key], value[key], _inside(place, key))
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from _rules(schema.get("items") or {}, part, f"{place}[{index}]")


def _kind(value: object) -> str:
    if value is None:
        return "empty"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table of fields"}
    return names.get(type(value), type(value).__name__)


def _bounds(schema: Schema, value: Any) -> Iterator[str]:
    """What the plain bounds say."""
    if "enum" in schema and value not in schema["enum"]:
        yield f"is {value!r}; give one of {', '.join(map(str, schema['enum']))}"
    if "minimum" in schema and not schema["minimum"] <= value <= schema["maximum"]:
        yield f"is {value}; give a whole number from {schema['minimum']} to {schema['maximum']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"is {value!r}, which does not have the form {schema['pattern']}"
    least = schema.get("minLength", schema.get("minItems", 0))
    most = schema.get("maxLength", schema.get("maxItems", schema.get("maxProperties")))
    if isinstance(value, str | list | dict) and (len(value) < least or (most is not None and len(value) > most)):
        unit = "characters" if isinstance(value, str) else "entries"
        yield f"has {len(value)} {unit}; give {f'{least} to {most}' if most is not None else f'at least {least}'}"


def _fields(schema: Schema, value: dict[Any, Any], place: str) -> list[Problem]:
    known, anything = schema.get("properties"), schema.get("additionalProperties")
    problems = [Problem(_inside(place, key), "is missing") for key in schema.get("required") or () if key not in value]
    for key, part in value.items():
        if known and key in known:
            problems += _shape(known[key], part, _inside(place, key))
        elif anything:
            problems += _shape(anything, part, _inside(place, str(key)))
        elif known:
            problems.append(Problem(_inside(place, str(key)), _unknown(str(key), known)))
    return problems


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(key.lower(), folded, n=1)
    return f"unknown field; did you mean {folded[near[0]]}?" if near else f"unknown field; known here: {', '.join(known)}"


def _entries(schema: Schema, value: list[Any], place: str) -> list[Problem]:
    problems = [problem for index, part in enumerate(value) for problem in _shape(schema["items"], part, f"{place}[{index}]")]
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys and not problems:
        seen: set[tuple[Any, ...]] = set()
        for index, part in enumerate(value):
            identity = tuple(part.get(key) for key in keys)
            if identity in seen:
                problems.append(Problem(f"{place}[{index}]", f"{' and '.join(map(str, identity))} is listed before; remove one of the two"))
            seen.add(identity)
    return problems


def _inside(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key
