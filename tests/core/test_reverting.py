"""The permission for one node to come back with less than it acknowledged."""

from __future__ import annotations

import pytest

from raft_engine.core.commands import Report
from raft_engine.core.events import AllowNextRevertRequested, PeerConnected, PeerLost, PeerReplaced, PeerRolledBack
from raft_engine.core.progress import Mode
from raft_engine.types.ids import Incarnation
from raft_engine.types.outcomes import Expectation, RefusalCode, TriggerOutcome
from tests.core.builder import Node, append, at, grant, leader, leads, members, outcomes, peer, ranges


def allow(node: Node, to: int = 3, *, yes: bool = True, ttl_ms: float = 0.0, **expect):
    return node.do(AllowNextRevertRequested(node.ticket(), to, yes, ttl_ms, Expectation(**expect)))


def mine(index: int):
    return at(1, index, node=1)


# -- rule 1: who gives it, and how it ends ----------------------------------------------------------------------------------------


def test_the_leader_gives_it():
    effective = {"to": 3, "allow": True, "term": 1, "ttl_ms": None}
    assert [TriggerOutcome(True, True, "node 3 may revert once", effective)] == outcomes(allow(leader()))


def test_a_follower_refuses_and_names_the_leader():
    node = Node()
    node.hear(2, append(leads(3), at(0, 1)))
    (refusal,) = outcomes(allow(node))
    assert (RefusalCode.NOT_LEADER, 2) == (refusal.code, refusal.leader)


@pytest.mark.parametrize("membership", [members(2, 3, learners=[1]), members(1, 2, 3)])
def test_who_knows_no_leader_refuses(membership):
    (refusal,) = outcomes(allow(Node(membership=membership)))
    assert RefusalCode.NO_LEADER is refusal.code


def test_a_candidate_refuses():
    node = Node()
    node.tick(150)
    (refusal,) = outcomes(allow(node))
    assert RefusalCode.NO_LEADER is refusal.code


def test_an_unknown_node_is_refused():
    (refusal,) = outcomes(allow(leader(), 9))
    assert RefusalCode.NODE_NOT_FOUND is refusal.code


def test_the_leader_itself_has_nothing_to_revert_to():
    (refusal,) = outcomes(allow(leader(), 1))
    assert RefusalCode.IS_LEADER is refusal.code


def test_a_learner_may_be_allowed():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    assert [True] == [outcome.changed for outcome in outcomes(allow(node, 4))]


def test_a_wrong_expectation_gives_nothing():
    node = leader()
    (refusal,) = outcomes(allow(node, term=9))
    assert (RefusalCode.PRECONDITION_FAILED, False) == (refusal.code, node.target(3).is_armed(node.now))


def test_giving_it_twice_is_no_change_and_one_permission():
    node = leader()
    allow(node)
    assert [False] == [outcome.changed for outcome in outcomes(allow(node))]
    node.lacks(3, prev=2, check=True)
    assert not node.target(3).is_armed(node.now)


def test_taking_it_back():
    node = leader()
    allow(node)
    (outcome,) = outcomes(allow(node, yes=False))
    assert (True, False) == (outcome.changed, node.target(3).is_armed(node.now))
    node.lacks(3, prev=2, check=True)
    assert Mode.REVERTED is node.target(3).mode


def test_taking_back_what_was_not_given_is_no_change():
    (outcome,) = outcomes(allow(leader(), yes=False))
    assert (False, True) == (outcome.changed, outcome.observed)


def test_it_ends_with_its_time():
    node = leader()
    allow(node, ttl_ms=500)
    node.now += 500
    node.lacks(3, prev=2, check=True)
    assert Mode.REVERTED is node.target(3).mode


def test_within_its_time_it_holds():
    node = leader()
    allow(node, ttl_ms=500)
    node.now += 499
    node.lacks(3, prev=2, check=True)
    assert Mode.PROBE is node.target(3).mode


def test_it_ends_with_leadership():
    node = leader()
    allow(node)
    node.hear(2, append(leads(2), mine(2)))
    node.flush()
    node.tick(1000)
    node.hear(2, grant(3, pre_vote=True))
    node.flush()
    node.hear(2, grant(3))
    assert node.engine.is_leader
    assert not node.target(3).is_armed(node.now)


def test_it_covers_one_loss_and_a_second_wipe_is_fenced():
    node = leader()
    allow(node)
    node.lacks(3, prev=2, check=True)
    assert Mode.PROBE is node.target(3).mode
    node.accept(3, 2)
    node.lacks(3, prev=2, check=True)
    assert (Mode.REVERTED, 0) == (node.target(3).mode, node.target(3).matching)


# -- rule 2: what it voids -----------------------------------------------------------------------------------------------------------


def test_nothing_that_the_node_acknowledged_counts_any_more():
    node = leader()
    allow(node)
    assert 0 == node.target(3).matching


def test_the_commit_index_stays():
    node = leader()
    allow(node)
    node.lacks(3, prev=2, check=True)
    assert 2 == node.state.committed


def test_a_late_answer_from_before_does_not_count():
    node = leader()
    node.write(b"a")
    node.flush()
    session = node.target(3).session
    allow(node)
    node.accept(3, 3, session=session)
    assert (2, 0) == (node.state.committed, node.target(3).matching)


