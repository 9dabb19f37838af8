"""What a node's vote allows."""

from __future__ import annotations

import pytest

from raft_engine.core.commands import SaveHardState, SendMessage
from raft_engine.core.events import ElectRequested
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import IoId
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.messages import VoteRequest, VoteResponse
from raft_engine.types.vote import NO_VOTE
from tests.core.builder import Node, append, ask, at, grant, leader, leads, members, peer, refuse, sent, vote


def answer(node: Node, sender: int, request) -> VoteResponse:
    """Return what `sender` hears when everything is durable."""
    commands = node.hear(sender, request) + node.flush()
    (response,) = [message for message in sent(commands, sender) if isinstance(message, VoteResponse)]
    return response


# -- rule 1: a vote never falls, and is durable before anybody hears of it ------------------------------------------------


def test_a_grant_is_saved_and_not_yet_sent():
    node = Node()
    assert [SaveHardState(IoId(1), HardState(vote(1, 2)))] == node.hear(2, ask(1, at(0, 1)))


def test_a_grant_is_sent_when_it_is_durable():
    node = Node()
    node.hear(2, ask(1, at(0, 1)))
    granted = VoteResponse(1, False, True, vote(1, 2), at(0, 1), "", 2)
    assert [SendMessage(peer(2), granted)] == node.flush()


def test_a_vote_never_falls():
    node = Node(hard=vote(5, 3))
    assert "term" == answer(node, 2, ask(4, at(0, 1))).reason
    assert vote(5, 3) == node.state.vote


def test_a_higher_term_in_a_refusal_is_adopted_without_a_vote():
    node = Node()
    assert [SaveHardState(IoId(1), HardState(vote(9, 0)))] == node.hear(3, refuse(2, "term", its_term=9))


# -- rule 2: one grant a term -----------------------------------------------------------------------------------------------


def test_one_candidate_is_granted_in_a_term():
    node = Node()
    assert answer(node, 2, ask(1, at(0, 1))).granted
    assert "vote" == answer(node, 3, ask(1, at(0, 1))).reason


def test_the_same_candidate_is_granted_again_without_another_write():
    node = Node()
    answer(node, 2, ask(1, at(0, 1)))
    again = VoteResponse(1, False, True, vote(1, 2), at(0, 1), "", 2)
    assert [SendMessage(peer(2), again)] == node.hear(2, ask(1, at(0, 1)))


def test_a_vote_survives_a_restart_so_nobody_else_is_granted():
    assert "vote" == answer(Node(hard=vote(3, 3)), 2, ask(3, at(9, 9))).reason


def test_a_leader_of_the_term_overrides_the_grant():
    node = Node(hard=vote(3, 3))
    node.hear(2, append(leads(3), BEFORE_LOG))
    assert leads(3) == node.state.vote


def test_nobody_is_granted_in_a_term_that_has_a_leader():
    node = Node()
    node.hear(2, append(leads(3), BEFORE_LOG))
    assert "vote" == answer(node, 3, ask(3, at(9, 9))).reason


# -- rule 3: the lease ------------------------------------------------------------------------------------------------------------


def heard_from_leader() -> Node:
    node = Node()
    node.hear(2, append(leads(3), BEFORE_LOG))
    node.flush()
    return node


def test_whoever_heard_from_a_leader_grants_nobody_while_its_lease_lasts():
    node = heard_from_leader()
    node.now += 119
    assert "lease" == answer(node, 3, ask(4, at(9, 9))).reason
    assert leads(3) == node.state.vote


def test_after_the_lease_somebody_else_is_granted():
    node = heard_from_leader()
    node.now += 120
    assert answer(node, 3, ask(4, at(9, 9))).granted


def test_a_leader_does_not_grant_its_predecessor_either():
    node = Node()
    node.hear(2, append(leads(3), at(0, 1)))
    node.flush()
    node.now += 1000
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=1000.0))
    node.flush()
    node.hear(3, grant(4))
    assert node.engine.is_leader
    assert "lease" == answer(node, 2, ask(9, at(9, 9), pre_vote=True)).reason


def test_a_node_that_was_just_started_keeps_the_promise_that_it_may_have_given():
    """Its leader may be serving reads by what it answered before the crash."""
    node = Node(hard=vote(3, 3), just_started=True)
    assert "lease" == answer(node, 2, ask(9, at(9, 9))).reason
    node.now += 119
    assert "lease" == answer(node, 2, ask(9, at(9, 9))).reason
    node.now += 1
    assert answer(node, 2, ask(9, at(9, 9))).granted


def test_a_node_that_never_heard_of_a_term_has_promised_nothing():
    assert answer(Node(just_started=True), 2, ask(1, at(9, 9))).granted


