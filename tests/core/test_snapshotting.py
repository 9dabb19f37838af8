"""When a snapshot is built, and what a built one changes."""

from __future__ import annotations

from raft_engine.core.commands import BuildSnapshot, PurgeLog
from raft_engine.core.events import Applied, SnapshotBuilt, SnapshotRequested
from raft_engine.core.snapshotting import REST_PER_BUILD
from raft_engine.types.outcomes import Expectation, RefusalCode, TriggerOutcome
from tests.core.builder import Node, at, meta, outcomes


def snapshot(node: Node, wait_ms: float = 1000.0, **expect):
    return node.do(SnapshotRequested(node.ticket(), wait_ms, Expectation(**expect)))


def node_with(applied: int = 5, last: int = 8, **settings) -> Node:
    return Node(log=[3] * (last - 1), applied=at(3, applied), **settings)


def test_any_node_builds_when_asked():
    assert [BuildSnapshot()] == snapshot(node_with())


def test_the_caller_is_answered_when_the_snapshot_covers_what_was_applied_at_the_call():
    node = node_with()
    snapshot(node)
    outcome = TriggerOutcome(True, True, "snapshot up to 5", {"upto": 5, "size_bytes": 100})
    assert [outcome] == outcomes(node.do(SnapshotBuilt(meta(3, 5))))


def test_nothing_applied_is_nothing_to_snapshot():
    (refusal,) = outcomes(snapshot(Node()))
    assert RefusalCode.BLANK is refusal.code


def test_a_snapshot_that_covers_everything_is_no_change():
    node = node_with(snapshot=meta(3, 5))
    outcome = TriggerOutcome(False, True, "the snapshot up to 5 covers everything applied", {"upto": 5, "size_bytes": 100})
    assert [outcome] == outcomes(snapshot(node))


def test_one_build_at_a_time():
    node = node_with()
    snapshot(node)
    assert [] == snapshot(node)


def test_whoever_joins_a_running_build_is_answered_with_it():
    node = node_with()
    snapshot(node)
    snapshot(node)
    assert 2 == len(outcomes(node.do(SnapshotBuilt(meta(3, 5)))))


def test_whoever_needs_more_than_the_running_build_has_another_built():
    node = node_with()
    snapshot(node)
    node.state.committed = node.state.apply_submitted = 7
    node.applied(at(3, 7), 2)
    snapshot(node)
    commands = node.do(SnapshotBuilt(meta(3, 5)))
    assert ([BuildSnapshot()], 1) == (
        [item for item in commands if isinstance(item, BuildSnapshot)],
        len(outcomes(commands)),
    )
    assert [7] == [outcome.effective["upto"] for outcome in outcomes(node.do(SnapshotBuilt(meta(3, 7))))]


def test_a_build_that_was_put_off_is_told():
    node = node_with()
    snapshot(node)
    (refusal,) = outcomes(node.do(SnapshotBuilt(None)))
    assert (RefusalCode.SNAPSHOT_DEFERRED, False) == (refusal.code, node.state.building_snapshot)


def test_a_finished_snapshot_moves_the_cursor_forward_only():
    node = node_with(snapshot=meta(3, 5))
    node.do(SnapshotBuilt(meta(3, 4)))
    assert 5 == node.state.snapshot.last_log_id.index


def test_a_second_build_at_the_same_index_is_harmless():
    node = node_with()
    node.do(SnapshotBuilt(meta(3, 5)))
    node.do(SnapshotBuilt(meta(3, 5)))
    assert meta(3, 5) == node.state.snapshot


def test_every_new_snapshot_lets_the_policy_purge():
    assert [PurgeLog] == [type(command) for command in node_with().do(SnapshotBuilt(meta(3, 5)))]


def test_the_policy_builds_after_enough_entries():
    node = node_with(applied=1, config={"snapshot_logs_since_last": 4})
    node.state.committed = node.state.apply_submitted = 8
    assert [] == node.do(Applied(at(3, 3), [None, None]))
    assert [BuildSnapshot()] == node.do(Applied(at(3, 4), [None]))


def test_the_policy_does_not_try_again_at_once_after_a_put_off():
    node = node_with(applied=1, config={"snapshot_logs_since_last": 4})
    node.state.committed = node.state.apply_submitted = 8
    node.do(Applied(at(3, 4), [None] * 3))
    node.do(SnapshotBuilt(None))
    assert [] == node.do(Applied(at(3, 5), [None]))
    assert [BuildSnapshot()] == node.do(Applied(at(3, 8), [None] * 3))


def test_a_threshold_that_is_passed_during_a_build_is_not_lost():
    node = node_with(applied=1, config={"snapshot_logs_since_last": 3})
    node.state.committed = node.state.apply_submitted = 8
    assert [BuildSnapshot()] == node.do(Applied(at(3, 4), [None] * 3))
    assert [] == node.do(Applied(at(3, 8), [None] * 4))
    assert BuildSnapshot() in node.do(SnapshotBuilt(meta(3, 4)))


def test_the_policy_rests_after_a_build_as_long_as_it_took_nineteen_times():
    node = node_with(applied=1, config={"snapshot_logs_since_last": 2})
    node.state.committed = node.state.apply_submitted = 8
    assert [BuildSnapshot()] == node.do(Applied(at(3, 4), [None] * 3))
    node.now += 10
    node.do(SnapshotBuilt(meta(3, 4)))
    assert [] == node.do(Applied(at(3, 8), [None] * 4))
    assert BuildSnapshot() not in node.tick(10 * REST_PER_BUILD - 1)
    assert BuildSnapshot() in node.tick(1)


def test_an_operator_does_not_wait_for_that_rest():
    node = node_with(applied=1, config={"snapshot_logs_since_last": 2})
    node.state.committed = node.state.apply_submitted = 8
    node.do(Applied(at(3, 4), [None] * 3))
    node.now += 10
    node.do(SnapshotBuilt(meta(3, 4)))
    node.do(Applied(at(3, 5), [None]))
    assert BuildSnapshot() in snapshot(node)


def test_zero_means_never():
    node = node_with(applied=1, config={"snapshot_logs_since_last": 0})
    node.state.committed = node.state.apply_submitted = 8
    assert [] == node.do(Applied(at(3, 8), [None] * 7))


def test_without_waiting_the_build_is_accepted_and_not_observed():
    (outcome,) = outcomes(snapshot(node_with(), wait_ms=0))
    assert (True, False, {"upto": 5}) == (outcome.changed, outcome.observed, outcome.effective)


def test_a_wait_that_ends_is_told_and_the_build_goes_on():
    node = node_with()
    snapshot(node, wait_ms=50)
    (outcome,) = outcomes(node.tick(50))
    assert (False, True) == (outcome.observed, node.state.building_snapshot)


def test_a_snapshot_under_a_wrong_expectation_does_nothing():
    (refusal,) = outcomes(snapshot(node_with(), leader=2))
    assert RefusalCode.PRECONDITION_FAILED is refusal.code


def test_nothing_is_built_while_a_snapshot_is_being_installed():
    node = node_with()
    node.state.installing = meta(3, 20)
    assert [] == [command for command in snapshot(node) if isinstance(command, BuildSnapshot)]
