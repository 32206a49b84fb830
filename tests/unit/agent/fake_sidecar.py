"""A sidecar without network: the real control socket in a thread, with a daemon behind it that reads the agent's file."""

__all__ = ["FakeSidecar"]

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from carp_agent.times import write_time
from carp_sidecar.console.control import ControlSocket
from unit.agent.tls_server import DEADLINE_S
from unit.fake_daemon import FakeDaemon, group_status, status_document


class _Daemon(FakeDaemon):
    """Runs as many groups as the file has, all of them BACKUP."""

    def __init__(self, config: Path, started: str) -> None:
        super().__init__()
        self._config = config
        self.document = status_document(started=started)
        self.files: list[dict[str, Any]] = []
        self.load()

    def load(self) -> None:
        """What the file says runs now."""
        if self._config.exists():
            document = json.loads(self._config.read_bytes())
            self.files.append(document)
            self.document["groups"] = [group_status(one["name"], vhid=one["vhid"]) for one in document["group"]]
            self.document["config"]["generation"] = document["generation"]
        else:
            self.document["config"]["generation"] = 0
        self.document["config"]["loaded"] = write_time(self._config.stat().st_mtime + 0.002 if self._config.exists() else 0.0)

    async def reload(self) -> list[str]:
        self.calls.append(("reload",))
        if not self.problems:
            self.load()
        self.publish({"event": "config", "generation": self.document["config"]["generation"], "problems": self.problems})
        return self.problems


class FakeSidecar:
    """``start`` and ``stop`` it as often as needed; ``daemon`` is the newest."""

    def __init__(self, folder: Path) -> None:
        self.socket_path = folder / "control.sock"
        self.config = folder / "sidecar.json"
        self.starts = 0
        self.daemon: _Daemon
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._control: ControlSocket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread:
            self.stop()

    def start(self) -> None:
        """A new process: it reads the file itself."""
        self.starts += 1
        self.daemon = _Daemon(self.config, f"2026-03-01T12:00:{self.starts:02d}Z")
        ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(ready),), daemon=True)
        self._thread.start()
        assert ready.wait(DEADLINE_S)

    async def _main(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._control = ControlSocket(self.socket_path, self.daemon)
        await self._control.open()
        ready.set()
        await self._ended.wait()
        await self._control.close()
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110  a client that came at the last moment
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.005)

    def stop(self) -> None:
        """It ends, and its socket goes."""
        assert self._thread is not None
        self.do(self._ended.set)
        self._thread.join(DEADLINE_S)
        self._thread = None

    def do(self, action: Callable[[], Any]) -> None:
        """In the thread of the sidecar."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(action)

    def hang_up(self) -> None:
        """Break the connection of every client."""

        def abort() -> None:
            for writer in list(self._control._clients.values()):
                writer.transport.abort()

        self.do(abort)

    def become(self, group: str = "intranet", event: str = "transition", **fields: Any) -> None:
        """A group changes, and watchers are told."""

        def change() -> None:
            entry = next(one for one in self.daemon.document["groups"] if one["name"] == group)
            entry |= fields
            entry["transitions"] += 1
            self.daemon.publish({"event": event, "time": "2026-03-01T12:00:00Z", "group": group})

        self.do(change)
