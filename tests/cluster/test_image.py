"""The image as a runtime gets it: what is in it, what is not, and that every program of it works with a read-only root and as any user."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from packaging.requirements import Requirement

from carp_sidecar import __version__
from closure import closure, roots
from lab.control_plane import ControlPlane
from lab.groups import INTERFACES, wait_condition
from lab.image import KUBECARP, PAUSE, ROOT, SOURCES, key_of, kubecarp_image, pause_image
from lab.image_root import ImageRoot
from lab.kube_fixtures import control_plane, crds, shared_control_plane
from lab.manifests import carp_group
from lab.namespace import wait_until
from lab.operator_process import NAMESPACE, Operator
from lab.sbom import bill_of_materials
from lab.sidecar import MALLOC
from lab.stub_agents import StubAgents

__all__ = ["control_plane", "crds", "shared_control_plane"]

pytestmark = [pytest.mark.needs("machines", "buildah", "mmdebstrap"), pytest.mark.timeout(1500)]

LIMIT_MB = 190
"""README and chart say what it takes; Debian and Python are 116 of it."""
OURS_LIMIT_MB = 4
"""The layer that changes from version to version."""
PACKAGES = Path("opt/kubecarp/lib/python3.13/site-packages")
SCRIPTS = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
"""
VERSIONS = """
import importlib.metadata, json
print(json.dumps({one.name: one.version for one in importlib.metadata.distributions()}))
"""


@pytest.fixture(scope="module")
def image() -> Iterator[ImageRoot]:
    with tempfile.TemporaryDirectory(prefix="kubecarp-image-") as folder:
        yield ImageRoot(kubecarp_image(), Path(folder))


def files(image: ImageRoot, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(image.folder)) for path in image.folder.rglob(pattern))


def test_the_name_is_what_the_chart_asks_for(image: ImageRoot) -> None:
    assert image.names == [KUBECARP] == [f"docker.io/library/kubecarp:{__version__}"]


