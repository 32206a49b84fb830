"""What is fuzzed: one function for each door through which bytes of others come. Each takes bytes and lets nothing out but a bug.

atheris and hypothesis share them: what a door may raise on purpose is caught here, and what it promises is asserted here.
"""

__all__ = ["TARGETS", "seeds"]

from collections.abc import Callable, Iterable
from typing import NamedTuple

from fuzz import documents, processes, wire

Run = Callable[[bytes], None]


class Target(NamedTuple):
    """``promise``: what is asserted beside the exceptions."""

    run: Run
    seeds: Callable[[], Iterable[bytes]]
    promise: str


_CONFIGURATION = "only ConfigError, each problem with its place; written and read again it is equal"
_ELECTION = "frame to engine: what nobody signed changes nothing of the engine"

TARGETS: dict[str, Target] = {
    "frame": Target(wire.frame, wire.frames, "only BadPacket; what is decoded has an address and a MAC"),
    "header": Target(wire.header, wire.payloads, "only BadPacket; decode(encode(x)) is x"),
    "strict": Target(wire.strict, wire.strict_payloads, _ELECTION),
    "compatible": Target(wire.compatible, wire.compatible_payloads, _ELECTION),
    "probe": Target(wire.probe, wire.probes, "a question is answered with its own token, everything else with silence"),
    "health": Target(wire.health, wire.status_lines, "only BadPacket; the status of an HTTP check is a number"),
    "netlink": Target(wire.netlink, wire.netlink_messages, "attributes that nobody knows change nothing that is understood"),
    "json": Target(documents.json_configuration, documents.json_seeds, _CONFIGURATION),
    "toml": Target(documents.toml_configuration, documents.toml_seeds, _CONFIGURATION),
    "carpnode": Target(documents.carp_node, documents.carp_node_seeds, "only BadAnswer, BadNode; what is rendered is read or refused"),
    "ring": Target(documents.ring, documents.ring_seeds, "agent: only BadNode, in whose text no key is"),
    "objects": Target(documents.objects, documents.object_seeds, "operator, kubectl carp: only OperatorError; no terminal command"),
    "control": Target(processes.control, processes.control_seeds, "every line is answered with a line of JSON"),
    "http": Target(processes.http, processes.http_seeds, "an answer is HTTP or silence"),
    "state": Target(processes.state, processes.state_seeds, "a damaged file never stops a start; what is saved is loaded"),
    "guardian": Target(processes.guardian, processes.guardian_seeds, "a pipe that is cut anywhere leaves the wills that were whole"),
}  # fmt: skip


def seeds(name: str) -> list[bytes]:
    """Where a search begins: what is right, so that it gets behind the first door."""
    return list(TARGETS[name].seeds())
