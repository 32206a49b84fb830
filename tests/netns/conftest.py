"""Fixtures of the netns layer."""

__all__ = ["lab"]

from lab.fixtures import lab
