"""Several coroutines at one time."""

__all__ = ["together"]

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def together(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Until each job has ended; cancelled with the caller. The error of one is raised here, and stops none of the others.

    Not ``asyncio.gather``: each task that waits for it looks ``result`` up by a new string (``task_wakeup`` of CPython 3.11 to 3.13), which
    stays in the interpreter's cache of methods. That cache has an end, but for hours of reloads memory rises and looks like a leak.
    Time stamps with a zone (``utcoffset``) and text files (``incrementalencoder``) do the same: what is written often is written as bytes.
    """
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        for task in tasks:
            await task
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
