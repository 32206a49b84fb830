"""Keys, file, reload: what one attempt does when a part of it does not work."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carp_agent import files
from carp_agent.carpnode import CarpNode
from carp_agent.configurator import Configurator
from carp_agent.document import Settings
from carp_agent.errors import ApiError
from carp_agent.kubeapi import Connection
from unit.agent.fake_api import SECRETS, group, key_ring
from unit.agent.fake_sidecar import FakeSidecar
from unit.agent.tls_server import wait_for

KEY = "11" * 32


class Secrets(Connection):
    """An API server that has Secrets only."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.rings: dict[str, Any] = {"kubecarp-key-intranet": key_ring(key_1=KEY)}
        self.status = 404

    def request(self, method: str, path: str, body: object = None, *, media_type: str = "", accept: str = "") -> bytes:
        secret = path.removeprefix(SECRETS)
        self.asked.append(secret)
        if secret not in self.rings:
            raise ApiError(f"HTTP status {self.status}: no", status=self.status)
        return json.dumps({"data": self.rings[secret]}).encode()


class World:
    def __init__(self, folder: Path, sidecar: FakeSidecar) -> None:
        self.secrets, self.sidecar, self.path = Secrets(), sidecar, folder / "sidecar.json"
        settings = Settings("a", metrics_address="", probe_port=0)
        self.configurator = Configurator(self.secrets, "kubecarp-system", settings, str(self.path), str(sidecar.socket_path))

    @property
    def running(self) -> dict[str, Any]:
        config: dict[str, Any] = self.sidecar.daemon.document["config"]
        return config

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_bytes())
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with FakeSidecar(tmp_path) as sidecar:
        sidecar.start()
        yield World(tmp_path, sidecar)


def node(*groups: dict[str, Any], generation: int = 1, uid: str = "u") -> CarpNode:
    return CarpNode("a", uid, generation, {"groups": list(groups)}, {})


def test_the_same_again_does_nothing(world: World) -> None:
    first = world.configurator.apply(node(group()), world.running)
    assert (first.problems, first.reloaded) == ((), True)
    again = world.configurator.apply(node(group()), world.running)
    assert (again.problems, again.reloaded) == ((), False)
    assert world.sidecar.daemon.calls == [("reload",)]
    assert world.secrets.asked == ["kubecarp-key-intranet"]


def test_what_the_sidecar_missed_is_read_again(world: World) -> None:
    world.configurator.apply(node(group()), world.running)
    world.running["generation"] = 0
    assert world.configurator.apply(node(group()), world.running).reloaded
    world.running["loaded"] = "2000-01-01T00:00:00Z"
    assert world.configurator.apply(node(group()), world.running).reloaded
    world.running["loaded"] = "nonsense"
    assert world.configurator.apply(node(group()), world.running).reloaded


def test_a_folder_that_comes_later(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    configurator = Configurator(
        world.secrets, "n", Settings("a", metrics_address="", probe_port=0), str(folder / "sidecar.json"), str(world.sidecar.socket_path)
    )
    world.secrets.rings = {"/api/v1/namespaces/n/secrets/kubecarp-key-intranet": key_ring(key_1=KEY)}
    outcome = configurator.apply(node(group()), None)
    assert "cannot be written: No such file or directory; the sidecar makes its folder" in outcome.problems[0]
    folder.mkdir()
    assert configurator.apply(node(group()), None).problems == ()
    assert len(world.secrets.asked) == 1, "the keys are known already"


def test_a_secret_that_must_not_be_read(world: World) -> None:
    world.secrets.rings.clear()
    world.secrets.status = 403
    outcome = world.configurator.apply(node(group()), world.running)
    assert outcome.problems == ("Secret kubecarp-key-intranet cannot be read: HTTP status 403: no",)
    assert not world.path.exists()


def test_the_first_configuration_is_refused(world: World) -> None:
    world.sidecar.daemon.problems = ["no"]
    outcome = world.configurator.apply(node(group()), world.running)
    assert (outcome.problems, outcome.refused) == (("no",), True)
    assert not world.path.exists(), "a sidecar that starts now must not find it"
    world.sidecar.daemon.problems = []
    world.secrets.rings["kubecarp-key-intranet"] = key_ring(key_1="22" * 32)
    assert world.configurator.apply(node(group()), world.running).reloaded
    assert world.document["group"][0]["authentication"]["key"] == "22" * 32, "a refusal may have been for its key: it is asked for again"


def test_a_refused_file_that_cannot_be_put_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sidecar.daemon.problems = ["no"]

    def broken(_path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "remove", lambda path: broken(path) if path == str(world.path) else None)
    assert world.configurator.apply(node(group()), world.running).refused


def test_a_sidecar_that_does_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carp_agent.sidecar._RELOAD_S", 0.0)
    outcome = world.configurator.apply(node(group()), world.running)
    assert outcome.problems == ("the sidecar did not answer within 0 s",)
    wait_for(lambda: world.sidecar.daemon.calls, "the sidecar has heard it all the same")
    world.sidecar.stop()
    assert world.configurator.apply(node(group(advskew=1), generation=2), None).problems == ()


def test_an_object_made_anew_may_have_other_keys_of_the_same_name(world: World) -> None:
    world.configurator.apply(node(group()), world.running)
    world.secrets.rings["kubecarp-key-intranet"] = key_ring(key_1="22" * 32)
    world.configurator.apply(node(group(), uid="another"), world.running)
    assert world.document["group"][0]["authentication"]["key"] == "22" * 32


def test_keys_that_nobody_names_are_forgotten(world: World) -> None:
    world.configurator.apply(node(group()), world.running)
    world.configurator.apply(node(generation=2), world.running)
    assert world.configurator._rings == {}
    world.configurator.apply(None, world.running)
    assert world.document["generation"] == 0
