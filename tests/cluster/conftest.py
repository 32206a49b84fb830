"""Fixtures of the cluster layer: one real cluster for all its tests. Before each of them every node has power."""

import contextlib
from collections.abc import Iterator

import pytest

from lab.manifests import carp_group
from lab.real_cluster import VIP, RealCluster

API_ADDRESS = "10.77.0.50"
"""Of the control plane, in one of the tests. The API servers' certificate names it, and the nodes on which they run then."""


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[RealCluster]:
    """Started by the first test that asks. Tests use ``cluster`` or ``kubecarp``."""
    with contextlib.closing(RealCluster(names=[API_ADDRESS, "10.77.0.1", "10.77.0.2", "10.77.0.3"])) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: RealCluster) -> RealCluster:
    """Three nodes, all Ready; what is installed in them is as the last test left it."""
    shared_cluster.repair()
    return shared_cluster


@pytest.fixture
def kubecarp(cluster: RealCluster) -> RealCluster:
    """The chart at its defaults, and one group, intranet, that is Ready with three members.

    On the nodes as well as in the API, where a node that has just got its power back is called ready from before.
    """
    cluster.install()
    cluster.apply(carp_group("intranet", VIP))
    cluster.wait_ready("intranet", address=VIP)
    return cluster
