"""The Kubernetes programs of the tests: which Go module each one comes from, where it is kept, and how it is built.

A ready one is taken from the folder that KUBEBUILDER_ASSETS names. The others are built from the modules in tests/kubernetes, once per
version, into a cache folder outside the tree. Run as a program, this builds what is missing and says so on the way. To move to another
version, change it everywhere in the module's go.mod and run `go mod tidy` beside it.
"""

__all__ = [
    "CONTROL_PLANE", "MODULES", "PEERS", "PROGRAMS", "ProgramError", "build", "cache_folder", "find", "locked", "say", "source", "version",
]  # fmt: skip

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "kubernetes"
SETUP = Path(__file__).resolve().parents[1] / "setup.sh"
GO_FLOOR = (1, 21)
"""The first Go that fetches the newer one a module asks for by itself."""
GO_FOLDERS = ["/usr/local/go/bin", "/usr/lib/go/bin"]
BUILD_LIMIT_S = 3600
"""kube-apiserver takes 4 minutes on two cores, and what it is made of has to be downloaded before."""


class ProgramError(Exception):
    """A program is not there, or cannot be built; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Module:
    """A folder of tests/kubernetes. What is set with the linker's -X flag is what a release build sets."""

    name: str
    source: str
    variables: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, Path]:
        return SOURCES / self.name / "go.mod", SOURCES / self.name / "go.sum"

    @property
    def version(self) -> str:
        """The version of ``source`` that go.mod names, with its v."""
        return _version_in(self.files[0].read_text(), self.source)

    def flags(self) -> str:
        """The linker flags. Without a version, a server calls itself v0.0.0, and kubectl and Helm refuse to talk to it."""
        go_mod = self.files[0].read_text()
        client = re.search(r"^\tk8s\.io/client-go v0\.(\d+)\.", go_mod, re.MULTILINE)
        values = {"version": self.version, "minor": client[1] if client else ""}
        return " ".join(["-s -w", *(f"-X {variable.format(**values)}" for variable in self.variables)])


