"""Log lines: their two formats, their rate, and a reader that does not read."""

import io
import json
import logging
import os
import random
import sys
import threading
from collections.abc import Iterator

import pytest

from carp_sidecar import logs
from carp_sidecar.logs import Logs, RejectedPackets, configure, iso_time, log_change, log_event
from unit.fake_daemon import transition

LOGGER = logging.getLogger("carp_sidecar.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Leaves the root logger as it was."""
    root = logging.getLogger()
    before = root.level
    yield
    for handler in list(root.handlers):
        if isinstance(handler, Logs):
            handler.close()
    root.setLevel(before)


def written(log_format: str, level: str, *, terminal: bool = False, **fields: object) -> str:
    stream = Terminal() if terminal else io.StringIO()
    handler = configure(log_format, level, stream=stream)
    log_event(LOGGER, logging.WARNING, "something happened", **fields)
    handler.close()
    return stream.getvalue()


def test_json_has_stable_keys() -> None:
    line = json.loads(written("json", "info", group="intranet", vhid=1, interface=None, from_="BACKUP", to="MASTER", reason="started"))
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "carp_sidecar.test",
        "msg": "something happened",
        "group": "intranet",
        "vhid": 1,
        "from": "BACKUP",
        "to": "MASTER",
        "reason": "started",
    }


def test_text_is_one_readable_line() -> None:
    text = written("text", "info", group="intranet", source="10.0.0.2", detail="two words", empty="")
    assert text.endswith('WARNING intranet: something happened  source=10.0.0.2 detail="two words" empty=""\n')
    assert "\x1b" not in text


def test_auto_is_text_with_colour_on_a_terminal_and_json_elsewhere() -> None:
    assert written("auto", "info", terminal=True).startswith("\x1b[33m")
    assert json.loads(written("auto", "info"))["msg"] == "something happened"


def test_a_value_cannot_forge_a_line_or_move_the_cursor() -> None:
    text = written("text", "info", detail="x\n2026-01-01 INFO all is well\x1b[2J")
    assert text.count("\n") == 1
    assert "\x1b" not in text


def test_level_is_kept() -> None:
    assert written("json", "error") == ""


def test_exceptions_have_no_traceback_for_people() -> None:
    for log_format, level, has_traceback in (("text", "info", False), ("text", "debug", True), ("json", "info", True)):
        stream = io.StringIO()
        handler = configure(log_format, level, stream=stream)
        try:
            raise ValueError("bad thing")
        except ValueError:
            LOGGER.exception("it broke")
        handler.close()
        assert "bad thing" in stream.getvalue()
        assert ("Traceback" in stream.getvalue()) is has_traceback


def test_configure_again_replaces() -> None:
    configure("json", "info", stream=io.StringIO())
    stream = io.StringIO()
    handler = configure("json", "info", stream=stream)
    log_event(LOGGER, logging.INFO, "once")
    handler.close()
    assert stream.getvalue().count("once") == 1


def test_a_reader_that_does_not_read_stops_nobody() -> None:
    read_end, write_end = os.pipe()
    with open(write_end, "w") as stream:
        handler = configure("json", "info", stream=stream)
        done = threading.Event()

        def flood() -> None:
            for number in range(5000):
                log_event(LOGGER, logging.INFO, "x" * 200, number=number)
            done.set()

        threading.Thread(target=flood, daemon=True).start()
        assert done.wait(30), "logging blocked"
        with open(read_end) as reader:
            # Reading lets the writer go on; the last words say how much was lost.
            def close() -> None:
                handler.close()
                stream.close()

            closer = threading.Thread(target=close)
            closer.start()
            text = reader.read()
            closer.join(30)
    lost = [line for line in text.splitlines() if "were dropped" in line]
    assert lost
    assert sum(int(line.split()[0]) for line in lost) + text.count('"number"') == 5000


def test_a_reader_that_has_gone_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    stream = os.fdopen(write_end, "w", buffering=1)
    handler = configure("json", "info", stream=stream)
    log_event(LOGGER, logging.INFO, "to nobody")
    handler.close()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_an_unloggable_record_is_a_line() -> None:
    stream = io.StringIO()
    handler = configure("json", "info", stream=stream)
    handler.emit(logging.LogRecord("test", logging.INFO, __file__, 1, "%d", ("not a number",), None))
    handler.close()
    assert "could not be written" in stream.getvalue()


