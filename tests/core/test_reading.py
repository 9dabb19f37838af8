"""From which index on a read is linearizable."""

from __future__ import annotations

from raft_engine.core.commands import RespondReads, SendMessage
from raft_engine.core.events import (
    ElectRequested,
    MembershipChangeRequested,
    MessageReceived,
    PeerConnected,
    PeerLost,
    PeerReplaced,
    ReadsRequested,
    TransferLeaderRequested,
)
from raft_engine.types.hard_state import Recovery
from raft_engine.types.ids import Incarnation
from raft_engine.types.messages import AppendRequest, ReadIndexRequest, ReadIndexResponse
from raft_engine.types.outcomes import ReadOutcome, Refusal, RefusalCode
from tests.core.builder import Node, append, at, elected, grant, leader, leads, members, outcomes, peer, sent


def read(node: Node, *, lease: bool = False, wait_ms: float = 1000.0):
    return node.do(ReadsRequested([node.ticket()], lease, wait_ms))


def rounds(commands) -> list[int]:
    return sorted({message.round for message in sent(commands) if isinstance(message, AppendRequest)})


def follower() -> Node:
    """Node 1 follows node 2; everything up to 3 is applied here."""
    node = Node(log=[3, 3], hard=leads(3), applied=at(3, 3))
    node.hear(2, append(leads(3), at(3, 3), committed=3))
    return node


# -- rule 1: not before an own entry is committed ------------------------------------------------------------------------------


def test_a_new_leader_serves_no_read_before_an_entry_of_its_term_is_committed():
    node = elected()
    assert [] == read(node)
    node.flush()
    assert [] == outcomes(node.accept(2, 1))


def test_a_new_leader_serves_no_lease_read_either():
    node = elected()
    node.accept(2, 1)
    assert [] == read(node, lease=True)


def test_reads_that_waited_for_the_first_commit_are_confirmed_by_a_round_after_it():
    node = elected()
    node.flush()
    read(node)
    commands = node.accept(2, 2)
    assert (2, []) == (max(rounds(commands)), outcomes(commands))
    node.accept(2, 2)
    assert [ReadOutcome(2)] == outcomes(node.applied(at(1, 2, node=1), 2))


# -- rule 2: read index -------------------------------------------------------------------------------------------------------------


def test_a_read_begins_a_round():
    assert [2] == rounds(read(leader()))


def test_a_read_is_served_when_a_quorum_has_answered_its_round():
    node = leader()
    read(node)
    assert [RespondReads([2], ReadOutcome(2))] == node.accept(2, 2)


def test_reads_that_were_asked_for_together_are_answered_together():
    node = leader()
    node.do(ReadsRequested([2, 3, 4], False, 1000.0))
    assert [RespondReads([2, 3, 4], ReadOutcome(2))] == node.accept(2, 2)


def test_an_answer_to_an_earlier_round_serves_nothing():
    node = leader()
    read(node)
    assert [] == node.accept(2, 2, round_=1)


def test_two_of_five_are_not_a_quorum():
    node = leader(5)
    read(node)
    assert [] == outcomes(node.accept(2, 2))
    assert [ReadOutcome(2)] == outcomes(node.accept(3, 2))


def test_reads_that_come_during_a_round_wait_for_the_next():
    node = leader()
    read(node)
    assert [] == read(node)
    commands = node.accept(2, 2)
    assert ([ReadOutcome(2)], [3]) == (outcomes(commands), rounds(commands))


def test_a_learners_answer_does_not_confirm_the_leader():
    node = leader(membership=members(1, 2, 3, learners=[4]))
    read(node)
    assert [] == outcomes(node.accept(4, 2))
    assert [ReadOutcome(2)] == outcomes(node.accept(2, 2))


def test_a_fenced_nodes_answer_does_not_confirm_the_leader():
    node = leader()
    node.do(PeerReplaced(peer(3), Incarnation("f" * 32)))
    read(node)
    assert [] == outcomes(node.accept(3, 2))


