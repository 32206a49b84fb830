"""Defends the addresses of a master against hosts that claim them by ARP or neighbour discovery (RFC 5227, section 2.4).

A member that takes over lawfully claims them too, a moment before its advert is heard; and of two masters the election makes one.
So a claim is judged when the claimant has had time to speak: whoever is still master then, and met no other, has met a stranger.
"""

__all__ = ["Defence"]

import asyncio
from collections.abc import Callable

from carp_protocol.effects import AddressConflict, Announce, Effect, State
from carp_protocol.engine import Engine

DEFEND_INTERVAL_S = 10.0
"""RFC 5227: two hosts that both defend must not do so in a loop."""
_PATIENCE_S = 0.5
_INTERVALS = 2
"""Of adverts: a rival master has spoken by then, if only one is lost."""


class Defence:
    """``claimed`` for every claim of another MAC; what it takes to defend the addresses is asked for at most once in DEFEND_INTERVAL_S."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop, carry_out: Callable[[Effect], None]) -> None:
        self._engine = engine
        self._loop = loop
        self._carry_out = carry_out
        self._quiet_until = 0.0

    def claimed(self, mac: str) -> None:
        """While this member is master, ``mac`` said that it has one of the addresses."""
        now = self._loop.time()
        if now < self._quiet_until:
            return
        patience_s = max(_PATIENCE_S, _INTERVALS * self._engine.config.advertisement_interval_s)
        self._quiet_until = now + patience_s
        self._loop.call_later(patience_s, self._judge, mac, now, patience_s)

    def _judge(self, mac: str, claimed_at: float, patience_s: float) -> None:
        rival = self._engine.rival
        met = rival is not None and rival.heard_at >= claimed_at - patience_s
        if self._engine.state is State.MASTER and self._engine.since <= claimed_at and not met:
            self._quiet_until = claimed_at + DEFEND_INTERVAL_S
            self._carry_out(AddressConflict(mac))
            self._carry_out(Announce())
