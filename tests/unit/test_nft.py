"""The transactions of the gate, against bytes that the nft program itself sends, and what the kernel answers."""

import errno
import struct
from ipaddress import ip_address

from carp_sidecar.kernel.nft import LOWEST_LEASE_MS, Tables, claim, refusals

TABLES = Tables("/var/lib/kubecarp")
V4 = claim(3, ip_address("10.77.0.100"), 500)
V6 = claim(3, ip_address("fd77::64"), 500)


def messages(transaction: bytes) -> list[tuple[int, int, bytes]]:
    """Type, flags and body of each."""
    found, place = [], 0
    while place < len(transaction):
        length, kind, flags, _, _ = struct.unpack_from("=IHHII", transaction, place)
        found.append((kind & 0xFF, flags, transaction[place + 16 : place + length]))
        place += length
    assert place == len(transaction)
    return found


def test_a_transaction_is_bracketed_and_its_last_message_alone_asks_for_an_answer() -> None:
    for transaction in (TABLES.remove, TABLES.build([V4], {500: 400}), TABLES.renew({500: 400}, [V4], [V6])):
        first, *middle, last = messages(transaction)
        assert (first[0], last[0]) == (16, 17), "NFNL_MSG_BATCH_BEGIN and END"
        assert [bool(flags & 0x4) for _, flags, _ in middle] == [False] * (len(middle) - 1) + [True]


def test_an_element_is_what_nft_sends() -> None:
    """``nft add element inet t lease { ip timeout 400ms }``, seen with --debug=mnl (nftables 1.0.6)."""
    expected = bytes.fromhex("1c0001800c00018006000100080000000c0004000000000000000190")
    assert expected in TABLES.renew({500: 400})


def test_a_claim_is_the_interface_and_the_address() -> None:
    assert V4.element == bytes.fromhex("14000180100001800c000100") + struct.pack("=I", 3) + bytes([10, 77, 0, 100])
    assert V6.element.endswith(struct.pack("=I", 3) + ip_address("fd77::64").packed)


def test_ipv4_is_gated_for_arp_as_well() -> None:
    def families(transaction: bytes) -> list[int]:
        return [body[0] for kind, _, body in messages(transaction) if kind == 12 and b"claims" in body]

    assert families(TABLES.renew({}, [V4])) == [1, 3], "NFPROTO_INET and NFPROTO_ARP"
    assert families(TABLES.renew({}, [V6])) == [1]


def test_a_lease_that_would_be_rounded_down_to_none_is_none() -> None:
    """The kernel takes a timeout of 0 ms, or of less than a tick, for no timeout at all."""
    for left_ms in (LOWEST_LEASE_MS - 1, 0, -5):
        assert [kind for kind, _, _ in messages(TABLES.renew({500: left_ms}))[1:-1]] == [14, 14], "both are emptied"


def test_long_lists_are_divided() -> None:
    claims = [claim(3, ip_address("10.0.0.0") + number, 500) for number in range(8160)]
    assert all(len(body) < 1 << 16 for _, _, body in messages(TABLES.build(claims, {500: 400})))


def test_two_sidecars_of_a_host_have_tables_of_their_own() -> None:
    assert TABLES.name != Tables("/srv/other").name
    assert TABLES.name == Tables("/var/lib/kubecarp").name


def test_what_the_kernel_answers() -> None:
    answers = b"".join(struct.pack("=IHHIIi16x", 36, 2, 0, 0, 0, -number) for number in (0, errno.ENOENT))
    assert list(refusals(answers)) == [0, errno.ENOENT]
    assert list(refusals(b"short")) == []
