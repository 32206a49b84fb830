"""Short words for OpenAPI v3 schemas: every field has a description and a bound, as a structural schema with CEL rules needs."""

__all__ = [
    "DURATION", "IP_NETWORK", "LABEL_SELECTOR", "Schema",
    "boolean", "definition", "integer", "items", "map_of", "record", "rule", "text", "time", "whole",
]  # fmt: skip

from typing import Any

from .names import CATEGORY, GROUP, VERSION

Schema = dict[str, Any]

DURATION = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
"""Durations as people write them: 200ms, 1s, 1m30s."""
IP_NETWORK = 49
"""The longest text of an IPv6 address with its prefix length."""


def rule(expression: str, message: str, **more: Any) -> Schema:
    """One CEL rule and the sentence a user reads when it does not hold."""
    return {"rule": expression, "message": message, **more}


def _described(description: str, more: dict[str, Any]) -> Schema:
    rules = more.pop("rules", None)
    return {"description": description, **more, **({"x-kubernetes-validations": list(rules)} if rules else {})}


def text(description: str, *, longest: int = 253, **more: Any) -> Schema:
    return {"type": "string", "maxLength": longest, **_described(description, more)}


def time(description: str) -> Schema:
    return {"type": "string", "format": "date-time", **_described(description, {})}


def integer(description: str, lowest: int, highest: int, **more: Any) -> Schema:
    kind = "int32" if highest < 2**31 else "int64"
    return {"type": "integer", "format": kind, "minimum": lowest, "maximum": highest, **_described(description, more)}


def boolean(description: str, **more: Any) -> Schema:
    return {"type": "boolean", **_described(description, more)}


def record(description: str, properties: dict[str, Schema], *, required: tuple[str, ...] = (), **more: Any) -> Schema:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", **_described(description, more), **needed, "properties": properties}


def items(description: str, item: Schema, *, most: int, **more: Any) -> Schema:
    return {"type": "array", "maxItems": most, **_described(description, more), "items": item}


def whole(description: str, item: Schema, *, most: int, **more: Any) -> Schema:
    """A list with one writer, who replaces it as a whole: nothing is recorded for each of its fields, which would triple the object."""
    return items(description, item, most=most, **{"x-kubernetes-list-type": "atomic"}, **more)


def map_of(description: str, item: Schema, *, keys: tuple[str, ...], most: int, **more: Any) -> Schema:
    """A list whose entries are known by ``keys``: server-side apply merges it entry by entry."""
    return items(description, item, most=most, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}, **more)


def definition(kind: str, short: str, schema: Schema, columns: list[Schema]) -> Schema:
    """A cluster-scoped CustomResourceDefinition, ready to apply; ``schema`` is that of the whole object, without its metadata."""
    singular = kind.lower()
    metadata = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    whole_object = schema | {"properties": metadata | schema["properties"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": f"{singular}s",
                "singular": singular,
                "shortNames": [short],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": whole_object},
                }
            ],
        },
    }


_EXPRESSION = record(
    "One requirement.",
    {
        "key": text("The label's key.", longest=317),
        "operator": text("How the label relates to the values.", longest=12, enum=["In", "NotIn", "Exists", "DoesNotExist"]),
        "values": items("For In and NotIn: the values.", text("A value.", longest=63), most=64),
    },
    required=("key", "operator"),
    rules=[
        rule(
            "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0",
            "In and NotIn need values; Exists and DoesNotExist take none",
        )
    ],
)
LABEL_SELECTOR: dict[str, Schema] = {
    "matchLabels": {
        "type": "object",
        "description": "Labels a node must have, with these values.",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 63},
    },
    "matchExpressions": items("Requirements a node's labels must meet, all of them.", _EXPRESSION, most=64),
}
