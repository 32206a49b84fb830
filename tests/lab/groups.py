"""CarpGroups in a cluster: what tests wait for, and what they look at."""

__all__ = ["CARP_NODE", "EVENT", "GROUP", "INTERFACES", "NODES", "SECRET", "entries", "ready", "reasons_of_events", "wait_condition"]

from typing import Any

from lab.kube_client import LONG_S, Json, KubeClient
from lab.manifests import carp_group, condition

GROUP, CARP_NODE = "kubecarp.io/v1alpha1/CarpGroup", "kubecarp.io/v1alpha1/CarpNode"
SECRET, EVENT = "v1/Secret", "events.k8s.io/v1/Event"
NODES = ("a", "b", "c")
INTERFACES = {
    name: [{"name": "eth0", "state": "Up", "addresses": [f"10.77.0.{number}/24", f"fd77::{number}/64"]}]
    for number, name in enumerate([*NODES, "d"], 1)
}


def wait_condition(api: KubeClient, name: str, kind: str, status: str, reason: str = "", timeout_s: float = LONG_S) -> Json:
    """Until a condition of the newest generation is so; the condition."""

    def found(group: Json) -> bool:
        one = condition(group, kind)
        current = one["observedGeneration"] == group["metadata"]["generation"]
        return bool(current and one["status"] == status and reason in ("", one["reason"]))

    return condition(api.wait(GROUP, name, found, f"is {kind}={status} {reason}", timeout_s=timeout_s), kind)


def entries(api: KubeClient, name: str) -> dict[str, Json]:
    """The entries of a group in the CarpNodes, by node."""
    found: dict[str, Json] = {}
    for node in api.list(CARP_NODE):
        for entry in (node.get("spec") or {}).get("groups") or ():
            if entry["name"] == name:
                found[node["metadata"]["name"]] = entry
    return found


def ready(api: KubeClient, name: str = "web", *addresses: str, members: int = len(NODES), **spec: Any) -> Json:
    """A group, made and ready, on as many nodes: it is ready before, as soon as the first of them have been found."""
    api.create(carp_group(name, *addresses, **spec))

    def settled(group: Json) -> bool:
        return group["status"]["memberCount"] == members and all(
            condition(group, kind)["status"] == "True" for kind in ("Programmed", "Ready")
        )

    return api.wait(GROUP, name, settled, f"is ready on {members} nodes")


def reasons_of_events(api: KubeClient, name: str) -> list[str]:
    """Reasons of the Events about a group, oldest first."""
    uid = api.get(GROUP, name)["metadata"]["uid"]
    events = [event for event in api.list(EVENT, "default") if event["regarding"].get("uid") == uid]
    return [event["reason"] for event in sorted(events, key=lambda event: event["eventTime"])]
