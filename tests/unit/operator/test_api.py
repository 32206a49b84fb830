"""What an API server, or what stands before it, says no with; and what a person reads of that."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from carp_operator.cli.cluster import Cluster
from carp_operator.cli.main import main
from carp_operator.cli.session import Session
from carp_operator.kube.api import Api, ApiError

PATH = "/apis/kubecarp.io/v1alpha1/carpgroups"
HTML = b"<html><body><h1>503 Service Unavailable</h1></body></html>"


class Answer:
    """A response of urllib3, as far as it is looked at."""

    def __init__(self, status: int, reason: str, body: bytes) -> None:
        self.status = status
        self.reason = reason
        self._body = body

    def read(self) -> bytes:
        return self._body


def answering(folder: Path, status: int, reason: str, body: bytes, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A client whose server says the same to everything."""
    config: dict[str, Any] = {
        "clusters": [{"name": "it", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "users": [{"name": "it", "user": {}}],
        "current-context": "it",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    api = Api(str(path))
    monkeypatch.setattr(api._client, "call_api", lambda *_, **__: Answer(status, reason, body))
    return api


@pytest.mark.parametrize(
    "status, reason, body, sentence",
    [
        (403, "Forbidden", b'{"kind": "Status", "reason": "Forbidden", "message": "you may not"}', "you may not"),
        (404, "Not Found", b"404 page not found\n", f"{PATH}: 404 page not found"),
        (429, "Too Many Requests", b"Too many requests, please try again later.", f"{PATH}: Too many requests, please try again later."),
        (503, "Service Unavailable", HTML, "the API server http://127.0.0.1:1 answers 503 Service Unavailable"),
        (502, "Bad Gateway", b"", "the API server http://127.0.0.1:1 answers 502 Bad Gateway"),
        (500, "Internal Server Error", b"\xff\xfe", "the API server http://127.0.0.1:1 answers 500 Internal Server Error"),
        (500, "Internal Server Error", b"[1]", f"{PATH}: [1]"),
    ],
)
def test_a_refusal_keeps_its_status_whatever_it_is_written_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, reason: str, body: bytes, sentence: str
) -> None:
    api = answering(tmp_path, status, reason, body, monkeypatch)
    with pytest.raises(ApiError) as refused:
        api.get(PATH)
    assert (refused.value.status, str(refused.value)) == (status, sentence)


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"[1]", b"\xff"])
def test_an_answer_that_is_no_object_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    api = answering(tmp_path, 200, "OK", body, monkeypatch)
    with pytest.raises(ApiError, match="what answers is not an API server") as refused:
        api.get("/api/v1/nodes")
    assert refused.value.status == 0


def test_a_cluster_without_kubecarp_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a kind that it does not know an API server says so in plain text."""
    api = answering(tmp_path, 404, "Not Found", b"404 page not found\n", monkeypatch)
    assert main(["status"], Session(connected=Cluster(api, "kubecarp-system"))) == 1
    assert "knows no CarpGroups: kubecarp is not installed there; install its chart" in capsys.readouterr().err
