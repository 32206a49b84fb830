"""Sidecars as their pods run them: uid 0 with two capabilities and the default paths, one fed by an agent of another user, one static."""

__all__ = ["AGENT", "CONFIG", "FedSidecar", "StaticPod", "document"]

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lab.network import Host, Lab
from lab.sidecar import ENVIRONMENT, KEY, PROGRAM, Sidecar

AGENT = 65532
"""User and group of the agent."""
CONFIG = "/var/lib/kubecarp/agent/sidecar.json"
_MOUNTS = """
mount -t tmpfs none /var/lib && mkdir /var/lib/kubecarp && mount --bind "$1" /var/lib/kubecarp
mount -t tmpfs none /run && mkdir /run/kubecarp && mount --bind "$2" /run/kubecarp
shift 2; exec "$@"
"""
_STATIC_MOUNTS = """
for folder in /etc /var/lib /run; do mount -t tmpfs none $folder; done
while [ "$1" != -- ]; do mkdir -p "$2" && mount --bind "$1" "$2" && mount -o "remount,bind,$3" "$2"; shift 3; done
shift; exec "$@"
"""
_CAPABILITIES = "-all,+net_admin,+net_raw"
_AGENT = """
import json, os, socket, sys
user, config, writes, document, request = json.loads(sys.argv[1])
os.setgroups([]), os.setgid(user), os.setuid(user), os.umask(0o137)
if writes:
    with open(config + ".new", "w") as file:
        file.write(document)
    os.replace(config + ".new", config)
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(20)
    client.connect("/run/kubecarp/control.sock")
    client.sendall(json.dumps(request).encode() + b"\\n")
    print(client.makefile().readline())
"""


def document(*groups: dict[str, Any], **settings: Any) -> str:
    """What an agent writes: keys in the file itself."""
    keyed = [{"authentication": {"mode": "Strict", "key": KEY}} | one for one in groups]
    return json.dumps({"node": "node-a", "log_format": "json", "group": keyed} | settings)


class FedSidecar(Sidecar):
    """``carp-sidecar run --agent-group``, with the folders of a node in the lab's directory; ``groups`` of the process can be others."""

    def __init__(self, lab: Lab, host: Host, *, groups: Sequence[int] = (AGENT,)) -> None:
        super().__init__(lab, host, [])
        self.state_dir, run = self.directory / "lib", self.directory / "run"
        self.state_dir.mkdir(mode=0o755)
        run.mkdir(mode=0o777)
        run.chmod(0o777)  # an emptyDir
        self.socket_path = run / "control.sock"
        self.agent_folder = self.state_dir / "agent"
        self._under = ["unshare", "--mount", "sh", "-ec", _MOUNTS, "sh", str(self.state_dir), str(run)]
        self._under += ["setpriv", "--no-new-privs", "--bounding-set", _CAPABILITIES, "--inh-caps", "-all"]
        self._under += ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]

    def start(self, wait: bool = True, under: Sequence[str] = ()) -> "FedSidecar":
        """Start it, with ``--agent-group``."""
        argv = [*self._under, *under, *PROGRAM, "run", "--config", CONFIG, "--agent-group", str(AGENT)]
        self._process = self.host.namespace.start(argv, self.log_path, ENVIRONMENT)
        if wait:
            self.wait_ready()
        return self

    def agent(self, request: str, text: str | None = None, *, user: int = AGENT) -> Any:
        """What an agent does: replace the file if ``text`` is given, then ask. Gives the whole answer; LabError if it may not."""
        what = json.dumps([user, CONFIG, text is not None, text, {"command": request}])
        inside = ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--", sys.executable, "-IS", "-c", _AGENT, what]
        return json.loads(self.host.namespace.run(*inside))

    def capabilities(self) -> int:
        """The effective capabilities of the process, as bits."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))


class StaticPod(Sidecar):
    """What ``kubectl carp render --static-pod`` wrote for one node into ``files``, as its kubelet runs it."""

    def __init__(self, lab: Lab, host: Host, files: Path) -> None:
        super().__init__(lab, host, [], name=f"static-{host.name}")
        spec = yaml.safe_load((files / "kubecarp.yaml").read_text())["spec"]
        (container,) = spec["containers"]
        assert container["command"] == ["carp-sidecar", "run"]
        self._args = container["args"]
        places = {volume["name"]: volume.get("hostPath", {}).get("path", volume["name"]) for volume in spec["volumes"]}
        self._under = ["unshare", "--mount", "sh", "-ec", _STATIC_MOUNTS, "sh"]
        for mount in container["volumeMounts"]:
            folder = self.directory / places[mount["name"]].lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            self._under += [str(folder), mount["mountPath"], "ro" if mount.get("readOnly") else "rw"]
        self.socket_path = self.directory / "run" / "control.sock"
        self.state_dir = self.directory / "var/lib/kubecarp-static"
        shutil.copy(files / "sidecar.toml", self.directory / "etc/kubecarp")
        shutil.copy(self.key_file, self.directory / "etc/kubecarp")
        self._under += ["--", "setpriv", "--no-new-privs", "--bounding-set", _CAPABILITIES, "--inh-caps", "-all", "--clear-groups"]

    def start(self, wait: bool = True, under: Sequence[str] = ()) -> "StaticPod":
        """Start its container."""
        self._process = self.host.namespace.start([*self._under, *under, *PROGRAM, "run", *self._args], self.log_path, ENVIRONMENT)
        if wait:
            self.wait_ready()
        return self
