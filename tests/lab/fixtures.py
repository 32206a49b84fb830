"""pytest fixtures of every layer that needs a network: a lab that ends with the test."""

__all__ = ["lab", "real_root", "simple_lab"]

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.namespace import LabError, become_root
from lab.network import Lab


@contextlib.contextmanager
def simple_lab() -> Iterator[Lab]:
    """Hosts a, b, c and a client on one segment. At the end no program may have shown its user a traceback."""
    with Lab.simple(3) as network:
        yield network
        for log in network.directory.glob("*/log"):
            text = log.read_text(errors="replace")
            assert "Traceback (most recent call last)" not in text, f"{log.parent.name} printed a traceback:\n{text[-4000:]}"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Hosts a, b, c and a client on one segment."""
    try:
        become_root()
    except LabError as error:
        pytest.skip(str(error))
    with simple_lab() as network:
        yield network


@pytest.fixture
def real_root() -> None:
    """For pods, whose users and groups differ."""
    setgroups = Path("/proc/self/setgroups")
    if setgroups.exists() and setgroups.read_text().strip() == "deny":
        pytest.skip("needs root: a user namespace of an ordinary user cannot set groups")
