"""Several coroutines at one time: what ends, what is raised, and that nothing is left of it."""

import asyncio
import random
import sys

import pytest

from carp_sidecar.together import together


async def _breathe() -> None:
    await asyncio.sleep(0)


def test_thousands_of_them_leave_nothing() -> None:
    async def main() -> int:
        async def turn(times: int) -> None:
            for _ in range(times):
                held = [bytes(20) for _ in range(chance.randrange(400))]  # or each string would be made in the place of the last
                await together([_breathe(), _breathe()])
                held.clear()

        await turn(50)
        before = sys.getallocatedblocks()
        await turn(3000)
        return sys.getallocatedblocks() - before

    chance = random.Random(1)
    left = asyncio.run(main())
    assert left < 30, f"{left} blocks; with asyncio.gather 455 on Python 3.11"


def test_an_error_is_raised_and_stops_no_other() -> None:
    done = []

    async def fail() -> None:
        raise OSError("no such device")

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.append("worked")

    async def main() -> None:
        with pytest.raises(OSError, match="no such device"):
            await together([fail(), work()])
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert done == ["worked"]


def test_who_is_cancelled_takes_all_of_them_along() -> None:
    cancelled = []

    async def wait(name: str) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    async def main() -> None:
        waiting = asyncio.create_task(together([wait("first"), wait("second")]))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert sorted(cancelled) == ["first", "second"]


def test_none_is_enough() -> None:
    asyncio.run(together([]))
