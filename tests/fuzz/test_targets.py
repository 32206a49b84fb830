"""Every door with every input that was kept, with mutations that hypothesis makes of them, and for a moment with atheris."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.mutations import mutated
from fuzz.targets import TARGETS, seeds

HERE = Path(__file__).resolve().parent
RUNS = 300
DRIVEN = ("strict", "json", "control")
"""Each start of atheris costs a second and more; ``make fuzz`` drives all."""
NAMES = pytest.mark.parametrize("name", TARGETS)


def kept(name: str) -> list[bytes]:
    """Regressions first, then what reaches far."""
    return [path.read_bytes() for folder in ("regressions", "corpus") for path in sorted((HERE / folder / name).glob("*"))]


def regressions() -> list[Path]:
    return sorted((HERE / "regressions").glob("*/*"))


@pytest.mark.parametrize("path", regressions(), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once(path: Path) -> None:
    TARGETS[path.parent.name].run(path.read_bytes())


@NAMES
def test_what_is_kept(name: str) -> None:
    for data in [*seeds(name), *kept(name)]:
        TARGETS[name].run(data)


@NAMES
@settings(max_examples=25)
@given(data=st.data())
def test_what_is_nearly_right(name: str, data: st.DataObject) -> None:
    TARGETS[name].run(data.draw(st.one_of(st.binary(max_size=200), mutated([*seeds(name), *kept(name)]))))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this Python or machine")
@pytest.mark.parametrize("name", DRIVEN)
def test_atheris_drives(name: str, tmp_path: Path) -> None:
    for number, seed in enumerate(seeds(name)):
        (tmp_path / str(number)).write_bytes(seed)
    command = [sys.executable, str(HERE / "driver.py"), name, str(tmp_path), f"-runs={RUNS}", f"-artifact_prefix={tmp_path}/", "-seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "cov: " in done.stderr, "nothing is watched for coverage"
