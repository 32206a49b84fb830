"""What this process shares with an agent of another user: folders and the control socket, through a group both are in.

Needs no capability: the owner of a file may give it to any group of its own.
"""

__all__ = ["CannotShare", "give_to_group", "share_folder"]

import os
from pathlib import Path

from carp_protocol.errors import CarpError


class CannotShare(CarpError):
    """A file or folder cannot be given to the group; the text says why and what to do."""


def give_to_group(path: Path, group: int) -> None:
    """Make ``group`` the group of what is at ``path``; a symbolic link is not followed. Raises CannotShare."""
    try:
        os.chown(path, -1, group, follow_symlinks=False)
    except PermissionError as error:
        sentence = "add it to the groups of this process (supplementalGroups of the pod, or setpriv --groups)"
        raise CannotShare(f"{path} cannot be given to group {group}: {error.strerror}; {sentence}") from error


def share_folder(folder: Path, group: int, mode: int) -> None:
    """A folder of ``mode`` for ``group``: made if it is missing, adopted if it is empty and ours, else looked at. Raises CannotShare."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            folder.mkdir(mode=0o700)
        if folder.stat().st_uid == os.geteuid() and not any(folder.iterdir()):
            give_to_group(folder, group)
            folder.chmod(mode)
        found = folder.stat()
    except OSError as error:
        raise CannotShare(f"{folder} cannot be made: {error.strerror}; let this user write to {folder.parent}") from error
    given = found.st_mode >> 3 if found.st_gid == group else found.st_mode
    if mode >> 3 & 0o7 & ~given:
        sentence = f"run: chgrp {group} {folder} && chmod {mode:o} {folder}"
        raise CannotShare(f"{folder} exists, but what group {group} may do there is too little; {sentence}")
