"""How the programs of the other layers are found and built: nothing is built here, a script stands for Go."""

import re
from pathlib import Path

import pytest

from lab import programs

BUILD = 'printf "#!/bin/sh\\n" >"$target"; chmod +x "$target"'


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without any program."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


def install_go(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str, build: str = BUILD) -> Path:
    """A ``go`` that tells its version and builds $target as the shell commands ``build`` do; returns the log of its calls."""
    (folder / "bin").mkdir()
    log = folder / "calls"
    find_target = 'while [ "$1" != -o ]; do shift; done; target=$2'
    lines = ["#!/bin/sh", f'[ "$1" = env ] && echo {version} && exit', f'echo "$@" >>"{log}"', find_target, build]
    (folder / "bin" / "go").write_text("\n".join(lines))
    (folder / "bin" / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(programs, "GO_FOLDERS", [])
    monkeypatch.setattr(programs, "SETUP", "true")
    return log


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_every_program_is_a_tool_of_a_module_with_hashes(name: str) -> None:
    module, package = programs.PROGRAMS[name]
    go_mod, go_sum = (path.read_text() for path in programs.MODULES[module].files)
    assert re.search(rf"^(tool |\t){re.escape(package)}$", go_mod, re.MULTILINE)
    assert re.search(rf"^{re.escape(programs.MODULES[module].source)} {re.escape(programs.version(name))} h1:", go_sum, re.MULTILINE)


def test_it_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    log = install_go(tmp_path, monkeypatch, "go1.21.0")
    assert programs.find("kubectl") is None
    programs.build("kubectl")
    programs.build("kubectl")
    assert programs.find("kubectl") is not None
    (call,) = log.read_text().splitlines()
    assert f"gitVersion={programs.version('kubectl')} " in call
    assert call.endswith("k8s.io/kubernetes/cmd/kubectl")
    assert "building kubectl v1." in capsys.readouterr().err


def test_another_version_is_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(tmp_path, monkeypatch, "go1.26.0")
    programs.build("etcd")
    (tmp_path / "sources" / "etcd").mkdir(parents=True)
    for path in programs.MODULES["etcd"].files:
        (tmp_path / "sources" / "etcd" / path.name).write_text(path.read_text() + "\n")
    monkeypatch.setattr(programs, "SOURCES", tmp_path / "sources")
    assert programs.find("etcd") is None


def test_a_failed_build_leaves_nothing_and_shows_what_go_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'echo "go: downloading a lot" >&2; echo "undefined: x" >&2; : >"$target"; exit 1'
    install_go(tmp_path, monkeypatch, "go1.26.0", said)
    with pytest.raises(programs.ProgramError, match="undefined: x") as failed:
        programs.build("etcd")
    assert "downloading" not in str(failed.value)
    assert programs.find("etcd") is None


def test_a_go_that_is_too_old_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(tmp_path, monkeypatch, "go1.19.8")
    with pytest.raises(programs.ProgramError, match=r"Go 1\.21 or newer is needed"):
        programs.build("etcd")


def test_ready_programs_are_taken_without_any_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etcd").touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    programs.build("etcd")
    assert programs.find("etcd") == tmp_path / "etcd"
