"""Configurations, identities and engines for tests. Nothing here looks at a clock or at the system's randomness."""

__all__ = ["GROUP_ADDRESS", "PASSWORD", "STRICT_KEY", "address_of", "make_config", "make_engine", "origin_of"]

import random
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

from carp_protocol.config import Authentication, GroupConfig, Mode
from carp_protocol.counter import Identity
from carp_protocol.engine import Engine
from carp_protocol.heard import Origin

GROUP_ADDRESS = "10.0.0.100"
STRICT_KEY = bytes(range(32))
PASSWORD = b"secret"

_CONFIG = GroupConfig(name="g", vhid=1, addresses=(ip_interface(f"{GROUP_ADDRESS}/24"),))


def make_config(mode: Mode = Mode.STRICT, **fields: Any) -> GroupConfig:
    """A group with one address and the key of the tests; ``fields`` replace those of the configuration."""
    key = STRICT_KEY if mode is Mode.STRICT else PASSWORD
    return replace(_CONFIG, authentication=Authentication(mode=mode, key=key), **fields) if "authentication" not in fields else replace(
        _CONFIG, **fields
    )


def address_of(number: int) -> str:
    """The own address of a member."""
    return f"10.0.0.{number}"


def origin_of(number: int, **fields: Any) -> Origin:
    """Where a packet of this member comes from."""
    return replace(Origin(address_of(number), "224.0.0.18", 255), **fields)


def make_engine(config: GroupConfig, number: int = 1, epoch: int = 1, random_bits: Callable[[int], int] | None = None) -> Engine:
    """An engine that is not started; its number is its sender id, and seeds its randomness."""
    return Engine(config, Identity(number, epoch), random_bits or random.Random(number).getrandbits)
