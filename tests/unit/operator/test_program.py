"""A term of the operator whose API server keeps its lease and lists nothing, as before the CRDs are there: tests/api has the rest."""

import asyncio
import contextlib
import threading
from typing import Any, cast

import pytest

from carp_operator import program
from carp_operator.kube import lease as lease_module
from carp_operator.kube.api import Api, ApiError, Json
from carp_operator.kube.lease import Lease
from carp_operator.metrics import Metrics

DEADLINE_S = 10.0
ENOUGH = 4


class HalfApi:
    """Has one object, the lease; lists are refused until ``lists`` is set."""

    def __init__(self) -> None:
        self.lists = False
        self.held: Json = {"metadata": {"resourceVersion": "0"}, "spec": {}}
        self.renewals = 0
        self.renewed = threading.Event()
        """Often enough."""
        self.watched = asyncio.Event()

    def get(self, path: str) -> Json:
        assert path.endswith("/leases/kubecarp-operator")
        return {**self.held, "spec": dict(self.held["spec"])}

    def replace(self, _path: str, body: Json) -> Json:
        self.renewals += 1
        if self.renewals == ENOUGH:
            self.renewed.set()
        self.held = {**body, "metadata": {"resourceVersion": str(self.renewals)}}
        return self.held

    def list(self, path: str) -> tuple[list[Json], int]:
        if not self.lists:
            raise ApiError(404, "NotFound", f"{path}: 404 page not found")
        return [], 1


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> HalfApi:
    fake = HalfApi()

    async def watch(*_: Any) -> None:
        fake.watched.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(program, "watch", watch)
    monkeypatch.setattr(program, "_RETRY_S", (0.01, 0.01))
    monkeypatch.setattr(lease_module, "RENEW_S", 0.02)
    return fake


async def begin(api: HalfApi) -> tuple[program._Term, "asyncio.Task[None]"]:
    lease = Lease(cast("Api", api), "kubecarp", "one")
    await lease.acquire()
    term = program._Term(program.Settings(namespace="kubecarp"), cast("Api", api), Metrics(), "one")
    return term, asyncio.create_task(term.serve(lease))


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_who_waits_for_the_first_lists_keeps_the_lease_and_does_not_hang(api: HalfApi) -> None:
    term, task = await begin(api)
    assert await asyncio.to_thread(api.renewed.wait, DEADLINE_S)
    term.reconciler.last_round_s -= 1000
    assert term.trouble() == "", "another start would help nobody"
    api.lists = True
    await asyncio.wait_for(api.watched.wait(), DEADLINE_S)
    assert term.trouble() == ""
    term.reconciler.last_round_s -= 1000
    assert "the loop hangs" in term.trouble()
    await end(task)


async def test_a_term_ends_when_the_lease_goes_while_it_waits(api: HalfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "DURATION_S", 0.2)
    _, task = await begin(api)
    api.held["spec"]["holderIdentity"] = "two"
    await asyncio.wait_for(task, DEADLINE_S)
