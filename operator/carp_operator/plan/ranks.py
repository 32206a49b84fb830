"""The rank of every member: named priorities as they are, the others below them in an order that differs per group.

The order is a rendezvous hash of group and node: it spreads masters over the nodes, and a node that comes or goes moves
nobody else's place in it.
"""

__all__ = ["MAX_MEMBERS", "WIDEST_STEP", "rank_members"]

import hashlib
from collections.abc import Iterable, Mapping

MAX_MEMBERS = 255
"""advskew 0 to 254; 255 never becomes master."""
WIDEST_STEP = 16
"""Between neighbours, so that an advert of the better one silences the worse before it acts; of more than 16 between the best."""
_LOWEST = 254


def rank_members(group: str, nodes: Iterable[str], priorities: Mapping[str, int]) -> dict[str, int]:
    """advskew by node, best first; no two alike but for priority 0. Of more than 255 nodes only the best are members."""
    nodes = set(nodes)
    named = {node: 255 - priorities[node] for node in nodes if node in priorities}
    unnamed = sorted(nodes - named.keys(), key=lambda node: hashlib.sha256(f"{group}\0{node}".encode()).digest())
    taken = {advskew for advskew in named.values() if advskew <= _LOWEST}
    ranks = named | dict(zip(unnamed, _free(len(unnamed), taken), strict=False))
    return dict(sorted(ranks.items(), key=lambda item: (item[1], item[0])))


def _free(count: int, taken: set[int]) -> list[int]:
    """Ranks that nobody has, the best first: below the named ones as long as there is room, else between. Fewer if there are fewer."""
    above = max(taken, default=-WIDEST_STEP)
    if count <= _LOWEST - max(above, -1):
        # Who takes over is nearly always one of the best: they are a full step apart, and the others share what is left.
        wide = min(count, (_LOWEST - above - count) // (WIDEST_STEP - 1))
        last = above + WIDEST_STEP * wide
        return [above + WIDEST_STEP * place for place in range(1, wide + 1)] + [last + place for place in range(1, count - wide + 1)]
    found: list[int] = []
    for step in range(WIDEST_STEP, 0, -1):
        found = _from_below(count, taken, step)
        if len(found) == count:
            break
    return found[::-1]


def _from_below(count: int, taken: set[int], step: int) -> list[int]:
    """At most ``count`` ranks, the lowest first, of which each is at least ``step`` away from every other one."""
    found: list[int] = []
    rank = _LOWEST
    while rank >= 0 and len(found) < count:
        near = [other for other in taken if abs(other - rank) < step]
        if near:
            rank = min(near) - step
        else:
            found.append(rank)
            rank -= step
    return found
