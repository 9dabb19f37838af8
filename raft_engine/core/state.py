"""What a node knows: the shadow of what is stored, its role, and who waits for what.

Invariants (checked by `invariants.check`): purged <= snapshot <= applied <= committed <= last; flushed <= last; the vote
never falls. The role is derived from vote, candidate and membership, never stored.
Source: Raft paper figure 2; openraft `raft_state/`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from raft_engine.config import Config
from raft_engine.core.candidate import CandidateState
from raft_engine.core.events import ClientWrite
from raft_engine.core.leader import LeaderState
from raft_engine.core.log_ids import LogIdList
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import NOBODY, IoId, LogIndex, Millis, NodeId, PeerId, Term, Ticket
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import Membership, StoredMembership
from raft_engine.types.messages import Message
from raft_engine.types.metrics import RuntimeFlags, ServerState
from raft_engine.types.outcomes import Expectation, Refusal, RefusalCode
from raft_engine.types.snapshot import NO_SNAPSHOT, SnapshotMeta
from raft_engine.types.vote import Vote


class Restored(msgspec.Struct, frozen=True):
    """What was on the disk at start. `applied` is what the state machine holds (from a snapshot or by itself).

    `memberships`: those in the live log, in order; `runs`: (first index, term, node id).
    """

    hard_state: HardState = HardState()
    purged: LogId = BEFORE_LOG
    last: LogId = BEFORE_LOG
    runs: tuple[tuple[LogIndex, Term, NodeId], ...] = ()
    memberships: tuple[StoredMembership, ...] = ()
    snapshot: SnapshotMeta = NO_SNAPSHOT
    applied: LogId = BEFORE_LOG


READ_IDS: Final = 1 << 40

# What waits for the log to be durable. Each is done when the write with its number is.


class SendWhenFlushed(msgspec.Struct, frozen=True):
    """An answer that is a promise."""

    target: PeerId
    message: Message


class OwnVoteFlushed(msgspec.Struct, frozen=True):
    """The candidate's vote for itself counts from now on."""

    term: Term


class VoteFlushed(msgspec.Struct, frozen=True):
    vote: Vote


class EntriesFlushed(msgspec.Struct, frozen=True):
    upto: int


class PurgeFlushed(msgspec.Struct, frozen=True):
    upto: LogId


class InstallWhenFlushed(msgspec.Struct, frozen=True):
    """The leader's snapshot may replace the state: the term it comes from is durable."""

    meta: SnapshotMeta


FlushAction = SendWhenFlushed | OwnVoteFlushed | VoteFlushed | EntriesFlushed | PurgeFlushed | InstallWhenFlushed


@dataclass(slots=True)
class PurgeWaiter:
    ticket: Ticket
    requested: int
    upto: int
    deadline: Millis


@dataclass(slots=True)
class SnapshotWaiter:
    ticket: Ticket
    need: int
    deadline: Millis


@dataclass(slots=True)
class ElectWaiter:
    ticket: Ticket
    deadline: Millis


@dataclass(slots=True)
class TransferWaiter:
    ticket: Ticket
    to: NodeId
    from_term: Term
    deadline: Millis


@dataclass(slots=True)
class HandedOver:
    """Writes held while leadership went to `to`: answered when it is known who leads, or at `deadline`."""

    to: NodeId
    writes: list[ClientWrite]
    deadline: Millis


@dataclass(slots=True)
class ReadWaiter:
    """Reads at this node, asked for together: `index` 0 until the leader has said from which index on they may be served."""

    tickets: list[Ticket]
    index: int
    deadline: Millis


