"""Fixtures of the netns layer."""

__all__ = ["lab", "real_root"]

from lab.fixtures import lab, real_root
