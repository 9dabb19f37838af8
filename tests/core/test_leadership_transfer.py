"""Handing leadership over, and taking it back when that fails."""

from __future__ import annotations

import pytest

from raft_engine.core.commands import AppendEntries, Respond, SaveHardState, SendMessage
from raft_engine.core.events import (
    ElectRequested,
    MembershipChangeRequested,
    PeerLost,
    ReadsRequested,
    ShutdownRequested,
    TransferLeaderRequested,
)
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import IoId, NodeId
from raft_engine.types.messages import TransferRequest, TransferResponse, VoteRequest
from raft_engine.types.outcomes import Expectation, ReadOutcome, Refusal, RefusalCode, TriggerOutcome
from tests.core.builder import (
    Node,
    append,
    ask,
    at,
    elected,
    entry,
    grant,
    leader,
    leads,
    members,
    outcomes,
    peer,
    refuse,
    sent,
    vote,
)

MINE = leads(1, 1)


def transfer(node: Node, to: int, *, wait_ms: float = 1000.0, **expect):
    return node.do(TransferLeaderRequested(node.ticket(), to, wait_ms, Expectation(**expect)))


def last(index: int):
    return at(1, index, node=1)


# -- rule 1: the target ---------------------------------------------------------------------------------------------------------


def test_a_target_that_has_everything_is_asked_at_once():
    assert [SendMessage(peer(2), TransferRequest(MINE, last(2)))] == transfer(leader(), 2)


@pytest.mark.parametrize(
    ("to", "code"), [(1, RefusalCode.IS_LEADER), (9, RefusalCode.NODE_NOT_FOUND), (4, RefusalCode.NOT_VOTER)]
)
def test_who_cannot_lead_is_refused_before_anything_happens(to: int, code: RefusalCode):
    node = leader(membership=members(1, 2, 3, learners=[4]))
    (refusal,) = outcomes(transfer(node, to))
    assert (code, None) == (refusal.code, node.state.leader.transfer)


def test_a_voter_that_the_joint_configuration_removes_is_no_target():
    node = leader()
    node.do(MembershipChangeRequested(node.ticket(), 1000.0, frozenset({NodeId(1), NodeId(2)})))
    (refusal,) = outcomes(transfer(node, 3))
    assert (RefusalCode.NOT_VOTER, True) == (refusal.code, "on its way out" in refusal.detail)


def test_a_target_that_cannot_be_reached_is_refused():
    node = leader()
    node.do(PeerLost(peer(2), "connection refused"))
    (refusal,) = outcomes(transfer(node, 2))
    assert (RefusalCode.TARGET_UNREACHABLE, True) == (refusal.code, "connection refused" in refusal.detail)


def test_a_target_too_far_behind_is_refused_with_the_number():
    node = leader(config={"replication_lag_threshold": 2})
    node.write(b"a", b"b", b"c")
    (refusal,) = outcomes(transfer(node, 2))
    assert (RefusalCode.TARGET_LAGGING, {"lag": 3}) == (refusal.code, refusal.extra)


def test_a_target_whose_log_is_not_known_is_refused():
    (refusal,) = outcomes(transfer(elected(), 2))
    assert RefusalCode.TARGET_LAGGING is refusal.code


def test_a_fenced_target_is_refused():
    node = leader()
    node.lacks(2, prev=2, check=True)
    (refusal,) = outcomes(transfer(node, 2))
    assert RefusalCode.TARGET_LAGGING is refusal.code


def test_only_a_leader_transfers():
    (refusal,) = outcomes(transfer(Node(), 2))
    assert RefusalCode.NO_LEADER is refusal.code


def test_one_transfer_at_a_time():
    node = leader()
    transfer(node, 2)
    (refusal,) = outcomes(transfer(node, 3))
    assert RefusalCode.TRANSFER_IN_PROGRESS is refusal.code


def test_a_transfer_under_a_wrong_expectation_does_nothing():
    node = leader()
    (refusal,) = outcomes(transfer(node, 2, term=7))
    assert (RefusalCode.PRECONDITION_FAILED, None) == (refusal.code, node.state.leader.transfer)


# -- rule 2: writes ------------------------------------------------------------------------------------------------------------------


def test_a_target_that_lags_a_little_first_catches_up():
    node = leader()
    node.write(b"a")
    assert [] == transfer(node, 2)
    assert TransferRequest(MINE, last(3)) in sent(node.accept(2, 3), 2)


def test_writes_are_held_meanwhile():
    node = leader()
    transfer(node, 2)
    assert [] == node.write(b"held")


def test_held_writes_are_taken_in_when_the_transfer_fails():
    node = leader()
    transfer(node, 2)
    node.write(b"held")
    commands = node.hear(2, TransferResponse(MINE, False, "log"))
    assert [b"held"] == [command.entries[0].data for command in commands if isinstance(command, AppendEntries)]


def test_held_writes_are_sent_to_whoever_leads_instead():
    node = leader()
    transfer(node, 2)
    node.write(b"held")
    assert [(RefusalCode.NOT_LEADER, 2)] == refused(node.hear(2, append(leads(2), last(2))))