@dataclass(slots=True)
class RaftState:
    """Everything the rules read and write."""

    config: Config
    me: PeerId
    random: Callable[[], float]
    """Uniform in [0, 1): the only chance the core knows, handed in."""
    vote: Vote
    flushed_vote: Vote
    log: LogIdList
    flushed: int
    committed: int
    applied: LogId
    apply_submitted: int
    snapshot: SnapshotMeta
    memberships: list[StoredMembership]
    """Configurations from the newest one known to be committed on; the last one is in force (dissertation 4.1)."""
    recovery: Recovery | None
    flags: RuntimeFlags = field(default_factory=RuntimeFlags)
    leader: LeaderState | None = None
    candidate: CandidateState | None = None
    known_leader: NodeId | None = None
    outgoing_leader: NodeId | None = None
    """Who asked for the election under way by handing its office over: it holds what callers want until a leader is known, so
    they are sent to it, and not told that nobody leads."""
    promised_to: NodeId | None = None
    promised_until: Millis = 0.0
    """Before then this node helps nobody but `promised_to` to an office: its leader may be serving reads by this promise. It
    outlives what the node knows of the leader, its own candidacy, and (for nobody knows to whom) a restart."""
    election_deadline: Millis = 0.0
    seen_greater_log: bool = False
    refused_term: int = 0
    """The latest term in which this node refused somebody for lacking entries. Its own next round goes beyond, or whoever has
    fewer entries has voted for itself in that term already, time after time."""
    ticked_at: Millis = 0.0
    woke_at: Millis = float("-inf")
    """When this node last found that it had been asleep (stopped, starved): what came meanwhile is still unread."""
    connected: set[PeerId] = field(default_factory=set)
    last_io: int = 0
    flushed_io: int = 0
    pending_io: deque[tuple[int, FlushAction]] = field(default_factory=deque)
    """What waits for which write; the Engine does it when `flushed_io` has come that far."""
    last_session: int = 0
    writes: deque[tuple[int, Ticket]] = field(default_factory=deque)
    """(index, ticket) of writes appended here that are not applied; they outlive leadership, since they may commit."""
    commit_waiters: deque[tuple[int, Ticket]] = field(default_factory=deque)
    """(index, ticket) of writes whose callers want to hear of the commit."""
    handed_over: HandedOver | None = None
    """What this node held as a leader when it handed its office over; what comes until the next leader is known is held with it."""
    purge_upto: LogId = BEFORE_LOG
    """Scheduled or done: nothing at or below is read any more."""
    purge_submitted: LogId = BEFORE_LOG
    purged: LogId = BEFORE_LOG
    """Durably gone."""
    purge_waiters: list[PurgeWaiter] = field(default_factory=list)
    building_snapshot: bool = False
    snapshot_tried: int = 0
    snapshot_begun_at: Millis = 0.0
    snapshot_rest_until: Millis = 0.0
    """Until then the policy builds none (`snapshotting`, rule 4)."""
    snapshot_waiters: list[SnapshotWaiter] = field(default_factory=list)
    installing: SnapshotMeta | None = None
    installing_for: tuple[PeerId, int, int] | None = None
    """(leader, session, round) to answer when the snapshot in `installing` is in place."""
    elect_waiter: ElectWaiter | None = None
    transfer_waiter: TransferWaiter | None = None
    read_waiters: dict[int, ReadWaiter] = field(default_factory=dict)
    last_read_id: int = 0
    """It begins anywhere, so that a late answer to a question from before a restart answers none of now."""
    read_question: int = 0
    """The last reads for whom the leader was asked, until it answers; 0: no question is under way."""
    read_asked_of: NodeId = NOBODY
    read_asked_at: Millis = 0.0
    shut_down: bool = False

    # -- derived -------------------------------------------------------------------------------------------------

    @property
    def term(self) -> Term:
        return self.vote.term

    @property
    def effective(self) -> StoredMembership:
        return self.memberships[-1]

    @property
    def membership(self) -> Membership:
        return self.memberships[-1].membership

    @property
    def is_blank(self) -> bool:
        """It was never told of a cluster: such a node neither votes nor campaigns."""
        return self.membership.is_empty and self.recovery is None

    @property
    def is_voter(self) -> bool:
        return self.membership.is_voter(self.me)

    def server_state(self) -> ServerState:
        """Return the role: derived, never stored."""
        if self.shut_down:
            return ServerState.SHUTDOWN
        if self.leader is not None:
            return ServerState.LEADER
        if self.candidate is not None and not self.candidate.pre_vote:
            return ServerState.CANDIDATE
        return ServerState.FOLLOWER if self.is_voter else ServerState.LEARNER

    def committed_membership(self) -> StoredMembership:
        """Return the newest configuration at or below the commit index."""
        committed = [stored for stored in self.memberships if stored.log_id.index <= self.committed]
        return committed[-1] if committed else StoredMembership()

    # -- small steps -----------------------------------------------------------------------------------------------

    def next_io(self) -> IoId:
        self.last_io += 1
        return IoId(self.last_io)

    def next_session(self) -> int:
        self.last_session += 1
        return self.last_session

    def when_flushed(self, action: FlushAction) -> None:
        """Do `action` when everything handed to the log so far is durable."""
        self.pending_io.append((self.last_io, action))

    def hard_state(self) -> HardState:
        return HardState(self.vote, self.recovery)

    def election_timeout(self) -> Millis:
        """Return a random timeout in [min, max) (Raft paper 5.2)."""
        low, high = self.config.election_timeout_min_ms, self.config.election_timeout_max_ms
        return low + (high - low) * self.random()

    def refuse_not_leader(self) -> Refusal:
        """Return the refusal for a request that only a leader can carry out."""
        leader = self.known_leader or self.outgoing_leader
        if leader is None or leader == self.me.node_id or self._is_gone(leader):
            return Refusal(RefusalCode.NO_LEADER, f"node {self.me.node_id} knows no leader in term {self.term}")
        does = "does" if self.known_leader is not None else "is handing its office over"
        return Refusal(
            RefusalCode.NOT_LEADER,
            f"node {self.me.node_id} does not lead; node {leader} {does} (term {self.term})",
            leader=leader,
        )

    def _is_gone(self, leader: NodeId) -> bool:
        """Return whether the configuration in force does not name it: nobody should be sent to a leader that is on its way out."""
        return not self.membership.is_empty and not self.membership.names(leader)

    def unexpected(self, expect: Expectation) -> Refusal | None:
        """Return why `expect` does not hold, or None. A membership may be named by its index alone (term 0)."""
        if expect.term is not None and expect.term != self.term:
            which, wrong = "term", f"term is {self.term}, not {expect.term}"
        elif expect.leader is not None and expect.leader != self.known_leader:
            which, wrong = "leader", f"leader is {self.known_leader or 'unknown'}, not {expect.leader}"
        elif expect.membership_log_id is not None and expect.membership_log_id != self.effective.log_id:
            which = "membership_log_id"
            wrong = f"membership was set by {self.effective.log_id}, not {expect.membership_log_id}"
        elif expect.last_log_id is not None and expect.last_log_id != self.log.last:
            which, wrong = "last_log_id", f"the log ends with {self.log.last}, not {expect.last_log_id}"
        else:
            return None
        return Refusal(
            RefusalCode.PRECONDITION_FAILED,
            f"{wrong}; nothing was done",
            self.known_leader,
            hint="look again, then decide anew",
            extra={"expectation": which},
        )


