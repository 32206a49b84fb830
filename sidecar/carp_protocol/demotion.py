"""Named reasons why a member should not be master, and what they add up to."""

__all__ = ["Demotions"]

_MAX_DEMOTION = 254
"""One byte of the header; 255 is left for "out of the election" in status and logs of other programs."""


class Demotions:
    """Amounts by name; an amount of None takes the member out of the election."""

    __slots__ = ("_amounts",)

    def __init__(self) -> None:
        self._amounts: dict[str, int | None] = {}

    def set(self, name: str, amount: int | None) -> bool:
        """Set or change one, or lift it with 0; whether the total or ``excluded`` changed by it."""
        before = (self.total, self.excluded)
        if amount == 0:
            self._amounts.pop(name, None)
        else:
            self._amounts[name] = amount
        return (self.total, self.excluded) != before

    @property
    def total(self) -> int:
        """The sum, 0 to 254."""
        return min(_MAX_DEMOTION, sum(amount or 0 for amount in self._amounts.values()))

    @property
    def excluded(self) -> bool:
        """Out of the election."""
        return None in self._amounts.values()

    def items(self) -> list[tuple[str, int | None]]:
        """Every name and amount, in the order they were set."""
        return list(self._amounts.items())
