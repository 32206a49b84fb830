"""The agent's log lines: the shape of the sidecar's, and no reader can stop the agent."""

import json
import logging
import os
from collections.abc import Iterator

import pytest

from carp_agent.logs import Log
from carp_sidecar import logs as sidecar_logs


class Pipe:
    """Where a log goes."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in os.read(self.reading, 1_000_000).splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.reading)
    os.close(made.writing)


def test_the_shape_is_that_of_the_sidecar(pipe: Pipe) -> None:
    Log(fd=pipe.writing).warning("sentence", generation=7, group=None)
    (line,) = pipe.lines()
    with os.fdopen(os.dup(pipe.writing), "w") as stream:
        handler = sidecar_logs.configure("json", "info", stream=stream)
        sidecar_logs.log_event(logging.getLogger("carp_sidecar"), logging.WARNING, "sentence", generation=7, group=None)
        handler.close()
    (other,) = pipe.lines()
    assert list(line) == list(other) == ["time", "level", "logger", "msg", "generation"]
    assert len(str(line.pop("time"))) == len(str(other.pop("time"))) == len("2026-03-01T12:00:00.123Z")
    assert line == {"level": "warning", "logger": "carp_agent", "msg": "sentence", "generation": 7}


def test_level(pipe: Pipe) -> None:
    log = Log("warning", fd=pipe.writing)
    log.debug("no")
    log.info("no")
    log.error("yes")
    assert [line["msg"] for line in pipe.lines()] == ["yes"]


def test_a_field_cannot_hide_what_is_said(pipe: Pipe) -> None:
    Log(fd=pipe.writing).info("said", msg="forged\n", level="x")
    assert [(line["msg"], line["level"]) for line in pipe.lines()] == [("said", "info")]


def test_a_defect_has_its_traceback(pipe: Pipe) -> None:
    try:
        raise ValueError("boom")
    except ValueError as error:
        Log(fd=pipe.writing).crash("watcher", error)
    (line,) = pipe.lines()
    assert "ValueError: boom" in str(line["exception"])


def test_a_reader_that_does_not_read_stops_nobody(pipe: Pipe) -> None:
    log = Log(fd=pipe.writing)
    for number in range(1000):
        log.info("x" * 500, number=number)
    assert len(pipe.lines()) < 1000
    log.info("again")
    loss, last = pipe.lines()
    assert "log lines were dropped" in str(loss["msg"])
    assert last["msg"] == "again"


def test_too_long(pipe: Pipe) -> None:
    log = Log(fd=pipe.writing)
    log.info("x" * 9000)
    log.info("x", field="y" * 9000)
    first, second = pipe.lines()
    assert len(str(first["msg"])) == 1000
    assert second["msg"] == "a log line was too long"


def test_a_reader_that_has_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    Log(fd=writing).info("x")
    os.close(writing)