def restore(config: Config, me: PeerId, restored: Restored, random: Callable[[], float], now: Millis) -> RaftState:
    """Return the state of a node that starts with what was on its disk."""
    applied = max(restored.applied, restored.snapshot.last_log_id)
    assert restored.last.index >= applied.index, "the log must not end before what is applied: reset it first"
    known = [stored for stored in restored.memberships if stored.log_id.index > restored.snapshot.membership.log_id.index]
    memberships = [restored.snapshot.membership, *known]
    vote = restored.hard_state.vote
    state = RaftState(
        config=config,
        me=me,
        random=random,
        vote=vote,
        flushed_vote=vote,
        log=LogIdList(restored.purged, restored.last, restored.runs),
        flushed=restored.last.index,
        committed=applied.index,
        applied=applied,
        apply_submitted=applied.index,
        snapshot=restored.snapshot,
        memberships=memberships,
        recovery=restored.hard_state.recovery,
        flags=RuntimeFlags(config.enable_tick, config.enable_heartbeat, config.enable_elect, config.enable_pre_vote),
        purge_upto=restored.purged,
        purge_submitted=restored.purged,
        purged=restored.purged,
        snapshot_tried=restored.snapshot.last_log_id.index,
    )
    state.ticked_at = now
    state.last_read_id = int(random() * READ_IDS)
    if vote.term > 0:
        state.promised_until = now + config.leader_lease_ms
    alone = state.is_voter and len(state.membership.voters()) == 1
    state.election_deadline = now if alone else now + state.election_timeout()
    return state
