"""Runs a sidecar whose wall clock somebody else sets, and with one thing broken if asked.

``python -m chaos.launch CLOCK BUG ... run --config FILE``

The wall clock of a machine is everybody's, time namespaces do not shift it, and libfaketime 0.9.10 makes every ``time.sleep`` of Python
fail (EINVAL from clock_nanosleep). So the one place where this program reads the wall clock, ``time.time``, is what is shifted.
"""

__all__ = ["BUGS"]

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carp_protocol.config import GroupConfig
from carp_protocol.engine import Engine
from carp_sidecar import cli


def _replace(owner: Any, name: str, instead: Any) -> Callable[[], None]:
    return lambda: setattr(owner, name, instead)


BUGS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "no stall check": _replace(Engine, "_step_down_if_stalled", lambda *_: None),
    "no gate": _replace(GroupConfig, "may_be_gated", False),
    "deaf to better masters": _replace(Engine, "_meet_master", lambda *_: None),
}


def _shift_clock(offset: Path) -> None:
    real = time.time
    time.time = lambda: real() + float(offset.read_text() or 0)


if __name__ == "__main__":
    _shift_clock(Path(sys.argv[1]))
    BUGS[sys.argv[2]]()
    sys.argv = ["carp-sidecar", *sys.argv[sys.argv.index("run") :]]
    sys.exit(cli.main())
