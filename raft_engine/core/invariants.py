"""What must hold after every event. Run by the simulator and by tests; cheap enough to leave on.

Source: Raft paper figure 3; openraft `raft_state/` (`valid.rs`); etcd `tracker/progress.go`.
"""

from __future__ import annotations

from raft_engine.core.progress import Mode
from raft_engine.core.state import RaftState
from raft_engine.types.ids import PeerId


def check(state: RaftState) -> None:
    """Raise AssertionError when `state` is impossible."""
    assert state.log.purged.index <= state.snapshot.last_log_id.index
    assert state.snapshot.last_log_id.index <= max(state.applied.index, _installing_index(state))
    assert state.applied.index <= state.committed
    assert state.committed <= state.log.last.index
    assert state.flushed <= state.log.last.index
    assert state.apply_submitted <= state.committed
    assert state.vote.term >= state.flushed_vote.term
    assert state.vote.term >= state.log.last.term
    assert state.memberships
    assert not state.commit_waiters or state.commit_waiters[0][0] > state.committed, "a commit was not told"
    assert state.handed_over is None or state.leader is None, "a leader holds writes for somebody else"
    if state.leader is not None:
        _check_leader(state)
    if state.candidate is not None:
        assert state.leader is None
        assert state.recovery is None, "a recovering node campaigns"
        assert not state.is_blank, "a blank node campaigns"


def _installing_index(state: RaftState) -> int:
    return state.installing.last_log_id.index if state.installing is not None else 0


def _check_leader(state: RaftState) -> None:
    leader = state.leader
    assert leader is not None
    assert leader.vote.term == state.vote.term
    assert state.vote.node_id == state.me.node_id
    assert state.vote.committed
    assert state.known_leader == state.me.node_id
    assert state.me not in leader.progress
    members = state.membership.members() - {state.me}
    assert set(leader.progress) == members
    targets = {state.me: None} | leader.progress
    voter_sets = [[targets[PeerId(*voter)] for voter in config.items()] for config in state.membership.configs]
    assert leader.voter_sets == voter_sets
    assert not leader.is_settled or leader.find_settled(state.membership, state.me)
    last = state.log.last.index
    for progress in leader.progress.values():
        assert progress.matching < progress.next or progress.mode is Mode.REVERTED
        assert progress.matching <= progress.promised
        assert progress.matching <= last
        assert progress.mode is not Mode.REVERTED or progress.matching == 0
