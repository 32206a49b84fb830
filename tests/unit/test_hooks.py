"""Hooks: what a program is told, in which order, and that nothing waits for it."""

import asyncio
import json
import logging
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from carp_sidecar.hooks import HookRunner
from unit.fake_daemon import DEADLINE_S, transition, until

RECORD = """
import json, os, sys
line = json.dumps([sys.argv[2:], {k: v for k, v in os.environ.items() if k.startswith("KUBECARP_")}]) + "\\n"
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(fd, line.encode())
print("recorded")
"""


def recorder(file: Path) -> tuple[str, ...]:
    """A hook that writes what it was told into a file."""
    return (sys.executable, "-c", RECORD, str(file))


def recorded(file: Path) -> list[tuple[list[str], dict[str, str]]]:
    return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


async def test_a_hook_is_told_everything(tmp_path: Path) -> None:
    runner, file = HookRunner(), tmp_path / "calls"
    runner.fire(recorder(file), transition() | {"master": "172.27.27.2"})
    await runner.close(grace_s=DEADLINE_S)
    [(arguments, environment)] = recorded(file)
    assert arguments == ["intranet", "1", "vmx0", "BACKUP", "MASTER", "master-timed-out"]
    assert environment == {
        "KUBECARP_GROUP": "intranet",
        "KUBECARP_VHID": "1",
        "KUBECARP_INTERFACE": "vmx0",
        "KUBECARP_FROM": "BACKUP",
        "KUBECARP_TO": "MASTER",
        "KUBECARP_REASON": "master-timed-out",
        "KUBECARP_MASTER": "172.27.27.2",
        "KUBECARP_TIME": "2026-03-01T12:00:00.123Z",
    }


async def test_a_group_without_an_interface_yet(tmp_path: Path) -> None:
    runner, file = HookRunner(), tmp_path / "calls"
    runner.fire(recorder(file), transition() | {"interface": None})
    await runner.close(grace_s=DEADLINE_S)
    [(arguments, _)] = recorded(file)
    assert arguments[2] == ""


async def test_fire_never_waits() -> None:
    runner = HookRunner()
    started = time.monotonic()
    runner.fire(("/bin/sleep", "300"), transition())
    assert time.monotonic() - started < 1
    await runner.close(grace_s=0.0)


async def test_order_is_kept_and_the_newest_is_always_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner, file, gate = HookRunner(), tmp_path / "calls", tmp_path / "gate"
    os.mkfifo(gate)
    waits = ("/bin/sh", "-c", f'read x < {gate}; exec "$@"', "hook", *recorder(file))
    states = ["A", "B", "C", "D", "E", "F", "G", "H"]
    runner.fire(waits, transition("A", "B"))
    await asyncio.sleep(0)  # the first is being started, the others must queue
    for old, new in list(pairwise(states))[1:]:
        runner.fire(recorder(file), transition(old, new))
    await asyncio.to_thread(gate.write_text, "go\n")
    await runner.close(grace_s=DEADLINE_S)
    steps = [arguments[3:5] for arguments, _ in recorded(file)]
    assert steps[0] == ["A", "B"]
    assert steps[-1][1] == "H"
    assert len(steps) <= 6
    assert all(before[1] == after[0] for before, after in pairwise(steps)), f"a gap in {steps}"
    assert "was skipped" in caplog.text


async def test_groups_do_not_wait_for_each_other(tmp_path: Path) -> None:
    runner, file = HookRunner(), tmp_path / "calls"
    runner.fire(("/bin/sleep", "300"), transition(group="slow"))
    runner.fire(recorder(file), transition(group="quick"))
    await until(lambda: len(recorded(file)) == 1)
    await runner.close(grace_s=0.0)


@pytest.mark.parametrize(
    "script, words",
    [("echo one; echo two; exit 7", ("exit code 7", "two")), ("exit 0", ("hook ran",)), ("kill -TERM $$", ("ended by SIGTERM",))],
)
async def test_the_end_of_a_hook_is_logged(script: str, words: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runner = HookRunner()
    runner.fire(("/bin/sh", "-c", script), transition())
    await runner.close(grace_s=DEADLINE_S)
    [record] = caplog.records
    text = f"{record.getMessage()} {getattr(record, 'fields', {})}"
    assert all(word in text for word in words), text


async def test_a_missing_hook_is_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    runner = HookRunner()
    runner.fire(("/nonexistent/hook",), transition())
    await runner.close(grace_s=DEADLINE_S)
    [record] = caplog.records
    assert record.getMessage() == "hook failed: exit code 127"
    assert "/nonexistent/hook: not found" in record.__dict__["fields"]["output"]


async def test_a_hook_that_hangs_is_killed_and_leaves_no_zombie(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pid_file = tmp_path / "pid"
    runner = HookRunner(timeout_s=1.0)
    runner.fire(("/bin/sh", "-c", f"echo $$ > {pid_file}; sleep 300"), transition())
    await runner.close(grace_s=DEADLINE_S)
    assert "killed after 1 s" in caplog.text
    await until(lambda: not Path(f"/proc/{pid_file.read_text().strip()}").exists())


async def test_close_kills_what_does_not_end_in_time(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    runner = HookRunner()
    runner.fire(("/bin/sh", "-c", f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 300"), transition())
    await until(pid_file.exists)
    await runner.close(grace_s=0.01)
    await until(lambda: not Path(f"/proc/{pid_file.read_text().strip()}").exists())


async def test_no_hook_is_no_work() -> None:
    runner = HookRunner()
    before = asyncio.all_tasks()
    runner.fire((), transition())
    assert asyncio.all_tasks() == before
    await runner.close(grace_s=0.0)
