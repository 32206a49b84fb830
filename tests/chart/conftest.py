"""Fixtures of the chart layer: each Helm, alone or beside a real API server that knows no CRD of ours until the chart brings it."""

__all__ = ["api", "control_plane", "shared_control_plane"]

from pathlib import Path

import pytest

from chart.helm import Helm
from lab.control_plane import ControlPlane
from lab.kube_client import Json
from lab.kube_fixtures import api, control_plane, shared_control_plane

HELMS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("helm3", "helm4")]


@pytest.fixture(scope="session")
def crds() -> list[Json]:
    """None: the chart installs them."""
    return []


@pytest.fixture(params=HELMS)
def helm(request: pytest.FixtureRequest, tmp_path: Path) -> Helm:
    """Each Helm, without a cluster."""
    return Helm(request.param, tmp_path)


@pytest.fixture(params=HELMS)
def cluster_helm(request: pytest.FixtureRequest, tmp_path: Path, control_plane: ControlPlane) -> Helm:
    """Each Helm, before an empty cluster."""
    return Helm(request.param, tmp_path, control_plane)
