"""The process that atheris drives: one target, watched for coverage. ``python driver.py TARGET [CORPUS...] [-libfuzzer=options]``."""

import logging
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tests", "sidecar", "operator")]

with atheris.instrument_imports(include=["carp_protocol", "carp_sidecar", "carp_agent", "carp_operator"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    logging.disable(logging.CRITICAL)
    name = sys.argv.pop(1)
    sys.argv[0] = f"{sys.executable} {__file__} {name}"  # what libFuzzer starts again to merge corpora
    atheris.Setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
