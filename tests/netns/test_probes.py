"""The probes that are no echoes: new TCP connections and ARP questions. The bench of the cluster believes them."""

import contextlib
import sys
import time
from collections.abc import Iterator

import pytest

from lab.network import Lab
from lab.prober import Prober

pytestmark = pytest.mark.needs("netns")

PORT = 8080
ROUNDED_MS = 0.01
LISTEN = f'import signal, socket; keep = socket.create_server(("", {PORT}), backlog=64); print("listens", flush=True); signal.pause()'


@contextlib.contextmanager
def listening(lab: Lab) -> Iterator[None]:
    """Host a has a listener that never accepts: the kernel answers."""
    with lab["a"].namespace.start([sys.executable, "-c", LISTEN], lab.directory / "listener", pipe=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        yield
        process.kill()


def test_knocks_are_answered_while_somebody_listens_and_the_gap_is_as_long_as_he_is_away(lab: Lab) -> None:
    with Prober(lab.client, lab["a"].address(), every_ms=5, how=["--knock", str(PORT)]) as knocks:
        with listening(lab):
            knocks.wait_answering()
        left = time.monotonic()
        knocks.wait_silent()
        back = time.monotonic()
        with listening(lab):
            knocks.wait_answering()
            seen = knocks.stop()
    before_back = [part for part in seen.between(left, back) if part[1] > 50]
    assert len(before_back) == 1, "one gap, and no other"
    assert 0.7 * (back - left) * 1000 < before_back[0][1] <= (back - left) * 1000 + ROUNDED_MS
    (gap,) = [one for one in seen.since(back) if one.duration_ms > 50]
    assert gap.ended


def test_questions_are_answered_by_whoever_has_the_address(lab: Lab) -> None:
    address = lab["a"].address()
    with Prober(lab.client, address, every_ms=10, how=["--question"]) as questions:
        questions.wait_answering()
        assert questions.live["mac"] == lab["a"].port().mac
        lab.cut(lab["a"])
        questions.wait_silent()
        lab["b"].namespace.ip(f"addr add {address}/24 dev eth0")
        questions.wait_answering()
        assert questions.live["mac"] == lab["b"].port().mac
        assert questions.stop().duplicates == 0


def test_two_hosts_with_one_address_answer_a_question_twice(lab: Lab) -> None:
    address = lab["a"].address()
    with Prober(lab.client, address, every_ms=10, how=["--question"]) as questions:
        questions.wait_answering()
        lab["b"].namespace.ip(f"addr add {address}/24 dev eth0")
        questions.wait_answering()
        seen = questions.stop()
    assert seen.duplicates > 50
    assert seen.macs == {lab["a"].port().mac, lab["b"].port().mac}
