"""A short chaos: the checker finds nothing in what is sold, and finds each bug that is put into it. ``make chaos`` is the long one."""

from pathlib import Path

import pytest

from chaos.plan import Round, Scenery, Strike
from chaos.scene import Result, Scene

pytestmark = pytest.mark.needs("netns", "nft")


def play(keep: Path, bug: str, *strikes: Strike) -> tuple[Result, tuple[str, ...]]:
    scenery = Scenery(number=0, hosts=3, virtual_mac=True, mode="Strict", interval_s=0.2, preemption=False)
    with Scene(scenery, keep, bug) as scene:
        result = scene.play(Round(0, strikes), bug, print)
        return result, scene.end()


STOP = Strike("stop", (0,), 0.3, 2.5, 0.5)
PARTITION = Strike("partition", (0,), 0.3, 3.0, 0.5)


def test_what_is_sold_breaks_no_promise(tmp_path: Path) -> None:
    result, ends = play(tmp_path, "none", STOP, Strike("partition", (1,), 4.0, 2.0, 0.5), Strike("kill", (2,), 5.0, 1.0, 0.5))
    assert [one.sentence for one in result.violations] == []
    assert result.troubles == ()
    assert ends == ()


@pytest.mark.parametrize(
    "bug, strike, invariant",
    [
        ("no gate", STOP, "two answer"),
        ("no stall check", STOP, "an unhurt master fell silent"),
        ("deaf to better masters", PARTITION, "not healed"),
    ],
)
def test_a_bug_is_found(tmp_path: Path, bug: str, strike: Strike, invariant: str) -> None:
    result, _ = play(tmp_path, bug, strike)
    assert invariant in {one.invariant for one in result.violations}
    assert list(tmp_path.glob("*.pcap"))
