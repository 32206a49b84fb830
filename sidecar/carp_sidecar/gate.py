"""The gate of this host: claims for the addresses its groups hold, leases renewed as long as they are punctual.

Fails open. Whatever the kernel refuses, tables that somebody removed above all, is answered by building everything anew; as long
as that cannot be, the addresses have their lifetime alone (``rtnl.LEASE_S``), and groups that require more are told.
"""

__all__ = ["Gate", "LeaseEnd"]

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from functools import partial

from carp_sidecar.kernel.nft import Claim, Tables, mute
from carp_sidecar.kernel.transactions import Transactions
from carp_sidecar.logs import log_event

_log = logging.getLogger(__name__)

_RETRY_S = 10.0
"""A kernel that cannot do it will hardly learn; one that is short of memory may recover."""
_SPACING = 1 / 10
"""Of a lease, a quarter of an interval: adverts of many groups within it share a renewal."""
_PATIENCE = 1 / 20
"""Of a lease, an eighth of an interval: a renewal that waited longer in the queue would make the lease longer than it may be."""


LeaseEnd = Callable[[float], float | None]
"""Given the time: when the addresses of a group must fall silent unless it speaks before; None: it holds none."""


class Gate:
    """Groups call ``hold`` when they take addresses, ``mute`` when they hand them over, ``let_go`` when the kernel has removed them, and
    ``spoke`` after every advert.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: str, on_change: Callable[[], None]) -> None:
        self.problem = "nftables has not answered yet"
        """Why there is no gate, a phrase; empty: there is one."""
        self.rebuilt = 0
        """How often the tables had to be made anew."""
        self._loop = loop
        self._tables = Tables(owner)
        self._transactions = Transactions(loop)
        self._on_change = on_change
        self._holding: dict[str, tuple[tuple[Claim, ...], LeaseEnd | None]] = {}
        self._muted: set[str] = set()
        """Groups that are handing over."""
        self._joining: set[int] = set()
        """Devices that join the multicast groups of IPv6 addresses which were taken since the last transaction."""
        self._told: set[Claim] = set()
        """What the kernel was told to be claimed."""
        self._changed = False
        """Whether that is not what is held."""
        self._leases: set[int] = set()
        """Those that the tables have, by full length."""
        self._rebuild = True
        self._renewed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def table(self) -> str:
        """The name of the tables in ``nft list tables``."""
        return self._tables.name

    @property
    def removal(self) -> bytes:
        """The transaction that leaves nothing of it, for whoever outlives this process."""
        return self._tables.remove

    def start(self) -> None:
        """Make the tables, in place of those a dead predecessor left; ``on_change`` follows."""
        self._transactions.start()
        self._write()

    def close(self) -> None:
        """Leave nothing."""
        if self._timer:
            self._timer.cancel()
        self._transactions.submit(self._tables.remove, lambda _: None)
        self._transactions.close()

    def hold(self, group: str, claims: tuple[Claim, ...], lease_ends_at: LeaseEnd | None) -> None:
        """The group holds these addresses from now on, and no others; ``lease_ends_at`` of None: it does without a lease."""
        known = self._holding.pop(group, None)
        if claims:
            self._holding[group] = claims, lease_ends_at
        if known is None or known[0] != claims:
            self._joining.update(one.interface for one in claims if one.version == 6)
        if (claims, lease_ends_at) != (known or ((), None)) or group in self._muted:
            self._muted.discard(group)
            self._change()

    def mute(self, group: str) -> None:
        """The group answers packets until a successor is heard, and tells nobody any more that the addresses are here."""
        if group in self._holding:
            self._muted.add(group)
            self._change()

    def let_go(self, group: str) -> None:
        """The kernel has none of the group's addresses any more."""
        self._muted.discard(group)
        if self._holding.pop(group, None):
            self._change()

    def spoke(self, lease_ms: int) -> None:
        """A group with such a lease has said that it is master: the lease may go on."""
        self._schedule(self._renewed_at + lease_ms / 1000 * _SPACING)

    def _change(self) -> None:
        self._changed = True
        self._schedule(self._loop.time())

    def _schedule(self, due: float) -> None:
        if self.problem or (self._timer and self._timer.when() <= due):
            return
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._write)

    def _write(self) -> None:
        """Tell the kernel what is held and for how long, in one transaction."""
        self._timer = None
        now = self._renewed_at = self._loop.time()
        left_ms = self._left_ms(now)
        rebuild, changed = self._rebuild or not left_ms.keys() <= self._leases, self._changed
        told = self._claims() if rebuild or changed else self._told
        if rebuild:
            transaction = self._tables.build(sorted(told), left_ms, sorted(self._joining))
            self._leases = set(left_ms)
        else:
            unused = dict.fromkeys(self._leases - left_ms.keys(), 0)
            changes = sorted(told - self._told), sorted(self._told - told), sorted(self._joining)
            if not any((left_ms, unused, *changes)):
                self._changed = False  # of groups without leases, which the kernel need not know
                return
            transaction = self._tables.renew(left_ms | unused, *changes)
        self._joining.clear()
        self._told, self._rebuild, self._changed = told, False, False
        expires = now + min(left_ms) / 1000 * _PATIENCE if left_ms else None
        self._transactions.submit(transaction, partial(self._written, rebuild, rebuild or changed), expires=expires)

    def _claims(self) -> set[Claim]:
        """What the kernel has to be told to be claimed."""
        held = {claim for claims, lease_ends_at in self._holding.values() for claim in claims if lease_ends_at}
        return held | {mute(claim) for group in self._muted for claim in self._holding[group][0]}

    def _left_ms(self, now: float) -> dict[int, int]:
        """By its full length, what is left of each lease: until the first of its groups must be silent.

        A group whose addresses are just being removed has no say; where there is no other, nothing is left.
        """
        wanted, left_ms = set[int](), dict[int, int]()
        for claims, lease_ends_at in list(self._holding.values()):
            if lease_ends_at is None:
                continue
            lease_ms = claims[0].lease_ms
            wanted.add(lease_ms)
            if (ends_at := lease_ends_at(now)) is not None:
                ends_ms = int((ends_at - now) * 1000)
                left_ms[lease_ms] = min(left_ms.get(lease_ms, ends_ms), ends_ms)
        return dict.fromkeys(wanted, 0) | left_ms

    def _written(self, rebuild: bool, matters: bool, number: int) -> None:
        """The kernel has answered."""
        if number == 0:
            if rebuild and self.problem:
                self._tell("", logging.INFO, f"a master that hangs is silenced by nftables, tables {self.table}")
        elif number == errno.ETIME and not matters:
            _log.debug("the kernel was busy with other rules: a lease was not renewed this time")
        elif number == errno.ETIME and not self.problem:
            self._rebuild = True
            self._schedule(self._loop.time())
        elif not rebuild:
            self._rebuild = True
            self.rebuilt += 1
            sentence = f"the nftables tables {self.table} are not as they were ({os.strerror(number)}): made anew"
            log_event(_log, logging.WARNING, sentence)
            self._schedule(self._loop.time())
        else:
            self._rebuild = True
            self._loop.call_later(_RETRY_S, self._write)
            problem = f"the kernel refuses nftables rules ({os.strerror(number)})"
            if number != errno.ETIME and problem != self.problem:
                self._tell(problem, logging.WARNING, f"{problem}; a master that hangs keeps its addresses until their lifetime ends")

    def _tell(self, problem: str, level: int, sentence: str) -> None:
        self.problem = problem
        log_event(_log, level, sentence)
        self._on_change()