MODULES = {
    module.name: module
    for module in (
        Module(
            "kube",
            "k8s.io/kubernetes",
            (
                "k8s.io/component-base/version.gitVersion={version}",
                "k8s.io/component-base/version.gitMajor=1",
                "k8s.io/component-base/version.gitMinor={minor}",
            ),
        ),
        Module("etcd", "go.etcd.io/etcd/server/v3"),
        Module(
            "helm3",
            "helm.sh/helm/v3",
            (
                "helm.sh/helm/v3/internal/version.version={version}",
                "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={minor}",
                "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor={minor}",
            ),
        ),
        Module("helm4", "helm.sh/helm/v4", ("helm.sh/helm/v4/internal/version.version={version}",)),
        Module("metallb", "go.universe.tf/metallb"),
        Module("kube-vip", "github.com/kube-vip/kube-vip", ("main.Version={version}",)),
    )
}
PROGRAMS = {
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": ("kube", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kube", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-proxy": ("kube", "k8s.io/kubernetes/cmd/kube-proxy"),
    "kube-scheduler": ("kube", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubectl": ("kube", "k8s.io/kubernetes/cmd/kubectl"),
    "kubelet": ("kube", "k8s.io/kubernetes/cmd/kubelet"),
    "helm3": ("helm3", "helm.sh/helm/v3/cmd/helm"),
    "helm4": ("helm4", "helm.sh/helm/v4/cmd/helm"),
    "metallb-controller": ("metallb", "go.universe.tf/metallb/controller"),
    "metallb-speaker": ("metallb", "go.universe.tf/metallb/speaker"),
    "kube-vip": ("kube-vip", "github.com/kube-vip/kube-vip"),
}
"""Program: its module, and the package that holds its main()."""
PEERS = ("metallb-controller", "metallb-speaker", "kube-vip")
"""What the bench measures beside ours; no test needs them, so they are built only when they are named."""
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")


def _version_in(go_mod: str, module: str) -> str:
    found = re.search(rf"^\t{re.escape(module)} (v\S+)", go_mod, re.MULTILINE)
    assert found, f"go.mod does not require {module}"
    return found[1]


def version(program: str) -> str:
    """The version that is built, such as v1.37.2."""
    return MODULES[PROGRAMS[program][0]].version


def source(program: str) -> Path:
    """The folder of the module that a program is built from: some have their manifests there. Downloaded if it is not here any more."""
    module = MODULES[PROGRAMS[program][0]]
    command = [_find_go(), "mod", "download", "-C", str(SOURCES / module.name), "-json", module.source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
    if done.returncode:
        raise ProgramError(f"{module.source} {module.version} cannot be downloaded: {(done.stderr or done.stdout).strip()}")
    return Path(json.loads(done.stdout)["Dir"])


def find(program: str) -> Path | None:
    """The executable, if there is one."""
    places = [_cache(MODULES[PROGRAMS[program][0]]) / program]
    if ready := os.environ.get("KUBEBUILDER_ASSETS"):
        places.insert(0, Path(ready) / program)
    return next((place for place in places if os.access(place, os.X_OK)), None)


def _cache(module: Module) -> Path:
    """The folder of one module's programs; another version, or another way to build it, is another folder."""
    content = hashlib.sha256(module.flags().encode())
    for path in module.files:
        content.update(path.read_bytes())
    return cache_folder(f"{module.name}-{content.hexdigest()[:12]}")


def cache_folder(name: str) -> Path:
    """Where something is kept that takes long to make."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "kubecarp" / name


def build(*programs: str) -> None:
    """Build those that are nowhere to be found. Whoever comes while another builds, waits for it."""
    for program in programs:
        if find(program):
            continue
        module = MODULES[PROGRAMS[program][0]]
        folder = _cache(module)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            if not find(program):
                _build(module, program, folder / program)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; it ends with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(module: Module, program: str, target: Path) -> None:
    go = _find_go()
    say(f"building {program} {module.version} (once; minutes the first time)")
    started = time.monotonic()
    unfinished = target.with_name(f".{program}.new")
    options = ["-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", module.flags()]
    done = subprocess.run(
        [go, "build", "-C", str(SOURCES / module.name), *options, "-o", str(unfinished), PROGRAMS[program][1]],
        env={"GOTOOLCHAIN": "auto"} | os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("go: downloading")]
        raise ProgramError("\n".join([f"{program} {module.version} was not built:", *lines[-20:]]))
    unfinished.replace(target)
    say(f"{program} is ready after {time.monotonic() - started:.0f} s: {target}")


def _find_go() -> str:
    """A Go that is new enough; one from Debian's packages when there is none and we may install."""
    found = _installed_go()
    if found is None:
        subprocess.run([SETUP, "go"], stdin=subprocess.DEVNULL, timeout=BUILD_LIMIT_S, check=False)
        found = _installed_go()
    if found is None:
        floor = ".".join(map(str, GO_FLOOR))
        raise ProgramError(
            f"Go {floor} or newer is needed to build Kubernetes, and is not installed. On Debian 13 or Ubuntu 24.04: sudo apt-get install "
            "golang-go; on Debian 12 the same from bookworm-backports. Or name a folder of ready programs in KUBEBUILDER_ASSETS"
        )
    return found


def _installed_go() -> str | None:
    go = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *GO_FOLDERS]))
    if go is None:
        return None
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, timeout=60, check=False).stdout
    found = re.match(r"go(\d+)\.(\d+)", said)
    return go if found and (int(found[1]), int(found[2])) >= GO_FLOOR else None


def say(text: str) -> None:
    """A line on what is being set up."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """0 when every program is there at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"{', '.join(PROGRAMS)}; default: all but {', '.join(PEERS)}")
    names = parser.parse_args().programs or [name for name in PROGRAMS if name not in PEERS]
    if unknown := sorted(set(names) - set(PROGRAMS)):
        parser.error(f"no such program: {', '.join(unknown)}")
    problems = []
    for name in names:
        try:
            build(name)
        except (ProgramError, OSError, subprocess.TimeoutExpired) as error:
            problems.append(str(error))
    for problem in dict.fromkeys(problems):
        say(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
