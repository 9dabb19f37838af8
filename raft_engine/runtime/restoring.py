"""What a node starts with: making log, snapshot and state machine agree after whatever stopped it.

    state machine behind the snapshot      it is restored from the snapshot
    log not reaching the snapshot's end,   the crash came between taking in a leader's snapshot and resetting the log:
      or another entry there                 the log is reset to the snapshot
    log beginning behind both              entries are missing between what is known and the log: damaged
    log ending before the state machine    what was applied was durable in the log once: damaged
    another entry where the machine ends   one of the two is another node's, or of another time: damaged
Source: openraft `storage/helper.rs`; dissertation 5.
"""

from __future__ import annotations

from raft_engine.core.state import Restored
from raft_engine.errors import Damaged
from raft_engine.storage.interface import LogState, LogStorage, SnapshotStorage, StateMachine
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import StoredMembership
from raft_engine.types.snapshot import NO_SNAPSHOT

REJOIN_HINT = "restore the directory, or bring the node back with: raftctl rejoin-node"


def restore_node(log: LogStorage, snapshots: SnapshotStorage, state_machine: StateMachine) -> Restored:
    """Return what the engine starts with; the state machine and the log are brought in line with the newest snapshot.

    Raises: Damaged: entries are missing.
    """
    snapshot = snapshots.newest() or NO_SNAPSHOT
    applied = state_machine.applied()
    if applied.index < snapshot.last_log_id.index:
        state_machine.restore(snapshots.open(snapshot), snapshot.last_log_id)
        applied = snapshot.last_log_id
    found = log.state()
    if not _continues(found, snapshot.last_log_id):
        log.reset(snapshot.last_log_id)
        log.sync()
        found = LogState(purged=snapshot.last_log_id, last=snapshot.last_log_id)
    if found.purged.index > applied.index:
        raise Damaged(
            f"the log begins after {found.purged}, but the state machine ends at {applied}: a snapshot is missing",
            path="log",
            hint=REJOIN_HINT,
        )
    if found.last.index < applied.index:
        raise Damaged(
            f"the log ends at {found.last}, before {applied}, which the state machine has applied",
            path="log",
            hint=REJOIN_HINT,
        )
    if found.purged.index <= applied.index and _id_at(found, applied) != applied:
        raise Damaged(
            f"the state machine has applied {applied}, but the log has {_id_at(found, applied)} there: they do not belong together",
            path="log",
            hint=REJOIN_HINT,
        )
    return Restored(
        hard_state=log.hard_state(),
        purged=found.purged,
        last=found.last,
        runs=tuple((run.first_index, run.term, run.node_id) for run in found.runs),
        memberships=found.memberships,
        snapshot=snapshot,
        applied=applied,
    )


def membership_at(restored: Restored) -> StoredMembership:
    """Return the configuration in force at `restored.applied`: what the next snapshot has to carry."""
    known = [restored.snapshot.membership, *restored.memberships]
    return [stored for stored in known if stored.log_id.index <= restored.applied.index][-1]


def _continues(found: LogState, snapshot_end: LogId) -> bool:
    """Return whether the log holds the snapshot's last entry, or begins behind it."""
    if found.last.index < snapshot_end.index:
        return False
    if found.purged.index > snapshot_end.index:
        return True
    return _id_at(found, snapshot_end) == snapshot_end


def _id_at(found: LogState, where: LogId) -> LogId:
    if where.index == found.purged.index:
        return found.purged
    run = [run for run in found.runs if run.first_index <= where.index][-1]
    return LogId(run.term, run.node_id, where.index)
