"""Who gets which VHID and which addresses, when several groups want the same.

What runs goes on running: a group keeps the VHID and the addresses it runs with against everybody. What is new goes to the older
object (creation time, then uid). So the outcome depends on nothing but the objects, and two operators come to the same.
"""

__all__ = ["Claim", "Running", "allocate"]

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from carp_operator.api.group import CarpGroup
from carp_operator.api.reasons import Reason

from .world import Refusal


@dataclass(frozen=True, slots=True)
class Running:
    """What a group has already."""

    vhid: int | None = None
    """It stays reserved while no node can run the group."""
    addresses: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    """Where it runs; empty if it runs nowhere."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one group wants, and where."""

    group: CarpGroup
    networks: frozenset[str]
    running: Running = Running()


def allocate(
    claims: Iterable[Claim], node_addresses: Mapping[str, str], first_vhid: int, last_vhid: int, refused: Mapping[str, Refusal]
) -> dict[str, int | Refusal]:
    """The VHID of each group, or why it gets none.

    ``node_addresses``: nodes by their own addresses. ``refused``: groups against which something else speaks; what they run with
    stays theirs.
    """
    ordered = sorted(claims, key=lambda claim: (claim.group.created, claim.group.uid, claim.group.name))
    addresses = _running_addresses(ordered)
    vhids = _Vhids(ordered)
    result: dict[str, int | Refusal] = {}
    for claim in ordered:
        group = claim.group
        refusal = refused.get(group.name) or _address_refusal(group, addresses, node_addresses)
        outcome = refusal or vhids.take(claim, first_vhid, last_vhid)
        if not isinstance(outcome, Refusal):
            addresses.update(dict.fromkeys(group.hosts, group.name))
        result[group.name] = outcome
    return result


def _running_addresses(ordered: Iterable[Claim]) -> dict[str, str]:
    """Groups by the addresses they run with; the oldest first, should two say the same."""
    running: dict[str, str] = {}
    for claim in ordered:
        for address in claim.running.addresses:
            running.setdefault(address, claim.group.name)
    return running


def _address_refusal(group: CarpGroup, addresses: Mapping[str, str], node_addresses: Mapping[str, str]) -> Refusal | None:
    for address in sorted(group.hosts):
        holder = addresses.get(address)
        if holder not in (None, group.name):
            return Refusal(Reason.ADDRESS_CONFLICT, f"{address} belongs to CarpGroup {holder}; remove it from one of the two")
        if (node := node_addresses.get(address)) is not None:
            return Refusal(
                Reason.NODE_ADDRESS, f"{address} is the own address of node {node}; a virtual address must be one that no host has"
            )
    return None


class _Vhids:
    """Which VHIDs are taken on which network: from the start those that run, then those that ran."""

    def __init__(self, ordered: Iterable[Claim]) -> None:
        self._taken: defaultdict[str, dict[int, str]] = defaultdict(dict)
        had = [(claim, claim.running.vhid) for claim in ordered if claim.running.vhid is not None]
        for claim, vhid in sorted(had, key=lambda item: not item[0].running.networks):
            for network in claim.running.networks or claim.networks:
                self._taken[network].setdefault(vhid, claim.group.name)

    def take(self, claim: Claim, first: int, last: int) -> int | Refusal:
        given, had = claim.group.vhid, claim.running.vhid
        if given and had and given != had:
            message = f"the group runs with VHID {had}, which cannot change to {given}; delete the group and create it anew"
            return Refusal(Reason.VHID_CHANGED, message)
        wanted = given or had
        holder = self._other_holder(claim, wanted) if wanted else None
        if holder and not given and not claim.running.networks:
            wanted = holder = None  # it was only reserved, on a network where it is taken: nobody notices another one
        if wanted is None:
            wanted = next((vhid for vhid in range(first, last + 1) if not self._other_holder(claim, vhid)), None)
        if wanted is None:
            message = (
                f"every VHID from {first} to {last} is taken on {', '.join(sorted(claim.networks))}; "
                "put further addresses into an existing group (it holds 32), or use another network"
            )
            return Refusal(Reason.VHIDS_EXHAUSTED, message)
        if holder:
            shared = ", ".join(sorted(network for network in claim.networks if self._taken[network].get(wanted) == holder))
            cure = "delete one of the two groups and create it anew" if had else "create it anew without vhid to get a free one"
            return Refusal(Reason.VHID_CONFLICT, f"VHID {wanted} belongs to CarpGroup {holder} on {shared}; {cure}")
        for network in claim.networks:
            self._taken[network][wanted] = claim.group.name
        return wanted

    def _other_holder(self, claim: Claim, vhid: int) -> str | None:
        """Another group that has it on a network of the claim."""
        holders = {self._taken[network].get(vhid) for network in claim.networks} - {None, claim.group.name}
        return min(filter(None, holders), default=None)
