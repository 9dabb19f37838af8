"""What callers are told: the true result of every request. Nothing here means "ok" for "did nothing".

Source: openraft `errors/`, `raft/trigger.rs`; contract of the management endpoint, section 2.
"""

from __future__ import annotations

import enum

import msgspec

from raft_engine.types.ids import LogIndex, NodeId
from raft_engine.types.log_id import LogId


class RefusalCode(enum.StrEnum):
    """Why a request was not carried out. Stable: scripts match on it."""

    NOT_LEADER = "not_leader"
    NO_LEADER = "no_leader"
    NO_QUORUM = "no_quorum"
    NOT_VOTER = "not_voter"
    IS_LEADER = "is_leader"
    NODE_NOT_FOUND = "node_not_found"
    TARGET_LAGGING = "target_lagging"
    TARGET_UNREACHABLE = "target_unreachable"
    TARGET_REFUSED = "target_refused"
    TRANSFER_IN_PROGRESS = "transfer_in_progress"
    TRANSFER_TIMED_OUT = "transfer_timed_out"
    ELECTION_LOST = "election_lost"
    PRE_VOTE_REFUSED = "pre_vote_refused"
    RECOVERING = "recovering"
    BLANK = "blank"
    NO_SNAPSHOT = "no_snapshot"
    BEYOND_SNAPSHOT = "beyond_snapshot"
    SNAPSHOT_DEFERRED = "snapshot_deferred"
    QUORUM_IMPOSSIBLE = "quorum_impossible"
    LEADERSHIP_LOST = "leadership_lost"
    CHANGE_IN_PROGRESS = "change_in_progress"
    LEARNER_NOT_FOUND = "learner_not_found"
    EMPTY_MEMBERSHIP = "empty_membership"
    ALREADY_INITIALIZED = "already_initialized"
    PRECONDITION_FAILED = "precondition_failed"
    OUTCOME_UNKNOWN = "outcome_unknown"
    """The entry was accepted, then overtaken: it may or may not have been committed."""
    OVERLOADED = "overloaded"
    TIMED_OUT = "timed_out"
    SHUTTING_DOWN = "shutting_down"


class Refusal(msgspec.Struct, frozen=True):
    """The request was refused or its result is not known; `detail` says what was measured, `hint` what to do."""

    code: RefusalCode
    detail: str
    leader: NodeId | None = None
    hint: str = ""
    extra: dict[str, object] = msgspec.field(default_factory=dict)


class WriteOutcome(msgspec.Struct, frozen=True, gc=False):
    """The entry is durable on a quorum and applied here; `result` is what the state machine returned."""

    log_id: LogId
    result: object


class CommitOutcome(msgspec.Struct, frozen=True):
    """The entry is durable on a quorum, so it will be applied; it may not be yet."""

    log_id: LogId


class ReadOutcome(msgspec.Struct, frozen=True):
    """Whatever is read from the state machine now is at least as new as `index`, and linearizable."""

    index: LogIndex


class TriggerOutcome(msgspec.Struct, frozen=True):
    """What a trigger did.

    `changed` False: the wanted state already held. `observed` False: asked for and accepted, not seen before the wait ended.
    `effective` says what was really done (a purge is clamped, a heartbeat names who answered).
    """

    changed: bool
    observed: bool
    detail: str = ""
    effective: dict[str, object] = msgspec.field(default_factory=dict)


class BarrierOutcome(msgspec.Struct, frozen=True):
    """A no-op of this leader's term is on the disks of `acked_by`, none of them excluded."""

    log_id: LogId
    acked_by: tuple[NodeId, ...]


class Expectation(msgspec.Struct, frozen=True):
    """What the caller believes; a mismatch refuses the request before anything happened."""

    term: int | None = None
    leader: NodeId | None = None
    membership_log_id: LogId | None = None
    last_log_id: LogId | None = None


NOTHING_EXPECTED = Expectation()

Outcome = WriteOutcome | CommitOutcome | ReadOutcome | TriggerOutcome | BarrierOutcome | Refusal
