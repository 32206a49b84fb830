"""How often a master that is well loses its addresses: closed formulas, for what is too rare to simulate. Knows no engine.

Losses are independent: each copy of each packet, p. A backup that has heard an advert gives the master up when

- it misses three in a row (every protocol that counts to three): p^3 (1 - p) for each advert and backup;
- and, with suspicion, two questions for another advert are in vain too, each a way there and a way back, or the four UDP probes
  that would have led to them: times r^2 + r^4;
- or, with suspicion, it misses one and eight probes (four by ARP or NS, four by UDP) are in vain: p (1 - p) r^8;

where r = 1 - (1 - p)^2. A burst is a time, exponential with mean b, in which one host hears and says nothing. It does harm when
it covers the next adverts and lasts until T after the last one: (b / U) (e^-(T - U)/b - e^-T/b), its start uniform in U.
"""

__all__ = ["MONTH_S", "burst_share", "false_per_advert", "patience_s"]

from math import exp

MONTH_S = 30 * 86400.0
_QUESTIONS, _REMINDERS = 4, 2


def false_per_advert(loss: float, *, suspicion: bool) -> float:
    """Takeovers from a living master, for each advert and each backup."""
    in_vain = 1 - (1 - loss) ** 2
    counted = loss**3 * (1 - loss)
    return counted * (in_vain**_REMINDERS + in_vain**_QUESTIONS) + loss * (1 - loss) * in_vain ** (2 * _QUESTIONS) if suspicion else counted


def patience_s(interval_s: float, *, suspicion: bool) -> float:
    """T: silence after which the first backup takes over if nothing answers."""
    if not suspicion:
        return 3.125 * interval_s
    spacing_s = min(max(interval_s / 16, 0.002), 0.010)
    return interval_s + max(interval_s / 8, 0.002) + _QUESTIONS * spacing_s


def burst_share(interval_s: float, burst_s: float, patience_of_s: float) -> float:
    """The share of bursts that end in a takeover."""
    return burst_s / interval_s * (exp(-(patience_of_s - interval_s) / burst_s) - exp(-patience_of_s / burst_s))
