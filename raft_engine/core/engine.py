"""The door of the core: one event in, the commands it asks for out.

    application ─┐                                  ┌─ log: SaveHardState, AppendEntries, TruncateLog, PurgeLog …
    timer ───────┼─ Event ─► Engine.handle ─► Command ─ network: SendMessage, ReplicateEntries, SendSnapshotChunk
    storage ─────┤            (rule modules)          ├─ state machine: Apply, BuildSnapshot, InstallSnapshot …
    network ─────┘                                  └─ callers: Respond, RespondWrites, RespondReads

The Engine holds no rule. It names, for each event, the rules that are concerned, in order; lower rooms never call up. What
waits for a write (an answer that is a promise) waits in `RaftState.pending_io` and is done here when the write is durable.
Source: openraft `engine/mod.rs`; etcd `raft.go` (`Step`, `Ready`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from raft_engine.config import Config
from raft_engine.core import (
    barrier,
    committing,
    configuring,
    election,
    following,
    heartbeating,
    leadership_transfer,
    membership_change,
    purging,
    reading,
    replication,
    reporting,
    reverting,
    shipping,
    snapshotting,
    ticking,
)
from raft_engine.core.commands import Command, InstallSnapshot, SendMessage
from raft_engine.core.events import (
    AllowNextRevertRequested,
    Applied,
    BarrierRequested,
    ClientWritesRequested,
    ElectRequested,
    Event,
    HeartbeatRequested,
    LocalEvent,
    LogIoFlushed,
    MembershipChangeRequested,
    MessageReceived,
    PeerConnected,
    PeerLost,
    PeerReplaced,
    PeerRolledBack,
    PurgeLogRequested,
    ReadsRequested,
    RuntimeFlagsChanged,
    ShutdownRequested,
    SnapshotBuilt,
    SnapshotChunkStored,
    SnapshotInstalled,
    SnapshotRequested,
    SnapshotSendFailed,
    StepDownRequested,
    Ticked,
    TransferLeaderRequested,
    WriteRequested,
)
from raft_engine.core.outbox import Outbox
from raft_engine.core.state import (
    EntriesFlushed,
    FlushAction,
    InstallWhenFlushed,
    OwnVoteFlushed,
    PurgeFlushed,
    Restored,
    SendWhenFlushed,
    VoteFlushed,
    restore,
)
from raft_engine.types.ids import Millis, NodeId, PeerId, Term
from raft_engine.types.messages import (
    AppendRequest,
    AppendResponse,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    SnapshotChunk,
    SnapshotChunkResponse,
    TransferRequest,
    TransferResponse,
    VoteRequest,
    VoteResponse,
)
from raft_engine.types.metrics import RaftMetrics

Request = (
    ElectRequested
    | HeartbeatRequested
    | SnapshotRequested
    | PurgeLogRequested
    | TransferLeaderRequested
    | StepDownRequested
    | AllowNextRevertRequested
    | BarrierRequested
    | MembershipChangeRequested
    | WriteRequested
)


class Engine:
    """One node's consensus. Not thread-safe: one owner feeds it."""

    def __init__(
        self, config: Config, me: PeerId, restored: Restored, random: Callable[[], float], now: Millis = 0.0
    ) -> None:
        self.state = restore(config, me, restored, random, now)
        self._out = Outbox()

    # -- what the owner asks ---------------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        return self.state.leader is not None

    @property
    def leader_id(self) -> NodeId | None:
        return self.state.known_leader

    @property
    def term(self) -> Term:
        return self.state.term

    def metrics(self, now: Millis) -> RaftMetrics:
        """Return a picture of the node as of `now`."""
        return reporting.metrics(self.state, now)

    def start(self, now: Millis) -> list[Command]:
        """Return the first commands; call it once, before any event."""
        state, out = self.state, self._out
        configuring.set_peers(state, out)
        committing.end_recovery(state, out)
        alone = state.is_voter and len(state.membership.voters()) == 1
        state.ticked_at = now
        state.election_deadline = now if alone else now + state.election_timeout()
        return out.take()

    # -- events ----------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: Millis) -> list[Command]:
        """Return what `event` asks for. `now` never goes back."""
        state = self.state
        if state.shut_down:
            return []
        if isinstance(event, MessageReceived):
            self._on_message(event.sender, event.message, now)
        else:
            self._on_event(event, now)
        pending = state.pending_io
        while pending and pending[0][0] <= state.flushed_io:
            self._do(pending.popleft()[1], now)
        asked = self._out.commands
        commands = asked.copy()  # `take`, without the call: every event comes by here
        asked.clear()
        return commands

    def _on_event(self, event: LocalEvent, now: Millis) -> None:
        state, out = self.state, self._out
        if isinstance(event, LogIoFlushed):
            state.flushed_io = max(state.flushed_io, event.io_id)
        elif isinstance(event, Applied):
            committing.on_applied(state, event.upto, event.results, out)
            if state.read_waiters:
                committing.serve_reads(state, out)
            snapshotting.by_policy(state, now, out)
        elif isinstance(event, ClientWritesRequested):
            replication.on_writes_requested(state, event.writes, now, out)
        elif isinstance(event, Ticked):
            ticking.on_ticked(state, now, out)
        elif isinstance(event, ReadsRequested):
            reading.on_reads_requested(state, event, now, out)
        elif isinstance(event, PeerConnected):
            replication.on_peer_connected(state, event, now, out)
        elif isinstance(event, PeerLost):
            replication.on_peer_lost(state, event, out)
            election.on_leader_lost(state, event.peer, now)
            purging.resume(state, out)
            heartbeating.answer(state, out)
            leadership_transfer.on_time(state, now, out)
        elif isinstance(event, PeerReplaced):
            replication.on_peer_replaced(state, event, now, out)
            membership_change.on_progress(state, now, out)
            purging.resume(state, out)
        elif isinstance(event, PeerRolledBack):
            replication.on_peer_rolled_back(state, event, now, out)
            membership_change.on_progress(state, now, out)
            purging.resume(state, out)
        elif isinstance(event, SnapshotBuilt):
            snapshotting.on_snapshot_built(state, event, now, out)
            snapshotting.by_policy(state, now, out)
            purging.by_policy(state, out)
        elif isinstance(event, SnapshotChunkStored):
            following.on_snapshot_chunk_stored(state, event, out)
        elif isinstance(event, SnapshotInstalled):
            following.on_snapshot_installed(state, event, out)
            snapshotting.resume(state, now, out)
            committing.serve_reads(state, out)
        elif isinstance(event, SnapshotSendFailed):
            shipping.on_send_failed(state, event, now, out)
        elif isinstance(event, RuntimeFlagsChanged):
            state.flags = event.flags
        elif isinstance(event, ShutdownRequested):
            self._shut_down(event.reason)
        else:
            self._on_request(event, now)

    def _on_request(self, event: Request, now: Millis) -> None:
        state, out = self.state, self._out
        # What a follower knows may trail what is: it names the leader rather than a change that may never have happened.
        forwards = isinstance(event, MembershipChangeRequested | WriteRequested) and state.leader is None
        refusal = None if forwards else state.unexpected(event.expect)
        if refusal is not None and isinstance(event, WriteRequested):
            replication.refuse_write(event, refusal, out)
        elif refusal is not None:
            out.respond(event.ticket, refusal)
        elif isinstance(event, ElectRequested):
            election.on_elect_requested(state, event, now, out)
            ticking.expire_election(state, now, out)
        elif isinstance(event, HeartbeatRequested):
            heartbeating.on_heartbeat_requested(state, event, now, out)
        elif isinstance(event, SnapshotRequested):
            snapshotting.on_snapshot_requested(state, event, now, out)
        elif isinstance(event, PurgeLogRequested):
            purging.on_purge_log_requested(state, event, now, out)
        elif isinstance(event, TransferLeaderRequested):
            leadership_transfer.on_transfer_requested(state, event, now, out)
        elif isinstance(event, StepDownRequested):
            membership_change.on_step_down_requested(state, event, now, out)
        elif isinstance(event, AllowNextRevertRequested):
            reverting.on_allow_next_revert(state, event, now, out)
            membership_change.on_progress(state, now, out)
        elif isinstance(event, BarrierRequested):
            barrier.on_barrier_requested(state, event, now, out)
            barrier.expire(state, now, out)
        elif isinstance(event, MembershipChangeRequested):
            membership_change.on_change_requested(state, event, now, out)
        elif isinstance(event, WriteRequested):
            replication.on_write_requested(state, event, now, out)
        else:
            assert_never(event)

    def _on_message(self, sender: PeerId, message: Message, now: Millis) -> None:
        state, out = self.state, self._out
        if isinstance(message, AppendRequest):
            following.on_append_request(state, sender, message, now, out)
            if state.transfer_waiter is not None:
                leadership_transfer.on_leader_known(state, out)
            if state.purge_upto != state.purge_submitted:
                purging.resume(state, out)
        elif isinstance(message, AppendResponse):
            replication.on_append_response(state, sender, message, now, out)
            self._after_answer(now)
        elif isinstance(message, VoteRequest):
            election.on_vote_request(state, sender, message, now, out)
        elif isinstance(message, VoteResponse):
            election.on_vote_response(state, sender, message, now, out)
        elif isinstance(message, SnapshotChunk):
            following.on_snapshot_chunk(state, sender, message, now, out)
            leadership_transfer.on_leader_known(state, out)
        elif isinstance(message, SnapshotChunkResponse):
            shipping.on_chunk_response(state, sender, message, now, out)
            self._after_answer(now)
        elif isinstance(message, TransferRequest):
            leadership_transfer.on_transfer_request(state, sender, message, now, out)
        elif isinstance(message, TransferResponse):
            leadership_transfer.on_transfer_response(state, sender, message, now, out)
        elif isinstance(message, ReadIndexRequest):
            reading.on_read_index_request(state, sender, message, now, out)
        elif isinstance(message, ReadIndexResponse):
            reading.on_read_index_response(state, message, now, out)
        else:
            assert_never(message)

    def _after_answer(self, now: Millis) -> None:
        """A target has come on: whoever waits for that is served. Mostly nobody does, and then no rule is asked."""
        state, out = self.state, self._out
        leader = state.leader
        if leader is not None:
            if leader.reads or leader.waiting_reads:
                reading.confirm(state, now, out)
            if leader.heartbeats:
                heartbeating.answer(state, out)
            if leader.barriers:
                barrier.check(state, out)
            if leader.transfer is not None:
                leadership_transfer.hand_over(state, out)
            if leader.changes or not leader.is_settled:
                membership_change.on_progress(state, now, out)
        if state.purge_upto != state.purge_submitted:
            purging.resume(state, out)

    # -- what waited for the disk ----------------------------------------------------------------------------------

    def _do(self, action: FlushAction, now: Millis) -> None:
        state, out = self.state, self._out
        if isinstance(action, SendWhenFlushed):
            out.push(SendMessage(action.target, action.message))
        elif isinstance(action, EntriesFlushed):
            state.flushed = max(state.flushed, action.upto)
            leader = state.leader
            if leader is not None and state.flushed > state.committed:
                replication.advance_commit(state, leader, out)
            if state.apply_submitted < state.committed:
                committing.apply_ready(state, out)
            if state.recovery is not None:
                committing.end_recovery(state, out)
            if leader is not None:
                if leader.barriers:
                    barrier.check(state, out)
                if leader.reads or leader.waiting_reads:
                    reading.confirm(state, now, out)
                if leader.changes or not leader.is_settled:
                    membership_change.on_progress(state, now, out)
        elif isinstance(action, VoteFlushed):
            state.flushed_vote = action.vote
        elif isinstance(action, OwnVoteFlushed):
            election.on_own_vote_flushed(state, action.term, now, out)
        elif isinstance(action, InstallWhenFlushed):
            out.push(InstallSnapshot(action.meta))
        elif isinstance(action, PurgeFlushed):
            purging.on_purge_flushed(state, action.upto, out)
        else:
            assert_never(action)

    def _shut_down(self, reason: str) -> None:
        replication.refuse_held_writes(self.state, reason, self._out)
        committing.leave_waiting(self.state, reason, self._out)
        self.state.shut_down = True
        self._out.report("shut_down", reason, self.state.me.node_id)
