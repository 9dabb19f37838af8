"""Who belongs to the cluster, and how that changes: raft_engine/core/membership_change.py, configuring.py."""

from __future__ import annotations

import pytest

from raft_engine.core.commands import AppendEntries, SendMessage, SetPeers
from raft_engine.core.events import (
    ElectRequested,
    MembershipChangeRequested,
    MessageReceived,
    PeerConnected,
    ShutdownRequested,
    StepDownRequested,
    TransferLeaderRequested,
)
from raft_engine.types.entry import EntryKind
from raft_engine.types.ids import NodeId
from raft_engine.types.membership import NodeAddress, decode_membership
from raft_engine.types.messages import TransferRequest
from raft_engine.types.outcomes import Expectation, RefusalCode
from tests.core.builder import (
    Node,
    address,
    append,
    at,
    elected,
    entry,
    grant,
    leader,
    leads,
    members,
    membership_entry,
    outcomes,
    peer,
    reports,
    sent,
)


def change(node: Node, *voters: int, wait_ms: float = 1000.0, expect: Expectation | None = None, **more):
    wanted = frozenset(map(NodeId, voters)) if voters else None
    event = MembershipChangeRequested(node.ticket(), wait_ms, wanted, expect=expect or Expectation(), **more)
    return node.do(event)


def learner(number: int, life: int = 1):
    return {peer(number, life): address(number)}


def appended(commands) -> list:
    """Return the configurations among appended entries."""
    entries = [item for command in commands if isinstance(command, AppendEntries) for item in command.entries]
    return [decode_membership(item.data) for item in entries if item.kind == EntryKind.MEMBERSHIP]


def agree(node: Node, *targets: int):
    """Everything this leader has is durable here and at `targets`."""
    commands = node.flush()
    for target in targets:
        if node.state.leader is not None:
            commands += node.accept(target, node.state.log.last.index)
    return commands


# -- rule 1: who may change, and when ------------------------------------------------------------------------------------


def test_a_follower_refuses_and_names_the_leader():
    node = Node()
    node.hear(2, append(leads(3), at(0, 1)))
    (refusal,) = outcomes(change(node, 1, 2))
    assert (RefusalCode.NOT_LEADER, 2) == (refusal.code, refusal.leader)


def test_a_leader_changes_nothing_before_its_own_first_entry_is_committed():
    (refusal,) = outcomes(change(elected(), 1, 2))
    assert RefusalCode.CHANGE_IN_PROGRESS is refusal.code


def test_a_committed_configuration_is_not_enough_before_the_own_first_entry_is_committed():
    node = elected(applied=at(0, 1))
    assert node.state.effective.log_id.index == node.state.committed
    (refusal,) = outcomes(change(node, 1, 2))
    assert RefusalCode.CHANGE_IN_PROGRESS is refusal.code


def test_one_change_at_a_time():
    node = leader()
    change(node, 1, 2)
    (refusal,) = outcomes(change(node, 1, 3))
    assert RefusalCode.CHANGE_IN_PROGRESS is refusal.code


def test_no_change_during_a_transfer():
    node = leader()
    node.do(TransferLeaderRequested(node.ticket(), NodeId(2), 1000.0))
    (refusal,) = outcomes(change(node, 1, 2))
    assert RefusalCode.TRANSFER_IN_PROGRESS is refusal.code


def test_a_leader_that_hears_no_quorum_changes_nothing():
    node = leader()
    node.now += node.state.config.election_timeout_max_ms + 1
    (refusal,) = outcomes(change(node, 1, 2))
    assert RefusalCode.NO_QUORUM is refusal.code


def test_an_expectation_that_does_not_hold_refuses():
    (refusal,) = outcomes(change(leader(), 1, 2, expect=Expectation(term=99)))
    assert RefusalCode.PRECONDITION_FAILED is refusal.code


# -- rule 2: learners first ----------------------------------------------------------------------------------------------


def test_a_learner_comes_in_one_step_and_does_not_count():
    node = leader()
    (membership,) = appended(change(node, add_learners=learner(4)))
    assert ([1, 2, 3], [4], False) == (membership.voter_ids(), list(membership.learners), membership.is_joint)


def test_a_stranger_cannot_become_a_voter():
    (refusal,) = outcomes(change(leader(), 1, 2, 3, 4))
    assert RefusalCode.LEARNER_NOT_FOUND is refusal.code


def test_a_learner_that_has_nothing_yet_cannot_become_a_voter():
    """It is blank and grants nobody: with the leader gone no quorum of the new set could elect (seed 2023)."""
    node = leader()
    change(node, add_learners=learner(4), blocking=False)
    agree(node, 2)
    (refusal,) = outcomes(change(node, 2, 4))
    assert RefusalCode.TARGET_LAGGING is refusal.code


