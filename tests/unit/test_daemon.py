"""What runs beside what in the life of a sidecar: its start, its stop, and a reload that comes in the middle of either."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from carp_protocol.config import GroupConfig, SidecarConfig
from carp_protocol.effects import State
from carp_sidecar import daemon as module
from carp_sidecar.daemon import Daemon
from carp_sidecar.runner import Runner
from carp_sidecar.state import StateDir
from unit.fake_daemon import DEADLINE_S

GROUP = GroupConfig(name="web", vhid=7, addresses=(ip_interface("10.77.0.100/24"),), interface="eth0")


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[StateDir]:
    opened = StateDir(str(tmp_path))
    yield opened
    opened.close()


class Slow(Daemon):
    """A sidecar without a kernel: every step of its start and stop that may last waits for ``go``."""

    def __init__(self, state_dir: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
        config = SidecarConfig(groups=(GROUP,), state_dir=str(state_dir.path), metrics_address="", probe_port=0)
        super().__init__("sidecar.toml", config, state_dir)
        self.go = asyncio.Event()
        self.added: list[str] = []
        monkeypatch.setattr(module, "load", lambda _: config)
        monkeypatch.setattr(self, "_sweep", lambda: None)
        for part, steps in ((self._netlink, ("start",)), (self._control, ("open", "close")), (self._hooks, ("close",))):
            for step in steps:
                monkeypatch.setattr(part, step, self._wait)
        monkeypatch.setattr(self._gate, "start", lambda: None)
        monkeypatch.setattr(self._guardian, "start", lambda: None)

    async def _wait(self, **_: Any) -> None:
        await self.go.wait()

    def _add(self, group: GroupConfig) -> None:
        async def close() -> None: ...

        self.added.append(group.name)
        self._runners[group.name] = SimpleNamespace(  # type: ignore[assignment]
            config=group, close=close, needs_restart=lambda _: False, use_generation=lambda _: None
        )


async def finish(daemon: Slow, task: asyncio.Task[None], reload: asyncio.Future[list[str]]) -> None:
    """Let everything happen that can before the slow step ends, then end it."""
    both: list[asyncio.Future[Any]] = [task, reload]
    await asyncio.wait(both, timeout=0.05)
    daemon.go.set()
    await task


async def test_a_handover_of_all_groups_that_one_of_them_cannot_do_is_not_begun(
    state_dir: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, given = Slow(state_dir, monkeypatch), list[int]()
    for name, peers in (("web", {"10.0.0.2": 7}), ("db", {})):
        runner = SimpleNamespace(
            config=SimpleNamespace(name=name),
            engine=SimpleNamespace(state=State.MASTER),
            peer_id=peers.get,
            peer_sources=lambda peers=peers: list(peers),
            handover=given.append,
        )
        daemon._runners[name] = cast(Runner, runner)
    assert daemon.handover(None, "10.0.0.2") == "group db knows no member 10.0.0.2; it knows nobody yet"
    assert given == []
    assert daemon.handover("web", "10.0.0.2") is None
    assert daemon.handover(None, None) is None
    assert given == [7, 0, 0]


async def test_a_reload_during_the_start_does_not_make_the_groups_twice(state_dir: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Slow(state_dir, monkeypatch)
    start, reload = asyncio.create_task(daemon.start()), daemon.reload()
    await finish(daemon, start, reload)
    assert await reload == []
    assert daemon.added == ["web"]
    await daemon.stop()


async def test_pages_that_a_reload_replaces_are_not_served_when_all_has_settled(
    state_dir: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent's first configuration comes within the second in which the election has the processor for itself."""
    started: list[str] = []

    class Pages:
        def __init__(self, address: str, *_: object) -> None:
            self.start = lambda: started.append(address)

        async def close(self) -> None: ...

    monkeypatch.setattr(module, "Endpoints", Pages)
    monkeypatch.setattr(module, "_SETTLE_S", 0.02)
    daemon = Slow(state_dir, monkeypatch)
    daemon.go.set()
    await daemon.start()
    monkeypatch.setattr(module, "load", lambda _: replace(daemon._config, metrics_address="0.0.0.0:9120"))
    assert await daemon.reload() == []
    await asyncio.sleep(2 * module._SETTLE_S)
    assert set(started) == {"0.0.0.0:9120"}
    await daemon.stop()


async def test_a_reload_during_the_stop_makes_no_group_that_nobody_ends(state_dir: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Slow(state_dir, monkeypatch)
    stop, reload = asyncio.create_task(daemon.stop()), daemon.reload()
    await finish(daemon, stop, reload)
    assert daemon.added == []
    with pytest.raises(asyncio.CancelledError):
        await reload


async def test_a_reload_is_carried_out_whole_though_nobody_waits_for_it_any_more(
    state_dir: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer at the control socket has a limit; the groups of half a reload would run as nobody has written them."""
    daemon = Slow(state_dir, monkeypatch)
    daemon.go.set()
    await daemon.start()
    leaves, enters = replace(GROUP, name="old"), replace(GROUP, name="new", vhid=8)
    daemon._add(leaves)
    gone = asyncio.Event()
    daemon._runners["old"].close = gone.wait  # type: ignore[assignment]
    monkeypatch.setattr(module, "load", lambda _: replace(daemon._config, groups=(GROUP, enters)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await daemon.reload()
    gone.set()
    async with asyncio.timeout(DEADLINE_S), daemon._reloading:
        assert daemon.group_names() == ["web", "new"]
    await daemon.stop()


async def test_reloads_do_not_pile_up_behind_one_that_hangs(state_dir: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent asks again and again; one that has not begun reads what the last of them wrote."""
    daemon = Slow(state_dir, monkeypatch)
    daemon.go.set()
    await daemon.start()
    async with daemon._reloading:
        asked = [daemon.reload() for _ in range(1000)]
        await asyncio.sleep(0)
        assert len(daemon._reloads) == 1
    async with asyncio.timeout(DEADLINE_S):
        assert await asyncio.gather(*asked) == [[]] * 1000
        assert await daemon.reload() == []
    await daemon.stop()


async def test_a_reload_that_hangs_holds_no_stop_up(state_dir: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Slow(state_dir, monkeypatch)
    monkeypatch.setattr(module, "_RELOAD_GRACE_S", 0.01)
    daemon.go.set()
    async with daemon._reloading, asyncio.timeout(DEADLINE_S):
        await daemon.stop()


async def test_garbage_in_cycles_waits_for_seconds(state_dir: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python alone may leave it for hours: its collector looks at what is old only when there is a quarter more of it."""

    class Connection:
        def __init__(self) -> None:
            self.self = self

    monkeypatch.setattr(module, "_COLLECT_S", 0.02)
    daemon = Slow(state_dir, monkeypatch)
    daemon.go.set()
    await daemon.start()
    gc.disable()
    try:
        freed = asyncio.Event()
        weakref.finalize(Connection(), freed.set)
        await asyncio.wait_for(freed.wait(), DEADLINE_S)
    finally:
        gc.enable()
    await daemon.stop()
