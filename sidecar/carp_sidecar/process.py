"""The sidecar as a process: its limits, its signals, what it does with a bug, and its exit code."""

__all__ = ["run"]

import asyncio
import gc
import logging
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carp_protocol.config import SidecarConfig
from carp_protocol.errors import CarpError, ConfigError
from carp_sidecar import logs
from carp_sidecar.console.control import ControlSocketError
from carp_sidecar.daemon import Daemon
from carp_sidecar.logs import log_event
from carp_sidecar.sharing import CannotShare, share_folder
from carp_sidecar.source import load
from carp_sidecar.state import StateDir, StateDirInUse

_log = logging.getLogger(__name__)

_GIL_SWITCH_S = 0.0005
"""How long another thread may compute while the loop waits: Python's 5 ms, after each of the system calls of a takeover, made 30 ms of one
while the metrics library was loaded (measured)."""
_DESCRIPTORS = 4096
"""255 interfaces need seven sockets each; systemd grants 1024 to who does not ask for more."""
_CONFIG_FOLDER_MODE = 0o2770
"""The agent replaces the configuration in it; what it makes there belongs to the common group."""


def run(path: str, agent_group: int | None = None) -> int:
    """Run the sidecar until SIGTERM or SIGINT; gives the exit code: 2 for a configuration that cannot run.

    With ``agent_group`` an agent of that group writes the configuration: until one can run, none does.
    """
    try:
        config, problems = (load(path), []) if agent_group is None else _fed_config(path, agent_group)
        state_dir = StateDir(config.state_dir)
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"carp-sidecar: {problem}\n")
        return 2
    except (StateDirInUse, CannotShare) as error:
        sys.stderr.write(f"carp-sidecar: {error}\n")
        return 2
    _take_descriptors()
    handler = logs.configure(config.log_format, config.log_level)
    for sentence in problems:
        log_event(_log, logging.WARNING, f"{sentence}; no group runs until the agent has written a configuration")
    try:
        return asyncio.run(_main(lambda: Daemon(path, config, state_dir, problems=problems, agent_group=agent_group)))
    finally:
        state_dir.close()
        handler.close()


def _fed_config(path: str, agent_group: int) -> tuple[SidecarConfig, list[str]]:
    """What an agent has written; an empty configuration, and why, while that is missing or wrong: the agent mends it."""
    share_folder(Path(path).parent, agent_group, _CONFIG_FOLDER_MODE)
    try:
        return load(path), []
    except ConfigError as error:
        return SidecarConfig(), [str(problem) for problem in error.problems]


def _take_descriptors() -> None:
    """As many as may be needed, of those that the system would let us have."""
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(_DESCRIPTORS, most)
    if granted != resource.RLIM_INFINITY and granted < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def _main(make_daemon: Callable[[], Daemon]) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    failed = False

    def fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback that raises leaves a group without its timer: end, hand over what still works, and be started anew."""
        nonlocal failed
        error = context.get("exception")
        _log.error("%s; please report it", context["message"], exc_info=error)
        if "handle" in context:
            failed = True
            ended.set()

    loop.set_exception_handler(fail)
    daemon = make_daemon()
    _keep_the_loop_prompt()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    try:
        await daemon.start()
    except CarpError as error:
        log_event(_log, logging.ERROR, str(error))
        return 2 if isinstance(error, ControlSocketError) else 1
    await ended.wait()
    await daemon.stop()
    return 1 if failed else 0


def _keep_the_loop_prompt() -> None:
    """When everything is loaded: neither the collector nor another thread holds an election up."""
    gc.freeze()  # a full collection then passes over what was loaded: it would cost 10 ms (measured)
    gc.enable()  # see cli
    sys.setswitchinterval(_GIL_SWITCH_S)
