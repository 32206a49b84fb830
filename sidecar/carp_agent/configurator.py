"""Makes the sidecar run what the CarpNode says: fetches keys, writes the file, has it read. One job of a worker; nothing runs beside it.

The file is what the sidecar starts from when nobody else can tell it anything, so it always holds what the sidecar accepted last.
"""

from __future__ import annotations

__all__ = ["Configurator", "Outcome"]

from carp_agent import files, sidecar
from carp_agent.document import Settings, keys_named_untrusted, read_ring_untrusted, render_untrusted
from carp_agent.errors import ApiError, BadAnswer, BadNode, SidecarGone, SidecarRefused
from carp_agent.times import read_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from carp_agent.carpnode import CarpNode
    from carp_agent.kubeapi import Connection


class Outcome:
    """What came of one attempt. Without problems the sidecar runs the version, or will from its start on."""

    __slots__ = ("problems", "refused", "reloaded")

    def __init__(self, *problems: str, reloaded: bool = False, refused: bool = False) -> None:
        self.problems = problems
        self.reloaded = reloaded
        self.refused = refused
        """The sidecar said no: the same again would hear the same, unless a key was mended."""


class Configurator:
    """Holds the keys, in memory only."""

    def __init__(self, connection: Connection, namespace: str, settings: Settings, path: str, control_socket: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._settings = settings
        self._path = path
        self._control_socket = control_socket
        self._rings: dict[str, dict[str, str]] = {}
        self._uid = ""

    def apply(self, node: CarpNode | None, running: Mapping[str, Any] | None) -> Outcome:
        """Once; ``node`` None: no group shall run. ``running``: ``config`` of the sidecar's status, None if there is no sidecar."""
        try:
            self._fetch(node)
            data = render_untrusted(node, self._rings, self._settings)
        except (ApiError, BadNode) as error:
            return Outcome(str(error))
        before = files.read(self._path)
        if data != before:
            try:
                files.replace(self._path, data)
            except OSError as error:
                return Outcome(f"{self._path} cannot be written: {error.strerror}; the sidecar makes its folder when it starts")
        elif running is None or not self._is_behind(node, running):
            return Outcome()
        outcome = self._reload()
        if outcome.refused:
            self._rings.clear()
            self._put_back(before)
        if data != before:
            files.sync_folder(self._path)
        return outcome

    def _fetch(self, node: CarpNode | None) -> None:
        """Ask for the Secrets of which a key is needed that is not known; forget those that nobody names."""
        wanted = keys_named_untrusted(node) if node else {}
        if node and node.uid != self._uid:
            self._rings.clear()
            self._uid = node.uid
        self._rings = {secret: keys for secret, keys in self._rings.items() if secret in wanted}
        for secret, names in wanted.items():
            if not names <= self._rings.get(secret, {}).keys():
                try:
                    data = self._connection.request("GET", f"/api/v1/namespaces/{self._namespace}/secrets/{secret}")
                except ApiError as error:
                    if error.status == 404:
                        raise BadNode(f"Secret {secret} does not exist in namespace {self._namespace}; the operator makes it") from error
                    raise ApiError(f"Secret {secret} cannot be read: {error}", status=error.status) from error
                self._rings[secret] = read_ring_untrusted(data, secret)

    def _is_behind(self, node: CarpNode | None, running: Mapping[str, Any]) -> bool:
        """Whether the sidecar runs something else than the file: another generation, or what it read before the file was replaced."""
        loaded = read_time(running.get("loaded"))
        return running.get("generation") != (node.generation if node else 0) or loaded is None or loaded < files.written_at(self._path)

    def _reload(self) -> Outcome:
        try:
            sidecar.reload(self._control_socket)
        except SidecarRefused as error:
            return Outcome(*error.problems, refused=True)
        except (SidecarGone, BadAnswer) as error:
            return Outcome(str(error)) if str(error) else Outcome()
        return Outcome(reloaded=True)

    def _put_back(self, before: bytes | None) -> None:
        """What was refused must not be what the sidecar starts from."""
        try:
            if before is None:
                files.remove(self._path)
            else:
                files.replace(self._path, before)
        except OSError:
            return  # the sidecar that runs is not touched by it
