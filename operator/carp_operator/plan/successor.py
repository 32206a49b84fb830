"""Who takes over when the master goes: the order in which those who wait act, which is the order of what they say in their adverts."""

__all__ = ["successor"]

from collections.abc import Mapping

from carp_protocol.config import Authentication, Dialect, GroupConfig, Mode
from carp_protocol.election import own_standing


def successor(waiting: Mapping[str, tuple[int, int]], mode: Mode = Mode.STRICT, dialect: Dialect = Dialect.COMMON) -> str:
    """The best of those who could take over, given as demotion and advskew by node: the least demoted, then the best rank.

    Empty if nobody waits.
    """
    authentication = Authentication(mode=mode, dialect=dialect)

    def said(node: str) -> tuple[int, int, str]:
        demotion, advskew = waiting[node]
        member = GroupConfig(name=node, vhid=1, addresses=(), advskew=advskew, authentication=authentication)
        standing = own_standing(member, demotion, sender_id=0)
        return standing.demotion, standing.advskew, node

    return min(waiting, key=said, default="")