def test_the_configuration_starts_a_sidecar_and_says_what_it_is(image: ImageRoot) -> None:
    assert image.config["Entrypoint"] == ["carp-sidecar"]
    assert image.config["Cmd"] == ["run"]
    assert not image.config.get("User")
    environment = dict(entry.split("=", 1) for entry in image.config["Env"])
    assert {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"} == environment.keys() - MALLOC.keys()
    assert environment.items() >= MALLOC.items()
    labels = {name: text for name, text in image.config["Labels"].items() if name.startswith("org.opencontainers.image.")}
    assert labels == {
        "org.opencontainers.image.title": "kubecarp",
        "org.opencontainers.image.description": "Virtual IP addresses that survive the death of their host",
        "org.opencontainers.image.version": __version__,
        "org.opencontainers.image.licenses": "Apache-2.0",
    }


def test_the_size(image: ImageRoot, record_property: Callable[[str, object], None]) -> None:
    sizes = [layer.stat().st_size / 1e6 for layer in image.layers]
    record_property("megabytes", round(sum(sizes)))
    assert sum(sizes) < LIMIT_MB
    assert sizes[-1] < OURS_LIMIT_MB


@pytest.mark.parametrize(
    "pattern",
    [
        "pip", "pip3*", "ensurepip", "setuptools", "hatchling", "*.whl", "*.deb",
        "bin/*gcc*", "bin/cc", "bin/ld", "bin/make", "bin/git",
        "*.pyi", "*.pyx", "pip.conf", "ca.crt", "requirements.lock",
        "usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "var/lib/apt/lists/*", "var/log/*",
    ],
)  # fmt: skip
def test_nothing_is_left_of_what_only_the_build_needs(image: ImageRoot, pattern: str) -> None:
    assert not files(image, pattern)


def test_every_package_is_there_in_its_locked_version_and_no_other(image: ImageRoot) -> None:
    done = image.run("python", "-c", VERSIONS)
    assert done.returncode == 0, done.stderr
    found = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in json.loads(done.stdout).items()}
    lock = closure((ROOT / "requirements.lock").read_text(), roots((ROOT / "pyproject.toml").read_text(), ["operator"]))
    wanted = [Requirement(line.rstrip(" \\")) for line in lock.splitlines() if "==" in line]
    here = {"sys_platform": "linux", "implementation_name": "cpython", "platform_python_implementation": "CPython"}
    locked = {one.name: str(one.specifier)[2:] for one in wanted if one.marker is None or one.marker.evaluate(here)}
    assert found == locked | {"kubecarp": __version__}


def test_the_bill_of_materials_names_every_package_with_its_version_and_the_hashes_of_the_lock(image: ImageRoot) -> None:
    bill = bill_of_materials(image.folder, (ROOT / "requirements.lock").read_text())
    parts = {one["purl"]: one for one in bill["components"]}
    assert len(parts) == len(bill["components"])
    done = image.run("python", "-c", VERSIONS)
    python = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in json.loads(done.stdout).items()}
    assert {f"pkg:pypi/{name}@{version}" for name, version in python.items()} == {purl for purl in parts if purl.startswith("pkg:pypi/")}
    for name, version in python.items():
        references = parts[f"pkg:pypi/{name}@{version}"].get("externalReferences", [])
        assert [len(one["hashes"]) > 0 for one in references] == ([] if name == "kubecarp" else [True]), name
    done = image.run("dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture}\\n", user=0)
    debian = {tuple(line.split()) for line in done.stdout.splitlines()}
    assert len(debian) > 50
    listed = (re.fullmatch(r"pkg:deb/debian/([^@]+)@([^?]+)\?arch=(\w+)&distro=debian-\d+", purl) for purl in parts)
    assert {tuple(unquote(part) for part in one.groups()) for one in listed if one} == debian


def test_every_module_of_ours_and_all_that_is_left_of_kubernetes_can_be_imported(image: ImageRoot) -> None:
    packages = [path.parent for folder in ("operator", "sidecar") for path in (ROOT / folder).glob("*/__init__.py")]
    done = image.run("python", "-c", IMPORT_ALL, *(path.name for path in packages), "kubernetes", "kopf")
    assert done.returncode == 0, done.stderr
    here = {".".join(path.relative_to(package.parent).with_suffix("").parts) for package in packages for path in package.rglob("*.py")}
    modules = {name for name in here if not name.endswith(("__init__", "__main__"))}
    assert modules
    assert modules <= set(done.stdout.split())


def test_all_code_is_compiled_and_no_start_looks_at_the_source(image: ImageRoot) -> None:
    sources = list((image.folder / PACKAGES).rglob("*.py"))
    assert len(sources) > 500
    for path in sources:
        compiled = path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc"
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00", f"{path}: not found by its hash, unchecked (PEP 552)"


def test_the_programs_are_ours_alone(image: ImageRoot) -> None:
    names = sorted(path.name for path in (image.folder / "opt/kubecarp/bin").iterdir())
    assert names == [*SCRIPTS, "python", "python3", "python3.13"]


@pytest.mark.parametrize("user", [0, 65532])
@pytest.mark.parametrize("script", [name for name in SCRIPTS if "complete" not in name])
def test_every_program_starts(image: ImageRoot, script: str, user: int) -> None:
    for option, text in (("--version", __version__), ("--help", "sage:")):
        done = image.run(script, option, user=user)
        assert (done.returncode, done.stderr) == (0, "")
        assert text in done.stdout


def test_completion_answers(image: ImageRoot) -> None:
    done = image.run("kubectl_complete-carp", "stat")
    assert done.returncode == 0
    assert "status" in done.stdout


def test_nothing_can_be_written(image: ImageRoot) -> None:
    done = image.run("sh", "-c", "touch /opt/kubecarp/new /tmp/new", user=0)
    assert done.returncode != 0
    assert done.stderr.count("Read-only file system") == 2, "the tests here mean something"


def test_a_web_server_of_the_tests_runs_in_it(image: ImageRoot) -> None:
    assert image.run("python", "-m", "http.server", "--help").returncode == 0


@pytest.mark.needs("netns", "kubernetes")
def test_operator_and_kubectl_carp_work_with_an_api_server(image: ImageRoot, control_plane: ControlPlane, tmp_path: Path) -> None:
    """With what is left of the kubernetes package: configuration, certificates, requests."""
    plane, shared = control_plane, control_plane.directory
    kubeconfig = plane._local_admin.read_text().replace(str(shared), "/mnt")
    (shared / "of-the-image").write_text(kubeconfig)
    plane.add_namespace(NAMESPACE)
    operator = Operator(plane, Path("/mnt/of-the-image"), tmp_path)
    operator.start(program=image.command("carp-operator", "run", user=0, shared=shared))
    try:
        with StubAgents(plane, INTERFACES):
            plane.add_node("a", "10.77.0.1")
            plane.api.apply(carp_group("intranet", "10.77.0.100"))
            wait_condition(plane.api, "intranet", "Accepted", "True")
        command = ["env", "KUBECONFIG=/mnt/of-the-image", "kubectl-carp", "status", "--output=json"]
        said = json.loads(plane.namespace.run(*image.command(*command, user=0, shared=shared)))
    finally:
        assert operator.stop() == 0, operator.log()
    assert [group["name"] for group in said["groups"]] == ["intranet"]
    assert "Traceback" not in operator.log()


def test_what_was_built_from_the_same_sources_is_not_built_again(image: ImageRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = kubecarp_image()
    built = archive.stat().st_mtime_ns
    monkeypatch.setenv("PATH", "")
    assert kubecarp_image() == archive
    assert archive.stat().st_mtime_ns == built


def test_another_content_is_another_image_and_another_time_is_not(tmp_path: Path) -> None:
    for name in SOURCES:
        source = ROOT / name
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.pyc"))
        else:
            shutil.copyfile(source, target)
    before = key_of(tmp_path)
    assert before == key_of(ROOT)
    module = tmp_path / "sidecar/carp_sidecar/__init__.py"
    os.utime(module, (0, 0))
    assert key_of(tmp_path) == before
    module.write_text(module.read_text() + "\n")
    assert key_of(tmp_path) != before


@pytest.mark.needs("catatonit")
def test_the_pause_image_waits_as_process_1_and_ends_when_told(tmp_path: Path) -> None:
    image = ImageRoot(pause_image(), tmp_path)
    assert image.names == [PAUSE]
    assert sum(layer.stat().st_size for layer in image.layers) < 2e6
    assert image.config["User"] == "65535:65535"
    assert image.config["Entrypoint"] == ["/pause", "-P"]
    command = ["unshare", "--pid", "--fork", "--kill-child", "chroot", "--userspec=65535:65535", str(image.folder), "/pause", "-P"]
    with subprocess.Popen(command) as outside:
        inside = int(wait_until(Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text, 10, "it has started"))
        status = Path(f"/proc/{inside}/status")
        wait_until(lambda: re.search(r"^SigBlk:\t(?!0{16})", status.read_text(), re.MULTILINE), 10, "it takes signals")
        os.kill(inside, signal.SIGTERM)
        assert outside.wait(10) == 0
