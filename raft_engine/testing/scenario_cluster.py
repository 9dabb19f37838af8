"""The cluster that scenario files talk about: real cores, and everything around them done by hand.

Nothing happens by itself: messages stay in flight until they are delivered, the clock stands until it is moved, and a slow
disk keeps what it was given until it is told to flush. Whatever happens is written down in `lines`, in the order in which
it happens.
Source: etcd `rafttest/interaction_env.go`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from raft_engine.config import Config
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
    RespondReads,
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
    Applied,
    Event,
    LogIoFlushed,
    MessageReceived,
    PeerConnected,
    PeerLost,
    PeerReplaced,
    SnapshotBuilt,
    SnapshotChunkStored,
    SnapshotInstalled,
)
from raft_engine.testing.scenario_disk import DiskImage, LogCommand, Machine, restored_from
from raft_engine.testing.scenario_safety import Safety
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import Incarnation, LogIndex, NodeId, PeerId, Term, Ticket
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import NodeAddress, decode_membership, encode_membership, uniform
from raft_engine.types.messages import (
    AppendRequest,
    AppendResponse,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    SnapshotChunk,
    SnapshotChunkResponse,
    TransferRequest,
    VoteRequest,
    VoteResponse,
)
from raft_engine.types.outcomes import (
    BarrierOutcome,
    CommitOutcome,
    Outcome,
    ReadOutcome,
    Refusal,
    TriggerOutcome,
    WriteOutcome,
)
from raft_engine.types.snapshot import SnapshotMeta

ROUNDS_MAX = 1000
"""A conversation that does not come to rest in so many rounds never does."""
SNAPSHOT_BYTES = 100
"""Every snapshot is so large; with `snapshot_max_chunk_size_bytes=40` it travels in three chunks."""


@dataclass
class Actor:
    """One node and the hands it has."""

    me: PeerId
    durable: DiskImage = field(default_factory=DiskImage)
    view: DiskImage = field(default_factory=DiskImage)
    engine: Engine | None = None
    machine: Machine = field(default_factory=Machine)
    snapshot: tuple[SnapshotMeta, Machine] | None = None
    slow_disk: bool = False
    slow_machine: bool = False
    defers_snapshots: bool = False
    ahead: float = 0.0
    """By how much its clock has jumped, in ms."""
    received: tuple[str, int] = ("", 0)
    """The snapshot that is coming in, and how many bytes of it are here."""
    writing: deque[LogCommand] = field(default_factory=deque)
    work: deque[Callable[[], None]] = field(default_factory=deque)
    """What the state machine was asked for and has not done."""
    committed: int = 0

    @property
    def number(self) -> NodeId:
        return self.me.node_id


@dataclass(frozen=True)
class Flight:
    """A message between two nodes."""

    sender: PeerId
    target: PeerId
    message: Message

    def __str__(self) -> str:
        return f"{self.sender.node_id}->{self.target.node_id} {describe(self.message)}"


class Cluster:
    """All nodes of a scenario, the messages between them, and the clock."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.now = 0.0
        self.actors: dict[int, Actor] = {}
        self.flights: list[Flight] = []
        self.cut: set[tuple[int, int]] = set()
        self.lines: list[str] = []
        self._tickets: dict[int, str] = {}
        self.safety = Safety()
        self._snapshots: dict[str, tuple[SnapshotMeta, Machine]] = {}
        self._lives = 0
        self._dial = False

    # -- nodes -------------------------------------------------------------------------------------------------------

    def create(self, voters: int, blank: int = 0) -> None:
        """Make nodes 1 … voters, members of one configuration, and after them blank ones. None of them runs yet."""
        for number in range(1, voters + blank + 1):
            self.actors[number] = Actor(self.new_life(number))
        peers = [self.actors[number].me for number in range(1, voters + 1)]
        data = encode_membership(uniform(peers, {peer.node_id: address_of(peer.node_id) for peer in peers}))
        first = make_entry(Term(0), NodeId(0), LogIndex(1), EntryKind.MEMBERSHIP, data)
        for peer in peers:
            self.actors[peer.node_id].durable.entries.append(first)

    def new_life(self, number: int) -> PeerId:
        self._lives += 1
        return PeerId(NodeId(number), Incarnation(f"{self._lives:06x}".ljust(32, "0")))

    def start(self, actor: Actor) -> None:
        """Start a node with what is on its disk. Node 1 has the shortest election timeout, node 4 and up the longest."""
        actor.view = actor.durable.copy()
        actor.machine = actor.snapshot[1].copy() if actor.snapshot is not None else Machine()
        restored = restored_from(actor.durable, actor.machine, actor.snapshot[0] if actor.snapshot else None)
        share = min(actor.number - 1, 3) / 3.01
        actor.engine = Engine(self.config, actor.me, restored, lambda: share, self.time(actor))
        actor.committed = actor.engine.state.committed
        self._carry_out(actor, actor.engine.start(self.time(actor)))
        self.connect_all()

    def time(self, actor: Actor) -> float:
        """Return what this node's clock shows."""
        return self.now + actor.ahead

    def stop(self, actor: Actor, kept: int = 0) -> None:
        """Stop a node at once: what was not flushed is gone but for its first `kept` writes, and so is what was on its way."""
        actor.engine = None
        for write in list(actor.writing)[:kept]:
            actor.durable.do(write)
        actor.received = ("", 0)
        actor.writing.clear()
        actor.work.clear()
        self.flights = [flight for flight in self.flights if flight.target != actor.me]
        for other in self.actors.values():
            self.feed(other, PeerLost(actor.me, "connection reset"))

    def connect_all(self) -> None:
        """Tell every node which of its peers can be reached now and could not before."""
        for one in self.running():
            assert one.engine is not None
            for peer in sorted(one.engine.state.membership.members()):
                other = self.actors[peer.node_id]
                if other is one or other.engine is None or not self.linked(one.number, other.number):
                    continue
                if other.me != peer:
                    self.feed(one, PeerReplaced(peer, other.me.incarnation))
                elif peer not in one.engine.state.connected:
                    self.feed(one, PeerConnected(peer))

    def linked(self, one: int, other: int) -> bool:
        return not {(one, other), (other, one)} & self.cut

    def running(self) -> list[Actor]:
        return [actor for actor in self.actors.values() if actor.engine is not None]

    def ticket(self, label: str) -> Ticket:
        """Return a new ticket under whose label the answer is written down."""
        number = len(self._tickets) + 1
        self._tickets[number] = label
        return Ticket(number)

    # -- what happens ---------------------------------------------------------------------------------------------------

    def feed(self, actor: Actor, event: Event) -> None:
        """Tell a running node what happened and do what it asks for."""
        if actor.engine is None:
            return
        self._carry_out(actor, actor.engine.handle(event, self.time(actor)))
        if actor.engine is None:
            return
        self.safety.check(actor.engine.state)
        if not actor.slow_disk:
            self.flush(actor)
        if self._dial:
            self._dial = False
            self.connect_all()

    def flush(self, actor: Actor, count: int | None = None) -> bool:
        """Make durable what was written, or its first `count` writes. Return whether there was anything."""
        pending = len(actor.writing)
        writes = [actor.writing.popleft() for _ in range(pending if count is None else min(count, pending))]
        for write in writes:
            actor.durable.do(write)
        if writes:
            self.feed(actor, LogIoFlushed(writes[-1].io_id))
        return bool(writes)

    def work(self, actor: Actor) -> bool:
        """Let the state machine do what it was asked for. Return whether there was anything."""
        did = bool(actor.work)
        while actor.work:
            actor.work.popleft()()
        return did

    def deliver(self, flight: Flight) -> None:
        """Take a message out of flight and hand it over, or lose it."""
        self.flights.remove(flight)
        target = self.actors[flight.target.node_id]
        if (flight.sender.node_id, flight.target.node_id) in self.cut or target.engine is None or target.me != flight.target:
            self.say(f"lost {flight}")
            return
        self.say(f"{flight}")
        self.feed(target, MessageReceived(flight.sender, flight.message))

    def settle(self) -> None:
        """Deliver, round by round, until nothing is in flight. Slow disks and machines stay as slow as they are."""
        for _ in range(ROUNDS_MAX):
            if not self.flights:
                return
            for flight in list(self.flights):
                if flight in self.flights:
                    self.deliver(flight)
        raise AssertionError(f"messages are still in flight after {ROUNDS_MAX} rounds")

    def say(self, line: str) -> None:
        self.lines.append(line)

    # -- commands -------------------------------------------------------------------------------------------------------

    def _carry_out(self, actor: Actor, commands: list[Command]) -> None:
        number = actor.number
        for command in commands:
            if isinstance(command, SaveHardState | AppendEntries | TruncateLog | PurgeLog | ResetLog):
                self.say(f"  {number} {_writes(command)}" + (" (not durable yet)" if actor.slow_disk else ""))
                actor.view.do(command)
                actor.writing.append(command)
            elif isinstance(command, SendMessage):
                self.flights.append(Flight(actor.me, command.target, command.message))
            elif isinstance(command, ReplicateEntries):
                self._replicate(actor, command)
            elif isinstance(command, SendSnapshotChunk):
                self.flights.append(Flight(actor.me, command.target, self._chunk(command)))
            elif isinstance(command, Report):
                self.say(f"  {number} reports {command.event}: {command.detail}")
            elif isinstance(command, Respond):
                self.say(f"  {number} answers {self._tickets[command.ticket]}: {describe_outcome(command.outcome)}")
            elif isinstance(command, RespondReads):
                for ticket in command.tickets:
                    self.say(f"  {number} answers {self._tickets[ticket]}: {describe_outcome(command.outcome)}")
            elif isinstance(command, RespondWrites):
                for ticket, log_id, result in command.writes:
                    self.say(f"  {number} answers {self._tickets[ticket]}: {describe_outcome(WriteOutcome(log_id, result))}")
            elif isinstance(command, SetPeers):
                self._dial = True
            else:
                self._ask_machine(actor, command)
        if actor.engine is not None and actor.engine.state.committed > actor.committed:
            actor.committed = actor.engine.state.committed
            self.say(f"  {number} commits {actor.committed}")
        if not actor.slow_machine:
            self.work(actor)

    def _replicate(self, actor: Actor, command: ReplicateEntries) -> None:
        entries = tuple(actor.view.read(command.prev.index, command.upto))
        vote, session, check = command.vote, command.session, command.check
        request = AppendRequest(vote, session, check, command.round, command.prev, command.committed, entries)
        self.flights.append(Flight(actor.me, command.target, request))

    def _ask_machine(self, actor: Actor, command: Apply | BuildSnapshot | StoreSnapshotChunk | InstallSnapshot) -> None:
        if isinstance(command, Apply):
            actor.work.append(lambda: self._apply(actor, command))
        elif isinstance(command, BuildSnapshot):
            actor.work.append(lambda: self._build(actor))
        elif isinstance(command, InstallSnapshot):
            actor.work.append(lambda: self._install(actor, command.meta))
        else:
            actor.work.append(lambda: self._store(actor, command))

    def _chunk(self, command: SendSnapshotChunk) -> SnapshotChunk:
        meta, offset = command.meta, command.offset
        end = min(offset + self.config.snapshot_max_chunk_size_bytes, meta.size_bytes)
        data, done = b"s" * (end - offset), end == meta.size_bytes
        return SnapshotChunk(command.vote, command.session, command.round, meta, offset, data, done)

    def _store(self, actor: Actor, command: StoreSnapshotChunk) -> None:
        """What is there already is skipped, a gap is refused: storage's `receive`."""
        chunk, meta = command.chunk, command.chunk.meta
        have = actor.received[1] if actor.received[0] == meta.snapshot_id else 0
        if chunk.offset <= have:
            have = max(have, chunk.offset + len(chunk.data))
        actor.received = (meta.snapshot_id, have)
        complete = have == meta.size_bytes
        stored = SnapshotChunkStored(command.sender, chunk.session, chunk.round, meta, have, complete)
        self.feed(actor, stored)

    def _apply(self, actor: Actor, command: Apply) -> None:
        entries = actor.view.read(command.after, command.upto.index)
        assert actor.durable.holds(command.upto), f"node {actor.number} applies {command.upto} before it is durable"
        results: list[object] = [actor.machine.apply(entry) for entry in entries]
        self.say(f"  {actor.number} applies {span(command.after, command.upto.index)}")
        self.safety.applied(actor.machine.last, actor.machine.digest)
        self.feed(actor, Applied(command.upto, results))

    def _build(self, actor: Actor) -> None:
        if actor.defers_snapshots:
            self.feed(actor, SnapshotBuilt(None))
            return
        machine = actor.machine.copy()
        meta = SnapshotMeta(machine.last, machine.membership, f"{short(machine.last)} of {actor.number}", SNAPSHOT_BYTES)
        actor.snapshot = self._snapshots[meta.snapshot_id] = (meta, machine)
        self.feed(actor, SnapshotBuilt(meta))

    def _install(self, actor: Actor, meta: SnapshotMeta) -> None:
        actor.snapshot = self._snapshots[meta.snapshot_id]
        actor.machine = actor.snapshot[1].copy()
        actor.received = ("", 0)
        self.feed(actor, SnapshotInstalled(meta))


