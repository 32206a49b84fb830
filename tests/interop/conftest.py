"""Fixtures of the interop layer."""

__all__ = ["lab"]

from lab.fixtures import lab
