"""pytest fixtures of every layer that needs a Kubernetes API: one control plane for all its tests, emptied after each."""

__all__ = ["api", "control_plane", "crds", "lab", "shared_control_plane"]

import contextlib
from collections.abc import Iterator

import pytest

from carp_operator.api.group_schema import group_crd
from carp_operator.api.node_schema import node_crd
from lab.control_plane import ControlPlane
from lab.fixtures import simple_lab
from lab.kube_client import Json, KubeClient
from lab.namespace import LabError, become_root
from lab.network import Lab


@pytest.fixture(scope="session")
def crds() -> list[Json]:
    """What the shared control plane knows from its start; a layer that installs them itself overrides this."""
    return [group_crd(), node_crd()]


@pytest.fixture(scope="session")
def shared_control_plane(crds: list[Json]) -> Iterator[ControlPlane]:
    """Started by the first test that asks. Tests use ``control_plane``."""
    try:
        become_root()
    except LabError as error:
        pytest.skip(str(error))
    with contextlib.closing(ControlPlane(crds)) as plane:
        yield plane


@pytest.fixture
def control_plane(shared_control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """A real API server. What a test makes in it goes when the test ends."""
    yield shared_control_plane
    shared_control_plane.reset()


@pytest.fixture
def api(control_plane: ControlPlane) -> KubeClient:
    """The API as its administrator."""
    return control_plane.api


@pytest.fixture
def lab(control_plane: ControlPlane) -> Iterator[Lab]:
    """Hosts a, b, c and a client on one segment, with the API server at ``lab.control_plane.SERVER``."""
    with simple_lab() as network, control_plane.plugged_into(network):
        yield network
