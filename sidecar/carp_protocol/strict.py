"""Strict adverts: the CARP header, then a 56-byte extension, one digest over both (design.md 4).

Freshness. A sender's counter must grow. Of a sender that is not on record (it or we restarted) nothing is believed
until it has answered a challenge: 64 random bits that come back in a signed packet. So replays change nothing, also
after everybody restarted, and nothing has to be stored about peers. An answer also tells the challenger the last counter
on record of it, so a member whose epoch fell behind jumps past it: nobody is locked out.
"""

__all__ = ["Extension", "Peer", "StrictCodec"]

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .auth import StrictDigest
from .config import GroupConfig
from .counter import Budgets, Counter, Identity
from .election import Standing
from .errors import BadPacket
from .heard import Heard, Kind, MasterSeen, Origin, Trust
from .packet import BOW_OUT, HEADER_LENGTH, Header, decode_untrusted, looks_like_vrrp_untrusted, signed_part, with_digest

_LAYOUT = struct.Struct("!BBxxIQIIQQQQ")
_VERSION = 1
_KINDS = {kind.value: kind for kind in Kind}
_MAX_PEERS = 256
"""Senders on record. A group has a few; the bound is against a member that changes its id in a loop."""
_INTRODUCTIONS = 16
"""Members that get acquainted before they must: in larger groups that would be too many packets when all start together."""
_HEIR_ADVSKEW, _HEIRS = 128, 16
"""So many more if they are that good, the first eight that the operator ranks: one of them will succeed, and a successor that
nobody knows is asked by everybody. With hundreds of groups that is more than a host can read before the next one takes over."""
_QUESTION_GAP_S = 0.005
"""Between questions to one sender: a new master answers each member of a large group, and they all hear all answers before their own."""
_CHALLENGE_LIFE_S = 1.0
_SHORTEST_MS, _LONGEST_MS = 10, 60_000
"""What a configuration may say; a member that says else would make others wait for it in vain."""
_MAX_U32 = 2**32 - 1


class Extension(NamedTuple):
    """What follows the header in a Strict packet."""

    kind: Kind
    interval_ms: int
    sender_id: int
    generation: int
    master_for_ms: int = 0
    challenge: int = 0
    """Random bits the receiver is asked to send back; 0: no question."""
    answer: int = 0
    """The challenge this packet answers."""
    peer_id: int = 0
    """Whom the challenge, the answer or the bow-out is for; 0: everybody."""
    peer_counter: int = 0
    """The last counter on record of that peer."""

    def encode(self) -> bytes:
        return _LAYOUT.pack(
            _VERSION,
            self.kind.value,
            self.interval_ms,
            self.sender_id,
            self.generation,
            min(self.master_for_ms, _MAX_U32),
            self.challenge,
            self.answer,
            self.peer_id,
            self.peer_counter,
        )

    @classmethod
    def decode_untrusted(cls, data: bytes) -> "Extension":
        """Raises BadPacket: short, version, kind or interval. Bytes behind the extension are left for later versions."""
        if len(data) < _LAYOUT.size:
            raise BadPacket("short", f"extension of {len(data)} bytes")
        version, number, interval_ms, *fields = _LAYOUT.unpack_from(data)
        if version != _VERSION:
            raise BadPacket("version", f"extension {version}")
        kind = _KINDS.get(number)
        if kind is None:
            raise BadPacket("kind", str(number))
        if not _SHORTEST_MS <= interval_ms <= _LONGEST_MS:
            raise BadPacket("interval", f"{interval_ms} ms")
        return cls(kind, interval_ms, *fields)


@dataclass(slots=True)
class Peer:
    """What is on record of a sender that proved that it lives."""

    sender_id: int
    counter: int
    source: str
    seen_at: float
    advskew: int
    demotion: int
    generation: int


