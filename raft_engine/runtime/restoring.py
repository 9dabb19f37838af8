"""What a node starts with: making log, snapshot and state machine agree after whatever stopped it.

    state machine behind the snapshot      it is restored from the snapshot
    log not reaching the snapshot's end,   the crash came between taking in a leader's snapshot and resetting the log:
      or another entry there                 the log is reset to the snapshot
    anything else that does not agree      damaged (`storage/agreement`)
Source: openraft `storage/helper.rs`; dissertation 5.
"""

from __future__ import annotations

from raft_engine.core.state import Restored
from raft_engine.storage.agreement import check_agreement, continues
from raft_engine.storage.interface import LogState, LogStorage, SnapshotStorage, StateMachine
from raft_engine.types.membership import StoredMembership
from raft_engine.types.snapshot import NO_SNAPSHOT


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
    if not continues(found, snapshot.last_log_id):
        log.reset(snapshot.last_log_id)
        log.sync()
        found = LogState(purged=snapshot.last_log_id, last=snapshot.last_log_id)
    check_agreement(found, applied, "log")
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
