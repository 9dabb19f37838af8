"""What time does: raft_engine/core/ticking.py."""

from __future__ import annotations

import pytest

from raft_engine.core.events import ElectRequested, RuntimeFlagsChanged, ShutdownRequested
from raft_engine.types.messages import AppendRequest, VoteRequest
from raft_engine.types.metrics import RuntimeFlags
from tests.core.builder import Node, append, at, elected, leader, leads, outcomes, reports, sent


def kinds(commands) -> set[type]:
    return {type(message) for message in sent(commands)}


def test_a_leader_sends_a_heartbeat_at_every_interval():
    node = leader()
    interval = node.state.config.heartbeat_interval_ms
    assert AppendRequest in kinds(node.tick(interval))


def test_heartbeats_are_switched_off_and_on():
    node = leader()
    node.do(RuntimeFlagsChanged(RuntimeFlags(enable_heartbeat=False)))
    assert set() == kinds(node.tick(140))
    node.do(RuntimeFlagsChanged(RuntimeFlags()))
    assert AppendRequest in kinds(node.tick(60))


def test_without_ticks_nobody_campaigns_and_nobody_is_deposed():
    node = Node()
    node.do(RuntimeFlagsChanged(RuntimeFlags(enable_tick=False)))
    assert set() == kinds(node.tick(5000))
    lonely = leader()
    lonely.do(RuntimeFlagsChanged(RuntimeFlags(enable_tick=False)))
    lonely.tick(5000)
    assert lonely.engine.is_leader


def test_the_end_of_a_wait_comes_without_ticks_too():
    node = Node()
    node.do(RuntimeFlagsChanged(RuntimeFlags(enable_tick=False)))
    node.do(ElectRequested(node.ticket(), pre_vote=False, wait_ms=100.0))
    (outcome,) = outcomes(node.tick(100))
    assert (True, False) == (outcome.changed, outcome.observed)


def test_a_leader_that_no_quorum_answers_steps_down():
    node = leader()
    node.now += 10
    limit = 2 * node.state.config.election_timeout_max_ms
    node.tick(limit - 20)
    assert node.engine.is_leader
    node.tick(20)
    assert not node.engine.is_leader


def test_a_new_leader_is_given_time_before_it_is_judged():
    node = elected()
    node.tick(node.state.config.election_timeout_max_ms)
    assert node.engine.is_leader


def test_after_a_sleep_a_follower_first_reads_what_the_others_said():
    node = Node()
    node.hear(2, append(leads(3), at(0, 1)))
    node.now += 10_000
    assert set() == kinds(node.tick())
    node.now += node.state.config.heartbeat_interval_ms
    assert VoteRequest in kinds(node.tick())


def test_after_a_sleep_a_leader_first_reads_what_the_others_said():
    node = leader()
    node.now += 10_000
    node.tick()
    assert node.engine.is_leader


def test_what_was_sent_and_not_answered_is_sent_again():
    node = leader()
    node.write(b"x")
    sent_once = (
        node.target(3).inflight[0].session if hasattr(node.target(3).inflight[0], "session") else node.target(3).session
    )
    for _ in range(8):
        node.tick(50)
        node.accept(2, node.state.log.last.index)
    assert node.target(3).session != sent_once


@pytest.mark.parametrize("make", [Node, leader])
def test_a_node_that_was_shut_down_does_nothing_more(make):
    node = make()
    node.do(ShutdownRequested("for a test"))
    assert [] == node.tick(5000)


def test_shutting_down_is_told():
    assert "shut_down" in reports(Node().handle(ShutdownRequested("for a test")))
