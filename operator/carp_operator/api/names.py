"""Every name that kubecarp uses in a cluster: one place, because users' scripts and RBAC rules depend on them."""

__all__ = [
    "CATEGORY",
    "CORDON_DEMOTION",
    "GROUP",
    "HANDOVER_ANNOTATION",
    "KEY_RING_TYPE",
    "MAINTENANCE_ANNOTATION",
    "MAINTENANCE_DEMOTION",
    "MANAGED_BY",
    "MANAGER",
    "MAX_GROUPS_OF_A_NODE",
    "ROTATE_KEY_ANNOTATION",
    "VERSION",
    "key_ring_name",
]

GROUP = "kubecarp.io"
VERSION = "v1alpha1"
CATEGORY = "kubecarp"
"""``kubectl get kubecarp`` shows groups and nodes. Not ``carp``: a category of that name would hide the short name of CarpGroup."""

MANAGER = "kubecarp-operator"
"""Field manager of everything the operator applies."""
MANAGED_BY = {"app.kubernetes.io/managed-by": MANAGER}

MAINTENANCE_ANNOTATION = f"{GROUP}/maintenance"
"""On a Node, ``"true"``: the node hands over what it has and takes nothing while another member can."""
ROTATE_KEY_ANNOTATION = f"{GROUP}/rotate-key"
"""On a CarpGroup: every new text makes a new key, once."""
HANDOVER_ANNOTATION = f"{GROUP}/handover"
"""On a CarpGroup: a JSON object with ``id``, ``to`` (a node, or empty) and ``at``; carried out once."""

KEY_RING_TYPE = f"{GROUP}/key-ring"

MAINTENANCE_DEMOTION = 200
"""More than a failing health check (128): whoever asks for maintenance wants the node left alone."""
CORDON_DEMOTION = 100
"""Less than a failing health check: a cordoned node is still better than a broken one."""

MAX_GROUPS_OF_A_NODE = 1024
"""A list in an object needs a bound; four interfaces full of VHIDs are beyond what one host carries."""


def key_ring_name(group: str) -> str:
    """The Secret that holds the keys of a group."""
    return f"kubecarp-key-{group}"
