"""`make demo` as a newcomer meets it: without a terminal, as root and as nobody, interrupted, and where it may not run."""

import importlib.util
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab.demo_picture import ROWS, paint, picture
from lab.demo_story import LOST, HostLine, Outcome, Story

pytestmark = pytest.mark.needs("netns", "ip", "unshare")

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "lab.demo"]
AS_NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--", "env"]
"""env, because setpriv itself still may do what root may."""
PROMISED_S = 60


@pytest.fixture
def left() -> Iterator[Path]:
    """The folder for the demo's temporary files, open to everybody; at the end it is empty and no process names it."""
    with tempfile.TemporaryDirectory(prefix="kubecarp-demo-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
        assert list(folder.iterdir()) == []
        assert [pid for pid in os.listdir("/proc") if pid.isdigit() and mentions(pid, name)] == []


@pytest.fixture
def public() -> Iterator[Path]:
    """A copy of what the demo needs that everybody may read: this folder may be in somebody's home."""
    with tempfile.TemporaryDirectory(prefix="kubecarp-copy-") as name:
        folder = Path(name)
        shutil.copytree(ROOT / "sidecar", folder / "sidecar")
        shutil.copytree(ROOT / "tests" / "lab", folder / "tests" / "lab")
        for package in ("pyroute2", "prometheus_client"):
            found = importlib.util.find_spec(package)
            assert found is not None
            assert found.origin is not None
            shutil.copytree(Path(found.origin).parent, folder / "sidecar" / package)
        folder.chmod(0o755)
        yield folder


def mentions(pid: str, text: str) -> bool:
    """Whether a process was started with ``text`` in its arguments or environment."""
    try:
        return any(text.encode() in Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    except OSError:
        return False


def environment(folder: Path, root: Path = ROOT) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{root}/sidecar:{root}/tests", "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def run_demo(folder: Path, *prefix: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*prefix, *DEMO], env=environment(folder), capture_output=True, text=True, timeout=PROMISED_S, check=False)


def assert_played(done: "subprocess.CompletedProcess[str]") -> None:
    """Every step did what it should, in under a minute, said in lines without a control character."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    table = done.stdout[done.stdout.index("STEP ") :].splitlines()
    assert [line.split()[0] for line in table[1:9]] == list("12345678")
    assert all(line.endswith(" ok") and len(line) <= 80 for line in table[1:9])
    assert re.search(r"^ +\d+\.\d{3} s  b       BACKUP -> MASTER: the master bowed out$", done.stdout, re.MULTILINE)


@pytest.mark.timing
def test_every_step_does_what_it_should(left: Path) -> None:
    assert_played(run_demo(left))


def works(command: Sequence[str], folder: Path) -> bool:
    """Whether nobody can run this."""
    try:
        return subprocess.run([*AS_NOBODY, *command], cwd=folder, capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.timing
def test_root_is_not_needed(left: Path, public: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: the other tests have shown it")
    pythons = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")
    python = next((one for one in pythons if works([one, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], public)), None)
    if python is None:
        pytest.skip("no Python that everybody may run")
    done = subprocess.run(
        [*AS_NOBODY, python, "-m", "lab.demo"],
        env=environment(left, public),
        cwd=public,
        capture_output=True,
        text=True,
        timeout=PROMISED_S,
        check=False,
    )
    if works(["unshare", "--user", "--map-root-user", "--net", "--uts", "true"], public):
        assert_played(done)
    else:
        assert done.stderr.startswith("demo: this user may not make user namespaces: run `sudo make demo`")
        assert done.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(left: Path, number: signal.Signals) -> None:
    with subprocess.Popen(DEMO, env=environment(left), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        while "is answered by a" not in demo.stdout.readline():
            pass
        demo.send_signal(number)
        _, complaint = demo.communicate(timeout=20)
    assert demo.returncode == 128 + number
    assert complaint == "demo: interrupted; nothing is left behind\n"


def test_on_a_terminal_it_draws_and_gives_the_screen_back(left: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(DEMO, env=environment(left) | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs) as demo:
        os.close(theirs)
        shown = read_until(ours, "answers for 10.77.0.100")
        demo.send_signal(signal.SIGINT)
        shown += read_until(ours, "interrupted")
        assert demo.wait(20) == 130
    os.close(ours)
    assert shown.index("\x1b[?1049h") < shown.index("● MASTER") < shown.index("\x1b[?1049l") < shown.index("interrupted")


def read_until(terminal: int, text: str) -> str:
    """What appears on a terminal until ``text`` does."""
    shown, deadline = b"", time.monotonic() + 20
    while text.encode() not in shown:
        assert time.monotonic() < deadline, shown.decode()
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 65_536)
    return shown.decode(errors="replace")


def test_without_the_right_it_says_what_to_do(left: Path) -> None:
    done = run_demo(left, "unshare", "--user", "--map-root-user", "setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "run the container with `--privileged`" in done.stderr


def story() -> Story:
    """In the middle of the second step."""
    hosts = {name: HostLine(name, f"10.77.0.{number}", state) for number, (name, state) in enumerate((("a", ""), ("b", "MASTER")), 1)}
    told = Story("10.77.0.100", ["one", "two", "three"], hosts, step=2, outcomes=[Outcome(412, 411)])
    told.probed({"recent": 98, "recent_answered": 98}, "a")
    told.probed({"recent": 98, "recent_answered": 0}, "a")
    told.probed({"recent": 98, "recent_answered": 40}, "b")
    told.probed({"recent": 98, "recent_answered": 97}, "b")
    return told


def test_the_picture_fits_everywhere() -> None:
    lines = [paint(line, 80, colour=False) for line in picture(story())]
    assert len(lines) <= ROWS
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert "b   10.77.0.2   ● MASTER        answers for 10.77.0.100" in text
    assert f" a{LOST}~b\n" in text
    assert "1 ✓ one" in text
    assert "\x1b" not in text
    assert [len(paint(line, 20, colour=False)) <= 20 for line in picture(story(), 20)] == [True] * len(lines)


def test_a_client_is_told_of_once() -> None:
    assert [(event.who, event.what) for event in story().events] == [
        ("client", "is answered by a"),
        ("client", "gets no answer"),
        ("client", "is answered by b"),
    ]
