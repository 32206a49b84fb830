"""The watches: kopf delivers every object and every change of the four kinds into the cache. No finalizer, no annotation, nothing written.

kopf brings reconnects, bookmarks, timeouts and credentials; decisions are the planner's.
"""

__all__ = ["make_registry", "make_settings", "relist", "watch"]

import asyncio
import dataclasses
import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf

from carp_operator.api.names import GROUP, MANAGER, VERSION
from carp_operator.kube import paths
from carp_operator.kube.api import Api

from .cache import Cache, Kind

_SERVER_TIMEOUT_S = 300
"""A watch is asked anew after this long, whatever happens: one that died without a word must not go unnoticed for ever."""
_CONNECT_TIMEOUT_S = 10
_RECONNECT_S = 0.5
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def make_settings() -> kopf.OperatorSettings:
    """kopf's settings: only what differs from its defaults."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = _SERVER_TIMEOUT_S
    settings.watching.client_timeout = _SERVER_TIMEOUT_S + 30
    settings.watching.connect_timeout = _CONNECT_TIMEOUT_S
    settings.watching.reconnect_backoff = _RECONNECT_S
    settings.networking.connect_timeout = _CONNECT_TIMEOUT_S
    settings.networking.request_timeout = 30
    settings.persistence.finalizer = f"{GROUP}/never-set"
    return settings


def make_registry(tell: Callable[[Kind, str | None, kopf.Body], None]) -> kopf.OperatorRegistry:
    """Handlers that ``tell`` of every object and every change."""
    registry = kopf.OperatorRegistry()

    def feed(kind: Kind) -> Callable[..., Any]:
        async def handle(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002  kopf's name
            tell(kind, type, body)

        return handle

    kopf.on.event(GROUP, VERSION, "carpgroups", registry=registry, id="carpgroups")(feed(Kind.GROUP))
    kopf.on.event(GROUP, VERSION, "carpnodes", registry=registry, id="carpnodes")(feed(Kind.CARP_NODE))
    kopf.on.event("", "v1", "nodes", registry=registry, id="nodes")(feed(Kind.NODE))
    kopf.on.event("", "v1", "secrets", registry=registry, id="secrets")(feed(Kind.SECRET))

    @kopf.on.login(registry=registry, id="login")
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return _service_account() or _trusting(kopf.login_with_kubeconfig(**kwargs))

    return registry


class _Connection(kopf.ConnectionInfo):
    """Believes old CAs too: what ``ssl`` makes by itself refuses those of many clusters from Python 3.13 on."""

    def as_ssl_context(self) -> ssl.SSLContext:
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


def _trusting(found: kopf.ConnectionInfo | None) -> kopf.ConnectionInfo | None:
    return _Connection(**{field.name: getattr(found, field.name) for field in dataclasses.fields(found)}) if found else None


def _service_account() -> kopf.ConnectionInfo | None:
    """The pod's own account, at the address the pod was told: kopf's own way in takes a name that DNS may not know yet."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    try:
        token = (_ACCOUNT / "token").read_text().strip()
    except OSError:
        return None
    if not host or not port:
        return None
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return _Connection(server=server, ca_path=str(_ACCOUNT / "ca.crt"), scheme="Bearer", token=token)


async def watch(cache: Cache, wake: Callable[[], None], namespace: str) -> None:
    """Fill ``cache`` with what happens and ``wake`` the reconciler, until cancelled; returns when kopf has ended by itself.

    kopf runs in a thread with an event loop of its own: when it stops it waits for every task of its loop, and takes the signals.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def tell(kind: Kind, what: str | None, body: kopf.Body) -> None:
        loop.call_soon_threadsafe(take, kind, what, dict(body))

    def take(kind: Kind, what: str | None, body: dict[str, Any]) -> None:
        if what == "DELETED":
            cache.drop(kind, body)
        else:
            cache.put(kind, body)
        wake()

    def run() -> None:
        operator = kopf.operator(
            registry=make_registry(tell),
            settings=make_settings(),
            standalone=True,
            namespaces=[namespace],
            stop_flag=stop,
            identity=MANAGER,  # type: ignore[arg-type]  # its own default needs the name of a user, which a container may not have
        )
        asyncio.run(operator)

    try:
        await asyncio.to_thread(run)
    finally:
        stop.set()


async def relist(api: Api, cache: Cache, namespace: str) -> None:
    """Everything as it is now: before the first plan, which must not take "not seen yet" for "gone", and now and then. ApiError."""
    where = {
        Kind.GROUP: paths.carp_groups(),
        Kind.NODE: paths.nodes(),
        Kind.CARP_NODE: paths.carp_nodes(),
        Kind.SECRET: paths.secrets(namespace),
    }
    for kind, path in where.items():
        bodies, version = await asyncio.to_thread(api.list, path)
        cache.replace_all(kind, bodies, version)
