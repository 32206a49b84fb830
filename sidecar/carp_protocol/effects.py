"""What an engine asks of the world around it. Frozen, comparable, without behaviour.

The shell carries them out in the order given. Packets are not effects: they come from ``packets_to_send``.
"""

__all__ = [
    "AddressConflict",
    "Announce",
    "Effect",
    "IdentityChanged",
    "MasterDead",
    "PacketRejected",
    "ProbeAddress",
    "ProbeMaster",
    "Reason",
    "ReleaseAddresses",
    "SplitBrain",
    "State",
    "StateChanged",
    "TakeAddresses",
]

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """The states of carp(4), and the one kubecarp adds for leaving without a gap."""

    INIT = "INIT"
    BACKUP = "BACKUP"
    MASTER = "MASTER"
    HANDOVER = "HANDOVER"
    """Has bowed out but keeps answering until the successor is heard or a short limit passes."""

    @property
    def holds_addresses(self) -> bool:
        return self in (State.MASTER, State.HANDOVER)


class Reason(Enum):
    """Why a state changed: a closed set, used as metric label, log field and hook argument."""

    STARTED = "started"
    LINK_UP = "link-up"
    LINK_DOWN = "link-down"
    CLOSED = "closed"
    MASTER_TIMED_OUT = "master-timed-out"
    MASTER_HOST_DEAD = "master-host-dead"
    MASTER_PROCESS_DEAD = "master-process-dead"
    MASTER_BOWED_OUT = "master-bowed-out"
    MASTER_DEMOTED = "master-demoted"
    NOBODY_THERE = "nobody-there"
    PREEMPTED_WORSE = "preempted-worse-master"
    BETTER_MASTER = "better-master"
    SUCCESSOR_HEARD = "successor-heard"
    NO_SUCCESSOR = "no-successor"
    REQUESTED = "requested"
    EXCLUDED = "excluded"
    STALLED = "stalled"
    ADDRESS_FAILED = "address-failed"


@dataclass(frozen=True, slots=True)
class StateChanged:
    old: State
    new: State
    reason: Reason


@dataclass(frozen=True, slots=True)
class TakeAddresses:
    """Attach the addresses (and bring the virtual MAC up) now; adverts of this round may wait for it a moment."""


@dataclass(frozen=True, slots=True)
class ReleaseAddresses:
    """Remove the addresses now."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the segment again that the addresses are here (gratuitous ARP, unsolicited NA)."""


@dataclass(frozen=True, slots=True)
class ProbeAddress:
    """Ask by ARP or NS whether anybody answers for the group's addresses; report answers as evidence."""


@dataclass(frozen=True, slots=True)
class ProbeMaster:
    """Ask the host at ``source`` whether it lives (ARP or NS) and whether its sidecar does (UDP)."""

    source: str


@dataclass(frozen=True, slots=True)
class MasterDead:
    """The host at ``source``, or its sidecar, has not answered since ``silent_since``: news for other groups that follow it."""

    source: str
    reason: Reason
    silent_since: float


@dataclass(frozen=True, slots=True)
class PacketRejected:
    """A packet that changed nothing, and why. ``source`` is what the packet claims."""

    reason: str
    source: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SplitBrain:
    """Another master was heard while this member had been one for longer than a race explains."""

    source: str
    won: bool


@dataclass(frozen=True, slots=True)
class AddressConflict:
    """Somebody who sends no adverts answers for an address of the group; ``owner`` is its MAC or what else is known."""

    owner: str


@dataclass(frozen=True, slots=True)
class IdentityChanged:
    """The epoch had to jump past what peers remember, or (``twin``) the sender id is used elsewhere, by a cloned machine: store."""

    epoch: int
    twin: bool


Effect = (
    StateChanged
    | TakeAddresses
    | ReleaseAddresses
    | Announce
    | ProbeAddress
    | ProbeMaster
    | MasterDead
    | PacketRejected
    | SplitBrain
    | AddressConflict
    | IdentityChanged
)
