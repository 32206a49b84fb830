"""Runs the containers of a rendered pod without a kubelet: command, environment, mounts, user and capabilities as the chart says.

The programs are those of this tree. What a container runtime does is done here with unshare, mount and setpriv, which takes real root.
"""

__all__ = ["Container", "ask_probe", "can_run"]

import http.client
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from lab.kube_client import Json
from lab.namespace import LabError, Namespace

ROOT = Path(__file__).resolve().parents[2]
SOURCES = f"{ROOT / 'operator'}:{ROOT / 'sidecar'}"
STOP_MARGIN_S = 20
PROBE_S = 5
_SCRIPT = """
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
while [ "$1" != -- ]; do mkdir -p "$2" && mount --bind "$1" "$2"; shift 2; done
shift
mount -o remount,bind,ro /
exec "$@"
"""


def can_run() -> str:
    """Why no container can be run here; empty if one can."""
    whole = Path("/proc/self/uid_map").read_text().split()[2] == "4294967295"
    return "" if whole else "containers of several users need root, not a user namespace with root alone"


class Container:
    """One container of a pod, on a host. ``folders``: what each of the pod's volumes is; ``fields``: what its fieldRefs say."""

    def __init__(self, pod: Json, name: str, host: Namespace, folders: Mapping[str, Path], fields: Mapping[str, str]) -> None:
        self.spec: Json = next(one for one in pod["containers"] if one["name"] == name)
        self.log_path = next(iter(folders.values())).parent / f"{name}.log"
        self._pod = pod
        self._host = host
        self._folders = folders
        self._fields = fields
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> "Container":
        """Start it. Raises LabError where its user could not read the programs."""
        if closed := next((folder for folder in (ROOT, *ROOT.parents) if not folder.stat().st_mode & 0o001), None):
            raise LabError(f"{closed}: other users may not enter it, as those of the chart's containers are; put the checkout elsewhere")
        mounts = [part for mount in self.spec.get("volumeMounts", []) for part in (str(self._folders[mount["name"]]), mount["mountPath"])]
        argv = ["unshare", "--mount", "sh", "-ec", _SCRIPT, "sh", *mounts, "--", *self._user(), *self._command()]
        environment = {"PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"} | self._environment()
        self._process = self._host.start(argv, self.log_path, environment)
        return self

    def _environment(self) -> dict[str, str]:
        found = {}
        for one in self.spec.get("env", []):
            found[one["name"]] = one["value"] if "value" in one else self._fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
        return found

    def _command(self) -> list[str]:
        environment = self._environment()
        words = [re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], word) for word in [*self.spec["command"], *self.spec["args"]]]
        return [sys.executable, "-m", words[0].replace("-", "_"), *words[1:]]

    def _user(self) -> list[str]:
        security = self.spec["securityContext"]
        added = [f"+{name.lower()}" for name in security["capabilities"].get("add", [])]
        groups = self._pod["securityContext"].get("supplementalGroups", [])
        return [
            "setpriv",
            f"--reuid={security['runAsUser']}",
            f"--regid={security['runAsGroup']}",
            f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups",
            f"--bounding-set={','.join(['-all', *added])}",
            "--inh-caps=-all",
            "--no-new-privs",
            "--pdeathsig=KILL",  # again: a change of the user takes it back
        ]

    @property
    def process(self) -> "subprocess.Popen[str]":
        assert self._process is not None
        return self._process

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self) -> float:
        """As a kubelet stops it: SIGTERM, and SIGKILL when its time is up. How many seconds of that time were left."""
        grace_s = self._pod.get("terminationGracePeriodSeconds", 30)
        started = time.monotonic()
        self.process.terminate()
        self.process.wait(grace_s + STOP_MARGIN_S)
        return float(grace_s - (time.monotonic() - started))

    def probe(self, kind: str) -> tuple[int, str]:
        """Ask one of its probes, on its host; status and text, or 0 while nobody answers."""
        get = self.spec[kind]["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in self.spec["ports"]}
        return ask_probe(self._host, get.get("host", "127.0.0.1"), ports[get["port"]], get["path"])


def ask_probe(host: Namespace, address: str, port: int, path: str) -> tuple[int, str]:
    """An HTTP GET inside a namespace."""
    plain = host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    connection = http.client.HTTPConnection(address, port)
    try:
        plain.settimeout(PROBE_S)
        plain.connect((address, port))
        connection.sock = plain
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()
        plain.close()
