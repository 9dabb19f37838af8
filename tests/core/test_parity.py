"""Scenarios of openraft's integration tests that need no clock but one and no other node: see tests/parity.toml."""

from __future__ import annotations

import pytest

from raft_engine.core.commands import AppendEntries, Apply, ReplicateEntries, SetPeers
from raft_engine.core.events import MembershipChangeRequested, PeerConnected, PeerLost, SnapshotInstalled
from raft_engine.types.ids import NodeId
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.membership import EMPTY_MEMBERSHIP
from raft_engine.types.messages import AppendResponse, SnapshotChunk
from raft_engine.types.metrics import ServerState
from raft_engine.types.outcomes import Expectation, RefusalCode
from tests.core.builder import Node, append, at, entry, leader, leads, members, meta, outcomes, peer, sent, vote


def change(node: Node, voters: set[int], **expect):
    wanted = frozenset(map(NodeId, voters))
    return node.do(MembershipChangeRequested(node.ticket(), 1000.0, wanted, expect=Expectation(**expect)))


def settle(node: Node) -> None:
    """Everybody whom this leader knows holds everything, until nothing new is appended."""
    while node.state.leader is not None:
        last = node.state.log.last.index
        node.flush()
        for target in sorted(node.state.leader.progress if node.state.leader else ()):
            if node.state.leader is not None and target in node.state.leader.progress:
                node.accept(target.node_id, node.state.log.last.index)
        if node.state.log.last.index == last:
            return


# -- append_entries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [(), (2, 2)])
def test_an_empty_request_with_a_point_that_is_not_there_is_refused(log):
    node = Node(log=log)
    node.hear(2, append(leads(3), at(3, 9)))
    (answer,) = [message for message in sent(node.flush()) if isinstance(message, AppendResponse)]
    assert (False, at(3, 9)) == (answer.accepted, answer.conflict)


def test_a_learner_that_cannot_be_reached_never_blocks_a_commit():
    node = leader(voters=1, membership=members(1, learners=[2]))
    node.do(PeerLost(peer(2), "cut off"))
    node.write(b"x")
    node.flush()
    assert node.state.committed == node.state.log.last.index


def test_a_hundred_conflicting_entries_do_not_hold_up_a_follower():
    node = Node(log=[2] * 100)
    node.hear(3, append(leads(5, 3), at(2, 101), entry(5, 102, node=3)))
    assert node.state.log.last == at(5, 102, node=3)
    node.hear(3, append(leads(6, 3), at(0, 1), *[entry(6, index, node=3) for index in range(2, 52)]))
    assert node.state.log.last == at(6, 51, node=3)


# -- client_api ----------------------------------------------------------------------------------------------------------


def test_a_deposed_leaders_write_is_answered_when_a_snapshot_passes_it():
    node = leader()
    node.write(b"lost")
    node.hear(2, append(leads(5), at(1, 2, node=1)))
    assert not node.engine.is_leader
    snapshot = meta(5, 40)
    node.hear(2, SnapshotChunk(leads(5), 1, 1, snapshot, 0, b"x" * 100, done=True))
    found = outcomes(node.do(SnapshotInstalled(snapshot)))
    found += outcomes(node.flush())
    assert [RefusalCode.OUTCOME_UNKNOWN] == [outcome.code for outcome in found]


def test_a_write_of_nothing_is_an_entry_like_any_other():
    node = leader()
    commands = node.write(b"")
    (appended,) = [command for command in commands if isinstance(command, AppendEntries)]
    assert [b""] == [bytes(item.data) for item in appended.entries]
    node.flush()
    assert node.state.log.last.index == node.target(2).next - 1


# -- life_cycle ----------------------------------------------------------------------------------------------------------


def test_a_node_whose_vote_made_it_leader_but_that_is_no_member_begins_as_a_learner():
    node = Node(log=[3], hard=vote(3, 1, committed=True), membership=members(2, 3))
    assert ServerState.LEARNER is node.state.server_state()
    assert [] == node.tick(5000)


def test_a_restarted_leader_knows_of_no_commit_before_a_quorum_tells_it():
    node = Node(log=[3, 3], hard=vote(3, 1, committed=True))
    assert (0, False) == (node.state.committed, node.engine.is_leader)


def test_a_restart_within_a_joint_change_appends_nothing_by_itself():
    both = members(1, 2, 3)
    joint = type(both)(both.configs + members(3, 4, 5).configs, {}, members(1, 2, 3, 4, 5).nodes)
    node = Node(log=[3], membership=joint)
    assert [] == [command for command in [*node.first_commands, *node.tick(100)] if isinstance(command, AppendEntries)]


