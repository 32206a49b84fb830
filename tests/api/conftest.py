"""Fixtures of the api layer."""

__all__ = ["agents", "another", "api", "control_plane", "crds", "lab", "operator", "shared_control_plane"]

import itertools
from collections.abc import Callable, Iterator

import pytest

from lab.control_plane import ControlPlane
from lab.groups import CARP_NODE, INTERFACES, NODES
from lab.kube_fixtures import api, control_plane, crds, lab, shared_control_plane
from lab.operator_process import NAMESPACE, Operator
from lab.stub_agents import StubAgents

PORTS = itertools.count(9200)


@pytest.fixture(scope="module")
def operator(shared_control_plane: ControlPlane) -> Iterator[Operator]:
    """One operator for all tests of a file: the world changes under it."""
    shared_control_plane.add_namespace(NAMESPACE)
    process = Operator(shared_control_plane, shared_control_plane._local_admin, shared_control_plane.directory).start()
    yield process
    if process.running:
        assert process.stop() == 0
    assert "Traceback" not in process.log()


@pytest.fixture
def another(control_plane: ControlPlane) -> Iterator[Callable[[], Operator]]:
    """Makes further operators; what still runs at the end is killed."""
    made: list[Operator] = []

    def make() -> Operator:
        made.append(Operator(control_plane, control_plane._local_admin, control_plane.directory, port=next(PORTS)))
        return made[-1]

    yield make
    for one in made:
        if one.running:
            one.kill()


@pytest.fixture
def agents(operator: Operator, control_plane: ControlPlane) -> Iterator[StubAgents]:
    """Three nodes whose agents have reported."""
    if not operator.running:  # a test has killed it and failed
        operator.start()
    with StubAgents(control_plane, INTERFACES) as stubs:
        for number, name in enumerate(NODES, 1):
            control_plane.add_node(name, f"10.77.0.{number}", f"fd77::{number}", labels={"zone": name})
        for name in NODES:
            control_plane.api.wait(CARP_NODE, name, lambda node: node["status"]["interfaces"], "has reported")
        yield stubs
