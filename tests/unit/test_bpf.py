"""The filters of adverts and claims, run by the kernel on a pair of sockets: how many addresses there are makes no difference."""

import socket
import struct
from ipaddress import ip_address

import pytest

from carp_sidecar.kernel.bpf import MATCHED_ADDRESSES, advert_filter, attach, claim_filter

MAC = bytes.fromhex("020000000001")
OTHER_MAC = bytes.fromhex("0200000000ff")
STRANGERS = ["10.77.9.9", "fd77:9::9"]
MIXES = pytest.mark.parametrize("ipv4, ipv6", [(0, 0), (1, 1), (MATCHED_ADDRESSES, 0), (0, MATCHED_ADDRESSES), (40, 8), (12, 50)])


def addresses(ipv4: int, ipv6: int) -> list[str]:
    return [f"10.77.1.{number}" for number in range(ipv4)] + [f"fd77::{number + 1:x}" for number in range(ipv6)]


def passing(program: bytes, frames: list[bytes]) -> list[bytes]:
    """Those of the frames that the kernel lets through."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        attach(ours, program)
        ours.setblocking(False)
        through = []
        for frame in frames:
            theirs.send(frame)
            try:
                through.append(ours.recv(2048))
            except BlockingIOError:
                continue
        return through


def advert(source: str, protocol: int = 112) -> bytes:
    address = ip_address(source)
    if address.version == 4:
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 56, 0, 0, 255, protocol, 0, address.packed, bytes([224, 0, 0, 18]))
        return bytes(12) + b"\x08\x00" + header + bytes(36)
    header = struct.pack("!IHBB16s16s", 6 << 28, 36, protocol, 255, address.packed, bytes(16))
    return bytes(12) + b"\x86\xdd" + header + bytes(36)


def claim(claimed: str, to: bytes = OTHER_MAC) -> bytes:
    """An ARP request of somebody who says that he has the address, or a neighbour advertisement of it."""
    address = ip_address(claimed)
    if address.version == 4:
        return (
            to + OTHER_MAC + b"\x08\x06" + struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, OTHER_MAC, address.packed, bytes(6), bytes(4))
        )
    header = struct.pack("!IHBB16s16s", 6 << 28, 24, 58, 255, bytes(16), bytes(16))
    return to + OTHER_MAC + b"\x86\xdd" + header + struct.pack("!BBHI16s", 136, 0, 0, 0, address.packed)


@MIXES
def test_adverts_go_to_the_queue_of_their_source(ipv4: int, ipv6: int) -> None:
    known = addresses(ipv4, ipv6)
    theirs, others = [advert(source) for source in known], [advert(source) for source in STRANGERS]
    noise = [advert(source, protocol=17) for source in [*known, *STRANGERS]]
    assert passing(advert_filter(known, among=True), theirs + others + noise) == theirs
    assert passing(advert_filter(known, among=False), theirs + others + noise) == others


@MIXES
def test_claims_of_every_watched_address_pass_and_no_others(ipv4: int, ipv6: int) -> None:
    watched = addresses(ipv4, ipv6)
    theirs, others = [claim(address) for address in watched], [claim(address) for address in STRANGERS]
    assert passing(claim_filter(MAC, watched), theirs + others + [advert(address) for address in watched]) == theirs
    answer = claim(STRANGERS[1], to=MAC)
    assert passing(claim_filter(MAC, watched), [answer]) == [answer], "what answers a question of ours passes"


def test_of_more_than_a_filter_can_hold_every_advertisement_passes() -> None:
    watched = addresses(40, 40)
    frames = [claim(watched[-1]), claim(STRANGERS[1]), claim(STRANGERS[0])]
    assert passing(claim_filter(MAC, watched), frames) == frames[:2]
