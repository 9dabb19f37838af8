"""What nodes say to each other.

Every message travels in an envelope that names sender and receiver as (id, incarnation); a message for another incarnation
is refused before the core sees it. Requests carry what makes a late answer recognisable: the sender's vote, the replication
session, and the heartbeat round. Answers echo them.
Source: Raft paper figure 2, 13; dissertation 3.10, 6.4, 9.6; openraft `raft/message/`; etcd `tracker/`.
"""

from __future__ import annotations

import msgspec

from raft_engine.types.entry import Entry
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.snapshot import SnapshotMeta
from raft_engine.types.vote import Vote


class VoteRequest(msgspec.Struct, frozen=True):
    """A candidate asks; with `pre_vote` it only asks whether it would be granted (nothing is saved).

    `leadership_transfer`: the leader itself asked for this election, so its lease does not stand in the way.
    """

    term: Term
    last_log_id: LogId
    pre_vote: bool
    leadership_transfer: bool = False


class VoteResponse(msgspec.Struct, frozen=True):
    """`term` and `pre_vote` echo the request; `vote` is the voter's own, saved before this was sent.

    `reason` says in one word why not: `lease`, `log`, `vote`, `term`, `mute`.
    """

    term: Term
    pre_vote: bool
    granted: bool
    vote: Vote
    last_log_id: LogId
    reason: str = ""
    leader: NodeId = NodeId(0)


class AppendRequest(msgspec.Struct, frozen=True):
    """Entries after `prev`, or none (a heartbeat). The entries travel behind the message as records, not inside it.

    `check`: the target had acknowledged `prev` when this was sent, so lacking it means that its log was lost.
    `wants_answer`: False, if all that it says is how far is committed: a target that agrees need not say so again.
    """

    vote: Vote
    session: int
    check: bool
    round: int
    prev: LogId
    committed: LogIndex
    entries: tuple[Entry, ...] = ()
    wants_answer: bool = True


class AppendResponse(msgspec.Struct, frozen=True):
    """`vote` is the answering node's; session, check and round echo the request.

    Accepted: `matching` is durable there. Conflict: it lacks `conflict` (the request's `prev`), and `last` is its last log id
    at or before that index (a hint where to go on). Rejected: `vote.term` is above the request's.
    """

    vote: Vote
    session: int
    check: bool
    round: int
    accepted: bool
    matching: LogId
    conflict: LogId
    last: LogId


class SnapshotChunk(msgspec.Struct, frozen=True):
    """Bytes `offset` … of a snapshot of `meta.size_bytes` bytes.

    The answer says how much the receiver has, so that a transfer begun anew goes on where it stopped.
    """

    vote: Vote
    session: int
    round: int
    meta: SnapshotMeta
    offset: int
    data: bytes
    done: bool


class SnapshotChunkResponse(msgspec.Struct, frozen=True):
    """`next_offset`: how many bytes of this snapshot are safely there. `installed`: the state machine has taken it over."""

    vote: Vote
    session: int
    round: int
    snapshot_id: str
    next_offset: int
    installed: bool
    last_log_id: LogId


class TransferRequest(msgspec.Struct, frozen=True):
    """The leader asks the receiver to campaign now (TimeoutNow), provided it holds `last_log_id`."""

    vote: Vote
    last_log_id: LogId


class TransferResponse(msgspec.Struct, frozen=True):
    """`reason`: empty when the target campaigns; else `log`, `vote`, `recovering`, `not_voter`."""

    vote: Vote
    accepted: bool
    reason: str


class ReadIndexRequest(msgspec.Struct, frozen=True):
    """A follower asks the leader from which applied index on a read is linearizable. `request_id` is the follower's."""

    request_id: int


class ReadIndexResponse(msgspec.Struct, frozen=True):
    """`index` 0: not answered by a leader (`leader` says whom to ask, 0: unknown)."""

    request_id: int
    index: LogIndex
    leader: NodeId


Message = (
    VoteRequest
    | VoteResponse
    | AppendRequest
    | AppendResponse
    | SnapshotChunk
    | SnapshotChunkResponse
    | TransferRequest
    | TransferResponse
    | ReadIndexRequest
    | ReadIndexResponse
)

RESPONSES = (VoteResponse, AppendResponse, SnapshotChunkResponse, TransferResponse, ReadIndexResponse)
"""Messages that answer: they go back over the connection on which the request came."""
