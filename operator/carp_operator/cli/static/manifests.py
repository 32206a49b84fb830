"""Manifests from files: YAML or JSON, one object or many, checked as an API server would check them. Knows files, not clusters.

A problem names its file, the object and the field.
"""

__all__ = ["Document", "Manifest", "read_documents", "read_groups"]

import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from carp_operator.api.errors import BadObject, OperatorError
from carp_operator.api.group import CarpGroup, read_group
from carp_operator.api.group_schema import group_crd
from carp_operator.api.names import GROUP, VERSION
from carp_protocol.errors import ConfigError, Problem

from .schema_check import check, with_defaults

_API_VERSION = f"{GROUP}/{VERSION}"
_SUFFIXES = {".yaml", ".yml", ".json"}
_MAX_BYTES = 16 * 1024 * 1024
"""A thousand groups are below one."""
_MAX_NAME = 253


@dataclass(frozen=True, slots=True)
class Document:
    """One object, and the file it is from."""

    path: str
    body: Mapping[str, Any]

    @property
    def place(self) -> str:
        """How a problem names it."""
        metadata = self.body.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return f"{self.path}: {self.body.get('kind') or 'an object without a kind'}{f' {name}' if name else ''}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A CarpGroup that an API server would accept, and the file it is from."""

    place: str
    group: CarpGroup


def read_documents(paths: Iterable[str]) -> list[Document]:
    """Every object in these files or folders; ``-`` is standard input, and a List is what is in it. Raises ConfigError or OperatorError."""
    found = []
    for path in paths:
        for file in _files(path):
            found += [Document(file, body) for body in _objects(file, _parse(file, _read(file)))]
    return found


def read_groups(documents: Sequence[Document]) -> list[Manifest]:
    """The CarpGroups among them, in their order, which counts as their age. Raises ConfigError with every problem."""
    problems: list[Problem] = []
    manifests: dict[str, Manifest] = {}
    for position, document in enumerate(documents):
        if document.body.get("kind") != "CarpGroup":
            continue
        found = _check(document)
        problems += found
        if found:
            continue
        manifest = Manifest(document.place, _read_group(document, position))
        if manifest.group.name in manifests:
            problems.append(Problem(document.place, f"is in {manifests[manifest.group.name].place.partition(': ')[0]} already"))
        manifests[manifest.group.name] = manifest
    if problems:
        raise ConfigError(problems)
    return list(manifests.values())


def _check(document: Document) -> list[Problem]:
    """What an API server would say against it."""
    schema = group_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    body = document.body
    if body.get("apiVersion") != _API_VERSION:
        return [Problem(document.place, f"apiVersion is {body.get('apiVersion')!r}; write {_API_VERSION}")]
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME:
        return [Problem(document.place, "metadata.name is missing; give the group a name")]
    # The API server knows the fields of metadata, the schema does not.
    checked = {key: value for key, value in body.items() if key not in {"metadata", "status"}} | {"metadata": {"name": name}}
    shape = {**schema, "properties": {**schema["properties"], "metadata": {"type": "object"}}}
    found = check(shape, with_defaults(shape, checked))
    return [Problem(document.place, str(problem)) for problem in found]


def _read_group(document: Document, position: int) -> CarpGroup:
    metadata = {"name": document.body["metadata"]["name"], "creationTimestamp": f"{position:06}"}
    try:
        return read_group({"metadata": metadata, "spec": with_defaults(_spec_schema(), document.body["spec"])})
    except BadObject as error:
        raise ConfigError([Problem(document.path, str(error))]) from error


def _spec_schema() -> Mapping[str, Any]:
    spec: Mapping[str, Any] = group_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return spec


# ---- files ----------------------------------------------------------------------------------------------------


def _files(path: str) -> list[str]:
    place = Path(path)
    if path == "-" or not place.is_dir():
        return [path]
    found = sorted(str(file) for file in place.iterdir() if file.suffix in _SUFFIXES)
    if not found:
        raise OperatorError(f"{path} holds no file that ends in {', '.join(sorted(_SUFFIXES))}")
    return found


def _read(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.read(_MAX_BYTES)
        with open(path, encoding="utf-8") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}; give the right path") from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(path, "is not UTF-8 text")]) from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice, as the API server does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                sentence = "a list or a table cannot be a key; a {{ template }} has to be filled in first"
                raise yaml.MarkedYAMLError(problem=sentence, problem_mark=key_node.start_mark)
            key = key_node.value
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"{key} is written twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parse(path: str, text: str) -> list[Any]:
    try:
        return [document for document in yaml.load_all(text, _Loader) if document is not None]
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError([Problem(path, f"{where}{error.problem or 'not valid YAML'}")]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError([Problem(path, f"is not valid YAML: {' '.join(str(error).split())}")]) from error


def _objects(path: str, documents: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        if not isinstance(document, dict):
            raise ConfigError([Problem(path, "holds something that is not an object; write apiVersion, kind, metadata and spec")])
        if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            yield from _objects(path, document["items"])
        else:
            yield document
