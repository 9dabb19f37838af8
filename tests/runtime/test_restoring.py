"""What a node starts with after a crash: raft_engine/runtime/restoring.py."""

from __future__ import annotations

import pytest

from raft_engine.errors import Damaged
from raft_engine.runtime.restoring import membership_at, restore_node
from raft_engine.storage.memory import MemoryLog, MemorySnapshots
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import StoredMembership, decode_membership
from tests.runtime.cluster import Words, first_entry

FIRST = first_entry([1, 2, 3])
FIRST_MEMBERSHIP = StoredMembership(FIRST.log_id, decode_membership(FIRST.data))


def word(index: int, term: int = 1) -> Entry:
    return make_entry(Term(term), NodeId(1), LogIndex(index), EntryKind.NORMAL, f"w{index}".encode())


def log_of(*entries: Entry) -> MemoryLog:
    log = MemoryLog()
    log.append(entries)
    return log


def snapshots_at(log_id: LogId) -> MemorySnapshots:
    snapshots = MemorySnapshots()
    snapshots.build(log_id, FIRST_MEMBERSHIP, [b'["old"]'])
    return snapshots


class Durable(Words):
    """A state machine that survives by itself."""

    def __init__(self, applied: LogId) -> None:
        super().__init__()
        self._applied = applied

    def applied(self) -> LogId:
        return self._applied


def test_a_log_without_a_snapshot_is_taken_as_it_is():
    restored = restore_node(log_of(FIRST, word(2)), MemorySnapshots(), Words())
    assert (restored.applied, restored.last) == (BEFORE_LOG, word(2).log_id)
    assert restored.memberships == (FIRST_MEMBERSHIP,)


def test_a_state_machine_in_memory_begins_with_the_snapshot():
    machine = Words()
    restored = restore_node(log_of(FIRST, word(2), word(3)), snapshots_at(word(2).log_id), machine)
    assert machine.words == ["old"]
    assert (restored.applied, restored.last) == (word(2).log_id, word(3).log_id)


def test_a_state_machine_ahead_of_the_snapshot_is_left_alone():
    machine = Durable(word(3).log_id)
    restored = restore_node(log_of(FIRST, word(2), word(3)), snapshots_at(word(2).log_id), machine)
    assert machine.restored == 0
    assert restored.applied == word(3).log_id


def test_a_log_that_ends_before_the_snapshot_goes_on_behind_it():
    log = log_of(FIRST, word(2))
    restored = restore_node(log, snapshots_at(word(9).log_id), Words())
    assert log.state().purged == word(9).log_id
    assert (restored.purged, restored.last) == (word(9).log_id, word(9).log_id)


def test_a_log_with_another_entry_at_the_snapshots_end_goes_on_behind_it():
    log = log_of(FIRST, word(2), word(3), word(4))
    taken_in = word(3, term=7).log_id
    restored = restore_node(log, snapshots_at(taken_in), Words())
    assert (restored.purged, restored.last) == (taken_in, taken_in)


def test_a_log_purged_at_the_snapshots_end_is_left_alone():
    log = log_of(FIRST, word(2), word(3))
    log.purge(word(2).log_id)
    assert restore_node(log, snapshots_at(word(2).log_id), Words()).last == word(3).log_id


def test_a_hole_between_state_machine_and_log_is_damage():
    log = log_of(FIRST, word(2), word(3))
    log.purge(word(2).log_id)
    with pytest.raises(Damaged, match="a snapshot is missing"):
        restore_node(log, MemorySnapshots(), Words())


def test_a_log_that_ends_before_the_state_machine_is_damage():
    with pytest.raises(Damaged, match="which the state machine has applied"):
        restore_node(log_of(FIRST, word(2)), MemorySnapshots(), Durable(word(5).log_id))


def test_the_configuration_of_the_next_snapshot_is_the_one_in_force_where_the_state_machine_is():
    later = first_entry([1])
    moved = make_entry(Term(1), NodeId(1), LogIndex(3), EntryKind.MEMBERSHIP, later.data)
    at_two = restore_node(log_of(FIRST, word(2), moved), MemorySnapshots(), Durable(word(2).log_id))
    at_three = restore_node(log_of(FIRST, word(2), moved), MemorySnapshots(), Durable(moved.log_id))
    assert membership_at(at_two) == FIRST_MEMBERSHIP
    assert membership_at(at_three) == StoredMembership(moved.log_id, decode_membership(later.data))
    assert membership_at(restore_node(log_of(FIRST), MemorySnapshots(), Words())) == StoredMembership()
