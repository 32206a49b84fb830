"""The house keeps its plan: layout, names, versions, sizes, and what each part may import."""

import ast
import operator
import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from closure import closure, roots

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = [ROOT / "operator", ROOT / "sidecar"]
PYTHON_FILES = sorted(path for folder in [*PRODUCT, ROOT / "tests"] for path in folder.rglob("*.py"))
TOP_LEVEL = {
    "operator", "sidecar", "charts", "tests", "docs", "examples",
    "Dockerfile", "pyproject.toml", "README.md", "Makefile", "LICENSE", "CHANGELOG.md", "requirements.lock",
}  # fmt: skip
MADE = {"build", "dist"}
"""What commands make here, and git ignores."""
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60


def project() -> dict[str, object]:
    """The [project] table."""
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def tree(path: Path) -> ast.Module:
    """A parsed source file."""
    return ast.parse(path.read_text(), str(path))


def imported(path: Path) -> set[str]:
    """The top-level names of everything a file imports, at any depth of nesting."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def short(path: Path) -> str:
    """A path as a person writes it; also the id of a parametrized test."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", ["operator", "sidecar"])
def test_program_folders_are_not_packages(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/__init__.py breaks Python: a package {folder} hides the standard one"


def test_tests_are_not_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_operator_is_the_standard_one() -> None:
    assert operator.__file__ is not None
    assert Path(operator.__file__).is_relative_to(sysconfig.get_path("stdlib"))


def test_operator_is_the_standard_one_for_python_m_in_the_root() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import operator; print(operator.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(sysconfig.get_path("stdlib"))


def test_nothing_new_at_the_top_level() -> None:
    entries = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert entries <= TOP_LEVEL | MADE, f"not in the plan of the house: {sorted(entries - TOP_LEVEL - MADE)}"


def test_versions_agree() -> None:
    from carp_sidecar import __version__

    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", __version__)
    assert "version" not in project(), "the version has one home: carp_sidecar.__version__"
    for init in sorted(path for folder in PRODUCT for path in folder.glob("*/__init__.py")):
        declared = re.findall(r'^__version__ = "(.+)"$', init.read_text(), re.MULTILINE)
        assert declared in ([], [__version__]), short(init)
    changelog = ROOT / "CHANGELOG.md"
    if changelog.exists():
        assert __version__ in changelog.read_text()


def test_every_python_version_named_is_the_same_floor() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert tables["project"]["requires-python"] == ">=3.11"
    assert tables["tool"]["ruff"]["target-version"] == "py311"


def test_lock_holds_the_base_dependencies_with_hashes_and_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    for dependency in dependencies:
        assert re.search(rf"^{re.escape(dependency)}( ;.*)? \\$\n    --hash=sha256:", lock, re.MULTILINE), dependency
    assert "://" not in lock
    assert "--index" not in lock
    entries = re.findall(r"^[a-z0-9][^\n]*", lock, re.MULTILINE)
    assert entries
    assert all("==" in entry and entry.endswith("\\") for entry in entries)


def names_in(entries: str) -> set[NormalizedName]:
    """The packages of a lock, or of a part of it."""
    return {canonicalize_name(name) for name in re.findall(r"^([a-z0-9-]+)==", entries, re.MULTILINE)}


PYPROJECT, LOCK = (ROOT / "pyproject.toml").read_text(), (ROOT / "requirements.lock").read_text()
RUNTIME = closure(LOCK, roots(PYPROJECT, ["operator"]))
BACKEND = closure(LOCK, roots(PYPROJECT, build=True))


@pytest.mark.parametrize("entries", [RUNTIME, BACKEND], ids=["runtime", "backend"])
def test_a_closure_holds_all_that_its_packages_require(entries: str) -> None:
    installed = {canonicalize_name(distribution.name): distribution for distribution in distributions()}
    for name in names_in(entries) & installed.keys():
        for line in installed[name].requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert canonicalize_name(requirement.name) in names_in(entries), f"{name} requires {line}"


def test_a_closure_is_of_entries_of_the_lock_and_holds_nothing_of_development() -> None:
    assert {"kopf", "kubernetes", "cryptography", "click", "rich", "pyyaml", "pyroute2", "prometheus-client"} <= names_in(RUNTIME)
    assert not names_in(RUNTIME) & (roots(PYPROJECT, ["dev"]) - roots(PYPROJECT, ["operator"]))
    assert not names_in(RUNTIME) & names_in(BACKEND)
    for entry in re.split(r"^(?=[a-z])", RUNTIME + BACKEND, flags=re.MULTILINE):
        assert entry in LOCK
        assert not entry or "--hash=sha256:" in entry


def test_a_closure_of_what_is_not_locked_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"not in requirements\.lock: left-pad"):
        closure(LOCK, {"left-pad"})


def test_the_dockerfile_says_the_version() -> None:
    from carp_sidecar import __version__

    assert f'org.opencontainers.image.version="{__version__}"' in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "sidecar" / "carp_protocol").rglob("*.py")), ids=short)
def test_protocol_imports_the_standard_library_only(path: Path) -> None:
    assert imported(path) <= sys.stdlib_module_names | {"carp_protocol"}


def test_guardian_runs_without_any_installed_package() -> None:
    assert imported(ROOT / "sidecar" / "carp_sidecar" / "kernel" / "guardian.py") <= sys.stdlib_module_names


def test_sizes() -> None:
    too_big = []
    for path in PYTHON_FILES:
        lines = len(path.read_text().splitlines())
        if lines > MAX_FILE_LINES:
            too_big.append(f"{short(path)} has {lines} lines")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                length = node.end_lineno - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    too_big.append(f"{short(path)}: {node.name} has {length} lines")
    assert not too_big


def test_readers_of_network_bytes_say_so() -> None:
    """A function of the protocol whose name says that it decodes or parses bytes ends in _untrusted."""
    suspects = [
        f"{short(path)}: {node.name}"
        for path in sorted((ROOT / "sidecar" / "carp_protocol").rglob("*.py"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef) and re.match(r"_?(decode|unpack)", node.name) and not node.name.endswith("_untrusted")
    ]
    assert not suspects
