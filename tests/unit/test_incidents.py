"""Worst days of other products that a clock decides (docs/incidents.md), and that the page names every one of them."""

import json
import re
from pathlib import Path

import pytest

from carp_sidecar.state import StateDir
from carp_sidecar.wire.announce import Announcer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "incidents.md"
ENTRIES = 113


class Timeline:
    """Loop and alarms whose time jumps from one deadline to the next."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: float | None = None

    def time(self) -> float:
        return self.now

    def set(self, _owner: object, when: float | None) -> None:
        self.due = when


def test_a_master_announces_in_a_burst_and_then_once_a_minute() -> None:
    """Fast while the old master may still answer, and for ever: a switch forgets after five minutes, a router after twenty."""
    timeline, sent = Timeline(), list[tuple[float, bytes]]()

    def send(frame: bytes) -> bool:
        sent.append((timeline.now - 100.0, frame))
        return True

    announcer = Announcer(timeline, timeline, send)  # type: ignore[arg-type]
    announcer.start([b"request", b"reply"])
    while len(sent) < 2 * 15:
        assert timeline.due is not None
        timeline.now = timeline.due
        announcer.on_alarm(timeline.now)
    times = [round(when, 3) for when, frame in sent if frame == b"request"]
    assert times == [0.0, 0.001, 0.003, 0.007, 0.015, 0.031, 0.063, 1.0, 2.0, 4.0, 64.0, 124.0, 184.0, 244.0, 304.0]
    assert [round(when, 3) for when, frame in sent if frame == b"reply"] == times
    announcer.stop()
    assert timeline.due is None


def test_a_clock_that_is_set_back_makes_no_epoch_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The date is asked for once, by a member that has no state; from then on it counts."""
    monkeypatch.setattr("carp_sidecar.state.time.time", lambda: 1_800_000_000.0)
    epochs = []
    for _ in range(3):
        folder = StateDir(str(tmp_path))
        loaded = folder.load()
        epochs.append(loaded.epoch)
        folder.save(loaded)
        folder.close()
        monkeypatch.setattr("carp_sidecar.state.time.time", lambda: 5.0)
    assert epochs == [1_800_000_000, 1_800_000_001, 1_800_000_002]
    assert json.loads((tmp_path / "state.json").read_text())["epoch"] == epochs[-1]


def test_the_page_names_every_entry_once_and_shows_or_says_why_not() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, ENTRIES + 1))
    for number, story, here, shown in rows:
        assert "https://github.com/" in story, number
        assert "::test_" in shown or "test_machine.py" in shown or "](" in here or here == "there is none", number
