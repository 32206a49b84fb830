"""Fixtures of the api layer."""

__all__ = ["api", "control_plane", "crds", "lab", "shared_control_plane"]

from lab.kube_fixtures import api, control_plane, crds, lab, shared_control_plane