def address_of(number: int) -> NodeAddress:
    return NodeAddress(f"n{number}:1", f"http://n{number}:2")


# -- how things are written down ---------------------------------------------------------------------------------------


def short(log_id: LogId) -> str:
    """Return term and index; a term has one leader, so its number is not needed."""
    return f"T{log_id.term}.{log_id.index}" if log_id != BEFORE_LOG else "-"


def span(after: int, upto: int) -> str:
    if upto <= after:
        return "[]"
    return f"[{after + 1}]" if upto == after + 1 else f"[{after + 1}..{upto}]"


def describe(message: Message) -> str:
    """Return a message in one short line."""
    if isinstance(message, VoteRequest):
        kind = "PreVote" if message.pre_vote else "Vote"
        return f"{kind} T{message.term} last={short(message.last_log_id)}{' transfer' * message.leadership_transfer}"
    if isinstance(message, VoteResponse):
        kind = "PreVote" if message.pre_vote else "Vote"
        if message.granted:
            return f"{kind}Granted T{message.term}"
        return f"{kind}Refused T{message.term} reason={message.reason} its-term={message.vote.term}"
    if isinstance(message, AppendRequest):
        entries = span(message.prev.index, message.prev.index + len(message.entries))
        return f"Append T{message.vote.term} prev={short(message.prev)} {entries} commit={message.committed}"
    if isinstance(message, AppendResponse):
        if message.accepted:
            return f"Accepted T{message.vote.term} upto={message.matching.index}"
        return f"Refused T{message.vote.term} prev={short(message.conflict)} its-last={short(message.last)}"
    if isinstance(message, SnapshotChunk):
        end, size = message.offset + len(message.data), message.meta.size_bytes
        part = "" if end - message.offset == size else f" bytes={message.offset}..{end} of {size}"
        return f"Snapshot T{message.vote.term} upto={short(message.meta.last_log_id)}{part}"
    if isinstance(message, SnapshotChunkResponse):
        state = f"installed upto={short(message.last_log_id)}" if message.installed else f"has={message.next_offset} bytes"
        return f"SnapshotAnswer T{message.vote.term} {state}"
    if isinstance(message, TransferRequest):
        return f"TimeoutNow T{message.vote.term} last={short(message.last_log_id)}"
    if isinstance(message, ReadIndexRequest):
        return "ReadIndex?"
    if isinstance(message, ReadIndexResponse):
        return f"ReadIndex {message.index or 'unknown'}"
    return "TimeoutNowAccepted" if message.accepted else f"TimeoutNowRefused reason={message.reason}"


