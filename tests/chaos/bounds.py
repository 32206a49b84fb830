"""How long anything may last: numbers made of the constants of the product and of a scene, each with its reason. Pure."""

__all__ = ["Bounds", "bounds_of"]

from dataclasses import dataclass, replace
from ipaddress import ip_interface

from carp_protocol.config import Authentication, GroupConfig, Mode
from carp_protocol.timing import HANDOVER_LIMIT_S, timing_of, widest_rank_delay_s
from carp_sidecar.holder import FAREWELL_MS

REACTION_S = 0.15
"""From a packet to an address that is there or gone, on a machine that does other things: an attach takes 0.3 ms alone, a device that is
set down 15 ms, an interpreter that collects 10 ms. What the machine itself pauses is measured and comes on top."""
RETRY_S = 1.0
"""``runner._RETRY_S``: a device that could not be made, or a socket that could not be opened, is tried again after this."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """In seconds."""

    stopped_s: float
    """Two answer, because the process of one was stopped or starved: its gate closes before a successor speaks."""
    orphaned_s: float
    """Two answer, because the process of one was killed together with its guardian: a successor learns of that before the gate closes."""
    killed_s: float
    """Two answer, because the process of one was killed: its guardian lets the successor take over first."""
    peace_s: float
    """Two answer in any other case: a handover, a race of two backups, two masters that have just heard each other."""
    nobody_s: float
    """Nobody answers after the last thing that was done, though a host could."""
    healed_s: float
    """After the last thing that was done: from then on exactly one answers."""


def bounds_of(*, interval_s: float, worst_advskew: int, mode: str, remade: bool) -> Bounds:
    """Of a group whose members have at most this advskew, and at most this interval; ``remade``: a device may need a second try."""
    group = GroupConfig(name="web", vhid=1, addresses=(ip_interface("10.77.0.100"),), advskew=worst_advskew)
    group = replace(group, advertisement_interval_s=interval_s, authentication=Authentication(mode=Mode(mode)))
    timing = timing_of(group)
    advert_s = timing.advert_interval_s(worst_advskew)
    # A member that was told of a death waits for better ranks.
    nobody_s = timing.dead_time_s(interval_s) + widest_rank_delay_s(interval_s) + REACTION_S + (RETRY_S if remade else 0.0)
    peace_s = max(HANDOVER_LIMIT_S, advert_s) + REACTION_S
    return Bounds(
        stopped_s=REACTION_S,
        orphaned_s=timing.lease_s() + REACTION_S,
        killed_s=FAREWELL_MS / 1000 + REACTION_S,
        peace_s=peace_s,
        nobody_s=nobody_s,
        healed_s=2 * nobody_s + peace_s,
    )
