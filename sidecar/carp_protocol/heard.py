"""What both dialects make of a packet: where it came from, and what its sender says of itself."""

__all__ = ["Heard", "Kind", "MasterSeen", "Origin", "Trust"]

from enum import Enum
from typing import NamedTuple

from .election import Standing


class Kind(Enum):
    """What a packet is for. Compatible knows adverts only; the numbers are those of the Strict extension."""

    ADVERT = 1
    """From a master, or a bow-out."""
    SOLICIT = 2
    """A question: is there a master? Or, with a peer named: is that packet really yours?"""
    NOTICE = 3
    """The answer of a member that is not master."""


class Trust(Enum):
    """How far a packet with a right digest is believed; the values are reasons of rejection."""

    FRESH = "fresh"
    UNKNOWN = "unverified"
    STALE = "replay"


class Origin(NamedTuple):
    """The IP side of a packet, as the shell read it."""

    source: str
    destination: str
    ttl: int
    own_address: bool = False
    """The source is an address of this host: an echo, or a twin."""


class Heard(NamedTuple):
    """A packet signed with one of our keys."""

    kind: Kind
    trust: Trust
    standing: Standing
    interval_s: float
    """The interval its sender uses, before skew."""
    master_for_s: float | None = None
    """How long the sender has been MASTER; None: it does not say."""
    challenge: int = 0
    peer_id: int = 0
    generation: int = 0


class MasterSeen(NamedTuple):
    """The last advert of another master."""

    source: str
    standing: Standing
    heard_at: float