def describe_outcome(outcome: Outcome) -> str:
    """Return what a caller is told in one short line."""
    if isinstance(outcome, WriteOutcome):
        return f"done at {short(outcome.log_id)}"
    if isinstance(outcome, CommitOutcome):
        return f"committed at {short(outcome.log_id)}"
    if isinstance(outcome, ReadOutcome):
        return f"served at index {outcome.index}"
    if isinstance(outcome, BarrierOutcome):
        return f"{short(outcome.log_id)} is held by {list(outcome.acked_by)}"
    if isinstance(outcome, Refusal):
        return f"refused ({outcome.code}): {outcome.detail}"
    assert isinstance(outcome, TriggerOutcome)
    return f"{'done' if outcome.changed else 'unchanged'}{'' if outcome.observed else ', not seen yet'}: {outcome.detail}"


def describe_hard_state(hard_state: HardState) -> str:
    recovery = f", recovering until {short(hard_state.recovery.until)}" if hard_state.recovery else ""
    return f"{hard_state.vote}{recovery}"


def _writes(command: LogCommand) -> str:
    if isinstance(command, SaveHardState):
        return f"saves {describe_hard_state(command.hard_state)}"
    if isinstance(command, AppendEntries):
        terms = sorted({entry.term for entry in command.entries})
        found = [decode_membership(entry.data) for entry in command.entries if entry.kind == EntryKind.MEMBERSHIP]
        first = command.entries[0].index
        members = "".join(f" {membership}" for membership in found)
        return f"appends {span(first - 1, first + len(command.entries) - 1)} of T{',T'.join(map(str, terms))}{members}"
    if isinstance(command, TruncateLog):
        return f"drops what follows {command.after}"
    if isinstance(command, PurgeLog):
        return f"purges up to {command.upto.index}"
    return f"begins its log anew after {short(command.upto)}"
