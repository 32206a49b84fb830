"""A virtual segment: who hears whom, and what happens to a packet on the way. Knows bytes and host numbers only."""

__all__ = ["Network", "Weather"]

import random
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Weather:
    """What the segment does to packets, each copy on its own."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    """Share of copies that take ``reorder_s`` longer than the others."""
    delay_s: float = 0.0002
    jitter_s: float = 0.0002
    reorder_s: float = 0.05

    @property
    def worst_delay_s(self) -> float:
        return self.delay_s + self.jitter_s + (self.reorder_s if self.reordering else 0.0)


@dataclass(slots=True)
class Network:
    """Every copy of every packet is decided here, from one seed."""

    dice: random.Random
    weather: Weather = Weather()
    cut: set[tuple[int, int]] = field(default_factory=set)
    """Pairs (from, to) between which nothing arrives."""
    recorded: list[tuple[int, bytes]] = field(default_factory=list)
    """What an attacker on the segment has seen: sender and packet."""

    def reaches(self, sender: int, receiver: int) -> bool:
        return (sender, receiver) not in self.cut

    def survives(self) -> bool:
        """Whether one packet gets through the weather."""
        return self.dice.random() >= self.weather.loss

    def delay_s(self) -> float:
        late = self.weather.reorder_s if self.dice.random() < self.weather.reordering else 0.0
        return self.weather.delay_s + self.dice.random() * self.weather.jitter_s + late

    def copies(self, sender: int, receiver: int) -> Iterator[float]:
        """The delay of each copy of one packet that arrives."""
        if not self.reaches(sender, receiver):
            return
        for _ in range(1 + (self.dice.random() < self.weather.duplication)):
            if self.survives():
                yield self.delay_s()

    def partition(self, *sides: set[int]) -> None:
        """Nothing passes from one side to another."""
        self.cut = {(a, b) for side in sides for other in sides if side is not other for a in side for b in other}

    def heal(self) -> None:
        """Everybody hears everybody, and nothing is lost."""
        self.cut.clear()
        self.weather = Weather()
