"""Helm as the tests use it: rendering without a cluster, and installing into the real API server. Knows nothing of what the chart holds."""

__all__ = ["CHART", "NAMESPACE", "RELEASE", "Helm", "HelmError", "find_object", "one_of"]

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from lab.control_plane import ControlPlane
from lab.kube_client import Json
from lab.programs import find

CHART = Path(__file__).resolve().parents[2] / "charts" / "kubecarp"
RELEASE, NAMESPACE = "kubecarp", "kubecarp-system"
LIMIT_S = 90
"""Rendering takes 0.2 s, an installation 2 s; a busy machine takes longer."""


class HelmError(Exception):
    """Helm refused; the message is what it said."""


class Helm:
    """One Helm; ``program`` is helm3 or helm4. With a control plane it talks to that one's API server, as its administrator."""

    def __init__(self, program: str, home: Path, plane: ControlPlane | None = None) -> None:
        self.name = program
        self._path = find(program)
        self._home = home
        self._plane = plane

    def run(self, *words: str, values: Json | None = None) -> str:
        """What it printed on standard output; HelmError when it fails."""
        environment = {"HOME": str(self._home), "PATH": "/usr/bin:/bin"}
        command: Sequence[str] = [str(self._path), *words]
        if values is not None:
            command = [*command, "--values", "-"]
        if self._plane is not None:
            environment["KUBECONFIG"] = str(self._plane._local_admin)
            command = self._plane.namespace.command(["env", *(f"{name}={value}" for name, value in environment.items()), *command])
        done = subprocess.run(
            command, input=json.dumps(values or {}), env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        if done.returncode:
            raise HelmError(done.stderr + done.stdout)
        return done.stdout

    def render(self, values: Json | None = None, *words: str, release: str = RELEASE, namespace: str = NAMESPACE) -> list[Json]:
        """Every object of the chart, hooks too."""
        text = self.run("template", release, str(CHART), "--namespace", namespace, *words, values=values or {})
        return [thing for thing in yaml.load_all(text, yaml.CSafeLoader) if thing]


def find_object(objects: Iterable[Json], kind: str, name: str = "") -> Json | None:
    """The object of a kind, and of a name if that is given."""
    return next((one for one in objects if one["kind"] == kind and name in ("", one["metadata"]["name"])), None)


def one_of(objects: Iterable[Json], kind: str, name: str = "") -> Any:
    """The same, when it must be there."""
    found = find_object(objects, kind, name)
    assert found is not None, f"there is no {kind} {name}"
    return found
