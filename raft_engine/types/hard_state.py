"""What a node must never forget: its vote, and until when it is recovering.

Source: Raft paper figure 2 (persistent state); etcd `raftpb.HardState`.
"""

from __future__ import annotations

import msgspec

from raft_engine.types.log_id import LogId
from raft_engine.types.vote import NO_VOTE, Vote


class Recovery(msgspec.Struct, frozen=True):
    """The node was wiped with its vote kept: until its log holds `until` it neither campaigns nor serves reads."""

    until: LogId
    reason: str


class HardState(msgspec.Struct, frozen=True):
    """Saved atomically and before any promise that rests on it."""

    vote: Vote = NO_VOTE
    recovery: Recovery | None = None
