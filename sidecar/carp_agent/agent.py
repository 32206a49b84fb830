"""The loop that joins the API server and the sidecar. All state is touched by one thread; whatever may block runs in another.

    watcher    CarpNode as it is now     ─┐               ┌─►  hands     keys, file, reload, handover
    follower   what the sidecar does     ─┴─►  the loop  ─┴─►  reporter  CarpNode.status

Nothing here depends on the API server: without it nothing new is wanted, and what is seen meanwhile is told later.
"""

from __future__ import annotations

__all__ = ["Agent", "Options", "Stats"]

import time
from functools import partial

from carp_agent import __version__, reporter, sidecar
from carp_agent.carpnode import CarpNode
from carp_agent.configurator import Configurator, Outcome
from carp_agent.errors import ApiError, BadAnswer, SidecarGone, SidecarRefused
from carp_agent.handovers import Handovers, Request
from carp_agent.inbox import Inbox, Worker, start_thread
from carp_agent.kubeapi import Connection, Contact, Server
from carp_agent.programme import Programme
from carp_agent.reporter import Report, Reporter
from carp_agent.sidecar import Follower, Update
from carp_agent.times import write_time
from carp_agent.watcher import Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carp_agent.document import Settings
    from carp_agent.endpoints import Endpoints
    from carp_agent.logs import Log

_BEAT_S = 10.0
"""Seconds after which the loop turns even without news, so that a hung one can be told from an idle one."""
_STOP_S = 5.0
"""Seconds after SIGTERM for which a sidecar that may be ending too is followed."""
_USER_AGENT = f"carp-agent/{__version__}"


class Options:
    """What the command line says."""

    __slots__ = ("config", "control_socket", "gone_after_s", "namespace", "server", "settings")

    def __init__(
        self, server: Server, settings: Settings, *, namespace: str, config: str, control_socket: str, gone_after_s: float
    ) -> None:
        self.server = server
        self.settings = settings
        self.namespace = namespace
        self.config = config
        self.control_socket = control_socket
        self.gone_after_s = gone_after_s


class Stats:
    """Numbers for the metrics; written by the loop, read by anybody."""

    def __init__(self, contact: Contact) -> None:
        self.contact = contact
        self.beat = time.monotonic()
        """When the loop turned last."""
        self.connected = False
        """The sidecar answers."""
        self.reports = {"ok": 0, "failed": 0}
        self.applies = {"ok": 0, "failed": 0, "refused": 0}