def test_a_learner_that_lags_too_much_cannot_become_a_voter():
    node = leader(membership=members(1, 2, 3, learners=[4]), config={"replication_lag_threshold": 1})
    node.write(b"x", b"y")
    (refusal,) = outcomes(change(node, 1, 2, 4))
    assert (RefusalCode.TARGET_LAGGING, "node 4 is 2 entries behind, more than 1") == (refusal.code, refusal.detail)


def test_an_empty_set_of_voters_is_refused():
    node = leader()
    event = MembershipChangeRequested(node.ticket(), 1000.0, frozenset())
    (refusal,) = outcomes(node.do(event))
    assert RefusalCode.EMPTY_MEMBERSHIP is refusal.code


def test_who_waits_for_a_learner_is_answered_when_it_has_caught_up():
    node = leader()
    change(node, add_learners=learner(4))
    assert [] == outcomes(agree(node, 2, 3))
    node.state.leader.progress[peer(4)].connected = True
    (outcome,) = outcomes(node.accept(4, node.state.log.last.index))
    assert (True, True) == (outcome.changed, outcome.observed)


def test_who_does_not_wait_is_answered_when_the_learner_is_committed():
    node = leader()
    change(node, add_learners=learner(4), blocking=False)
    (outcome,) = outcomes(agree(node, 2))
    assert [4] == outcome.effective["learners"]


def test_a_learner_that_is_one_already_is_no_change():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    (outcome,) = outcomes(change(node, add_learners=learner(4)))
    assert (False, True) == (outcome.changed, outcome.observed)


def test_a_learner_goes_in_one_step():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    (membership,) = appended(change(node, remove_learners=frozenset({NodeId(4)})))
    assert ({}, False) == (membership.learners, membership.is_joint)


def test_removing_a_learner_that_is_none_is_refused():
    (refusal,) = outcomes(change(leader(), remove_learners=frozenset({NodeId(2)})))
    assert RefusalCode.NODE_NOT_FOUND is refusal.code


def test_who_waits_when_the_leader_ends_is_told_that_the_change_may_yet_come_about():
    node = leader()
    change(node, add_learners=learner(4))
    (refusal,) = outcomes(node.do(ShutdownRequested("the node was shut down")))
    assert RefusalCode.OUTCOME_UNKNOWN is refusal.code


def test_who_waits_too_long_is_told_that_it_goes_on_and_how_far_it_is():
    node = leader()
    change(node, add_learners=learner(4), wait_ms=100.0)
    agree(node, 2)
    (outcome,) = outcomes(node.tick(100))
    assert (True, False) == (outcome.changed, outcome.observed)
    assert "behind by {'4': 3}" in outcome.detail


# -- rule 3: two entries, two quorums ------------------------------------------------------------------------------------


def test_voters_change_by_a_joint_configuration_and_then_the_new_one():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    (joint,) = appended(change(node, 1, 2, 4))
    assert [{1, 2, 3}, {1, 2, 4}] == [set(config) for config in joint.configs]
    assert [] == appended(agree(node, 2))[1:]
    assert not node.state.membership.is_joint
    assert [1, 2, 4] == node.state.membership.voter_ids()


def test_a_joint_configuration_needs_both_quorums():
    node = leader(membership=members(1, 2, 3, learners=[4, 5]))
    change(node, 1, 4, 5)
    agree(node, 2, 3)
    assert node.state.membership.is_joint
    agree(node, 4)
    assert not node.state.membership.is_joint


def test_a_joint_configuration_needs_the_old_quorum_too():
    node = leader(membership=members(1, 2, 3, learners=[4, 5]))
    change(node, 1, 4, 5)
    agree(node, 4, 5)
    assert node.state.membership.is_joint
    agree(node, 2)
    assert not node.state.membership.is_joint


def test_the_change_is_answered_when_the_new_configuration_is_committed():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    change(node, 1, 2, 4)
    assert [] == outcomes(agree(node, 2))
    (outcome,) = outcomes(agree(node, 2))
    assert [1, 2, 4] == outcome.effective["voters"]


@pytest.mark.parametrize(("retain", "learners"), [(True, [3]), (False, [])])
def test_a_voter_that_goes_stays_as_a_learner_if_that_is_wanted(retain, learners):
    node = leader()
    change(node, 1, 2, retain=retain)
    agree(node, 2)
    assert learners == list(node.state.membership.learners)


def test_the_same_voters_are_no_change():
    (outcome,) = outcomes(change(leader(), 1, 2, 3))
    assert (False, True) == (outcome.changed, outcome.observed)


