"""Who leads."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from raft_engine.core.commands import AppendEntries, ReplicateEntries, Respond, SaveHardState, SendMessage
from raft_engine.core.events import ElectRequested, PeerConnected, PeerLost, ShutdownRequested
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import IoId
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.membership import EMPTY_MEMBERSHIP
from raft_engine.types.messages import AppendRequest, TransferRequest, TransferResponse, VoteRequest
from raft_engine.types.metrics import RuntimeFlags, ServerState
from raft_engine.types.outcomes import Expectation, RefusalCode, TriggerOutcome
from tests.core.builder import (
    Node,
    append,
    ask,
    at,
    deeds,
    elected,
    grant,
    leader,
    leads,
    members,
    membership_entry,
    outcomes,
    peer,
    refuse,
    reports,
    sent,
    vote,
)


def elect(node: Node, *, pre_vote: bool = False, wait_ms: float = 1000.0, **expect):
    return node.do(ElectRequested(node.ticket(), pre_vote, wait_ms, Expectation(**expect)))


# -- campaigning --------------------------------------------------------------------------------------------------------------


def test_a_candidate_saves_its_vote_and_asks_everybody():
    request = VoteRequest(1, at(0, 1), False, False)
    assert [
        SaveHardState(IoId(1), HardState(vote(1, 1))),
        SendMessage(peer(2), request),
        SendMessage(peer(3), request),
    ] == elect(Node())


def test_a_timer_asks_first():
    request = VoteRequest(1, at(0, 1), True, False)
    assert [SendMessage(peer(2), request), SendMessage(peer(3), request)] == Node().tick(150)


def test_a_timer_election_without_pre_vote_asks_for_real():
    node = Node(config={"enable_pre_vote": False})
    assert SaveHardState(IoId(1), HardState(vote(1, 1))) == node.tick(150)[0]


def test_before_its_timeout_a_node_is_quiet():
    assert [] == Node().tick(149)


def test_the_timeout_is_drawn_between_shortest_and_longest():
    late = Node(chance=lambda: 0.5)
    assert [] == late.tick(224)
    assert [] != late.tick(1)


def test_a_won_pre_vote_begins_a_real_round():
    node = Node()
    node.tick(150)
    assert [
        SaveHardState(IoId(1), HardState(vote(1, 1))),
        SendMessage(peer(2), VoteRequest(1, at(0, 1), False, False)),
        SendMessage(peer(3), VoteRequest(1, at(0, 1), False, False)),
    ] == node.hear(2, grant(1, pre_vote=True))


def test_a_lost_pre_vote_changes_no_term():
    node = Node()
    node.tick(150)
    for other in (2, 3):
        node.hear(other, refuse(1, "lease", its_term=0, pre_vote=True))
    assert (0, None) == (node.state.term, node.state.candidate)


def test_a_pre_vote_grant_does_not_count_in_the_real_round():
    node = Node()
    elect(node)
    node.flush()
    node.hear(2, grant(1, pre_vote=True))
    assert not node.engine.is_leader


def test_a_leader_that_is_heard_again_ends_the_round_of_pre_votes():
    node = Node()
    node.hear(2, append(leads(1, 2), at(0, 1)))
    node.flush()
    node.tick(400)
    assert node.state.candidate is not None
    node.hear(2, append(leads(1, 2), at(0, 1)))
    assert node.state.candidate is None
    node.hear(2, grant(2, pre_vote=True))
    node.hear(3, grant(2, pre_vote=True))
    assert 1 == node.state.term


def test_a_grant_given_for_more_entries_than_a_crash_has_left_does_not_count():
    node = Node()
    elect(node)
    node.flush()
    late = replace(grant(1), last_log_id=at(0, 9))
    node.hear(2, late)
    assert not node.engine.is_leader
    node.hear(2, grant(1))
    assert node.engine.is_leader


def test_a_candidate_that_still_owes_its_leader_a_lease_asks_when_it_ends():
    node = Node()
    node.hear(2, append(leads(3), BEFORE_LOG))
    node.flush()
    node.now += 100
    assert [SaveHardState(IoId(2), HardState(vote(4, 1)))] == elect(node)
    assert [] == node.tick(19)
    assert [2, 3] == [command.target.node_id for command in node.tick(1)]


def test_votes_refused_because_of_a_lease_are_asked_for_again():
    node = Node()
    elect(node)
    node.flush()
    node.hear(2, refuse(1, "lease", its_term=0))
    assert [] == outcomes(node.hear(3, refuse(1, "lease", its_term=0)))
    heartbeat = int(node.state.config.heartbeat_interval_ms)
    assert [2, 3] == [command.target.node_id for command in node.tick(heartbeat)]
    node.hear(2, refuse(1, "lease", its_term=0))
    node.hear(3, refuse(1, "lease", its_term=0))
    assert [] == node.tick(heartbeat - 1)
    assert [2, 3] == [command.target.node_id for command in node.tick(1)]
    node.hear(3, refuse(1, "lease", its_term=0))
    (outcome,) = outcomes(node.hear(2, grant(1)))
    assert (outcome.changed, outcome.observed) == (True, True)


def test_a_pre_vote_that_only_a_lease_is_in_the_way_of_is_soon_asked_for_again():
    """Followers heard a dead leader at nearly the same time: who campaigns first need not lose its turn for a millisecond."""
    node = Node()
    node.tick(150)
    node.hear(2, refuse(1, "lease", its_term=0, pre_vote=True))
    assert [] == node.tick(12)
    assert [2, 3] == [command.target.node_id for command in node.tick(1)]
    assert [1] == [command.message.term for command in node.hear(2, grant(1, pre_vote=True)) if command == sent_vote(3)]


def sent_vote(to: int) -> SendMessage:
    return SendMessage(peer(to), VoteRequest(1, at(0, 1), False, False))


def test_a_pre_vote_is_not_asked_for_again_when_the_lease_was_not_given_by_the_same_leader():
    """It lasts beyond one heartbeat interval: somebody is heard there that is not heard here."""
    node = Node()
    node.tick(150)
    for _ in range(4):
        node.hear(2, refuse(1, "lease", its_term=0, pre_vote=True))
        assert [] != node.tick(13)
    node.hear(2, refuse(1, "lease", its_term=0, pre_vote=True))
    assert [] == node.tick(90)


def test_who_has_granted_is_not_asked_again():
    node = Node(voters=5)
    node.tick(150)
    node.hear(2, grant(1, pre_vote=True))
    node.hear(3, refuse(1, "lease", its_term=0, pre_vote=True))
    assert [3, 4, 5] == [command.target.node_id for command in node.tick(13)]


def test_the_lease_of_a_leader_that_asked_to_be_replaced_is_not_waited_for():
    node = Node()
    node.hear(2, append(leads(3), BEFORE_LOG))
    node.flush()
    commands = node.hear(2, TransferRequest(leads(3), at(0, 1)))
    assert [TransferResponse(leads(3), True, ""), VoteRequest(4, at(0, 1), False, True)] == sent(commands, 2)


def test_switched_off_elections_do_not_begin_by_themselves():
    node = Node(config={"enable_elect": False})
    assert [] == node.tick(1000)
    assert [] != elect(node)


def test_a_deposed_leader_waits_an_election_timeout_before_it_stands_again():
    node = leader()
    node.tick(250)
    node.hear(2, refuse(9, "term", its_term=node.state.term + 1))
    assert not node.engine.is_leader
    node.flush()
    assert [] == sent(node.tick(node.state.config.election_timeout_min_ms - 1))


# -- rule 6: the connection to the leader ended -----------------------------------------------------------------------------------


def follower(number: int = 1, *, voters: int = 5, reaching: tuple[int, ...] = (), leading: int = 5, **settings) -> Node:
    """A follower of node `leading` whose random timeout is the longest."""
    node = Node(number, voters=voters, chance=lambda: 0.999, **settings)
    for other in reaching:
        node.do(PeerConnected(peer(other)))
    node.hear(leading, append(leads(1, leading), at(0, 1)))
    node.flush()
    return node


def test_who_lost_its_leader_campaigns_when_the_lease_is_over():
    node = follower(reaching=(2, 3, 4, 5))
    node.do(PeerLost(peer(5), "reset"))
    assert [] == node.tick(119)
    assert VoteRequest(2, at(0, 1), True, False) == sent(node.tick(1), 2)[0]


def test_who_hears_the_leader_again_waits_as_ever():
    node = follower(reaching=(5,))
    node.do(PeerLost(peer(5), "reset"))
    node.tick(100)
    node.hear(5, append(leads(1, 5), at(0, 1)))
    assert [] == node.tick(299)
    assert [] != node.tick(1)


def test_the_reachable_voters_before_it_go_first_a_heartbeat_interval_each():
    node = follower(4, reaching=(1, 3, 5))
    node.do(PeerLost(peer(5), "reset"))
    assert [] == node.tick(120 + 2 * 50 - 1)
    assert [] != node.tick(1)


def test_being_told_again_that_the_leader_is_lost_does_not_bring_the_turn_forward():
    """As long as each redial drew a new wait and the shortest one won, followers campaigned together and split the vote."""
    node = follower(3, reaching=(1, 2, 5))
    for _ in range(8):
        node.do(PeerLost(peer(5), "refused"))
        node.tick(20)
    assert [] == node.tick(120 + 2 * 50 - 8 * 20 - 1)
    assert [] != node.tick(1)


def test_a_turn_never_comes_later_than_the_random_timeout():
    node = follower(4, reaching=(1, 2, 3, 5))
    node.state.election_deadline = node.now + 160
    node.do(PeerLost(peer(5), "reset"))
    assert [] == node.tick(159)
    assert [] != node.tick(1)


def test_a_lost_connection_to_somebody_else_changes_nothing():
    node = follower(reaching=(2, 5))
    node.do(PeerLost(peer(2), "reset"))
    assert [] == node.tick(299)


@pytest.mark.parametrize("kind", ["recovering", "not_voter"])
def test_who_may_not_campaign_does_not_when_it_loses_its_leader(kind: str):
    node = muted()[kind]
    node.hear(2, append(leads(3), BEFORE_LOG))
    node.flush()
    node.do(PeerLost(peer(2), "reset"))
    assert [] == node.tick(5000)
    assert None is node.state.candidate


def test_switched_off_elections_do_not_begin_when_the_leader_is_lost():
    node = follower(config={"enable_elect": False})
    node.do(PeerLost(peer(5), "reset"))
    assert [] == node.tick(5000)
    assert None is node.state.candidate


# -- rule 1: who may not campaign, by no path -----------------------------------------------------------------------------------


def muted() -> dict[str, Node]:
    return {
        "blank": Node(membership=EMPTY_MEMBERSHIP),
        "recovering": Node(recovery=Recovery(at(2, 9), "wiped")),
        "not_voter": Node(membership=members(2, 3, learners=[1])),
    }


def test_a_node_that_a_configuration_removes_may_campaign_until_that_is_committed():
    """Node 4 alone is to be the voter and lacks the entry that says so; only those who leave can bring it (seed 108)."""
    node = Node()
    node.hear(2, append(leads(1), at(0, 1), membership_entry(1, 2, members(4, learners=[1, 2, 3]))))
    node.flush()
    assert not node.state.is_voter
    assert [4] == [command.target.node_id for command in node.tick(500) if isinstance(command, SendMessage)][:1]
    node.hear(4, grant(2, pre_vote=True))
    node.flush()
    node.hear(4, grant(2))
    assert node.engine.is_leader


def test_a_node_that_a_committed_configuration_removed_does_not_campaign():
    node = Node()
    entry = membership_entry(1, 2, members(4, learners=[1, 2, 3]))
    node.hear(2, append(leads(1), at(0, 1), entry, committed=2))
    node.flush()
    node.tick(5000)
    assert None is node.state.candidate


@pytest.mark.parametrize("kind", ["blank", "recovering", "not_voter"])
def test_who_may_not_campaign_does_not_by_its_timer(kind: str):
    node = muted()[kind]
    assert [] == node.tick(5000)
    assert None is node.state.candidate


@pytest.mark.parametrize("kind", ["blank", "recovering", "not_voter"])
@pytest.mark.parametrize("pre_vote", [True, False])
def test_who_may_not_campaign_refuses_the_operator(kind: str, pre_vote: bool):
    (refusal,) = outcomes(elect(muted()[kind], pre_vote=pre_vote))
    assert RefusalCode(kind) == refusal.code


@pytest.mark.parametrize("kind", ["recovering", "not_voter"])
def test_who_may_not_campaign_refuses_a_transfer(kind: str):
    node = muted()[kind]
    node.hear(2, append(leads(3), BEFORE_LOG))
    node.flush()
    assert [SendMessage(peer(2), TransferResponse(leads(3), False, kind))] == node.hear(
        2, TransferRequest(leads(3), at(0, 1))
    )


def test_a_node_that_began_to_recover_has_no_candidacy_to_win():
    node = muted()["recovering"]
    assert [] == node.hear(2, grant(1))
    assert [] == node.hear(2, grant(1, pre_vote=True))
    assert not node.engine.is_leader


def test_a_candidate_does_not_begin_again_while_its_round_lasts():
    node = Node()
    node.tick(150)
    assert [] == node.tick(149)
    assert [] != node.tick(1)


# -- rules 3 and 4: winning --------------------------------------------------------------------------------------------------------


def test_no_election_is_won_before_the_own_vote_is_durable():
    node = Node()
    elect(node)
    node.hear(2, grant(1))
    node.hear(3, grant(1))
    assert not node.engine.is_leader
    node.flush()
    assert node.engine.is_leader


def test_a_single_voter_too_waits_for_its_disk():
    node = Node(voters=1)
    node.tick()
    assert not node.engine.is_leader
    node.flush()
    assert node.engine.is_leader


def test_the_own_vote_of_an_earlier_round_does_not_count():
    node = Node()
    elect(node, wait_ms=0)
    node.tick(150)
    elect(node)
    node.flush_first(1)
    node.hear(2, grant(2))
    assert not node.engine.is_leader


def test_a_grant_of_another_incarnation_does_not_count():
    node = Node()
    elect(node)
    node.flush()
    node.hear(2, grant(1), life=2)
    assert not node.engine.is_leader


def test_a_grant_of_a_learner_does_not_count():
    node = Node(membership=members(1, 2, 3, learners=[4]))
    elect(node)
    node.flush()
    node.hear(4, grant(1))
    assert not node.engine.is_leader


def test_a_grant_of_an_earlier_term_does_not_count():
    node = Node(hard=vote(4, 1))
    elect(node)
    node.flush()
    node.hear(2, grant(4))
    assert not node.engine.is_leader


def test_the_same_grant_twice_counts_once():
    node = Node(voters=5)
    elect(node)
    node.flush()
    node.hear(2, grant(1))
    node.hear(2, grant(1))
    assert not node.engine.is_leader


# -- rule 5: what winning means --------------------------------------------------------------------------------------------------------


def test_a_new_leader_shows_itself_and_appends_an_entry_of_its_term_at_once():
    node = Node()
    for other in (2, 3):
        node.do(PeerConnected(peer(other)))
    elect(node)
    node.flush()
    mine = leads(1, 1)
    beat = AppendRequest(mine, 1, True, 1, BEFORE_LOG, 0)
    first = make_entry(1, 1, 2, EntryKind.BLANK, b"")
    won = TriggerOutcome(True, True, "node 1 leads term 1", {"leader": 1, "term": 1})
    assert [
        SendMessage(peer(2), beat),
        SendMessage(peer(3), AppendRequest(mine, 2, True, 1, BEFORE_LOG, 0)),
        AppendEntries(IoId(2), (first,)),
        ReplicateEntries(peer(2), mine, 1, False, 1, at(0, 1), 2, 0),
        ReplicateEntries(peer(3), mine, 2, False, 1, at(0, 1), 2, 0),
        Respond(1, won),
    ] == node.hear(2, grant(1))


def test_a_restarted_leader_does_not_resume_its_term():
    node = Node(hard=leads(4, 1), log=[4])
    assert ServerState.FOLLOWER is node.state.server_state()
    assert VoteRequest(5, at(4, 2), True, False) == sent(node.tick(150))[0]


# -- losing --------------------------------------------------------------------------------------------------------------------------------


def test_a_majority_of_refusals_ends_the_round_and_the_caller_is_told_why():
    node = Node()
    elect(node)
    node.hear(2, refuse(1, "log"))
    (refusal,) = outcomes(node.hear(3, refuse(1, "vote")))
    assert (RefusalCode.ELECTION_LOST, None) == (refusal.code, node.state.candidate)
    assert "refused by 2: log; 3: vote" in refusal.detail


def test_a_refused_pre_vote_is_told_as_such():
    node = Node()
    elect(node, pre_vote=True)
    node.hear(2, refuse(1, "lease", its_term=0, pre_vote=True))
    (refusal,) = outcomes(node.hear(3, refuse(1, "lease", its_term=0, pre_vote=True)))
    assert RefusalCode.PRE_VOTE_REFUSED is refusal.code


def test_whoever_has_fewer_entries_lets_the_others_go_first():
    node = Node()
    elect(node)
    for other in (2, 3):
        node.hear(other, refuse(1, "log"))
    assert node.now + 150 + 300 == node.state.election_deadline


def test_whoever_has_fewer_entries_lets_the_others_go_first_also_while_somebody_does_not_answer():
    """Simulated seed 436: of three nodes one was gone, and the shorter log stood up first in term after term."""
    node = Node()
    elect(node)
    deadline = node.state.candidate.deadline
    for _ in range(2):
        node.hear(2, refuse(1, "log"))
    assert deadline + 300 == node.state.candidate.deadline


def test_whoever_refused_a_shorter_log_stands_up_in_a_later_term_than_that_one():
    """Simulated seed 1436: it stood up in terms in which the shorter logs had voted for themselves already."""
    node = Node(log=[1, 1])
    node.hear(2, ask(7, at(0, 1)))
    assert 1 == node.state.term
    elect(node)
    assert 8 == node.state.candidate.term


def test_a_higher_term_ends_the_candidacy():
    node = Node()
    elect(node)
    node.hear(2, refuse(1, "term", its_term=7))
    assert (None, vote(7, 0)) == (node.state.candidate, node.state.vote)


def test_a_candidate_follows_a_leader_of_its_term():
    node = Node()
    elect(node)
    node.flush()
    node.hear(2, append(leads(1), BEFORE_LOG))
    assert (None, 2) == (node.state.candidate, node.state.known_leader)


# -- the operator's elect -----------------------------------------------------------------------------------------------------------------------


def test_elect_on_a_leader_changes_nothing_and_says_so():
    outcome = TriggerOutcome(False, True, "node 1 leads term 1 already", {"leader": 1, "term": 1})
    assert [Respond(2, outcome)] == elect(leader())


def test_elect_without_waiting_is_accepted_and_not_observed():
    (outcome,) = outcomes(elect(Node(), wait_ms=0))
    assert (True, False) == (outcome.changed, outcome.observed)


def test_elect_answers_when_its_time_is_over_and_the_round_goes_on():
    node = Node(chance=lambda: 0.99)
    elect(node, wait_ms=100)
    (outcome,) = outcomes(node.tick(100))
    assert (True, False, {"term": 1}) == (outcome.changed, outcome.observed, outcome.effective)
    assert None is not node.state.candidate


def test_elect_on_a_candidate_begins_a_later_round():
    node = Node()
    elect(node, wait_ms=0)
    elect(node)
    assert 2 == node.state.term


def test_a_second_elect_while_one_is_served_is_refused():
    node = Node()
    elect(node)
    (refusal,) = outcomes(elect(node))
    assert RefusalCode.CHANGE_IN_PROGRESS is refusal.code


@pytest.mark.parametrize("expect", [{"term": 9}, {"leader": 2}, {"membership_log_id": at(1, 9)}])
def test_elect_under_a_wrong_expectation_does_nothing(expect):
    node = Node()
    (refusal,) = outcomes(elect(node, **expect))
    assert (RefusalCode.PRECONDITION_FAILED, None) == (refusal.code, node.state.candidate)


def test_elect_under_a_right_expectation_is_done():
    assert [] != sent(elect(Node(), term=0, membership_log_id=at(0, 1)))


def test_a_shut_down_node_votes_for_nobody():
    node = Node()
    node.do(ShutdownRequested("enough"))
    assert [] == node.hear(2, ask(1, at(0, 1)))


def test_winning_is_reported():
    node = Node()
    node.handle(ElectRequested(node.ticket(), False, 0.0))
    node.flush()
    from raft_engine.core.events import MessageReceived

    commands = node.handle(MessageReceived(peer(2), grant(1)))
    assert ["leader_elected"] == reports(commands)
    assert deeds(commands)


def test_the_timers_may_be_switched_off_while_running():
    from raft_engine.core.events import RuntimeFlagsChanged

    node = elected()
    node.do(RuntimeFlagsChanged(RuntimeFlags(enable_tick=False)))
    assert [] == node.tick(5000)
