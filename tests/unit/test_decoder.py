"""The decoder loads the message classes of pyroute2, not pyroute2; and believes no list that the kernel calls incomplete."""

import errno
import socket
import struct
import subprocess
import sys
from typing import cast

import pytest

from carp_sidecar.kernel import decoder
from carp_sidecar.kernel.decoder import Decoder

_PROGRAM = """
import sys
from carp_sidecar.kernel.decoder import Decoder
links, addresses = Decoder().dump()
assert [link.name for link in links if link.name == "lo"] == ["lo"], links
loaded = [name for name in sys.modules if name.startswith("pyroute2")]
assert len(loaded) < 40, len(loaded)
assert "pyroute2" not in sys.modules, "whoever imports it later gets all of it"
import pyroute2
assert pyroute2.IPRoute
"""


def test_a_tenth_of_the_library_is_enough_and_the_rest_can_still_be_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


NEWLINK, NEWADDR, DONE, INTERRUPTED = 16, 20, 3, 0x10


def message(kind: int, body: bytes = bytes(4), flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


class Kernel:
    """Answers a dump with these datagrams."""

    def __init__(self, *datagrams: bytes) -> None:
        self._datagrams = list(datagrams)

    def send(self, _: bytes) -> None: ...

    def recv(self, _: int) -> bytes:
        return self._datagrams.pop(0)


def dump(*datagrams: bytes) -> tuple[int, bool]:
    listed = decoder._dump(cast(socket.socket, Kernel(*datagrams)), 18, bytes(16))
    return len(listed.messages), listed.whole


def test_a_list_in_whose_middle_something_changed_says_so() -> None:
    assert dump(message(NEWLINK) * 2, message(NEWLINK) + message(DONE)) == (3, True)
    assert dump(message(NEWLINK), message(NEWLINK, flags=INTERRUPTED), message(DONE)) == (2, False)
    assert dump(message(NEWLINK), message(DONE, flags=INTERRUPTED)) == (1, False)


def test_a_list_that_breaks_off_is_none() -> None:
    with pytest.raises(OSError, match="did not list all") as raised:
        dump(message(NEWLINK), message(DONE, struct.pack("=i", -errno.ENOMEM)))
    assert raised.value.errno == errno.ENOMEM


@pytest.mark.parametrize("interrupted, asked", [(0, 1), (2, 3), (99, 5)])
def test_it_is_asked_for_again_but_not_for_ever(interrupted: int, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[bool] = []

    def list_links(_kernel: object, kind: int, _body: bytes) -> decoder._Listed:
        if kind == decoder._GETLINK:
            attempts.append(len(attempts) >= interrupted)
        return decoder._Listed((), attempts[-1])

    monkeypatch.setattr(decoder, "_dump", list_links)
    assert Decoder().dump() == ([], [])
    assert len(attempts) == asked


def link(index: int, flags: int = 0) -> bytes:
    return message(NEWLINK, struct.pack("=BxHiII", 0, 1, index, flags, 0) + struct.pack("=HH", 8, 3) + b"eth\0")


def address(index: int) -> bytes:
    return message(NEWADDR, struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, index) + struct.pack("=HH4s", 8, 2, bytes(4)))


def remembered(here: Decoder) -> int:
    return sum(len(known) for meanings in (here._links, here._addresses) for known in meanings._known.values())


def test_what_was_said_of_a_device_is_forgotten_with_it() -> None:
    """On a node where pods come and go every index is new; what is remembered of them would be megabytes."""
    here = Decoder()
    for index in range(1, 1000):
        assert (here.link(link(index)).index, here.address(address(index)).index) == (index, index)
        here.forget(index)
    assert not here._links._known
    assert not here._addresses._known
    assert here.link(link(7)) is here.link(link(7)), "but it is decoded once"
    assert here.address(address(7)) is here.address(address(7))


def test_of_one_device_not_everything_is_remembered() -> None:
    here = Decoder()
    for flags in range(3 * decoder._KNOWN):
        here.link(link(7, flags))
    assert remembered(here) <= decoder._KNOWN


def test_a_list_forgets_what_is_not_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded while the kernel said that it went: nobody says so again."""
    here = Decoder()
    here.link(link(7))
    here.address(address(7))
    monkeypatch.setattr(decoder, "_dump", lambda _kernel, kind, _body: decoder._Listed([link(8)] if kind == decoder._GETLINK else []))
    here.dump()
    assert remembered(here) == 1
