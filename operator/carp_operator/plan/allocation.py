"""Who gets which VHID and which addresses, when several groups want the same.

What runs goes on running: a group keeps the VHID and the addresses that its status says it has, against everybody. What is
new goes to the older object (creation time, then uid). So the outcome depends on nothing but the objects, and two
operators come to the same.
"""

__all__ = ["Claim", "allocate"]

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from carp_operator.api.group import CarpGroup
from carp_operator.api.reasons import Reason

from .world import Refusal


@dataclass(frozen=True, slots=True)
class Claim:
    """What one group wants, and where."""

    group: CarpGroup
    networks: frozenset[str]


def allocate(
    claims: Iterable[Claim], node_addresses: Mapping[str, str], first_vhid: int, last_vhid: int, refused: Mapping[str, Refusal]
) -> dict[str, int | Refusal]:
    """The VHID of each group, or why it gets none.

    ``node_addresses``: nodes by their own addresses. ``refused``: groups against which something else speaks; what they run
    with stays theirs.
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
        for address in claim.group.status.addresses:
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
    """Which VHIDs are taken on which network; those that run are taken from the start."""

    def __init__(self, ordered: Iterable[Claim]) -> None:
        self._taken: defaultdict[str, dict[int, str]] = defaultdict(dict)
        for claim in ordered:
            vhid = claim.group.status.vhid
            if vhid is not None and self._holder(claim, vhid) is None:
                self._give(claim, vhid)

    def take(self, claim: Claim, first: int, last: int) -> int | Refusal:
        group = claim.group
        running = group.status.vhid
        wanted = group.vhid or running
        if group.vhid and running and group.vhid != running:
            message = f"the group runs with VHID {running}, which cannot change to {group.vhid}; delete the group and create it anew"
            return Refusal(Reason.VHID_CHANGED, message)
        if wanted is None:
            wanted = next((vhid for vhid in range(first, last + 1) if self._holder(claim, vhid) is None), None)
            if wanted is None:
                message = (
                    f"every VHID from {first} to {last} is taken on {', '.join(sorted(claim.networks))}; "
                    "put further addresses into an existing group (it holds 32), or use another network"
                )
                return Refusal(Reason.VHIDS_EXHAUSTED, message)
        holder = self._holder(claim, wanted)
        if holder not in (None, group.name):
            shared = ", ".join(sorted(network for network in claim.networks if wanted in self._taken[network]))
            message = f"VHID {wanted} belongs to CarpGroup {holder} on {shared}; leave vhid out to get a free one"
            return Refusal(Reason.VHID_CONFLICT, message)
        self._give(claim, wanted)
        return wanted

    def _holder(self, claim: Claim, vhid: int) -> str | None:
        """Another group that has it on a network of the claim; else the claimant, if it has it."""
        holders = {self._taken[network].get(vhid) for network in claim.networks} - {None}
        others = sorted(holder for holder in holders if holder and holder != claim.group.name)
        return others[0] if others else next(iter(holders), None)

    def _give(self, claim: Claim, vhid: int) -> None:
        for network in claim.networks:
            self._taken[network][vhid] = claim.group.name
