"""Where a configuration comes from: a TOML or JSON file, and the key files it names. File access only; rules are elsewhere."""

__all__ = ["DEFAULT_PATH", "load"]

import json
import os
import stat
import tomllib
from functools import partial
from typing import Any

from carp_protocol.config import SidecarConfig
from carp_protocol.config_reader import read_document
from carp_protocol.errors import ConfigError, Problem

DEFAULT_PATH = "/etc/kubecarp/sidecar.toml"

_MAX_CONFIG_BYTES = 8 * 1024 * 1024
"""255 groups of 32 addresses are below 1 MB."""
_MAX_KEY_BYTES = 4096


def load(path: str) -> SidecarConfig:
    """The configuration in the file; JSON by its suffix, else TOML. Raises ConfigError with every problem."""
    data, mode = _read(path, _MAX_CONFIG_BYTES)
    document = _parse(path, data)
    exposed = []
    if mode & 0o007 and _holds_keys(document):
        exposed.append(Problem(path, f"holds keys and can be read by everybody (mode {mode:04o}); run: chmod o= {path}"))
    try:
        config = read_document(document, load_key=partial(_load_key, os.path.dirname(path)))  # noqa: PTH120
    except ConfigError as error:
        raise ConfigError([*exposed, *error.problems]) from error
    if exposed:
        raise ConfigError(exposed)
    return config


def _read(path: str, limit: int) -> tuple[bytes, int]:
    """Content and permissions of a file."""
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigError([Problem(path, f"cannot be read: {error.strerror}; give the right path, or create it")]) from error
    if len(data) > limit:
        raise ConfigError([Problem(path, f"is larger than {limit} bytes; this is not a configuration of carp-sidecar")])
    return data, mode


def _holds_keys(document: dict[str, Any]) -> bool:
    groups = document.get("group")
    tables = [group.get("authentication") for group in groups if isinstance(group, dict)] if isinstance(groups, list) else []
    return any(isinstance(table, dict) and not table.keys().isdisjoint(("key", "accept_keys")) for table in tables)


def _parse(path: str, data: bytes) -> dict[str, Any]:
    language = "JSON" if path.endswith(".json") else "TOML"
    try:
        text = data.decode()
        document = json.loads(text) if language == "JSON" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([Problem(path, f"is not valid {language}: {error}")]) from error
    if not isinstance(document, dict):
        raise ConfigError([Problem(path, "holds no table at the top")])
    return document


def _load_key(folder: str, path: str) -> bytes:
    """The bytes of a key file, relative to the configuration; ValueError says what to do."""
    # No pathlib: it puts the parts of every path into Python's table of names. After a hundred reloads that cost 0.5 MB (measured).
    place = os.path.join(folder, path)  # noqa: PTH118
    try:
        with open(place, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise ValueError(f'{place} cannot be read: {error.strerror}; make one with "carp-sidecar key > {place}"') from error
    if mode & 0o077:
        raise ValueError(f"{place} can be read by others (mode {mode & 0o777:04o}); run: chmod 600 {place}")
    return data
