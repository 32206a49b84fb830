"""What the groups of one process share, handed to each of them."""

__all__ = ["Services"]

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carp_protocol.config import GroupConfig
from carp_sidecar.afterwards import Afterwards
from carp_sidecar.alarms import Alarms
from carp_sidecar.arrival import Awaited
from carp_sidecar.gate import Gate
from carp_sidecar.kernel.links import Link
from carp_sidecar.kernel.netlink import Netlink
from carp_sidecar.kernel.parents import ParentSettings
from carp_sidecar.kernel.wills import Guardian
from carp_sidecar.logs import RejectedPackets
from carp_sidecar.measurements import Measurements
from carp_sidecar.segment import Segment


@dataclass(frozen=True, slots=True)
class Services:
    """Constructed once by the daemon; ``report`` takes a change, ``identity_changed`` an epoch and whether a twin was heard."""

    loop: asyncio.AbstractEventLoop
    alarms: Alarms
    afterwards: Afterwards
    netlink: Netlink
    guardian: Guardian
    gate: Gate
    measurements: Measurements
    rejected: RejectedPackets
    parent_settings: ParentSettings
    awaited: Awaited
    state_dir: str
    open_segment: Callable[[Link], Segment]
    close_segment: Callable[[Segment], None]
    report: Callable[[GroupConfig, dict[str, Any]], None]
    identity_changed: Callable[..., None]
