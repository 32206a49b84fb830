"""One member of one group: bytes, answers and clock readings in; packets, effects and the next deadline out.

The shell does three things after every input, in this order: carry out the effects, send the packets, arm one timer.
It hands ``handle_timer`` a time no earlier than that deadline. ``election`` decides, ``timing`` says how long, the codecs what is believed.
"""

__all__ = ["Engine"]

from collections import deque
from collections.abc import Callable

from .compatible import CompatibleCodec
from .config import GroupConfig, Mode
from .counter import Identity, TokenBucket
from .demotion import Demotions
from .effects import (
    AddressConflict,
    Announce,
    Effect,
    IdentityChanged,
    MasterDead,
    PacketRejected,
    ProbeAddress,
    ProbeMaster,
    Reason,
    ReleaseAddresses,
    SplitBrain,
    State,
    StateChanged,
    TakeAddresses,
)
from .election import Takeover, as_backup, as_master, may, next_state, own_standing
from .errors import BadPacket
from .heard import Heard, Kind, MasterSeen, Origin, Trust
from .strict import StrictCodec
from .suspicion import Evidence, Suspicion
from .timing import FOLLOW_UP_S, HANDOVER_LIMIT_S, RACE_S, SOLICIT_COUNT, SOLICIT_SPACING_S, VERIFY_WAIT_S, timing_of, widest_rank_delay_s

_MULTICAST_TTL = 255  # a multicast advert with less has passed a router: it is not from this segment (protocol.md 1.4, row 3)
_FAILED, _FORGIVEN_S = 255, 60.0  # more than any demotion; after so long the kernel may take the addresses again
_CONFIGURED = "configuration"
_PENDING_EFFECTS = 1024
"""The shell drains after every input; the bound is for one that does not."""


