"""Who takes over when the master goes: the order in which those who wait act, which is the order of what they say in their adverts."""

__all__ = ["successor"]

import functools
from collections.abc import Mapping

from carp_protocol.config import Authentication, Dialect, GroupConfig, Mode
from carp_protocol.election import own_standing


def successor(waiting: Mapping[str, tuple[int, int]], mode: Mode = Mode.STRICT, dialect: Dialect = Dialect.COMMON) -> str:
    """The best of those who could take over, given as demotion and advskew by node: the least demoted, then the best rank.

    Empty if nobody waits.
    """
    return min(waiting, key=lambda node: (*_said(*waiting[node], mode, dialect), node), default="")


@functools.lru_cache(maxsize=4096)
def _said(demotion: int, advskew: int, mode: Mode, dialect: Dialect) -> tuple[int, int]:
    """What such a member says of itself."""
    authentication = Authentication(mode=mode, dialect=dialect)
    standing = own_standing(
        GroupConfig(name="", vhid=1, addresses=(), advskew=advskew, authentication=authentication), demotion, sender_id=0
    )
    return standing.demotion, standing.advskew
