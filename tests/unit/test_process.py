"""What a sidecar asks of the system before it runs."""

import resource

import pytest

from carp_sidecar import process


@pytest.mark.parametrize(
    "granted, most, asked",
    [(1024, 524_288, [(4096, 524_288)]), (1024, 2048, [(2048, 2048)]), (1024, -1, [(4096, -1)]), (8192, 8192, []), (-1, -1, [])],
)
def test_descriptors_for_hundreds_of_interfaces(granted: int, most: int, asked: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[object] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (granted, most))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: taken.append(limits))
    process._take_descriptors()
    assert taken == asked
