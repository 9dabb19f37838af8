"""The picture an operator gets: metrics and alarms, derived from the state and changing nothing.

Source: openraft `metrics/`; contract of the management endpoint.
"""

from __future__ import annotations

from raft_engine.core.leader import LeaderState
from raft_engine.core.progress import Mode, Progress
from raft_engine.core.replication import has_quorum_contact, quorum_acked_at, quorum_silence
from raft_engine.core.state import RaftState
from raft_engine.types.ids import Millis, NodeId
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.metrics import Alarm, RaftMetrics, ReplicationMetrics, ReplicationState

_STATES = {
    Mode.PROBE: ReplicationState.PROBE,
    Mode.REPLICATE: ReplicationState.REPLICATE,
    Mode.SNAPSHOT: ReplicationState.SNAPSHOT,
    Mode.REVERTED: ReplicationState.REVERTED,
}


def metrics(state: RaftState, now: Millis) -> RaftMetrics:
    """Return a consistent picture as of `now`."""
    leader = state.leader
    return RaftMetrics(
        me=state.me,
        state=state.server_state(),
        term=state.term,
        vote=state.vote,
        leader=state.known_leader,
        last_log=state.log.last,
        committed=state.log.get(state.committed) or BEFORE_LOG,
        applied=state.applied,
        snapshot=state.snapshot.last_log_id,
        purged=state.purged,
        membership=state.effective,
        committed_membership=state.committed_membership(),
        recovery=state.recovery,
        building_snapshot=state.building_snapshot,
        transfer_to=leader.transfer.to.node_id if leader is not None and leader.transfer is not None else None,
        last_quorum_acked_ms_ago=_quorum_age(leader, now),
        replication=None if leader is None else _replication(state, leader, now),
        alarms=tuple(_alarms(state, now)),
        runtime_flags=state.flags,
    )


def _quorum_age(leader: LeaderState | None, now: Millis) -> Millis | None:
    if leader is None:
        return None
    age = now - quorum_acked_at(leader, now)
    return age if age != float("inf") else None


def _replication(state: RaftState, leader: LeaderState, now: Millis) -> dict[NodeId, ReplicationMetrics]:
    return {
        peer.node_id: _target(state, progress, now)
        for peer, progress in sorted(leader.progress.items(), key=lambda item: (item[0].node_id, item[1].connected))
    }


def _target(state: RaftState, progress: Progress, now: Millis) -> ReplicationMetrics:
    reachable = progress.connected or progress.mode is Mode.REVERTED
    armed: Millis | None = None
    if progress.is_armed(now) and progress.armed_until is not None:
        armed = progress.armed_until - now
    return ReplicationMetrics(
        peer=progress.peer,
        matching=state.log.get(progress.matching) or BEFORE_LOG,
        lag=state.log.last.index - progress.matching,
        state=_STATES[progress.mode] if reachable else ReplicationState.UNREACHABLE,
        last_ack_ms_ago=None if progress.heard_at is None else now - progress.heard_at,
        revert_armed_ms=armed,
        snapshot_sent_bytes=progress.snapshot_offset if progress.snapshot is not None else 0,
        snapshot_size_bytes=progress.snapshot.size_bytes if progress.snapshot is not None else 0,
    )


def _alarms(state: RaftState, now: Millis) -> list[Alarm]:
    alarms: list[Alarm] = []
    if state.recovery is not None:
        detail = f"until the log holds {state.recovery.until}: {state.recovery.reason}"
        alarms.append(Alarm("recovering", detail, node=state.me.node_id))
    leader = state.leader
    if leader is None:
        return alarms
    if not has_quorum_contact(state, leader, now):
        detail = f"no quorum answered for {quorum_silence(leader, now):.0f} ms; writes are refused"
        alarms.append(Alarm("no_quorum", detail, "raftctl status", state.me.node_id))
    alarms.extend(_reverted(state, progress) for progress in leader.progress.values() if progress.mode is Mode.REVERTED)
    return alarms


def _reverted(state: RaftState, progress: Progress) -> Alarm:
    """The advice is the one that is safe whatever else was lost: a new life. A learner has no vote to lose."""
    node_id = progress.peer.node_id
    is_voter = state.membership.is_voter(progress.peer)
    hint = f"raftctl rejoin-node {node_id} --blank" if is_voter else f"raftctl allow-next-revert --to {node_id}"
    if progress.replaced_by:
        detail = f"node {node_id} came back with an empty data directory (incarnation {progress.replaced_by[:8]})"
    else:
        lost = f"lost entries up to {progress.promised} that it had acknowledged"
        detail = f"node {node_id} {progress.rolled_back or lost}"
        hint = f"stop node {node_id}, move its data directory away, start it with an empty one, then {hint}"
    return Alarm("node_reverted", f"{detail}; it is fenced and counts for nothing", hint, node_id)
