"""The status of many groups in steps, so that an election never waits until 255 of them are described."""

__all__ = ["StatusSource", "groups_in_steps"]

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Protocol

_AT_ONCE = 16
"""Groups between two looks at the network: 1.5 ms with what is made of them (measured)."""


class StatusSource(Protocol):
    """Who describes the groups; asked in the event loop."""

    def group_names(self) -> list[str]:
        """The groups that run, in the order of the configuration."""

    def status(self, names: Collection[str] | None = None) -> dict[str, Any]:
        """The status document, with these groups only if they are given; a name without a group is left out."""


async def groups_in_steps(source: StatusSource, names: Sequence[str]) -> AsyncIterator[list[dict[str, Any]]]:
    """The entries of these groups in the status document, some at a time."""
    for first in range(0, len(names), _AT_ONCE):
        yield source.status(names[first : first + _AT_ONCE])["groups"]
        await asyncio.sleep(0)
