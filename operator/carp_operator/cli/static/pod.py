"""The manifest of a static pod with a sidecar, for nodes without a cluster: the node pod of the chart without agent and token. Pure."""

__all__ = ["PodSettings", "static_pod"]

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What differs from installation to installation; paths are the same on the node and in the container."""

    image: str
    config_path: str
    key_paths: tuple[str, ...]
    state_dir: str
    metrics_address: str


def static_pod(settings: PodSettings) -> Json:
    """A Pod for /etc/kubernetes/manifests."""
    folders = sorted({path.rpartition("/")[0] or "/" for path in (settings.config_path, *settings.key_paths)})
    configuration = [{"name": f"config-{number}" if number else "config", "path": folder} for number, folder in enumerate(folders)]
    volumes: list[Json] = [{"name": one["name"], "hostPath": {"path": one["path"], "type": "Directory"}} for one in configuration]
    volumes += [
        {"name": "state", "hostPath": {"path": settings.state_dir, "type": "DirectoryOrCreate"}},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    mounts: list[Json] = [{"name": one["name"], "mountPath": one["path"], "readOnly": True} for one in configuration]
    mounts += [{"name": "state", "mountPath": settings.state_dir}, {"name": "run", "mountPath": "/run/kubecarp"}]
    container: Json = {
        "name": "sidecar",
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["carp-sidecar", "run"],
        "args": [f"--config={settings.config_path}"],
        "resources": {"requests": {"cpu": "25m", "memory": "40Mi"}},
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": mounts,
    }
    if probe := _liveness(settings.metrics_address):
        container["livenessProbe"] = probe
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kubecarp", "namespace": "kube-system", "labels": {"app.kubernetes.io/name": "kubecarp"}},
        "spec": {
            "hostNetwork": True,
            "shareProcessNamespace": True,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "priorityClassName": "system-node-critical",
            "terminationGracePeriodSeconds": 30,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": volumes,
        },
    }


def _liveness(metrics_address: str) -> Json | None:
    """Only a minute of silence says that the process hangs; a restart costs a handover."""
    host, _, port = metrics_address.rpartition(":")
    if not port.isdigit():
        return None
    asked = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    get = {"host": asked, "port": int(port), "path": "/healthz"}
    return {"httpGet": get, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6}
