"""The machines of the laboratory: a power cut ends everything but the disk, and nothing of them is left on ours."""

import subprocess
from pathlib import Path

import pytest

from lab.machine import Machine
from lab.namespace import wait_until
from lab.network import Lab

pytestmark = pytest.mark.needs("machines")

CGROUPS = "mount -t cgroup2 none /sys/fs/cgroup; ls /sys/fs/cgroup/kubecarp-lab 2>/dev/null | grep -x {pid}"


def cgroup_of(pid: int) -> str:
    """The folder of a machine among the cgroups of this one."""
    argv = ["unshare", "--mount", "sh", "-c", CGROUPS.format(pid=pid)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout.strip()


def everywhere() -> str:
    """Every process of this machine, which are all the processes there are."""
    return subprocess.run(["ps", "-e", "-o", "args"], capture_output=True, text=True, timeout=20, check=True).stdout


def test_a_power_cut_ends_everything_but_the_disk(tmp_path: Path) -> None:
    def make(name: str) -> Machine:
        return Machine(name, tmp_path / name)

    with Lab() as lab:
        host = lab.host("m", make)
        lab.plug_in(host, lab.segment("lan"), "eth0", "10.77.0.1/24")
        host.namespace.run("sh", "-c", "echo kept > /var/lib/kept; echo lost > /run/lost; mkdir /sys/fs/cgroup/pod")
        host.namespace.run("sh", "-c", "setsid sleep 12345 > /dev/null 2>&1 &")
        before, pid = host.namespace.run("ps", "-e", "-o", "args"), host.namespace.pid
        assert "sleep 12345" in before
        assert cgroup_of(pid) == str(pid)
        lab.kill(host)
        assert cgroup_of(pid) == ""
        lab.replace(host, make)
        wait_until(lambda: "sleep 12345" not in everywhere(), 5, "it is dead")
        assert host.namespace.run("cat", "/var/lib/kept") == "kept\n"
        assert host.namespace.run("ls", "/run") == ""
        assert not Path("/var/lib/kept").exists()
        assert [link["ifname"] for link in host.namespace.ip_json("link")] == ["lo", "eth0"]
