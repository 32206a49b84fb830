"""One user of an API server, as a test wants it: objects in and out, refusals as errors, waiting for a state.

Talks over a connection that somebody else opens, usually inside a namespace. A kind is written ``v1/Secret`` or
``kubecarp.io/v1alpha1/CarpGroup``; the server itself says which path belongs to it.
"""

__all__ = ["LONG_S", "ApiError", "Json", "KubeClient", "kind_of"]

import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from lab.namespace import LabError, wait_until

Json = dict[str, Any]

PATCHES = {
    "apply": "application/apply-patch+yaml",
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
SHORT_S, LONG_S = 0.02, 30.0
"""How often a state is looked at, and how long it is waited for: most takes milliseconds on an idle machine, the start of a program or of a
controller some seconds, and a busy machine takes three times as long."""


class ApiError(LabError):
    """The API server refused: its status code, its one-word reason, and its sentence."""

    def __init__(self, request: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{request}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


def kind_of(thing: Mapping[str, Any]) -> str:
    """How the kind of an object is written here."""
    return f"{thing['apiVersion']}/{thing['kind']}"


class KubeClient:
    """Requests of one user, one at a time, over one connection that is kept."""

    def __init__(self, connect: Callable[[], http.client.HTTPConnection], token: str = "") -> None:
        self._connect = connect
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._connection: http.client.HTTPConnection | None = None
        self._resources: dict[str, tuple[str, bool]] = {}

    def close(self) -> None:
        """Let the connection go; the next request makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def forget_kinds(self) -> None:
        """What was served may go, and come again later."""
        self._resources.clear()

    def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json", accept: str = "", **query: str
    ) -> Any:
        """One request as it stands; the answer decoded when it is JSON. OSError while no server answers."""
        target = f"{path}?{urlencode(query)}" if query else path
        headers = self._headers | ({"Accept": accept} if accept else {}) | ({"Content-Type": content_type} if body is not None else {})
        data = None if body is None else json.dumps(body).encode()
        sent = wait_until(lambda: self._send_when_ready(method, target, data, headers), LONG_S, f"{target} is served", SHORT_S)
        assert sent is not None
        status, decoded = sent[0], _decoded(sent[1])
        if status >= http.client.BAD_REQUEST:
            told = decoded if isinstance(decoded, dict) else {}
            raise ApiError(f"{method} {target}", status, told.get("reason", ""), told.get("message", str(decoded)))
        return decoded

    def _send_when_ready(self, method: str, target: str, data: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes] | None:
        """None while the server still reads that kind from etcd, which it does when it is first asked: every client asks again."""
        status, answer = self._send(method, target, data, headers)
        return None if status == http.client.TOO_MANY_REQUESTS and b"(re)initializing" in answer else (status, answer)

    def _send(self, method: str, target: str, data: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """A kept connection may have died with its server: then it is made anew, once."""
        kept = self._connection is not None
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request(method, target, data, dict(headers))
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if kept and not isinstance(error, TimeoutError):
                return self._send(method, target, data, headers)
            if isinstance(error, OSError):
                raise
            raise ConnectionError(f"{method} {target}: {error!r}") from error

    def path(self, kind: str, name: str = "", namespace: str = "", subresource: str = "") -> str:
        """Where objects of a kind are; LabError if the server does not serve it, nor begins to."""
        if kind not in self._resources:
            wait_until(lambda: self.knows(kind), LONG_S, f"the API server knows {kind}", SHORT_S)
        plural, namespaced = self._resources[kind]
        if namespaced and not namespace and name:
            namespace = "default"
        parts = [_root(kind.rpartition("/")[0]), *(["namespaces", namespace] if namespaced and namespace else []), plural]
        return "/".join([*parts, *(quote(part) for part in (name, subresource) if part)])

    def knows(self, kind: str) -> bool:
        """Whether the server serves it at this moment, which begins a little after its CRD is established."""
        api_version = kind.rpartition("/")[0]
        try:
            resources = self.request("GET", _root(api_version))["resources"]
        except ApiError:
            return False
        served = {f"{api_version}/{one['kind']}": (one["name"], one["namespaced"]) for one in resources if "/" not in one["name"]}
        self._resources |= served
        return kind in served

    def get(self, kind: str, name: str, namespace: str = "") -> Json:
        """One object; ApiError when there is none."""
        found: Json = self.request("GET", self.path(kind, name, namespace))
        return found

    def find(self, kind: str, name: str, namespace: str = "") -> Json | None:
        """One object, or None."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise
            return None

    def list(self, kind: str, namespace: str = "", **query: str) -> list[Json]:
        """All objects of a kind, in one namespace when it is named; ``labelSelector`` and ``fieldSelector`` narrow them down."""
        found: list[Json] = self.request("GET", self.path(kind, namespace=namespace), **query)["items"]
        return found

    def create(self, thing: Mapping[str, Any], **query: str) -> Json:
        """A new object, as ``kubectl create`` makes it."""
        made: Json = self.request("POST", self.path(kind_of(thing), namespace=_namespace(thing) or "default"), thing, **query)
        return made

    def apply(self, thing: Mapping[str, Any], manager: str = "test", *, force: bool = True, subresource: str = "") -> Json:
        """Server-side apply."""
        path = self.path(kind_of(thing), thing["metadata"]["name"], _namespace(thing), subresource)
        query = {"fieldManager": manager} | ({"force": "true"} if force else {})
        made: Json = self.request("PATCH", path, thing, PATCHES["apply"], **query)
        return made

    def patch(self, kind: str, name: str, patch: object, namespace: str = "", *, how: str = "merge", subresource: str = "") -> Json:
        """Change one object; ``how`` is merge, json or strategic."""
        changed: Json = self.request("PATCH", self.path(kind, name, namespace, subresource), patch, PATCHES[how])
        return changed

    def annotate(self, kind: str, name: str, annotations: Mapping[str, str | None], namespace: str = "") -> Json:
        """Set annotations, or remove those that are None."""
        return self.patch(kind, name, {"metadata": {"annotations": dict(annotations)}}, namespace)

    def delete(self, kind: str, name: str, namespace: str = "", *, missing_ok: bool = False, **query: str) -> None:
        """Delete one object; of a Pod nobody is told and nothing is waited for, as no kubelet is there to end it."""
        query = {"propagationPolicy": "Background"} | ({"gracePeriodSeconds": "0"} if kind == "v1/Pod" else {}) | query
        try:
            self.request("DELETE", self.path(kind, name, namespace), **query)
        except ApiError as error:
            if not missing_ok or error.status != http.client.NOT_FOUND:
                raise

    def wait(
        self, kind: str, name: str, predicate: Callable[[Json], Any], what: str, *, namespace: str = "", timeout_s: float = LONG_S
    ) -> Json:
        """Until an object exists and satisfies ``predicate``, which fails as long as a field that it reads is missing.

        Returns the object. The error holds the last one seen.
        """
        last: Json | None = None

        def satisfied() -> Json | None:
            nonlocal last
            last = self.find(kind, name, namespace)
            try:
                return last if last is not None and predicate(last) else None
            except (LookupError, TypeError):
                return None

        try:
            found = wait_until(satisfied, timeout_s, f"{kind} {name} {what}", SHORT_S)
        except LabError as error:
            raise LabError(f"{error}\nlast seen: {json.dumps(last)}") from error
        assert found is not None
        return found

    def wait_gone(self, kind: str, name: str, namespace: str = "", timeout_s: float = LONG_S) -> None:
        """Until there is no such object."""
        wait_until(lambda: self.find(kind, name, namespace) is None, timeout_s, f"{kind} {name} is gone", SHORT_S)

    def whoami(self) -> Json:
        """Who the API server takes this user for: username, groups, extra."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        info: Json = self.create(review)["status"]["userInfo"]
        return info


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _namespace(thing: Mapping[str, Any]) -> str:
    namespace: str = thing["metadata"].get("namespace", "") if "metadata" in thing else ""
    return namespace


def _decoded(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return answer.decode(errors="replace")
