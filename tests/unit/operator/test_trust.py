"""API servers whose CA is old: Python 3.13, which the image has, refuses them by default; kubectl and the agent do not."""

import functools
import ssl
from pathlib import Path
from types import ModuleType
from typing import Any

import kopf
import pytest
import urllib3.connection
import urllib3.util.ssl_

from carp_operator.handlers import watch
from carp_operator.kube.api import Api, ApiError
from lab.pki import Authority, kubeconfig
from unit.agent.tls_server import TlsServer, answer, read_request

STRICT = ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT


@pytest.fixture(autouse=True)
def python_3_13(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does differently, on any Python."""
    ours, theirs = ssl.create_default_context, urllib3.util.ssl_.create_urllib3_context

    def create_default_context(*args: Any, **more: Any) -> ssl.SSLContext:
        context = ours(*args, **more)
        context.verify_flags |= STRICT
        return context

    modules: list[ModuleType] = [urllib3.connection, urllib3.util.ssl_]
    for module in modules:
        monkeypatch.setattr(module, "create_urllib3_context", functools.partial(theirs, verify_flags=STRICT))
    monkeypatch.setattr(ssl, "create_default_context", create_default_context)


def serve(connection: ssl.SSLSocket, _number: int) -> None:
    while read_request(connection):
        connection.sendall(answer(b'{"kind": "Node"}'))


def server(folder: Path) -> TlsServer:
    authority = Authority(folder, identifiers=False)
    return TlsServer(serve, (authority.certificate, *authority.issue("server", "server", hosts=["127.0.0.1"])))


def test_requests_believe_an_old_ca_and_no_other(tmp_path: Path) -> None:
    with server(tmp_path) as old:
        api = Api(str(kubeconfig(tmp_path / "right", old.url, old.ca, {"token": "x"})))
        assert api.get("/api/v1/nodes/a") == {"kind": "Node"}
        api._client.rest_client.pool_manager.clear()
        (tmp_path / "other").mkdir()
        stranger = Authority(tmp_path / "other", identifiers=False)
        api = Api(str(kubeconfig(tmp_path / "wrong", old.url, stranger.certificate, {"token": "x"})))
        with pytest.raises(ApiError, match="certificate verify failed"):
            api.get("/api/v1/nodes/a")
        api._client.rest_client.pool_manager.clear()
        old.errors.clear()


def test_watches_believe_an_old_ca(tmp_path: Path) -> None:
    with server(tmp_path) as old:
        found = watch._trusting(kopf.ConnectionInfo(server=old.url, ca_path=str(old.ca), token="x"))
        assert found is not None
        assert (found.server, found.token) == (old.url, "x")
        context = found.as_ssl_context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert watch._trusting(None) is None


def test_so_do_those_of_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(tmp_path) as old:
        (tmp_path / "token").write_text("x")
        monkeypatch.setattr(watch, "_ACCOUNT", tmp_path)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(old.port))
        found = watch._service_account()
        assert found is not None
        assert not found.as_ssl_context().verify_flags & ssl.VERIFY_X509_STRICT
