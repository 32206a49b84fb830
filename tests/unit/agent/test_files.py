"""The sidecar's file: whole at every moment, and for its group only."""

import os
import stat
from pathlib import Path

import pytest

from carp_agent import files


def test_replace(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.json"
    before = os.umask(0o777)
    try:
        files.replace(str(path), b"one")
        files.replace(str(path), b"two")
    finally:
        os.umask(before)
    found = path.stat()
    assert (path.read_bytes(), stat.S_IMODE(found.st_mode), found.st_gid) == (b"two", 0o640, os.getegid())
    assert (files.read(str(path)), files.written_at(str(path))) == (b"two", found.st_mtime)
    assert os.listdir(tmp_path) == ["sidecar.json"]
    files.sync_folder(str(path))


def test_what_a_killed_predecessor_left_is_no_obstacle_and_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".sidecar.json.new").symlink_to(victim)
    files.replace(str(tmp_path / "sidecar.json"), b"x")
    assert victim.read_text() == "precious"


def test_nothing_there(tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "sidecar.json")
    assert (files.read(path), files.written_at(path)) == (None, 0.0)
    with pytest.raises(FileNotFoundError):
        files.replace(path, b"x")
    files.sync_folder(path)
    files.remove(path)


def test_a_failure_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sidecar.json"
    files.replace(str(path), b"old")

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.replace(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["sidecar.json"]
    files.sync_folder(str(path))