def test_a_candidate_keeps_the_promise_to_the_leader_it_stands_against():
    """Seed 6043: it granted, or asked for itself a second time, while that leader served reads by its answer."""
    node = Node()
    node.hear(2, append(leads(3), at(0, 1)))
    node.flush()
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=1000.0))
    assert "lease" == answer(node, 3, ask(9, at(9, 9))).reason
    node.now += 20
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=1000.0))
    assert [] == [message for message in sent(node.flush()) if isinstance(message, VoteRequest)]


def test_a_leader_grants_nobody():
    assert "lease" == answer(leader(), 3, ask(9, at(9, 9))).reason


def test_an_election_that_the_leader_asked_for_is_granted_within_its_lease():
    assert answer(heard_from_leader(), 3, ask(4, at(9, 9), transfer=True)).granted


def test_a_leader_that_campaigns_itself_has_lost_its_office():
    assert answer(heard_from_leader(), 2, ask(4, at(9, 9))).granted


# -- rule 4: logs -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "granted"),
    [
        (at(2, 5), True),  # the same
        (at(2, 6), True),  # longer
        (at(3, 2), True),  # a later term, though shorter
        (at(2, 4), False),  # shorter
        (at(1, 99), False),  # an earlier term, however long
        (BEFORE_LOG, False),
    ],
)
def test_a_candidate_whose_log_ends_before_ones_own_is_refused(last, granted: bool):
    response = answer(Node(log=[1, 1, 2, 2]), 2, ask(7, last))
    assert (granted, "" if granted else "log") == (response.granted, response.reason)


@pytest.mark.parametrize(("last", "reason"), [(at(0, 1), "log"), (at(2, 8), "log"), (at(2, 9), ""), (at(3, 4), "")])
def test_a_recovering_node_grants_only_whoever_holds_the_barrier_it_was_wiped_behind(last, reason: str):
    """Simulated seed 459: a node that only a former configuration named was elected by what the wiped node had forgotten."""
    node = Node(log=[], hard=vote(2, 3), recovery=Recovery(at(2, 9), "wiped"))
    assert reason == answer(node, 2, ask(7, last)).reason


def test_a_refused_request_changes_nothing_whatever_its_term():
    node = Node(log=[2, 2])
    answer(node, 2, ask(7, at(1, 1)))
    assert (vote(2, 0), 0) == (node.state.vote, node.state.last_io)


# -- rule 5: blank ------------------------------------------------------------------------------------------------------------------


def blank() -> Node:
    from raft_engine.types.membership import EMPTY_MEMBERSHIP

    return Node(membership=EMPTY_MEMBERSHIP)


@pytest.mark.parametrize("pre_vote", [True, False])
def test_a_blank_node_grants_nobody(pre_vote: bool):
    assert "mute" == answer(blank(), 2, ask(9, at(9, 9), pre_vote=pre_vote)).reason


def test_a_node_that_does_not_know_yet_that_it_is_a_voter_grants():
    """A promoted learner whose log lacks its promotion must not make the new set unavailable."""
    node = Node(membership=members(2, 3, learners=[1]))
    node.hear(2, ask(1, at(0, 1)))
    (answered,) = [message for message in sent(node.flush()) if isinstance(message, VoteResponse)]
    assert answered.granted


def test_a_recovering_node_grants_for_its_vote_was_kept():
    node = Node(membership=members(1, 2, 3), hard=vote(2, 3), recovery=Recovery(at(2, 9), "wiped"))
    assert answer(node, 2, ask(3, at(9, 9))).granted


def test_a_recovering_node_keeps_the_promise_of_its_old_life():
    node = Node(membership=members(1, 2, 3), hard=vote(2, 3), recovery=Recovery(at(2, 9), "wiped"))
    assert "vote" == answer(node, 2, ask(2, at(9, 9))).reason


# -- pre-votes: the same rule, and nothing is saved -----------------------------------------------------------------------------------


def test_a_pre_vote_is_granted_without_saving_anything():
    node = Node()
    granted = VoteResponse(1, True, True, NO_VOTE, at(0, 1), "", 0)
    assert [SendMessage(peer(2), granted)] == node.hear(2, ask(1, at(0, 1), pre_vote=True)) + node.flush()


def test_a_pre_vote_may_be_granted_to_several():
    node = Node()
    assert answer(node, 2, ask(1, at(0, 1), pre_vote=True)).granted
    assert answer(node, 3, ask(1, at(0, 1), pre_vote=True)).granted


def test_a_pre_vote_for_the_present_term_is_refused():
    assert "vote" == answer(Node(hard=vote(3, 2)), 2, ask(3, at(9, 9), pre_vote=True)).reason


def test_stepping_down_answers_who_waits():
    node = leader()
    node.hear(2, ask(9, at(9, 9), transfer=True))
    assert node.state.leader is None
    assert None is node.state.known_leader
    assert [] == node.hear(2, grant(9))
