"""The picture of a node: raft_engine/core/reporting.py."""

from __future__ import annotations

import pytest

from raft_engine.core.events import AllowNextRevertRequested, PeerLost, PeerReplaced, PeerRolledBack, TransferLeaderRequested
from raft_engine.types.hard_state import Recovery
from raft_engine.types.ids import Incarnation, NodeId
from raft_engine.types.membership import EMPTY_MEMBERSHIP
from raft_engine.types.metrics import RaftMetrics, ReplicationState, ServerState
from tests.core.builder import Node, append, at, elected, leader, leads, members, peer


def seen(node: Node) -> RaftMetrics:
    return node.engine.metrics(node.now)


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (Node, ServerState.FOLLOWER),
        (lambda: Node(membership=members(2, 3, learners=[1])), ServerState.LEARNER),
        (lambda: Node(membership=EMPTY_MEMBERSHIP), ServerState.LEARNER),
        (leader, ServerState.LEADER),
    ],
)
def test_the_state_follows_from_vote_and_membership(make, state):
    assert state is seen(make()).state


def test_a_candidate_shows_as_one():
    node = Node(config={"enable_pre_vote": False})
    node.tick(150)
    assert ServerState.CANDIDATE is seen(node).state


def test_a_follower_names_its_leader_and_has_no_targets():
    node = Node()
    node.hear(2, append(leads(3), at(0, 1)))
    assert (2, 3, None) == (seen(node).leader, seen(node).term, seen(node).replication)


def test_a_leader_shows_each_target_with_its_lag():
    node = leader()
    node.write(b"x", b"y")
    targets = seen(node).replication
    assert {2: 2, 3: 2} == {node_id: target.lag for node_id, target in targets.items()}
    assert {ReplicationState.REPLICATE} == {target.state for target in targets.values()}


def test_a_target_that_is_not_connected_is_unreachable():
    node = leader()
    node.do(PeerLost(peer(3), "gone"))
    assert ReplicationState.UNREACHABLE is seen(node).replication[NodeId(3)].state


def test_how_long_ago_a_quorum_answered():
    node = leader()
    node.now += 40
    assert seen(node).last_quorum_acked_ms_ago == 40
    assert seen(Node()).last_quorum_acked_ms_ago is None


def test_a_permission_shows_with_what_is_left_of_it():
    node = leader()
    node.do(AllowNextRevertRequested(node.ticket(), NodeId(3), True, 1000.0))
    node.now += 400
    assert 600 == seen(node).replication[NodeId(3)].revert_armed_ms
    node.now += 600
    assert seen(node).replication[NodeId(3)].revert_armed_ms is None


def test_a_transfer_shows_its_target():
    node = leader()
    node.do(TransferLeaderRequested(node.ticket(), NodeId(2), 1000.0))
    assert seen(node).transfer_to == 2


def test_a_blank_return_raises_an_alarm_that_says_what_to_type():
    node = leader()
    node.do(PeerReplaced(peer(3), Incarnation("f" * 32)))
    (alarm,) = seen(node).alarms
    assert ("node_reverted", 3) == (alarm.code, alarm.node)
    assert "raftctl rejoin-node 3 --blank" == alarm.hint


def test_a_return_with_less_raises_an_alarm_that_says_how_to_begin_afresh():
    node = leader()
    node.do(PeerRolledBack(peer(3), "runs on an older copy"))
    (alarm,) = seen(node).alarms
    assert alarm.hint.startswith("stop node 3, move its data directory away, start it with an empty one, ")
    assert alarm.hint.endswith("then raftctl rejoin-node 3 --blank")


def test_a_leader_without_a_quorum_raises_an_alarm():
    node = leader()
    node.now += node.state.config.election_timeout_max_ms
    assert ["no_quorum"] == [alarm.code for alarm in seen(node).alarms]


def test_a_recovering_node_raises_an_alarm():
    node = Node(recovery=Recovery(at(2, 9), "wiped"))
    assert ["recovering"] == [alarm.code for alarm in seen(node).alarms]
    assert at(2, 9) == seen(node).recovery.until


def test_a_new_leader_s_commit_is_what_is_known_to_be_committed():
    assert seen(elected()).committed.index == 0
