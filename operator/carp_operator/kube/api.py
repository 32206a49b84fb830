"""Requests to the API server, through the connection, TLS and credentials of the ``kubernetes`` package; objects are plain dicts.

Its generated methods are not used: 37.0 picks a wrong content type for apply unless told otherwise, checks responses against
its own release, and each model that is touched costs memory. Blocking: call it in a worker thread.
"""

__all__ = ["Api", "ApiError", "Json"]

import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient, Configuration
from kubernetes.config.config_exception import ConfigException
from urllib3.util.ssl_ import create_urllib3_context

import kubernetes
from carp_operator.api.errors import OperatorError
from carp_operator.api.names import MANAGER

Json = dict[str, Any]

_TIMEOUT_S = (5.0, 30.0)
"""To connect, and to answer: an API server that takes longer is as good as none."""
_PAGE = 500
"""Objects a list answers with at once: what kubectl asks for."""
_LONGEST_TEXT = 200
"""Of a refusal that is no object; longer ones are pages for a browser."""
_CONTENT_TYPES = {
    "apply": "application/apply-patch+yaml",
    "merge": "application/merge-patch+json",
    "json": "application/json",
}


class ApiError(OperatorError):
    """The API server refused or could not be reached (status 0); the text is its sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def is_missing(self) -> bool:
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        return self.status == 409


class Api:
    """One API server as one user. ``context``: of the kubeconfig; inside a pod its ServiceAccount is used."""

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        configuration = Configuration()
        try:
            _load(configuration, kubeconfig, context)
        except (ConfigException, OSError) as error:
            raise ApiError(0, "NoConfiguration", f"no cluster to talk to: {error}; set KUBECONFIG, or run inside a pod") from error
        configuration.retries = False
        self._client = ApiClient(configuration)
        self._client.rest_client.pool_manager.connection_pool_kw["ssl_context"] = _trusting(configuration)
        self.server: str = configuration.host

    def get(self, path: str) -> Json:
        found: Json = self.request("GET", path)
        return found

    def list(self, path: str) -> tuple[list[Json], int]:
        """Every object of a collection, and the resourceVersion at which it was so."""
        found: list[Json] = []
        query = {"limit": str(_PAGE)}
        while True:
            page = self.request("GET", path, query=query)
            found += page.get("items") or ()
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return found, int(metadata.get("resourceVersion") or 0)
            query = {"limit": str(_PAGE), "continue": metadata["continue"]}

    def apply(self, path: str, body: Mapping[str, Any]) -> Json:
        """Server-side apply as the operator; what somebody else wrote into its fields is overruled."""
        applied: Json = self.request("PATCH", path, body, kind="apply", query={"fieldManager": MANAGER, "force": "true"})
        return applied

    def merge(self, path: str, body: Mapping[str, Any]) -> Json:
        """A merge patch."""
        merged: Json = self.request("PATCH", path, body, kind="merge")
        return merged

    def create(self, path: str, body: Mapping[str, Any]) -> Json:
        created: Json = self.request("POST", path, body)
        return created

    def replace(self, path: str, body: Mapping[str, Any]) -> Json:
        """A PUT; refused with a conflict when the object is not of the resourceVersion in ``body`` any more."""
        replaced: Json = self.request("PUT", path, body)
        return replaced

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, kind: str = "json", query: Mapping[str, str] | None = None
    ) -> Any:
        """One request; raises ApiError."""
        headers = {"Accept": "application/json"} | ({"Content-Type": _CONTENT_TYPES[kind]} if body is not None else {})
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            prepared = self._client.param_serialize(method, target, header_params=headers, body=body, auth_settings=["BearerToken"])
            response = self._client.call_api(*prepared, _request_timeout=_TIMEOUT_S)
            data: bytes | None = response.read()  # type: ignore[no-untyped-call]
        except (urllib3.exceptions.HTTPError, OSError, ConfigException) as error:
            raise ApiError(0, "Unreachable", f"the API server {self.server} cannot be reached: {error}") from error
        except kubernetes.client.exceptions.ApiException as error:
            raise ApiError(
                error.status or 0, error.reason or "", f"the API server {self.server} cannot be asked: {error.reason}"
            ) from error
        if response.status >= 400:
            raise self._refusal_untrusted(path, response.status, str(response.reason), data or b"")
        return _decode_untrusted(data)

    def _refusal_untrusted(self, path: str, status: int, reason: str, data: bytes) -> ApiError:
        """What was said no with: a Status; plain text (of a kind it does not know, or of 429); or the page of a balancer."""
        bare = f"the API server {self.server} answers {status} {reason}"
        try:
            answer = _decode_untrusted(data)
        except ApiError:
            text = data.decode(errors="replace").strip()
            plain = len(text) <= _LONGEST_TEXT and text.isprintable() and not text.startswith(("<", "\ufffd"))
            return ApiError(status, reason, f"{path}: {text}" if plain else bare)
        return ApiError(status, str(answer.get("reason", "")), str(answer.get("message", bare)))


def _load(configuration: Configuration, kubeconfig: str | None, context: str | None) -> None:
    """A kubeconfig that is named, else the pod's own ServiceAccount, else the usual kubeconfig."""
    if kubeconfig is None and context is None:
        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            return
        except ConfigException:
            pass
    kubernetes.config.load_kube_config(kubeconfig, context, configuration)  # type: ignore[no-untyped-call]


def _trusting(configuration: Configuration) -> ssl.SSLContext:
    """Believes what kubectl believes: any certificate of the CA file is an anchor, and old CAs without key identifiers are good.

    What urllib3 makes by itself refuses the CAs of many clusters from Python 3.13 on (VERIFY_X509_STRICT).
    """
    wanted = ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE
    context = create_urllib3_context(cert_reqs=wanted, verify_flags=ssl.VERIFY_X509_PARTIAL_CHAIN)
    if not (configuration.ssl_ca_cert or configuration.ca_cert_data):
        context.load_default_certs()
    return context


def _decode_untrusted(data: bytes | None) -> Json:
    """The JSON object in a response; raises ApiError."""
    try:
        answer = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError(0, "NotJson", "what answers is not an API server: its answer is not JSON") from error
    if not isinstance(answer, dict):
        raise ApiError(0, "NotJson", "what answers is not an API server: its answer is not a JSON object")
    return answer
