"""The command line: every command against a control socket with a fake daemon behind it, help, exit codes, and its cost."""

import asyncio
import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from carp_protocol.effects import Reason
from carp_sidecar import source
from carp_sidecar.cli import _DEFAULT_CONFIG, build_parser, main
from carp_sidecar.console import client as client_module
from carp_sidecar.console.control import ControlSocket
from unit.fake_daemon import FakeDaemon, group_status, transition

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "sidecar"), "COLUMNS": "120"}
COMMANDS = ["run", "check", "key", "completion", "status", "watch", "handover", "demote", "undemote", "resign", "reload"]
DEADLINE_S = 30.0

MASTER = {"source": "172.27.27.2", "id": "9f", "advskew": 0, "demotion": 0, "advert_age_s": 0.0, "local": True}


class Served:
    """A fake daemon behind a real control socket, in a thread with a loop of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.daemon = FakeDaemon()
        self._loop = asyncio.new_event_loop()
        self._server = ControlSocket(path, self.daemon)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._server.open())

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)

    def in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the daemon's loop."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def watched(self) -> bool:
        return bool(self._server._watchers)

    def close(self) -> None:
        self._run(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path / "control.sock")
    yield server
    server.close()


@pytest.fixture
def run(served: Served, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process against the fake daemon: exit code, output, complaints."""

    def run_command(*argv: str) -> tuple[int, str, str]:
        code = main([argv[0], "--socket", str(served.path), *argv[1:]])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


Run = Callable[..., tuple[int, str, str]]


def program(*argv: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "carp_sidecar", *argv],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        **options,
    )


def test_status(served: Served, run: Run) -> None:
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["GROUP", "VHID", "INTERFACE", "ADDRESSES", "STATE", "SINCE", "MASTER", "HEALTH", "NOTE"]
    assert out.splitlines()[1].startswith("intranet")
    assert "\x1b" not in out


def test_status_in_other_forms(served: Served, run: Run) -> None:
    assert json.loads(run("status", "-o", "json")[1]) == served.daemon.document
    assert run("status", "-o", "name")[1] == "intranet\n"
    assert "TRANSITIONS" in run("status", "-o", "wide")[1]
    assert run("status", "intranet")[1].startswith("Group:        intranet (VHID 1)\n")
    assert json.loads(run("status", "intranet", "-o", "json")[1])["groups"] == [group_status()]


def test_status_tells_of_a_refused_configuration(served: Served, run: Run) -> None:
    served.daemon.document["config"]["problems"] = ["group[0].vhid: is 300"]
    assert "was refused" in run("status")[1]
    assert "group[0].vhid: is 300" in run("status")[1]


def test_an_unknown_group_fails(served: Served, run: Run) -> None:
    assert run("status", "nope") == (1, "", 'carp-sidecar: there is no group "nope"; the groups are intranet\n')


@pytest.mark.parametrize(
    "argv, call, out",
    [
        (["demote", "intranet"], ("demote", "intranet", 128), "intranet: demoted\n"),
        (["demote", "intranet", "7"], ("demote", "intranet", 7), "intranet: demoted\n"),
        (["demote", "*", "--exclude"], ("demote", None, None), "all groups: demoted\n"),
        (["undemote", "intranet"], ("undemote", "intranet"), "intranet: not demoted by hand any more\n"),
        (["resign", "intranet"], ("resign", "intranet"), "intranet: resigned\n"),
        (["handover", "intranet", "--no-wait", "--to", "10.0.0.2"], ("handover", "intranet", "10.0.0.2"), "intranet: handover begun\n"),
        (["reload"], ("reload",), "the configuration was read again and runs\n"),
    ],
)
def test_commands(served: Served, run: Run, argv: list[str], call: tuple[Any, ...], out: str) -> None:
    assert run(*argv) == (0, out, "")
    assert served.daemon.calls == [call]


def test_a_refusal_is_exit_code_1(served: Served, run: Run) -> None:
    served.daemon.refusal = "this host is not the master"
    for command in ("handover", "demote", "undemote", "resign"):
        assert run(command, "intranet") == (1, "", "carp-sidecar: this host is not the master\n")
        code, out, _ = run(command, "intranet", "-o", "json")
        assert (code, json.loads(out)["ok"]) == (1, False)


def test_reload_with_problems_prints_them_and_is_exit_code_2(served: Served, run: Run) -> None:
    served.daemon.problems = ["group[0].vhid: is 300", "group[1].name: is missing"]
    code, out, _ = run("reload")
    assert code == 2
    assert out.splitlines() == [*served.daemon.problems, "the new configuration has 2 problems; the old one runs on"]
    code, out, _ = run("reload", "-o", "json")
    assert (code, json.loads(out)["problems"]) == (2, served.daemon.problems)


