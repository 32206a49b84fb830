"""From what the sidecar says to the status of the CarpNode. Pure; time is an argument.

Only what a person or the operator would want to know of stays: no ages, no counters of packets. The same state of affairs gives the same
report, so that nothing is written without a change.
"""

from __future__ import annotations

__all__ = ["Memory", "Picture", "build_untrusted"]

from carp_agent.errors import BadAnswer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Entry = dict[str, Any]

_STATES = {"INIT": "Init", "BACKUP": "Backup", "MASTER": "Master", "HANDOVER": "Handover"}
_INTERFACE_STATES = {"up": "Up", "down": "Down", "missing": "Missing"}
_FORGED = "bad-digest"
"""The reason of a rejected advert that speaks of another key. Not ``replay``: a network that doubles packets makes those too."""
_REMEMBERED_S = 60.0
"""Seconds for which a forged advert, or a stranger who answers for an address, is told after it was last seen."""
_GONE = "sidecar-gone"
"""The reason of groups that nobody runs."""

_MAX_GROUPS, _MAX_INTERFACES, _MAX_ADDRESSES, _MAX_OWN_ADDRESSES = 1024, 64, 32, 64
_MAX_PROBLEMS, _MAX_REASONS, _MAX_CHECKS, _MAX_WARNINGS = 32, 32, 8, 16
_SENTENCE, _WORD, _NAME, _SHORT = 1024, 64, 63, 32
"""Bounds of the schema of CarpNode: a report beyond one of them would be refused as a whole."""


class Picture:
    """What a report is made from, beside the report before it."""

    __slots__ = ("agent_version", "document", "generation", "handovers", "problems", "time", "versions")

    def __init__(
        self,
        document: Mapping[str, Any] | None,
        *,
        time: str,
        agent_version: str,
        generation: int = 0,
        problems: Iterable[str] = (),
        versions: Mapping[str, str] | None = None,
        handovers: Mapping[str, Entry] | None = None,
    ) -> None:
        self.document = document
        """The status document of the sidecar; None: it does not run."""
        self.time = time
        """Now, RFC 3339."""
        self.agent_version = agent_version
        self.generation = generation
        """What the sidecar runs; 0: not known to be of this CarpNode."""
        self.problems = tuple(problems)
        self.versions = versions or {}
        """By group: the version of its entry in the spec that runs."""
        self.handovers = handovers or {}
        """By group: the last one that was asked for, and its result."""


class Memory:
    """What is worth telling for a minute after it was seen."""

    def __init__(self) -> None:
        self._forged: dict[str, tuple[int, float | None]] = {}
        self._conflicts: dict[str, tuple[str, str, float]] = {}

    def observe_untrusted(self, document: Mapping[str, Any], conflicts: Mapping[str, tuple[str, str, float]], now: float) -> None:
        """Compare the counters with those before; ``conflicts`` by group: MAC, time, and when it was seen last. Raises BadAnswer."""
        try:
            self._compare(document, now)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unreadable(error) from error
        for name, (mac, time, seen) in conflicts.items():
            known = self._conflicts.get(name)
            first = known[1] if known and known[0] == mac and seen - known[2] < _REMEMBERED_S else time
            self._conflicts[name] = (mac, first, seen)
        self._conflicts = {name: known for name, known in self._conflicts.items() if now - known[2] < _REMEMBERED_S}

    def _compare(self, document: Mapping[str, Any], now: float) -> None:
        forged = {}
        for group in document["groups"]:
            name, count = group["name"], int(group["adverts"]["rejected"].get(_FORGED, 0))
            before, at = self._forged.get(name, (count, None))
            grown = count > before or 0 < count < before  # fewer: the sidecar was started anew
            forged[name] = (count, now if grown else at)
        self._forged = forged

    def forged(self, name: str, now: float) -> bool:
        """Whether an advert with another key was heard during the last minute."""
        at = self._forged.get(name, (0, None))[1]
        return at is not None and now - at < _REMEMBERED_S

    def conflict(self, name: str, now: float) -> tuple[str, str] | None:
        """Who answered for an address of the group during the last minute: MAC, and since when."""
        known = self._conflicts.get(name)
        return (known[0], known[1]) if known and now - known[2] < _REMEMBERED_S else None