@pytest.mark.parametrize(
    "change, level",
    [
        (transition(), logging.INFO),
        ({"event": "split-brain", "group": "a", "source": "10.0.0.2", "won": True}, logging.WARNING),
        ({"event": "address-conflict", "group": "a", "mac": "02:00:00:00:00:01"}, logging.WARNING),
        ({"event": "health", "group": "a", "check": "web", "passing": True, "message": ""}, logging.INFO),
        ({"event": "health", "group": "a", "check": "web", "passing": False, "message": "x"}, logging.WARNING),
        ({"event": "config", "generation": 1, "problems": ["x"]}, logging.WARNING),
        ({"event": "config", "generation": 1, "problems": []}, logging.INFO),
        ({"event": "link", "group": "a", "state": "down"}, logging.WARNING),
        ({"event": "link", "group": "a", "state": "up"}, logging.INFO),
    ],
)
def test_changes_are_as_loud_as_they_matter(change: dict[str, object], level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log_change(LOGGER, change)
    [record] = caplog.records
    assert record.levelno == level


def test_a_transition_carries_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_change(LOGGER, transition())
    fields = caplog.records[0].fields  # type: ignore[attr-defined]
    assert fields == {
        "event": "transition",
        "group": "intranet",
        "vhid": 1,
        "interface": "vmx0",
        "from": "BACKUP",
        "to": "MASTER",
        "reason": "master-timed-out",
    }


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_flood_of_rejected_packets_is_two_lines_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    rejected = RejectedPackets(LOGGER, clock=clock)
    for _ in range(10_000):
        rejected.record(group="intranet", reason="bad-digest", source="10.0.0.66")
        clock.now += 0.01
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0] == "packet rejected"
    assert len(texts) == 2
    assert "more packets rejected in 60 s" in texts[1]


def test_the_last_count_is_not_lost_and_silence_starts_anew(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    rejected = RejectedPackets(LOGGER, clock=clock)
    for _ in range(3):
        rejected.record(group="intranet", reason="replay", source="10.0.0.66")
    rejected.flush()
    assert len(caplog.records) == 1
    clock.now += 61
    rejected.flush()
    assert caplog.records[-1].getMessage() == "2 more packets rejected in 61 s"
    clock.now += 61
    rejected.flush()
    assert len(caplog.records) == 2
    rejected.record(group="intranet", reason="replay", source="10.0.0.66")
    assert caplog.records[-1].getMessage() == "packet rejected"


def test_groups_and_reasons_are_counted_apart(caplog: pytest.LogCaptureFixture) -> None:
    rejected = RejectedPackets(LOGGER, clock=Clock())
    for group in ("a", "b"):
        for reason in ("replay", "bad-digest"):
            rejected.record(group=group, reason=reason, source="10.0.0.66")
    assert len(caplog.records) == 4


def test_memory_for_rejected_packets_is_bounded() -> None:
    rejected = RejectedPackets(LOGGER, clock=Clock())
    for number in range(3 * logs._REJECTED_KEYS):
        rejected.record(group=f"group {number}", reason="replay", source="10.0.0.66")
    assert len(rejected._seen) == logs._REJECTED_KEYS + 1
    assert rejected._seen["", "other"].count == 2 * logs._REJECTED_KEYS - 1


def test_time_is_utc_with_milliseconds() -> None:
    assert iso_time(0.25) == "1970-01-01T00:00:00.250Z"


def test_thousands_of_time_stamps_leave_nothing() -> None:
    chance = random.Random(1)

    def stamp(times: int) -> None:
        for _ in range(times):
            held = [bytes(20) for _ in range(chance.randrange(400))]  # or each string would be made in the place of the last
            iso_time()
            held.clear()

    stamp(50)
    before = sys.getallocatedblocks()
    stamp(3000)
    left = sys.getallocatedblocks() - before
    assert left < 30, f"{left} blocks"
