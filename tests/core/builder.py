"""An engine in any state, in a line or two: what the unit tests of the core share.

Node 1 is the one under test unless said otherwise. Index 1 of every log is the configuration; chance is always the shortest
election timeout (150 ms).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from raft_engine.config import Config
from raft_engine.core import invariants
from raft_engine.core.commands import Command, ReplicateEntries, Report, Respond, RespondReads, SendMessage
from raft_engine.core.engine import Engine
from raft_engine.core.events import (
    Applied,
    ClientWrite,
    ClientWritesRequested,
    ElectRequested,
    Event,
    LogIoFlushed,
    MessageReceived,
    PeerConnected,
    SnapshotBuilt,
    Ticked,
)
from raft_engine.core.state import RaftState, Restored
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import NOBODY, Incarnation, IoId, LogIndex, NodeId, PeerId, Term, Ticket
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import Membership, NodeAddress, StoredMembership, encode_membership, uniform
from raft_engine.types.messages import AppendRequest, AppendResponse, Message, VoteRequest, VoteResponse
from raft_engine.types.outcomes import Outcome
from raft_engine.types.snapshot import NO_SNAPSHOT, SnapshotMeta
from raft_engine.types.vote import NO_VOTE, Vote


def peer(number: int, life: int = 1) -> PeerId:
    return PeerId(NodeId(number), Incarnation(f"{life:04x}{number:028x}"))


def address(number: int) -> NodeAddress:
    return NodeAddress(f"n{number}:1", f"http://n{number}:2")


def members(*numbers: int, learners: Iterable[int] = ()) -> Membership:
    """Return a configuration with these voters and learners."""
    voters = uniform([peer(number) for number in numbers], {NodeId(number): address(number) for number in numbers})
    extra = {NodeId(number): peer(number).incarnation for number in learners}
    nodes = voters.nodes | {NodeId(number): address(number) for number in learners}
    return Membership(voters.configs, extra, nodes)


def at(term: int, index: int, node: int = 2) -> LogId:
    """Return a log id; entries of other leaders were proposed by node 2."""
    return LogId(Term(term), NodeId(node) if term else NOBODY, LogIndex(index))


def entry(term: int, index: int, data: bytes = b"x", node: int = 2, kind: int = EntryKind.NORMAL) -> Entry:
    return make_entry(Term(term), NodeId(node) if term else NOBODY, LogIndex(index), kind, data)


def vote(term: int, node: int, *, committed: bool = False) -> Vote:
    return Vote(Term(term), NodeId(node), committed)


def leads(term: int, node: int = 2) -> Vote:
    return vote(term, node, committed=True)


def meta(term: int, index: int, node: int = 2, membership: Membership | None = None) -> SnapshotMeta:
    """Return a snapshot up to this entry, with the first configuration."""
    stored = StoredMembership(at(0, 1), membership or members(1, 2, 3))
    return SnapshotMeta(at(term, index, node), stored, f"s{term}.{index}", 100)


def deeds(commands: Iterable[Command]) -> list[Command]:
    """Return the commands without those that only tell the log of the operator."""
    return [command for command in commands if not isinstance(command, Report)]


def reports(commands: Iterable[Command]) -> list[str]:
    return [command.event for command in commands if isinstance(command, Report)]


def outcomes(commands: Iterable[Command]) -> list[Outcome]:
    return [command.outcome for command in commands if isinstance(command, Respond | RespondReads)]


def sent(commands: Iterable[Command], to: int | None = None) -> list[Message]:
    """Return the messages among the commands, or those to one node."""
    return [
        command.message
        for command in commands
        if isinstance(command, SendMessage) and (to is None or command.target.node_id == to)
    ]


def ranges(commands: Iterable[Command]) -> list[tuple[int, int, int]]:
    """Return (target, previous index, last index) of every range of entries that is sent."""
    return [
        (command.target.node_id, command.prev.index, command.upto)
        for command in commands
        if isinstance(command, ReplicateEntries)
    ]


class Node:
    """An engine and a clock. `do` returns the commands without reports, `handle` all of them."""

    def __init__(
        self,
        me: int = 1,
        voters: int = 3,
        log: Sequence[int] = (),
        *,
        hard: Vote | None = None,
        recovery: Recovery | None = None,
        membership: Membership | None = None,
        snapshot: SnapshotMeta = NO_SNAPSHOT,
        purged: LogId = BEFORE_LOG,
        applied: LogId = BEFORE_LOG,
        chance: Callable[[], float] = lambda: 0.0,
        config: dict[str, object] | None = None,
        just_started: bool = False,
    ) -> None:
        """`just_started`: it may have promised a leader something before it was stopped; else that is long ago.

        `log` has the terms of the entries after the configuration, or after `purged`."""
        first = 1 if not purged.index else purged.index + 1
        terms = [0, *log] if not purged.index else list(log)
        runs, index = [], first
        for term, run in groupby(terms):
            runs.append((LogIndex(index), Term(term), NodeId(2) if term else NOBODY))
            index += len(list(run))
        last = at(terms[-1], index - 1) if terms else purged
        stored = StoredMembership(at(0, 1), membership or members(*range(1, voters + 1)))
        memberships = (stored,) if not purged.index else ()
        newest = max([*terms, purged.term], default=0)
        saved = hard or (vote(newest, 0) if newest else NO_VOTE)
        restored = Restored(HardState(saved, recovery), purged, last, tuple(runs), memberships, snapshot, applied)
        self._setup(me, restored, chance, config)
        if not just_started:
            self.state.promised_until = 0.0

    def _setup(self, me: int, restored: Restored, chance: Callable[[], float], config: dict[str, object] | None) -> None:
        settings = {"snapshot_logs_since_last": 0, "max_in_snapshot_log_to_keep": 0} | (config or {})
        self.me = peer(me)
        self.now = 1000.0
        self.engine = Engine(Config(**settings), self.me, restored, chance, self.now)  # type: ignore[arg-type]
        self.first_commands = self.engine.start(self.now)
        self.tickets = 0

    @property
    def state(self) -> RaftState:
        return self.engine.state

    def ticket(self) -> Ticket:
        self.tickets += 1
        return Ticket(self.tickets)

    def handle(self, event: Event) -> list[Command]:
        commands = self.engine.handle(event, self.now)
        invariants.check(self.state)
        return commands

    def do(self, event: Event) -> list[Command]:
        return deeds(self.handle(event))

    def hear(self, sender: int, message: Message, life: int = 1) -> list[Command]:
        return self.do(MessageReceived(peer(sender, life), message))

    def flush(self) -> list[Command]:
        """Everything that was handed to the log is durable."""
        return self.do(LogIoFlushed(IoId(self.state.last_io)))

    def flush_first(self, count: int) -> list[Command]:
        """Only so many of the writes under way are durable."""
        return self.do(LogIoFlushed(IoId(self.state.flushed_io + count)))

    def tick(self, for_ms: float = 0.0) -> list[Command]:
        """Time goes on in steps of 10 ms, as a ticker's does."""
        end = self.now + for_ms
        commands: list[Command] = []
        while self.now + 10.0 < end:
            self.now += 10.0
            commands += self.do(Ticked())
        self.now = end
        return commands + self.do(Ticked())

    def write(self, *data: bytes) -> list[Command]:
        return self.do(ClientWritesRequested([ClientWrite(self.ticket(), item) for item in data or (b"x",)]))

    def applied(self, upto: LogId, count: int) -> list[Command]:
        return self.do(Applied(upto, [None] * count))

    # -- as a leader ---------------------------------------------------------------------------------------------------

    def accept(self, target: int, index: int, *, session: int | None = None, round_: int | None = None) -> list[Command]:
        """`target` holds everything up to `index`; it answers the newest round unless said otherwise."""
        leader = self.state.leader
        assert leader is not None
        progress = leader.progress[peer(target)]
        response = AppendResponse(
            leader.vote,
            progress.session if session is None else session,
            False,
            leader.round if round_ is None else round_,
            True,
            self.state.log.get(index) or at(0, index),
            BEFORE_LOG,
            self.state.log.get(index) or at(0, index),
        )
        return self.hear(target, response)

    def lacks(
        self, target: int, prev: int, last: LogId = BEFORE_LOG, *, check: bool = False, session: int | None = None
    ) -> list[Command]:
        """`target` does not hold the entry at `prev`; its log ends at `last`."""
        leader = self.state.leader
        assert leader is not None
        number = leader.progress[peer(target)].session if session is None else session
        conflict = self.state.log.get(prev) or at(0, prev)
        return self.hear(target, AppendResponse(leader.vote, number, check, leader.round, False, BEFORE_LOG, conflict, last))

    def target(self, number: int):
        assert self.state.leader is not None
        return self.state.leader.progress[peer(number)]

    def snapshot_at(self, index: int) -> None:
        """A snapshot up to an applied entry was built."""
        log_id = self.state.log.at(index)
        self.do(SnapshotBuilt(SnapshotMeta(log_id, self.state.effective, f"s{index}", 100)))


