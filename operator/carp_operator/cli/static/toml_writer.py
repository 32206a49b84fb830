"""TOML out of a configuration document. Knows what such a document needs: scalars, lists, tables, and lists of tables at the top."""

__all__ = ["to_toml"]

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(document: Mapping[str, Any]) -> str:
    """The text that ``tomllib`` reads as ``document``; lists of tables come last, each entry under its ``[[name]]``."""
    top = [f"{_key(key)} = {_value(value)}" for key, value in document.items() if not _is_tables(value)]
    blocks = ["\n".join(top)] if top else []
    for key, tables in document.items():
        if _is_tables(tables):
            blocks += [
                "\n".join([f"[[{_key(key)}]]", *(f"{_key(name)} = {_value(value)}" for name, value in table.items())]) for table in tables
            ]
    return "\n\n".join(blocks) + "\n"


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    """JSON's escapes are TOML's, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case Mapping():
            inside = ", ".join(f"{_key(key)} = {_value(part)}" for key, part in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"{type(value).__name__} has no place in a configuration")