def test_a_single_voter_serves_at_once():
    node = leader(voters=1)
    node.tick()
    node.flush()
    node.applied(node.state.log.last, node.state.log.last.index - node.state.applied.index)
    assert [2] == [outcome.index for outcome in outcomes(read(node))]


def test_a_joint_configuration_confirms_with_both_quorums():
    node = leader(membership=members(1, 2, 3, learners=[4, 5]))
    node.do(MembershipChangeRequested(node.ticket(), 1000.0, voters=frozenset({1, 4, 5})))
    assert node.state.membership.is_joint
    read(node)
    assert [] == reads(node.accept(2, 2) + node.accept(3, 2))
    assert [ReadOutcome(2)] == reads(node.accept(4, 2))


def reads(commands) -> list[ReadOutcome]:
    return [outcome for outcome in outcomes(commands) if isinstance(outcome, ReadOutcome)]


# -- rule 3: lease -----------------------------------------------------------------------------------------------------------------------


def test_a_lease_read_is_served_at_once():
    assert [RespondReads([2], ReadOutcome(2))] == read(leader(), lease=True)


def test_the_lease_ends_earlier_by_the_drift_of_clocks():
    node = leader()
    node.now += 107
    assert [ReadOutcome(2)] == outcomes(read(node, lease=True))
    node.now += 1
    assert [] == outcomes(read(node, lease=True))


def test_a_read_beyond_the_lease_is_confirmed_by_a_round():
    node = leader()
    node.now += 140
    assert [2] == rounds(read(node, lease=True))
    assert [ReadOutcome(2)] == outcomes(node.accept(2, 2))


def test_the_lease_begins_when_the_answered_round_was_sent_not_when_it_was_answered():
    node = leader()
    node.tick(50)
    node.now += 100
    last = node.state.log.last.index
    node.accept(2, last)
    node.accept(3, last)
    node.now += 40
    assert [] == outcomes(read(node, lease=True))


def test_no_lease_read_in_the_term_of_a_transfer_that_failed():
    """Simulated seed 2038: the target had been elected without regard to leases, committed, and died."""
    node = leader()
    node.do(TransferLeaderRequested(node.ticket(), 2, 1000.0))
    node.do(PeerLost(peer(2), "reset"))
    assert node.state.leader.transfer is None
    assert [] == outcomes(read(node, lease=True))


def test_no_lease_read_while_leadership_is_handed_over():
    node = leader()
    node.do(TransferLeaderRequested(node.ticket(), 2, 1000.0))
    assert [] == outcomes(read(node, lease=True))


# -- rule 4: followers -------------------------------------------------------------------------------------------------------------------


def test_a_follower_asks_its_leader():
    assert [SendMessage(peer(2), ReadIndexRequest(1))] == read(follower())


def test_a_follower_serves_what_it_has_applied():
    node = follower()
    read(node)
    assert [ReadOutcome(3)] == outcomes(node.hear(2, ReadIndexResponse(1, 3, 2)))


def test_a_follower_asks_once_for_reads_that_were_asked_for_together():
    node = follower()
    assert [ReadIndexRequest(1)] == questions(node.do(ReadsRequested([2, 3], False, 1000.0)))
    assert [RespondReads([2, 3], ReadOutcome(3))] == node.hear(2, ReadIndexResponse(1, 3, 2))


def test_a_follower_waits_until_it_has_applied_the_index():
    node = follower()
    read(node)
    assert [] == node.hear(2, ReadIndexResponse(1, 4, 2))


def test_an_answer_comes_once():
    node = follower()
    read(node)
    node.hear(2, ReadIndexResponse(1, 3, 2))
    assert [] == node.hear(2, ReadIndexResponse(1, 3, 2))


def test_a_leader_answers_a_followers_question_when_a_round_has_confirmed_it():
    node = leader()
    assert [] == [message for message in sent(node.hear(2, ReadIndexRequest(9))) if isinstance(message, ReadIndexResponse)]
    assert [ReadIndexResponse(9, 2, 1)] == sent(node.accept(3, 2), 2)


