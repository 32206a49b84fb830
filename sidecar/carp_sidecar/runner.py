"""One group on this host: connects its engine to the wire, the kernel, the guardian and whoever wants to know.

After every input, in this order: carry out the effects, send the packets, arm one timer. What takes longer than a
system call is somebody else's: addresses are the netlink thread's, hooks and logs other processes' and threads'.
"""

__all__ = ["FENCE", "Runner"]

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from carp_protocol.config import Fence, GroupConfig, PeerMode
from carp_protocol.counter import Identity
from carp_protocol.effects import (
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
from carp_protocol.engine import Engine
from carp_protocol.heard import Origin
from carp_protocol.suspicion import Evidence
from carp_protocol.timing import widest_rank_delay_s
from carp_sidecar.arrival import Arrival
from carp_sidecar.defence import Defence
from carp_sidecar.device import Device
from carp_sidecar.health import HealthChecker
from carp_sidecar.holder import Holder
from carp_sidecar.kernel.links import Address, Link
from carp_sidecar.kernel.vip import AddressPlan, Missing, choose_interface, moves, refusal
from carp_sidecar.logs import log_event
from carp_sidecar.losses import Losses
from carp_sidecar.measurements import Tally
from carp_sidecar.segment import Segment
from carp_sidecar.services import Services
from carp_sidecar.wire.sockets import WireFailed
from carp_sidecar.wire.voice import make_voice

_log = logging.getLogger(__name__)

_LIVE_PREDECESSOR = frozenset({Reason.MASTER_BOWED_OUT, Reason.MASTER_DEMOTED, Reason.PREEMPTED_WORSE})
_SUCCESSOR_HEARD = frozenset({Reason.SUCCESSOR_HEARD, Reason.BETTER_MASTER})
FENCE = "fence"
"""The demotion of a group that requires a gate where there is none."""
_RETRY_S = 1.0
_CLOSE_LIMIT_S = 2.0


class Runner:
    """Runs one group from ``start`` to ``close``; waits for its interface as long as it takes."""

    def __init__(self, config: GroupConfig, identity: Identity, services: Services, demotions: Mapping[str, int | None]) -> None:
        self.config = config
        self.engine = Engine(config, identity.for_group(config.name), secrets.randbits)
        self.engine.since = services.loop.time()
        for name, amount in demotions.items():
            self.engine.set_demotion(name, amount, self.engine.since)
        self.link: Link | None = None
        self.waiting_for = "the interface is being looked for"
        self.sent = 0
        self.received = 0
        self.rejected = Tally()
        self.transitions = Tally()
        self.split_brains = 0
        self.address_conflicts = 0
        self.health = HealthChecker(self._on_health)
        self._services = services
        self._loop = services.loop
        self._segment: Segment | None = None
        self._device = Device(config.name, services)
        self._holder = Holder(config.name, services, self._send_frame, self._taken, self._after, self._lease_ends_at)
        self.arrival = Arrival(config.name, self._loop, services.measurements, self._send, self._holder.announce, services.awaited)
        self._defence = Defence(self.engine, self._loop, self._carry_out)
        self.armed_for: float | None = None
        self.losses = Losses(config.name, self.engine, self._loop, self._after, self.demote)
        self._started = False
        self._latest = Reason.STARTED
        """Why the last change of state that was carried out happened; the engine may be ahead."""
        self._retry: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()

    # ---- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: checks at once, the election as soon as the interface is there."""
        for check in self.config.health_checks:
            self.engine.set_demotion(f"health/{check.name}", check.demotion, self._loop.time())
        self.health.update(self.config.health_checks)
        self.fence_changed()
        self.place()

    def place(self) -> None:
        """Look for the interface, unless there is one or the group is closing. Called again whenever links change."""
        if self._segment or self.engine.closed or self._closed.is_set():
            return
        found = choose_interface(self._services.netlink.snapshot, self.config)
        if isinstance(found, Missing):
            self._wait_for(found.reason)
            return
        try:
            segment = self._services.open_segment(found)
        except WireFailed as error:
            self._wait_for(str(error), self.place)
            return
        if not segment.join(self.config.vhid, self):
            self._wait_for(f"VHID {self.config.vhid} is taken by another group on {found.name}; give each group there its own", self.place)
            return
        self._segment, self.link = segment, found
        self.waiting_for = ""
        if self.config.virtual_mac:
            self._device.claim(found)
        self._make_plan()

    def _wait_for(self, what: str, retry: Callable[[], None] | None = None) -> None:
        if what != self.waiting_for:
            self.waiting_for = what
            log_event(_log, logging.WARNING, what, group=self.config.name)
        if retry:  # one timer: every change of a link on the host is an attempt too
            if self._retry:
                self._retry.cancel()
            self._retry = self._loop.call_later(_RETRY_S, retry)

    def _make_plan(self) -> None:
        """Encode everything the path of a takeover needs; first make the macvlan if there is none."""
        if not self.link or self._device.being_made or self._closed.is_set():
            return
        plan = self._holder.plan = self._device.plan(self.config, self.link)
        if self._segment:
            self._segment.watch(self, plan.addresses)
        if plan.adopt:
            self._device.make(plan, self._made)
            return
        self.refresh_voice()
        if self.link.running and not self._started:
            self.engine.start(self._loop.time())
        elif self.link.running:
            self.engine.link_changed(True, self._loop.time())
        self._started = True
        self._after()

    def _made(self, trouble: str) -> None:
        """Plan again with the device; one that exists already, and every other refusal, is tried again."""
        if not self._segment or not self.link:
            return
        if self._closed.is_set():
            self._holder.plan = self._device.plan(self.config, self.link)  # what was made meanwhile must be removed
            return
        if trouble:
            self._wait_for(trouble, self._make_plan)
        else:
            self.waiting_for = ""
            self._make_plan()

    def refresh_voice(self) -> None:
        """Encode anew what is sent: the host's own address, from which adverts come, may have changed."""
        if self.link and self.plan:
            self._holder.voice = make_voice(self.config, self.plan, self.link, self._services.netlink.snapshot)

    @property
    def plan(self) -> AddressPlan | None:
        """The requests of this group on its interface; None while there is none."""
        return self._holder.plan

    @property
    def own_source(self) -> str:
        """The address our adverts come from."""
        return self._holder.voice.sources[0] if self._holder.voice else ""

    def needs_restart(self, config: GroupConfig) -> bool:
        """Whether the change is one of identity: another VHID, interface, kind of device or authentication."""
        now, then = ((one.vhid, one.virtual_mac, one.authentication.mode) for one in (config, self.config))
        return now != then or moves(self._services.netlink.snapshot, self.link, self.config, config)

    def reconfigure(self, config: GroupConfig) -> None:
        """Go on with other settings, in the same state; addresses that stay are not touched.

        A check that is new or changed demotes nothing until it has failed itself, unless its predecessor did.
        """
        self.config = config
        demoting = {name for name, _ in self.engine.demotions.items() if name.startswith("health/")}
        now = self._loop.time()
        for name in demoting - {f"health/{check.name}" for check in config.health_checks}:
            self.engine.set_demotion(name, 0, now)
        self.health.update(config.health_checks)
        for check in config.health_checks:
            name, passing = f"health/{check.name}", self.health.passing(check.name)
            failing = name in demoting if passing is None else not passing
            self.engine.set_demotion(name, check.demotion if failing else 0, now)
        self.engine.reconfigure(config, now)
        self.losses.forget()
        self.fence_changed()
        if self.link and self.plan:
            self._change_plan()
        self._after()

    def _change_plan(self) -> None:
        """Plan anew; a member that holds its addresses holds and tells what changed."""
        former = self.plan
        self._holder.end_lingering()
        self._make_plan()
        if former and self.engine.state.holds_addresses:
            self._holder.change(former, self._farewell())

    async def close(self) -> None:
        """Hand over, remove everything, leave the segment."""
        await self.health.close()
        self.losses.close()
        self.engine.close(self._loop.time())
        self._after()
        if self._segment:
            try:
                await asyncio.wait_for(self._device.made(), _CLOSE_LIMIT_S)  # or the device would be left behind
                await asyncio.wait_for(self._closed.wait(), _CLOSE_LIMIT_S)
            except TimeoutError:
                log_event(_log, logging.WARNING, "the addresses were not released in time; their lease ends them", group=self.config.name)
        self._closed.set()
        if self.plan and self.config.virtual_mac:
            await self._device.remove(self.plan)
        self._leave_segment()

    def _leave_segment(self) -> None:
        self._holder.stop_announcing()
        self._services.alarms.set(self, None)
        segment, self._segment = self._segment, None
        if segment and segment.leave(self.config.vhid):
            self._services.close_segment(segment)

    # ---- what happens -----------------------------------------------------------------------------------------

    def receive_packet(self, payload: bytes, origin: Origin) -> None:
        self.received += 1
        self.engine.receive_packet(payload, origin, self._loop.time())
        self._after()

    def receive_evidence(self, evidence: Evidence, source: str) -> None:
        self.engine.receive_evidence(evidence, source, self._loop.time())
        self._after()

    def hear_of_death(self, dead: MasterDead) -> None:
        self.engine.hear_of_death(dead, self._loop.time())
        self._after()

    def address_claimed(self, mac: str) -> None:
        """Another host says that it has one of the addresses; our own MACs come back from some switches."""
        if self.engine.state is not State.MASTER:
            self.engine.address_answered(mac)
            self._after()
        elif self.plan and self.link and mac not in (self.plan.mac, self.link.mac):
            self._defence.claimed(mac)

    def link_changed(self, link: Link | None) -> None:
        """The interface came up, went down, or is gone (None)."""
        now = self._loop.time()
        if link is None:
            self.engine.link_changed(False, now)
            self._after()
            self._leave_segment()
            self._holder.end_lingering()
            self.link = self._holder.plan = None
            self.place()
            return
        known, self.link = self.link, link
        if known and known.mac != link.mac:
            self._change_plan()
        if self._started or not link.running:
            self.engine.link_changed(link.running, now)
        self._after()

    def address_removed(self, address: Address) -> None:
        """The kernel says that an address is gone; if it was ours to hold, put it back."""
        if self.plan and address.index == self.plan.device and address.address in self.plan.addresses:
            self.losses.lost(f"{address.address} was removed")

    def device_changed(self, index: int, device: Link | None) -> None:
        """Somebody removed our macvlan (None): make another. Or set it down: then it answers nobody, and the kernel says no more of it."""
        if self._closed.is_set() or not (self.plan and self.config.virtual_mac and index == self.plan.device):
            return
        if device is None:
            self.engine.addresses_failed(self._loop.time())
            self._after()
            self._make_plan()
        elif not device.up and not self.arrival.pending:  # else it is being set up
            self.losses.lost(f"{device.name} was set down")

    def renewals(self, now: float) -> tuple[bytes, ...]:
        """The requests that extend the leases, if this group holds its addresses and was punctual."""
        punctual = self._lease_ends_at(now) is not None
        if not punctual or self.arrival.silent or self.engine.state is State.HANDOVER:
            return ()
        return self._holder.renewals(now, gated=not self.gate_problem)

    def _lease_ends_at(self, now: float) -> float | None:
        """When the kernel shall silence the addresses unless this group speaks before; None: it does not hold them, or was late."""
        held = self.engine.state.holds_addresses
        ends_at = self.engine.lease_ends_at(now)
        if held and ends_at is None:
            self._after()
        return ends_at

    @property
    def gate_problem(self) -> str:
        """Why there is no gate on this host; empty if there is."""
        return self._services.gate.problem

    def fence_changed(self) -> None:
        """There is a gate now, or none any more: who requires one takes part in the election only with it."""
        lacking = self.config.fence is Fence.REQUIRED and self.gate_problem
        self.demote(FENCE, None if lacking else 0)

    def demote(self, name: str, amount: int | None) -> None:
        """Set one named demotion, 0 to lift it, None for out of the election."""
        demotions = self.engine.demotions
        before = (demotions.total, demotions.excluded)
        self.engine.set_demotion(name, amount, self._loop.time())
        if before != (demotions.total, demotions.excluded):
            self._report("demotion", total=demotions.total, excluded=demotions.excluded)
            if self.engine.state.holds_addresses:
                self._holder.leave_will(self._farewell())
        self._after()

    def handover(self, successor_id: int) -> None:
        self.engine.handover(self._loop.time(), successor_id)
        self._after()

    def use_generation(self, generation: int) -> None:
        """The generation of the configuration, said in adverts so that peers can report a skew."""
        if self.engine.strict:
            self.engine.strict.generation = generation

    def peer_sources(self) -> list[str]:
        """The members that are on record, by address."""
        return [peer.source for peer in self.engine.strict.peers.values()] if self.engine.strict else []

    def believes(self, source: str) -> bool:
        """Whether a packet from there was believed: of the master, of the last rival, or of a member on record."""
        return any(seen and seen.source == source for seen in (self.engine.master, self.engine.rival)) or source in self.peer_sources()

    def peer_id(self, name: str) -> int | None:
        """The sender id of a member given by address or id."""
        peers = self.engine.strict.peers.values() if self.engine.strict else ()
        return next((peer.sender_id for peer in peers if name in (peer.source, f"{peer.sender_id:016x}")), None)

    def _on_health(self, name: str, passing: bool, message: str) -> None:
        check = next((check for check in self.config.health_checks if check.name == name), None)
        if check:
            self._report("health", check=name, passing=passing, message=message)
            self.demote(f"health/{name}", 0 if passing else check.demotion)

    # ---- after every input ------------------------------------------------------------------------------------

    def _after(self) -> None:
        engine = self.engine
        while (effect := engine.next_effect()) is not None:
            self._carry_out(effect)
        if packets := engine.packets_to_send():
            if not self.arrival.keep(packets):
                self._send(packets)
            if self.plan and self.plan.gated and engine.state.holds_addresses:
                self._services.gate.spoke(self.plan.claims[0].lease_ms)
        self._services.alarms.set(self, engine.next_timer())
        if engine.closed and not self._holder.releasing:
            self._closed.set()

    def on_alarm(self, due: float) -> None:
        """A deadline of the engine has come."""
        now = max(due, self._loop.time())
        self._services.measurements.observe_lateness(now - due)
        self.engine.handle_timer(now)
        self._after()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case StateChanged():
                self._state_changed(effect)
            case TakeAddresses():
                self._take()
            case ReleaseAddresses():
                self.arrival.abandon()
                heard = self._latest in _SUCCESSOR_HEARD and not self.gate_problem
                self._holder.linger() if heard else self._holder.release()
            case Announce() if not self.arrival.silent:
                self._holder.announce()
            case ProbeMaster() if self._segment and self._holder.voice:
                self._segment.prober.ask_host(effect.source, self._holder.voice.source_towards(effect.source))
            case MasterDead() if self._segment:
                self._segment.spread_death(effect)
            case ProbeAddress() if self._segment and self.plan:
                for address in self.plan.addresses:
                    self._segment.prober.ask_address(address)
            case _:
                self._tell(effect)

    def _tell(self, effect: Effect) -> None:
        """Effects that change nothing on the wire or in the kernel."""
        match effect:
            case PacketRejected():
                self._count_rejected(effect)
            case SplitBrain():
                self.split_brains += 1
                self._report("split-brain", source=effect.source, won=effect.won)
            case AddressConflict():
                self.address_conflicts += 1
                self._report("address-conflict", mac=effect.owner)
            case IdentityChanged():
                self._services.identity_changed(effect.epoch, twin=effect.twin)
                if self.engine.state.holds_addresses:
                    self._holder.leave_will(self._farewell())

    def _state_changed(self, change: StateChanged) -> None:
        self._latest = change.reason
        self.transitions.count(change.reason.value)
        if change.new is State.MASTER:
            self.arrival.decided()
            if change.old is State.BACKUP:
                self._services.measurements.observe_step("decision", self._loop.time() - self.engine.noticed_at)
        elif change.new is State.HANDOVER:
            self._holder.hand_over()
        master = self.engine.master and self.engine.master.source
        self._report("transition", **{"from": change.old.value, "to": change.new.value, "reason": change.reason.value, "master": master})

    def _take(self) -> None:
        """Attach first, then speak, if there is a predecessor that answers: when it hears us it leaves at once."""
        if not self.plan or self.plan.device is None:
            self.engine.addresses_failed(self._loop.time())
            return
        if self.arrival.pending and self.engine.reason in _LIVE_PREDECESSOR:
            awaited = [(self.plan.device, address) for address in self.plan.addresses if ":" in address]
            self.arrival.hold_back(awaited, widest_rank_delay_s(self.config.advertisement_interval_s))
        self._holder.take(self._farewell())

    def _taken(self, plan: AddressPlan, errnos: list[int]) -> None:
        self.losses.restored()
        if self.engine.state is not State.MASTER:
            return
        if sentence := refusal(plan, errnos):
            self.arrival.abandon()
            self.losses.refused(sentence)
            return
        self.losses.accepted()
        self.arrival.attached()

    def _farewell(self) -> bytes | None:
        """The bow-out our guardian sends if we die; a guardian knows no unicast peers."""
        return self.engine.farewell() if self.config.peers.mode is PeerMode.MULTICAST else None

    def _send(self, packets: list[bytes]) -> None:
        segment = self._segment
        if not segment or not self._holder.voice:
            return
        self.sent += len(packets)
        for packet in packets:
            if self.config.peers.mode is PeerMode.UNICAST:
                for peer in self.config.peers.addresses:
                    segment.wire.send_unicast(packet, peer)
            else:
                for frame in self._holder.voice.frames(packet, master=self.engine.state is State.MASTER):
                    segment.wire.send(frame)

    def _send_frame(self, frame: bytes) -> bool:
        return self._segment.wire.send(frame) if self._segment else False

    def _count_rejected(self, effect: PacketRejected) -> None:
        self.rejected.count(effect.reason)
        told = {"group": self.config.name, "reason": effect.reason, "source": effect.source, "detail": effect.detail}
        self._services.rejected.record(interface=self.link.name if self.link else None, **told)

    def _report(self, event: str, **fields: Any) -> None:
        interface = self.link.name if self.link else self.config.interface
        change = {"event": event, "group": self.config.name, "vhid": self.config.vhid, "interface": interface, **fields}
        self._services.afterwards.call(partial(self._services.report, self.config, change))
