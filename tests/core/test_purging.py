"""Dropping entries that a snapshot covers."""

from __future__ import annotations

import pytest

from raft_engine.core.commands import PurgeLog
from raft_engine.core.events import PeerLost, PurgeLogRequested, SnapshotBuilt
from raft_engine.types.ids import IoId
from raft_engine.types.outcomes import Expectation, RefusalCode, TriggerOutcome
from tests.core.builder import Node, at, leader, meta, outcomes, peer

KEEP = {"max_in_snapshot_log_to_keep": 100}


def purge(node: Node, upto: int, *, strict: bool = False, wait_ms: float = 1000.0, **expect):
    return node.do(PurgeLogRequested(node.ticket(), upto, strict, wait_ms, Expectation(**expect)))


def node_with_snapshot(last: int = 8, snapshot: int = 6) -> Node:
    """A follower with entries 1 … last, of which a snapshot covers some."""
    return Node(log=[3] * (last - 1), snapshot=meta(3, snapshot), applied=at(3, last), config=KEEP)


# -- rule 1: the snapshot is the limit -----------------------------------------------------------------------------------------


def test_a_purge_drops_up_to_the_index_inclusive():
    assert [PurgeLog(IoId(1), at(3, 4))] == purge(node_with_snapshot(), 4)


def test_a_purge_is_answered_when_the_entries_are_gone():
    node = node_with_snapshot()
    assert [] == outcomes(purge(node, 4))
    assert [TriggerOutcome(True, True, "purged up to 4", {"upto": 4})] == outcomes(node.flush())


def test_a_purge_beyond_the_snapshot_is_clamped_and_says_so():
    node = node_with_snapshot()
    assert [PurgeLog(IoId(1), at(3, 6))] == purge(node, 99)
    detail = "purged up to 6 (asked for 99; the snapshot ends at 6)"
    assert [TriggerOutcome(True, True, detail, {"upto": 6})] == outcomes(node.flush())


def test_a_strict_purge_beyond_the_snapshot_is_refused():
    node = node_with_snapshot()
    (refusal,) = outcomes(purge(node, 7, strict=True))
    assert (RefusalCode.BEYOND_SNAPSHOT, 0) == (refusal.code, node.state.purge_upto.index)


def test_without_a_snapshot_nothing_is_purged():
    (refusal,) = outcomes(purge(Node(log=[3, 3], applied=at(3, 3)), 2))
    assert (RefusalCode.NO_SNAPSHOT, "take a snapshot first") == (refusal.code, refusal.hint)


@pytest.mark.parametrize("upto", [1, 4])
def test_what_is_gone_already_is_no_change(upto: int):
    node = node_with_snapshot()
    purge(node, 4)
    node.flush()
    assert [TriggerOutcome(False, True, "already purged up to 4", {"upto": 4})] == outcomes(purge(node, upto))


def test_a_purge_under_a_wrong_expectation_does_nothing():
    node = node_with_snapshot()
    (refusal,) = outcomes(purge(node, 4, term=9))
    assert (RefusalCode.PRECONDITION_FAILED, 0) == (refusal.code, node.state.purge_upto.index)


def test_a_purge_without_waiting_is_accepted_and_not_observed():
    (outcome,) = outcomes(purge(node_with_snapshot(), 4, wait_ms=0))
    assert (True, False, {"upto": 4, "deferred_by": []}) == (outcome.changed, outcome.observed, outcome.effective)


def test_a_larger_purge_answers_a_smaller_one_too():
    node = node_with_snapshot()
    purge(node, 3)
    purge(node, 5)
    assert [True, True] == [outcome.observed for outcome in outcomes(node.flush())]


def test_the_purge_point_is_still_known_afterwards():
    node = node_with_snapshot()
    purge(node, 4)
    assert (at(3, 4), at(3, 4)) == (node.state.log.purged, node.state.log.get(4))


# -- rule 2: what is on its way ---------------------------------------------------------------------------------------------------


def leader_with_request_under_way() -> Node:
    """Entry 3 is committed by nodes 1 and 2 and in a snapshot; node 3 has not answered."""
    node = leader(config=KEEP)
    node.write(b"a")
    node.flush()
    node.accept(2, 3)
    node.applied(at(1, 3, node=1), 1)
    node.snapshot_at(3)
    return node


def test_a_leader_waits_for_a_request_on_its_way():
    node = leader_with_request_under_way()
    assert [] == purge(node, 3)
    assert [PurgeLog] == [type(command) for command in node.accept(3, 3)][:1]


def test_whoever_waited_in_vain_is_told_who_holds_it_up():
    node = leader_with_request_under_way()
    purge(node, 3, wait_ms=100)
    node.now += 100
    (outcome,) = outcomes(node.tick())
    assert (True, False, [3]) == (outcome.changed, outcome.observed, outcome.effective["deferred_by"])
    assert "deferred: requests to node 3" in outcome.detail


def test_a_lost_connection_ends_the_wait():
    node = leader_with_request_under_way()
    purge(node, 3)
    assert [PurgeLog] == [type(command) for command in node.do(PeerLost(peer(3), "reset"))]


def test_a_follower_waits_for_nobody():
    assert [PurgeLog] == [type(command) for command in purge(node_with_snapshot(), 4)]


def test_nothing_new_is_sent_from_what_is_scheduled_to_go():
    from raft_engine.core.progress import Mode

    node = leader_with_request_under_way()
    purge(node, 3)
    node.target(2).matching = 0
    node.target(2).probe(99, 2)
    node.accept(2, 0)
    assert Mode.SNAPSHOT is node.target(2).mode


# -- rule 3: the policy -------------------------------------------------------------------------------------------------------------


def test_the_policy_keeps_entries_for_slow_followers():
    node = Node(log=[3] * 9, applied=at(3, 10), config={"max_in_snapshot_log_to_keep": 3})
    assert [PurgeLog(IoId(1), at(3, 5))] == node.do(SnapshotBuilt(meta(3, 8)))


def test_the_policy_waits_for_a_whole_batch():
    node = Node(log=[3] * 9, applied=at(3, 10), config={"max_in_snapshot_log_to_keep": 3, "purge_batch_size": 6})
    assert [] == node.do(SnapshotBuilt(meta(3, 8)))
    assert [PurgeLog(IoId(1), at(3, 7))] == node.do(SnapshotBuilt(meta(3, 10)))


def test_an_operator_asks_for_what_the_policy_would_keep():
    assert [PurgeLog(IoId(1), at(3, 6))] == purge(node_with_snapshot(), 6)
