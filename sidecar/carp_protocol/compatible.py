"""Compatible adverts: what OpenBSD, FreeBSD, NetBSD and ucarp send and accept (protocol.md 1.4, 2, 8).

Nothing protects against replays here, and advskew is not signed: carp(4) is so, and the documentation says so.
"""

__all__ = ["CompatibleCodec"]

from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface

from .auth import CompatibleDigest
from .config import GroupConfig
from .election import Standing
from .errors import BadPacket
from .heard import Heard, Kind, Origin, Trust
from .packet import BOW_OUT, Header, decode_untrusted, looks_like_vrrp_untrusted

_ROLLOUT_S = 600.0
"""How long the digest of the former address list is believed after a change: the time to change every member by hand."""
_FORMER_LISTS = 3
"""A roll-out in steps: so many changes of the address list may be on their way at once."""
_ECHOES_KEPT = 16
_NO_ADDRESS = ("0.0.0.0", "::")

_Addresses = tuple[IPv4Interface | IPv6Interface, ...]


class CompatibleCodec:
    """Signs and verifies the adverts of one group."""

    def __init__(self, config: GroupConfig, random_bits: Callable[[int], int]) -> None:
        self._random_bits = random_bits
        self._counter: int | None = None
        """None until a peer is heard: carp(4) then sends a new random counter with every packet."""
        self._sent: deque[bytes] = deque(maxlen=_ECHOES_KEPT)
        self._addresses: list[_Addresses] = [config.addresses]
        self._former_until = 0.0
        self._said: Header | None = None
        self._use(config)

    def _use(self, config: GroupConfig) -> None:
        keys = dict.fromkeys([config.authentication.key, *config.authentication.accept])
        self._vhid = config.vhid
        self._digests, *former = (
            [CompatibleDigest(key, config.vhid, [interface.ip for interface in addresses]) for key in keys] for addresses in self._addresses
        )
        self._former = [digest for digests in former for digest in digests]
        self._former_signers = [digests[0] for digests in former]

    def reconfigure(self, config: GroupConfig, now: float) -> None:
        """Use another key or address list; former lists stay in use while the change reaches the other members, former keys do not."""
        if config.addresses != self._addresses[0]:
            believed = self._addresses if now < self._former_until else self._addresses[:1]
            self._addresses = [config.addresses, *believed][: _FORMER_LISTS + 1]
            self._former_until = now + _ROLLOUT_S
        self._use(config)

    def advert(self, standing: Standing, master_for_s: float, now: float) -> bytes:  # noqa: ARG002 - Strict says more
        """A master's advert; carp(4) has no field for how long it has been one."""
        return self._encode(standing.advskew, standing.advbase, standing.demotion)

    def bow_out(self, standing: Standing, successor_id: int = 0) -> bytes:  # noqa: ARG002 - Strict says more
        """Say goodbye; carp(4) has no field for a wish."""
        return self._encode(BOW_OUT, BOW_OUT, standing.demotion)

    def farewell(self, standing: Standing) -> bytes:
        """A bow-out signed ahead for a process that may die without a word."""
        return self._encode(BOW_OUT, BOW_OUT, standing.demotion)

    def _encode(self, advskew: int, advbase: int, demotion: int) -> bytes:
        counter = self._random_bits(64) if self._counter is None else (self._counter + 1) % 2**64
        if self._counter is not None:
            self._counter = counter
        self._said = Header(self._vhid, advskew, advbase, demotion, counter)
        return self._signed(self._said, self._digests[0])

    def repeat(self, now: float) -> list[bytes]:
        """What was said last, for members that a change of the address list has not reached: they believe the former list only."""
        return [self._signed(self._said, digest) for digest in self._former_signers] if self._said and now < self._former_until else []

    def _signed(self, header: Header, digest: CompatibleDigest) -> bytes:
        packet = header._replace(digest=digest.sign(header.counter)).encode()
        self._sent.append(packet)
        return packet

    def receive_untrusted(self, data: bytes, origin: Origin, now: float) -> Heard:
        """A verified advert of another member. Raises BadPacket: those of the header, vhid, bad-digest, echo or twin.

        A packet from our own address, or from none, is an echo if we sent it, and from our own a misconfigured twin
        otherwise; the same bytes from another host are an equal peer that adopted our counter (protocol.md 8, rule 5).
        """
        if (origin.own_address or origin.source in _NO_ADDRESS) and data in self._sent:
            raise BadPacket("echo", origin.source)
        if origin.own_address:
            raise BadPacket("twin", origin.source)
        header = decode_untrusted(data, source=origin.source, destination=origin.destination)
        if header.vhid != self._vhid:
            raise BadPacket("vhid", str(header.vhid))
        believed = self._digests if now >= self._former_until else [*self._digests, *self._former]
        if not any(digest.verify(header.counter, header.digest) for digest in believed):
            raise BadPacket("vrrp" if looks_like_vrrp_untrusted(data) else "bad-digest")
        self._counter = header.counter
        standing = Standing(header.advbase, header.advskew, header.demotion)
        return Heard(Kind.ADVERT, Trust.FRESH, standing, float(header.advbase))
