"""Digests: captured packets, vectors, and the rules of protocol.md 2."""

import hashlib
import hmac
import json
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_protocol.auth import PASSWORD_LENGTH, CompatibleDigest, StrictDigest
from carp_protocol.packet import decode_untrusted
from vectors.pcap import VECTORS, ip_payloads

DATA: dict[str, list[dict[str, Any]]] = json.loads((VECTORS / "vectors.json").read_text())
CAPTURES, SYNTHETIC = DATA["captures"], DATA["synthetic"]
COUNTER = 0x0011223344556677
LINK_LOCAL = IPv6Address("fe80::200:5eff:fe00:101")
GLOBAL = IPv6Address("2001:db8::1")
V4 = IPv4Address("192.0.2.200")


def reference(password: bytes, vhid: int, counter: int, addresses: Iterable[Any], *, lladdr: bytes = b"", nov6ll: bool = False) -> bytes:
    """protocol.md 2.4, verified there on captured packets."""
    message = b"\x02\x01" + lladdr + bytes([vhid])
    for number in sorted({int(a) for a in addresses if a.version == 4}):
        if number not in (0, 0xFFFFFFFF):
            message += struct.pack("!I", number)
    for packed in sorted({int(a).to_bytes(16, "big") for a in addresses if a.version == 6}):
        is_link_local = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
        if packed not in (bytes(16), b"\xff" * 16) and not (nov6ll and is_link_local):
            message += packed
    return hmac.new(password[:19], message + struct.pack("!Q", counter), hashlib.sha1).digest()


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture["pcap"])
def test_every_captured_packet_verifies(capture: dict[str, Any]) -> None:
    digest = CompatibleDigest(capture["password"].encode(), capture["vhid"], map(IPv4Address, capture["v4"]))
    packets = list(ip_payloads(VECTORS / capture["pcap"]))
    assert packets
    for packet in packets:
        header = decode_untrusted(packet)
        assert header.vhid == capture["vhid"]
        assert digest.verify(header.counter, header.digest)
        assert digest.sign(header.counter) == header.digest
        assert not digest.verify(header.counter + 1, header.digest)


@pytest.mark.parametrize("vector", [v for v in SYNTHETIC if "lladdr" not in v], ids=lambda vector: vector["name"])
def test_synthetic_vectors(vector: dict[str, Any]) -> None:
    addresses = [ip_address(text) for text in [*vector["v4"], *vector["v6"]]]
    digest = CompatibleDigest(vector["password"].encode(), vector["vhid"], addresses)
    assert digest.sign(int(vector["counter"], 16)).hex() == vector["md"]


def test_a_custom_openbsd_lladdr_is_not_supported() -> None:
    (vector,) = [v for v in SYNTHETIC if "lladdr" in v]
    digest = CompatibleDigest(b"secret", 1, [V4])
    assert not digest.verify(COUNTER, bytes.fromhex(vector["md"]))
    assert reference(b"secret", 1, COUNTER, [V4], lladdr=bytes.fromhex(vector["lladdr"])).hex() == vector["md"]


ADDRESSES = st.lists(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), st.sampled_from([LINK_LOCAL, V4, IPv6Address(0)])), max_size=6)


@given(st.binary(max_size=25), st.integers(1, 255), st.integers(0, 2**64 - 1), ADDRESSES)
def test_agrees_with_the_reference(password: bytes, vhid: int, counter: int, addresses: list[Any]) -> None:
    digest = CompatibleDigest(password, vhid, addresses)
    original = reference(password, vhid, counter, addresses)
    without = reference(password, vhid, counter, addresses, nov6ll=True)
    assert digest.sign(counter) == original
    assert digest.verify(counter, original)
    assert digest.verify(counter, without)
    assert digest.verify(counter, hmac.digest(password, b"other", "sha1")) is False


def test_order_and_duplicates_do_not_matter() -> None:
    one = CompatibleDigest(b"secret", 1, [V4, IPv4Address("10.0.0.1"), GLOBAL])
    other = CompatibleDigest(b"secret", 1, [GLOBAL, IPv4Address("10.0.0.1"), V4, GLOBAL, V4])
    assert one.sign(1) == other.sign(1)


def test_addresses_sort_as_numbers_not_as_text() -> None:
    digest = CompatibleDigest(b"secret", 1, [IPv4Address("9.0.0.1"), IPv4Address("10.0.0.1")])
    assert digest.sign(1) == reference(b"secret", 1, 1, [IPv4Address("10.0.0.1"), IPv4Address("9.0.0.1")])


@pytest.mark.parametrize("address", ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"])
def test_addresses_that_can_never_be_selected(address: str) -> None:
    assert CompatibleDigest(b"secret", 1, [V4, ip_address(address)]).sign(1) == CompatibleDigest(b"secret", 1, [V4]).sign(1)


def test_link_local_both_forms_are_accepted_and_the_original_is_sent() -> None:
    digest = CompatibleDigest(b"secret", 1, [V4, LINK_LOCAL, GLOBAL])
    assert digest.sign(COUNTER).hex() == "14a01cdd0ad2c1442c12f4a78f6abd2ad1f4319e"
    assert digest.verify(COUNTER, CompatibleDigest(b"secret", 1, [V4, GLOBAL]).sign(COUNTER))
    assert not CompatibleDigest(b"secret", 1, [V4, GLOBAL]).verify(COUNTER, digest.sign(COUNTER))


def test_the_scope_of_a_link_local_address_is_not_hashed() -> None:
    scoped = CompatibleDigest(b"secret", 1, [IPv6Address("fe80::1%eth0")])
    assert scoped.sign(1) == CompatibleDigest(b"secret", 1, [IPv6Address("fe80::1")]).sign(1)


def test_nineteen_bytes_of_a_password_count() -> None:
    full, longer = b"ABCDEFGHIJKLMNOPQRS", b"ABCDEFGHIJKLMNOPQRSTU"
    assert len(full) == PASSWORD_LENGTH
    assert CompatibleDigest(full, 1, [V4]).sign(1) == CompatibleDigest(longer, 1, [V4]).sign(1)
    assert CompatibleDigest(full, 1, [V4]).sign(1) != CompatibleDigest(full[:-1], 1, [V4]).sign(1)


def test_no_password_is_twenty_zero_bytes() -> None:
    assert CompatibleDigest(b"", 1, [V4]).sign(1) == CompatibleDigest(bytes(20), 1, [V4]).sign(1)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=120))
def test_strict_digest_is_hmac_sha256_cut_to_160_bits(key: bytes, message: bytes) -> None:
    digest = StrictDigest(key)
    assert digest.sign(message) == hmac.digest(key, message, "sha256")[:20]
    assert digest.verify(message, digest.sign(message))
    assert not digest.verify(message + b"x", digest.sign(message))
    assert not StrictDigest(key[::-1] + b"x").verify(message, digest.sign(message))
