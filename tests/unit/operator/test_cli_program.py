"""The program itself: help of every command, completion, and that nothing ends with a traceback."""

import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import NoReturn

import click
import pytest

from carp_operator.api.names import HANDOVER_ANNOTATION, MAINTENANCE_ANNOTATION, ROTATE_KEY_ANNOTATION
from carp_operator.cli import completion, session
from carp_operator.cli.arguments import complete_groups
from carp_operator.cli.cluster import Cluster
from carp_operator.cli.main import _COMMANDS, carp, main
from carp_operator.cli.words import age, count, listed, unknown
from unit.operator.fake_cluster import NOW, FakeApi, Refused, ago, group, members, node, run

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("operator", "sidecar")),
    "HOME": "/nonexistent",
}


def program(*argv: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """As a person runs it, without a cluster."""
    code = "import sys; from carp_operator.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT | environment
    )


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """What completion finds where it would connect."""
    api = FakeApi(group("intranet", *members()), group("internet", *members()), group("web", *members()), *map(node, ("node-a", "node-b")))
    monkeypatch.setattr(session.Session, "cluster", property(lambda _self: Cluster(api, "kubecarp-system")))
    return api


def completed(*words: str) -> list[str]:
    out = io.StringIO()
    with redirect_stdout(out):
        assert completion.main(words) == 0
    return [line.partition("\t")[0] for line in out.getvalue().splitlines()]


def test_help_names_every_command_and_says_what_a_manual_says() -> None:
    code, out, _ = run(FakeApi(), "--help")
    assert code == 0
    assert all(f"\n  {name} " in out for name in _COMMANDS)
    assert all(word in out for word in ("exit codes:", "files:", "environment:", "examples:", "--context", "--kubeconfig"))


@pytest.mark.parametrize("name", _COMMANDS)
def test_help_of_every_command_has_an_example(name: str) -> None:
    code, out, _ = run(FakeApi(), name, "--help")
    assert code == 0
    assert f"kubectl carp {name}" in out
    assert "examples:\n" in out
    assert "-n," not in out
    command = carp.get_command(click.Context(carp), name)
    assert command is not None
    assert all(option.help for option in command.params if isinstance(option, click.Option) and not option.hidden)


def test_version() -> None:
    from carp_operator import __version__

    assert run(FakeApi(), "--version")[1] == f"kubectl carp, version {__version__}\n"


def test_options_for_the_cluster_stand_before_or_after_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | None, str | None, str]] = []

    def connect(one: session.Session) -> Cluster:
        asked.append((one.kubeconfig, one.context, one.namespace))
        return Cluster(FakeApi(), one.namespace)

    monkeypatch.setattr(session.Session, "cluster", property(connect))
    main(["--context", "one", "status", "--operator-namespace", "elsewhere"])
    main(["--context", "one", "status", "--context", "two", "--kubeconfig", "file"])
    assert asked == [(None, "one", "elsewhere"), ("file", "two", "kubecarp-system")]


def test_an_unknown_command_is_2() -> None:
    code, _, err = run(FakeApi(), "stats")
    assert code == 2
    assert "No such command 'stats'" in err


def test_a_server_that_does_not_answer_is_one_sentence() -> None:
    kubeconfig = ROOT / "tests" / "unit" / "operator" / "nowhere"
    done = program("status", "--kubeconfig", str(kubeconfig))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("kubectl carp: no cluster to talk to: ")