class Agent:
    """``run`` it in one thread, ``stop`` it from another."""

    def __init__(self, options: Options, log: Log) -> None:
        self._options = options
        self._log = log
        self._inbox = Inbox()
        self._contact = Contact(log)
        self.stats = Stats(self._contact)
        settings, namespace, secrets = options.settings, options.namespace, self._connection()
        self._configurator = Configurator(secrets, namespace, settings, options.config, options.control_socket)
        self._report_connection = self._connection()
        self._hands = Worker("hands", self._inbox, log, secrets.close)
        self._writer = Worker("reporter", self._inbox, log, self._report_connection.close)
        self._watcher = Watcher(self._connection(), settings.node, self, log)
        self._follower = Follower(options.control_socket, partial(self._inbox.put, "sidecar"), log.warning)
        self._programme = Programme(options.gone_after_s)
        self._reporter = Reporter()
        self._handovers = Handovers()
        self._stop_at: float | None = None
        self._complaint = ""
        self._exit_code: int | None = None

    def _connection(self) -> Connection:
        """Each thread has its own."""
        return Connection(self._options.server, self._contact, _USER_AGENT)

    # ---- called by other threads ------------------------------------------------------------------------------

    def found(self, node: CarpNode) -> None:
        self._inbox.put("node", node)

    def missing(self) -> None:
        self._inbox.put("node", None)

    def reached(self) -> None:
        self._inbox.put("reached")

    def stop(self) -> None:
        """End, but not before it is known whether the sidecar ends too."""
        self._inbox.put("stop")

    def serve(self, endpoints: Endpoints) -> None:
        """Serve the endpoints beside the loop."""
        start_thread("endpoints", endpoints.run, self._inbox, self._log)

    # ---- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Until ``stop``; the exit code."""
        self._log.info(f"carp-agent {__version__} follows CarpNode {self._options.settings.node}", config=self._options.config)
        self._hands.start()
        self._writer.start()
        start_thread("watcher", self._watcher.run, self._inbox, self._log)
        start_thread("follower", self._follower.run, self._inbox, self._log)
        while self._exit_code is None:
            news = self._inbox.take(self._wait_s(time.monotonic()))
            now = self.stats.beat = time.monotonic()
            for kind, value in news.items():
                self._handle(kind, value, now)
            self._decide(now)
        for part in (self._watcher, self._follower, self._hands, self._writer):
            part.end()
        self._log.info("stopped; the sidecar is not touched by it")
        return self._exit_code

    def _wait_s(self, now: float) -> float:
        times = [now + _BEAT_S, self._programme.next_at(now)]
        if self._reporter.due > now:
            times.append(self._reporter.due)
        if self._stop_at is not None:
            times.append(self._stop_at)
        return max(0.0, min(times) - now)

    def _handle(self, kind: str, value: Any, now: float) -> None:
        match kind, value:
            case "node", CarpNode():
                self._found(value)
            case "node", None:
                self._missing(now)
            case "reached", _:
                self._programme.hurry()
                self._reporter.hurry()
            case "sidecar", Update():
                self._heard(value, now)
            case "applied", (outcome, node):
                self._applied(outcome, node, now)
            case "handed-over", (request, refusal):
                self._handed_over(request, refusal)
            case "written", (report, error):
                self._written(report, error, now)
            case "stop", _:
                self._stop_at = self._stop_at or now + _STOP_S
            case "crashed", _:
                self._exit_code = 1

    def _decide(self, now: float) -> None:
        """What is to be done next, after whatever has happened."""
        if self._stop_at is None and not self._hands.busy:
            self._use_hands(now)
        if not self._writer.busy:
            self._report(now)
        if self._stop_at is not None and self._exit_code is None:
            told = not self._writer.busy and (self._programme.node is None or self._reporter.settled)
            if now >= self._stop_at or (self._reporter.absent and told):
                self._exit_code = 0

    # ---- configuration down -----------------------------------------------------------------------------------

    def _found(self, node: CarpNode) -> None:
        if self._programme.node is None:
            self._handovers.learn_untrusted(node)
        self._programme.found(node)
        self._reporter.found(node)

    def _missing(self, now: float) -> None:
        if self._programme.node is not None:
            self._log.warning(
                f"the CarpNode is gone; unless it comes back, no group runs here in {self._options.gone_after_s:g} s",
                node=self._options.settings.node,
            )
        self._programme.missing(now)

    def _use_hands(self, now: float) -> None:
        node, there = self._programme.node, self._reporter.document is not None
        if self._programme.begin(self._reporter.started, now):
            config = self._reporter.config if there else None
            self._hands.do("applied", lambda: (self._configurator.apply(node, config), node))
        elif node is not None and there:
            request = self._handovers.next_untrusted(node, self._reporter.groups, time.time())
            if request:
                self._hands.do("handed-over", lambda: (request, self._hand_over(request)))

    def _applied(self, outcome: Outcome, node: CarpNode | None, now: float) -> None:
        self._hands.busy = False
        said = self._programme.problems
        self._programme.ended(outcome, node, now)
        self.stats.applies["refused" if outcome.refused else "failed" if outcome.problems else "ok"] += 1
        generation = node.generation if node else None
        if outcome.problems and outcome.problems != said:
            self._log.warning(f"the newest configuration does not run: {'; '.join(outcome.problems)}", generation=generation)
        elif outcome.reloaded:
            count = len(node.groups) if node else 0
            self._log.info(f"the sidecar runs the configuration with {count} group{'' if count == 1 else 's'}", generation=generation)

    def _hand_over(self, request: Request) -> str:
        """In the hands' thread: the refusal, empty when it has begun."""
        try:
            sidecar.handover(self._options.control_socket, request.group, request.to)
        except (SidecarRefused, SidecarGone, BadAnswer) as error:
            return str(error) or "the sidecar does not run"
        return ""

    def _handed_over(self, request: Request, refusal: str) -> None:
        self._hands.busy = False
        self._handovers.done(request, refusal)
        outcome = f"was refused: {refusal}" if refusal else "has begun"
        self._log.info(f"the handover that was asked for {outcome}", group=request.group, id=request.id, to=request.to or None)

    # ---- status up --------------------------------------------------------------------------------------------

    def _heard(self, update: Update, now: float) -> None:
        was = self.stats.connected
        try:
            self._reporter.heard_untrusted(update, now)
        except BadAnswer as error:
            self._complain(str(error))
            return
        self.stats.connected = not self._reporter.absent
        if was != self.stats.connected:
            self._log.info("the sidecar answers" if self.stats.connected else "the sidecar does not run")

    def _report(self, now: float) -> None:
        try:
            report = self._reporter.next_untrusted(self._programme, self._handovers.results, write_time(time.time()), now)
        except BadAnswer as error:
            self._complain(str(error))
            return
        if report:
            self._writer.do("written", lambda: (report, reporter.write(self._report_connection, report)))

    def _written(self, report: Report, error: ApiError | None, now: float) -> None:
        self._writer.busy = False
        self._reporter.ended(report, error, now)
        self.stats.reports["failed" if error else "ok"] += 1
        if error is None:
            self._complaint = ""
            self._watcher.hurry()
        elif error.status:
            self._complain(f"the status cannot be written: {error}")

    def _complain(self, sentence: str) -> None:
        """Say it once, not with every attempt."""
        if sentence != self._complaint:
            self._complaint = sentence
            self._log.warning(sentence)
