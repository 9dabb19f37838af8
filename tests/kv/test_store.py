"""The store: what applying entries does, and what readers see."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_engine.kv.commands import (
    Applied,
    BadCommand,
    Check,
    Condition,
    ConditionFailed,
    Delete,
    Put,
    encode_operations,
    encode_put,
)
from raft_engine.kv.store import REMEMBERED_MAX, KeyValueStore
from raft_engine.types.entry import EntryKind
from raft_engine.types.log_id import BEFORE_LOG, LogId
from tests.kv.entries import LEADER, TERM, Log, contents, digest, entry, new_store


@pytest.fixture
def log() -> Log:
    return Log()


def done(revision: int, *, duplicate: bool = False) -> Applied:
    return Applied(TERM, LEADER, revision, duplicate)


# --- single writes ---


def test_what_follows_a_put_in_the_same_batch_sees_it(log):
    put, guarded = encode_put(b"k", b"one"), encode_put(b"k", b"two", Condition(revision=1))
    assert [done(1), done(2)] == log.store.apply([entry(1, put), entry(2, guarded)])
    assert log.store.get(b"k") == (b"two", 2)


def test_a_put_is_read_back_with_the_index_of_its_entry_as_revision(log):
    assert done(1) == log.put(b"k", b"one")
    assert done(2) == log.put(b"k", b"two")
    assert log.store.get(b"k") == (b"two", 2)


def test_the_result_names_the_log_id_of_the_entry(log):
    assert LogId(TERM, LEADER, 1) == log.put(b"k").log_id


def test_a_deleted_key_is_absent(log):
    log.put(b"k")
    assert done(2) == log.delete(b"k")
    assert log.store.get(b"k") is None
    assert log.store.key_count == 0


def test_deleting_an_absent_key_is_done_and_leaves_no_trace(log):
    assert done(1) == log.delete(b"k")
    assert (contents(log.store), log.store.key_count, log.store.data_bytes) == ({}, 0, 0)


def test_blank_and_membership_entries_have_no_result_and_move_the_applied_index(log):
    results = log.store.apply([entry(1, b"", EntryKind.BLANK), entry(2, b"anything", EntryKind.MEMBERSHIP)])
    assert results == [None, None]
    assert LogId(TERM, LEADER, 2) == log.store.last_applied


def test_nothing_survives_a_restart_by_itself(log):
    log.put(b"k")
    assert log.store.applied() == BEFORE_LOG


def test_an_empty_batch_changes_nothing(log):
    assert log.store.apply([]) == []
    assert log.store.last_applied == BEFORE_LOG


def test_size_is_that_of_all_keys_and_values(log):
    log.put(b"key", b"12345")
    log.put(b"key", b"123")
    log.put(b"other", b"1")
    log.delete(b"other")
    assert log.store.data_bytes == 6


# --- conditions ---


def test_a_put_at_the_right_revision_is_done(log):
    log.put(b"k")
    assert done(2) == log.put(b"k", b"new", Condition(revision=1))


def test_a_put_at_another_revision_does_nothing_and_names_the_present_one(log):
    log.put(b"k", b"old")
    assert ConditionFailed(b"k", 1) == log.put(b"k", b"new", Condition(revision=9))
    assert log.store.get(b"k") == (b"old", 1)


def test_a_put_at_a_revision_of_an_absent_key_says_that_it_is_absent(log):
    assert ConditionFailed(b"k", None) == log.put(b"k", b"new", Condition(revision=1))
    assert ConditionFailed(b"k", None) == log.put(b"k", b"new", Condition(revision=0))


def test_a_put_of_an_absent_key_happens_once(log):
    assert done(1) == log.put(b"k", b"first", Condition(absent=True))
    assert ConditionFailed(b"k", 1) == log.put(b"k", b"second", Condition(absent=True))
    assert log.store.get(b"k") == (b"first", 1)


def test_a_conditional_delete_does_nothing_at_another_revision(log):
    log.put(b"k")
    assert ConditionFailed(b"k", 1) == log.delete(b"k", Condition(revision=5))
    assert done(3) == log.delete(b"k", Condition(revision=1))


# --- several operations ---


def test_all_operations_of_an_entry_have_its_revision(log):
    assert done(1) == log.operate(Put(b"a", b"1"), Put(b"b", b"2"))
    assert contents(log.store) == {b"a": (b"1", 1), b"b": (b"2", 1)}


def test_one_failed_check_stops_all_operations_wherever_it_stands(log):
    log.put(b"a", b"old")
    assert ConditionFailed(b"missing", None) == log.operate(Put(b"a", b"new"), Delete(b"a"), Check(b"missing", 1))
    assert contents(log.store) == {b"a": (b"old", 1)}


def test_conditions_look_at_the_state_before_the_entry(log):
    result = log.operate(Put(b"a", b"1"), Put(b"a", b"2", Condition(absent=True)), Check(b"a", None))
    assert done(1) == result
    assert log.store.get(b"a") == (b"2", 1)


def test_the_last_operation_on_a_key_wins(log):
    log.operate(Put(b"a", b"1"), Delete(b"a"), Put(b"b", b"1"), Put(b"b", b"2"), Delete(b"c"))
    assert contents(log.store) == {b"b": (b"2", 1)}


# --- idempotency ---


def test_a_repeated_command_is_not_done_again_and_has_the_first_result(log):
    assert done(1) == log.put(b"k", b"v", None, b"once")
    log.put(b"k", b"other")
    assert done(1, duplicate=True) == log.put(b"k", b"v", None, b"once")
    assert log.store.get(b"k") == (b"other", 2)


def test_a_repeated_refusal_stays_a_refusal(log):
    log.put(b"k", b"v", Condition(revision=5), b"once")
    log.put(b"k")
    repeated = log.put(b"k", b"v", Condition(revision=5), b"once")
    assert ConditionFailed(b"k", None, duplicate=True) == repeated


def test_another_command_with_a_used_idempotency_key_is_not_reported_as_done(log):
    log.put(b"k", b"v", None, b"once")
    assert isinstance(log.put(b"k", b"another", None, b"once"), BadCommand)
    assert log.store.get(b"k") == (b"v", 1)


def test_the_oldest_idempotency_key_is_forgotten_first():
    store = new_store()
    writes = [encode_put(b"k", b"v", None, b"%d" % i) for i in range(REMEMBERED_MAX + 1)]
    store.apply([entry(i + 1, data) for i, data in enumerate(writes)])
    assert store.remembered_count == REMEMBERED_MAX
    end = REMEMBERED_MAX + 2
    again = store.apply([entry(end, writes[1]), entry(end + 1, writes[0]), entry(end + 2, writes[0])])
    assert [done(2, duplicate=True), done(end + 1), done(end + 1, duplicate=True)] == again


# --- bad commands ---


def test_a_bad_command_does_nothing_and_the_next_entry_is_applied(log):
    assert isinstance(log.append(b"rubbish"), BadCommand)
    assert done(2) == log.put(b"k")


def test_a_bad_command_leaves_the_same_state_on_every_node():
    nodes = [Log(), Log()]
    for node in nodes:
        node.put(b"k")
        node.append(b"\xc1 rubbish")
    assert digest(nodes[0].store) == digest(nodes[1].store)


# --- lists ---


@pytest.fixture
def full(log) -> KeyValueStore:
    for key in (b"b/2", b"a", b"b/1", b"c", b"b/3", b"b"):
        log.put(key)
    return log.store


def keys_of(page) -> list[bytes]:
    return [key for key, _, _ in page[0]]


def test_a_list_is_in_order_and_bounded_and_says_where_to_go_on(full):
    page = full.scan(b"", b"", 2)
    assert (keys_of(page), page[1]) == ([b"a", b"b"], b"b")
    page = full.scan(b"", b"b", 4)
    assert (keys_of(page), page[1]) == ([b"b/1", b"b/2", b"b/3", b"c"], None)


def test_a_list_of_a_prefix_stays_within_it(full):
    page = full.scan(b"b/", b"", 10)
    assert (keys_of(page), page[1]) == ([b"b/1", b"b/2", b"b/3"], None)
    page = full.scan(b"b/", b"b/1", 1)
    assert (keys_of(page), page[1]) == ([b"b/2"], b"b/2")


def test_a_list_after_the_last_key_or_beyond_the_prefix_is_empty(full):
    assert full.scan(b"", b"c", 10) == ([], None)
    assert full.scan(b"b/", b"c", 10) == ([], None)
    assert new_store().scan(b"", b"", 10) == ([], None)


def test_a_list_sees_keys_that_came_and_went(full):
    Log(full).delete(b"b/2")
    Log(full).put(b"b/0")
    assert keys_of(full.scan(b"b/", b"", 10)) == [b"b/0", b"b/1", b"b/3"]


# --- against a model ---

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
CONDITIONS = st.one_of(st.none(), st.builds(Condition, revision=st.integers(0, 12)), st.just(Condition(absent=True)))
OPERATIONS = st.one_of(
    st.builds(Put, KEYS, st.binary(max_size=3), CONDITIONS),
    st.builds(Delete, KEYS, CONDITIONS),
    st.builds(Check, KEYS, st.one_of(st.none(), st.integers(1, 12))),
)
COMMANDS = st.lists(st.lists(OPERATIONS, min_size=1, max_size=4), max_size=30)


def holds(model: dict, operation) -> bool:
    revision = model[operation.key][1] if operation.key in model else None
    if isinstance(operation, Check):
        return revision == operation.revision
    return operation.condition is None or revision == operation.condition.revision


@given(COMMANDS)
def test_the_store_agrees_with_a_dict(commands):
    log, model = Log(), {}
    for index, operations in enumerate(commands, start=1):
        result = log.operate(*operations)
        failed = next((operation for operation in operations if not holds(model, operation)), None)
        if failed is not None:
            assert ConditionFailed(failed.key, model.get(failed.key, (b"", None))[1]) == result
            continue
        assert done(index) == result
        for operation in operations:
            if isinstance(operation, Put):
                model[operation.key] = (operation.value, index)
            elif isinstance(operation, Delete):
                model.pop(operation.key, None)
    assert model == contents(log.store)
    assert model == {key: found for key in (b"a", b"b", b"c", b"d") if (found := log.store.get(key))}
    assert sum(len(key) + len(value) for key, (value, _) in model.items()) == log.store.data_bytes


@given(COMMANDS, st.integers(1, 7))
def test_how_entries_are_batched_does_not_matter(commands, batch_entries):
    entries = [entry(i, encode_operations(operations)) for i, operations in enumerate(commands, start=1)]
    one_by_one, batched = new_store(), new_store()
    singly = [result for item in entries for result in one_by_one.apply([item])]
    together = []
    for start in range(0, len(entries), batch_entries):
        together += batched.apply(entries[start : start + batch_entries])
    assert singly == together
    assert digest(one_by_one) == digest(batched)


# --- readers in other threads ---


def test_a_list_in_another_thread_never_shows_half_an_entry(eager_threads):
    """Every entry gives all keys the same value; each list must show one value only."""
    width = 50
    store = new_store()
    keys = [b"%02d" % i for i in range(width)]
    mixed: list[object] = []
    seen: set[int] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            items, _ = store.scan(b"", b"", width)
            seen.update(revision for _, _, revision in items)
            if len({(value, revision) for _, value, revision in items}) > 1 or len(items) not in {0, width}:
                mixed.append(items)

    reader = threading.Thread(target=read)
    reader.start()
    index = 0
    while len(seen) < 100 and reader.is_alive():
        operations = [Put(key, b"%d" % index) for key in keys] if index % 5 else [Delete(key) for key in keys]
        index += 1
        store.apply([entry(index, encode_operations(operations))])
    stop.set()
    reader.join()
    assert mixed == []


def test_what_one_entry_wrote_is_there_for_other_threads_all_at_once(eager_threads):
    """Every entry writes both keys, so whoever has seen one new value must find the other at least as new."""
    store = new_store()
    store.apply([entry(1, encode_operations([Put(b"a", b""), Put(b"b", b"")]))])
    older: list[object] = []
    seen: set[int] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for first, second in ((b"a", b"b"), (b"b", b"a")):
                one, other = store.get(first), store.get(second)
                assert one is not None
                assert other is not None
                seen.add(one[1])
                if other[1] < one[1]:
                    older.append((one, other))

    reader = threading.Thread(target=read)
    reader.start()
    index = 1
    while len(seen) < 300 and reader.is_alive():
        index += 1
        store.apply([entry(index, encode_operations([Put(b"a", b""), Put(b"b", b"")]))])
    stop.set()
    reader.join()
    assert older == []
