"""Showing that the leader is there, when an operator asks."""

from __future__ import annotations

from raft_engine.core.events import HeartbeatRequested, PeerLost, RuntimeFlagsChanged
from raft_engine.types.messages import AppendRequest
from raft_engine.types.metrics import RuntimeFlags
from raft_engine.types.outcomes import Expectation, RefusalCode, TriggerOutcome
from tests.core.builder import Node, ask, at, leader, leads, outcomes, peer, sent


def heartbeat(node: Node, wait_ms: float = 1000.0, **expect):
    return node.do(HeartbeatRequested(node.ticket(), wait_ms, Expectation(**expect)))


def test_everybody_is_sent_a_heartbeat_of_a_new_round():
    node = leader()
    last = at(1, 2, node=1)
    assert [
        AppendRequest(leads(1, 1), 1, True, 2, last, 2),
        AppendRequest(leads(1, 1), 2, True, 2, last, 2),
    ] == sent(heartbeat(node))


def test_the_answer_names_who_heard_it():
    node = leader()
    heartbeat(node)
    assert [] == outcomes(node.accept(2, 2))
    effective = {"acked_by": [2, 3], "not_acked_by": []}
    assert [TriggerOutcome(True, True, "answered by [2, 3]", effective)] == outcomes(node.accept(3, 2))


def test_answers_of_an_earlier_round_do_not_count():
    node = leader()
    heartbeat(node)
    node.accept(2, 2, round_=1)
    assert [] == outcomes(node.accept(3, 2))


def test_who_cannot_be_reached_is_not_waited_for():
    node = leader()
    node.do(PeerLost(peer(3), "reset"))
    heartbeat(node)
    (outcome,) = outcomes(node.accept(2, 2))
    assert {"acked_by": [2], "not_acked_by": [3]} == outcome.effective


def test_losing_the_last_silent_target_ends_the_wait():
    node = leader()
    heartbeat(node)
    node.accept(2, 2)
    (outcome,) = outcomes(node.do(PeerLost(peer(3), "reset")))
    assert [2] == outcome.effective["acked_by"]


def test_the_wait_ends_after_one_election_timeout_at_the_latest():
    node = leader()
    heartbeat(node, wait_ms=60_000)
    node.accept(2, 2)
    (outcome,) = outcomes(node.tick(300))
    assert (True, {"acked_by": [2], "not_acked_by": [3]}) == (outcome.observed, outcome.effective)


def test_heard_by_nobody_is_not_observed():
    node = leader()
    heartbeat(node, wait_ms=100)
    (outcome,) = outcomes(node.tick(100))
    assert (False, "answered by nobody, not by [2, 3]") == (outcome.observed, outcome.detail)


def test_without_waiting_nothing_is_observed_yet():
    (outcome,) = outcomes(heartbeat(leader(), wait_ms=0))
    assert (True, False) == (outcome.changed, outcome.observed)


def test_a_single_voter_is_answered_at_once():
    node = leader(voters=1)
    node.tick()
    node.flush()
    (outcome,) = outcomes(heartbeat(node))
    assert {"acked_by": [], "not_acked_by": []} == outcome.effective


def test_it_works_with_the_timers_heartbeats_switched_off():
    node = leader()
    node.do(RuntimeFlagsChanged(RuntimeFlags(enable_heartbeat=False)))
    assert 2 == len(sent(heartbeat(node)))


def test_it_does_not_move_the_timer():
    node = leader()
    before = node.state.leader.next_heartbeat
    heartbeat(node)
    assert before == node.state.leader.next_heartbeat


def test_only_a_leader_has_heartbeats():
    (refusal,) = outcomes(heartbeat(Node()))
    assert RefusalCode.NO_LEADER is refusal.code


def test_a_heartbeat_under_a_wrong_expectation_is_not_sent():
    commands = heartbeat(leader(), term=9)
    assert ([], [RefusalCode.PRECONDITION_FAILED]) == (sent(commands), [refusal.code for refusal in outcomes(commands)])


def test_a_leader_that_is_deposed_meanwhile_says_so():
    node = leader()
    heartbeat(node)
    (refusal,) = outcomes(node.hear(2, ask(2, at(9, 9), transfer=True)))
    assert RefusalCode.LEADERSHIP_LOST is refusal.code


# -- targets that are spared -----------------------------------------------------------------------------------------------


def heartbeats(commands, to: int) -> list:
    return [message for message in sent(commands, to) if isinstance(message, AppendRequest) and not message.entries]


def test_the_timer_spares_a_target_that_answered_a_moment_ago():
    node = leader(config={"heartbeat_min_interval_ms": 40})
    node.now += 30
    node.accept(2, 2)
    node.now += 20
    commands = node.tick()
    assert ([], 1) == (heartbeats(commands, 2), len(heartbeats(commands, 3)))


def test_by_default_the_timer_spares_nobody():
    node = leader()
    node.now += 30
    node.accept(2, 2)
    node.now += 20
    assert 1 == len(heartbeats(node.tick(), 2))


def test_what_a_spared_target_answers_to_entries_renews_the_lease():
    node = leader(config={"heartbeat_min_interval_ms": 40})
    node.now += 30
    node.accept(2, 2)
    node.now += 20
    node.tick()
    ticked = node.now
    node.write(b"x")
    node.accept(2, 3)
    assert ticked == node.target(2).acked_at


def test_an_operators_heartbeat_spares_nobody():
    node = leader(config={"heartbeat_min_interval_ms": 40})
    node.accept(2, 2)
    commands = heartbeat(node)
    assert (1, 1) == (len(heartbeats(commands, 2)), len(heartbeats(commands, 3)))