def test_who_does_not_lead_says_whom_to_ask():
    assert [SendMessage(peer(3), ReadIndexResponse(9, 0, 2))] == follower().hear(3, ReadIndexRequest(9))


def test_a_follower_whose_leader_does_not_lead_any_more_refuses():
    node = follower()
    read(node)
    (refusal,) = outcomes(node.hear(2, ReadIndexResponse(1, 0, 3)))
    assert (RefusalCode.NOT_LEADER, 3) == (refusal.code, refusal.leader)


def test_a_follower_whose_leader_has_just_lost_its_office_waits_for_the_next_ones_name():
    node = follower()
    read(node)
    assert [] == node.hear(2, ReadIndexResponse(1, 0, 0))
    (refusal,) = [item for item in outcomes(node.hear(3, append(leads(4, 3), at(3, 3)))) if isinstance(item, Refusal)]
    assert (RefusalCode.NOT_LEADER, 3) == (refusal.code, refusal.leader)


def test_a_follower_asks_again_in_a_moment_and_not_at_once():
    node = follower()
    read(node)
    assert [] == questions(node.hear(2, ReadIndexResponse(1, 0, 0)))
    node.tick(100)
    node.hear(2, append(leads(3), at(3, 3), committed=3))
    assert [ReadIndexRequest(1)] == questions(node.tick(50))


def test_a_lost_question_is_asked_again():
    node = follower()
    read(node)
    node.tick(100)
    node.hear(2, append(leads(3), at(3, 3), committed=3))
    assert [ReadIndexRequest(1)] == [m for m in sent(node.tick(50)) if isinstance(m, ReadIndexRequest)]


def questions(commands) -> list[ReadIndexRequest]:
    return [message for message in sent(commands) if isinstance(message, ReadIndexRequest)]


def test_reads_that_come_while_a_question_is_under_way_share_the_next():
    node = follower()
    assert [ReadIndexRequest(1)] == questions(read(node))
    assert [] == questions(read(node) + read(node))
    answered = node.hear(2, ReadIndexResponse(1, 3, 2))
    assert ([ReadOutcome(3)], [ReadIndexRequest(3)]) == (outcomes(answered), questions(answered))
    assert [ReadOutcome(3), ReadOutcome(3)] == outcomes(node.hear(2, ReadIndexResponse(3, 3, 2)))


def test_an_answer_to_another_question_than_the_one_under_way_serves_nobody():
    node = follower()
    read(node)
    assert [] == node.hear(2, ReadIndexResponse(7, 3, 2))
    assert [ReadOutcome(3)] == outcomes(node.hear(2, ReadIndexResponse(1, 3, 2)))


def test_another_leader_is_asked_at_once():
    node = follower()
    read(node)
    node.hear(3, append(leads(4, 3), at(3, 3), committed=3))
    assert [SendMessage(peer(3), ReadIndexRequest(2))] == [
        command
        for command in read(node)
        if isinstance(command, SendMessage) and isinstance(command.message, ReadIndexRequest)
    ]


def test_questions_of_two_lives_have_other_numbers():
    numbers = set()
    for chance in (0.1, 0.2):
        node = Node(log=[3, 3], hard=leads(3), applied=at(3, 3), chance=lambda value=chance: value)
        node.hear(2, append(leads(3), at(3, 3), committed=3))
        (question,) = [message for message in sent(read(node)) if isinstance(message, ReadIndexRequest)]
        numbers.add(question.request_id)
    assert len(numbers) == 2


def test_a_follower_without_a_leader_refuses():
    (refusal,) = outcomes(read(Node()))
    assert RefusalCode.NO_LEADER is refusal.code


def test_a_follower_has_no_lease():
    (refusal,) = outcomes(read(follower(), lease=True))
    assert (RefusalCode.NOT_LEADER, 2) == (refusal.code, refusal.leader)


def elected_with_a_read() -> Node:
    """A follower that asked its leader for a read, and leads term 4 before that has answered."""
    node = follower()
    read(node, wait_ms=5000.0)
    for other in (2, 3):
        node.do(PeerConnected(peer(other)))
    node.now += 1000
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=1000.0))
    node.flush()
    node.hear(3, grant(4))
    assert node.engine.is_leader
    return node


