"""Follows the one CarpNode of this node: list, watch, and again, for as long as the process lives, through outages of any length.

Knows what is definite: an object seen, or an answer that says there is none. An API server that does not answer says nothing.
"""

from __future__ import annotations

__all__ = ["Listener", "Watcher"]

import threading
import time

from carp_agent.backoff import Backoff, jittered
from carp_agent.carpnode import PATH, CarpNode, parse_event_untrusted, parse_list_untrusted
from carp_agent.errors import ApiError, BadAnswer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from carp_agent.kubeapi import Connection
    from carp_agent.logs import Log
else:
    Protocol = object

_WATCH_S = 240
"""Seconds after which the server ends a watch: a silent way to lose one costs no more. client-go uses 300 to 600."""
_SILENCE_S = 255.0
"""Longer than the server lets a watch live."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 30.0
_UNREACHABLE_WAIT_S = 3.0
"""Seconds between attempts while nobody listens: they cost the API server nothing, and its return is seen soon."""
_EXPIRED = 410
_GOOD_WATCH_S = 5.0
"""A watch that lived as long was a success; the next wait is a short one again."""


class Listener(Protocol):
    """Who is told; called in the watcher's thread."""

    def found(self, node: CarpNode) -> None:
        """The object as it is now."""

    def missing(self) -> None:
        """The API server says that there is no such object."""

    def reached(self) -> None:
        """The API server answers."""


class Watcher:
    """``run`` it in a thread of its own."""

    def __init__(self, connection: Connection, node: str, listener: Listener, log: Log) -> None:
        self._connection = connection
        self._node = node
        self._listener = listener
        self._log = log
        self._backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        self._version = ""
        self._complaint = ""
        self._hurry = threading.Event()
        self._ended = threading.Event()

    def run(self) -> None:
        """Until ``end``."""
        try:
            while not self._ended.is_set():
                wait_s = self.once()
                self._hurry.clear()  # what was said during a watch says nothing of now
                if not self._ended.is_set():
                    self._hurry.wait(wait_s)
        finally:
            self._connection.close()

    def end(self) -> None:
        """After the watch that is open now."""
        self._ended.set()
        self._hurry.set()

    def hurry(self) -> None:
        """The API server answers somebody else: do not wait for the end of a long backoff."""
        self._hurry.set()

    def once(self) -> float:
        """List if need be and watch until that ends; the seconds to wait before the next time."""
        began = time.monotonic()
        try:
            if not self._version:
                self._list()
            began = time.monotonic()
            self._watch()
        except (ApiError, BadAnswer) as error:
            return self._failed(error, time.monotonic() - began)
        self._backoff.reset()
        return 0.0 if time.monotonic() - began >= _GOOD_WATCH_S else jittered(_FIRST_WAIT_S)

    def _failed(self, error: ApiError | BadAnswer, lived_s: float) -> float:
        self._connection.close()
        if lived_s >= _GOOD_WATCH_S:
            self._backoff.reset()
        if isinstance(error, BadAnswer):
            self._version = ""
            self._complain(f"the API server sent something that cannot be read: {error}")
            return self._backoff.next_s()
        if error.status:
            self._version = ""
        if error.status in {403, 404}:
            self._complain(f"the CarpNode cannot be read: {error}")
        wait_s = self._backoff.next_s(longest_s=_UNREACHABLE_WAIT_S if error.unreachable else None)
        return max(wait_s, min(error.retry_after_s, _LONGEST_WAIT_S))

    def _complain(self, sentence: str) -> None:
        """Say it once, not with every attempt."""
        if sentence != self._complaint:
            self._complaint = sentence
            self._log.warning(sentence)

    def _list(self) -> None:
        data = self._connection.request("GET", f"{PATH}?fieldSelector=metadata.name%3D{self._node}")
        node, self._version = parse_list_untrusted(data, self._node)
        self._complaint = ""
        self._listener.reached()
        self._tell(node)

    def _watch(self) -> None:
        """Until the server ends it; then the next time lists again, so that nothing that was missed stays missed."""
        query = f"watch=1&fieldSelector=metadata.name%3D{self._node}&resourceVersion={self._version}"
        path = f"{PATH}?{query}&allowWatchBookmarks=true&timeoutSeconds={_WATCH_S}"
        try:
            lines = self._connection.stream(path, silence_s=_SILENCE_S)
            self._listener.reached()
            for line in lines:
                event = parse_event_untrusted(line, self._node)
                if event.expired:
                    self._connection.close()
                    break
                self._version = event.version
                if not event.bookmark:
                    self._tell(event.node)
        except ApiError as error:
            if error.status != _EXPIRED:
                raise
        self._version = ""

    def _tell(self, node: CarpNode | None) -> None:
        if node is None:
            self._listener.missing()
        else:
            self._listener.found(node)
