"""What the gate tells the kernel: leases as long as the first of their groups may speak, everything anew when something was refused."""

import asyncio
import errno
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from carp_sidecar import gate as module
from carp_sidecar.gate import Gate
from carp_sidecar.kernel.nft import claim, mute

CLAIMS = tuple(claim(3, ip_address(f"10.77.0.{number}"), 500) for number in range(3))


class Kernel:
    """Takes transactions and answers as it is told."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.taken: list[bytes] = []
        self.answers: list[int] = []

    def start(self) -> None: ...

    def submit(self, transaction: bytes, done: Callable[[int], None], *, expires: float | None = None) -> None:
        self.taken.append(transaction)
        self.loop.call_soon(done, self.answers.pop(0) if self.answers else 0)


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def build(monkeypatch: pytest.MonkeyPatch, changes: list[str], *answers: int) -> tuple[Gate, Kernel]:
    monkeypatch.setattr(module, "Transactions", Kernel)
    monkeypatch.setattr(module, "_SPACING", 0)
    gate = Gate(asyncio.get_running_loop(), "/var/lib/kubecarp", lambda: changes.append(gate.problem))
    kernel = gate._transactions
    assert isinstance(kernel, Kernel)
    kernel.answers = list(answers)
    gate.start()
    return gate, kernel


async def test_the_first_group_that_must_be_silent_decides_and_one_that_leaves_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, _ = build(monkeypatch, [])
    await settle()
    ends: list[float | None] = [10.4, 10.2, None]
    for number, ends_at in enumerate(ends):
        gate.hold(str(number), (CLAIMS[number],), lambda _, ends_at=ends_at: ends_at)  # type: ignore[misc]
    assert gate._left_ms(10.0) == {500: 199}
    gate.let_go("0")
    gate.let_go("1")
    assert gate._left_ms(10.0) == {500: 0}, "the lease of a group that was late is not prolonged while its addresses go"


async def test_a_group_without_a_lease_is_told_of_when_it_hands_over_and_when_it_joins_a_group_of_ipv6(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, kernel = build(monkeypatch, [])
    await settle()
    kernel.taken.clear()
    gate.hold("web", CLAIMS[:1], None)
    await settle()
    assert kernel.taken == [], "there is nothing to tell"
    gate.mute("web")
    await settle()
    gate.let_go("web")
    await settle()
    assert kernel.taken == [gate._tables.renew({}, [mute(CLAIMS[0])]), gate._tables.renew({}, [], [mute(CLAIMS[0])])]
    gate.hold("web", (claim(7, ip_address("fd77::64"), 500),), None)
    await settle()
    assert kernel.taken[2:] == [gate._tables.renew({}, joining=[7])]


async def test_what_is_refused_is_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[str] = []
    gate, kernel = build(monkeypatch, changes)
    await settle()
    assert changes == [""]
    kernel.answers = [errno.ENOENT]
    gate.hold("web", CLAIMS[:1], lambda now: now + 0.5)
    await settle()
    assert gate.rebuilt == 0, "the first claim of a lease builds, and a build that is refused is no gate"
    assert gate.problem
    assert changes[-1].startswith("the kernel refuses nftables rules")


async def test_an_attempt_that_came_too_late_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a gate nothing but the next attempt brings one."""
    monkeypatch.setattr(module, "_RETRY_S", 0)
    changes: list[str] = []
    gate, kernel = build(monkeypatch, changes)
    await settle()
    kernel.answers = [errno.ENOMEM, errno.ETIME, 0]
    gate.hold("web", CLAIMS[:1], lambda now: now + 0.5)
    for _ in range(3):
        await settle()
    assert not kernel.answers
    assert [bool(problem) for problem in changes] == [False, True, False]


async def test_a_renewal_that_fails_is_followed_by_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, kernel = build(monkeypatch, [])
    await settle()
    gate.hold("web", CLAIMS[:1], lambda now: now + 0.5)
    await settle()
    kernel.answers = [errno.ENOENT]
    gate.spoke(500)
    await settle()
    assert gate.rebuilt == 1
    assert kernel.taken[-1].startswith(gate._tables.build(CLAIMS[:1], {500: 499})[:400]), "from nothing"
    assert not gate.problem
