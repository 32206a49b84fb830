"""`make demo`: three real sidecars, one address, and what happens to a client when things go wrong. Ends by itself in under a minute."""

__all__ = ["main"]

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from carp_sidecar.console.tables import format_table
from lab.demo_picture import paint
from lab.demo_scenes import SCENES, TARGET, Stage, members
from lab.demo_screen import Audience, audience
from lab.demo_story import NARRATOR, HostLine, Outcome, Story
from lab.namespace import LabError, become_root
from lab.network import Lab

LIMIT_S = 54
"""A step that hangs ends here, and the clearing up still fits in the promised minute."""
TOLD = 16
"""Events that are shown again when a step failed."""
TICK_S = 0.1
"""The prober counts in tenths of a second."""
PROGRAMS = {"ip": "iproute2", "bridge": "iproute2", "unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux"}


class Interrupted(Exception):
    """Somebody, or the clock, wants the demo to end."""


class Interrupts:
    """Signals that end the demo, but only while it plays: building and clearing up are not torn in two."""

    def __init__(self) -> None:
        self.number = 0
        self._playing = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, self._caught)

    def _caught(self, number: int, _: FrameType | None) -> None:
        self.number = self.number or number
        self._raise()

    def _raise(self) -> None:
        if self.number and self._playing:
            self._playing = False
            raise Interrupted

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside, and only there, a signal becomes an exception."""
        self._playing = True
        self._raise()
        try:
            yield
        finally:
            self._playing = False


class Show:
    """The thread that draws the story ten times a second while the scenes play in the main thread."""

    def __init__(self, stage: Stage, watcher: Audience) -> None:
        self._stage = stage
        self._watcher = watcher
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="show", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._watcher.close()

    def _run(self) -> None:
        sampled_at_s = 0.0
        try:
            while not self._over.wait(TICK_S / 2):
                live = self._stage.prober.live if self._stage.prober else {}
                if live.get("at_s", sampled_at_s) != sampled_at_s:
                    sampled_at_s = live["at_s"]
                    self._stage.story.probed(live, self._stage.lab.host_by_ttl(live["ttl"]))
                self._watcher.show(self._stage.story)
            self._watcher.show(self._stage.story)
        except OSError:
            os.kill(os.getpid(), signal.SIGHUP)  # nobody reads any more: end tidily


def obstacle() -> str:
    """Why the demo cannot run here, in one sentence that says what to do; empty when it can."""
    if missing := sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)}):
        return f"the demo needs programs that are not installed: run `sudo apt-get install {' '.join(missing)}`"
    privileged = os.geteuid() == 0
    with contextlib.suppress(LabError, OSError):
        become_root()
        if subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, timeout=10, check=False).returncode == 0:
            return ""
    if privileged:
        return "root may not make network namespaces here, as in most containers: run the container with `--privileged`"
    return (
        "this user may not make user namespaces: run `sudo make demo`, or allow them with `sudo sysctl -w user.max_user_namespaces=10000`"
        " (Debian: also `kernel.unprivileged_userns_clone=1`, Ubuntu: also `kernel.apparmor_restrict_unprivileged_userns=0`)"
    )


def play(stage: Stage, interrupts: Interrupts) -> None:
    """Play the scenes until one fails."""
    story = stage.story
    for number, scene in enumerate(SCENES, 1):
        story.step = number
        story.tell(NARRATOR, f"step {number} of {len(SCENES)}: {scene.title}")
        try:
            with interrupts.allowed():
                outcome = stage.play(scene)
        except Interrupted:
            if interrupts.number != signal.SIGALRM:
                return
            outcome = Outcome(0, 0, f"not over {LIMIT_S} s after the beginning: is this machine very busy?")
        except (LabError, OSError, subprocess.SubprocessError) as error:
            outcome = Outcome(0, 0, summary(error))
        story.outcomes.append(outcome)
        cost = f"{outcome.outage_ms:.0f} ms out, {outcome.lost} lost"
        story.tell(NARRATOR, f"step {number}: {outcome.remark or f'{cost}, as it should be'}")
        if outcome.remark:
            stage.tell_errors()
            return


def summary(error: Exception) -> str:
    """The first line of an error and, where a log follows, the last one."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ... ".join(lines[:: max(1, len(lines) - 1)])


def table(outcomes: list[Outcome], *, colour: bool) -> list[str]:
    """What every step cost, what it may cost, and the verdict."""

    def painted(header: str, cell: str) -> str:
        style = "" if header != "VERDICT" else "good" if cell == "ok" else "bad"
        return paint([(cell, style)], len(cell), colour=colour)

    rows = []
    for number, scene in enumerate(SCENES, 1):
        cost, verdict = ("", ""), "not run"
        allowed = f"<= {scene.limit_ms / 1000:.1f} s" if scene.limit_ms else "0 lost"
        if number <= len(outcomes):
            outcome = outcomes[number - 1]
            verdict = "FAILED" if outcome.remark else "ok"
            if outcome.measured:
                cost = f"{outcome.outage_ms:4.0f} ms", f"{outcome.lost:4}"
        rows.append((f"{number} {scene.title}", " ".join(scene.masters), *cost, allowed, verdict))
    return format_table(("STEP", "MASTER", "OUTAGE", "LOST", "SHOULD BE", "VERDICT"), rows, paint=painted)


def closing(story: Story, *, colour: bool) -> list[str]:
    """What is said at the end."""
    lines = table(story.outcomes, colour=colour)
    if remark := story.outcomes[-1].remark:
        told = [f"  {event.at_s:5.1f} s  {event.who:<6}  {event.what}" for event in story.events[-TOLD:]]
        lines += ["", f"Step {len(story.outcomes)} did not do what it should: {remark}. Before that:", *told]
    return [
        *lines,
        "",
        "Next: examples/ has two routers, Docker and systemd, ready to run on your hosts.",
        "README.md says how it works, docs/ what to ask a running sidecar.",
    ]


def perform(interrupts: Interrupts) -> Story:
    """Build everything, play, and clear up."""
    with Lab.simple(3) as lab:
        sidecars = {sidecar.host.name: sidecar for sidecar in members(lab)}
        hosts = {name: HostLine(name, sidecar.host.address()) for name, sidecar in sidecars.items()}
        stage = Stage(lab, sidecars, Story(TARGET, [scene.title for scene in SCENES], hosts))
        with Show(stage, audience(sys.stdout)):
            play(stage, interrupts)
        return stage.story


def main() -> int:
    """0 when every step did what it should, 1 when not or when it cannot run here, 128 + signal when interrupted."""
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    if why := obstacle():
        print(f"demo: {why}", file=sys.stderr)
        return 1
    interrupts = Interrupts()
    signal.alarm(LIMIT_S)
    print("Three hosts, a switch and a client, as network namespaces: building ...", flush=True)
    story, problem = None, ""
    try:
        story = perform(interrupts)
    except (LabError, OSError, subprocess.SubprocessError) as error:
        problem = str(error)
    if interrupts.number not in (0, signal.SIGALRM):
        print("demo: interrupted; nothing is left behind", file=sys.stderr)
        return 128 + interrupts.number
    if story is None:
        print(f"demo: the network cannot be built: {problem}", file=sys.stderr)
        return 1
    print("\n".join(closing(story, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))))
    return 1 if any(outcome.remark for outcome in story.outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