class StrictCodec:
    """Signs and verifies the packets of one group; keeps counters, peers on record and the open challenge."""

    __slots__ = (
        "_answers", "_challenge", "_challenge_at", "_digests", "_interval_ms", "_invited", "_on_identity", "_questions", "_random_bits",
        "_vhid", "counter", "generation", "peers", "sender_id",
    )  # fmt: skip

    def __init__(
        self,
        config: GroupConfig,
        identity: Identity,
        random_bits: Callable[[int], int],
        on_identity: Callable[[int, bool], None] = lambda _epoch, _twin: None,
    ) -> None:
        """``on_identity`` hears of a new epoch, or (True) of a new sender id because a twin uses the old one."""
        self._random_bits = random_bits
        self._on_identity = on_identity
        self.sender_id = identity.sender_id
        self.counter = Counter(identity.epoch)
        self.peers: dict[int, Peer] = {}
        self._answers = Budgets(rate_per_s=5, burst=8)
        self._questions = Budgets(rate_per_s=5, burst=5, gap_s=_QUESTION_GAP_S)
        self._invited: set[int] = set()
        """Strangers that were asked to prove that they live, and have not yet: they count as if they had."""
        self._challenge = 0
        self._challenge_at = 0.0
        self.generation = 0
        self.reconfigure(config)

    def reconfigure(self, config: GroupConfig, now: float = 0.0) -> None:  # noqa: ARG002 - Compatible remembers
        """Use the keys of ``config``: the first signs, all are believed."""
        keys = dict.fromkeys([config.authentication.key, *config.authentication.accept])
        self._digests = [StrictDigest(key) for key in keys]
        self._vhid = config.vhid
        self._interval_ms = round(config.advertisement_interval_s * 1000)

    def advert(self, standing: Standing, master_for_s: float, now: float, answer_to: Heard | None = None) -> bytes:
        """A master's advert. As an answer it proves that we live, and asks the asker to prove the same."""
        fields = self._answer(answer_to) if answer_to else {}
        if answer_to and answer_to.trust is Trust.UNKNOWN:
            fields["challenge"] = self._open_challenge(now)
        return self._encode(Kind.ADVERT, standing, master_for_ms=int(master_for_s * 1000), **fields)

    def question(self, standing: Standing, now: float, peer: Heard | MasterSeen | None = None) -> bytes:
        """Ask whether there is a master, or challenge the sender of ``peer``; a master answers with an advert."""
        peer_id = peer.standing.sender_id if peer else 0
        return self._encode(
            Kind.SOLICIT,
            standing,
            challenge=self._open_challenge(now),
            peer_id=peer_id,
            peer_counter=self._last_counter(peer_id),
        )

    def notice(self, standing: Standing, answer_to: Heard, was_master_for_s: float = 0.0) -> bytes:
        """Answer without claiming to be master, or tell the better master of a split brain for how long one was."""
        return self._encode(Kind.NOTICE, standing, master_for_ms=int(was_master_for_s * 1000), **self._answer(answer_to))

    def challenge(self, standing: Standing, doubted: Heard, now: float) -> list[bytes]:
        """Ask the sender of a doubtful packet whether it lives, unless it was just asked."""
        return [self.question(standing, now, doubted)] if self._questions.take(doubted.standing.sender_id, now) else []

    def introduction(self, standing: Standing, heard: Heard, now: float) -> list[bytes]:
        """Ask a stranger that asks us to prove that it lives: backups know each other, and believe a successor at once."""
        asks_us = heard.kind is Kind.SOLICIT and heard.peer_id in (0, self.sender_id)
        if not asks_us or heard.trust is not Trust.UNKNOWN:
            return []
        stranger = heard.standing.sender_id
        if stranger not in self._invited:
            room = _INTRODUCTIONS + (_HEIRS if heard.standing.advskew < _HEIR_ADVSKEW else 0)
            if len(self.peers) + len(self._invited) >= room:
                return []
            self._invited.add(stranger)
        return self.challenge(standing, heard, now)

    def reply(self, standing: Standing, heard: Heard, master_for_s: float | None, now: float) -> list[bytes]:
        """A master (None: we are none) answers every question that may be for it, others one that names them or whose sender lost count."""
        master = master_for_s is not None and heard.peer_id in (0, self.sender_id)
        meant = master or heard.peer_id == self.sender_id or (heard.trust is Trust.STALE and heard.peer_id == 0)
        # What is fresh has a budget of its own: a flood of recorded questions leaves room for the real ones.
        if not meant or not self._answers.take((heard.standing.sender_id, heard.trust is Trust.FRESH), now):
            return []
        if master_for_s is not None and master and heard.kind is Kind.SOLICIT:
            return [self.advert(standing, master_for_s, now, answer_to=heard)]
        return [self.notice(standing, heard)]

    def bow_out(self, standing: Standing, successor_id: int) -> bytes:
        """Say goodbye, and whom we would like to take over (0: the best)."""
        return self._encode(Kind.ADVERT, Standing(BOW_OUT, BOW_OUT, standing.demotion), peer_id=successor_id)

    def farewell(self, standing: Standing) -> bytes:
        """A bow-out with the last counter of the epoch, signed ahead for a process that may die without a word."""
        header = Header(self._vhid, BOW_OUT, BOW_OUT, standing.demotion, self.counter.farewell())
        return self._sign(header, Extension(Kind.ADVERT, self._interval_ms, self.sender_id, self.generation))

    def _answer(self, heard: Heard) -> dict[str, int]:
        peer_id = heard.standing.sender_id
        return {"answer": heard.challenge, "peer_id": peer_id, "peer_counter": self._last_counter(peer_id)}

    def _encode(self, kind: Kind, standing: Standing, **fields: int) -> bytes:
        header = Header(self._vhid, standing.advskew, standing.advbase, standing.demotion, self.counter.next())
        return self._sign(header, Extension(kind, self._interval_ms, self.sender_id, self.generation, **fields))

    def _sign(self, header: Header, extension: Extension) -> bytes:
        unsigned = header.unsigned() + extension.encode()
        return with_digest(unsigned, self._digests[0].sign(unsigned))

    def receive_untrusted(self, data: bytes, origin: Origin, now: float) -> Heard:
        """A packet signed with one of our keys, and how far to believe it; a fresh one is put on record.

        Raises BadPacket: those of the header and the extension, vhid, bad-digest, echo (our own packet came back) or
        twin (somebody else uses our sender id).
        """
        header = decode_untrusted(data)
        if header.vhid != self._vhid:
            raise BadPacket("vhid", str(header.vhid))
        signed = signed_part(data)
        for digest in self._digests:
            if digest.verify(signed, header.digest):
                break
        else:
            raise BadPacket("vrrp" if looks_like_vrrp_untrusted(data) else "bad-digest")
        extension = Extension.decode_untrusted(data[HEADER_LENGTH:])
        if extension.sender_id == self.sender_id:
            ours = header.counter <= self.counter.value or header.counter == self.counter.farewell()
            if ours:
                raise BadPacket("echo", f"{extension.sender_id:016x}")
            self._change_identity()
            raise BadPacket("twin", f"{extension.sender_id:016x}")
        return Heard(
            kind=extension.kind,
            trust=self._judge(header, extension, origin.source, now),
            standing=Standing(header.advbase, header.advskew, header.demotion, extension.sender_id),
            interval_s=extension.interval_ms / 1000,
            master_for_s=extension.master_for_ms / 1000,
            challenge=extension.challenge,
            peer_id=extension.peer_id,
            generation=extension.generation,
        )

    def _judge(self, header: Header, extension: Extension, source: str, now: float) -> Trust:
        peer = self.peers.get(extension.sender_id)
        if peer is None and not self._is_answered(extension, now):
            return Trust.UNKNOWN
        if peer is not None and header.counter == peer.counter:
            raise BadPacket(Trust.STALE.value, "duplicate")  # a network that doubles packets needs no questions
        if peer is not None and header.counter < peer.counter:
            return Trust.STALE
        self._record(peer, header, extension, source, now)
        if extension.peer_id == self.sender_id:
            self._catch_up(extension.peer_counter)
        return Trust.FRESH

    def _is_answered(self, extension: Extension, now: float) -> bool:
        in_time = now - self._challenge_at <= 2 * _CHALLENGE_LIFE_S
        return in_time and extension.answer == self._challenge != 0 and extension.peer_id == self.sender_id

    def _record(self, peer: Peer | None, header: Header, extension: Extension, source: str, now: float) -> None:
        if peer is None:
            self._invited.discard(extension.sender_id)
            if len(self.peers) >= _MAX_PEERS:
                del self.peers[min(self.peers.values(), key=lambda known: known.seen_at).sender_id]
            peer = self.peers[extension.sender_id] = Peer(extension.sender_id, 0, source, now, header.advskew, 0, 0)
        peer.counter, peer.source, peer.seen_at = header.counter, source, now
        peer.demotion, peer.generation = header.demotion, extension.generation
        if not header.is_bow_out:
            peer.advskew = header.advskew

    def _catch_up(self, heard: int) -> None:
        if heard > self.counter.value:
            self.counter.jump_past(heard)
            self._on_identity(self.counter.epoch, False)

    def _open_challenge(self, now: float) -> int:
        """The random bits to send in a question; the same for a second, since answers may be on their way."""
        if not self._challenge or now - self._challenge_at > _CHALLENGE_LIFE_S:
            self._challenge = self._random_bits(64) or 1
            self._challenge_at = now
        return self._challenge

    def _last_counter(self, sender_id: int) -> int:
        peer = self.peers.get(sender_id)
        return peer.counter if peer else 0

    def _change_identity(self) -> None:
        """Become somebody else, after a twin was heard."""
        self.sender_id = self._random_bits(64) or 1
        self._on_identity(self.counter.epoch, True)
