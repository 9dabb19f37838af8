"""What only a leader knows: its targets, its lease, and who waits for it.

Source: Raft paper figure 2 (volatile state on leaders); dissertation 3.10, 6.4; openraft `proposer/leader.rs`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from raft_engine.core.events import ClientWrite
from raft_engine.core.progress import Progress
from raft_engine.types.ids import Millis, NodeId, PeerId, Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import Membership, NodeAddress
from raft_engine.types.vote import Vote


@dataclass(slots=True)
class PendingRead:
    """Reads that wait for a round to be confirmed.

    `number` is the asker's: of read waiters here (`requester` None), or of a follower's request.
    """

    number: int
    requester: PeerId | None
    round: int
    index: int


@dataclass(slots=True)
class PendingHeartbeat:
    """A caller who wants to know who answers."""

    ticket: Ticket
    round: int
    deadline: Millis


@dataclass(slots=True)
class PendingBarrier:
    """A no-op that must be held by enough voters outside `exclude`."""

    ticket: Ticket
    log_id: LogId
    exclude: frozenset[NodeId]
    deadline: Millis


@dataclass(slots=True)
class PendingChange:
    """A caller who waits for a change to be committed and for `learners` to have caught up."""

    ticket: Ticket
    learners: dict[PeerId, NodeAddress]
    deadline: Millis


@dataclass(slots=True)
class Transfer:
    """Leadership is being handed to `to`; until `deadline` no write is taken into the log."""

    to: PeerId
    deadline: Millis
    requested: bool = False


@dataclass(slots=True)
class LeaderState:
    """Invariant: `progress` has exactly the members of the effective configuration other than this node.

    Invariant: `voter_sets` has the voters of each of that configuration's voter sets.
    """

    vote: Vote
    first_index: int
    """Index of this leader's first entry: nothing is served before it is committed (dissertation 6.4)."""
    elected_at: Millis
    next_heartbeat: Millis
    progress: dict[PeerId, Progress] = field(default_factory=dict)
    voter_sets: list[list[Progress | None]] = field(default_factory=list)
    """What a quorum is counted among. None stands for this node: how far it is itself is known to its state."""
    is_settled: bool = False
    """Nothing is left to be done about the members (`membership_change.on_progress`). Invariant: only where `find_settled` says so."""
    round: int = 0
    round_sent_at: dict[int, Millis] = field(default_factory=dict)
    reads: list[PendingRead] = field(default_factory=list)
    waiting_reads: list[tuple[int, PeerId | None]] = field(default_factory=list)
    """Reads that wait for the next round: (number, requester)."""
    heartbeats: list[PendingHeartbeat] = field(default_factory=list)
    barriers: list[PendingBarrier] = field(default_factory=list)
    changes: list[PendingChange] = field(default_factory=list)
    transfer: Transfer | None = None
    lease_given_up: bool = False
    """Somebody was asked to campaign without waiting for leases, and may do so at any time of this term: none is relied upon."""
    removed_at: Millis | None = None
    """When this leader was first seen to be no voter of a committed configuration."""
    held_writes: list[ClientWrite] = field(default_factory=list)
    uncommitted: deque[tuple[int, int]] = field(default_factory=deque)
    """(last index, bytes) of each appended batch that is not committed."""
    uncommitted_bytes: int = 0

    def find_settled(self, membership: Membership, me: PeerId) -> bool:
        """Return whether `me` votes in the only voter set, nobody learns, and nobody came back as another incarnation."""
        plain = not membership.is_joint and not membership.learners and membership.is_voter(me)
        return plain and not any(progress.replaced_by for progress in self.progress.values())