def test_reads_of_a_follower_that_is_elected_itself_are_confirmed_by_it():
    """They waited for the answer of the leader before, and would have until their time was over."""
    node = elected_with_a_read()
    node.flush()
    assert [] == reads(node.accept(3, 4))
    node.applied(node.state.log.last, 1)
    assert [ReadOutcome(4)] == reads(node.accept(3, 4))


def test_a_late_answer_of_the_former_leader_serves_nobody_at_the_next():
    assert [] == reads(elected_with_a_read().hear(2, ReadIndexResponse(1, 3, 2)))


# -- rule 5, and the end of a wait -----------------------------------------------------------------------------------------------------------


def test_a_recovering_node_serves_no_read():
    node = Node(hard=leads(3), recovery=Recovery(at(3, 9), "wiped"))
    node.hear(2, append(leads(3), at(0, 1)))
    (refusal,) = outcomes(read(node))
    assert RefusalCode.RECOVERING is refusal.code


def test_a_read_that_nobody_confirms_ends_with_its_time():
    node = leader()
    read(node, wait_ms=200)
    (refusal,) = outcomes(node.tick(200))
    assert (RefusalCode.TIMED_OUT, True) == (refusal.code, "no quorum has confirmed" in refusal.detail)


def test_a_read_that_nobody_confirms_says_who_has_answered_its_round():
    node = leader(5)
    read(node, wait_ms=200)
    node.accept(4, 2)
    node.accept(5, 2, round_=1)
    (refusal,) = outcomes(node.tick(200))
    assert {"cluster": [1, 2, 3, 4, 5], "got": [1, 4]} == refusal.extra


def test_a_read_that_waits_for_a_round_to_begin_was_confirmed_by_nobody_else():
    node = leader()
    read(node)
    read(node, wait_ms=20)
    (refusal,) = outcomes(node.tick(20))
    assert {"cluster": [1, 2, 3], "got": [1]} == refusal.extra


def test_a_fenced_node_is_not_among_those_who_confirmed():
    node = leader()
    node.do(PeerReplaced(peer(3), Incarnation("f" * 32)))
    read(node, wait_ms=20)
    node.accept(3, 2)
    (refusal,) = outcomes(node.tick(20))
    assert [1] == refusal.extra["got"]


def test_a_read_that_waits_for_nothing_ends_at_once():
    (refusal,) = outcomes(read(leader(), wait_ms=0))
    assert (RefusalCode.TIMED_OUT, [1]) == (refusal.code, refusal.extra["got"])


def test_a_lease_read_that_waits_for_nothing_is_served():
    assert [ReadOutcome(2)] == outcomes(read(leader(), lease=True, wait_ms=0))


def test_a_read_of_a_single_voter_that_waits_for_nothing_is_served():
    node = leader(voters=1)
    node.tick()
    node.flush()
    node.applied(node.state.log.last, node.state.log.last.index - node.state.applied.index)
    assert [ReadOutcome(2)] == outcomes(read(node, wait_ms=0))


def test_a_follower_that_shall_not_wait_for_its_leader_refuses_at_once():
    (refusal,) = outcomes(read(follower(), wait_ms=0))
    assert (RefusalCode.TIMED_OUT, 2, {}) == (refusal.code, refusal.leader, refusal.extra)


def test_a_deposed_leader_refuses_the_reads_that_wait():
    node = leader()
    read(node)
    (refusal,) = outcomes(node.hear(2, append(leads(2), at(1, 2, node=1))))[:1]
    assert RefusalCode.NO_LEADER is refusal.code


def test_a_deposed_leader_tells_the_followers_that_wait():
    node = leader()
    node.hear(3, ReadIndexRequest(9))
    commands = node.handle(MessageReceived(peer(2), append(leads(2), at(1, 2, node=1))))
    assert ReadIndexResponse(9, 0, 0) in sent(commands, 3)
