"""Writes what the chart takes from elsewhere: its CRDs from the code, and the table of its README from the comments of values.yaml.

A comment that begins with ``# --`` describes the value below it, as helm-docs has it; its further lines follow as plain comments.
"""

__all__ = ["crd_files", "readme", "value_rows"]

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from carp_operator.api.crds import crds_yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "kubecarp"
CRDS = CHART / "files" / "crds"
BEGIN, END = "<!-- made from values.yaml: make pages -->\n", "<!-- end -->\n"
_KEY = re.compile(r"^( *)([A-Za-z]+):")


def crd_files() -> dict[Path, str]:
    """Every file of ``files/crds``, and what should be in it."""
    return {CRDS / name: text for name, text in crds_yaml().items()}


def value_rows(text: str) -> Iterator[tuple[str, Any, str]]:
    """Every value that has a description: its path, its default, its description."""
    values = yaml.safe_load(text)
    path: list[str] = []
    described: list[str] | None = None
    for line in text.splitlines():
        comment = re.match(r" *# (-- )?(.*)", line)
        key = _KEY.match(line)
        if comment and comment[1]:
            described = [comment[2]]
        elif comment and described is not None:
            described.append(comment[2])
        elif key:
            path = [*path[: len(key[1]) // 2], key[2]]
            if described is not None:
                yield ".".join(path), _look_up(values, path), " ".join(described)
            described = None
        else:
            described = None


def _look_up(values: Any, path: list[str]) -> Any:
    for name in path:
        values = values[name]
    return values


def readme(old: str, values: str) -> str:
    """The README with its table made anew."""
    rows = [f"| `{path}` | `{json.dumps(default)}` | {description} |\n" for path, default, description in value_rows(values)]
    head, _, rest = old.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return "".join([head, BEGIN, "| value | default | |\n|---|---|---|\n", *rows, END, tail])


def main() -> None:
    """Write the files that differ."""
    wanted = crd_files()
    page = CHART / "README.md"
    wanted[page] = readme(page.read_text(), (CHART / "values.yaml").read_text())
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(CHART)}")


if __name__ == "__main__":
    main()