def grant(term: int, *, pre_vote: bool = False) -> VoteResponse:
    return VoteResponse(Term(term), pre_vote, True, vote(term, 1), BEFORE_LOG)


def refuse(term: int, reason: str, *, its_term: int | None = None, pre_vote: bool = False) -> VoteResponse:
    its = vote(term if its_term is None else its_term, 3)
    return VoteResponse(Term(term), pre_vote, False, its, BEFORE_LOG, reason)


def ask(term: int, last: LogId, *, pre_vote: bool = False, transfer: bool = False) -> VoteRequest:
    return VoteRequest(Term(term), last, pre_vote, transfer)


def append(
    by: Vote,
    prev: LogId,
    *entries: Entry,
    committed: int = 0,
    session: int = 7,
    check: bool = False,
    round_: int = 3,
) -> AppendRequest:
    return AppendRequest(by, session, check, round_, prev, LogIndex(committed), entries)


def membership_entry(term: int, index: int, membership: Membership) -> Entry:
    return entry(term, index, encode_membership(membership), kind=EntryKind.MEMBERSHIP)


def elected(voters: int = 3, **settings) -> Node:
    """Node 1, just elected by all others, which can be reached. Its first entry is not durable anywhere."""
    node = Node(voters=voters, **settings)
    for other in sorted(node.state.membership.members() - {node.me}):
        node.do(PeerConnected(other))
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=1000.0))
    node.flush()
    for other in range(2, voters + 1):
        node.hear(other, grant(node.state.term))
    assert node.engine.is_leader or voters == 1
    return node


def leader(voters: int = 3, **settings) -> Node:
    """Node 1 leads, everything is committed and applied everywhere, and replication flows."""
    node = elected(voters, **settings)
    node.flush()
    last = node.state.log.last
    for other in sorted(node.state.membership.members() - {node.me}):
        node.accept(other.node_id, last.index)
    node.applied(last, last.index - node.state.applied.index)
    return node
