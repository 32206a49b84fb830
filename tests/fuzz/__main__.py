"""``make fuzz``: looks for what breaks a door, for as long as it is let: coverage-guided by atheris, then hypothesis over the engines.

A finding is kept under tests/fuzz/regressions, where a test runs it for ever; new inputs are kept, the fewest that reach as much.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fuzz.page import page
from fuzz.targets import TARGETS, seeds

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CORPUS, REGRESSIONS = HERE / "corpus", HERE / "regressions"
RESULT = ROOT / "docs" / "fuzzing.json"
MAX_LENGTH = 4096
"""Bytes of an input: every door has its own limit, and what is behind it is found with less."""
SLOWEST_S = 25
"""An input that takes longer is a finding."""
KEPT_BYTES = 60_000
"""Of the corpus of one target, the smallest inputs first."""
HYPOTHESIS = ["tests/fuzz", "tests/simulation/test_machine.py", "--hypothesis-profile=fuzz", "--timeout=14400"]
_STATS = re.compile(r"#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+)(?: corp: (\d+)/)?")


def main() -> int:
    """0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--target", action="append", choices=list(TARGETS), metavar="NAME", help="one of those of --list; may be repeated")
    parser.add_argument("--minutes", type=float, default=5.0, metavar="M", help="for each target (default: 5)")
    parser.add_argument("--hypothesis", action="store_true", help="afterwards the properties with hypothesis too, for hours")
    parser.add_argument("--list", action="store_true", help="name the targets and what each promises")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input, of the target that --target or its folder names")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:12}{one.promise}" for name, one in TARGETS.items()))
        return 0
    if options.replay:
        return replay(options.replay, (options.target or [options.replay.resolve().parent.name])[0])
    found = [fuzz(name, options.minutes * 60) for name in options.target or TARGETS]
    if options.hypothesis:
        found.append(subprocess.run([sys.executable, "-m", "pytest", *HYPOTHESIS], cwd=ROOT, check=False).returncode)
    return 1 if any(found) else 0


def replay(path: Path, name: str) -> int:
    """Let the input do what it does: a bug shows its traceback."""
    if name not in TARGETS:
        sys.exit(f"{name} is no target; name one with --target: {', '.join(TARGETS)}")
    TARGETS[name].run(path.read_bytes())
    print(f"{path}: nothing broke")
    return 0


def fuzz(name: str, seconds: float) -> int:
    """How many findings one target gave."""
    with tempfile.TemporaryDirectory(prefix="kubecarp-fuzz-") as folder:
        work, crashes = Path(folder) / "work", Path(folder) / "crashes"
        work.mkdir()
        crashes.mkdir()
        for number, seed in enumerate(seeds(name)):
            (work / f"seed-{number}").write_bytes(seed)
        command = [
            sys.executable, str(HERE / "driver.py"), name, str(work), *([str(CORPUS / name)] if (CORPUS / name).is_dir() else []),
            f"-max_total_time={seconds:.0f}", f"-max_len={MAX_LENGTH}", f"-timeout={SLOWEST_S}", f"-artifact_prefix={crashes}/",
            "-rss_limit_mb=4096",
        ]  # fmt: skip
        began, last = time.monotonic(), (0, 0, 0, 0)
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, errors="replace") as running:
            assert running.stderr is not None
            said: list[str] = []
            for line in running.stderr:
                said = [*said[-60:], line]
                if match := _STATS.match(line):
                    last = tuple(int(one or was) for one, was in zip(match.groups(), last, strict=True))  # type: ignore[assignment]
                    show(name, time.monotonic() - began, last, 0)
        kept = [keep(name, path) for path in sorted(crashes.iterdir())]
        show(name, time.monotonic() - began, last, len(kept), end="\n")
        if kept or running.returncode:
            print("".join(said[-25:]))
        for path in kept:
            print(f'found: {path.relative_to(ROOT)}; replay it: make fuzz ARGS="--replay {path.relative_to(ROOT)}"')
        if not kept:
            minimise(name, work)
        remember(name, last, time.monotonic() - began, len(kept))
        return len(kept) or (1 if running.returncode else 0)


def show(name: str, seconds: float, stats: tuple[int, ...], findings: int, end: str = "") -> None:
    """One row of the table, drawn again as it grows."""
    runs, coverage, features, corpus = stats
    row = f"{name:12}{seconds:6.0f} s {runs:>11,} runs"
    row += f"  coverage {coverage:>5}  features {features:>6}  corpus {corpus:>5}  findings {findings}"
    if sys.stdout.isatty():
        print(f"\r{row}", end=end, flush=True)
    elif end:
        print(row, flush=True)


def keep(name: str, crash: Path) -> Path:
    """A finding becomes a regression: a test runs it from now on."""
    folder = REGRESSIONS / name
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(crash, folder / crash.name[:24]))


def minimise(name: str, work: Path) -> None:
    """Keep the fewest and smallest inputs that reach all that was reached."""
    with tempfile.TemporaryDirectory(prefix="kubecarp-fuzz-") as folder:
        sources = [str(work), *([str(CORPUS / name)] if (CORPUS / name).is_dir() else [])]
        command = [sys.executable, str(HERE / "driver.py"), name, "-merge=1", f"-max_len={MAX_LENGTH}", folder, *sources]
        if subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode or not os.listdir(folder):
            return
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        for path in (CORPUS / name).iterdir():
            path.unlink()
        size = 0
        for path in sorted(Path(folder).iterdir(), key=lambda one: one.stat().st_size):
            size += path.stat().st_size
            if size <= KEPT_BYTES:
                shutil.copy(path, CORPUS / name / path.name[:16])


def remember(name: str, stats: tuple[int, ...], seconds: float, findings: int) -> None:
    """Add the run to the result, and write the page anew."""
    document: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"targets": {}}
    before = document["targets"].get(name, {"runs": 0, "seconds": 0.0, "crashes": 0})
    document["targets"][name] = {
        "runs": before["runs"] + stats[0], "seconds": round(before["seconds"] + seconds), "crashes": before["crashes"] + findings,
        "coverage": stats[1], "features": stats[2], "last": f"{datetime.now(UTC):%Y-%m-%d}",
    }  # fmt: skip
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    RESULT.with_suffix(".md").write_text(page(document))


if __name__ == "__main__":
    sys.exit(main())