def test_a_late_answer_after_the_loss_was_seen_does_not_count_either():
    node = leader()
    node.write(b"a")
    node.flush()
    allow(node)
    session = node.target(3).session
    node.lacks(3, prev=2, check=True)
    node.accept(3, 3, session=session)
    assert (2, 0) == (node.state.committed, node.target(3).matching)


def test_what_the_node_acknowledges_afresh_counts():
    node = leader()
    node.write(b"a")
    node.flush()
    allow(node)
    node.lacks(3, prev=2, check=True)
    node.accept(3, 3)
    assert 3 == node.state.committed


def test_a_node_that_lost_nothing_goes_on_as_before():
    node = leader()
    allow(node)
    node.accept(3, 2)
    assert (Mode.REPLICATE, 2) == (node.target(3).mode, node.target(3).matching)


def test_a_second_conflict_of_the_same_loss_does_not_fence():
    """Two answers of the wiped node are on their way; the first uses the permission."""
    node = leader()
    allow(node)
    session = node.target(3).session
    node.lacks(3, prev=2, check=True)
    node.lacks(3, prev=2, check=True, session=session)
    assert Mode.PROBE is node.target(3).mode


def test_a_wiped_node_is_sent_everything_from_the_beginning():
    node = leader()
    allow(node)
    assert [(3, 0, 2)] == ranges(node.lacks(3, prev=2, check=True))


# -- rule 3: before or after -----------------------------------------------------------------------------------------------------------------


def test_a_fenced_node_is_let_in_at_once():
    node = leader()
    node.lacks(3, prev=2, check=True)
    commands = allow(node)
    assert ([(3, 0, 2)], Mode.PROBE) == (ranges(commands), node.target(3).mode)
    assert True is outcomes(commands)[0].effective["used"]


def test_letting_a_fenced_node_in_uses_the_permission():
    node = leader()
    node.lacks(3, prev=2, check=True)
    allow(node)
    assert not node.target(3).is_armed(node.now)


def test_a_reconnection_between_permission_and_loss_does_not_use_it():
    node = leader()
    allow(node)
    node.do(PeerLost(peer(3), "stopped"))
    node.do(PeerConnected(peer(3)))
    node.lacks(3, prev=2, check=True)
    assert Mode.PROBE is node.target(3).mode


def test_a_node_that_came_back_blank_is_let_in_as_a_new_life():
    node = leader()
    life = Incarnation("f" * 32)
    node.do(PeerReplaced(peer(3), life))
    allow(node)
    assert {3: life} == node.state.membership.learners
    assert Mode.REVERTED is node.target(3).mode


def test_a_blank_life_for_whom_nothing_could_be_changed_at_first_is_let_in_with_the_next_answer():
    node = leader()
    allow(node)
    node.tick(350)  # no quorum has answered for longer than an election timeout
    life = Incarnation("f" * 32)
    node.do(PeerReplaced(peer(3), life))
    assert {} == node.state.membership.learners
    node.accept(2, node.state.log.last.index)
    assert {3: life} == node.state.membership.learners


# -- a node that runs on an older copy of its disk -------------------------------------------------------------------------------------


def rolled_back(node: Node) -> Node:
    node.do(PeerRolledBack(peer(3), "runs on an older copy"))
    return node


def test_a_node_on_an_older_copy_is_fenced_whatever_it_holds():
    node = rolled_back(leader())
    (alarm,) = node.engine.metrics(node.now).alarms
    assert (Mode.REVERTED, 0, "node_reverted") == (node.target(3).mode, node.target(3).matching, alarm.code)
    assert ("older copy" in alarm.detail, "move its data directory away" in alarm.hint) == (True, True)


def test_it_is_reported_once():
    node = leader()
    event = PeerRolledBack(peer(3), "runs on an older copy")
    assert [["node_reverted"], []] == [[c.event for c in node.handle(event) if isinstance(c, Report)] for _ in range(2)]


def test_what_it_had_acknowledged_does_not_count_for_a_commit():
    node = leader()
    node.write(b"a")
    node.flush()
    node.do(PeerRolledBack(peer(3), "runs on an older copy"))
    node.accept(3, 3)
    assert 2 == node.state.committed
    node.accept(2, 3)
    assert 3 == node.state.committed


def test_permission_does_not_let_the_copy_in_but_the_blank_life_after_it():
    node = rolled_back(leader())
    (outcome,) = outcomes(allow(node))
    assert (True, Mode.REVERTED) == (outcome.changed, node.target(3).mode)
    assert "older copy of its disk; clear it first" in outcome.detail
    blank = Incarnation("f" * 32)
    node.do(PeerReplaced(peer(3), blank))
    assert {3: blank} == node.state.membership.learners


def test_a_node_that_comes_back_on_its_own_disk_is_fenced_until_it_is_allowed():
    node = rolled_back(leader())
    node.do(PeerConnected(peer(3)))
    assert Mode.REVERTED is node.target(3).mode
    allow(node)
    assert Mode.PROBE is node.target(3).mode


def test_a_follower_has_nobody_to_fence():
    node = Node()
    assert [] == node.handle(PeerRolledBack(peer(3), "runs on an older copy"))
