"""What a snapshot covers.

Source: Raft paper 7; dissertation 5.1; openraft `storage/snapshot_meta.rs`.
"""

from __future__ import annotations

import msgspec

from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import StoredMembership


class SnapshotMeta(msgspec.Struct, frozen=True):
    """The state after applying `last_log_id`, and the last membership at or before it.

    `snapshot_id` names one build: two snapshots of the same log id may differ in bytes.
    """

    last_log_id: LogId = BEFORE_LOG
    membership: StoredMembership = StoredMembership()
    snapshot_id: str = ""
    size_bytes: int = 0


NO_SNAPSHOT = SnapshotMeta()
