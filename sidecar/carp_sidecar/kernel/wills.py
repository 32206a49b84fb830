"""Leaves with the guardian what is to be done when this process dies, and keeps a guardian alive.

Nothing here blocks: what the pipe does not take at once follows later, only the newest of each group.
"""

__all__ = ["Guardian"]

import asyncio
import contextlib
import logging
import os
import subprocess
import sys

from carp_sidecar.kernel import guardian
from carp_sidecar.kernel.guardian import Will

log = logging.getLogger(__name__)

FIRST_RESPAWN_S = 0.1  # somebody killed it by mistake
LAST_RESPAWN_S = 10.0  # it cannot run here: do not burn the processor with attempts
_LAST = ""  # no group has that name
REAP_TIMEOUT_S = 1.0  # a killed process ends within a millisecond unless the kernel is stuck


class Guardian:
    """Keeps one guardian process with the wills of all groups; for the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wills: dict[str, bytes] = {}
        self._pending: dict[str, bytes] = {}
        self._unsent = b""
        self._flushing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._pidfd = -1
        self._respawn_s = FIRST_RESPAWN_S
        self._respawn: asyncio.TimerHandle | None = None
        self._calm: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """Of the running guardian; None while there is none."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Starts the guardian (some milliseconds; it is ready after 30 more, what is set before then waits in the pipe)."""
        self._respawn = None
        command = [sys.executable, "-IS", guardian.__file__]
        try:
            read_end, self._pipe = os.pipe()
            try:
                self._process = subprocess.Popen(
                    command, stdin=read_end, stdout=subprocess.DEVNULL, start_new_session=True, cwd="/", env={}
                )
            finally:
                os.close(read_end)
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError as error:
            log.warning(
                "the guardian cannot be started (%s): if this process is killed its addresses stay for the rest of their lease", error
            )
            self._end()
            return
        os.set_blocking(self._pipe, False)
        self._loop.add_reader(self._pidfd, self._died)
        self._calm = self._loop.call_later(LAST_RESPAWN_S, self._calm_down)
        self._pending = dict(self._wills)
        self._flush()

    def set(self, group: str, will: Will) -> None:
        """Leaves or replaces the will of a group."""
        self._wills[group] = self._pending[group] = guardian.encode_set(group, will)
        self._flush_soon()

    def clear(self, group: str) -> None:
        """Takes the will of a group back."""
        if self._wills.pop(group, None) is not None:
            self._pending[group] = guardian.encode_clear(group)
            self._flush_soon()

    def leave_last(self, transaction: bytes) -> None:
        """Leaves the netfilter transaction that is sent after all wills."""
        self._wills[_LAST] = self._pending[_LAST] = guardian.encode_last(transaction)
        self._flush_soon()

    def close(self) -> None:
        """Ends the guardian without any will being carried out."""
        process = self._process
        for timer in (self._respawn, self._calm):
            if timer is not None:
                timer.cancel()
        if process is not None:
            process.kill()  # before the pipe closes: its end would be taken for our death
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(REAP_TIMEOUT_S)
        self._forget_process()

    def _flush_soon(self) -> None:
        """Groups that take over together leave their wills together: one write instead of hundreds on the path of a takeover."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._process is None:
            return
        try:
            while self._unsent or self._pending:
                if not self._unsent:
                    self._unsent = b"".join(self._pending.values())
                    self._pending.clear()
                self._unsent = self._unsent[os.write(self._pipe, self._unsent) :]
        except BlockingIOError:
            self._loop.add_writer(self._pipe, self._flush)
        except OSError:  # it died: _died follows
            self._loop.remove_writer(self._pipe)
        else:
            self._loop.remove_writer(self._pipe)

    def _calm_down(self) -> None:
        self._respawn_s = FIRST_RESPAWN_S

    def _died(self) -> None:
        if self._process is not None:
            log.warning("the guardian ended (exit code %s): a new one follows in %.1f s", self._process.poll(), self._respawn_s)
        self._end()

    def _end(self) -> None:
        self._forget_process()
        if self._calm is not None:
            self._calm.cancel()
        self._respawn = self._loop.call_later(self._respawn_s, self.start)
        self._respawn_s = min(self._respawn_s * 2, LAST_RESPAWN_S)

    def _forget_process(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        if self._pipe >= 0:
            self._loop.remove_writer(self._pipe)
            os.close(self._pipe)
        self._process, self._pipe, self._pidfd, self._unsent = None, -1, -1, b""
        self._pending.clear()