@pytest.mark.parametrize("name", ["", "/", "web/status", "web?watch=1", "we b", "Web", "../nodes/web"])
def test_what_cannot_be_a_name_is_no_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of a variable of a script that is empty."""

    def request(*_: object, **__: object) -> NoReturn:
        raise AssertionError("it was asked for")

    api = FakeApi(group("web", *members()), node("web"))
    monkeypatch.setattr(api, "request", request)
    for order in (["describe", name], ["handover", name], ["rotate-key", name]):
        assert run(api, *order)[2].startswith(f"kubectl carp: there is no CarpGroup {name}; ")
    assert run(api, "maintenance", name, "on")[2].startswith(f"kubectl carp: there is no node {name}; ")


def test_an_unreachable_server_is_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], "
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}], users: [{name: u, user: {}}]}"
    )
    done = program("status", KUBECONFIG=str(config))
    assert done.returncode == 1
    assert done.stderr == (
        "kubectl carp: the API server http://127.0.0.1:9 cannot be reached: Connection refused. "
        "The addresses do not depend on it; on a node, carp-sidecar shows its groups\n"
    )


def test_a_bug_is_a_sentence_too_unless_its_place_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError("oh")

    api = FakeApi()
    monkeypatch.setattr(api, "list", fail)
    code, out, err = run(api, "status")
    assert (code, out) == (1, "")
    assert err.startswith("kubectl carp: this is a bug, please report it: ZeroDivisionError: oh")
    monkeypatch.setenv("KUBECTL_CARP_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run(api, "status")


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -c 'import sys; from carp_operator.cli.main import main; sys.exit(main([\"--help\"]))' | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT)
    assert done.stderr == ""


# ---- completion -----------------------------------------------------------------------------------------------


def test_kubectl_completes_commands_options_and_choices() -> None:
    assert completed("ma") == ["maintenance", ":4"]
    assert completed("") == [*_COMMANDS, ":4"]
    assert completed() == [*_COMMANDS, ":4"]
    assert completed("status", "--w") == ["--watch", ":4"]
    assert completed("status", "-o", "") == ["table", "wide", "json", "yaml", ":4"]
    assert completed("maintenance", "node-a", "o") == ["on", "off", ":4"]


def test_kubectl_completes_names_from_the_cluster(cluster: FakeApi) -> None:
    assert completed("describe", "int") == ["internet", "intranet", ":4"]
    assert completed("status", "web", "") == ["internet", "intranet", ":4"]
    assert completed("handover", "intranet", "--to", "") == ["node-a", "node-b", ":4"]
    assert completed("drain", "--simulate", "node-b") == ["node-b", ":4"]


def test_kubectl_lets_the_shell_complete_folders() -> None:
    assert completed("render", "-o", "")[-1] == ":0"


def test_a_cluster_that_cannot_be_asked_completes_nothing(cluster: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.down = "gone"
    assert completed("describe", "") == [":4"]

    def refuse(_self: object) -> NoReturn:
        raise Refused(0, "no cluster")

    monkeypatch.setattr(session.Session, "cluster", property(refuse))
    assert completed("describe", "") == [":4"]


def test_a_slow_cluster_completes_nothing(cluster: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    monkeypatch.setattr("carp_operator.cli.arguments._PATIENCE_S", 0.05)
    monkeypatch.setattr(cluster, "list", lambda _path: signal.pause())
    context = click.Context(carp)
    assert complete_groups(context, click.Argument(["x"]), "") == []
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_call_the_plugin_itself(shell: str) -> None:
    out = run(FakeApi(), "completion", shell)[1]
    assert "_KUBECTL_CARP_COMPLETE" in out
    assert "kubectl-carp" in out


def test_bash_completes_with_the_script() -> None:
    asked = {"_KUBECTL_CARP_COMPLETE": "bash_complete", "COMP_WORDS": "kubectl-carp mai", "COMP_CWORD": "1"}
    assert program(**asked).stdout == "plain,maintenance\n"


# ---- words ----------------------------------------------------------------------------------------------------


def test_words() -> None:
    assert [age(ago(seconds), NOW) for seconds in (0, 59, 60, 192, 7500, 86_400, 9 * 86_400 + 4 * 3600, -5)] == [
        "0s", "59s", "1m", "3m12s", "2h5m", "1d", "9d4h", "0s",
    ]  # fmt: skip
    assert age("nonsense", NOW) == ""
    assert [count(1, "group"), count(2, "group"), count(2, "address", "addresses")] == ["1 group", "2 groups", "2 addresses"]
    assert [listed(names) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert listed("abcdefghij") == "a, b, c, d, e, f, g, h and 2 more"
    assert unknown("node", "x\x1b", []) == "there is no node x?; there is none at all"


def test_the_page_about_it_names_every_command_word_and_annotation() -> None:
    page = (ROOT / "docs" / "kubectl-carp.md").read_text()
    sources = (ROOT / "operator" / "carp_operator" / "cli" / "verdicts.py").read_text()
    words = set(re.findall(r'Level\.[A-Z]+, "([A-Za-z]+)"', sources))
    assert len(words) > 8
    missing = [word for word in (*(f"kubectl carp {name}" for name in _COMMANDS), *words) if word not in page]
    assert not missing
    for annotation in (HANDOVER_ANNOTATION, ROTATE_KEY_ANNOTATION, MAINTENANCE_ANNOTATION):
        assert annotation in page