def master(served: Served) -> dict[str, Any]:
    group: dict[str, Any] = served.daemon.document["groups"][0]
    group |= {"state": "MASTER", "master": MASTER, "transitions": 5}
    return group


def test_handover_waits_for_the_successor(served: Served, run: Run) -> None:
    group = master(served)

    def begin() -> None:
        group.update(state="HANDOVER", transitions=6)
        asyncio.get_running_loop().call_later(0.15, lambda: group.update(state="BACKUP", transitions=7, master=None))
        new = MASTER | {"source": "172.27.27.3", "local": False}
        asyncio.get_running_loop().call_later(0.3, lambda: group.update(master=new))

    served.daemon.on_handover = begin
    assert run("handover", "intranet") == (0, "intranet: 172.27.27.3 is the master now\n", "")


def test_handover_that_nobody_takes_is_exit_code_1(served: Served, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    group = master(served)
    served.daemon.on_handover = lambda: group.update(transitions=7)
    assert run("handover", "*") == (1, "intranet: still master: nobody took over\n", "")
    monkeypatch.setattr(client_module, "_HANDOVER_S", 0.1)
    served.daemon.on_handover = lambda: group.update(state="HANDOVER", transitions=8)
    group["state"] = "MASTER"
    assert run("handover", "intranet")[0] == 1


@pytest.mark.parametrize("command", ["status", "watch", "handover x", "demote x", "undemote x", "resign x", "reload"])
def test_no_daemon_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    path = tmp_path / "none.sock"
    assert main([*command.split(), "--socket", str(path)]) == 1
    message = capsys.readouterr().err
    assert (
        message
        == f"carp-sidecar: no sidecar here: {path} does not exist; start one with `carp-sidecar run` or name its socket with --socket\n"
    )


def test_other_reasons_why_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    assert main(["status", "-s", str(tmp_path / "dead.sock")]) == 1
    assert "is not running any more" in capsys.readouterr().err
    assert main(["status", "-s", str(tmp_path / ("x" * 200))]) == 1
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("answer, words", [(b"hello\n", "is not a sidecar"), (b"[1]\n", "is not a sidecar"), (b"", "has gone away")])
def test_something_else_on_the_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: bytes, words: str) -> None:
    import socket

    path = str(tmp_path / "other.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            connection.recv(100)
            connection.sendall(answer)
            connection.close()

        server = threading.Thread(target=serve)
        server.start()
        assert main(["status", "--socket", path]) == 1
        server.join(DEADLINE_S)
    assert words in capsys.readouterr().err


def test_a_daemon_that_hangs_does_not_hang_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(client_module.Client.ask, "__defaults__", (0.05,))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "hung.sock"))
        listening.listen()
        assert main(["status", "--socket", str(tmp_path / "hung.sock")]) == 1
    assert "did not answer within 0.05 s" in capsys.readouterr().err


@contextlib.contextmanager
def started(argv: Sequence[str], stdout: int) -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen([sys.executable, "-m", "carp_sidecar", *argv], env=ENVIRONMENT, stdout=stdout, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def test_watch_prints_lines_and_ends_quietly_at_an_interrupt(served: Served) -> None:
    with started(["watch", "-s", str(served.path)], subprocess.PIPE) as process:
        wait_for(served.watched)
        served.in_loop(served.daemon.publish, transition())
        assert process.stdout
        assert process.stdout.readline() == b"intranet: BACKUP\n"
        expected = b"2026-03-01T12:00:00.123Z intranet: BACKUP -> MASTER: no advert of the master within the dead time\n"
        assert process.stdout.readline() == expected
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, complaints) == (130, b"")


def test_watch_as_json(served: Served) -> None:
    with started(["watch", "-o", "json", "-s", str(served.path)], subprocess.PIPE) as process:
        wait_for(served.watched)
        served.in_loop(served.daemon.publish, transition())
        assert process.stdout
        assert json.loads(process.stdout.readline()) == served.daemon.document
        assert json.loads(process.stdout.readline()) == transition()


def test_watch_on_a_terminal_redraws(served: Served) -> None:
    ours, theirs = pty.openpty()
    with started(["watch", "-s", str(served.path)], theirs):
        os.close(theirs)
        wait_for(served.watched)
        served.in_loop(served.daemon.document["groups"][0].update, {"state": "MASTER"})
        served.in_loop(served.daemon.publish, transition())
        text = ""
        while not all(part in text for part in ("\x1b[32mMASTER", "BACKUP -> MASTER", "A\r\x1b[J")):
            assert select.select([ours], [], [], DEADLINE_S)[0], f"nothing new after {text!r}"
            text += os.read(ours, 65_536).decode()
    os.close(ours)
    assert text.startswith("\x1b[J")


def test_a_daemon_that_ends_ends_the_watch(served: Served) -> None:
    with started(["watch", "-s", str(served.path)], subprocess.PIPE) as process:
        wait_for(served.watched)
        for watcher in list(served._server._watchers):
            served.in_loop(watcher.transport.abort)
        _, complaints = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, complaints) == (1, b"carp-sidecar: the sidecar has gone away\n")


