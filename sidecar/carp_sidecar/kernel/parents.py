"""How an interface answers ARP while virtual MACs are on it, and how it did before.

The settings belong to the macvlans, not to a process: whoever makes the first sets them, whoever removes the last puts them back, and the
mark of each says how they were. So any number of sidecars share an interface, and one that dies costs nothing but its own addresses.
"""

__all__ = ["ParentSettings"]

from collections.abc import Mapping

from carp_sidecar.kernel import rtnl
from carp_sidecar.kernel.links import Link, Links
from carp_sidecar.kernel.marks import ArpSettings, Mark
from carp_sidecar.kernel.rtnl import Sysctl

_NEEDED = ArpSettings(ignore=1, announce=2)


class ParentSettings:
    """Without these settings the interface itself would answer for addresses that belong to a virtual MAC."""

    def __init__(self, snapshot: Links) -> None:
        self._snapshot = snapshot
        self._before: dict[int, ArpSettings] = {}
        self._users: dict[int, set[str]] = {}

    def claim(self, parent: Link, group: str) -> tuple[bytes, ...]:
        """A group of this process needs the interface: the requests, none if they have been made."""
        users = self._users.setdefault(parent.index, set())
        first = not users
        users.add(group)
        if not first:
            return ()
        marks = self._marks_on(parent.index)
        self._before.setdefault(parent.index, marks[0].before if marks else ArpSettings.of(parent))
        return (_request(parent.index, _NEEDED),)

    def before(self, parent: Link) -> ArpSettings:
        """What the mark of a macvlan on that interface says."""
        return self._before.get(parent.index) or ArpSettings.of(parent)

    def remember(self, before: Mapping[int, ArpSettings]) -> None:
        """By interface, from the marks of devices that are about to be removed."""
        self._before |= before

    def changed(self, index: int, link: Link | None) -> tuple[bytes, ...]:
        """The interface changed, or is gone (None): the requests that a claimed one needs anew.

        Another sidecar puts back what it found when it removes its last macvlan and does not see ours yet; so may a person. What
        they wrote is how the interface shall be afterwards.
        """
        if link is None:
            self._before.pop(index, None)
            self._users.pop(index, None)
            return ()
        seen = ArpSettings.of(link)
        if not self._users.get(index) or seen == _NEEDED:
            return ()
        pairs = zip(seen, _NEEDED, self._before[index], strict=True)
        self._before[index] = ArpSettings(*(known if now == needed else now for now, needed, known in pairs))
        return (_request(index, _NEEDED),)

    def yield_back(self, index: int, group: str) -> None:
        """A group is done with the interface and its macvlan is removed; ``put_back`` follows."""
        self._users.get(index, set()).discard(group)

    def put_back(self) -> tuple[bytes, ...]:
        """The requests for every interface that no group of this process needs, unless a macvlan that is left there says the same.

        One that says otherwise was made by a sidecar that came just after our last macvlan had gone, and took what we had set for
        the host's own. It notices the request, knows better from then on, and sets anew what it needs.
        """
        idle = {index: before for index, before in self._before.items() if not self._users.get(index)}
        for index in idle:
            del self._before[index]
        known = ((index, before, [mark.before for mark in self._marks_on(index)]) for index, before in idle.items())
        return tuple(_request(index, before) for index, before, told in known if before not in told)

    def _marks_on(self, index: int) -> list[Mark]:
        marks = (Mark.read(link.alias) for link in self._snapshot if link.parent == index and link.kind == "macvlan")
        return [mark for mark in marks if mark]


def _request(index: int, settings: ArpSettings) -> bytes:
    return rtnl.encode_device_sysctls(index, {Sysctl.ARP_IGNORE: settings.ignore, Sysctl.ARP_ANNOUNCE: settings.announce})
