#!/usr/bin/env python3
"""Writes the pages of docs/ that are made from code: `make pages`. A unit test says when one of them is out of date."""

__all__ = ["PAGES"]

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("operator", "sidecar", "tests")]

from carp_operator.api.group_schema import group_crd  # noqa: E402  the paths come first
from carp_operator.api.node_schema import node_crd  # noqa: E402
from carp_operator.api.reasons import ConditionType, EventReason, Reason  # noqa: E402
from lab.manifests import REFUSED_AT_APPLY, REFUSED_CHANGES, REFUSED_LATER, Refused  # noqa: E402

Schema = dict[str, Any]


def reference() -> str:
    """Every field of both kinds."""
    lines = [
        "# Reference of the API",
        "",
        "Group `kubecarp.io`, version `v1alpha1`. Made from the definitions (`make pages`); `kubectl explain carp.spec` says the same.",
    ]
    for crd in (group_crd(), node_crd()):
        names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
        schema = version["schema"]["openAPIV3Schema"]
        lines += ["", f"## {names['kind']}", "", f"`kubectl get {names['shortNames'][0]}`. {schema['description']}"]
        for part in ("spec", "status"):
            lines += ["", f"### {names['kind']}.{part}", "", schema["properties"][part]["description"], ""]
            lines += ["| field | type | |", "|---|---|---|"]
            lines += [f"| `{path}` | {kind} | {text} |" for path, kind, text in _fields(schema["properties"][part], "")]
        rules = schema.get("x-kubernetes-validations", [])
        if rules:
            lines += ["", f"Rules of the whole {names['kind']}:", "", *(f"- {rule['message']}" for rule in rules)]
    lines += ["", "## Conditions of a CarpGroup", "", "| type | |", "|---|---|"]
    lines += [f"| `{kind}` | {_comment(ConditionType, kind.name)} |" for kind in ConditionType]
    lines += ["", "Reasons: " + ", ".join(f"`{reason}`" for reason in Reason) + "."]
    lines += ["", "Reasons of Events: " + ", ".join(f"`{reason}`" for reason in EventReason) + ".", ""]
    return "\n".join(lines)


def _comment(enum: type, name: str) -> str:
    """The string under a member of an enum, which Python itself does not keep."""
    source = (ROOT / "operator/carp_operator/api/reasons.py").read_text()
    after = source.split(f"class {enum.__name__}", 1)[1].split(f"    {name} = ", 1)[1].split('"""', 2)
    return after[1]


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, str, str]]:
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, _kind(field), _text(field, required=name in schema.get("required", ()))
        yield from _fields(field, here)
        yield from _fields(field.get("items", {}), f"{here}[]")


def _kind(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if field["type"] == "array":
        return f"list of {field['items']['type']}"
    return str(field["type"])


def _text(field: Schema, *, required: bool) -> str:
    parts = [field["description"].replace("|", "\\|")]
    if "enum" in field:
        parts.append("One of " + ", ".join(f"`{value}`" for value in field["enum"]) + ".")
    if field.get("minimum") is not None and field["maximum"] < 2**31:
        parts.append(f"{field['minimum']} to {field['maximum']}.")
    if "default" in field and field["default"] != {}:
        parts.append(f"Default `{json.dumps(field['default'])}`.")
    if required:
        parts.append("**Required.**")
    return " ".join(parts)


def messages() -> str:
    """What goes wrong, and what is said then."""
    lines = [
        "# What goes wrong, and what kubecarp says",
        "",
        "Made from the list that the tests run against a real API server (`make pages`).",
        "",
        "## At `kubectl apply`",
        "",
        "| what | spec | message |",
        "|---|---|---|",
        *map(_row, REFUSED_AT_APPLY),
        "",
        "## At a change",
        "",
        "| what | spec before → after | message |",
        "|---|---|---|",
        *map(_row, REFUSED_CHANGES),
        "",
        "## Later: `Accepted` is `False`",
        "",
        "Mistakes that only a look at other objects shows. What ran before runs on. `kubectl describe carp NAME` and `kubectl carp status`",
        "show the message.",
        "",
        "| reason | when | message |",
        "|---|---|---|",
        *(f"| `{case.reason}` | {case.title} | {case.message} |" for case in REFUSED_LATER),
        "",
        "Two more are rare. `VhidsExhausted`: every VHID that the operator may give is taken on the network; put further addresses",
        "into an existing group, which holds 32, or widen `operator.vhidRange`. `VhidChanged`: the group runs with another VHID;",
        "delete it and create it anew.",
        "",
    ]
    return "\n".join(lines)


def _row(case: Refused) -> str:
    before = f"`{json.dumps(case.before)}` → " if case.before else ""
    return f"| {case.title} | {before}`{json.dumps(case.spec)}` | {case.message} |"


PAGES: dict[str, Callable[[], str]] = {"docs/api-reference.md": reference, "docs/messages.md": messages}

if __name__ == "__main__":
    for path, page in PAGES.items():
        (ROOT / path).write_text(page())
        print(path)
