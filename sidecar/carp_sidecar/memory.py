"""What this member knows beyond its process, and the one thread that writes it down: no election waits for a disk."""

__all__ = ["Memory"]

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from carp_sidecar.kernel.bpf import MATCHED_ADDRESSES
from carp_sidecar.state import StateDir

_KEEP_S = 3.0
"""How long who demotes waits for the disk; a client waits 5 s for an answer."""
_SETTLE_S = 1.0
"""Members that are heard for the first time are written down together: hundred that start at once are one write."""


class Memory:
    """Loads when made; ``close`` it last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, state_dir: StateDir) -> None:
        self._loop = loop
        self._state_dir = state_dir
        self._thread = ThreadPoolExecutor(1, "memory")
        self._saved: asyncio.Future[str | None] = loop.create_future()
        self._save_due: asyncio.TimerHandle | None = None
        self.state = state_dir.load()

    def save(self) -> None:
        """As it is now, in the order of the calls, so that the last wish is the one that stays."""
        if self._save_due:
            self._save_due.cancel()
            self._save_due = None
        state = replace(self.state, demotions=dict(self.state.demotions))
        self._saved = self._loop.run_in_executor(self._thread, self._state_dir.save, state)

    async def keep(self) -> str | None:
        """Until a restart would find all this, but not for ever; a sentence if it may not."""
        self.save()
        try:
            problem = await asyncio.wait_for(asyncio.shield(self._saved), _KEEP_S)
        except TimeoutError:
            problem = f"the disk of {self._state_dir.path} did not take it within {_KEEP_S:g} s; look whether it hangs"
        return f"this is in force, but a restart may forget it: {problem}" if problem else None

    def learn_identity(self, epoch: int, *, twin: bool) -> None:
        """Others know this member with a later ``epoch``, or a ``twin`` has its id: then it takes another."""
        if twin:
            self.state.sender_id = int.from_bytes(os.urandom(8), "big") or 1
        self.state.epoch = max(self.state.epoch, epoch)
        self.save()

    def learn_member(self, source: str) -> None:
        """``source`` proved to know a key: the next run takes its adverts for a member's, until it knows better."""
        if source not in self.state.members:
            self.state.members = (source, *self.state.members)[:MATCHED_ADDRESSES]
            self._save_due = self._save_due or self._loop.call_later(_SETTLE_S, self.save)

    async def close(self) -> None:
        """Write it down once more."""
        await self.keep()
        self._thread.shutdown(wait=False)
