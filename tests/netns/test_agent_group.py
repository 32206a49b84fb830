"""Fed by an agent: a sidecar without a file, without any capability but its two, and the permissions of what both share."""

import json
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.namespace import LabError, wait_until
from lab.network import Lab
from lab.pod import AGENT, CONFIG, FedSidecar, document
from lab.sidecar import VIP4, group

pytestmark = pytest.mark.needs("netns")

NET_ADMIN, NET_RAW = 1 << 12, 1 << 13
STRANGER = 65533


def shown(path: Path) -> tuple[int, int, int]:
    """Owner, group and permissions."""
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


@contextmanager
def watching(member: FedSidecar) -> Iterator[Iterator[dict[str, Any]]]:
    """The changes that a watcher is told."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(member.socket_path))
        client.sendall(b'{"command":"watch"}\n')
        with client.makefile("rb") as lines:
            assert json.loads(lines.readline())["ok"]
            yield map(json.loads, lines)


@pytest.mark.usefixtures("real_root")
def test_an_agent_feeds_a_sidecar_that_has_two_capabilities(lab: Lab) -> None:
    member = FedSidecar(lab, lab["a"]).start()
    assert member.capabilities() == NET_ADMIN | NET_RAW
    assert shown(member.agent_folder) == (0, AGENT, 0o2770)
    assert shown(member.socket_path) == (0, AGENT, 0o660)
    assert shown(member.socket_path.parent) == (0, AGENT, 0o750)
    status = member.status()
    assert (status["groups"], status["config"]["generation"]) == ([], 0)
    refused = member.agent("reload")
    assert refused["problems"] == [f"{CONFIG}: cannot be read: No such file or directory; give the right path, or create it"]
    assert member.running
    assert member.agent("reload", document(group(), generation=7))["ok"]
    member.wait_state("MASTER")
    assert shown(member.agent_folder / "sidecar.json") == (AGENT, AGENT, 0o640)
    assert lab["a"].held_addresses() == [VIP4]
    assert member.status()["config"] | {"generation": 7, "problems": []} == member.status()["config"]
    assert member.stop() == 0
    member.start().wait_state("MASTER")


@pytest.mark.usefixtures("real_root")
def test_a_file_that_is_gone_or_wrong_changes_nothing(lab: Lab) -> None:
    member = FedSidecar(lab, lab["a"]).start()
    assert member.agent("reload", document(group()))["ok"]
    member.wait_state("MASTER")
    (member.agent_folder / "sidecar.json").unlink()
    assert "No such file" in member.agent("reload")["problems"][0]
    assert "not valid JSON" in member.agent("reload", '{"group": [')["problems"][0]
    assert member.state == "MASTER"
    member.kill()
    member.start()
    assert "not valid JSON" in member.status()["config"]["problems"][0], "it starts all the same: the agent mends the file"
    assert member.agent("reload", document(group()))["ok"]
    member.wait_state("MASTER")


@pytest.mark.usefixtures("real_root")
def test_a_stranger_gets_neither_keys_nor_control(lab: Lab) -> None:
    member = FedSidecar(lab, lab["a"]).start()
    for text in (None, document(group())):
        with pytest.raises(LabError, match="PermissionError"):
            member.agent("reload", text, user=STRANGER)
    assert member.agent("reload", document(group()))["ok"]
    file = member.agent_folder / "sidecar.json"
    file.chmod(0o644)
    assert member.agent("reload")["problems"] == [f"{CONFIG}: holds keys and can be read by everybody (mode 0644); run: chmod o= {CONFIG}"]


@pytest.mark.usefixtures("real_root")
def test_a_group_the_process_is_not_in_is_a_sentence(lab: Lab) -> None:
    member = FedSidecar(lab, lab["a"], groups=[])
    member.start(wait=False)
    assert member.reap() == 2
    assert f"/var/lib/kubecarp/agent cannot be given to group {AGENT}: Operation not permitted; add it to the groups" in member.log()


@pytest.mark.usefixtures("real_root")
def test_a_folder_of_others_is_not_changed(lab: Lab) -> None:
    member = FedSidecar(lab, lab["a"])
    member.agent_folder.mkdir(mode=0o755)
    (member.agent_folder / "precious").touch()
    member.start(wait=False)
    assert member.reap() == 2
    assert f"run: chgrp {AGENT} /var/lib/kubecarp/agent && chmod 2770 /var/lib/kubecarp/agent" in member.log()
    assert shown(member.agent_folder) == (0, 0, 0o755)
    (member.agent_folder / "precious").unlink()
    member.start()
    assert shown(member.agent_folder) == (0, AGENT, 0o2770), "an empty one is adopted"


@pytest.mark.usefixtures("real_root")
def test_a_watcher_learns_of_interfaces_once_a_second(lab: Lab) -> None:
    member = FedSidecar(lab, lab["a"]).start()
    lan = {"name": "eth0", "state": "up", "addresses": ["10.77.0.1/24", "fd77::1/64"]}
    assert member.status()["interfaces"] == [lan]
    with watching(member) as changes:
        pods = (f"link add pod{number} type bridge\naddr add 10.9.{number}.1/24 dev pod{number}" for number in range(20))
        began = time.monotonic()
        lab["a"].namespace.ip(*pods)
        told = [next(changes)]
        while len(told[-1]["interfaces"]) < 21:  # a machine that is busy takes longer than a second for a burst
            told.append(next(changes))
        assert len(told) <= time.monotonic() - began, "one event for a burst"
        assert {event["event"] for event in told} == {"interfaces"}
        assert told[-1]["interfaces"][0] == lan
        assert told[-1]["interfaces"][1] == {"name": "pod0", "state": "down", "addresses": ["10.9.0.1/24"]}
        lab["a"].namespace.ip("link add pod20 type bridge", "link set pod20 up")
        lab["a"].namespace.ip(*(f"addr del 10.9.{number}.1/24 dev pod{number}" for number in range(20)))
        while (shown := next(changes)["interfaces"]) != [lan]:
            assert all(one["name"] != "pod20" for one in shown), "what has no address is not told"
    wait_until(lambda: member.status()["interfaces"] == [lan], 2, "the status agrees")
