"""The configuration file of the sidecar: replaced in one step, readable by its group only. Knows no content."""

from __future__ import annotations

__all__ = ["read", "remove", "replace", "sync_folder", "written_at"]

import contextlib
import os

_MODE = 0o640
"""The sidecar reads it as a member of the agent's group; keys are in it."""
_MAX_BYTES = 8 * 1024 * 1024
"""What the sidecar reads at most."""


def read(path: str) -> bytes | None:
    """What is there now; None if nothing can be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return None


def written_at(path: str) -> float:
    """When it was replaced last, by the wall clock; 0 if there is none."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def replace(path: str, data: bytes) -> None:
    """The file is the old one or the new one, whatever happens, and the new one is on the disk. Raises OSError."""
    folder, name = os.path.split(path)
    draft = os.path.join(folder, f".{name}.new")  # noqa: PTH118  pathlib costs memory that this process does without
    remove(draft)  # of a predecessor that was killed
    number = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with open(number, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fchown(number, -1, os.getegid())
            os.fchmod(number, _MODE)
            os.fsync(number)
        os.rename(draft, path)  # noqa: PTH104
    except OSError:
        with contextlib.suppress(OSError):  # the error before says more
            remove(draft)
        raise


def remove(path: str) -> None:
    """Have no such file. Raises OSError."""
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return


def sync_folder(path: str) -> None:
    """Make the replacement last through a power cut. Until then the old file may come back, which is whole as well."""
    try:
        number = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # noqa: PTH120
    except OSError:
        return
    try:
        os.fsync(number)
    except OSError:
        pass  # a file system that cannot: nothing can be done here
    finally:
        os.close(number)
