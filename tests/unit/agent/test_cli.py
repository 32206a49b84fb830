"""The command line of the agent, and what the whole program costs."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from carp_agent import __version__, cli
from carp_agent.agent import Agent
from carp_agent.cli import build_parser, main
from carp_agent.errors import UsageError
from carp_protocol import config

SOURCES = Path(__file__).resolve().parents[3] / "sidecar"
MEMORY_LIMIT_KB = 20 * 1024
"""Everything imported. With what it holds at work (tests/api) it is below 21 MB; sidecar and agent together have 65 MB."""
TOO_DEAR = {"asyncio", "dataclasses", "email", "http", "inspect", "logging", "pathlib", "shutil", "typing", "urllib"}
"""Standard modules that cost 0.5 to 8 MB each, and that nothing here needs."""
FILES = ["--token-file", "t", "--ca-file", "c"]


@pytest.fixture(autouse=True)
def no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing."""
    for name in ("NODE_NAME", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


def options(*argv: str) -> object:
    return cli._options(build_parser().parse_args(["run", *argv]))


def test_defaults_are_those_of_the_sidecar() -> None:
    arguments = build_parser().parse_args(["run"])
    assert arguments.control_socket == config.DEFAULT_CONTROL_SOCKET
    assert arguments.config.startswith(config.DEFAULT_STATE_DIR + "/")
    assert arguments.sidecar_metrics_address == config.SidecarConfig.metrics_address
    assert arguments.sidecar_probe_port == config.SidecarConfig.probe_port


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["run", "--help"]):
        with pytest.raises(SystemExit) as done:
            main(argv)
        assert done.value.code == 0
    text = capsys.readouterr().out
    for word in ("--node", "--server", "--gone-after", "/healthz", "exit codes", "NODE_NAME", "examples"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 110


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"carp-agent {__version__}\n"


def test_in_a_pod_the_environment_says_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "_ACCOUNT", str(tmp_path))
    (tmp_path / "namespace").write_text("kubecarp-system\n")
    monkeypatch.setenv("NODE_NAME", "router-002")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00:10:96::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    found = cli._options(build_parser().parse_args(["run"]))
    assert (found.server.host, found.server.port, found.server.host_header) == ("fd00:10:96::1", 6443, "[fd00:10:96::1]:6443")
    assert (found.settings.node, found.namespace, found.settings.control_socket) == ("router-002", "kubecarp-system", "")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert cli._options(build_parser().parse_args(["run"])).server.host == "10.96.0.1"


def test_a_socket_elsewhere_is_told_to_the_sidecar() -> None:
    argv = ["run", "--node", "a", "--server", "https://x", "--namespace", "n", "--control-socket", "x/control.sock"]
    found = cli._options(build_parser().parse_args(argv))
    assert found.settings.control_socket == str(Path.cwd() / "x/control.sock")


@pytest.mark.parametrize(
    "argv, words",
    [
        ([], "is not the name of a node"),
        (["--node", "../x"], "is not the name of a node"),
        (["--node", "a"], "this is no Pod"),
        (["--node", "a", "--server", "http://x"], "is not an address of an API server"),
        (["--node", "a", "--server", "https://x"], "the namespace of the keys is not known"),
        (["--node", "a", "--server", "https://x", "--namespace", "a/b"], "is not the name of a namespace"),
    ],
)
def test_what_is_missing_is_said(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=words):
        options(*argv)
    assert main(["run", *argv]) == 2
    assert words in capsys.readouterr().err


def test_an_address_that_is_none_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["run", "--node", "a", "--server", "https://x", "--namespace", "n", *FILES, "--metrics-address", "9121"]
    assert main(argv) == 2
    assert "is not HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["--gone-after", "-1"], ["--gone-after", "soon"], ["--sidecar-probe-port", "70000"], ["--log-level", "loud"]]
)
def test_values_that_are_none(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["run", *argv])
    assert done.value.code == 2
    assert argv[0] in capsys.readouterr().err


def everything_imported(then: str) -> str:
    """What a fresh interpreter prints that has imported all of the agent."""
    modules = ["carp_agent"] + [f"carp_agent.{path.stem}" for path in (SOURCES / "carp_agent").glob("[!_]*.py")]
    code = f"import sys, {', '.join(modules)}\n{then}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_nothing_dear_is_imported() -> None:
    imported = everything_imported("print(*sys.modules)").split()
    assert "carp_agent.agent" in imported
    assert not TOO_DEAR & set(imported)
    assert {name for name in imported if name.startswith("carp_protocol.")} == {"carp_protocol.spelling"}


@pytest.mark.timing
def test_memory(record_property: Callable[[str, object], None]) -> None:
    shown = everything_imported("print(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')))")
    rss_kb = int(shown.split()[1])
    record_property("rss_kb", rss_kb)
    assert rss_kb <= MEMORY_LIMIT_KB


def test_a_signal_ends_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    argv = ["run", "--node", "a", "--namespace", "n", "--server", "https://127.0.0.1:1", "--token-file", str(tmp_path / "token")]
    argv += ["--ca-file", str(tmp_path / "ca"), "--config", str(tmp_path / "c.json"), "--control-socket", str(tmp_path / "none")]
    with subprocess.Popen(
        [sys.executable, "-m", "carp_agent", *argv, "--metrics-address", ""],
        env={"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:  # its threads have their say too
            if "follows CarpNode a" in line:
                break
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "stopped; the sidecar is not touched by it" in out


def test_a_defect_in_the_loop_is_said_in_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(_agent: Agent) -> int:
        raise RuntimeError("boom")

    monkeypatch.setattr(Agent, "run", broken)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    assert main(["run", "--node", "a", "--server", "https://x", "--namespace", "n", *FILES, "--metrics-address", ""]) == 1
    out = capfd.readouterr().out
    assert "the loop failed because of an internal error; please report it" in out
    assert "RuntimeError: boom" in out
