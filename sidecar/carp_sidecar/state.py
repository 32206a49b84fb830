"""What must survive a restart: who this member is, its epoch, standing demotions, who the others are. One small file.

Nothing waits for the disk but the caller's thread; a file that cannot be read or written costs a warning, never an election.
"""

__all__ = ["State", "StateDir", "StateDirInUse"]

import fcntl
import json
import logging
import os
import secrets
import time
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from carp_protocol.counter import Identity
from carp_protocol.errors import CarpError
from carp_sidecar.kernel.bpf import MATCHED_ADDRESSES
from carp_sidecar.logs import log_event

_log = logging.getLogger(__name__)

_MAX_BYTES = 1_048_576
"""255 groups with demotions are below 64 KiB."""
_EPOCH_LIMIT = 2**32 - 1
_MAX_DEMOTION = 254
"""The most that ``demote`` takes."""


class StateDirInUse(CarpError):
    """The state directory cannot be used; the text says why and what to do."""


@dataclass(slots=True)
class State:
    """The content of the file."""

    sender_id: int
    epoch: int
    demotions: dict[str, int | None] = field(default_factory=dict)
    """By group: what an operator of the control socket set, None for out of the election."""
    members: tuple[str, ...] = ()
    """Addresses that proved to know a key, the latest first; where a flood goes on when this member starts, it hears them all the same."""

    @property
    def identity(self) -> Identity:
        return Identity(self.sender_id, self.epoch)


class StateDir:
    """The directory of one sidecar, locked for as long as the process lives. Raises StateDirInUse."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._file, self._draft = self.path / "state.json", self.path / "state.json.new"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateDirInUse(f"state_dir {path} cannot be used: {error.strerror}; make it writable, or name another") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            sentence = f"state_dir {path} is used by another carp-sidecar that runs now; stop it, or give this one its own state_dir"
            raise StateDirInUse(sentence) from error

    def load(self) -> State:
        """The state of the run before, one epoch further; a new one if there is none that can be read."""
        state = self._read()
        if state is None:
            return State(sender_id=secrets.randbits(64) or 1, epoch=int(time.time()) & 0x7FFF_FFFF)
        state.epoch = min(state.epoch + 1, _EPOCH_LIMIT)
        return state

    def save(self, state: State) -> str | None:
        """Replace the file in one step, so that a power cut leaves the old or the new one; None, or a sentence why it was not.

        Blocks; call it in a worker thread.
        """
        try:
            with open(os.open(self._draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(json.dumps(asdict(state)).encode())
                file.flush()
                os.fsync(file.fileno())
            self._draft.replace(self._file)
            self._sync()
        except OSError as error:
            sentence = f"{self._file} was not written: {error.strerror}; make room or mend the permissions, the election goes on without it"
            log_event(_log, logging.ERROR, sentence)
            return sentence
        return None

    def close(self) -> None:
        os.close(self._lock)

    def _sync(self) -> None:
        """The new name of the file, too, is on the disk."""
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _read(self) -> State | None:
        place = self._file
        try:
            with open(place, "rb") as file:
                return _decode(json.loads(file.read(_MAX_BYTES)))
        except FileNotFoundError:
            return None
        except OSError as error:
            log_event(_log, logging.ERROR, f"{place} cannot be read: {error.strerror}; this member starts with a new identity")
            return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            kept = place.with_suffix(".corrupt")
            log_event(_log, logging.ERROR, f"{place} is corrupt and kept as {kept}; this member starts with a new identity")
            try:
                place.replace(kept)
            except OSError as error:
                log_event(_log, logging.WARNING, f"{place} cannot be renamed: {error.strerror}")
            return None


def _decode(document: dict[str, Any]) -> State:
    """Raises ValueError, TypeError, KeyError or AttributeError for anything that ``save`` has not written."""
    sender_id, epoch = document["sender_id"], document["epoch"]
    if type(sender_id) is not int or type(epoch) is not int or not 0 < sender_id < 2**64 or not 0 <= epoch <= _EPOCH_LIMIT:
        raise ValueError("identity")
    demotions: dict[str, int | None] = dict(document["demotions"].items())
    if not all(amount is None or (type(amount) is int and 0 < amount <= _MAX_DEMOTION) for amount in demotions.values()):
        raise ValueError("demotions")
    members = tuple(str(ip_address(text)) for text in document.get("members", ())[:MATCHED_ADDRESSES])
    return State(sender_id, epoch, demotions, members)
