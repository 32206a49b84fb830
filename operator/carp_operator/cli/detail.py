"""The picture that ``describe`` shows: one group, fact by fact. Pure."""

__all__ = ["Detail", "capture_command", "detail_picture"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface

from rich.console import RenderableType
from rich.text import Text

from carp_operator.api.node import Node
from carp_operator.api.reasons import ConditionType
from carp_protocol.config import PeerMode

from .rotation_steps import Phase, Rotation
from .screen import facts, prose, sentences, styled
from .seen import ConditionSeen, EventSeen, GroupSeen, MemberSeen
from .verdicts import Finding, Level
from .views import LEVEL_STYLES
from .words import age, count, listed

_BAD_WHEN_TRUE = {ConditionType.DEGRADED, ConditionType.SPLIT_BRAIN}
_ANSWERS = {"True": "yes", "False": "no"}
_SHOWN_EVENTS = 8
_STATE_STYLES = {"Master": "green", "Unknown": "yellow", "Init": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """What is known of one group."""

    group: GroupSeen
    findings: tuple[Finding, ...]
    events: tuple[EventSeen, ...]
    rotation: Rotation | None
    nodes: Mapping[str, Node]


def detail_picture(detail: Detail, now: float) -> list[RenderableType]:
    """Facts, members, conditions, Events, and how to see it on the wire."""
    group = detail.group
    picture: list[RenderableType] = [facts(_facts(detail, now))]
    if detail.findings:
        picture += [
            Text(),
            Text("What to look at:"),
            sentences((f"  {f.word}", f.sentence, LEVEL_STYLES[f.level]) for f in detail.findings),
        ]
    if group.members:
        title = f"Members, the best first ({group.ready_count} of {group.member_count} could have the addresses):"
        headers = ("  NODE", "STATE", "FOR", "PRIORITY", "DEMOTION", "INTERFACE", "WHY")
        picture += [Text(), Text(title), prose(headers, (_member(member, detail, now) for member in group.members))]
        if len(group.members) < group.member_count:
            picture.append(Text(f"  and {group.member_count - len(group.members)} more"))
    if group.conditions:
        picture += [
            Text(),
            Text("Conditions:"),
            prose(("  TYPE", "IS", "FOR", "REASON"), (_condition(c, now) for c in group.conditions.values())),
        ]
    shown = detail.events[-_SHOWN_EVENTS:]
    if shown:
        title = "Events:" if len(shown) == len(detail.events) else f"Events (the last {len(shown)} of {len(detail.events)}):"
        told = ((f"  {age(e.time, now) or '-'} ago", f"{e.reason}: {e.note}", "yellow" if e.warning else "") for e in shown)
        picture += [Text(), Text(title), sentences(told)]
    if (capture := capture_command(group)) is not None:
        picture += [Text(), Text("See its adverts, on a member:"), Text(f"  {capture}")]
    return picture


def _facts(detail: Detail, now: float) -> Iterator[tuple[str, str]]:
    group = detail.group
    yield "Group", f"{group.name} (VHID {group.vhid})" if group.vhid else group.name
    for address in group.addresses:
        yield "Addresses", address
    yield "Master", _master(group, now)
    yield "Next", group.next or "nobody: no other member could take over"
    yield "Mode", f"{group.mode.value}, an advert every {group.interval}, {_peers(group)}"
    yield "MAC", f"00:00:5e:00:01:{group.vhid:02x}" if group.virtual_mac and group.vhid else "virtual" if group.virtual_mac else "physical"
    yield (
        "Preemption",
        "a better member takes the addresses back" if group.preempts else "a member that comes back leaves them where they are",
    )
    yield "On cordon", "stays on the node" if group.keeps_on_cordon else "hands over"
    if group.health_checks:
        yield "Checks", listed(group.health_checks)
    yield "Key", _key(group, detail.rotation)
    yield "Transitions", count(group.transitions, "change of the master", "changes of the master")


def _master(group: GroupSeen, now: float) -> str:
    if not group.master:
        return "nobody has the addresses"
    where = f" on {group.interface}" if group.interface else ""
    since = f", for {age(group.since, now)} (since {group.since})" if group.since else ""
    return f"{group.master}{where}{since}"


def _peers(group: GroupSeen) -> str:
    return "to each member (unicast)" if group.peer_mode is PeerMode.UNICAST else "multicast"


def _key(group: GroupSeen, rotation: Rotation | None) -> str:
    source = f"from your Secret {group.secret}" if group.secret else "made by the operator"
    if rotation is None or rotation.settled:
        return source
    what = {
        Phase.ACCEPT: "is being replaced, step accept (1 of 3)",
        Phase.SEND: "is being replaced, step send (2 of 3)",
        Phase.SETTLED: "the newest order is not everywhere yet",
    }[rotation.phase]
    return f"{source}; {what}{f', waiting for {listed(rotation.waiting)}' if rotation.waiting else ''}"


def _member(member: MemberSeen, detail: Detail, now: float) -> list[object]:
    style = _STATE_STYLES.get(member.state, "")
    node = detail.nodes.get(member.node)
    standing = [word for word, true in (("maintenance", node and node.maintenance), ("cordoned", node and node.cordoned)) if true]
    why = "; ".join(filter(None, (member.reason, member.message, ", ".join(standing))))
    return [
        f"  {member.node}",
        styled(member.state, style if member.ready else "yellow"),
        age(member.since, now),
        member.priority,
        member.demotion,
        member.interface,
        styled(why, "" if member.ready else "yellow"),
    ]


def _condition(condition: ConditionSeen, now: float) -> list[object]:
    bad = condition.status == ("True" if condition.type in _BAD_WHEN_TRUE else "False")
    style = LEVEL_STYLES[Level.LOOK] if bad else ""
    said = f"{condition.reason}: {condition.message}" if condition.message else condition.reason
    return [f"  {condition.type}", styled(_ANSWERS.get(condition.status, "unknown"), style), age(condition.since, now), said]


def capture_command(group: GroupSeen) -> str | None:
    """A tcpdump command that shows the adverts of this group and of no other; None while it has no VHID.

    ``-T carp``, because tcpdump takes IP protocol 112 for VRRP. The VHID is the second byte behind the IP header.
    """
    if not group.vhid:
        return None
    versions = {ip_interface(address).version for address in group.addresses}
    filters = {4: f"ip proto 112 and ip[21] = {group.vhid}", 6: f"ip6 proto 112 and ip6[41] = {group.vhid}"}
    wanted = [filters[version] for version in sorted(versions)]
    expression = wanted[0] if len(wanted) == 1 else " or ".join(f"({one})" for one in wanted)
    return f"tcpdump -nvi {group.interface or 'any'} -T carp '{expression}'"