def test_a_later_leader_finishes_a_joint_configuration():
    node = Node(log=[], membership=members(1, 2, 3, learners=[4]))
    joint = members(1, 2, 3)
    both = type(joint)(joint.configs + members(1, 2, 4).configs, {}, members(1, 2, 3, 4).nodes)
    node.hear(2, append(leads(1), at(0, 1), membership_entry(1, 2, both)))
    node.flush()
    assert node.state.membership.is_joint
    _elect(node)
    agree(node, 2)
    assert [1, 2, 4] == node.state.membership.voter_ids()
    assert not node.state.membership.is_joint


def _elect(node: Node) -> None:
    for other in (2, 3, 4):
        node.do(PeerConnected(peer(other)))
    node.now += 1000
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=1000.0))
    node.flush()
    for other in (2, 3):
        node.hear(other, grant(node.state.term))


# -- rule 4: a leader that goes ------------------------------------------------------------------------------------------


def test_a_removed_leader_serves_until_that_is_committed_then_hands_over():
    node = leader()
    change(node, 2, 3)
    agree(node, 2, 3)
    assert (True, False) == (node.engine.is_leader, node.state.membership.is_joint)
    commands = agree(node, 2, 3)
    assert not node.engine.is_leader
    assert [TransferRequest] == [type(message) for message in sent(commands) if isinstance(message, TransferRequest)]


def test_a_removed_leader_holds_writes_while_the_best_voter_catches_up_then_hands_over():
    node = leader()
    change(node, 2, 3)
    agree(node, 2, 3)
    node.write(b"still served")
    node.accept(2, node.state.log.last.index - 1)
    node.accept(3, node.state.log.last.index - 1)
    node.flush()
    assert node.engine.is_leader
    assert [] == appended(node.write(b"held")), "an endless stream of writes would keep it in office"
    commands = node.accept(2, node.state.log.last.index)
    assert not node.engine.is_leader
    assert [2] == [command.target.node_id for command in commands if _asks_to_take_over(command)]
    (refusal,) = outcomes(node.tick(300))
    assert (RefusalCode.NOT_LEADER, 2) == (refusal.code, refusal.leader)


def _asks_to_take_over(command) -> bool:
    return isinstance(command, SendMessage) and isinstance(command.message, TransferRequest)


def test_a_removed_leader_that_is_to_wait_serves_on_until_then():
    node = leader(config={"removed_leader_step_down_ms": 150})
    change(node, 2, 3)
    agree(node, 2, 3)
    agree(node, 2, 3)
    assert node.engine.is_leader
    node.now += 150
    agree(node, 2, 3)
    assert not node.engine.is_leader


def test_a_removed_leader_that_is_never_to_step_down_leads_on():
    node = leader(config={"removed_leader_step_down_ms": -1})
    change(node, 2, 3)
    agree(node, 2, 3)
    node.now += 100
    agree(node, 2, 3)
    assert (True, "learner") == (node.engine.is_leader, "voter" if node.state.is_voter else "learner")


def step_down(node: Node, **expect):
    return node.do(StepDownRequested(node.ticket(), Expectation(**expect)))


def removed() -> Node:
    """Node 1 leads on though a committed configuration has removed it."""
    node = leader(config={"removed_leader_step_down_ms": -1})
    change(node, 2, 3)
    agree(node, 2, 3)
    agree(node, 2, 3)
    return node


def test_a_removed_leader_leaves_when_it_is_asked_to():
    node = removed()
    (outcome,) = outcomes(step_down(node))
    assert (True, True, False) == (outcome.changed, outcome.observed, node.engine.is_leader)


def test_a_removed_leader_does_not_leave_for_somebody_who_expects_other_members():
    node = removed()
    (refusal,) = outcomes(step_down(node, membership_log_id=at(9, 9)))
    assert (RefusalCode.PRECONDITION_FAILED, True) == (refusal.code, node.engine.is_leader)


def test_a_leader_that_is_a_voter_does_not_leave():
    node = leader()
    (refusal,) = outcomes(step_down(node))
    assert (RefusalCode.IS_LEADER, True) == (refusal.code, node.engine.is_leader)


def test_a_leader_whose_removal_is_not_committed_does_not_leave():
    node = leader(config={"removed_leader_step_down_ms": -1})
    change(node, 2, 3)
    (refusal,) = outcomes(step_down(node))
    assert (RefusalCode.CHANGE_IN_PROGRESS, True) == (refusal.code, node.engine.is_leader)
    agree(node, 2, 3)
    (refusal,) = outcomes(step_down(node))
    assert (RefusalCode.CHANGE_IN_PROGRESS, True) == (refusal.code, node.engine.is_leader)


def test_who_does_not_lead_has_nothing_to_leave():
    (outcome,) = outcomes(step_down(Node()))
    assert (False, True) == (outcome.changed, outcome.observed)


# -- changes relative to what there is -----------------------------------------------------------------------------------


