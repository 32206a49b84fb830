"""The scenes of the demo: what is done to real sidecars, who has to be master afterwards, and what it may cost the client."""

__all__ = ["SCENES", "TARGET", "Scene", "Stage", "members"]

import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from carp_sidecar.changes import describe_change, describe_reason
from carp_sidecar.console.client import Client, CommandFailed
from lab.demo_story import Outcome, Story
from lab.namespace import LabError, wait_until
from lab.network import Lab
from lab.prober import Prober, ProbeResult
from lab.sidecar import VIP4, Sidecar, group

TARGET = VIP4
RANKS = {"a": 0, "b": 50, "c": 100}
"""advskew of each host: a is preferred."""
INTERVAL_S = 1
"""Between two adverts: the default."""
CALM_S = 1.5
"""Before and after a fault: longer than the interval, in which a backup learns what a new master answers when all is well."""
SETTLE_TIMEOUT_S = 10.0
"""Three dead times."""
WATCH_S = 1.0
ERRORS_SHOWN = 3
"""Of each sidecar: the last ones."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One step. ``limit_ms``: the longest outage that is right, 0: not one lost probe. ``masters``: who holds the address at the end."""

    title: str
    act: Callable[["Stage"], None]
    limit_ms: float
    masters: str
    restart: str = ""
    """Hosts whose sidecar the scene before has ended: started again some time before the act."""


class Stage:
    """The hosts with their sidecars, the client with its prober, and the story they tell."""

    def __init__(self, lab: Lab, sidecars: dict[str, Sidecar], story: Story) -> None:
        self.lab = lab
        self.sidecars = sidecars
        self.story = story
        self.prober: Prober | None = None

    def play(self, scene: Scene) -> Outcome:
        """Play one scene under the client's eyes."""
        with Prober(self.lab.client, TARGET) as self.prober:
            began_s = time.monotonic()
            if self.story.outcomes:
                self.start(*scene.restart)
                time.sleep(CALM_S + random.random() * INTERVAL_S)  # how late an advert is noticed is chance, and stays chance
            scene.act(self)
            self.wait_masters(scene.masters)
            self.prober.wait_answering()
            time.sleep(CALM_S)
            self.wait_masters(scene.masters, timeout_s=0)
            result = self.prober.stop()
        return judge(scene, result, began_s, self.story.began_s)

    def start(self, *names: str) -> None:
        """Start sidecars, all at once, and follow what they report."""
        for name in names:
            self.story.tell(name, "starts carp-sidecar")
            self.story.hosts[name].trouble = ""
            sidecar = self.sidecars[name].start(wait=False)
            threading.Thread(target=_follow, args=(sidecar, self.story), name=f"watch-{name}", daemon=True).start()
        for name in names:
            self.sidecars[name].wait_ready()

    def hurt(self, name: str, trouble: str, event: str) -> None:
        """Say what is done to a host: a word beside it, and the event."""
        self.story.hosts[name].trouble = trouble
        self.story.tell(name, event)

    def tell_errors(self) -> None:
        """What the sidecars' logs hold of errors: the files are about to go."""
        for name, sidecar in self.sidecars.items():
            entries = [json.loads(line) for line in sidecar.log().splitlines() if line.startswith("{")]
            for entry in [entry for entry in entries if entry["level"] == "error"][-ERRORS_SHOWN:]:
                cause = entry.get("exception", "").strip().rpartition("\n")[2]
                self.story.tell(name, " ".join(f"error: {entry['msg']} {cause}".split()))

    def wait_masters(self, names: str, timeout_s: float = SETTLE_TIMEOUT_S) -> None:
        """Until exactly the hosts ``names`` are master and hold the address; the kernel is asked, not only the sidecar."""
        seen: dict[str, tuple[str, bool]] = {}

        def settled() -> bool:
            for name, sidecar in self.sidecars.items():
                status = sidecar.group() if sidecar.running else None
                seen[name] = (status["state"], status["addresses"][0]["held"]) if status else ("", False)
            return all(one == ("MASTER", True) if name in names else one in NOT_MASTER for name, one in seen.items())

        try:
            wait_until(settled, timeout_s, "masters")
        except LabError as error:
            shown = ", ".join(f"{name} {state or 'not running'}{' with the address' * held}" for name, (state, held) in seen.items())
            raise LabError(f"{' and '.join(names)} should be master, and is not: {shown}") from error


NOT_MASTER = {("BACKUP", False), ("", False)}


