"""The exceptions of carp_protocol: one root, one class for each side that can be at fault."""

__all__ = ["BadPacket", "CarpError", "ConfigError", "Problem"]

from dataclasses import dataclass


class CarpError(Exception):
    """Root of every exception this package raises on purpose."""


class BadPacket(CarpError):
    """Bytes from the network that are not a packet for us.

    ``reason`` is one word of a closed set (it becomes a metric label), ``detail`` a phrase for a debug log.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where (``group[0].vhid``) and a sentence that says what to do."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class ConfigError(CarpError):
    """A configuration that cannot run; ``problems`` holds every problem, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems
