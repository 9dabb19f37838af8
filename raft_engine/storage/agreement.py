"""Do log, snapshot and state machine of one node belong together?

    log beginning behind both              entries are missing between what is known and the log
    log ending before the state machine    what was applied was durable in the log once
    another entry where the machine ends   one of the two is another node's, or of another time

Asked at every start, and by those who look into a directory from outside.
Source: openraft `storage/helper.rs`; dissertation 5.
"""

from __future__ import annotations

from raft_engine.errors import Damaged
from raft_engine.storage.hints import WAY_A_HINT
from raft_engine.storage.interface import LogState
from raft_engine.types.log_id import LogId


def continues(found: LogState, snapshot_end: LogId) -> bool:
    """Return whether the log holds the snapshot's last entry, or begins behind it."""
    if found.last.index < snapshot_end.index:
        return False
    if found.purged.index > snapshot_end.index:
        return True
    return _id_at(found, snapshot_end) == snapshot_end


def check_agreement(found: LogState, applied: LogId, path: str) -> None:
    """Check that the log goes on where the state machine ends.

    Args:
        found: the log, after it was reset to the newest snapshot if it did not reach that.
        applied: the state machine's last entry, or the snapshot's if that is newer.
    Raises: Damaged.
    """
    if found.purged.index > applied.index:
        raise Damaged(
            f"the log begins after {found.purged}, but the state machine ends at {applied}: a snapshot is missing",
            path=path,
            hint=WAY_A_HINT,
        )
    if found.last.index < applied.index:
        raise Damaged(
            f"the log ends at {found.last}, before {applied}, which the state machine has applied",
            path=path,
            hint=WAY_A_HINT,
        )
    if found.purged.index <= applied.index and _id_at(found, applied) != applied:
        raise Damaged(
            f"the state machine has applied {applied}, but the log has {_id_at(found, applied)} there: "
            "they do not belong together",
            path=path,
            hint=WAY_A_HINT,
        )


def _id_at(found: LogState, where: LogId) -> LogId:
    if where.index == found.purged.index:
        return found.purged
    run = [run for run in found.runs if run.first_index <= where.index][-1]
    return LogId(run.term, run.node_id, where.index)
