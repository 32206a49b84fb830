#!/usr/bin/env python3
"""Runs the static checks and every layer of tests, counts them, and names what could not run: the script behind `make test`."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

STATIC: dict[str, list[str]] = {
    "ruff": ["ruff", "check", "--quiet"],
    "format": ["ruff", "format", "--check"],
    "mypy": ["mypy"],
    "imports": ["lint-imports"],
}
STATIC_LIMIT_S = 300
"""A first mypy run without its cache takes about a minute on a small machine."""

LAYERS: dict[str, int] = {
    "unit": 900, "simulation": 900, "netns": 3600, "interop": 1800, "api": 3600, "chart": 1800, "cluster": 3600, "fuzz": 1800,
}  # fmt: skip
"""Layer, which is its folder under tests/: seconds after which it is stuck and is ended, also on a machine three times slower than ours."""
NAMESPACED = {"netns", "interop", "api", "chart"}
AS_ROOT_OF_A_USER_NAMESPACE = ["unshare", "--user", "--map-root-user", "--net"]
"""How these run without root, where the kernel lets users have namespaces."""

NO_TESTS = 5
PYTEST_ENDS = {2: "was interrupted", 3: "broke inside", 4: "could not start: is the folder there?", NO_TESTS: "found no tests"}


@dataclass(slots=True)
class Row:
    """What one row of the final table says, and what is said below it."""

    name: str
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    skips: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def main() -> int:
    """0 when everything that ran passed, 1 otherwise, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layers", nargs="*", metavar="LAYER", help=f"static, {', '.join(LAYERS)}; default: all")
    layers = parser.parse_args().layers or ["static", *LAYERS]
    if unknown := sorted(set(layers) - {"static", *LAYERS}):
        parser.error(f"no such layer: {', '.join(unknown)}")
    try:
        rows = [run_static() if layer == "static" else run_layer(layer) for layer in layers]
    except KeyboardInterrupt:
        return 130
    print(table(rows))
    return 1 if any(row.failed for row in rows) else 0


def run_static() -> Row:
    """The checks that execute nothing of ours; all of them, also when the first one fails."""
    row = Row("static")
    heading(row.name)
    started = time.monotonic()
    for name, command in STATIC.items():
        problem, output = run_check(command)
        print(f"  {name:8}{problem or 'ok'}\n{output if problem else ''}", end="", flush=True)
        if problem:
            row.failed += 1
            row.problems.append(f"{name} {problem}")
        else:
            row.passed += 1
    row.seconds = time.monotonic() - started
    return row


def run_check(command: list[str]) -> tuple[str, str]:
    """What is wrong with one static check (empty: nothing), and its output."""
    try:
        done = subprocess.run(
            [BIN / command[0], *command[1:]],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STATIC_LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        return f"is not installed beside {sys.executable}: run `make test`", ""
    except subprocess.TimeoutExpired:
        return f"did not end within {STATIC_LIMIT_S} s", ""
    return ("failed" if done.returncode else ""), done.stdout


def run_layer(name: str) -> Row:
    """One folder of tests, in a process of its own."""
    row = Row(name)
    heading(name)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kubecarp-tests-") as folder:
        report = Path(folder) / "report.xml"
        try:
            command = [*privileges(name), sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", f"tests/{name}"]
            code = subprocess.run(command, cwd=ROOT, timeout=LAYERS[name], check=False).returncode
            ending = PYTEST_ENDS.get(code, f"ended with code {code}") if code not in (0, 1) else ""
        except subprocess.TimeoutExpired:
            code, ending = -1, f"was ended after {LAYERS[name]} s: something hangs"
        if report.exists():
            count_cases(report, row)
    if ending and not (code == NO_TESTS and row.skips):
        row.failed = max(row.failed, 1)
        row.problems.append(f"pytest tests/{name} {ending}")
    row.seconds = time.monotonic() - started
    return row


def privileges(layer: str) -> list[str]:
    """What to start a layer with, so that it may make network namespaces; nothing when nothing helps: its tests then say so."""
    if layer not in NAMESPACED or os.geteuid() == 0:
        return []
    try:
        done = subprocess.run([*AS_ROOT_OF_A_USER_NAMESPACE, "true"], capture_output=True, timeout=10, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    return [] if done.returncode else AS_ROOT_OF_A_USER_NAMESPACE


def count_cases(report: Path, row: Row) -> None:
    """Adds the cases of a JUnit report. A test that fails twice, in its body and in its teardown, is one failure."""
    failed, passed = set(), set()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
        name = f"{case.get('classname')}::{case.get('name')}"
        skip = case.find("skipped")
        if skip is not None:
            row.skips[skip_reason(skip)] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
        else:
            passed.add(name)
    row.failed += len(failed)
    row.passed += len(passed - failed)
    row.problems.extend(sorted(failed))


def skip_reason(skip: ET.Element) -> str:
    """Why; a module that skipped itself says it in the text, as the tuple of file, line and reason."""
    if skip.get("message") != "collection skipped":
        return skip.get("message") or "no reason given"
    return (skip.text or "").rpartition("Skipped: ")[2].rstrip("')\"")


def heading(name: str) -> None:
    """Where in the output a layer begins."""
    print(f"\n== {name} ".ljust(80, "="), flush=True)


def table(rows: list[Row]) -> str:
    """Counts per layer, then names: what failed, what could not run; last the sum."""
    lines = ["", f"{'layer':<10}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    lines += [f"{row.name:<10}{row.passed:>8}{row.failed:>8}{row.skips.total():>9}{row.seconds:>9.1f}" for row in rows]
    failures = [f"  {row.name}: {problem}" for row in rows for problem in row.problems]
    if failures:
        lines += ["", "Failed:", *failures]
    skips = [f"  {row.name}: {number} x {reason}" for row in rows for reason, number in row.skips.items()]
    if skips:
        lines += ["", "Could not run on this machine:", *skips]
    skipped = sum(row.skips.total() for row in rows)
    total = f"{sum(row.passed for row in rows)} passed, {sum(row.failed for row in rows)} failed"
    return "\n".join([*lines, "", total + (f", {skipped} skipped" if skipped else "")])


if __name__ == "__main__":
    sys.exit(main())
