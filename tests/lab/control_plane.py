"""A real Kubernetes control plane in one network namespace: etcd, kube-apiserver, kube-controller-manager.

It outlives the labs of single tests and is plugged into each of them with the same address. Nodes and Pods exist in the API alone, unless
it is made for kubelets (``lab.real_cluster``). Everything that is started here ends with ``close``, or with the process.
"""

__all__ = ["ADDRESS", "PORT", "READY_S", "REMOTE_ETCD", "SERVER", "ControlPlane"]

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lab import objects
from lab.baseline import Baseline
from lab.kube_client import ApiError, Json, KubeClient
from lab.namespace import COMMAND_TIMEOUT_S, LabError, Namespace, wait_until
from lab.network import PREFIX, Host, Lab
from lab.pki import Authority, kubeconfig, write_key
from lab.programs import find

ADDRESS, ADDRESS6 = "10.77.0.250", "fd77::250"
PORT = 6443
SERVER = f"https://{ADDRESS}:{PORT}"
"""How the hosts of a lab reach it."""
LOCAL_SERVER = f"https://127.0.0.1:{PORT}"
ETCD, REMOTE_ETCD = "http://127.0.0.1:2379", f"http://{ADDRESS}:2379"
HOST_NUMBER = 150
"""Far from the hosts that a lab counts itself: the MAC address in a segment is made of it."""
READY_S = 60.0
"""A new control plane takes 5 s on two idle cores."""

CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "validatingadmissionpolicy-status-controller",
)
"""Those that a test can see the work of. Not those that would find Nodes without a kubelet dead, nor those whose Pods nobody would run."""

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
"""Only what our own programs ask for is of interest."""


