"""What is done to a group of hosts, and when: a plan made of a seed. Pure: the same seed and options make the same plan on every machine.

Victims are numbers, not hosts: 0 is the host that answers for the addresses when a round begins, the others follow in order.
"""

__all__ = ["FAULTS", "Fault", "Options", "Round", "Scenery", "Strike", "make_round", "make_scenery"]

import random
from dataclasses import dataclass
from enum import Enum

ROUNDS_OF_A_SCENE = 6
"""After so many rounds every sidecar is stopped, what it leaves is looked at, and other hosts are made."""
FIRST_S, LAST_S = 0.2, 3.0
"""Faults of a round begin between these moments; longer ones overlap."""
MAX_FAULTS = 3
INTERVALS_S = {"Strict": (0.1, 0.2, 0.5), "Compatible": (1.0,)}
"""Compatible mode knows whole seconds; more than one makes a round too long to be worth it."""
SKEWS = (0, 50, 100, 150, 200)
"""Steps of 50: in Strict mode a rank then waits 25 ms longer than the one before it."""


class Kind(Enum):
    """What a fault touches: at most one of each kind at a time on one host, or on the LAN."""

    PROCESS = "process"
    DEVICE = "device"
    LAN = "lan"
    SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class Fault:
    """What one word means to the plan and to the checker."""

    kind: Kind
    shortest_s: float = 0.5
    longest_s: float = 4.0
    disables: bool = False
    """The host cannot hold the addresses meanwhile, or cannot be relied on to."""
    sick: bool = False
    """The LAN meanwhile promises nothing: members may not hear each other."""


FAULTS: dict[str, Fault] = {
    "kill": Fault(Kind.PROCESS, disables=True),
    "kill-both": Fault(Kind.PROCESS, disables=True),
    "stop": Fault(Kind.PROCESS, 0.01, 10.0, disables=True),
    "starve": Fault(Kind.PROCESS, 0.5, 6.0, disables=True),
    "state-lost": Fault(Kind.PROCESS, disables=True),
    "clock": Fault(Kind.PROCESS, disables=True),
    "carrier": Fault(Kind.DEVICE, 0.05, 3.0, disables=True),
    "unplug": Fault(Kind.DEVICE, 0.2, 2.0, disables=True),
    "address": Fault(Kind.DEVICE, 0.0, 0.0),
    "device": Fault(Kind.DEVICE, 0.0, 0.0, disables=True),
    "device-down": Fault(Kind.DEVICE, 0.0, 0.0),
    "mtu": Fault(Kind.DEVICE),
    "loss": Fault(Kind.LAN, sick=True),
    "one-way": Fault(Kind.LAN, sick=True),
    "partition": Fault(Kind.LAN, 1.0, 6.0),
    "delay": Fault(Kind.LAN, sick=True),
    "reorder": Fault(Kind.LAN, sick=True),
    "duplicate": Fault(Kind.LAN),
    "intruder": Fault(Kind.LAN),
    "reload": Fault(Kind.SETTINGS, 0.0, 0.0),
    "key": Fault(Kind.SETTINGS, 0.6, 2.0),
}
"""docs/chaos.md says what each word does."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line decides."""

    seed: int
    hosts: tuple[int, int] = (3, 5)
    macs: tuple[str, ...] = ("virtual", "physical")
    modes: tuple[str, ...] = ("Strict",)
    words: tuple[str, ...] = tuple(FAULTS)


@dataclass(frozen=True, slots=True)
class Scenery:
    """The hosts of some rounds and how they are configured at first."""

    number: int
    hosts: int
    virtual_mac: bool
    mode: str
    interval_s: float
    preemption: bool


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault: which, on whom, when (seconds after the round began), how long, and how strong (0 to 1, read by the fault as it likes)."""

    word: str
    victims: tuple[int, ...]
    at_s: float
    lasts_s: float
    strength: float


@dataclass(frozen=True, slots=True)
class Round:
    """The faults of one round in order of their beginning; the round ends when the last has ended and everything had time to heal."""

    number: int
    strikes: tuple[Strike, ...]


def make_scenery(options: Options, number: int) -> Scenery:
    """The scene with this number: MAC modes take turns, everything else is drawn."""
    draw = random.Random(f"{options.seed}/scene/{number}")
    mode = options.modes[number // len(options.macs) % len(options.modes)]
    return Scenery(
        number=number,
        hosts=draw.randint(*options.hosts),
        virtual_mac=options.macs[number % len(options.macs)] == "virtual",
        mode=mode,
        interval_s=draw.choice(INTERVALS_S[mode]),
        preemption=draw.random() < 0.3,
    )


def make_round(options: Options, hosts: int, number: int) -> Round:
    """The round with this number. At least one host is spared by every fault that disables a host."""
    draw = random.Random(f"{options.seed}/round/{number}")
    order = [0, *draw.sample(range(1, hosts), hosts - 1)] if draw.random() < 0.7 else draw.sample(range(hosts), hosts)
    spared, strikes, taken = order[-1], list[Strike](), set[tuple[Kind, int] | tuple[Kind, int, str]]()
    for _ in range(draw.randint(1, MAX_FAULTS)):
        word = draw.choice(options.words)
        fault = FAULTS[word]
        victims = _victims(draw, word, hosts, [one for one in order if one != spared])
        places: set[tuple[Kind, int] | tuple[Kind, int, str]]
        places = {(fault.kind, victim) for victim in victims} if fault.kind in (Kind.PROCESS, Kind.DEVICE) else {(fault.kind, -1)}
        lasts_s = fault.shortest_s * (fault.longest_s / fault.shortest_s) ** draw.random() if fault.shortest_s else 0.0
        strike = Strike(word, victims, round(draw.uniform(FIRST_S, LAST_S), 3), round(lasts_s, 3), round(draw.random(), 4))
        wires = {(Kind.DEVICE if fault.kind is Kind.LAN else Kind.LAN, victim, "wire") for victim in victims if _moves_wires(word)}
        if not (places | wires) & taken:
            taken |= places | {(fault.kind, victim, "wire") for victim in victims if _moves_wires(word)}
            strikes.append(strike)
    return Round(number, tuple(sorted(strikes, key=lambda strike: strike.at_s)))


def _moves_wires(word: str) -> bool:
    """Whether a fault needs the port of its victims to stay, or takes it away."""
    return word == "unplug" or (FAULTS[word].kind is Kind.LAN and word != "intruder")


def _victims(draw: random.Random, word: str, hosts: int, may_fall: list[int]) -> tuple[int, ...]:
    """One, mostly the one that answers; of a partition the hosts of one side; of what touches everybody, everybody."""
    if word in ("reload", "key", "intruder"):
        return tuple(range(hosts))
    if word == "partition":
        side = draw.sample(range(hosts), draw.randint(1, hosts - 1))
        return tuple(sorted(side))
    return (may_fall[0] if draw.random() < 0.6 else draw.choice(may_fall),)
