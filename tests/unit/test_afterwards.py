"""What can wait comes in order, and lets the loop do something else in between."""

import asyncio
from functools import partial

from carp_sidecar.afterwards import Afterwards


async def test_one_in_each_turn_and_in_order() -> None:
    loop = asyncio.get_running_loop()
    afterwards, seen = Afterwards(loop), list[str]()
    for name in "abc":
        afterwards.call(partial(seen.append, name))
    for turn in range(1, 4):
        loop.call_soon(seen.append, f"urgent {turn}")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [one for one in seen if len(one) == 1] == ["a", "b", "c"]
    assert seen.index("urgent 1") < seen.index("c"), "the third waited for what came after it and is urgent"


async def test_what_is_handed_over_meanwhile_comes_last() -> None:
    afterwards, seen = Afterwards(asyncio.get_running_loop()), list[str]()

    def first() -> None:
        seen.append("first")
        afterwards.call(partial(seen.append, "third"))

    afterwards.call(first)
    afterwards.call(partial(seen.append, "second"))
    for _ in range(4):
        await asyncio.sleep(0)
    assert seen == ["first", "second", "third"]


async def test_nothing_is_lost_at_the_end_or_called_twice() -> None:
    afterwards, seen = Afterwards(asyncio.get_running_loop()), list[int]()
    for number in range(3):
        afterwards.call(partial(seen.append, number))
    afterwards.flush()
    assert seen == [0, 1, 2]
    for _ in range(3):
        await asyncio.sleep(0)
    assert seen == [0, 1, 2]


async def test_one_that_fails_does_not_hold_up_the_next() -> None:
    loop = asyncio.get_running_loop()
    failures: list[str] = []
    loop.set_exception_handler(lambda _, context: failures.append(repr(context["exception"])))
    afterwards, seen = Afterwards(loop), list[int]()
    afterwards.call(partial(divmod, 1, 0))
    afterwards.call(partial(seen.append, 1))
    for _ in range(4):
        await asyncio.sleep(0)
    assert (len(failures), seen) == (1, [1])