def refused(commands) -> list[tuple[RefusalCode, int | None]]:
    return [(item.code, item.leader) for item in outcomes(commands) if isinstance(item, Refusal)]


def test_writes_stay_held_while_the_target_is_being_elected():
    node = leader()
    transfer(node, 2)
    node.write(b"held")
    assert [] == outcomes(node.hear(2, ask(2, last(2), transfer=True)) + node.flush())
    assert (False, []) == (node.engine.is_leader, node.write(b"while nobody leads"))
    assert [(RefusalCode.NOT_LEADER, 2)] * 2 == refused(node.hear(2, append(leads(2), last(2))))


def read(node: Node, *, lease: bool = False):
    return node.do(ReadsRequested([node.ticket()], lease, 1000.0))


def test_reads_wait_for_the_new_leaders_name_too():
    node = leader()
    read(node)
    transfer(node, 2)
    assert [] == outcomes(node.hear(2, ask(2, last(2), transfer=True)) + read(node))
    assert [(RefusalCode.NOT_LEADER, 2)] * 2 == refused(node.hear(2, append(leads(2), last(2))))


def test_reads_are_refused_when_nobody_leads_in_time():
    node = leader()
    transfer(node, 2)
    node.hear(2, ask(2, last(2), transfer=True))
    read(node)
    assert [] == refused(node.tick(299))
    assert [(RefusalCode.NO_LEADER, None)] == refused(node.tick(1))
    assert [(RefusalCode.NO_LEADER, None)] == refused(read(node))


def test_a_lease_read_does_not_wait_for_anybody():
    node = leader()
    transfer(node, 2)
    node.hear(2, ask(2, last(2), transfer=True))
    assert [(RefusalCode.NO_LEADER, None)] == refused(read(node, lease=True))


def test_reads_that_waited_are_confirmed_by_a_leader_that_is_elected_again():
    node = leader()
    transfer(node, 2)
    node.hear(2, ask(2, last(2), transfer=True))
    read(node)
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=1000.0))
    node.flush()
    assert [] == refused(node.hear(3, grant(3)) + node.flush())
    node.accept(3, 3)
    node.applied(node.state.log.last, 1)
    assert [ReadOutcome(3)] == outcomes(node.accept(3, 3))


def test_held_writes_are_refused_when_nobody_leads_in_time():
    node = leader()
    transfer(node, 2)
    node.write(b"held")
    node.hear(2, ask(2, last(2), transfer=True))
    assert [] == refused(node.tick(299))
    assert [(RefusalCode.NO_LEADER, None)] == refused(node.tick(1))
    assert [(RefusalCode.NO_LEADER, None)] == refused(node.write(b"later"))


def test_held_writes_are_taken_in_by_a_leader_that_is_elected_again():
    node = leader()
    transfer(node, 2)
    node.write(b"held")
    node.hear(2, ask(2, last(2), transfer=True))
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=1000.0))
    node.flush()
    commands = node.hear(3, grant(3))
    assert node.engine.is_leader
    assert [b"held"] == [e.data for c in commands if isinstance(c, AppendEntries) for e in c.entries if e.data]


def test_a_leader_that_had_asked_another_to_take_over_may_be_elected_again_with_no_write_held():
    node = leader()
    transfer(node, 2)
    node.hear(2, ask(2, last(2), transfer=True))
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=1000.0))
    node.flush()
    commands = node.hear(3, grant(3))
    assert node.engine.is_leader
    assert [b""] == [e.data for c in commands if isinstance(c, AppendEntries) for e in c.entries]


@pytest.mark.parametrize("granted", [False, True], ids=["before the target is elected", "while it is"])
def test_held_writes_are_known_not_to_be_accepted_when_the_node_ends(granted: bool):
    node = leader()
    transfer(node, 2)
    node.write(b"held")
    if granted:
        node.hear(2, ask(2, last(2), transfer=True))
    assert [(RefusalCode.SHUTTING_DOWN, None)] == refused(node.do(ShutdownRequested("the node was shut down")))


def test_a_held_writes_place_is_bounded():
    node = leader(config={"api_channel_size": 2})
    transfer(node, 2)
    node.write(b"one", b"two")
    node.hear(2, ask(2, last(2), transfer=True))
    assert [(RefusalCode.NO_LEADER, None)] == refused(node.write(b"three"))


def test_held_writes_are_refused_when_the_leader_falls_before_it_has_handed_over():
    node = leader()
    node.write(b"not replicated yet")
    transfer(node, 2)
    node.write(b"held")
    assert [(RefusalCode.NO_LEADER, None)] == refused(node.hear(3, refuse(5, "term", its_term=5)))[:1]


# -- rule 3: the target campaigns only with everything ---------------------------------------------------------------------------------


def target() -> Node:
    """Node 1 follows node 2 in term 3 and holds entries up to 2."""
    node = Node(log=[3], hard=leads(3))
    node.hear(2, append(leads(3), at(3, 2)))
    return node