def test_a_closed_pipe_is_quiet(served: Served) -> None:
    served.daemon.document["groups"] = [group_status(f"group-{number}") for number in range(2000)]
    with started(["status", "-s", str(served.path)], subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.close()
        process.stdout = None
        _, complaints = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, complaints) == (141, b"")


CONFIG = """
[[group]]
name = "intranet"
vhid = 1
interface = "{interface}"
addresses = ["172.27.27.13/27"]
authentication = {{ mode = "Strict", key_file = "{key}" }}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("9f" * 32 + "\n")
    path = tmp_path / "sidecar.toml"
    path.write_text(CONFIG.format(interface="lo", key=key))
    return path


def test_check_shows_what_would_run(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("GROUP")
    columns = lines[1].split()
    assert columns[:7] == ["intranet", "1", "lo", "172.27.27.13/27", "255", "Strict", "200ms"]
    assert columns[7:] == ["00:00:5e:00:01:01", "Multicast", "-", "-"]
    assert main(["check", str(config), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"problems": [], "groups": ["intranet"]}


def test_check_tells_of_an_interface_that_does_not_exist_yet(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace('"lo"', '"vmx9"'))
    assert main(["check", str(config)]) == 0
    assert "no such interface here yet" in capsys.readouterr().out


def test_check_prints_every_problem(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace("vhid = 1", "vhid = 300\ncolour = 3"))
    assert main(["check", str(config)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"2 problems in {config}"
    assert any("vhid" in line for line in lines[:-1])
    assert any("colour" in line for line in lines[:-1])
    assert main(["check", str(config), "-o", "json"]) == 2
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2


def test_a_configuration_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none.toml")]) == 2
    assert "No such file" in capsys.readouterr().out


def test_key_prints_a_new_key_each_time() -> None:
    first, second = program("key").stdout, program("key").stdout
    assert re.fullmatch(r"[0-9a-f]{64}\n", first)
    assert first != second


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script_the_shell_understands(shell: str) -> None:
    script = program("completion", shell).stdout
    for command in COMMANDS:
        assert f" {command}" in script
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, timeout=DEADLINE_S, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words, expected",
    [
        (["carp-sidecar", "sta"], {"status"}),
        (["carp-sidecar", "demote", "--ex"], {"--exclude"}),
        (["carp-sidecar", "completion", ""], {"bash", "zsh", "--help"}),
    ],
)
def test_completion_completes(words: list[str], expected: set[str]) -> None:
    quoted = " ".join(f"'{word}'" for word in words)
    ask = f'COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _carp_sidecar; printf "%s\\n" "${{COMPREPLY[@]}}"'
    script = program("completion", "bash").stdout
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert set(done.stdout.split()) == expected


def test_help_is_a_manual(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for part in ("exit codes:", "files:", "examples:", "/etc/kubecarp/sidecar.toml", "/run/kubecarp/control.sock", *COMMANDS):
        assert part in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_the_list_of_commands_is_complete() -> None:
    assert set(build_parser()[1]) == set(COMMANDS)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["run", "--agent-group", "agents"],
        ["run", "--agent-group", "4294967295"],
        ["demote"],
        ["demote", "x", "0"],
        ["demote", "x", "5", "--exclude"],
        ["status", "-o", "xml"],
        ["completion", "fish"],
    ],
)
def test_bad_usage_is_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: carp-sidecar" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert re.fullmatch(r"carp-sidecar \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_one_default_path() -> None:
    assert _DEFAULT_CONFIG == source.DEFAULT_PATH


def test_who_mistakes_a_command_is_told_the_words_of_that_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "/etc/kubecarp/sidecar.toml"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "[-c FILE]" in said
    assert said.endswith("carp-sidecar run: error: unrecognized arguments: /etc/kubecarp/sidecar.toml\n")


def test_the_path_to_run_imports_nothing_heavy() -> None:
    script = "import sys, carp_sidecar.__main__ as m; m.main(['key']); print([x for x in HEAVY if x in sys.modules])"
    heavy = (
        "asyncio",
        "ssl",
        "socket",
        "json",
        "logging",
        "subprocess",
        "http.server",
        "prometheus_client",
        "pyroute2",
        "carp_sidecar.process",
    )
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {heavy!r}; {script}"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_socket_documentation_lists_every_command_reason_and_field() -> None:
    text = (ROOT / "docs" / "control-socket.md").read_text()
    for command in ("status", "watch", "reload", "handover", "demote", "undemote", "resign"):
        assert f"| `{command}` |" in text
    for reason in Reason:
        assert f"`{reason.value}`" in text
    for field in (*FakeDaemon().document, *group_status()):
        assert f'"{field}"' in text