def _follow(sidecar: Sidecar, story: Story) -> None:
    """Tell what a sidecar reports on its control socket until it ends."""
    name = sidecar.host.name
    host = story.hosts[name]
    with contextlib.suppress(CommandFailed, LabError), _connect(sidecar) as client:
        first = client.request(command="watch")["groups"][0]
        host.state = first["state"]
        story.tell(name, f"{first['state']}: {describe_reason(first['reason'])}")
        while sidecar.running:
            if change := client.read(WATCH_S):
                host.state = change.get("to", host.state)
                story.tell(name, describe_change(change))
    host.state = ""


def _connect(sidecar: Sidecar) -> Client:
    """A connection to its control socket as soon as it answers; what a predecessor left there refuses."""

    def attempt() -> Client | None:
        with contextlib.suppress(CommandFailed):
            return Client(str(sidecar.socket_path))
        return None

    client = wait_until(attempt, SETTLE_TIMEOUT_S, "the control socket answers")
    assert client is not None
    return client


def judge(scene: Scene, result: ProbeResult, scene_began_s: float, story_began_s: float) -> Outcome:
    """What a scene cost the client; what was lost before it began does not count."""
    longest_ms, lost, when = 0.0, 0, []
    for outage in result.outages:
        began_ms = max(outage.start_ms, (scene_began_s - result.started_s) * 1000)
        counted_ms = outage.start_ms + outage.duration_ms - began_ms
        if counted_ms > 0:
            longest_ms = max(longest_ms, counted_ms)
            lost += round(outage.lost * counted_ms / outage.duration_ms)
            when.append(f"{result.started_s - story_began_s + began_ms / 1000:.3f} s")
    if longest_ms <= scene.limit_ms:
        return Outcome(longest_ms, lost)
    allowed = f"{scene.limit_ms:.0f} ms are allowed" if scene.limit_ms else "nothing may be lost"
    remark = f"no answer for {longest_ms:.0f} ms, {lost} probes lost (from {', '.join(when)} on); {allowed}"
    return Outcome(longest_ms, lost, remark)


def members(lab: Lab) -> Iterable[Sidecar]:
    """A sidecar for each host: everything as it comes by default, but they may preempt."""
    fields = {"advertisement_interval": f"{INTERVAL_S}s", "virtual_mac": True, "preemption": {"enabled": True}}
    return (Sidecar(lab, lab[name], [group() | fields | {"advskew": advskew}]) for name, advskew in RANKS.items())


def _start(stage: Stage) -> None:
    stage.start("a")
    stage.wait_masters("a")
    stage.start("b", "c")


def _power_cut(stage: Stage) -> None:
    stage.hurt("a", "no power", "loses power")
    stage.lab.kill(stage.lab["a"])
    stage.sidecars["a"].reap()


def _return(stage: Stage) -> None:
    stage.lab.reboot(stage.lab["a"])
    stage.start("a")


def _handover(stage: Stage) -> None:
    stage.story.tell("a", "carp-sidecar handover web")
    done = stage.sidecars["a"].cli("handover", "web")
    if done.returncode != 0:
        raise LabError(f"the handover was refused: {done.stderr.strip()}")


def _stop(stage: Stage) -> None:
    stage.hurt("b", "stopped", "SIGTERM to carp-sidecar")
    stage.sidecars["b"].stop()


def _kill(stage: Stage) -> None:
    stage.hurt("a", "killed", "SIGKILL to carp-sidecar")
    stage.sidecars["a"].signal(signal.SIGKILL)
    stage.sidecars["a"].reap()


def _split(stage: Stage) -> None:
    stage.hurt("a", "cut off", "is cut off from the others and from the client")
    stage.lab.cut(stage.lab["a"])


def _heal(stage: Stage) -> None:
    stage.story.hosts["a"].trouble = ""
    stage.story.tell("switch", "is one again")
    stage.lab.heal(stage.lab["a"])


SCENES = (
    Scene("three hosts start from nothing", _start, 1500, "a"),
    Scene("the master's host loses power", _power_cut, 1800, "b"),
    Scene("it comes back and takes over", _return, 0, "a"),
    Scene("handover by command", _handover, 0, "b"),
    Scene("the master is stopped: SIGTERM", _stop, 0, "a"),
    Scene("the master is killed: SIGKILL", _kill, 500, "b", restart="b"),
    Scene("the switch splits: two masters", _split, 1800, "ab", restart="a"),
    Scene("the switch heals: one master", _heal, 0, "a"),
)
"""At an advert each second. The start includes that of Python; half of what keepalived needs is 1.8 s; a killed sidecar has a guardian."""
