"""The reconciler's loop with an API server that refuses some objects: what one of them costs the others."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast

from carp_operator.handlers.cache import Cache, Kind
from carp_operator.handlers.reconciler import Reconciler
from carp_operator.kube.api import Api, ApiError
from carp_operator.metrics import Metrics
from carp_operator.plan.planner import Planner
from lab.groups import INTERFACES
from lab.manifests import carp_group
from lab.objects import node

Json = dict[str, Any]
DEADLINE_S = 10.0


class PickyApi:
    """Keeps what is written, and refuses the paths in ``refused``."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.written: dict[str, Json] = {}
        self.objects: dict[str, Json] = {}
        """What is there, by path."""
        self.attempts: list[str] = []
        self._version = 100

    def apply(self, path: str, body: Json) -> Json:
        self.attempts.append(path)
        if path in self.refused:
            raise ApiError(500, "InternalError", f"{path} cannot be written")
        self._version += 1
        known = self.objects.get(path.removesuffix("/status"), {"metadata": {"uid": path, "generation": 1}})
        metadata = known["metadata"] | body["metadata"] | {"resourceVersion": str(self._version)}
        self.written[path] = known | body | {"metadata": metadata}
        self.objects[path.removesuffix("/status")] = self.written[path]
        return self.written[path]

    def create(self, path: str, body: Json) -> Json:
        return self.apply(f"{path}/{body['metadata']['name']}", body)

    replace = apply


def small_world(api: PickyApi) -> tuple[Cache, Reconciler]:
    """Nodes a, b and c that have reported, and a reconciler that has seen them."""
    cache = Cache()
    for number, name in enumerate("abc", 1):
        body = node(name, f"10.77.0.{number}")
        body["metadata"] |= {"uid": f"node-{name}", "resourceVersion": "1"}
        cache.put(Kind.NODE, body)
        status = {"sidecar": {"running": True}, "interfaces": INTERFACES[name], "groups": []}
        metadata = {
            "name": name,
            "uid": f"carp-{name}",
            "generation": 1,
            "resourceVersion": "2",
            "ownerReferences": [{"uid": f"node-{name}"}],
        }
        known = {"metadata": metadata, "spec": {"groups": []}, "status": status}
        api.objects[f"/apis/kubecarp.io/v1alpha1/carpnodes/{name}"] = known
        cache.put(Kind.CARP_NODE, known)
    reconciler = Reconciler(cast("Api", api), cache, Planner(lambda _mode: b"9f" * 32), Metrics(), "kubecarp-system", "test")
    return cache, reconciler


def put_group(api: PickyApi, cache: Cache, name: str, address: str) -> None:
    body = carp_group(name, address)
    body["metadata"] |= {"uid": f"group-{name}", "generation": 1, "resourceVersion": "3", "creationTimestamp": "2026-01-01T00:00:00Z"}
    api.objects[f"/apis/kubecarp.io/v1alpha1/carpgroups/{name}"] = body
    cache.put(Kind.GROUP, body)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not what():  # noqa: ASYNC110  the writes happen in threads
            await asyncio.sleep(0.005)


def names_in(api: PickyApi, node_name: str) -> set[str]:
    body = api.written.get(f"/apis/kubecarp.io/v1alpha1/carpnodes/{node_name}", {"spec": {"groups": []}})
    return {entry["name"] for entry in body["spec"]["groups"]}


async def test_a_node_that_cannot_be_written_holds_up_neither_the_others_nor_what_comes_later() -> None:
    api = PickyApi()
    cache, reconciler = small_world(api)
    broken = "/apis/kubecarp.io/v1alpha1/carpnodes/b"
    api.refused.add(broken)
    put_group(api, cache, "first", "10.77.0.100")
    loop = asyncio.create_task(reconciler.run())
    reconciler.wake()
    try:
        await until(lambda: names_in(api, "a") == {"first"} and "/apis/kubecarp.io/v1alpha1/carpgroups/first/status" in api.written)
        put_group(api, cache, "second", "10.77.0.101")
        reconciler.wake()
        await until(lambda: names_in(api, "a") == names_in(api, "c") == {"first", "second"})
        assert broken not in api.written
        api.refused.clear()
        await until(lambda: names_in(api, "b") == {"first", "second"})
    finally:
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop


async def test_no_node_is_told_of_a_key_that_was_not_written() -> None:
    api = PickyApi()
    cache, reconciler = small_world(api)
    ring = "/api/v1/namespaces/kubecarp-system/secrets/kubecarp-key-first"
    api.refused.add(ring)
    put_group(api, cache, "first", "10.77.0.100")
    loop = asyncio.create_task(reconciler.run())
    reconciler.wake()
    try:
        await until(lambda: api.attempts.count(ring) >= 2)
        assert not any("carpnodes" in path for path in api.attempts)
        api.refused.clear()
        await until(lambda: names_in(api, "a") == {"first"})
    finally:
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
