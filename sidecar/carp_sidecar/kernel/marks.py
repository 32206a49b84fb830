"""The alias of a macvlan: which sidecar made it, for which group, and how the interface below it was before. Pure.

The kernel keeps it for as long as it keeps the device, whatever becomes of the process; every sidecar of the host can read it.
"""

__all__ = ["ArpSettings", "Mark", "owner"]

import hashlib
import re
from typing import NamedTuple, Self

from carp_sidecar.kernel.links import Link
from carp_sidecar.kernel.rtnl import ALIAS_PREFIX

_OWNER_LIMIT = 127  # bytes: with the name of a group, at most 63, below the 255 of the kernel's IFALIASZ
_PATTERN = re.compile(re.escape(ALIAS_PREFIX) + r"(.*):(\d+),(\d+):([^:]*)")


class ArpSettings(NamedTuple):
    """arp_ignore and arp_announce of one interface."""

    ignore: int
    announce: int

    @classmethod
    def of(cls, link: Link) -> Self:
        """As the kernel has them now."""
        return cls(link.arp_ignore, link.arp_announce)


class Mark(NamedTuple):
    """``before``: how the interface below was before any sidecar changed it."""

    owner: str
    group: str
    before: ArpSettings

    @property
    def alias(self) -> str:
        """As it is written on the device: ``kubecarp:/var/lib/kubecarp:0,0:intranet``."""
        return f"{ALIAS_PREFIX}{self.owner}:{self.before.ignore},{self.before.announce}:{self.group}"

    @classmethod
    def read(cls, alias: str) -> Self | None:
        """None for a device that no sidecar made."""
        found = _PATTERN.fullmatch(alias)
        return cls(found[1], found[4], ArpSettings(int(found[2]), int(found[3]))) if found else None

    def is_of(self, other: "Mark") -> bool:
        """Whether both are of one group of one sidecar."""
        return (self.owner, self.group) == (other.owner, other.group)


def owner(state_dir: str) -> str:
    """What tells the sidecars of one host apart: their state directories."""
    fits = len(state_dir.encode()) <= _OWNER_LIMIT
    return state_dir if fits else hashlib.sha256(state_dir.encode()).hexdigest()[:16]
