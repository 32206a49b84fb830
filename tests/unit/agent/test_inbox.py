"""Threads that speak with each other, and how long they wait."""

import threading
import time
from pathlib import Path

from carp_agent.backoff import Backoff, jittered
from carp_agent.inbox import Inbox, Worker, start_thread
from carp_agent.logs import Log
from carp_agent.times import read_time, write_time
from unit.agent.tls_server import DEADLINE_S, wait_for


def test_newer_news_replace_older_ones() -> None:
    inbox = Inbox()
    inbox.put("node", 1)
    inbox.put("stop")
    inbox.put("node", 2)
    assert inbox.take(DEADLINE_S) == {"node": 2, "stop": None}
    assert inbox.take(0.01) == {}


def test_news_end_a_wait() -> None:
    inbox = Inbox()
    threading.Timer(0.05, inbox.put, ("node", 1)).start()
    began = time.monotonic()
    assert inbox.take(DEADLINE_S) == {"node": 1}
    assert time.monotonic() - began < DEADLINE_S / 2


def test_a_worker_does_one_job_at_a_time(tmp_path: Path) -> None:
    inbox, ended = Inbox(), threading.Event()
    with (tmp_path / "log").open("a") as file:
        worker = Worker("hands", inbox, Log(fd=file.fileno()), ended.set)
        worker.start()
        for number in range(3):
            worker.do("done", lambda result=number: result)  # type: ignore[misc]
            assert worker.busy
            assert inbox.take(DEADLINE_S) == {"done": number}
            worker.busy = False
        worker.end()
        assert ended.wait(DEADLINE_S)


def test_a_thread_that_dies_is_told(tmp_path: Path) -> None:
    inbox = Inbox()
    with (tmp_path / "log").open("a") as file:
        start_thread("broken", lambda: 1 // 0, inbox, Log(fd=file.fileno()))
        assert inbox.take(DEADLINE_S) == {"crashed": "broken"}
        wait_for(lambda: "ZeroDivisionError" in (tmp_path / "log").read_text())


def test_backoff_doubles_up_to_its_limit() -> None:
    backoff = Backoff(1.0, 8.0)
    waits = [backoff.next_s() for _ in range(6)]
    for wait_s, longest_s in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
        assert longest_s / 2 <= wait_s <= longest_s
    assert backoff.next_s(longest_s=0.5) <= 0.5
    backoff.reset()
    assert backoff.next_s() <= 1.0


def test_jitter_spreads() -> None:
    waits = {jittered(1.0) for _ in range(100)}
    assert len(waits) > 50
    assert all(0.5 <= wait_s <= 1.0 for wait_s in waits)


def test_times() -> None:
    assert write_time(1_800_000_000.1234) == "2027-01-15T08:00:00.123Z"
    assert read_time("2027-01-15T08:00:00.123Z") == 1_800_000_000.123
    assert read_time("2027-01-15T09:00:00+01:00") == 1_800_000_000.0
    assert read_time("2027-01-15T08:00:00") is None
    assert read_time(None) is None