def relative(node: Node, **asked):
    """Have a change done, by everybody whom this leader knows."""
    assert appended(change(node, **{name: _named(value) for name, value in asked.items()}))
    while node.state.membership.is_joint or node.state.effective.log_id.index > node.state.committed:
        node.flush()
        for target in list(node.state.leader.progress):
            if target in node.state.leader.progress:
                node.accept(target.node_id, node.state.log.last.index)


def _named(value):
    return frozenset(map(NodeId, value)) if isinstance(value, set) else value


def test_a_voter_is_added_to_those_there_are():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    relative(node, add_voters={4})
    assert ([1, 2, 3, 4], {}) == (node.state.membership.voter_ids(), node.state.membership.learners)


def test_a_voter_is_removed_from_those_there_are():
    node = leader()
    relative(node, remove_voters={3})
    assert ([1, 2], [1, 2]) == (node.state.membership.voter_ids(), sorted(node.state.membership.nodes))


def test_a_removed_voter_is_kept_as_a_learner_when_asked():
    node = leader()
    relative(node, remove_voters={3}, retain=True)
    assert ([1, 2], [3]) == (node.state.membership.voter_ids(), sorted(node.state.membership.learners))


def test_one_change_adds_and_removes():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    relative(node, add_voters={4}, remove_voters={2})
    assert [1, 3, 4] == node.state.membership.voter_ids()


@pytest.mark.parametrize("number", [3, 4])
def test_a_member_is_removed_whatever_it_is(number):
    node = leader(membership=members(1, 2, 3, learners=[4]))
    relative(node, remove_members={number})
    assert not node.state.membership.names(NodeId(number))


def test_removing_a_learner_from_the_voters_changes_nothing():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    (outcome,) = outcomes(change(node, remove_voters=_named({4})))
    assert (False, True) == (outcome.changed, outcome.observed)


@pytest.mark.parametrize("asked", [{"remove_voters": {9}}, {"remove_members": {9}}, {"remove_learners": {2}}])
def test_whoever_is_not_there_cannot_go(asked):
    (refusal,) = outcomes(change(leader(), **{name: _named(value) for name, value in asked.items()}))
    assert RefusalCode.NODE_NOT_FOUND is refusal.code


def test_the_last_voters_cannot_all_go():
    (refusal,) = outcomes(change(leader(), remove_voters=_named({1, 2, 3})))
    assert RefusalCode.EMPTY_MEMBERSHIP is refusal.code


def test_an_address_is_changed_in_one_step_and_the_transport_dials_it():
    node = leader()
    moved = NodeAddress("elsewhere:1", "http://elsewhere:2")
    commands = change(node, set_addresses={NodeId(2): moved})
    assert [moved] == [command.peers[peer(2)] for command in commands if isinstance(command, SetPeers)]
    assert not node.state.membership.is_joint
    assert moved == node.state.membership.nodes[NodeId(2)]


def test_a_stranger_has_no_address():
    (refusal,) = outcomes(change(leader(), set_addresses={NodeId(9): address(9)}))
    assert RefusalCode.NODE_NOT_FOUND is refusal.code


def test_a_refused_change_names_what_is_in_progress():
    node = leader()
    change(node, 1, 2)
    (refusal,) = outcomes(change(node, 1, 2, 3))
    assert {"committed": at(0, 1), "membership_log_id": node.state.effective.log_id} == refusal.extra


def test_a_change_may_depend_on_the_logs_last_entry():
    node = leader()
    before = node.state.log.last
    node.write(b"in between")
    (refusal,) = outcomes(change(node, 1, 2, expect=Expectation(last_log_id=before)))
    assert (RefusalCode.PRECONDITION_FAILED, {"expectation": "last_log_id"}) == (refusal.code, refusal.extra)
    assert appended(change(node, 1, 2, expect=Expectation(last_log_id=node.state.log.last)))


# -- configurations and the log ------------------------------------------------------------------------------------------


def test_a_configuration_is_in_force_when_it_is_appended_and_taken_back_when_it_is_cut():
    node = Node()
    node.hear(2, append(leads(1), at(0, 1), membership_entry(1, 2, members(1, 2, 3, 4))))
    assert [1, 2, 3, 4] == node.state.membership.voter_ids()
    commands = node.handle(MessageReceived(peer(3), append(leads(2, 3), at(0, 1), entry(2, 2, node=3))))
    assert [1, 2, 3] == node.state.membership.voter_ids()
    assert "membership_taken_back" in reports(commands)


def test_the_transport_is_told_of_new_peers_at_once():
    node = Node()
    commands = node.hear(2, append(leads(1), at(0, 1), membership_entry(1, 2, members(1, 2, 3, 4))))
    (peers,) = [command.peers for command in commands if isinstance(command, SetPeers)]
    assert [2, 3, 4] == [target.node_id for target in peers]
