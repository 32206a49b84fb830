"""Label selectors, with the meaning of metav1.LabelSelector: matchLabels and matchExpressions, all of them."""

__all__ = ["Selector"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from .errors import BadObject


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements on labels; without any it selects everything."""

    requirements: tuple[tuple[str, str, frozenset[str]], ...] = ()
    """Key, operator and values."""

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """Raises BadObject for an operator that does not exist."""
        found = [(str(key), "In", frozenset({str(value)})) for key, value in (spec.get("matchLabels") or {}).items()]
        for entry in spec.get("matchExpressions") or []:
            operator = entry.get("operator")
            if operator not in _OPERATORS:
                raise BadObject(f"nodeSelector has the operator {operator!r}; the operators are {', '.join(_OPERATORS)}")
            found.append((str(entry.get("key", "")), operator, frozenset(map(str, entry.get("values") or ()))))
        return cls(tuple(found))

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(_OPERATORS[operator](labels.get(key), values) for key, operator, values in self.requirements)


_OPERATORS: dict[str, Callable[[str | None, frozenset[str]], bool]] = {
    "In": lambda label, values: label in values,
    "NotIn": lambda label, values: label not in values,
    "Exists": lambda label, _values: label is not None,
    "DoesNotExist": lambda label, _values: label is None,
}
