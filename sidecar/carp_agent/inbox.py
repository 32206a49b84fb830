"""How threads speak with each other: an inbox with one place for each kind of news, and workers that do one job at a time.

Bounded by its nature: newer news of a kind replaces older news that nobody took.
"""

from __future__ import annotations

__all__ = ["Inbox", "Worker", "start_thread"]

import threading
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carp_agent.logs import Log


class Inbox:
    """``put`` from any thread, ``take`` from one. Not from a signal handler: it could interrupt ``take`` just before it waits."""

    def __init__(self) -> None:
        self._news: dict[str, Any] = {}
        self._arrived = threading.Condition()

    def put(self, kind: str, value: object = None) -> None:
        """Leave news of a kind."""
        with self._arrived:
            self._news[kind] = value
            self._arrived.notify()

    def take(self, timeout_s: float) -> dict[str, Any]:
        """What is new by kind, at once or when the first comes; empty after the time."""
        with self._arrived:
            if not self._news:
                self._arrived.wait(timeout_s)
            news, self._news = self._news, {}
            return news


class Worker:
    """A thread that runs one job after the other and puts each result into the inbox, as news of the kind the job was given."""

    def __init__(self, name: str, inbox: Inbox, log: Log, at_end: Callable[[], None]) -> None:
        self._name = name
        self._at_end = at_end
        self._inbox = inbox
        self._log = log
        self._jobs: list[tuple[str, Callable[[], object]]] = []
        self._wake = threading.Semaphore(0)
        self.busy = False
        """Set by the one who gives jobs, and cleared by it when it takes the result."""

    def start(self) -> None:
        start_thread(self._name, self._run, self._inbox, self._log)

    def do(self, kind: str, job: Callable[[], object]) -> None:
        """Begin a job; not while it is busy."""
        assert not self.busy
        self.busy = True
        self._jobs.append((kind, job))
        self._wake.release()

    def end(self) -> None:
        """No more jobs."""
        self._wake.release()

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            if not self._jobs:
                self._at_end()
                return
            kind, job = self._jobs.pop()
            self._inbox.put(kind, job())


def start_thread(name: str, run: Callable[[], object], inbox: Inbox, log: Log) -> None:
    """A thread that ends with the process; a defect in it is logged and ends the process, which is then started anew."""

    def guarded() -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001  a thread that is silently gone would be worse than a restart
            log.crash(name, error)
            inbox.put("crashed", name)

    threading.Thread(target=guarded, name=name, daemon=True).start()
