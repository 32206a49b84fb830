"""The lease of an operator beside an API server that is slow: tests/api has the rest, with a real one."""

import asyncio
import threading
import time
from typing import Any

import pytest

from carp_operator.kube import lease as lease_module
from carp_operator.kube.api import Json
from carp_operator.kube.lease import Lease

RENEW_S = 0.2


class SlowApi:
    """One object. While ``answers`` is not set, whoever writes waits."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.held: Json = {"metadata": {"resourceVersion": "1"}, "spec": {}}
        self.waiting = threading.Event()

    def get(self, path: str) -> Json:
        return {**self.held, "spec": dict(self.held["spec"])}

    def replace(self, path: str, body: Json) -> Json:
        self.waiting.set()
        assert self.answers.wait(30)
        self.held = body
        return body


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> SlowApi:
    monkeypatch.setattr(lease_module, "RENEW_S", RENEW_S)
    monkeypatch.setattr(lease_module, "DURATION_S", 3 * RENEW_S)
    return SlowApi()


def of(api: Any) -> Lease:
    return Lease(api, "kubecarp", "one")


async def test_a_holder_whose_renewal_hangs_stops_before_others_begin(api: SlowApi) -> None:
    lease = of(api)
    await lease.acquire()
    api.answers.clear()
    began = time.monotonic()
    await asyncio.wait_for(lease.hold(), 20)
    assert time.monotonic() - began >= 2 * RENEW_S
    assert not api.answers.is_set(), "it did not wait for the answer"
    api.answers.set()


async def test_what_releases_has_the_last_word(api: SlowApi) -> None:
    """A renewal that is under way when the operator is told to stop goes on in its thread."""
    lease = of(api)
    await lease.acquire()
    api.answers.clear()
    api.waiting.clear()
    renewal = asyncio.create_task(lease.hold())
    await asyncio.to_thread(api.waiting.wait, 20)
    renewal.cancel()
    releasing = asyncio.create_task(lease.release())
    await asyncio.sleep(0.05)
    api.answers.set()
    await releasing
    assert api.held["spec"]["holderIdentity"] == ""
