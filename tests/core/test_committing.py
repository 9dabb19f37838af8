"""How far the log is agreed and applied."""

from __future__ import annotations

from raft_engine.core.commands import Apply, Respond, RespondWrites, SaveHardState
from raft_engine.core.events import (
    Applied,
    MessageReceived,
    ReadsRequested,
    ShutdownRequested,
    SnapshotChunkStored,
    SnapshotInstalled,
    WriteRequested,
)
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import Ticket
from raft_engine.types.messages import SnapshotChunk
from raft_engine.types.outcomes import CommitOutcome, Expectation, ReadOutcome, RefusalCode
from tests.core.builder import Node, append, at, entry, leader, leads, meta, outcomes, peer, reports, vote

WIPED = Recovery(at(3, 3), "wiped")


def mine(index: int):
    return at(1, index, node=1)


def test_what_is_committed_and_durable_is_applied():
    node = leader()
    node.write(b"a")
    node.flush()
    assert Apply(2, mine(3)) in node.accept(2, 3)


def test_what_is_committed_is_applied_when_it_becomes_durable():
    node = leader()
    node.write(b"a")
    node.accept(2, 3)
    node.accept(3, 3)
    assert [Apply(2, mine(3))] == node.flush()


def test_nothing_is_applied_twice():
    node = Node(log=[3, 3], hard=leads(3))
    node.hear(2, append(leads(3), at(3, 3), committed=2))
    assert [Apply(2, at(3, 3))] == [
        command for command in node.hear(2, append(leads(3), at(3, 3), committed=3)) if isinstance(command, Apply)
    ]


def test_a_restarted_node_applies_from_what_its_state_machine_holds():
    node = Node(log=[3, 3], hard=leads(3), applied=at(3, 2))
    commands = node.hear(2, append(leads(3), at(3, 3), committed=3))
    assert [Apply(2, at(3, 3))] == [command for command in commands if isinstance(command, Apply)]


def test_a_write_is_answered_when_it_is_applied_with_the_state_machines_result():
    node = leader()
    node.write(b"a", b"b")
    node.flush()
    assert [] == outcomes(node.accept(2, 4))
    assert [RespondWrites([(2, mine(3), "A"), (3, mine(4), "B")])] == node.do(Applied(mine(4), ["A", "B"]))


def test_only_the_applied_writes_are_answered():
    node = leader()
    node.write(b"a")
    node.flush()
    node.accept(2, 3)
    node.write(b"b")
    (answer,) = node.do(Applied(mine(3), ["A"]))
    assert [(2, mine(3), "A")] == answer.writes


def test_results_of_entries_without_a_waiting_caller_go_nowhere():
    node = Node(log=[3], hard=leads(3))
    node.hear(2, append(leads(3), at(3, 2), committed=2))
    assert [] == node.do(Applied(at(3, 2), [None, None]))


def test_an_application_from_before_a_snapshot_is_no_news():
    node = Node(log=[3, 3], hard=leads(3), applied=at(3, 3))
    node.do(Applied(at(3, 2), [None]))
    assert at(3, 3) == node.state.applied


def test_an_overtaken_write_has_an_unknown_outcome():
    node = leader()
    node.write(b"a")
    commands = node.hear(2, append(leads(2), at(0, 1), entry(1, 2, node=1), entry(2, 3)))
    (refusal,) = outcomes(commands)
    assert RefusalCode.OUTCOME_UNKNOWN is refusal.code


def test_a_write_survives_the_loss_of_leadership_and_is_answered_when_a_later_leader_commits_it():
    node = leader()
    node.write(b"a")
    node.flush()
    node.hear(2, append(leads(2), mine(3), entry(2, 4), committed=3))
    assert [RespondWrites([(2, mine(3), "A")])] == node.do(Applied(mine(3), ["A"]))


# -- who wants to hear of the commit ---------------------------------------------------------------------------------------


def told_twice(node: Node, **expect) -> list:
    """A write whose caller hears of the commit as ticket 98 and of the result as ticket 99."""
    return node.do(WriteRequested(Ticket(99), b"a", Expectation(**expect), Ticket(98)))


def test_who_wants_hears_of_the_commit_before_the_result():
    node = leader()
    told_twice(node)
    node.flush()
    assert [Respond(Ticket(98), CommitOutcome(mine(3)))] == [c for c in node.accept(2, 3) if isinstance(c, Respond)]
    assert [RespondWrites([(99, mine(3), "A")])] == node.do(Applied(mine(3), ["A"]))


def test_a_commit_is_told_when_a_later_leader_commits_it():
    node = leader()
    told_twice(node)
    node.flush()
    commands = node.hear(2, append(leads(2), mine(3), entry(2, 4), committed=3))
    assert Respond(Ticket(98), CommitOutcome(mine(3))) in commands


def test_neither_commit_nor_result_of_an_overtaken_write_is_known():
    node = leader()
    told_twice(node)
    commands = node.hear(2, append(leads(2), at(0, 1), entry(1, 2, node=1), entry(2, 3)))
    assert [(99, RefusalCode.OUTCOME_UNKNOWN), (98, RefusalCode.OUTCOME_UNKNOWN)] == told(commands)


