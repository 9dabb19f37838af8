"""What an operator sees of a node.

Source: openraft `metrics/raft_metrics.rs`; contract of the management endpoint.
"""

from __future__ import annotations

import enum

import msgspec

from raft_engine.types.hard_state import Recovery
from raft_engine.types.ids import Millis, NodeId, PeerId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import StoredMembership
from raft_engine.types.vote import NO_VOTE, Vote


class ServerState(enum.StrEnum):
    """A node's role; derived from vote and membership, never stored."""

    LEARNER = "learner"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"
    SHUTDOWN = "shutdown"


class ReplicationState(enum.StrEnum):
    """How a leader is getting on with one target."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"
    UNREACHABLE = "unreachable"
    REVERTED = "reverted"


class ReplicationMetrics(msgspec.Struct, frozen=True):
    """One target as its leader sees it. `revert_armed_ms`: how long the permission still stands, None: not armed."""

    peer: PeerId
    matching: LogId
    lag: int
    state: ReplicationState
    last_ack_ms_ago: Millis | None
    revert_armed_ms: Millis | None
    snapshot_sent_bytes: int = 0
    snapshot_size_bytes: int = 0


class Alarm(msgspec.Struct, frozen=True):
    """Something an operator must know. `code` is stable snake_case, `hint` a command that mends it."""

    code: str
    detail: str
    hint: str = ""
    node: NodeId | None = None


class RuntimeFlags(msgspec.Struct, frozen=True):
    """What may be switched while running: only the timers' doings, never an operator's trigger."""

    enable_tick: bool = True
    enable_heartbeat: bool = True
    enable_elect: bool = True
    enable_pre_vote: bool = True


class RestoringMetrics(msgspec.Struct, frozen=True):
    """A leader's snapshot that is becoming the state machine's state: how many of its bytes were read."""

    snapshot: LogId
    restored_bytes: int
    size_bytes: int


class RaftMetrics(msgspec.Struct, frozen=True):
    """A consistent picture of one node's engine.

    `committed` is both of openraft's `local_committed` and `cluster_committed`: a leader tells a follower of commits only as far
    as its log is known to go, and neither is restored from disk.
    """

    me: PeerId
    state: ServerState
    term: Term = Term(0)
    vote: Vote = NO_VOTE
    leader: NodeId | None = None
    last_log: LogId = BEFORE_LOG
    committed: LogId = BEFORE_LOG
    applied: LogId = BEFORE_LOG
    snapshot: LogId = BEFORE_LOG
    purged: LogId = BEFORE_LOG
    membership: StoredMembership = StoredMembership()
    committed_membership: StoredMembership = StoredMembership()
    recovery: Recovery | None = None
    building_snapshot: bool = False
    restoring: RestoringMetrics | None = None
    transfer_to: NodeId | None = None
    last_quorum_acked_ms_ago: Millis | None = None
    replication: dict[NodeId, ReplicationMetrics] | None = None
    alarms: tuple[Alarm, ...] = ()
    runtime_flags: RuntimeFlags = RuntimeFlags()
    fatal: str | None = None
