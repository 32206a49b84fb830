"""Disks that hang: no election waits for one, on no host."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.disks import Disk, disk, hung_folder
from lab.namespace import LabError
from lab.network import Lab
from lab.sidecar import Sidecar, group, stays, wait_master

pytestmark = pytest.mark.needs("netns")


@contextmanager
def file_server_that_is_gone(path: Path) -> Iterator[None]:
    try:
        with hung_folder(path):
            yield
    except OSError as error:
        pytest.skip(f"needs FUSE: {error}")


@pytest.fixture
def state_disk(lab: Lab) -> Iterator[Disk]:
    try:
        with disk(lab.directory / "disk") as made:
            yield made
    except OSError as error:
        pytest.skip(f"needs a loop device: {error}")


def test_a_check_on_a_file_server_that_is_gone_fails_and_holds_no_election_up(lab: Lab) -> None:
    """Every host that has the check would fall silent at once: where the program cannot even be started, nobody else may wait for it."""
    path = lab.directory / "share"
    check = {"name": "share", "exec": {"command": [str(path / "check")]}, "period": "1s", "timeout": "500ms", "demotion": 64}
    with file_server_that_is_gone(path):
        first = Sidecar(lab, lab["a"], [group(health_checks=[check])]).start()
        second = Sidecar(lab, lab["b"], [group(advskew=50)]).start()
        wait_master(second, first)
        stays([first, second], ["BACKUP", "MASTER"], 2.0)
        assert first.group()["health_checks"][0]["message"] == "killed after 0.5 s"
        second.stop()
        first.wait_state("MASTER")  # the worst of members, but the only one
        stays([first], ["MASTER"], 2.0)
        assert "stalled" not in first.group()["transitions_by_reason"]


def test_a_disk_that_hangs_holds_no_election_up(lab: Lab, state_disk: Disk) -> None:
    first = Sidecar(lab, lab["a"], [group()], state_dir=str(state_disk.path / "state")).start()
    first.wait_state("MASTER")
    second = Sidecar(lab, lab["b"], [group(advskew=50)]).start()
    second.wait_state("BACKUP")
    state_disk.hang()
    with pytest.raises(LabError, match=r"this is in force, but a restart may forget it: the disk of .* look whether it hangs"):
        first.request("demote", group="web")
    wait_master(second, first)
    second.stop()
    first.wait_state("MASTER")
    stays([first], ["MASTER"], 2.0)
    assert "stalled" not in first.group()["transitions_by_reason"]
    state_disk.come_back()
    first.request("undemote", group="web")
    assert first.stop() == 0