def build_untrusted(picture: Picture, previous: Mapping[str, Any], memory: Memory, now: float) -> Entry:
    """The whole status. ``previous`` is the one before, and whatever somebody may have made of it. Raises BadAnswer."""
    known = _by_name(previous.get("groups"))
    sidecar: Entry = {"running": False}
    try:
        document = picture.document
        if document is None:
            groups = [_without_sidecar(entry, picture) for entry in known.values()]
            interfaces = _list(previous.get("interfaces"))
        else:
            same_run = _dict(previous.get("sidecar")).get("started") == document["started"]
            found = document["groups"][:_MAX_GROUPS]
            groups = [_group(group, known.get(group["name"], {}) if same_run else {}, picture, memory, now) for group in found]
            interfaces = [_interface(entry) for entry in document.get("interfaces", ())[:_MAX_INTERFACES]]
            sidecar = {"running": True, "version": _text(document["version"], _SHORT), "started": document["started"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(error) from error
    status: Entry = {"agent": {"version": picture.agent_version}, "sidecar": sidecar, "interfaces": interfaces, "groups": groups}
    if picture.generation:
        status["observedGeneration"] = picture.generation
    if picture.problems:
        status["problems"] = [_text(problem, _SENTENCE) for problem in picture.problems[:_MAX_PROBLEMS]]
    return status


def _unreadable(error: Exception) -> BadAnswer:
    return BadAnswer(f"the status of the sidecar cannot be read ({type(error).__name__})")


def _without_sidecar(before: Mapping[str, Any], picture: Picture) -> Entry:
    """A group that nobody runs: what it was is not true any more."""
    entry: Entry = {key: before[key] for key in ("name", "version", "vhid") if key in before}
    stays = before.get("state") == "Init"
    entry |= {"state": "Init", "since": before.get("since", picture.time) if stays else picture.time}
    entry["reason"] = before.get("reason", _GONE) if stays else _GONE
    entry["addresses"] = [{**address, "held": False} for address in _list(before.get("addresses")) if isinstance(address, dict)]
    return _with_handover(entry, picture)


def _group(group: Mapping[str, Any], before: Mapping[str, Any], picture: Picture, memory: Memory, now: float) -> Entry:
    name = _text(group["name"], _NAME)
    state, transitions = _STATES[group["state"]], int(group["transitions"])
    stays = before.get("state") == state and before.get("transitions") == transitions and "since" in before
    entry: Entry = {
        "name": name,
        "vhid": group["vhid"],
        "state": state,
        "since": before["since"] if stays else group["since"],
        "reason": _text(group["reason"], _WORD),
        "interfaceState": _INTERFACE_STATES[group["interface_state"]],
        "advskew": group["advskew"],
        "demotion": _demotion(group["demotion"]),
        "addresses": [{"address": one["address"], "held": bool(one["held"])} for one in group["addresses"][:_MAX_ADDRESSES]],
        "mastersSeen": min(int(group["masters_seen"]), 255),
        "transitions": transitions,
        "splitBrains": int(group["split_brains"]),
    }
    if name in picture.versions:
        entry["version"] = picture.versions[name]
    if group["interface"]:
        entry["interface"] = _text(group["interface"], 15)
    if source := group.get("source"):  # a sidecar of an earlier release says nothing of it
        entry["source"] = _text(source, _WORD)
    if master := group["master"]:
        entry["master"] = {"source": _text(master["source"], _WORD), "local": bool(master["local"])}
    if memory.forged(name, now):
        entry["authenticationFailed"] = True
    if conflict := memory.conflict(name, now):
        entry["addressConflict"] = {"mac": _text(conflict[0], _SHORT), "at": conflict[1]}
    if checks := group["health_checks"]:
        entry["healthChecks"] = [_check(check) for check in checks[:_MAX_CHECKS]]
    if fence := group.get("fence"):  # a sidecar of an earlier release says nothing of it
        entry["fence"] = {"active": _text(fence["active"], 8)} | ({"reason": _text(fence["reason"], _SENTENCE)} if fence["reason"] else {})
    if warnings := group["warnings"]:
        entry["warnings"] = [_text(warning, _SENTENCE) for warning in warnings[:_MAX_WARNINGS]]
    return _with_handover(entry, picture)


def _with_handover(entry: Entry, picture: Picture) -> Entry:
    handover = picture.handovers.get(entry["name"])
    return entry | {"handover": handover} if handover else entry


def _demotion(demotion: Mapping[str, Any]) -> Entry:
    reasons = []
    for reason in demotion["reasons"][:_MAX_REASONS]:
        shown: Entry = {"name": _text(reason["name"], 128)}
        if reason["amount"] is not None:
            shown["amount"] = int(reason["amount"])
        reasons.append(shown)
    return {"total": int(demotion["total"]), "excluded": bool(demotion["excluded"]), "reasons": reasons}


def _check(check: Mapping[str, Any]) -> Entry:
    shown: Entry = {"name": _text(check["name"], _NAME)}
    if check["passing"] is not None:
        shown["passing"] = bool(check["passing"])
    if check["passing"] is False:
        shown["message"] = _text(check["message"], _SENTENCE)
    return shown


def _interface(entry: Mapping[str, Any]) -> Entry:
    addresses = [_text(address, 49) for address in entry["addresses"][:_MAX_OWN_ADDRESSES]]
    return {"name": _text(entry["name"], 15), "state": _INTERFACE_STATES[entry["state"]], "addresses": addresses}


def _text(value: object, limit: int) -> str:
    return str(value)[:limit]


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _by_name(value: object) -> dict[str, Mapping[str, Any]]:
    """The entries of a list by their names."""
    return {entry["name"]: entry for entry in _list(value) if isinstance(entry, dict) and isinstance(entry.get("name"), str)}
