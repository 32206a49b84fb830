"""The operator's HTTP endpoints: /healthz (its loop goes round), /readyz (it acts, or waits for its turn) and /metrics."""

__all__ = ["serve"]

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from carp_operator.api.errors import OperatorError


@contextlib.asynccontextmanager
async def serve(address: str, metrics: Callable[[], bytes], trouble: Callable[[], str]) -> AsyncIterator[None]:
    """Listens on HOST:PORT while inside; empty: nowhere. ``trouble``: why the process should be restarted, empty if it should not."""
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")

    async def health(_: web.Request) -> web.Response:
        said = trouble()
        return web.Response(status=503 if said else 200, text=f"{said or 'ok'}\n")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def figures(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.add_routes([web.get("/healthz", health), web.get("/readyz", ready), web.get("/metrics", figures)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    except (OSError, ValueError) as error:
        await runner.cleanup()
        raise OperatorError(f"--metrics-address {address} cannot be used: {error}; give HOST:PORT, or nothing for none") from error
    try:
        yield
    finally:
        await runner.cleanup()
