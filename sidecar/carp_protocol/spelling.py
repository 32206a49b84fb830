"""Two spellings of one document: that of a configuration file, and that of Kubernetes.

Imports next to nothing, because the agent does the same (see ``carp_agent``).
"""

from __future__ import annotations

__all__ = ["camel", "snake"]

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ACRONYMS = frozenset({"mac"})
_HUMP = re.compile(r"(?<=[a-z0-9])[A-Z]+")


def camel(document: Any) -> Any:
    """The same document with the keys of Kubernetes: ``virtual_mac`` as ``virtualMAC``, ``http_get`` as ``httpGet``."""
    return _renamed(document, _camel_key)


def snake(document: Any) -> Any:
    """The same document with the keys of a configuration file; the inverse of ``camel``."""
    return _renamed(document, _snake_key)


def _renamed(document: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(document, dict):
        return {rename(key): _renamed(value, rename) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_renamed(value, rename) for value in document]
    return document


def _camel_key(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(word.upper() if word in _ACRONYMS else word.capitalize() for word in others)


def _snake_key(key: str) -> str:
    return _HUMP.sub(lambda hump: f"_{hump[0]}", key).lower()
