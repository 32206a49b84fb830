"""A folder on a file server that is gone: whoever looks into it waits until the server comes back."""

__all__ = ["hung_folder"]

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def hung_folder(path: Path) -> Iterator[None]:
    """A FUSE file system whose server reads no request. At the end those who wait get an error. Raises OSError where there is none."""
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
