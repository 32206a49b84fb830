"""What netlink asks the kernel for, without one."""

import asyncio

import pytest

from carp_sidecar.kernel.netlink import Netlink


async def test_who_asks_during_a_dump_waits_for_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another would still be under way when notifications are read again, and would undo those that are newer than it."""
    netlink, asked = Netlink(asyncio.get_running_loop()), list[str]()
    monkeypatch.setattr(netlink._queue, "ask_for_dump", lambda: asked.append("dump"))
    both = asyncio.gather(netlink.refresh(), netlink.refresh())
    await asyncio.sleep(0)
    assert len(asked) == 1
    netlink._take_dump([], [])
    await both
    later = asyncio.create_task(netlink.refresh())
    await asyncio.sleep(0)
    assert len(asked) == 2
    netlink._take_dump([], [])
    await later