# -- membership ----------------------------------------------------------------------------------------------------------

CHANGES = [
    ({1}, {1, 2, 3}),
    ({1}, {2, 3, 4}),
    ({1, 2}, {2, 3}),
    ({1, 2}, {2}),
    ({1, 2}, {3}),
    ({1, 2}, {4}),
    ({1, 2, 3}, {5}),
    ({1, 2, 3}, {4, 5, 6}),
    ({1, 2, 3, 4, 5}, {1, 2, 3, 4}),
    ({1}, {1, 2}),
    ({1, 2}, {1, 2, 3}),
    ({1, 2}, {1, 2}),
    ({1, 2, 3}, {3}),
    ({1, 2, 3}, {1, 2}),
    ({1, 2, 3}, {1, 3}),
    ({1, 2, 3}, {2}),
]


@pytest.mark.parametrize(("before", "after"), CHANGES, ids=lambda ids: "".join(map(str, sorted(ids))))
def test_any_set_of_voters_becomes_any_other(before, after):
    new = after - before
    node = leader(len(before), membership=members(*before, learners=new))
    settle(node)
    change(node, after)
    settle(node)
    assert sorted(after) == node.state.membership.voter_ids()
    assert not node.state.membership.is_joint
    assert (1 in after) == node.engine.is_leader


def test_a_removed_follower_is_sent_nothing_more():
    node = leader()
    change(node, {1, 2})
    settle(node)
    commands = node.write(b"x")
    assert {2} == {command.target.node_id for command in commands if isinstance(command, ReplicateEntries)}


def test_the_transport_lets_go_of_a_follower_that_was_removed_and_cannot_be_reached():
    node = leader()
    node.do(PeerLost(peer(3), "gone"))
    change(node, {1, 2})
    node.flush()
    commands = node.accept(2, node.state.log.last.index)
    (told,) = [command for command in commands if isinstance(command, SetPeers)]
    assert [2] == [target.node_id for target in told.peers]
    assert peer(3) not in node.state.leader.progress


def test_a_learner_that_becomes_a_voter_keeps_what_it_has_acknowledged():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    settle(node)
    matching, session = node.target(4).matching, node.target(4).session
    change(node, {1, 2, 3, 4})
    assert (matching, session) == (node.target(4).matching, node.target(4).session)


def test_a_stale_membership_in_the_expectation_refuses_and_writes_nothing():
    node = leader()
    last = node.state.log.last
    (refusal,) = outcomes(change(node, {1, 2}, membership_log_id=at(9, 9)))
    assert (RefusalCode.PRECONDITION_FAILED, last) == (refusal.code, node.state.log.last)


def test_a_right_membership_in_the_expectation_lets_both_steps_pass():
    node = leader()
    change(node, {1, 2}, membership_log_id=node.state.effective.log_id)
    settle(node)
    assert [1, 2] == node.state.membership.voter_ids()


def test_a_node_without_a_cluster_refuses_a_change_cleanly():
    (refusal,) = outcomes(change(Node(membership=EMPTY_MEMBERSHIP), {1}))
    assert refusal.code in {RefusalCode.NO_LEADER, RefusalCode.NOT_LEADER, RefusalCode.BLANK}


# -- metrics -------------------------------------------------------------------------------------------------------------


def test_the_targets_shown_follow_the_membership_and_go_with_the_leadership():
    node = leader()
    assert {2, 3} == set(node.engine.metrics(node.now).replication)
    change(node, {1, 2})
    settle(node)
    assert {2} == set(node.engine.metrics(node.now).replication)
    node.hear(2, append(leads(9), BEFORE_LOG))
    assert None is node.engine.metrics(node.now).replication


# -- replication ---------------------------------------------------------------------------------------------------------


def test_an_unreachable_target_is_sent_nothing_until_it_is_back():
    node = leader()
    node.do(PeerLost(peer(3), "gone"))
    written = [node.write(b"x") for _ in range(20)]
    assert [] == [c for commands in written for c in commands if isinstance(c, ReplicateEntries) and c.target == peer(3)]
    back = node.do(PeerConnected(peer(3)))
    assert [] != [c for c in back if isinstance(c, ReplicateEntries) and c.target == peer(3)]


def test_what_is_committed_is_asked_to_be_applied_once():
    node = leader()
    node.write(b"x")
    node.flush()
    first = node.accept(2, 3)
    again = node.accept(3, 3)
    assert [1, 0] == [len([c for c in commands if isinstance(c, Apply)]) for commands in (first, again)]
