"""The examples are ready to run: their configurations load, and units, containers and defaults agree with each other."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from carp_protocol.config import DEFAULT_CONTROL_SOCKET, DEFAULT_STATE_DIR, GroupConfig, SidecarConfig
from carp_sidecar import __version__
from carp_sidecar.source import DEFAULT_PATH, load
from lab.sidecar import MALLOC

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CONFIGURATIONS = sorted(EXAMPLES.rglob("*.toml"))
CAPABILITIES = {"NET_ADMIN", "NET_RAW"}


def with_key(example: Path, folder: Path) -> Path:
    """The example, unchanged but for the place of its key, beside a key that only its owner can read."""
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_text("42" * 32 + "\n")
    text = example.read_text()
    assert "/etc/kubecarp/key" in text
    copy = folder / example.name
    copy.write_text(text.replace("/etc/kubecarp/key", str(key)))
    return copy


def unit() -> dict[str, list[str]]:
    """The settings of the systemd unit: every value that each key has."""
    settings: dict[str, list[str]] = {}
    for line in (EXAMPLES / "systemd" / "carp-sidecar.service").read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, separator, value = line.partition("=")
            assert separator, line
            settings.setdefault(key, []).append(value)
    return settings


def service() -> dict[str, Any]:
    """The one service of the compose file."""
    services = yaml.safe_load((EXAMPLES / "docker" / "compose.yaml").read_text())["services"]
    assert list(services) == ["kubecarp"]
    found: dict[str, Any] = services["kubecarp"]
    return found


def routers(folder: Path) -> tuple[SidecarConfig, SidecarConfig]:
    """Both routers of the sample."""
    first, second = (load(str(with_key(EXAMPLES / "routers" / f"router-00{number}.toml", folder))) for number in (2, 3))
    return first, second


def test_there_are_configurations() -> None:
    assert [path.name for path in CONFIGURATIONS] == ["sidecar.toml", "router-002.toml", "router-003.toml"]


@pytest.mark.parametrize("example", CONFIGURATIONS, ids=lambda path: path.name)
def test_check_finds_nothing_wrong(example: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "sidecar")}
    command = [sys.executable, "-m", "carp_sidecar", "check", str(with_key(example, tmp_path))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_gives_the_heap_the_settings_of_the_image() -> None:
    """And of the lab, where every figure is measured."""
    (environment,) = unit()["Environment"]
    assert set(environment.split()) == {f"{name}={value}" for name, value in MALLOC.items()}


def test_each_router_is_best_for_one_network(tmp_path: Path) -> None:
    first, second = routers(tmp_path)
    assert [group.advskew for group in first.groups] == [0, 100]
    assert [group.advskew for group in second.groups] == [100, 0]


def test_routers_agree_on_everything_else(tmp_path: Path) -> None:
    def shared(group: GroupConfig) -> tuple[object, ...]:
        return (group.name, group.vhid, group.interface, group.addresses, group.advertisement_interval_s, group.authentication)

    first, second = routers(tmp_path)
    assert [shared(group) for group in first.groups] == [shared(group) for group in second.groups]
    assert [(group.vhid, group.interface, str(group.addresses[0])) for group in first.groups] == [
        (1, "vmx0", "172.27.27.13/27"),
        (2, "vmx1", "51.68.252.230/32"),
    ]


def test_routers_take_their_network_back(tmp_path: Path) -> None:
    assert all(group.preemption.enabled for config in routers(tmp_path) for group in config.groups)


def test_unit_makes_the_default_folders() -> None:
    settings = unit()
    assert f"/run/{settings['RuntimeDirectory'][0]}" == str(Path(DEFAULT_CONTROL_SOCKET).parent)
    assert f"/var/lib/{settings['StateDirectory'][0]}" == DEFAULT_STATE_DIR
    assert f"/etc/{settings['ConfigurationDirectory'][0]}" == str(Path(DEFAULT_PATH).parent)


def test_unit_keeps_two_capabilities_and_no_limit_of_the_processor() -> None:
    settings = unit()
    assert set(settings["CapabilityBoundingSet"][0].split()) == {f"CAP_{name}" for name in CAPABILITIES}
    assert not {key for key in settings if key.startswith(("CPUQuota", "CPUAffinity", "AllowedCPUs"))}


def test_unit_filters_the_system_calls_of_the_profile() -> None:
    profile = json.loads((ROOT / "charts/kubecarp/files/seccomp-sidecar.json").read_text())
    names = [name for rule in profile["syscalls"] for name in rule["names"]]
    assert {name for line in unit()["SystemCallFilter"] for name in line.split()} == set(names)
    assert unit()["SystemCallErrorNumber"] == [errno.errorcode[profile["defaultErrnoRet"]]]
    families = {f"AF_{name}" for name in unit()["RestrictAddressFamilies"][0].replace("AF_", "").split()}
    assert {rule["comment"] for rule in profile["syscalls"] if rule["names"] == ["socket"]} == families
    for rule in profile["syscalls"]:
        if rule["names"] == ["socket"]:
            assert rule["args"][0]["value"] == getattr(socket, rule["comment"])


def test_unit_stops_with_time_for_a_handover() -> None:
    settings = unit()
    assert settings["KillMode"] == ["mixed"]
    assert settings["Restart"] == ["always"]
    assert settings["ExecStart"] == ["/opt/kubecarp/bin/carp-sidecar run"]
    assert "TimeoutStopSec" in settings


def test_container_keeps_two_capabilities_and_no_limit_of_the_processor() -> None:
    settings = service()
    assert settings["cap_drop"] == ["ALL"]
    assert set(settings["cap_add"]) == CAPABILITIES
    assert settings["network_mode"] == "host"
    assert settings["read_only"] is True
    assert not {key for key in settings if key.startswith("cpu") or key == "deploy"}


def test_container_has_the_default_folders() -> None:
    settings = service()
    mounted = {volume.split(":")[1] for volume in settings["volumes"]} | set(settings["tmpfs"])
    assert {str(Path(DEFAULT_PATH).parent), DEFAULT_STATE_DIR, str(Path(DEFAULT_CONTROL_SOCKET).parent)} <= mounted


def test_image_has_the_version_of_the_program() -> None:
    assert service()["image"] == f"kubecarp:{__version__}"


def test_image_starts_the_sidecar_without_a_shell() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^(?:ENTRYPOINT|CMD) .*$", dockerfile, re.MULTILINE) == ['ENTRYPOINT ["carp-sidecar"]', 'CMD ["run"]']
