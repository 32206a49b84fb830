"""What `helm test` runs in a pod: the API takes a good CarpGroup and refuses a bad one, and every node reports.

Writes nothing. Knows only the standard library, and Kubernetes as a pod sees it.
"""
# ruff: noqa: INP001, T201

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path(os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
WAIT_S = float(os.environ.get("WAIT_S", "90"))
"""For the nodes, which may just have been installed."""
PAUSE_S = 2.0
REQUEST_S = 10.0


def ask(path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """GET, or POST of ``body``; status code and answer."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    request = urllib.request.Request(
        f"https://{f'[{host}]' if ':' in host else host}:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": "application/json"},
    )
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT  # from Python 3.13 on it refuses the CAs of many clusters
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_S, context=trust) as answer:  # noqa: S310  https, always
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace").strip()  # of a kind it does not know, the server says so in plain text
        return error.code, json.loads(text) if text.startswith("{") else {"message": text}
    except OSError as error:
        return 0, {"message": f"{host}:{port} does not answer: {error}"}


def refused_groups() -> list[str]:
    """What is wrong with the CRDs: a good CarpGroup must pass, a bad one must not. Neither is stored."""
    code, message = try_group("192.0.2.1")
    if code != 201:
        return [f"the API server does not take a CarpGroup: {message}"]
    code, message = try_group("nonsense")
    if code != 422:
        return [f"the API server takes an address that is none ({code} {message}): are the CRDs those of this version?"]
    return []


def try_group(address: str) -> tuple[int, str]:
    """What the API server would say to a CarpGroup with this address."""
    metadata = {"generateName": "helm-test-"}
    group = {"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpGroup", "metadata": metadata, "spec": {"addresses": [address]}}
    code, answer = ask("/apis/kubecarp.io/v1alpha1/carpgroups?dryRun=All&fieldValidation=Strict", group)
    return code, answer.get("message", "")


def silent_nodes(namespace: str, daemonset: str) -> list[str]:
    """What keeps the nodes from being complete: every node pod's sidecar must be known to run."""
    code, answer = ask(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{daemonset}")
    if code != 200:
        return [f"DaemonSet {daemonset}: {answer.get('message')}"]
    if answer["status"].get("observedGeneration", 0) < answer["metadata"]["generation"]:
        return [f"DaemonSet {daemonset} has not been looked at yet"]
    wanted = answer["status"]["desiredNumberScheduled"]
    code, answer = ask("/apis/kubecarp.io/v1alpha1/carpnodes")
    if code != 200:
        return [f"CarpNodes: {answer.get('message')}"]
    running = {item["metadata"]["name"]: item.get("status", {}).get("sidecar", {}).get("running", False) for item in answer["items"]}
    if wanted and sum(running.values()) >= wanted:
        return []
    silent = sorted(name for name, runs in running.items() if not runs)
    return [f"{sum(running.values())} of {wanted} nodes report a running sidecar" + (f"; silent: {', '.join(silent)}" if silent else "")]


def main(namespace: str, daemonset: str) -> int:
    """0 when all is well, 1 with a sentence otherwise."""
    end = time.monotonic() + WAIT_S
    while problems := refused_groups() or silent_nodes(namespace, daemonset):
        if time.monotonic() > end:
            print(*problems, sep="\n")
            return 1
        time.sleep(PAUSE_S)
    print("the API server takes CarpGroups, and every node reports a running sidecar")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
