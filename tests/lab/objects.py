"""Kubernetes objects that tests need, as they are sent: namespaces, Nodes without a kubelet, Pods that never run. Sends nothing itself."""

__all__ = ["namespace", "node", "pod", "ready_condition", "secret", "service_account"]

from collections.abc import Mapping
from typing import Any

from lab.kube_client import Json

HEARTBEAT = "2026-01-01T00:00:00Z"
"""Nobody judges a heartbeat here."""


def namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def service_account(name: str, namespace: str) -> Json:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def node(name: str, *addresses: str, ready: bool = True, labels: Mapping[str, str] | None = None) -> Json:
    """A Node as its kubelet registers it."""
    own = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": own | dict(labels or {})},
        "status": {
            "addresses": [*({"type": "InternalIP", "address": one} for one in addresses), {"type": "Hostname", "address": name}],
            "conditions": [ready_condition(ready)],
        },
    }


def ready_condition(ready: bool | None) -> Json:
    """What a kubelet says of itself, or (None) what the node controller says of a silent one."""
    status, reason = {True: ("True", "KubeletReady"), False: ("False", "KubeletNotReady"), None: ("Unknown", "NodeStatusUnknown")}[ready]
    message = {"True": "kubelet is posting ready status", "False": "runtime is down", "Unknown": "Kubelet stopped posting node status."}
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message[status],
        "lastHeartbeatTime": HEARTBEAT,
        "lastTransitionTime": HEARTBEAT,
    }


def pod(name: str, namespace: str, node: str = "", service_account: str = "default", **spec: Any) -> Json:
    """A Pod, bound to ``node`` from the start if one is named."""
    defaults: Json = {"serviceAccountName": service_account, "containers": [{"name": "main", "image": "none"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": defaults | ({"nodeName": node} if node else {}) | spec,
    }


def secret(name: str, namespace: str, entries: Mapping[str, str]) -> Json:
    """A Secret as a user makes it."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": dict(entries)}
