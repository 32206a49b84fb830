"""Where objects are on the API server."""

__all__ = ["carp_group", "carp_groups", "carp_node", "carp_nodes", "events", "lease", "leases", "nodes", "secret", "secrets"]

from carp_operator.api.names import GROUP, VERSION

_OURS = f"/apis/{GROUP}/{VERSION}"


def carp_groups() -> str:
    return f"{_OURS}/carpgroups"


def carp_group(name: str) -> str:
    return f"{_OURS}/carpgroups/{name}"


def carp_nodes() -> str:
    return f"{_OURS}/carpnodes"


def carp_node(name: str) -> str:
    return f"{_OURS}/carpnodes/{name}"


def nodes() -> str:
    return "/api/v1/nodes"


def secrets(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets"


def secret(namespace: str, name: str) -> str:
    return f"{secrets(namespace)}/{name}"


def events(namespace: str) -> str:
    return f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"


def leases(namespace: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def lease(namespace: str, name: str) -> str:
    return f"{leases(namespace)}/{name}"