class ControlPlane:
    """Up on return, with ``crds`` established; ``api`` is the administrator.

    ``for_kubelets``: with every controller and the scheduler. ``names``: further addresses at which the API server will be reached.
    """

    def __init__(self, crds: Sequence[Mapping[str, Any]] = (), *, for_kubelets: bool = False, names: Sequence[str] = ()) -> None:
        self._for_kubelets = for_kubelets
        self._names = names
        self._stack = contextlib.ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.namespace = Namespace("plane")
        self._stack.callback(self.namespace.close)
        self.host = Host(self.namespace, HOST_NUMBER)
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._audit_log = self.directory / "audit.log"
        self._audit_policy = self.directory / "audit-policy.json"
        self._audit_policy.write_text(json.dumps(AUDIT_POLICY))
        self._audit_log.touch(mode=0o600)
        try:
            self._make_keys()
            self._start("etcd", ["--data-dir", str(self.directory / "etcd"), "--unsafe-no-fsync", *self._etcd_urls()])
            self._start_api_server()
            self.install(crds)
            self._start_controllers()
            if not for_kubelets:
                self._baseline = Baseline(self.api)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every process, the namespace and the files."""
        if hasattr(self, "api"):
            self.api.close()
        self._stack.close()

    def _make_keys(self) -> None:
        self.authority = Authority(self.directory)
        self.ca = self.authority.certificate
        names = (
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "127.0.0.1",
            "10.96.0.1",
            ADDRESS,
            ADDRESS6,
            *self._names,
        )
        self._server_files = self.authority.issue("apiserver", "kube-apiserver", hosts=names)
        self._admin_files = self.authority.issue("admin", "admin", "system:masters")
        self._service_account_key = write_key(self.directory / "service-accounts.key")
        certificate, key = map(str, self._admin_files)
        self.admin_user = {"client-certificate": certificate, "client-key": key}
        self.admin = kubeconfig(self.directory / "admin.conf", SERVER, self.ca, self.admin_user)
        self._local_admin = kubeconfig(self.directory / "local-admin.conf", LOCAL_SERVER, self.ca, self.admin_user)
        self.api = self._client(self._admin_files)

    # Processes

    def _start(self, program: str, arguments: Sequence[str]) -> None:
        self._processes[program] = self.namespace.start([str(_path(program)), *arguments], self.log_path(program))

    def _etcd_urls(self) -> list[str]:
        """API servers on nodes need the one etcd too."""
        clients, peers = "http://0.0.0.0:2379" if self._for_kubelets else ETCD, "http://127.0.0.1:2380"
        return [f"--listen-client-urls={clients}", f"--advertise-client-urls={ETCD}", f"--listen-peer-urls={peers}"]

    def log_path(self, program: str) -> Path:
        """What etcd, kube-apiserver or kube-controller-manager says."""
        return self.directory / f"{program}.log"

    def _check_alive(self) -> None:
        for program, process in self._processes.items():
            if process.poll() is not None:
                raise LabError(f"{program} ended with {process.returncode}:\n{self.log_path(program).read_text(errors='replace')[-3000:]}")

    def api_server_settings(self, address: str = ADDRESS, etcd: str = ETCD) -> dict[str, Any]:
        """The flags of an API server at ``address``, without dashes."""
        certificate, key = map(str, self._server_files)
        client_certificate, client_key = map(str, self._admin_files)
        settings = {
            "etcd-servers": etcd,
            "advertise-address": address,
            "secure-port": PORT,
            "tls-cert-file": certificate,
            "tls-private-key-file": key,
            "client-ca-file": self.ca,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": self._service_account_key,
            "service-account-signing-key-file": self._service_account_key,
            "service-cluster-ip-range": "10.96.0.0/16",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "allow-privileged": "true",
        }
        if self._for_kubelets:
            # Nobody resolves the names of the nodes.
            kubelets = {"kubelet-client-certificate": client_certificate, "kubelet-client-key": client_key}
            return settings | kubelets | {"kubelet-preferred-address-types": "InternalIP"}
        # The taint of a new Node would be taken away by a controller that is not there.
        return settings | {"disable-admission-plugins": "TaintNodesByCondition"}

    def _start_api_server(self) -> None:
        settings = self.api_server_settings() | {"audit-policy-file": self._audit_policy, "audit-log-path": self._audit_log}
        self._start("kube-apiserver", [f"--{name}={value}" for name, value in settings.items()])
        wait_until(self._is_ready, READY_S, "kube-apiserver is ready", 0.05)

    def _is_ready(self) -> bool:
        self._check_alive()
        with contextlib.suppress(OSError, ApiError):
            return bool(self.api.request("GET", "/readyz") == "ok")
        return False

    def stop_api(self) -> None:
        """A dead API server: connections break, new ones are refused. etcd keeps the data.

        The controllers go with it, as they do when they lose their leases; those that live on may be idle for a minute after an outage.
        """
        self.api.close()
        for program in ("kube-scheduler", "kube-controller-manager", "kube-apiserver"):
            process = self._processes.pop(program, None)
            if process is None:
                continue
            process.kill()
            process.wait(COMMAND_TIMEOUT_S)

    @property
    def is_up(self) -> bool:
        """Whether its API server runs."""
        return "kube-apiserver" in self._processes

    def start_api(self) -> None:
        """The end of ``stop_api``; returns when it is ready."""
        self._start_api_server()
        self._start_controllers()

    def freeze_api(self) -> None:
        """An API server that hangs: it accepts connections, and answers nothing."""
        self._processes["kube-apiserver"].send_signal(signal.SIGSTOP)

    def thaw_api(self) -> None:
        """The end of ``freeze_api``."""
        self._processes["kube-apiserver"].send_signal(signal.SIGCONT)

    def _start_controllers(self) -> None:
        """After the CRDs: the garbage collector looks for new kinds every 30 s only."""
        settings = {
            "kubeconfig": self._local_admin,
            "service-account-private-key-file": self._service_account_key,
            "root-ca-file": self.ca,
            "leader-elect": "false",
            "controllers": "*" if self._for_kubelets else ",".join(CONTROLLERS),
        }
        self._start("kube-controller-manager", [f"--{name}={value}" for name, value in settings.items()])
        if self._for_kubelets:
            self._start("kube-scheduler", [f"--kubeconfig={self._local_admin}", "--leader-elect=false"])
        for namespace in ("default", "kube-system"):
            self._wait_namespace(namespace)

    def _wait_namespace(self, namespace: str) -> None:
        """Until Pods can be made in it."""

        def settled() -> bool:
            self._check_alive()
            kinds = {"v1/ServiceAccount": "default", "v1/ConfigMap": "kube-root-ca.crt"}
            return all(self.api.find(kind, name, namespace) for kind, name in kinds.items())

        wait_until(settled, READY_S, f"namespace {namespace} has its ServiceAccount", 0.02)

    # Ways in

    @contextlib.contextmanager
    def plugged_into(self, lab: Lab) -> Iterator[Host]:
        """Reachable at ADDRESS from the hosts of a lab, for the length of the block; as a Host it can be cut off and healed."""
        port = lab.plug_in(self.host, lab.hosts[0].port().segment, "eth0", f"{ADDRESS}/24", f"{ADDRESS6}/64")
        try:
            yield self.host
        finally:
            self.host.ports.remove(port)
            lab.switch.ip(f"link del {port.device}")

    def connect_plain(self, timeout_s: float | None = None) -> socket.socket:
        """A connection to the API server, with nothing said yet."""
        plain = self.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            plain.settimeout(timeout_s)
            plain.connect(("127.0.0.1", PORT))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            plain.close()
            raise
        return plain

    def _connect(self, files: tuple[Path, Path] | None, timeout_s: float) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.ca))
        if files:
            context.load_cert_chain(*files)
        plain = self.connect_plain(timeout_s)
        try:
            connection = http.client.HTTPSConnection("127.0.0.1", PORT, timeout=timeout_s)
            connection.sock = context.wrap_socket(plain, server_hostname="127.0.0.1")
        except BaseException:
            plain.close()
            raise
        return connection

    def _client(self, files: tuple[Path, Path] | None, token: str = "", timeout_s: float = COMMAND_TIMEOUT_S) -> KubeClient:
        return KubeClient(lambda: self._connect(files, timeout_s), token)

    def client(self, token: str, timeout_s: float = COMMAND_TIMEOUT_S) -> KubeClient:
        """The API as the owner of a token sees it."""
        client = self._client(None, token, timeout_s)
        self._stack.callback(client.close)
        return client

    def kubectl(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl as the administrator, and return what it printed; LabError, with what it said, when it fails."""
        return self.run("kubectl", *argv, stdin=stdin, check=check)

    def run(self, program: str, *argv: str, stdin: str = "", check: bool = True, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """The same for kubectl, helm3 or helm4."""
        environment = [f"HOME={self.directory}", f"KUBECONFIG={self._local_admin}"]
        return self.namespace.run("env", *environment, str(_path(program)), *argv, stdin=stdin, check=check, timeout_s=timeout_s)

    def token(self, service_account: str, namespace: str, pod: str = "", seconds: int = 3600) -> str:
        """A token, bound to ``pod`` if one is named: then it names the Pod's node as well."""
        spec: Json = {"expirationSeconds": seconds}
        if pod:
            uid = self.api.get("v1/Pod", pod, namespace)["metadata"]["uid"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        path = self.api.path("v1/ServiceAccount", service_account, namespace, "token")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        token: str = self.api.request("POST", path, request)["status"]["token"]
        return token

    def credentials(self, directory: Path, service_account: str, namespace: str, pod: str = "", seconds: int = 3600) -> Path:
        """A folder with token, ca.crt and namespace, as a Pod has it mounted."""
        directory.mkdir(parents=True, exist_ok=True)
        contents = {"token": self.token(service_account, namespace, pod, seconds), "ca.crt": self.ca.read_text(), "namespace": namespace}
        for name, content in contents.items():
            unfinished = directory / f".{name}"
            unfinished.write_text(content)
            unfinished.replace(directory / name)
        return directory

    def admin_kubeconfig(self, path: Path, server: str) -> Path:
        """A kubeconfig of the administrator for another way to the API."""
        return kubeconfig(path, server, self.ca, self.admin_user)

    def kubeconfig(self, path: Path, token: str) -> Path:
        """A kubeconfig for the hosts of a lab, with a token."""
        return kubeconfig(path, SERVER, self.ca, {"token": token})

    def requests_of(self, service_account: str, namespace: str) -> list[Json]:
        """What a ServiceAccount has asked for since the last ``reset``, oldest first: audit events.

        Each has verb, requestURI, responseStatus.code. A watch appears when it begins (stage ResponseStarted) and again when it ends.
        """
        user = f"system:serviceaccount:{namespace}:{service_account}"
        events = map(json.loads, self._audit_log.read_text().splitlines())
        return [event for event in events if event["user"]["username"] == user]

    # Objects

    def install(self, crds: Sequence[Mapping[str, Any]]) -> None:
        """Apply CRDs; returns when each is served."""
        for crd in crds:
            self.api.apply(crd)
        for crd in crds:
            spec = crd["spec"]
            for version in spec["versions"]:
                kind = f"{spec['group']}/{version['name']}/{spec['names']['kind']}"
                wait_until(partial(self.api.knows, kind), READY_S, f"{kind} is served", 0.02)

    def add_namespace(self, name: str) -> None:
        """A namespace, ready for Pods; one that is there already is taken as it is."""
        self.api.apply(objects.namespace(name))
        self._wait_namespace(name)

    def add_node(self, host: Host | str, *addresses: str, ready: bool = True, labels: Mapping[str, str] | None = None) -> Json:
        """A Node that no kubelet keeps; of a host of the lab, with its name and addresses."""
        if isinstance(host, Host):
            addresses = addresses or (host.address(4), host.address(6))
        return self.api.create(objects.node(host if isinstance(host, str) else host.name, *addresses, ready=ready, labels=labels))

    def set_ready(self, node: str, ready: bool | None) -> None:
        """Say whether a Node is Ready; None: nobody knows, as when its kubelet fell silent."""
        self.api.patch("v1/Node", node, {"status": {"conditions": [objects.ready_condition(ready)]}}, how="strategic", subresource="status")

    def add_pod(self, name: str, namespace: str, node: str = "", service_account: str = "default", **spec: Any) -> Json:
        """A Pod that never runs, bound to ``node``; its ServiceAccount is made when it is missing."""
        self.api.apply(objects.service_account(service_account, namespace))
        return self.api.create(objects.pod(name, namespace, node, service_account, **spec))

    def reset(self) -> None:
        """Back to the state after the start: the API server runs, and what came since is gone, whatever its finalizers say.

        Namespaces stay.
        """
        if self.is_up:
            self.thaw_api()
        else:
            self.start_api()
        self._check_alive()
        self._baseline.restore()
        self.api.forget_kinds()
        os.truncate(self._audit_log, 0)


def _path(program: str) -> Path:
    path = find(program)
    if path is None:
        raise LabError(f"there is no {program}: run `make kubernetes`")
    return path
