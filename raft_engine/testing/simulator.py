"""A whole cluster on one thread, from one seed: real cores, simulated clocks, disks and network.

Everything that the core does not promise is violated here: messages are delayed, reordered, dropped and doubled; writes
become durable late, and a crash loses what was not; nodes stop, pause and come back; links break in one direction. After
every event the invariants of Raft are checked, and what clients were told is checked against what is committed.

Same seed, same run: all chance comes from one `random.Random(seed)`, and no set is iterated unsorted.

    Simulation(seed=7, nodes=3).run(steps=20_000)

Source: TigerBeetle VOPR, FoundationDB simulation; invariants of Raft paper figure 3.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from raft_engine.config import Config
from raft_engine.core import invariants
from raft_engine.core.commands import (
    AppendEntries,
    Apply,
    BuildSnapshot,
    Command,
    InstallSnapshot,
    PurgeLog,
    ReplicateEntries,
    Report,
    ResetLog,
    Respond,
    RespondWrites,
    SaveHardState,
    SendMessage,
    SendSnapshotChunk,
    SetPeers,
    StoreSnapshotChunk,
    TruncateLog,
)
from raft_engine.core.engine import Engine
from raft_engine.core.events import (
    AllowNextRevertRequested,
    Applied,
    BarrierRequested,
    ClientWrite,
    ClientWritesRequested,
    ElectRequested,
    Event,
    HeartbeatRequested,
    LogIoFlushed,
    MembershipChangeRequested,
    MessageReceived,
    PeerConnected,
    PeerLost,
    PeerReplaced,
    PurgeLogRequested,
    ReadRequested,
    SnapshotBuilt,
    SnapshotChunkStored,
    SnapshotInstalled,
    SnapshotRequested,
    Ticked,
    TransferLeaderRequested,
)
from raft_engine.core.state import Restored
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import Incarnation, LogIndex, NodeId, PeerId, Term, Ticket
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import (
    Membership,
    NodeAddress,
    StoredMembership,
    decode_membership,
    encode_membership,
    uniform,
)
from raft_engine.types.messages import AppendRequest, Message, SnapshotChunk
from raft_engine.types.outcomes import BarrierOutcome, Outcome, ReadOutcome, TriggerOutcome, WriteOutcome
from raft_engine.types.snapshot import NO_SNAPSHOT, SnapshotMeta

LogCommand = SaveHardState | AppendEntries | TruncateLog | PurgeLog | ResetLog


@dataclass
class DiskImage:
    """What a log holds: durable, or durable plus what is still being written."""

    hard_state: HardState = field(default_factory=HardState)
    purged: LogId = BEFORE_LOG
    entries: list[Entry] = field(default_factory=list)

    def copy(self) -> DiskImage:
        return DiskImage(self.hard_state, self.purged, list(self.entries))

    @property
    def last(self) -> LogId:
        return self.entries[-1].log_id if self.entries else self.purged

    def do(self, command: LogCommand) -> None:
        if isinstance(command, SaveHardState):
            self.hard_state = command.hard_state
        elif isinstance(command, AppendEntries):
            assert command.entries[0].index == self.last.index + 1, "a gap in the log"
            self.entries.extend(command.entries)
        elif isinstance(command, TruncateLog):
            del self.entries[max(0, command.after - self.purged.index) :]
        elif isinstance(command, PurgeLog):
            del self.entries[: command.upto.index - self.purged.index]
            self.purged = command.upto
        else:
            self.entries.clear()
            self.purged = command.upto

    def read(self, after: int, upto: int) -> list[Entry]:
        return self.entries[after - self.purged.index : upto - self.purged.index]

    def holds(self, log_id: LogId) -> bool:
        if log_id.index <= self.purged.index:
            return True
        found = self.read(log_id.index - 1, log_id.index)
        return bool(found) and found[0].term == log_id.term


@dataclass
class Machine:
    """A state machine that can be compared: the log ids applied, folded into a hash."""

    last: LogId = BEFORE_LOG
    digest: bytes = b""
    membership: StoredMembership = field(default_factory=StoredMembership)

    def apply(self, entry: Entry) -> bytes:
        assert entry.index == self.last.index + 1, f"applied {entry} after {self.last}"
        self.last = entry.log_id
        self.digest = hashlib.sha256(self.digest + entry.record).digest()
        if entry.kind == EntryKind.MEMBERSHIP:
            self.membership = StoredMembership(entry.log_id, decode_membership(entry.data))
        return self.digest

    def copy(self) -> Machine:
        return Machine(self.last, self.digest, self.membership)


def restored_from(disk: DiskImage, machine: Machine, snapshot: SnapshotMeta | None) -> Restored:
    """Return what a node finds at start; a crash may have come between taking a snapshot over and resetting the log."""
    if snapshot is not None and not disk.holds(snapshot.last_log_id):
        disk.entries.clear()
        disk.purged = snapshot.last_log_id
    runs: list[tuple[LogIndex, Term, NodeId]] = []
    for entry in disk.entries:
        if not runs or runs[-1][1] != entry.term:
            runs.append((entry.index, entry.term, entry.node_id))
    memberships = tuple(
        StoredMembership(entry.log_id, decode_membership(entry.data))
        for entry in disk.entries
        if entry.kind == EntryKind.MEMBERSHIP
    )
    return Restored(disk.hard_state, disk.purged, disk.last, tuple(runs), memberships, snapshot or NO_SNAPSHOT, machine.last)


@dataclass
class SimNode:
    """One node: its engine while it runs, and what would survive a crash."""

    me: PeerId
    durable: DiskImage
    view: DiskImage
    engine: Engine | None = None
    life: int = 0
    writing: deque[LogCommand] = field(default_factory=deque)
    flushing: bool = False
    machine: Machine = field(default_factory=Machine)
    snapshot: tuple[SnapshotMeta, Machine] | None = None
    received: SnapshotMeta | None = None
    machine_done_at: float = 0.0
    """Completions of the state machine come in order: none before this time."""
    committed: int = 0
    """What its engine had committed when it was last looked at."""
    disk_slowness: float = 1.0
    """Share of `Faults.fsync_ms_max` that a flush takes at most: disks differ."""
    paused_until: float = 0.0
    stopped: bool = False


@dataclass
class Faults:
    """How rough the world is; probabilities per message or per second."""

    drop: float = 0.02
    double: float = 0.02
    delay_ms_max: float = 20.0
    late: float = 0.0
    """Messages that arrive when nobody expects them any more, up to two seconds later."""
    fsync_ms_max: float = 8.0
    crashes_per_s: float = 0.15
    partitions_per_s: float = 0.2
    pauses_per_s: float = 0.05
    triggers_per_s: float = 1.0
    contests_per_s: float = 0.0
    """Two nodes that do not hear each other are asked to campaign for real, and some node crashes meanwhile."""
    coups_per_s: float = 0.0
    """The leader is cut off while another node campaigns, and clients go on asking both."""
    ambush: float = 0.0
    """How often a node crashes while its vote is on its way to the disk, to be back before anybody has noticed."""
    rejoins_per_s: float = 0.05
    losses_per_s: float = 0.0
    """Data directories removed by hand; the permission comes later."""
    changes_per_s: float = 0.0
    """Membership changes; give the simulation some `spares` for them."""
    writes_per_s: float = 60.0
    reads_per_s: float = 20.0


CALM = Faults(drop=0, double=0, crashes_per_s=0, partitions_per_s=0, pauses_per_s=0, triggers_per_s=0, rejoins_per_s=0)
MEMBERSHIP = Faults(losses_per_s=0.1, changes_per_s=0.5)


class Simulation:
    """Drives a cluster; `run` raises AssertionError with the trace's end when something impossible happens."""

    def __init__(
        self, seed: int, nodes: int = 3, config: Config | None = None, faults: Faults | None = None, spares: int = 0
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 (a simulation must be repeatable)
        self.config = config or Config(snapshot_logs_since_last=60, max_in_snapshot_log_to_keep=10, max_payload_entries=7)
        self.faults = faults or Faults()
        self.now = 0.0
        self.trace: deque[str] = deque(maxlen=400)
        self.trace_hash = hashlib.sha256()
        self.counters: dict[str, int] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._tickets = 0
        self._lives = 0
        self._waiting: dict[int, Callable[[Outcome], None]] = {}
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.snapshots: dict[str, Machine] = {}
        self.leaders: dict[int, tuple[NodeId, int]] = {}
        """Who led a term, and in which of its lives: a restarted leader has lost its term."""
        self.lost: dict[PeerId, DiskImage] = {}
        """What was on the disks of those whose directory is gone."""
        self.committed: list[Entry] = []
        self.digests: dict[int, bytes] = {}
        self.acknowledged: dict[int, LogId] = {}
        self.acknowledged_index = 0
        ids = [self._new_life(NodeId(number)) for number in range(1, nodes + spares + 1)]
        self.addresses = {peer.node_id: NodeAddress(f"n{peer.node_id}:1", f"http://n{peer.node_id}") for peer in ids}
        self.first = uniform(ids[:nodes], {peer.node_id: self.addresses[peer.node_id] for peer in ids[:nodes]})
        self.nodes = {peer.node_id: self._first_member(peer, self.first) for peer in ids[:nodes]}
        self.nodes |= {peer.node_id: SimNode(peer, DiskImage(), DiskImage()) for peer in ids[nodes:]}
        self._disturbed = True
        for node in self.nodes.values():
            node.disk_slowness = self.random.random() ** 2
            self._boot(node)

    # -- time --------------------------------------------------------------------------------------------------------

    def at(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Do `action` after `delay_ms` of virtual time."""
        self._serial += 1
        heapq.heappush(self._queue, (self.now + delay_ms, self._serial, action))

    def run(self, virtual_s: float, *, heal: bool = True) -> None:
        """Live through `virtual_s` seconds of faults, then heal and demand progress.

        Raises: AssertionError: an invariant is broken; the message has the seed and the last steps.
        """
        try:
            end = self.now + virtual_s * 1000
            faults = (
                self._crash,
                self._partition,
                self._pause,
                self._rejoin,
                self._lose,
                self._change,
                self._contest,
                self._coup,
            )
            for chaos in (*faults, self._trigger, self._write, self._read):
                self._schedule(chaos)
            self._advance(end)
            if heal:
                self._heal()
        except AssertionError as error:
            tail = "\n".join(list(self.trace)[-60:])
            raise AssertionError(f"seed {self.seed}: {error}\n{tail}") from error

    def _advance(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = until

    def _heal(self) -> None:
        """No more faults: within ten virtual seconds a write must succeed and all nodes must agree."""
        self._disturbed = False
        delay, fsync = min(self.faults.delay_ms_max, 20.0), min(self.faults.fsync_ms_max, 8.0)
        self.faults = replace(self.faults, delay_ms_max=delay, fsync_ms_max=fsync)
        self.cut.clear()
        self._note("heal", "")
        for node in self.nodes.values():
            node.stopped = False
            if node.engine is None:
                self._boot(node)
        self._reconnect_all()
        self._allow_all()
        self._advance(self.now + 10_000)
        before = len(self.acknowledged)
        for _ in range(200):
            self._write()
            self._advance(self.now + 20)
        self._advance(self.now + 2_000)
        assert len(self.acknowledged) > before, "no write succeeded after all faults were healed"
        leader = self._leader()
        assert leader is not None and leader.engine is not None, "no leader after all faults were healed"  # noqa: PT018
        members = [node for node in self.nodes.values() if leader.engine.state.membership.is_member(node.me)]
        applied = {node.machine.last.index for node in members}
        states = {node.me.node_id: node.engine.state.server_state() for node in self.nodes.values() if node.engine}
        assert not leader.engine.state.membership.is_joint, "a joint configuration was left standing"
        assert len(applied) == 1, f"nodes did not converge: {applied}, {states}"
        for log_id in self.acknowledged.values():
            assert self.committed[log_id.index - 1].term == log_id.term, f"acknowledged write {log_id} is gone"

    def _schedule(self, chaos: Callable[[], None]) -> None:
        rate = float(getattr(self.faults, f"{_RATES[chaos.__name__]}_per_s"))
        if rate > 0 and self._disturbed:

            def happen() -> None:
                if self._disturbed:
                    chaos()
                    self._schedule(chaos)

            self.at(self.random.expovariate(rate) * 1000, happen)

    def _note(self, what: str, detail: str) -> None:
        line = f"{self.now:10.2f} {what} {detail}"
        self.trace.append(line)
        self.trace_hash.update(line.encode())
        self.counters[what] = self.counters.get(what, 0) + 1

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _new_life(self, node_id: NodeId) -> PeerId:
        self._lives += 1
        return PeerId(node_id, Incarnation(f"{self._lives:06x}{self.seed:013x}{node_id:013x}"))

    def _leader(self) -> SimNode | None:
        running = [(node.engine, node) for node in self.nodes.values() if node.engine is not None]
        leading = [(engine.term, node) for engine, node in running if engine.is_leader]
        return max(leading, key=lambda item: item[0])[1] if leading else None

    def _first_member(self, peer: PeerId, first: Membership) -> SimNode:
        entry = make_entry(Term(0), NodeId(0), LogIndex(1), EntryKind.MEMBERSHIP, encode_membership(first))
        return SimNode(peer, DiskImage(entries=[entry]), DiskImage(entries=[entry]))

    def _boot(self, node: SimNode) -> None:
        node.life += 1
        node.writing.clear()
        node.flushing = False
        node.received = None
        node.machine = node.snapshot[1].copy() if node.snapshot is not None else Machine()
        restored = restored_from(node.durable, node.machine, node.snapshot[0] if node.snapshot is not None else None)
        node.view = node.durable.copy()
        node.engine = Engine(self.config, node.me, restored, self.random.random, self.now)
        node.committed = node.engine.state.committed
        self._note("boot", f"{node.me} {node.durable.hard_state.vote} last {node.durable.last}")
        self._carry_out(node, node.engine.start(self.now))
        self._tick(node, node.life)
        self._reconnect_all()

    def stop(self, node: SimNode) -> None:
        """Stop a node at once; of what it was writing, a random beginning survives."""
        for command in list(node.writing)[: self.random.randint(0, len(node.writing))]:
            node.durable.do(command)
        node.engine = None
        node.life += 1
        self._note("crash", f"{node.me}")
        for other in self.nodes.values():
            self._feed(other, PeerLost(node.me, "connection reset"))

    def _tick(self, node: SimNode, life: int) -> None:
        if node.life == life and node.engine is not None:
            self._feed(node, Ticked())
            self.at(self.config.tick_interval_ms * (0.9 + 0.2 * self.random.random()), lambda: self._tick(node, life))

    def _reconnect_all(self) -> None:
        for one in self.nodes.values():
            if one.engine is None:
                continue
            for peer in sorted(one.engine.state.membership.members()):
                other = self.nodes[peer.node_id]
                if one is other or other.engine is None or not self._linked(one, other):
                    continue
                if other.me != peer:
                    self._feed(one, PeerReplaced(peer, other.me.incarnation))
                elif peer not in one.engine.state.connected:
                    self._feed(one, PeerConnected(peer))

    def _linked(self, one: SimNode, other: SimNode) -> bool:
        pair = (one.me.node_id, other.me.node_id)
        return pair not in self.cut and pair[::-1] not in self.cut

    def _feed(self, node: SimNode, event: Event) -> None:
        """Give `event` to a running node, later if it is paused, and check what it has become."""
        if node.engine is None:
            return
        if self.now < node.paused_until:
            life = node.life
            self.at(node.paused_until - self.now, lambda: self._feed(node, event) if node.life == life else None)
            return
        engine = node.engine
        commands = engine.handle(event, self.now)
        invariants.check(engine.state)
        self._carry_out(node, commands)
        self._check_node(node, engine)

    # -- what the runtime would do --------------------------------------------------------------------------------------

    def _carry_out(self, node: SimNode, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, SaveHardState | AppendEntries | TruncateLog | PurgeLog | ResetLog):
                node.view.do(command)
                node.writing.append(command)
                self._flush_soon(node)
                if isinstance(command, SaveHardState):
                    self._ambush(node)
            elif isinstance(command, SendMessage):
                self._send(node, command.target, command.message)
            elif isinstance(command, ReplicateEntries):
                self._replicate(node, command)
            elif isinstance(command, Apply):
                self._apply(node, command)
            elif isinstance(command, BuildSnapshot):
                self._build(node)
            elif isinstance(command, SendSnapshotChunk):
                data = command.meta.snapshot_id.encode()
                chunk = SnapshotChunk(command.vote, command.session, command.round, command.meta, 0, data, True)
                self._send(node, command.target, chunk)
            elif isinstance(command, StoreSnapshotChunk):
                chunk = command.chunk
                node.received = chunk.meta
                size = chunk.meta.size_bytes
                stored = SnapshotChunkStored(command.sender, chunk.session, chunk.round, chunk.meta, size, True)
                self._later(node, self.faults.fsync_ms_max, stored)
            elif isinstance(command, InstallSnapshot):
                self._install(node, command.meta)
            elif isinstance(command, Respond):
                self._answer(command.ticket, command.outcome)
            elif isinstance(command, RespondWrites):
                for ticket, log_id, result in command.writes:
                    self._answer(ticket, WriteOutcome(log_id, result))
            elif isinstance(command, Report):
                self._note(command.event, f"{node.me} {command.detail}")
            else:
                assert isinstance(command, SetPeers)
                self.at(1.0, self._reconnect_all)

    def _later(self, node: SimNode, delay_ms_max: float, event: Event) -> None:
        life = node.life
        self.at(self.random.random() * delay_ms_max, lambda: self._feed(node, event) if node.life == life else None)

    def _flush_soon(self, node: SimNode) -> None:
        if node.flushing:
            return
        node.flushing = True
        life = node.life
        self.at(self.random.random() * self.faults.fsync_ms_max * node.disk_slowness, lambda: self._flush(node, life))

    def _flush(self, node: SimNode, life: int) -> None:
        if node.life != life or node.engine is None:
            return
        node.flushing = False
        batch = self.random.randint(1, len(node.writing))
        io_id = node.writing[0].io_id
        for _ in range(batch):
            command = node.writing.popleft()
            node.durable.do(command)
            io_id = command.io_id
        if node.writing:
            self._flush_soon(node)
        self._feed(node, LogIoFlushed(io_id))

    def _replicate(self, node: SimNode, command: ReplicateEntries) -> None:
        """The entries are read a little later, by which time the leader may have changed its mind about what it sends."""
        life = node.life

        def read() -> None:
            leader = node.engine.state.leader if node.life == life and node.engine is not None else None
            progress = leader.progress.get(command.target) if leader is not None else None
            if leader is None or leader.vote != command.vote or progress is None or progress.session != command.session:
                return
            entries = node.view.read(command.prev.index, command.upto)
            if len(entries) < command.upto - command.prev.index and progress.matching >= command.upto:
                return  # sent twice: the first was acknowledged, and the entries purged, before the second was read
            assert len(entries) == command.upto - command.prev.index, f"{command} reads entries that are not there"
            vote, session, check = command.vote, command.session, command.check
            committed, prev = command.committed, command.prev
            request = AppendRequest(vote, session, check, command.round, prev, committed, tuple(entries))
            self._send(node, command.target, request)

        self.at(self.random.random() * 2.0, read)

    def _send(self, node: SimNode, target: PeerId, message: Message) -> None:
        other = self.nodes[target.node_id]
        if other.me != target or (node.me.node_id, target.node_id) in self.cut:
            return
        copies = 1
        if self._disturbed:
            copies = 0 if self.random.random() < self.faults.drop else 2 if self.random.random() < self.faults.double else 1
        for _ in range(copies):
            life = other.life
            event = MessageReceived(node.me, message)
            late = self._disturbed and self.faults.late > 0 and self.random.random() < self.faults.late
            self.at(
                self.random.random() ** 3 * (2000.0 if late else self.faults.delay_ms_max),
                lambda life=life, event=event: self._feed(other, event) if other.life == life else None,  # type: ignore[misc]
            )

    def _apply(self, node: SimNode, command: Apply) -> None:
        entries = node.view.read(command.after, command.upto.index)
        assert entries, f"{command} has nothing to apply"
        assert node.durable.holds(command.upto), f"{node.me} applies {command.upto}, which is not durable there"
        results: list[object] = []
        for entry in entries:
            digest = node.machine.apply(entry)
            known = self.digests.setdefault(entry.index, digest)
            assert known == digest, f"{node.me} applied another state at {entry.log_id}"
            results.append(digest)
        self._machine_done(node, 1.0, lambda: self._feed(node, Applied(command.upto, results)))

    def _machine_done(self, node: SimNode, delay_ms_max: float, done: Callable[[], None]) -> None:
        life = node.life
        node.machine_done_at = max(node.machine_done_at, self.now) + self.random.random() * delay_ms_max
        self.at(node.machine_done_at - self.now, lambda: done() if node.life == life else None)

    def _build(self, node: SimNode) -> None:
        machine = node.machine.copy()
        name = f"{machine.last}-{node.me.node_id}-{self._serial}"
        meta = SnapshotMeta(machine.last, machine.membership, name, 100)
        life = node.life

        def done() -> None:
            if node.life != life:
                return
            self.snapshots[name] = machine
            if node.snapshot is None or node.snapshot[0].last_log_id < meta.last_log_id:
                node.snapshot = (meta, machine)
            self._feed(node, SnapshotBuilt(meta))

        applied_at = max(0.0, node.machine_done_at - self.now)  # what it covers was reported as applied before it is built
        self.at(applied_at + self.random.random() * 50, done)

    def _install(self, node: SimNode, meta: SnapshotMeta) -> None:
        assert node.received == meta
        machine = self.snapshots[meta.snapshot_id]

        def done() -> None:
            if node.machine.last.index < meta.last_log_id.index:
                node.snapshot = (meta, machine)
                node.machine = machine.copy()
            self._feed(node, SnapshotInstalled(meta))

        self._machine_done(node, 10.0, done)

    # -- clients and operators ------------------------------------------------------------------------------------------

    def ask(self, node: SimNode, make: Callable[[Ticket], Event], then: Callable[[Outcome], None] | None = None) -> None:
        """Give a node a request; `then` gets its outcome."""
        self._tickets += 1
        if then is not None:
            self._waiting[self._tickets] = then
        self._feed(node, make(Ticket(self._tickets)))

    def _answer(self, ticket: Ticket, outcome: Outcome) -> None:
        then = self._waiting.pop(ticket, None)
        if then is not None:
            self.at(0.0, lambda: then(outcome))  # the node finishes what it is doing first

    def _some(self) -> SimNode:
        return self.nodes[NodeId(self.random.randint(1, len(self.nodes)))]

    def _write(self, node: SimNode | None = None) -> None:
        node = node or self._some()
        number = self._tickets + 1

        def told(outcome: Outcome) -> None:
            if isinstance(outcome, WriteOutcome):
                self.acknowledged[number] = outcome.log_id
                self.acknowledged_index = max(self.acknowledged_index, outcome.log_id.index)
                self.counters["acknowledged"] = self.counters.get("acknowledged", 0) + 1

        data = number.to_bytes(8, "big")
        self.ask(node, lambda ticket: ClientWritesRequested([ClientWrite(ticket, data)]), told)

    def _read(self, node: SimNode | None = None) -> None:
        floor = self.acknowledged_index
        lease = self.random.random() < 0.5

        def told(outcome: Outcome) -> None:
            if isinstance(outcome, ReadOutcome):
                self.counters["reads"] = self.counters.get("reads", 0) + 1
                assert outcome.index >= floor, f"a read saw {outcome.index} after {floor} was acknowledged (lease: {lease})"

        self.ask(node or self._some(), lambda ticket: ReadRequested(ticket, lease, 1000.0), told)

    def _trigger(self) -> None:
        node, to = self._some(), self._some().me.node_id
        choice = self.random.randint(0, 5)
        requests: list[Callable[[Ticket], Event]] = [
            lambda ticket: ElectRequested(ticket, pre_vote=self.random.random() < 0.5, wait_ms=500.0),
            lambda ticket: HeartbeatRequested(ticket, 500.0),
            lambda ticket: SnapshotRequested(ticket, 500.0),
            lambda ticket: PurgeLogRequested(ticket, LogIndex(node.machine.last.index), False, 500.0),
            lambda ticket: TransferLeaderRequested(ticket, to, 500.0),
            lambda ticket: AllowNextRevertRequested(ticket, to, self.random.random() < 0.5, 1000.0),
        ]
        self.ask(node, requests[choice])
        if choice == 4 and self.random.random() < 0.3:  # whom leadership is handed to goes away just then
            pairs = _both_ways(to, [node.me.node_id]) if to != node.me.node_id else set()
            self.cut |= pairs
            self.at(700.0, lambda: self.cut.difference_update(pairs))

    def _coup(self) -> None:
        """What a lease must survive: some nodes have heard from the leader later than others when the election begins."""
        leader = self._leader()
        if leader is None or len(self.nodes) == 1:
            return
        others = sorted(self.nodes.keys() - {leader.me.node_id})
        first, rival = self.random.choice(others), self.nodes[self.random.choice(others)]
        first_pairs = _both_ways(leader.me.node_id, [first])
        pairs = _both_ways(leader.me.node_id, others)
        self.cut |= first_pairs
        self._note("coup", f"{rival.me} against {leader.me}, node {first} is cut off first")

        def cut_off() -> None:
            self.cut |= pairs

        def strike() -> None:
            if self.random.random() < 0.3:
                wanted = rival.me.node_id
                self.ask(leader, lambda ticket: TransferLeaderRequested(ticket, wanted, 500.0))
                self.at(self.random.random() * 15, cut_off)
            else:
                cut_off()
                self.ask(rival, lambda ticket: ElectRequested(ticket, pre_vote=False, wait_ms=500.0))
            for step in range(40):
                self.at(step * 10.0, lambda: self._write(rival))
                self.at(step * 10.0 + 5.0, lambda: self._read(leader))

        def mend() -> None:
            self.cut -= pairs
            self._reconnect_all()

        self.at(self.random.random() * 250, strike)
        self.at(700.0, mend)

    def _contest(self) -> None:
        """Two rivals who do not hear each other, and a crash in between: what a vote must survive."""
        if len(self.nodes) == 1:
            return
        one, other = (self.nodes[number] for number in self.random.sample(sorted(self.nodes), 2))
        if self.random.random() < 0.5:
            one, other = max((other, one), (one, other), key=lambda pair: pair[0].disk_slowness)
        struck = self._some() if self.random.random() < 0.5 else one
        pairs = _both_ways(one.me.node_id, [other.me.node_id])
        self.cut |= pairs
        self._note("contest", f"{one.me} and {other.me}, {struck.me} crashes")

        def elect(node: SimNode) -> None:
            self.ask(node, lambda ticket: ElectRequested(ticket, pre_vote=False, wait_ms=0.0))

        def back() -> None:
            self._restart(struck)
            elect(one)

        def strike() -> None:
            if struck.engine is not None and not struck.stopped:
                self.stop(struck)
                self.at(self.random.random() * 20, back)

        def mend() -> None:
            self.cut -= pairs

        elect(one)
        self.at(self.random.random() * 40, strike)
        self.at(self.random.random() * 60, mend)
        if self.random.random() < 0.5:
            self.at(self.random.random() * 80, lambda: elect(other))

    # -- faults -----------------------------------------------------------------------------------------------------------

    def _crash(self) -> None:
        """Leaders more often than others: they have the most to lose."""
        leader = self._leader()
        node = leader if leader is not None and self.random.random() < 0.4 else self._some()
        if node.engine is not None and not node.stopped:
            self.stop(node)
            self.at(self.random.random() ** 2 * 1500, lambda: self._restart(node))

    def _ambush(self, node: SimNode) -> None:
        if not self._disturbed or self.faults.ambush == 0 or self.random.random() >= self.faults.ambush:
            return
        life = node.life

        def strike() -> None:
            if node.life == life and node.engine is not None and not node.stopped:
                self.stop(node)
                self.at(self.random.random() * 50, lambda: self._restart(node))

        self.at(self.random.random() * 10, strike)

    def _restart(self, node: SimNode) -> None:
        if node.engine is None and not node.stopped:
            self._boot(node)

    def _partition(self) -> None:
        one, other = self._some().me.node_id, self._some().me.node_id
        pairs = {(one, other)} if self.random.random() < 0.4 else {(one, other), (other, one)}
        if self.random.random() < 0.5:
            leader = self._leader()
            alone = leader.me.node_id if leader is not None and self.random.random() < 0.5 else one
            pairs = _both_ways(alone, self.nodes)
        self.cut |= pairs
        self._note("cut", f"{sorted(pairs)}")

        def mend() -> None:
            self.cut -= pairs
            self._note("mend", f"{sorted(pairs)}")
            if self.random.random() < 0.5:
                for one, other in sorted(pairs):
                    self._feed(self.nodes[one], PeerLost(self.nodes[other].me, "the link was cut"))
            self._reconnect_all()

        self.at(self.random.random() * 1500, mend)

    def _pause(self) -> None:
        node = self._some()
        node.paused_until = self.now + self.random.random() * 800
        self._note("pause", f"{node.me} until {node.paused_until:.0f}")

    def _rejoin(self) -> None:
        """An operator wipes a node the safe way: stop, barrier without it, permission, wipe with its vote kept, start.

        Half the time at the worst moment: others are cut off meanwhile, and the leader dies when the node has been wiped.
        """
        leader = self._leader()
        if leader is None or any(other.stopped or other.durable.hard_state.recovery for other in self.nodes.values()):
            return
        node = self._some()
        if node.engine is None or node is leader:
            return
        bystanders = sorted(self.nodes.keys() - {leader.me.node_id, node.me.node_id})
        away = self.random.sample(bystanders, min(len(bystanders), (len(self.nodes) - 1) // 2))
        pairs = {pair for number in away for pair in _both_ways(number, self.nodes)}
        worst = self.random.random() < 0.5

        def cut_off() -> None:
            self.cut |= pairs

        def mend() -> None:
            self.cut -= pairs
            self._reconnect_all()

        def wiped() -> None:
            if worst and leader.engine is not None and not leader.stopped:
                self.stop(leader)
                self.at(self.random.random() * 100, mend)
                self.at(1500.0, lambda: self._restart(leader))

        if worst:
            self.at(self.random.random() * 500, cut_off)
            self.at(2500.0, mend)
        self.at(200.0 if worst else 0.0, lambda: self._wipe(node, leader, wiped))

    def _wipe(self, node: SimNode, leader: SimNode, wiped: Callable[[], None]) -> None:
        if node.stopped or node.engine is None:
            return
        node.stopped = True
        self.stop(node)
        self._note("rejoin", f"{node.me} stopped, barrier on {leader.me}")
        life = node.life

        def give_up() -> None:
            if node.engine is None and node.life == life:
                node.stopped = False
                self._boot(node)

        def armed(barrier: LogId) -> None:
            if not node.stopped or node.life != life:
                return  # everything was healed meanwhile, or somebody started it: that barrier is from before
            node.durable = DiskImage(HardState(node.durable.hard_state.vote, Recovery(barrier, "rejoin")))
            node.snapshot = None
            node.stopped = False
            self._note("wipe", f"{node.me} until {barrier}")
            self._boot(node)
            self.at(self.random.random() * 10, wiped)

        def held(outcome: Outcome) -> None:
            if isinstance(outcome, BarrierOutcome):
                wanted = NodeId(node.me.node_id)
                self.ask(leader, lambda ticket: AllowNextRevertRequested(ticket, wanted, True, 60_000.0))
                self.at(self.random.random() * 300, lambda: armed(outcome.log_id))
            else:
                give_up()

        excluded = frozenset({node.me.node_id})
        self.ask(leader, lambda ticket: BarrierRequested(ticket, excluded, 1000.0), held)
        self.at(3000, give_up)

    def _lose(self) -> None:
        """Somebody removes a data directory by hand. The permission comes before, later, or when all is healed."""
        node, leader = self._some(), self._leader()
        if node.engine is None or leader is None or leader is node or leader.engine is None or not self._all_whole(leader):
            return
        if len(leader.engine.state.membership.voters()) < 3:
            return
        self.stop(node)
        self._note("lose", f"{node.me}")
        self.lost[node.me] = node.durable
        life = self._new_life(node.me.node_id)
        self.nodes[node.me.node_id] = blank = SimNode(life, DiskImage(), DiskImage(), life=node.life + 1)
        self.at(self.random.random() * 1000, lambda: self._restart(blank))
        self.at(self.random.random() * 3000, self._allow_all)

    def _all_whole(self, leader: SimNode) -> bool:
        """Whether every member that the leader knows is there, in the life that the leader knows, and not recovering."""
        assert leader.engine is not None
        state = leader.engine.state
        return (
            not state.membership.is_joint
            and state.effective.log_id.index <= state.committed
            and all(self.nodes[peer.node_id].me == peer for peer in state.membership.members())
            and not any(node.stopped or node.durable.hard_state.recovery for node in self.nodes.values())
        )

    def _allow_all(self) -> None:
        leader = self._leader()
        if leader is None or leader.engine is None:
            return
        for peer in sorted(leader.engine.state.membership.members()):
            if self.nodes[peer.node_id].me != peer:
                wanted = peer.node_id
                self.ask(leader, lambda ticket, wanted=wanted: AllowNextRevertRequested(ticket, wanted, True, 0.0))  # type: ignore[misc]

    def _change(self) -> None:
        """An operator wants other members."""
        leader = self._leader()
        if leader is None or leader.engine is None or not self._all_whole(leader):
            return
        membership = leader.engine.state.membership
        wanted = frozenset(number for number in self.nodes if self.random.random() < 0.6) or frozenset({leader.me.node_id})
        add = {self.nodes[number].me: self.addresses[number] for number in sorted(wanted) if not membership.names(number)}
        retain = self.random.random() < 0.3
        self._note("change", f"{membership} -> {sorted(wanted)}")

        def promote(outcome: Outcome) -> None:
            if isinstance(outcome, TriggerOutcome) and outcome.observed and leader.engine is not None:
                self.ask(leader, lambda ticket: MembershipChangeRequested(ticket, 3000.0, voters=wanted, retain=retain))

        if add:
            self.ask(leader, lambda ticket: MembershipChangeRequested(ticket, 3000.0, add_learners=add), promote)
        else:
            self.ask(leader, lambda ticket: MembershipChangeRequested(ticket, 3000.0, voters=wanted, retain=retain))

    # -- what must hold -----------------------------------------------------------------------------------------------------

    def _check_node(self, node: SimNode, engine: Engine) -> None:
        state = engine.state
        if state.leader is not None:
            mine = (node.me.node_id, node.life)
            known = self.leaders.setdefault(state.term, mine)
            assert known == mine, f"term {state.term} has two leaders: (node, life) {known} and {mine}"
            self._check_leader_is_complete(node)
            by_counting = state.committed > max(node.committed, state.snapshot.last_log_id.index)
            assert not by_counting or state.committed >= state.leader.first_index, (
                f"{node.me} of term {state.term} commits {state.log.at(state.committed)} by counting"
            )
        assert state.committed >= node.committed, f"the commit index of {node.me} went back"
        node.committed = state.committed
        while len(self.committed) < state.committed:
            index = len(self.committed) + 1
            found = node.view.read(index - 1, index)
            if not found:
                return  # it came with a snapshot, whose entries another node has shown
            holders = [other for other in self.nodes.values() if other.durable.holds(found[0].log_id)]
            if state.leader is not None and len(state.memberships) == 1:
                enough = len(state.membership.voters()) // 2 + 1
                voters = state.membership.voters()
                copies = sum(holder.me in voters for holder in holders)
                # An acknowledgement sent before the directory went counts: that life votes for nobody any more.
                copies += sum(me in voters and disk.holds(found[0].log_id) for me, disk in self.lost.items())
                assert copies >= enough, f"{found[0]} is committed with {copies} durable copies"
            self.committed.append(found[0])
        for entry in node.view.read(max(state.committed - 3, node.view.purged.index), state.committed):
            known_entry = self.committed[entry.index - 1]
            assert known_entry.record == entry.record, f"{node.me} committed {entry}, others {known_entry}"

    def _check_leader_is_complete(self, node: SimNode) -> None:
        """Leader completeness: checked when somebody has just been elected."""
        engine = node.engine
        if engine is None or engine.state.leader is None or engine.state.log.last.index != engine.state.leader.first_index:
            return
        if not self.committed or self.committed[-1].term >= engine.state.term:
            return
        last = self.committed[-1]
        assert node.view.holds(last.log_id), f"{node.me} leads term {engine.state.term} without committed {last}"


def _both_ways(one: NodeId, others: Iterable[NodeId]) -> set[tuple[NodeId, NodeId]]:
    return {pair for other in others for pair in ((one, other), (other, one))}


_RATES = {
    "_crash": "crashes",
    "_partition": "partitions",
    "_pause": "pauses",
    "_trigger": "triggers",
    "_contest": "contests",
    "_coup": "coups",
    "_rejoin": "rejoins",
    "_lose": "losses",
    "_change": "changes",
    "_write": "writes",
    "_read": "reads",
}
