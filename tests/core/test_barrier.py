"""A no-op that is known to be held without certain nodes."""

from __future__ import annotations

from raft_engine.core.commands import AppendEntries, Respond
from raft_engine.core.events import BarrierRequested, PeerReplaced, TransferLeaderRequested
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.ids import Incarnation
from raft_engine.types.outcomes import BarrierOutcome, Expectation, RefusalCode
from tests.core.builder import Node, append, at, leader, leads, members, outcomes, peer


def barrier(node: Node, *exclude: int, wait_ms: float = 1000.0, marker: bytes = b"", **expect):
    return node.do(BarrierRequested(node.ticket(), frozenset(exclude), wait_ms, marker, Expectation(**expect)))


def mine(index: int):
    return at(1, index, node=1)


def test_a_barrier_is_a_blank_entry_of_the_leaders_term():
    node = leader()
    (command,) = [item for item in barrier(node, 3) if isinstance(item, AppendEntries)]
    assert (make_entry(1, 1, 3, EntryKind.BLANK, b""),) == command.entries


def test_a_marker_travels_in_the_entry():
    (command,) = [item for item in barrier(leader(), 3, marker=b"snap") if isinstance(item, AppendEntries)]
    assert b"snap" == command.entries[0].data


def test_two_of_three_must_hold_it_without_the_excluded_one():
    node = leader()
    barrier(node, 3)
    assert [] == outcomes(node.flush())
    assert Respond(2, BarrierOutcome(mine(3), (1, 2))) in node.accept(2, 3)


def test_the_excluded_nodes_copy_does_not_count():
    node = leader()
    barrier(node, 3)
    node.flush()
    assert [] == outcomes(node.accept(3, 3))


def test_the_leaders_own_copy_counts_when_it_is_durable():
    node = leader()
    barrier(node, 3)
    assert [] == outcomes(node.accept(2, 3))
    assert [BarrierOutcome(mine(3), (1, 2))] == outcomes(node.flush())


def test_with_four_voters_two_others_are_enough():
    node = leader(4)
    barrier(node, 4)
    node.flush()
    assert [BarrierOutcome(mine(3), (1, 2))] == outcomes(node.accept(2, 3))


def test_with_two_voters_the_leader_alone_holds_it():
    node = leader(2)
    barrier(node, 2)
    assert [BarrierOutcome(mine(3), (1,))] == outcomes(node.flush())


def test_with_five_voters_three_must_hold_it():
    node = leader(5)
    barrier(node, 5)
    node.flush()
    assert [] == outcomes(node.accept(2, 3))
    assert [BarrierOutcome(mine(3), (1, 2, 3))] == outcomes(node.accept(3, 3))


def test_with_nobody_excluded_a_quorum_must_hold_it():
    node = leader()
    barrier(node)
    node.flush()
    assert [BarrierOutcome(mine(3), (1, 3))] == outcomes(node.accept(3, 3))


def test_a_learners_copy_does_not_count():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    barrier(node, 3)
    node.flush()
    assert [] == outcomes(node.accept(4, 3))


def test_a_fenced_nodes_copy_does_not_count():
    node = leader()
    node.do(PeerReplaced(peer(2), Incarnation("f" * 32)))
    barrier(node, 3)
    node.flush()
    assert [] == outcomes(node.accept(2, 3))


def test_what_can_never_be_held_is_refused_and_nothing_is_appended():
    node = leader()
    (refusal,) = outcomes(barrier(node, 2, 3))
    assert (RefusalCode.QUORUM_IMPOSSIBLE, mine(2)) == (refusal.code, node.state.log.last)


def test_a_single_voter_cannot_be_excluded():
    node = leader(voters=1)
    node.tick()
    node.flush()
    (refusal,) = outcomes(barrier(node, 1))
    assert RefusalCode.QUORUM_IMPOSSIBLE is refusal.code


def test_an_unknown_node_is_refused():
    (refusal,) = outcomes(barrier(leader(), 9))
    assert RefusalCode.NODE_NOT_FOUND is refusal.code


def test_only_a_leader_has_barriers():
    (refusal,) = outcomes(barrier(Node(), 3))
    assert RefusalCode.NO_LEADER is refusal.code


def test_no_barrier_while_leadership_is_handed_over():
    node = leader()
    node.do(TransferLeaderRequested(node.ticket(), 2, 1000.0))
    (refusal,) = outcomes(barrier(node, 3))
    assert RefusalCode.TRANSFER_IN_PROGRESS is refusal.code


def test_a_barrier_under_a_wrong_expectation_is_not_appended():
    node = leader()
    (refusal,) = outcomes(barrier(node, 3, term=4))
    assert (RefusalCode.PRECONDITION_FAILED, mine(2)) == (refusal.code, node.state.log.last)


def test_a_wait_that_ends_names_who_holds_it():
    node = leader()
    barrier(node, 3, wait_ms=50)
    node.flush()
    (refusal,) = outcomes(node.tick(50))
    assert (RefusalCode.TIMED_OUT, {"held_by": [1]}) == (refusal.code, refusal.extra)


def test_without_waiting_it_times_out_at_once_and_stays_in_the_log():
    node = leader()
    (refusal,) = outcomes(barrier(node, 3, wait_ms=0))
    assert (RefusalCode.TIMED_OUT, mine(3)) == (refusal.code, node.state.log.last)


def test_a_deposed_leader_does_not_confirm_it():
    node = leader()
    barrier(node, 3)
    refusals = outcomes(node.hear(2, append(leads(2), mine(2))))
    assert RefusalCode.LEADERSHIP_LOST in [refusal.code for refusal in refusals]
