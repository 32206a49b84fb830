"""The container images of the cluster tests, as archives that `ctr images import` takes.

kubecarp's is built by buildah from the Dockerfile as it stands: the file that a user builds with Docker. The base image is pulled, or made
with mmdebstrap where no registry can be reached. The archives are kept in a cache folder outside the tree, under a hash of all that goes
into them; buildah's layers beside them, so that a change of our sources installs no package again. Nothing of a user's own images is
touched. Run as a program, this builds both and says where they are.
"""

__all__ = ["KUBECARP", "PAUSE", "ROOT", "SOURCES", "ImageError", "key_of", "kubecarp_image", "pause_image", "program_image"]

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from carp_sidecar import __version__
from lab.programs import cache_folder, find, locked, say, version

ROOT = Path(__file__).resolve().parents[2]
BASE = "docker.io/library/debian:trixie-slim"
KUBECARP = f"docker.io/library/kubecarp:{__version__}"
"""What the chart's ``kubecarp`` and the version of the chart are to a container runtime."""
PAUSE = "kubecarp.test/pause:1"

SOURCES = (
    "Dockerfile", ".dockerignore", "LICENSE", "README.md", "pyproject.toml", "requirements.lock", "tests/closure.py", "operator", "sidecar",
)  # fmt: skip
"""Every file and folder that goes into the image."""
SLIM = ["doc", "info", "locale", "man"]
"""Folders of /usr/share that Debian's slim images leave empty."""
BUNDLES = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]

KEPT = 3
"""Archives of older sources that are kept: another worktree may want them."""
LAYERS_LIMIT_MB = 3000
"""More than this, and buildah's layers are thrown away; the next build makes those it needs."""
PULL_LIMIT_S = 60
STEP_LIMIT_S = 300
BUILD_LIMIT_S = 1200


class ImageError(Exception):
    """An image is not there and cannot be built; the message says what to do."""


def kubecarp_image() -> Path:
    """The archive of kubecarp's image, called KUBECARP in it."""
    return _archive("image", key_of(ROOT), KUBECARP, _build_kubecarp)


