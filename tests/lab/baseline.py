"""What an API server held at one moment, and the way back to it: everything that came since is deleted. Knows kinds, not what they mean."""

__all__ = ["Baseline"]

import http.client
from collections.abc import Iterator
from dataclasses import dataclass

from lab.kube_client import ApiError, Json, KubeClient
from lab.namespace import wait_until

DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
LEFT_ALONE = {
    "namespaces",  # one takes seconds to end, so it is emptied instead
    "events",  # nobody's state, and too many
    "apiservices",  # they follow the CRDs
    "flowschemas", "prioritylevelconfigurations",  # the API server writes them at its leisure
}  # fmt: skip
REMADE = {("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")}
"""What controllers put into every namespace."""
GONE_S = 60.0
"""A test may leave some hundred objects, deleted one by one."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One object of any kind, by the path of its collection."""

    collection: str
    namespace: str
    name: str
    uid: str


class Baseline:
    """The objects of this moment."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._kept = {one for one, _ in self._objects()}

    def restore(self) -> None:
        """Delete every object that is not of that moment; returns when they are gone."""
        wait_until(self._is_restored, GONE_S, "nothing is left of a test")

    def _is_restored(self) -> bool:
        """Deletes once over; true when there was nothing left to delete."""
        strangers = [(one, meta) for one, meta in self._objects() if one not in self._kept]
        for one, meta in strangers:
            self._delete(one, meta)
        return not strangers

    def _delete(self, one: Kept, meta: Json) -> None:
        collection, _, plural = one.collection.rpartition("/")
        path = f"{collection}/namespaces/{one.namespace}/{plural}/{one.name}" if one.namespace else f"{one.collection}/{one.name}"
        try:
            if meta.get("finalizers") and plural != "customresourcedefinitions":  # whoever set them has ended with the test
                self._client.request("PATCH", path, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
            self._client.request("DELETE", path, propagationPolicy="Background", gracePeriodSeconds="0")
        except ApiError as error:
            if error.status not in (http.client.NOT_FOUND, http.client.CONFLICT):
                raise

    def _objects(self) -> Iterator[tuple[Kept, Json]]:
        for collection in self._collections():
            for meta in self._listed(collection):
                if (collection.rpartition("/")[2], meta["name"]) not in REMADE:
                    yield Kept(collection, meta.get("namespace", ""), meta["name"], meta["uid"]), meta

    def _listed(self, collection: str) -> list[Json]:
        try:
            return [item["metadata"] for item in self._client.request("GET", collection, accept=METADATA)["items"] or ()]
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:  # a CRD that is going
                raise
            return []

    def _collections(self) -> Iterator[str]:
        """Every collection, each by the version that its group prefers."""
        for root in ("/api", "/apis"):
            for group in self._client.request("GET", root, accept=DISCOVERY)["items"]:
                version = group["versions"][0]
                name = group["metadata"].get("name", "")
                for resource in version["resources"]:
                    if {"list", "delete"} <= set(resource["verbs"]) and resource["resource"] not in LEFT_ALONE:
                        yield "/".join([root, *([name] if name else []), version["version"], resource["resource"]])
