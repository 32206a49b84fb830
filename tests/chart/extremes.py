"""Values at both ends: every switch on, every switch off, every list and map filled. What the tests render beside the defaults."""

__all__ = ["ALL_OFF", "ALL_ON", "EXTREMES", "SERVICE_MONITORS"]

from typing import Any

ALERTS = (
    "noMaster", "multipleMasters", "addressConflict", "flapping", "memberDown", "authenticationFailed", "loopLag", "operatorDown",
)  # fmt: skip
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}]}]
        }
    }
}
RESOURCES = {"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}
PODS: dict[str, Any] = {
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "network", "effect": "NoSchedule"}],
    "affinity": AFFINITY,
    "podAnnotations": {"example.com/note": "yes: {it} 'is' \"quoted\""},
    "podLabels": {"example.com/team": "network"},
}

ALL_ON: dict[str, Any] = {
    "fullnameOverride": "virtual-addresses",
    "nameOverride": "vip",
    "commonLabels": {"example.com/cost-centre": "42", "release": "common"},
    "image": {
        "repository": "registry.example.com:5000/net/kubecarp",
        "tag": "9.9",
        "digest": f"sha256:{'0a' * 32}",
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "pull-a"}, {"name": "pull-b"}],
    "apiServer": {"host": "api.example.com", "port": 7443},
    "operator": {
        **PODS,
        "resources": RESOURCES,
        "replicas": 3,
        "vhidRange": "100-199",
        "logLevel": "debug",
        "logFormat": "text",
        "metricsPort": 19122,
        "hostNetwork": True,
        "priorityClassName": "",
    },
    "node": {
        **PODS,
        "terminationGracePeriodSeconds": 120,
        "updateStrategy": {"type": "OnDelete", "rollingUpdate": None},
        "priorityClassName": "",
        "hostPath": "/srv/kubecarp",
        "metricsHost": "::",
        "seLinuxOptions": {"type": "spc_t"},
        "sidecar": {
            "metricsPort": 19120,
            "probePort": 19112,
            "seccompProfile": {"type": "Localhost", "localhostProfile": "kubecarp/sidecar.json"},
            "resources": RESOURCES,
        },
        "agent": {"metricsPort": 19121, "logLevel": "debug", "resources": RESOURCES},
    },
    "serviceAccounts": {"operator": "the-operator", "node": "the-agents"},
    "networkPolicy": {
        "enabled": True,
        "apiServerPorts": [443],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
    },
    "prometheus": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s"},
        "prometheusRule": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "alerts": {name: {"labels": {"severity": "page", "team": "network"}} for name in ALERTS},
        },
    },
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}, "data": {"a": "{{ not a template }}"}}],
}

SERVICE_MONITORS: dict[str, Any] = {
    "operator": {"leaderElection": False, "replicas": 1},
    "apiServer": {"host": "192.0.2.250"},
    "networkPolicy": {"enabled": True},
    "prometheus": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "alerts": {name: {"enabled": name == "noMaster"} for name in ALERTS}},
    },
}

ALL_OFF: dict[str, Any] = {
    "operator": {"replicas": 0, "leaderElection": False, "nodeSelector": None, "resources": None, "priorityClassName": ""},
    "node": {
        "nodeSelector": None,
        "tolerations": [],
        "priorityClassName": "",
        "sidecar": {"resources": None},
        "agent": {"resources": None},
    },
    "crds": {"install": False, "keep": False},
    "rbac": {"create": False, "aggregate": False},
    "serviceAccounts": {"create": False},
    "admissionPolicy": {"enabled": False},
}

EXTREMES: dict[str, dict[str, Any]] = {"default": {}, "all-on": ALL_ON, "service-monitors": SERVICE_MONITORS, "all-off": ALL_OFF}