def key_of(tree: Path) -> str:
    """What tells the image that is built from ``tree`` from others: content, not times."""
    content = hashlib.sha256(os.uname().machine.encode())
    for name in SOURCES:
        found = tree / name
        files = [found] if found.is_file() else sorted(path for path in found.rglob("*") if path.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                content.update(f"{file.relative_to(tree)} {file.stat().st_size}\n".encode())
                content.update(file.read_bytes())
    return content.hexdigest()[:12]


def pause_image() -> Path:
    """The archive of PAUSE, in which a container runtime keeps the namespaces of a pod: catatonit, which Podman takes for the same."""
    program = shutil.which("catatonit")
    if program is None:
        raise ImageError("catatonit is not installed. On Debian or Ubuntu: sudo apt-get install catatonit")
    content = hashlib.sha256(Path(program).read_bytes())
    return _archive("pause", content.hexdigest()[:12], PAUSE, lambda: _build_pause(program))


def program_image(program: str) -> tuple[str, Path]:
    """Name and archive of an image with nothing in it but one of the programs that are built from Go modules."""
    path = find(program)
    if path is None:
        raise ImageError(f"{program} is not built. Build it with: python -m lab.programs {program}")
    image = f"kubecarp.test/{program}:{version(program)}"
    content = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    entry = ["--entrypoint", json.dumps([f"/{program}"])]
    return image, _archive(f"scratch-{program}", content, image, lambda: _commit(image, path, f"/{program}", *entry))


def _archive(kind: str, key: str, image: str, build: Callable[[], None]) -> Path:
    """The archive in the cache. Whoever comes while another builds, waits for it."""
    archive = cache_folder(f"{kind}-{key}") / "image.tar"
    if archive.exists():
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    with locked(cache_folder("buildah.lock")):
        if not archive.exists():
            _check_machine()
            say(f"building the image {image} (once; a minute or two the first time, seconds after a change)")
            started = time.monotonic()
            build()
            unfinished = archive.with_suffix(".new")
            unfinished.unlink(missing_ok=True)
            _buildah("push", "--quiet", image, f"docker-archive:{unfinished}:{image}")
            unfinished.replace(archive)
            _tidy(kind)
            say(f"{image} is ready after {time.monotonic() - started:.0f} s: {archive} ({archive.stat().st_size / 1e6:.0f} MB)")
    return archive


def _check_machine() -> None:
    if missing := [name for name in ("buildah", "mmdebstrap") if shutil.which(name) is None]:
        raise ImageError(f"not installed: {', '.join(missing)}. On Debian or Ubuntu: sudo apt-get install {' '.join(missing)}")
    if os.geteuid():
        raise ImageError("images are built as root: use sudo")
    layers = cache_folder("buildah")
    if layers.exists() and _megabytes(layers) > LAYERS_LIMIT_MB:
        subprocess.run(["umount", "--quiet", "--lazy", layers / "root" / "overlay"], timeout=STEP_LIMIT_S, check=False)
        shutil.rmtree(layers)


def _megabytes(folder: Path) -> int:
    done = subprocess.run(["du", "-sm", folder], capture_output=True, text=True, timeout=STEP_LIMIT_S, check=True)
    return int(done.stdout.split()[0])


def _tidy(kind: str) -> None:
    """Removes the oldest archives."""
    archives = sorted(cache_folder("").glob(f"{kind}-*/image.tar"), key=lambda path: path.stat().st_mtime)
    for archive in archives[:-KEPT]:
        shutil.rmtree(archive.parent)


def _build_kubecarp() -> None:
    if not _has(BASE):
        _make_base()
    with tempfile.TemporaryDirectory(prefix="certificates-", dir=cache_folder("")) as folder:
        options = ["--layers", "--pull=never", "--tag", KUBECARP]
        bundle = next((path for path in (os.environ.get("PIP_CERT"), *BUNDLES) if path and Path(path).exists()), None)
        if bundle:
            # A folder that every base image has: for a mount point that is missing, an empty file would stay in the image.
            shutil.copy(bundle, Path(folder) / "ca.crt")
            options += [f"--volume={folder}:/mnt:ro", "--build-arg=PIP_CERT=/mnt/ca.crt"]
        if index := os.environ.get("PIP_INDEX_URL"):
            options.append(f"--build-arg=PIP_INDEX_URL={index}")
        _buildah("build", *options, str(ROOT), limit_s=BUILD_LIMIT_S)


def _has(image: str) -> bool:
    return bool(_buildah("images", "--quiet", "--filter", f"reference={image}", "--noheading"))


def _make_base() -> None:
    """Debian's image if it can be pulled, else its like: Debian's smallest system without documentation."""
    try:
        _buildah("pull", "--quiet", BASE, limit_s=PULL_LIMIT_S)
    except ImageError:
        say(f"{BASE} cannot be pulled; mmdebstrap makes its like (half a minute)")
    else:
        return
    with tempfile.TemporaryDirectory(prefix="base-", dir=cache_folder("")) as folder:
        system = Path(folder) / "system.tar"
        options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in SLIM]
        options.append('--customize-hook=rm -f "$1/etc/hostname" "$1/etc/resolv.conf"')  # this machine's
        _run("mmdebstrap", "--quiet", "--variant=minbase", *options, BASE.rpartition(":")[2].removesuffix("-slim"), str(system))
        _commit(BASE, system, "/", "--cmd", "bash")


def _build_pause(program: str) -> None:
    _commit(PAUSE, Path(program), "/pause", "--entrypoint", '["/pause", "-P"]', "--user", "65535:65535")


def _commit(image: str, source: Path, target: str, *configuration: str) -> None:
    """An image of one layer."""
    container = _buildah("from", "scratch")
    _buildah("add", "--quiet", container, str(source), target)
    _buildah("config", *configuration, container)
    _buildah("commit", "--quiet", "--rm", container, image)


def _buildah(*arguments: str, limit_s: float = STEP_LIMIT_S) -> str:
    """buildah with images of its own."""
    layers = cache_folder("buildah")
    return _run("buildah", "--root", str(layers / "root"), "--runroot", str(layers / "run"), *arguments, limit_s=limit_s)


def _run(*command: str, limit_s: float = STEP_LIMIT_S) -> str:
    """What a program printed. The steps of a build are told on the way."""
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}
    program = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    timer = threading.Timer(limit_s, os.killpg, (program.pid, signal.SIGKILL))
    timer.start()
    lines = []
    with program:
        assert program.stdout
        try:
            for line in program.stdout:
                lines.append(line.rstrip())
                if " STEP " in line:
                    say(f"  {lines[-1][:110]}")
        except BaseException:
            os.killpg(program.pid, signal.SIGKILL)
            raise
        finally:
            timer.cancel()
    code = program.returncode
    if code:
        ending = f"was ended after {limit_s:.0f} s" if code == -signal.SIGKILL else f"ended with {code}"
        raise ImageError("\n".join([f"{command[0]} {ending}:", *lines[-20:]]))
    return "\n".join(lines).strip()


def main() -> int:
    """0 when both images are there."""
    try:
        for archive in (kubecarp_image(), pause_image()):
            print(f"{archive.stat().st_size / 1e6:6.1f} MB  {archive}")
    except (ImageError, OSError, subprocess.SubprocessError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