def test_the_target_campaigns_at_once_and_for_real():
    request = VoteRequest(4, at(3, 2), False, True)
    assert [
        SendMessage(peer(2), TransferResponse(leads(3), True, "")),
        SaveHardState(IoId(1), HardState(vote(4, 1))),
        SendMessage(peer(2), request),
        SendMessage(peer(3), request),
    ] == target().hear(2, TransferRequest(leads(3), at(3, 2)))


def test_the_target_refuses_without_the_leaders_last_entry():
    answer = TransferResponse(leads(3), False, "log")
    assert [SendMessage(peer(2), answer)] == target().hear(2, TransferRequest(leads(3), at(3, 3)))


def test_the_target_refuses_while_the_last_entry_is_not_durable():
    node = target()
    node.hear(2, append(leads(3), at(3, 2), entry(3, 3)))
    assert [TransferResponse(leads(3), False, "log")] == sent(node.hear(2, TransferRequest(leads(3), at(3, 3))))


def test_a_request_of_an_earlier_leader_is_refused():
    assert [TransferResponse(leads(3), False, "vote")] == sent(target().hear(3, TransferRequest(leads(2, 3), at(3, 2))))


def test_a_request_of_an_earlier_leadership_of_the_same_node_is_refused():
    assert [TransferResponse(leads(3), False, "vote")] == sent(target().hear(2, TransferRequest(leads(2), at(3, 2))))


def test_a_request_of_somebody_whom_the_target_does_not_follow_is_refused():
    assert [TransferResponse(leads(3), False, "vote")] == sent(target().hear(3, TransferRequest(leads(3, 3), at(3, 2))))


def test_a_recovering_target_refuses():
    node = Node(log=[3], hard=leads(3), recovery=Recovery(at(3, 9), "wiped"))
    node.hear(2, append(leads(3), at(3, 2)))
    assert ["recovering"] == [message.reason for message in sent(node.hear(2, TransferRequest(leads(3), at(3, 2))))]


def _joint_with_a_transfer() -> Node:
    """A joint configuration is under way when node 2 is to take over; it is not committed."""
    node = leader()
    node.do(MembershipChangeRequested(node.ticket(), 1000.0, frozenset({NodeId(1), NodeId(2)})))
    transfer(node, 2)
    node.flush()
    return node


def test_nothing_is_appended_once_the_target_was_asked():
    node = _joint_with_a_transfer()
    assert TransferRequest(MINE, last(3)) in sent(node.accept(2, 3), 2)
    node.accept(3, 3)
    assert (3, True) == (node.state.log.last.index, node.state.membership.is_joint)


def test_a_failed_transfer_lets_the_joint_configuration_go_on():
    node = _joint_with_a_transfer()
    node.accept(2, 3)
    node.hear(2, TransferResponse(MINE, accepted=False, reason="log"))
    node.accept(3, 3)
    assert (4, False) == (node.state.log.last.index, node.state.membership.is_joint)


# -- rule 4: giving up --------------------------------------------------------------------------------------------------------------------


def test_the_leader_serves_again_when_nobody_took_over_within_one_election_timeout():
    node = leader()
    transfer(node, 2)
    assert [] == outcomes(node.tick(299))
    (refusal,) = outcomes(node.tick(1))
    assert (RefusalCode.TRANSFER_TIMED_OUT, None) == (refusal.code, node.state.leader.transfer)


def test_the_leader_gives_up_when_the_target_is_lost():
    node = leader()
    transfer(node, 2)
    (refusal,) = outcomes(node.do(PeerLost(peer(2), "reset")))
    assert RefusalCode.TARGET_UNREACHABLE is refusal.code


def test_the_leader_gives_up_when_the_target_refuses():
    node = leader()
    transfer(node, 2)
    (refusal,) = outcomes(node.hear(2, TransferResponse(MINE, False, "log")))
    assert (RefusalCode.TARGET_REFUSED, True) == (refusal.code, "log" in refusal.detail)


def test_somebody_elses_refusal_is_ignored():
    node = leader()
    transfer(node, 2)
    assert [] == node.hear(3, TransferResponse(MINE, False, "log"))
    assert None is not node.state.leader.transfer


# -- what the caller is told -------------------------------------------------------------------------------------------------------------


def test_the_caller_hears_when_the_target_leads():
    node = leader()
    transfer(node, 2)
    done = TriggerOutcome(True, True, "node 2 leads term 2", {"leader": 2, "term": 2})
    assert Respond(2, done) in node.hear(2, append(leads(2), last(2)))


def test_the_caller_hears_when_somebody_else_leads():
    node = leader()
    transfer(node, 2)
    refusals = outcomes(node.hear(3, append(leads(2, 3), last(2))))
    assert [RefusalCode.ELECTION_LOST] == [refusal.code for refusal in refusals]


def test_without_waiting_the_transfer_is_accepted_and_not_observed():
    (outcome,) = outcomes(transfer(leader(), 2, wait_ms=0))
    assert (True, False, {"to": 2}) == (outcome.changed, outcome.observed, outcome.effective)


def test_a_wait_shorter_than_the_transfer_ends_undecided():
    node = leader()
    transfer(node, 2, wait_ms=100)
    (outcome,) = outcomes(node.tick(100))
    assert (False, True) == (outcome.observed, node.state.leader.transfer is not None)
