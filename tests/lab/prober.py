"""A 1 ms prober in a client's namespace: start it, do something to the network, stop it, read what was lost when."""

__all__ = ["Outage", "ProbeResult", "Prober"]

import json
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.namespace import LabError, wait_until
from lab.network import Host

PROGRAM = Path(__file__).with_name("prober_program.py")
READY_TIMEOUT_S = 10.0
RESULT_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Outage:
    """Consecutive lost probes; milliseconds since the prober started."""

    start_ms: float
    duration_ms: float
    lost: int
    ended: bool
    """False: nothing was answered until the prober stopped."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a prober saw. Times in milliseconds since ``started_s`` (monotonic clock)."""

    started_s: float
    sent: int
    lost: int
    """Unanswered, or answered too late."""
    late_answers: int
    duplicates: int
    skipped: int
    """Slots in which nothing was sent because the prober itself was late."""
    worst_lateness_ms: float
    rtt_median_ms: float | None
    first_answer_ms: float | None
    outages: tuple[Outage, ...]
    answerers: tuple[dict[str, Any], ...]
    """Who answered echo requests when: from_ms, until_ms, count, ttl."""
    claims: tuple[dict[str, Any], ...]
    """Who claimed the address by ARP or NA: from_ms, until_ms, count, mac, kind (answer or announcement)."""

    @property
    def longest_ms(self) -> float:
        """The longest outage; 0 when nothing was lost."""
        return max((outage.duration_ms for outage in self.outages), default=0.0)

    @property
    def ttls(self) -> list[int]:
        """The order of hosts that answered, by TTL."""
        return [entry["ttl"] for entry in self.answerers]

    @property
    def macs(self) -> set[str]:
        """Every MAC that claimed the address."""
        return {entry["mac"] for entry in self.claims}

    def since(self, moment_s: float) -> list[Outage]:
        """Outages that ended after ``moment_s`` of the monotonic clock."""
        return [one for one in self.outages if self.started_s + (one.start_ms + one.duration_ms) / 1000 >= moment_s]

    def between(self, since_s: float, until_s: float) -> list[tuple[float, float]]:
        """The parts of outages that lie between two moments of the monotonic clock: milliseconds since the first, and length."""
        since, until = ((moment - self.started_s) * 1000 for moment in (since_s, until_s))
        spans = [(max(one.start_ms, since), min(one.start_ms + one.duration_ms, until)) for one in self.outages]
        return [(round(start - since, 2), round(end - start, 2)) for start, end in spans if end > start]


class Prober:
    """A running prober. ``live`` is renewed ten times a second. ``how`` goes to the program: what a probe is, when it is not an echo."""

    def __init__(
        self, client: Host, target: str, ask: bool = False, every_ms: float = 1.0, interface: str | None = None, how: Sequence[str] = ()
    ) -> None:
        port = client.port(interface)
        own = client.address(6 if ":" in target else 4, port.interface)
        argv = [sys.executable, "-IS", str(PROGRAM), target, "--interface", port.interface, "--own", own, "--every-ms", str(every_ms)]
        self.live: dict[str, Any] = {}
        self._ready = threading.Event()
        self._result: dict[str, Any] | None = None
        self._errors = tempfile.NamedTemporaryFile(prefix="kubecarp-prober-")  # noqa: SIM115 - closed with the prober
        self._process = client.namespace.start([*argv, *how, *["--ask"] * ask], Path(self._errors.name), pipe=True)
        self._reader = threading.Thread(target=self._read, name="prober-reader", daemon=True)
        self._reader.start()
        if not self._ready.wait(READY_TIMEOUT_S):
            raise LabError(f"the prober for {target} did not start: {self._last_words()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(RESULT_TIMEOUT_S)
        self._reader.join(RESULT_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self.live = said.get("live", self.live)
            self._result = said.get("result", self._result)
            self._ready.set()

    def _last_words(self) -> str:
        return Path(self._errors.name).read_text().strip()

    @property
    def answering(self) -> bool:
        """Whether the last tenth of a second was answered without a gap."""
        return bool(self.live) and self.live["recent"] > 0 and self.live["recent_answered"] == self.live["recent"]

    def wait_answering(self, timeout_s: float = 20.0) -> None:
        """Until answers come without a gap, from now on: only counts made after the call are believed."""
        asked = self.live.get("sent", 0) + 100
        wait_until(lambda: self.live.get("sent", 0) >= asked and self.answering, timeout_s, "the address answers")

    def wait_silent(self, timeout_s: float = 20.0) -> None:
        """Until nothing was answered for a tenth of a second."""
        wait_until(lambda: self.live.get("recent", 0) > 0 and self.live["recent_answered"] == 0, timeout_s, "the address falls silent")

    def stop(self) -> ProbeResult:
        """End it and return what it saw."""
        self._process.terminate()
        self._reader.join(RESULT_TIMEOUT_S)
        if self._result is None:
            raise LabError(f"the prober gave no result: {self._last_words()}")
        seen = self._result
        plain = {name: value for name, value in seen.items() if name not in ("outages", "answerers", "claims")}
        return ProbeResult(
            outages=tuple(Outage(**one) for one in seen["outages"]),
            answerers=tuple(seen["answerers"]),
            claims=tuple(seen["claims"]),
            **plain,
        )