class Engine:
    """The election of one group on this member. Not thread-safe; never blocks; ``now`` is monotonic and in seconds.

    ``random_bits(n)`` gives n random bits, from the operating system outside tests.
    """

    __slots__ = (
        "_advert_at", "_closing", "_codec", "_dead_at", "_dead_held", "_effects", "_foreign_owner", "_forgiven_at", "_handover_until",
        "_may_be_master", "_packets", "_preempt_at", "_probes", "_random_bits", "_reassertions", "_solicit_at", "_solicits_left",
        "_spoke_at", "_standing", "_strict", "_successor_id", "_suspects", "_suspicion", "_takeover", "_timing", "_unaskable",
        "_vacated", "_yielded", "config", "demotions", "master", "noticed_at", "reason", "rival", "since", "state",
    )  # fmt: skip

    def __init__(self, config: GroupConfig, identity: Identity, random_bits: Callable[[int], int]) -> None:
        self.config = config
        self.state = State.INIT
        self.reason = Reason.STARTED
        self.since = self.noticed_at = 0.0
        """When what led to the last takeover was noticed; the ranks have had their turn since."""
        self.master: MasterSeen | None = None
        """Whose adverts are followed; None: nobody's, or this member is the master."""
        self.rival: MasterSeen | None = None
        """The last worse master heard while being one."""
        self.demotions = Demotions()
        self.demotions.set(_CONFIGURED, config.demotion)
        self._random_bits = random_bits
        strict = config.authentication.mode is Mode.STRICT
        self._strict = StrictCodec(config, identity, random_bits, self._identity_changed) if strict else None
        self._codec: StrictCodec | CompatibleCodec = self._strict or CompatibleCodec(config, random_bits)
        self._effects: deque[Effect] = deque(maxlen=_PENDING_EFFECTS)
        self._packets: list[bytes] = []
        self._reassertions, self._probes = (TokenBucket(rate_per_s=20, burst=20) for _ in range(2))
        self._suspicion: Suspicion | None = None
        self._takeover: Takeover | None = None
        self._dead_at: float | None = None
        self._advert_at: float | None = None
        self._handover_until: float | None = None
        self._solicit_at: float | None = None
        self._solicits_left = self._successor_id = 0
        self._spoke_at = self._preempt_at = self._forgiven_at = 0.0
        self._yielded: int | None = None
        """After a handover, the demotion of the successor that was accepted with it; no preemption until then."""
        self._vacated = False
        """Whether the link took the addresses from this member: its host lives, so nobody would call it dead."""
        self._closing = self._dead_held = False
        self._foreign_owner = ""
        self._derive()

    def start(self, now: float) -> None:
        """Enter the election: a Strict member asks who is there, a Compatible one listens for a dead time."""
        self._enter_backup(Reason.STARTED, now)
        self._seek(now)

    def link_changed(self, up: bool, now: float) -> None:
        """The interface lost its carrier (drop everything at once) or has it (say what was dropped, listen for one dead time)."""
        if not up and self.state is not State.INIT:
            self._vacated = self.state is State.MASTER and self._strict is not None
            self._change(Reason.LINK_DOWN, now)
        elif up and self.state is State.INIT and not self._closing:
            self._enter_backup(Reason.LINK_UP, now)
            if self._vacated:
                self._say_goodbye_to(0, now)

    def receive_packet(self, data: bytes, origin: Origin, now: float) -> None:
        """An IP payload of protocol 112 for this VHID."""
        if self.state is State.INIT:
            return
        self._step_down_if_stalled(now)
        try:
            if origin.ttl != _MULTICAST_TTL and not self.config.peers.addresses:
                raise BadPacket("ttl", str(origin.ttl))
            heard = self._codec.receive_untrusted(data, origin, now)
        except BadPacket as error:
            self._effects.append(PacketRejected(error.reason, origin.source, error.detail))
            return
        if heard.challenge and self._strict:
            master_for_s = now - self.since if self.state is State.MASTER else None
            self._packets += self._strict.reply(self._standing, heard, master_for_s, now)
        if heard.trust is not Trust.FRESH and self._strict:
            self._doubt(self._strict, heard, origin, now)  # after the reply: whom it makes known does not ask again
        if heard.kind is Kind.ADVERT and heard.trust is Trust.FRESH:
            self._hear_advert(heard, origin, now)
        elif heard.kind is Kind.NOTICE and heard.trust is Trust.FRESH and heard.master_for_s and self.state is State.MASTER:
            self._note_overlap(heard, origin, now, won=True)

    def receive_evidence(self, evidence: Evidence, source: str, now: float) -> None:
        """The master's host, or the sidecar on it, answered a ProbeMaster."""
        if self._suspicion and self._suspicion.source == source and self.state is State.BACKUP:
            self._conclude(self._suspicion, self._suspicion.receive_evidence(evidence), now)

    def hear_of_death(self, dead: MasterDead, now: float) -> None:
        """Another group of this host found a master dead; if ours was on the same host and is silent too, it is."""
        if self._suspicion and self._suspicion.source == dead.source and self._suspicion.confirms(dead.reason, dead.silent_since):
            self._plan_takeover(dead.reason, now)

    def address_answered(self, owner: str) -> None:
        """Somebody answered for an address of the group: a master, or a foreign host. Listen for the dead time."""
        if self._solicit_at is not None or (self._takeover and self._takeover.reason is Reason.NOBODY_THERE):
            self._foreign_owner = owner
            self._stop_soliciting()

    def addresses_failed(self, now: float) -> None:
        """The kernel refused the addresses: a member that cannot hold them must not claim them."""
        if may(self.state, Reason.ADDRESS_FAILED):
            self._say(self._codec.bow_out(self._standing, 0), now)
            self._yielded, self._forgiven_at = _FAILED, now + _FORGIVEN_S  # or it would take over again, fail again, and so on
            self._change(Reason.ADDRESS_FAILED, now)

    def addresses_lost(self, now: float) -> None:
        """Somebody removed an address that this member holds: put it back, unless the member was late itself."""
        self._step_down_if_stalled(now)
        if self.state is State.MASTER:
            self._effects.append(TakeAddresses())

    def lease_ends_at(self, now: float) -> float | None:
        """When the addresses must fall silent unless this member speaks before; None: it does not hold them, or was late."""
        self._step_down_if_stalled(now)
        return self._spoke_at + self._timing.lease_s(self.state) if self.state.holds_addresses else None

    def handover(self, now: float, successor_id: int = 0) -> bool:
        """Give the addresses to the best backup, or to ``successor_id``; False when not MASTER."""
        self._step_down_if_stalled(now)
        if self.state is not State.MASTER:
            return False
        self._yielded = 0
        self._bow_out(Reason.REQUESTED, now, successor_id)
        return True

    def set_demotion(self, name: str, amount: int | None, now: float) -> None:
        """Set, change or (amount 0) lift one named demotion; None takes the member out of the election."""
        self._step_down_if_stalled(now)
        could_be_master = self._may_be_master
        if self.demotions.set(name, amount):
            self._derive()
            self._standing_changed(could_be_master, now)

    def allow_preemption(self) -> None:
        """After a handover: this member may preempt again."""
        self._yielded = None

    def reconfigure(self, config: GroupConfig, now: float) -> None:
        """Go on with other settings and without leaving the state. VHID, interface and mode cannot change this way."""
        now_said, then_said = ((one.authentication, one.addresses, one.advertisement_interval_s) for one in (config, self.config))
        self._step_down_if_stalled(now)
        could_be_master = self._may_be_master
        self.config = config
        self.demotions.set(_CONFIGURED, config.demotion)
        self._derive()
        if now_said != then_said:
            self._codec.reconfigure(config, now)
        self._standing_changed(could_be_master, now)

    def close(self, now: float) -> None:
        """Leave for good; ``closed`` tells when the addresses are gone and the last packet is out."""
        self._step_down_if_stalled(now)
        self._closing = True
        if self.state is State.MASTER:
            self._bow_out(Reason.CLOSED, now)
        elif self.state is State.BACKUP:
            self._change(Reason.CLOSED, now)

    def handle_timer(self, now: float) -> None:
        """Call when ``next_timer`` has come, with a time not before it."""
        self._step_down_if_stalled(now)
        if self._handover_until is not None and now >= self._handover_until:
            self._end_handover(self._handover_until, now)
        if self._advert_at is not None and now >= self._advert_at:
            self._advertise(now) if self.state is State.MASTER else self._say_goodbye(now)
        if self._solicit_at is not None and now >= self._solicit_at:
            self._solicit(now)
        if self._suspicion and self.state is State.BACKUP:
            self._suspect(self._suspicion, now)
        if self._takeover and now >= self._takeover.at:
            self._take_over(self._takeover.reason, self._takeover.noticed_at, now)
        if self._dead_at is not None and now >= self._dead_at:
            self._master_timed_out(self._dead_at, now)

    def next_timer(self) -> float | None:
        """When ``handle_timer`` is due; None: only an input can change anything."""
        due = self._dead_at if self._advert_at is None else self._advert_at
        takeover_at = self._takeover.at if self._takeover else None
        suspicion_at = self._suspicion.next_timer() if self._suspicion else None
        for timer in (self._handover_until, self._solicit_at, takeover_at, suspicion_at):
            if timer is not None and (due is None or timer < due):
                due = timer
        return due

    def packets_to_send(self) -> list[bytes]:
        """The IP payloads to send now, in order."""
        packets, self._packets = self._packets, []
        return packets

    def next_effect(self) -> Effect | None:
        return self._effects.popleft() if self._effects else None

    def farewell(self) -> bytes:
        """A signed bow-out for whoever outlives this process."""
        return self._codec.farewell(self._standing)

    @property
    def closed(self) -> bool:
        return self._closing and self.state is State.INIT

    @property
    def strict(self) -> StrictCodec | None:
        """The codec of a Strict group, for its identity and the peers on record."""
        return self._strict

    def _hear_advert(self, heard: Heard, origin: Origin, now: float) -> None:
        self._foreign_owner = ""
        self._stop_soliciting()
        if self.state is State.MASTER and not heard.standing.is_bow_out:
            self._meet_master(heard, origin, now)
        elif self.state is State.HANDOVER and not heard.standing.is_bow_out:
            self._yielded = heard.standing.demotion if self._yielded is not None else None
            self._change(Reason.SUCCESSOR_HEARD, now)
        if self.state is State.BACKUP:
            self._follow(heard, origin, now)

    def _meet_master(self, heard: Heard, origin: Origin, now: float) -> None:
        """As MASTER, hear another: the worse one goes, the better one says so at once."""
        reason = as_master(self._standing, heard.standing, self.config.authentication.mode, self.config.authentication.dialect)
        self._note_overlap(heard, origin, now, won=reason is None)
        if reason:
            self._change(reason, now)
        elif self._reassertions.take(now):
            self._effects.append(Announce())
            self._advertise(now)

    def _note_overlap(self, heard: Heard, origin: Origin, now: float, *, won: bool) -> None:
        """Two masters for longer than a race are a split brain, counted once. A loser that leaves without a word tells the winner."""
        rival, self.rival = self.rival, MasterSeen(origin.source, heard.standing, now)
        counted = rival and rival.source == origin.source and now - rival.heard_at < self._timing.dead_time_s(self._timing.interval_s)
        his_s = heard.master_for_s if heard.master_for_s is not None else now if won else 0.0
        if counted or min(now - self.since, his_s) < RACE_S:
            return
        self._effects.append(SplitBrain(origin.source, won=won))
        if self._strict and not won:
            self._packets.append(self._strict.notice(self._standing, heard, now - self.since))

    def _follow(self, heard: Heard, origin: Origin, now: float) -> None:
        """As BACKUP, hear a master: wait for its next advert, or take over from it."""
        if heard.standing.is_bow_out:
            self._hear_bow_out(heard, origin, now)
            return
        self._listen(heard, origin, now)
        self._yielded = 0 if self._yielded == _FAILED and now >= self._forgiven_at else self._yielded
        preempt = self.config.preemption.enabled and self._yielded is None and now >= self._preempt_at
        reason = as_backup(self._standing, heard.standing, self.config.authentication.mode, preempt, self._yielded or 0)
        if reason:
            self._plan_takeover(reason, now)
        else:
            self._takeover = None

    def _hear_bow_out(self, heard: Heard, origin: Origin, now: float) -> None:
        """The master leaves: the successor it chose goes first, then the others by rank. Other leavers do not matter."""
        if self.master and self.master.source != origin.source:
            return
        self.master = self._suspicion = None
        chosen = self._strict is not None and heard.peer_id == self._strict.sender_id
        behind_s = widest_rank_delay_s(self._timing.interval_s) if heard.peer_id else 0.0
        self._plan_takeover(Reason.MASTER_BOWED_OUT, now, 0.0 if chosen else behind_s + self._timing.rank_delay_s(self._standing))

    def _listen(self, heard: Heard, origin: Origin, now: float) -> None:
        self.master, self._advert_at = MasterSeen(origin.source, heard.standing, now), None
        self._wait_for_death(heard.interval_s if self._strict else self._timing.interval_s, now)
        if not (self._suspects and self._may_be_master) or origin.source in self._unaskable:
            self._suspicion = None
            return
        if self._suspicion is None or self._suspicion.source != origin.source:
            self._suspicion = Suspicion(origin.source)
        due_s = self._timing.advert_interval_s(heard.standing.advskew, heard.interval_s)
        if self._suspicion.heard_advert(due_s, now) and self._probes.take(now):
            self._effects.append(ProbeMaster(origin.source))

    def _doubt(self, strict: StrictCodec, heard: Heard, origin: Origin, now: float) -> None:
        """A right digest, but perhaps a recording: ask its sender, and give it a moment before acting against it."""
        if heard.kind is not Kind.ADVERT:
            self._packets += strict.introduction(self._standing, heard, now) if self.state is State.BACKUP else []
            return
        self._effects.append(PacketRejected(heard.trust.value, origin.source, f"{heard.standing.sender_id:016x}"))
        self._packets += strict.challenge(self._standing, heard, now)
        verified_at = now + VERIFY_WAIT_S + self._timing.rank_delay_s(self._standing)  # or all ranks would act at once
        if self._takeover and not self._takeover.held:
            self._takeover.at, self._takeover.held = max(self._takeover.at, verified_at), True
        if self._dead_at is not None and not self._dead_held:
            self._dead_at, self._dead_held = max(self._dead_at, verified_at), True

    def _step_down_if_stalled(self, now: float) -> None:
        """A master this late has been succeeded: it drops the addresses before it does or says anything."""
        limit_s = 2 * HANDOVER_LIMIT_S if self.state is State.HANDOVER else self._timing.stall_limit_s
        if self.state.holds_addresses and now - self._spoke_at > limit_s:
            self._change(Reason.STALLED, now)

    def _advertise(self, now: float, *, again: bool = False) -> None:
        """Say what we are; ``again``: this is news, which one lost packet must not keep from anybody for an interval."""
        self._say(self._codec.advert(self._standing, now - self.since, now), now)
        self._spoke_at = now
        self._advert_at = self._timing.next_advert_at(self._standing.advskew, now)
        if again and self._strict:
            self._advert_at = min(self._advert_at, now + FOLLOW_UP_S)

    def _wait_for_death(self, master_interval_s: float, now: float) -> None:
        """Arm the dead time. carp(4) has no tie-break: less than a step of advskew, at random, parts equals that gave way to each other."""
        jitter_s = 0.0 if self._strict else self._random_bits(8) / 256 / 256
        self._dead_at, self._dead_held = now + self._timing.dead_time_s(master_interval_s) + jitter_s, False

    def _seek(self, now: float) -> None:
        """Nothing is known of a master: ask, and listen for the dead time in case the answers are lost."""
        self._wait_for_death(self._timing.interval_s, now)
        if self._strict and self._may_be_master:
            self._solicits_left = SOLICIT_COUNT
            self._solicit(now)
            self._effects.append(ProbeAddress())

    def _solicit(self, now: float) -> None:
        """Ask who is master; after enough silence nobody is there, and the best of those who asked takes over."""
        late = self._solicit_at is not None and now - self._solicit_at > SOLICIT_SPACING_S  # ourselves: answers may be unread
        if self._strict and (self._solicits_left or late):
            self._solicits_left = max(0, self._solicits_left - (not late))
            self._packets.append(self._strict.question(self._standing, now))
            self._solicit_at = now + SOLICIT_SPACING_S
        else:
            self._solicit_at = None
            self._plan_takeover(Reason.NOBODY_THERE, now)

    def _stop_soliciting(self) -> None:
        self._solicit_at = None
        if self._takeover and self._takeover.reason is Reason.NOBODY_THERE:
            self._takeover = None

    def _suspect(self, suspicion: Suspicion, now: float) -> None:
        due = suspicion.next_timer()
        if due is None or now < due:
            return
        ask, verdict = suspicion.handle_timer(now)
        if ask and suspicion.process_answered and self._strict and self.master:
            self._packets.append(self._strict.question(self._standing, now, self.master))  # for an advert
        elif ask:
            self._effects.append(ProbeMaster(suspicion.source))
        self._conclude(suspicion, verdict, now)

    def _conclude(self, suspicion: Suspicion, verdict: Reason | None, now: float) -> None:
        if verdict and suspicion.silent_since is not None:
            if self._takeover is None or self._takeover.reason is not verdict:  # else another group has told all of them
                self._effects.append(MasterDead(suspicion.source, verdict, suspicion.silent_since))
            self._plan_takeover(verdict, now)

    def _master_timed_out(self, due: float, now: float) -> None:
        late = now - due > self._timing.interval_s  # ourselves: what the master said meanwhile may still be in a queue
        if late or (self._suspicion and self._suspicion.is_drowned(now)):
            self._dead_at = now + self._timing.interval_s
        else:
            self._take_over(Reason.MASTER_TIMED_OUT, due, now)

    def _plan_takeover(self, reason: Reason, now: float, delay_s: float | None = None) -> None:
        """Take over when the better ranks have had their turn, unless an earlier takeover is planned already."""
        at = now + (self._timing.rank_delay_s(self._standing) if delay_s is None else delay_s)
        if self._may_be_master and (self._takeover is None or at < self._takeover.at):
            self._takeover = Takeover(at, reason, now)

    def _take_over(self, reason: Reason, noticed_at: float, now: float) -> None:
        self._takeover, self.noticed_at = None, noticed_at
        if not self._may_be_master:
            self._dead_at = self.master = None
            return
        if self._foreign_owner:
            self._effects.append(AddressConflict(self._foreign_owner))
        self._change(reason, now)

    def _change(self, reason: Reason, now: float) -> None:
        """Go where ``reason`` leads, and set up what the new state needs."""
        old, new = self.state, next_state(self.state, reason)
        self.state, self.reason = new, reason
        if not (old is State.HANDOVER and new is State.MASTER):
            self.since = now
        self._effects.append(StateChanged(old, new, reason))
        self._takeover = self._suspicion = None
        self._dead_at = self._advert_at = self._handover_until = self._solicit_at = None
        if old.holds_addresses and not new.holds_addresses:
            self._effects.append(ReleaseAddresses())
        if new is State.MASTER:
            self._become_master(now)
        elif new is State.BACKUP:
            self.master = None if reason is Reason.STALLED else self.master
            self._wait_for_death(self._timing.interval_s, now)
            if self._closing:
                self._change(Reason.CLOSED, now)
            elif reason is Reason.STALLED:
                self._seek(now)  # everybody may have slept, with the host
        elif new is State.INIT:
            self.master = None

    def _become_master(self, now: float) -> None:
        self.master, self._foreign_owner, self._yielded = None, "", None
        self._effects.append(TakeAddresses())
        self._advertise(now, again=True)

    def _enter_backup(self, reason: Reason, now: float) -> None:
        self._preempt_at = now + self.config.preemption.delay_s
        self._change(reason, now)

    def _bow_out(self, reason: Reason, now: float, successor_id: int = 0) -> None:
        """Say goodbye and keep answering until the successor is heard."""
        self._change(reason, now)
        self._say_goodbye_to(successor_id, now)
        self._spoke_at, self._handover_until = now, now + HANDOVER_LIMIT_S

    def _say_goodbye_to(self, successor_id: int, now: float) -> None:
        """Now, and once more if nobody is heard. Not to carp(4), where a backup of the successor would take over from it."""
        self._successor_id = successor_id
        self._say_goodbye(now)
        self._advert_at = now + FOLLOW_UP_S if self._strict else None

    def _say_goodbye(self, now: float) -> None:
        self._say(self._codec.bow_out(self._standing, self._successor_id), now)
        self._advert_at = None

    def _say(self, packet: bytes, now: float) -> None:
        self._packets += [packet, *(self._codec.repeat(now) if isinstance(self._codec, CompatibleCodec) else [])]

    def _end_handover(self, due: float, now: float) -> None:
        """Nobody took over: whoever must leave leaves, whoever only offered stays."""
        if now - due > HANDOVER_LIMIT_S / 4:  # ourselves: the successor may have slept with us, or spoken to a queue
            self._handover_until = now + HANDOVER_LIMIT_S / 4
        else:
            stays = Reason.NO_SUCCESSOR if self._may_be_master else Reason.EXCLUDED
            self._change(Reason.CLOSED if self._closing else stays, now)

    def _standing_changed(self, could_be_master: bool, now: float) -> None:
        """Say the new standing at once: a master so that a better member takes over, and one that may not stay leaves."""
        self._preempt_at = max(self._preempt_at, now + self.config.preemption.delay_s)
        if self.state is State.MASTER:
            if self._may_be_master:
                self._advertise(now, again=True)
            else:
                self._bow_out(Reason.EXCLUDED, now)
        elif not self._may_be_master:
            self._takeover = self._suspicion = self._solicit_at = None
        elif self.state is State.BACKUP and self.master is None and not could_be_master:
            self._seek(now)

    def _identity_changed(self, epoch: int, twin: bool) -> None:
        self._effects.append(IdentityChanged(epoch, twin))
        self._derive()

    def _derive(self) -> None:
        """What follows from configuration, demotions and identity: computed when they change, not with every packet."""
        self._may_be_master = self.config.priority > 0 and not self.demotions.excluded
        self._standing = own_standing(self.config, self.demotions.total, self._strict.sender_id if self._strict else 0)
        # A carp(4) master of both families speaks from two addresses in turn: none of them is late when it should be.
        self._suspects = self.config.suspicion and (self._strict is not None or len({a.version for a in self.config.addresses}) == 1)
        # A master that speaks from a virtual address, or from none, cannot be asked whether it lives.
        self._unaskable = {"0.0.0.0", "::", *(str(address.ip) for address in self.config.addresses)}
        self._timing = timing_of(self.config)
