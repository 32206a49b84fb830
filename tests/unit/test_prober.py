"""Questions to other hosts, where this one cannot even ask."""

import asyncio
import errno
from types import SimpleNamespace
from typing import Any, cast

import pytest

from carp_sidecar.wire.probe import Prober
from carp_sidecar.wire.sockets import Wire


async def test_a_family_that_this_host_does_not_have_is_not_asked_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packet socket hears adverts over IPv6 also where the kernel has none: that must cost no group of another family anything."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    sent: list[bytes] = []
    wire = SimpleNamespace(index=2, mac="02:00:00:00:00:01", send=sent.append)
    prober = Prober(asyncio.get_running_loop(), cast(Wire, wire), 9112, lambda *_: pytest.fail("no evidence"))
    monkeypatch.setattr("carp_sidecar.wire.probe.socket.socket", refuse)
    prober.ask_host("fe80::2", "::")
    assert not sent, "an answer would be taken for nobody's"
    prober.close()
