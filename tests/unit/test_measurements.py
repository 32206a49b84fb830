"""What is counted takes no more memory however long it is counted: an int above 256 is a block of its own in Python."""

import sys
from collections.abc import Callable

from carp_sidecar.measurements import Histogram, Tally

COUNTERS = 500
NOISE = 50
"""Blocks that the interpreter itself takes and gives back."""


def blocks_more(count: Callable[[], None]) -> int:
    """How many blocks more Python holds when all have counted to 400 than when they had counted to 100."""
    for _ in range(100):
        count()
    before = sys.getallocatedblocks()
    for _ in range(300):
        count()
    return sys.getallocatedblocks() - before


def test_a_tally_holds_no_more_when_it_has_counted_far() -> None:
    tallies = [Tally() for _ in range(COUNTERS)]

    def count() -> None:
        for tally in tallies:
            tally.count("link-down")

    assert blocks_more(count) < NOISE
    assert tallies[0].as_dict() == {"link-down": 400}


def test_a_histogram_holds_no_more_when_it_has_counted_far() -> None:
    histograms = [Histogram((0.001, 0.01)) for _ in range(COUNTERS)]

    def count() -> None:
        for histogram in histograms:
            histogram.observe(0.005)

    assert blocks_more(count) < NOISE
    assert histograms[0].cumulative() == [("0.001", 0.0), ("0.01", 400.0), ("+Inf", 400.0)]


def test_a_tally_counts_each_name_in_the_order_in_which_they_came() -> None:
    tally = Tally()
    assert (tally.as_dict(), tally.total()) == ({}, 0)
    for name in ("started", "link-down", "started"):
        tally.count(name)
    assert list(tally.as_dict().items()) == [("started", 2), ("link-down", 1)]
    assert tally.total() == 3