def test_neither_is_known_when_a_snapshot_passes_the_write():
    node = leader()
    told_twice(node)
    node.hear(2, SnapshotChunk(leads(2), 7, 3, meta(2, 5), 0, b"", done=True))
    node.flush()
    node.do(SnapshotChunkStored(peer(2), 7, 3, meta(2, 5), 100, complete=True))
    node.flush()
    commands = node.do(SnapshotInstalled(meta(2, 5)))
    assert {(99, RefusalCode.OUTCOME_UNKNOWN), (98, RefusalCode.OUTCOME_UNKNOWN)} == set(told(commands))


def test_a_deposed_leaders_write_is_answered_when_a_snapshot_covers_it_in_a_log_that_holds_it():
    node = leader()
    told_twice(node)
    node.flush()
    snapshot = meta(1, 3, node=1)
    node.hear(2, append(leads(2), mine(2)))
    node.hear(2, SnapshotChunk(leads(2), 7, 3, snapshot, 0, b"", done=True))
    node.flush()
    node.do(SnapshotChunkStored(peer(2), 7, 3, snapshot, 100, complete=True))
    node.flush()
    commands = node.do(SnapshotInstalled(snapshot))
    assert [(99, RefusalCode.OUTCOME_UNKNOWN), (98, RefusalCode.OUTCOME_UNKNOWN)] == told(commands)
    assert mine(3) == node.state.log.last


def test_neither_is_known_when_the_node_ends():
    node = leader()
    told_twice(node)
    unknown = RefusalCode.OUTCOME_UNKNOWN
    assert [unknown, unknown] == [code for _, code in told(node.do(ShutdownRequested("the node was shut down")))]


def test_both_hear_of_a_condition_that_does_not_hold():
    commands = told_twice(leader(), term=7)
    assert [(98, RefusalCode.PRECONDITION_FAILED), (99, RefusalCode.PRECONDITION_FAILED)] == told(commands)


def told(commands) -> list[tuple[int, RefusalCode]]:
    return [(command.ticket, command.outcome.code) for command in commands if isinstance(command, Respond)]


# -- reads -----------------------------------------------------------------------------------------------------------------


def test_a_read_waits_for_its_index_to_be_applied():
    node = leader()
    node.write(b"a")
    node.flush()
    node.accept(2, 3)
    node.do(ReadsRequested([node.ticket()], False, 1000.0))
    assert [] == outcomes(node.accept(2, 3))
    assert [ReadOutcome(3)] == outcomes(node.applied(mine(3), 1))


# -- the end of a recovery --------------------------------------------------------------------------------------------------


def test_a_recovery_ends_when_the_barrier_is_durable():
    node = Node(hard=leads(3), recovery=WIPED)
    node.hear(2, append(leads(3), at(0, 1), entry(3, 2), entry(3, 3)))
    assert WIPED == node.state.recovery
    (saved,) = [command for command in node.flush() if isinstance(command, SaveHardState)]
    assert HardState(leads(3), None) == saved.hard_state


def test_a_recovery_does_not_end_while_only_what_comes_before_the_barrier_is_durable():
    node = Node(hard=leads(3), recovery=WIPED)
    node.hear(2, append(leads(3), at(0, 1), entry(3, 2)))
    node.hear(2, append(leads(3), at(3, 2), entry(3, 3)))
    node.flush_first(1)
    assert (2, WIPED) == (node.state.flushed, node.state.recovery)


def test_the_same_index_of_another_term_does_not_end_a_recovery():
    node = Node(hard=leads(4), recovery=WIPED)
    node.hear(2, append(leads(4), at(0, 1), entry(4, 2), entry(4, 3)))
    node.flush()
    assert WIPED == node.state.recovery


def test_a_node_that_was_stopped_before_its_recovery_was_saved_ends_it_at_start():
    node = Node(log=[3, 3], hard=vote(3, 2), recovery=WIPED)
    assert None is node.state.recovery


def test_the_end_of_a_recovery_is_reported():
    node = Node(hard=leads(3), recovery=Recovery(at(3, 2), "wiped"))
    node.hear(2, append(leads(3), at(0, 1), entry(3, 2)))
    from raft_engine.core.events import LogIoFlushed

    assert "recovered" in reports(node.handle(LogIoFlushed(node.state.last_io)))


def test_the_commit_index_moves_forward_only():
    node = leader()
    node.write(b"a")
    node.flush()
    node.accept(2, 3)
    node.handle(MessageReceived(peer(3), append(leads(5), at(0, 1))))
    assert 3 == node.state.committed


# -- a state machine that is behind ------------------------------------------------------------------------------------------


def applies(commands) -> list[tuple[int, int]]:
    return [(command.after, command.upto.index) for command in commands if isinstance(command, Apply)]


def test_no_more_is_asked_to_be_applied_than_the_state_machine_has_room_for():
    node = Node(log=[3, 3, 3, 3], hard=leads(3), config={"state_machine_channel_size": 2})
    assert [(0, 2)] == applies(node.hear(2, append(leads(3), at(3, 5), committed=5)))


def test_what_was_held_back_is_asked_for_when_there_is_room_again():
    node = Node(log=[3, 3, 3, 3], hard=leads(3), config={"state_machine_channel_size": 2})
    node.hear(2, append(leads(3), at(3, 5), committed=5))
    assert [(2, 3)] == applies(node.applied(at(0, 1), 1))
    assert [(3, 5)] == applies(node.applied(at(3, 3), 2))
