"""What must hold in every scenario, whatever its author had in mind: the safety properties of figure 3 of the paper.

Checked after every event: the state of the node is possible, a term has one leader, what is committed at an index stays that
and nothing else is, a leader has every entry that was committed before its term, state machines that have applied as much are
alike.
Source: Raft paper figure 3; etcd has no such check in its `rafttest`.
"""

from __future__ import annotations

from raft_engine.core import invariants
from raft_engine.core.state import RaftState
from raft_engine.types.ids import PeerId, Term
from raft_engine.types.log_id import LogId


class Safety:
    """Remembers what all nodes together have promised."""

    def __init__(self) -> None:
        self._leaders: dict[Term, PeerId] = {}
        self._committed: list[LogId] = []
        """From index 1 on, without a gap; the first node to know of it has put it there."""
        self._digests: dict[LogId, bytes] = {}

    def check(self, state: RaftState) -> None:
        """Raise AssertionError when what this node is or holds contradicts what was promised."""
        invariants.check(state)
        if state.leader is not None:
            self._check_leader(state)
        self._check_committed(state)

    def _check_leader(self, state: RaftState) -> None:
        term, me = state.term, state.me
        newest = max(self._leaders, default=0)
        first = self._leaders.setdefault(term, me)
        assert first == me, f"two leaders in term {term}: nodes {first.node_id} and {me.node_id}"
        if term > newest and self._committed:  # one elected late, in a term that is over, need not have what came after
            last = self._committed[-1]
            held = state.log.has(last) or last.index <= state.log.purged.index
            assert held, f"node {me.node_id} is elected in term {term} without committed entry {last}"

    def _check_committed(self, state: RaftState) -> None:
        for index in range(len(self._committed) + 1, state.committed + 1):
            log_id = state.log.get(index)
            assert log_id is not None, f"node {state.me.node_id} commits entry {index}, which nobody committed before"
            self._committed.append(log_id)
        for index in range(max(state.log.purged.index, 1), state.committed + 1):
            mine, first = state.log.get(index), self._committed[index - 1]
            assert mine == first, f"node {state.me.node_id} has committed {mine}, another node {first}"

    def applied(self, upto: LogId, digest: bytes) -> None:
        """Raise AssertionError when a state machine differs from another one that has applied as much."""
        first = self._digests.setdefault(upto, digest)
        assert first == digest, f"two state machines differ after {upto}"
