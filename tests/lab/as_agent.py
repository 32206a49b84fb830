#!/usr/bin/env python3
"""Becomes the agent's container: the node's folders and the pod's token where a pod has them, and no more rights than uid 65532.

    unshare --mount as_agent.py STATE RUN CREDENTIALS PROGRAM...

Only root can prepare it; PROGRAM runs without. What Python needs stays readable, wherever it is installed.
"""

import os
import subprocess
import sys
from pathlib import Path

AGENT = 65532
SOURCES = Path(__file__).resolve().parents[2]
SECRETS = "/run/secrets/kubernetes.io/serviceaccount"


def mount(*argv: str) -> None:
    subprocess.run(["mount", *argv], check=True)


def expose(paths: list[Path]) -> None:
    """Make folders reachable for everybody, here only: a closed folder above them is replaced by an open one with nothing else in it."""
    for path in paths:
        closed = next((above for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)
        if closed is None:
            continue
        inside = [one for one in paths if one.is_relative_to(closed)]
        held = []
        for number, one in enumerate(inside):
            holder = Path(f"/run/held-{number}")
            holder.mkdir()
            mount("--bind", str(one), str(holder))
            held.append(holder)
        mount("-t", "tmpfs", "-o", "mode=755", "none", str(closed))
        for one, holder in zip(inside, held, strict=True):
            one.mkdir(parents=True, exist_ok=True)
            mount("--bind", str(holder), str(one))


def main(state: str, run: str, credentials: str, *program: str) -> None:
    mount("--make-rprivate", "/")
    held = {name: os.open(name, os.O_PATH) for name in (state, run, credentials)}
    mount("-t", "tmpfs", "-o", "mode=755", "none", "/run")
    mount("-t", "tmpfs", "-o", "mode=755", "none", "/var/lib")
    for source, target in ((state, "/var/lib/kubecarp"), (run, "/run/kubecarp"), (credentials, SECRETS)):
        Path(target).mkdir(parents=True)
        mount("--bind", f"/proc/{os.getpid()}/fd/{held[source]}", target)
    expose([Path(sys.base_prefix), Path(sys.prefix), SOURCES])
    os.setgroups([])
    os.setresgid(AGENT, AGENT, AGENT)
    os.setresuid(AGENT, AGENT, AGENT)
    os.chdir("/")
    os.execvp("setpriv", ["setpriv", "--no-new-privs", "--pdeathsig", "KILL", *program])


main(*sys.argv[1:])
