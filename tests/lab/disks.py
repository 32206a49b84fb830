"""Disks that hang: whoever needs one waits until it comes back. Both raise OSError where they cannot be made, as for an ordinary user."""

__all__ = ["Disk", "disk", "hung_folder"]

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MNT_DETACH = 2
_SIZE_BYTES = 16 * 2**20
_TIMEOUT_S = 30
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def hung_folder(path: Path) -> Iterator[None]:
    """A file server that is gone: FUSE, whose server reads no request. At the end those who wait get an error."""
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        path.mkdir()
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
        if _libc.mount(b"hung", bytes(path), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), "a FUSE file system cannot be mounted", str(path))
        try:
            yield
        finally:
            _libc.umount2(bytes(path), _MNT_DETACH)
    finally:
        os.close(server)


class Disk:
    """A file system of its own, mounted at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hangs = False

    def hang(self) -> None:
        """Whoever writes waits from now on, and no signal ends it."""
        _run("fsfreeze", "--freeze", str(self.path))
        self._hangs = True

    def come_back(self) -> None:
        if self._hangs:
            _run("fsfreeze", "--unfreeze", str(self.path))
        self._hangs = False


@contextmanager
def disk(path: Path) -> Iterator[Disk]:
    """A small disk, until the end of the block; what still has files open on it then keeps it a little longer."""
    image = path.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(_SIZE_BYTES)
    path.mkdir()
    _run("mkfs.ext4", "-q", str(image))
    _run("mount", "-o", "loop", str(image), str(path))
    made = Disk(path)
    try:
        yield made
    finally:
        made.come_back()
        _run("umount", "--lazy", str(path))


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise OSError(f"{' '.join(command)}: {error.stderr.strip()}") from error
