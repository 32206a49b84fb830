"""What an API server does to an object with the schema of its kind: it refuses, fills in defaults, and would prune what is unknown.

Only the structural part: CEL rules are for tests with a real API server. Unknown fields are refused instead of pruned, because whoever
writes one has forgotten it in the schema.
"""

__all__ = ["Refused", "admit"]

import copy
import re
from datetime import datetime
from typing import Any

Json = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "boolean": (bool,), "object": (dict,), "array": (list,)}


class Refused(Exception):
    """The API server would not take the object; the text says why, with the path of the field."""


def admit(schema: Json, value: Any, path: str = "") -> Any:
    """The value as it is stored; raises Refused."""
    if schema.get("x-kubernetes-int-or-string"):
        _require(isinstance(value, int | str) and not isinstance(value, bool), path, f"{value!r} is neither an integer nor a string")
        return value
    kind = schema["type"]
    _require(isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean"), path, f"{value!r} is not of type {kind}")
    match kind:
        case "object":
            return _admit_object(schema, value, path)
        case "array":
            return _admit_array(schema, value, path)
        case "string":
            _check_string(schema, value, path)
        case "integer":
            _require(schema.get("minimum", value) <= value <= schema.get("maximum", value), path, f"{value} is out of range")
    return value


def _admit_object(schema: Json, value: Json, path: str) -> Json:
    if "additionalProperties" in schema:
        _require(len(value) <= schema["maxProperties"], path, "too many properties")
        return {key: admit(schema["additionalProperties"], inner, f"{path}.{key}") for key, inner in value.items()}
    if "properties" not in schema:
        return copy.deepcopy(value)  # metadata
    properties = schema["properties"]
    for key in value:
        _require(key in properties, f"{path}.{key}", "unknown field")
    for key in schema.get("required", ()):
        _require(key in value, f"{path}.{key}", "required value")
    stored = {}
    for key, inner in properties.items():
        if value.get(key) is not None:
            stored[key] = admit(inner, value[key], f"{path}.{key}")
        elif "default" in inner:
            stored[key] = admit(inner, copy.deepcopy(inner["default"]), f"{path}.{key}")
    return stored


def _admit_array(schema: Json, value: list[Any], path: str) -> list[Any]:
    _require(schema.get("minItems", 0) <= len(value) <= schema["maxItems"], path, f"{len(value)} items")
    if schema.get("x-kubernetes-list-type") == "map":
        keys = [tuple(item.get(key) for key in schema["x-kubernetes-list-map-keys"]) for item in value]
        _require(len(set(keys)) == len(keys), path, f"duplicate value in {keys}")
    return [admit(schema["items"], item, f"{path}[{index}]") for index, item in enumerate(value)]


def _check_string(schema: Json, value: str, path: str) -> None:
    _require(
        schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)), path, f"{value!r} has {len(value)} characters"
    )
    _require("enum" not in schema or value in schema["enum"], path, f"{value!r} is not one of {schema.get('enum')}")
    _require("pattern" not in schema or re.search(schema["pattern"], value) is not None, path, f"{value!r} does not match")
    if schema.get("format") == "date-time":
        try:
            aware = datetime.fromisoformat(value).tzinfo is not None and value[10] == "T"
        except ValueError:
            aware = False
        _require(aware, path, f"{value!r} is not a date-time")


def _require(holds: bool, path: str, problem: str) -> None:
    if not holds:
        raise Refused(f"{path}: {problem}")
