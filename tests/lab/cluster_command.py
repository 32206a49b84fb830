"""``make cluster``: a real cluster with kubecarp that stays up while you look at it. One process in the background holds it; when that
process ends, however it ends, nothing is left.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lab.forward import Forward
from lab.namespace import LabError, wait_until
from lab.pki import kubeconfig
from lab.programs import cache_folder, find

if TYPE_CHECKING:
    from lab.real_cluster import RealCluster

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "carpgroup.yaml"
PLACE = cache_folder("cluster")
SOCKET, STATE, LOG = PLACE / "socket", PLACE / "state.json", PLACE / "log"
UP, FAILED = "up\n", "failed\n"
ANSWER_S = 300.0
"""A node that is given its power back takes a quarter of a minute."""

DOWN_S = 60.0

AFTERWARDS = """
kubecarp runs on {count} nodes. In any terminal:

    export KUBECONFIG={kubeconfig} PATH={bin}:$PATH
    kubectl get carp -w
    kubectl carp status

    make cluster-shell                 a shell on a host outside the cluster; there: ping {address}
    make cluster-kill NODE={node}     cut the power of a node; cluster-boot gives it back
    make cluster-down                  end everything
"""


def ask(*words: str) -> str:
    """What the process that holds the cluster answers; LabError when there is none, or when it could not."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(str(SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            raise LabError("no cluster is up; `make cluster` starts one") from None
        connection.sendall(json.dumps(words).encode())
        connection.shutdown(socket.SHUT_WR)
        answer: dict[str, str] = json.loads(b"".join(iter(lambda: connection.recv(4096), b"")) or b'{"error": "it ended"}')
    if "error" in answer:
        raise LabError(answer["error"])
    return answer["said"]


def up() -> None:
    """Start the process that holds the cluster, tell what it says, and leave it alone once the cluster is up."""
    with contextlib.suppress(LabError):
        ask("ping")
        raise SystemExit("a cluster is up already; `make cluster-down` ends it")
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True, mode=0o700)
    with LOG.open("w") as log:
        holder = subprocess.Popen(
            [sys.executable, "-m", "lab.cluster_command", "hold"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
    assert holder.stdout is not None
    try:
        for line in holder.stdout:
            if line in (UP, FAILED):
                break
            print(line, end="", flush=True)
        else:
            line = FAILED
    except KeyboardInterrupt:
        holder.terminate()
        holder.wait(60)
        raise SystemExit(130) from None
    if line == FAILED:
        holder.wait(60)
        raise SystemExit(f"the cluster did not come up; the end of {LOG}:\n{LOG.read_text(errors='replace')[-3000:]}")
    print(AFTERWARDS.format(**json.loads(STATE.read_text())))


def hold() -> None:
    """Build the cluster, then do what is asked until ``down``."""
    from lab.real_cluster import RealCluster

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)

    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(contextlib.closing(RealCluster(say=say)))
            say("helm install: operator, and agent and sidecar on each node")
            cluster.install()
            group = yaml.safe_load(EXAMPLE.read_text())
            say(f"kubectl apply -f {EXAMPLE.relative_to(ROOT)}")
            cluster.apply(group)
            cluster.wait_ready(group["metadata"]["name"])
            say("ready")
            forward = stack.enter_context(Forward(cluster.plane.connect_plain))
            STATE.write_text(json.dumps(_state(cluster, forward.port, group["spec"]["addresses"][0])))
        except BaseException:
            print(FAILED, end="", flush=True)
            raise
        print(UP, end="", flush=True)
        _serve(cluster)


def _state(cluster: "RealCluster", port: int, address: str) -> dict[str, Any]:
    """What the other commands need to know, and files for a person's own terminal."""
    programs = PLACE / "bin"
    programs.mkdir()
    for name, path in {
        "kubectl": find("kubectl"),
        "helm": find("helm4"),
        "kubectl-carp": Path(sys.executable).with_name("kubectl-carp"),
    }.items():
        (programs / name).symlink_to(str(path))
    user = cluster.plane.admin_user
    return {
        "count": len(cluster.nodes),
        "node": next(iter(cluster.nodes)),
        "address": address,
        "bin": str(programs),
        "holder": os.getpid(),
        "client": cluster.client.namespace.pid,
        "kubeconfig": str(kubeconfig(PLACE / "kubeconfig", f"https://127.0.0.1:{port}", cluster.plane.ca, user)),
        "inside": str(cluster.plane.admin),
    }


def _serve(cluster: "RealCluster") -> None:
    """One request at a time, in this thread: what it starts dies with it."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(SOCKET))
        listener.listen()
        words: list[str] = []
        while words[:1] != ["down"]:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError, ValueError):  # whoever asked has gone, or talks nonsense: the cluster stays
                connection.settimeout(5)
                words = json.loads(b"".join(iter(lambda: connection.recv(4096), b"")) or b"[]")  # noqa: B023  called at once
                connection.sendall(json.dumps(_answer(cluster, words)).encode())


def _answer(cluster: "RealCluster", words: list[str]) -> dict[str, str]:
    try:
        match words:
            case ["ping"] | ["down"]:
                return {"said": ""}
            case ["kill" | "boot", name] if name not in cluster.nodes:
                return {"error": f"there is no node {name!r}; there are {', '.join(cluster.nodes)}"}
            case ["kill", name]:
                cluster[name].power_off()
                return {"said": f"{name} has no power any more"}
            case ["boot", name] if cluster[name].is_on:
                return {"error": f"{name} runs"}
            case ["boot", name]:
                cluster[name].power_on()
                return {"said": f"{name} boots; the API calls it Ready in some seconds"}
    except (LabError, OSError, subprocess.SubprocessError) as error:
        return {"error": str(error)}
    return {"error": f"not understood: {' '.join(words)}"}


def down() -> None:
    """End the cluster; returns when nothing of it runs."""
    ask("down")
    holder = Path("/proc", str(json.loads(STATE.read_text())["holder"]))
    wait_until(lambda: not holder.exists(), DOWN_S, "the cluster has ended", 0.1)
    print("the cluster has ended")


def shell() -> None:
    """A shell on the client."""
    ask("ping")
    state = json.loads(STATE.read_text())
    environment = os.environ | {"KUBECONFIG": state["inside"], "PATH": f"{state['bin']}:{os.environ['PATH']}"}
    namespaces = [f"--{kind}=/proc/{state['client']}/ns/{kind}" for kind in ("net", "uts")]
    program = os.environ.get("SHELL", "/bin/sh")
    print(f"On a host outside the cluster: ping {state['address']}, kubectl get carp. `exit` leaves it.", flush=True)
    os.execvpe("nsenter", ["nsenter", *namespaces, "--", program], environment)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "shell", "kill", "boot", "hold"])
    parser.add_argument("node", nargs="?", default="")
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "up":
                up()
            case "hold":
                hold()
            case "shell":
                shell()
            case "down":
                down()
            case command:
                print(ask(command, arguments.node))
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
