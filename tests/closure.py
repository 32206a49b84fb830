#!/usr/bin/env python3
"""Prints the part of requirements.lock that is needed for a purpose: the packages that pyproject.toml names, and what they need.

`closure.py`: what every program needs. `closure.py operator`: the same and an extra. `closure.py --build`: what makes the wheel. Runs
where nothing is installed yet, in the build of the image among others: the standard library alone.
"""

__all__ = ["closure", "roots"]

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path


def roots(pyproject: str, extras: Iterable[str] = (), *, build: bool = False) -> set[str]:
    """The packages that pyproject.toml names for a purpose."""
    tables = tomllib.loads(pyproject)
    project = tables["project"]
    named = list(tables["build-system"]["requires"] if build else project["dependencies"])
    for extra in extras:
        named += project["optional-dependencies"][extra]
    return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in named}


def closure(lock: str, wanted: set[str]) -> str:
    """The entries of ``wanted`` and of all that they need, in the order of the lock. An entry says below `# via` what it is there for."""
    entries = {entry.partition("==")[0]: entry for entry in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE) if "==" in entry}
    if unknown := sorted(wanted - entries.keys()):
        raise KeyError(f"not in requirements.lock: {', '.join(unknown)}; run `make lock`")
    users = {name: set(re.findall(r"^    #(?: via|  ) ([a-z0-9-]+)$", entry, re.MULTILINE)) for name, entry in entries.items()}
    while more := {name for name in entries if users[name] & wanted} - wanted:
        wanted = wanted | more
    return "".join(entry for name, entry in entries.items() if name in wanted)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="an extra of pyproject.toml")
    parser.add_argument("--build", action="store_true", help="what makes the wheel, and not what runs")
    arguments = parser.parse_args()
    wanted = roots(Path("pyproject.toml").read_text(), arguments.extras, build=arguments.build)
    sys.stdout.write(closure(Path("requirements.lock").read_text(), wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
