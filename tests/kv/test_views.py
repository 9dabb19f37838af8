"""Views: the store as it was, however it changes meanwhile, and nothing left behind."""

from __future__ import annotations

import gc
import threading

from hypothesis import given
from hypothesis import strategies as st

from raft_engine.kv.commands import Delete, Put, encode_operations
from raft_engine.kv.store import KeyValueStore
from raft_engine.types.log_id import BEFORE_LOG
from tests.kv.entries import Log, contents, entry, new_store


def restored(chunks, last_log_id) -> KeyValueStore:
    store = new_store()
    store.restore(chunks, last_log_id)
    return store


def filled(count: int) -> Log:
    log = Log()
    log.operate(*[Put(b"%05d" % i, b"old" * 20) for i in range(count)])
    return log


def test_a_snapshot_does_not_show_what_was_applied_after_it_began():
    log = filled(10)
    before, moment = contents(log.store), log.store.last_applied
    chunks = log.store.snapshot()
    log.put(b"00003", b"new")
    log.delete(b"00004")
    log.put(b"added")
    log.put(b"00004", b"back")
    assert before == contents(restored(chunks, moment))


def test_a_snapshot_half_read_does_not_show_changes_in_its_second_half():
    log = filled(4000)
    before, moment = contents(log.store), log.store.last_applied
    chunks = log.store.snapshot()
    read = [next(chunks), next(chunks)]
    log.operate(*[Delete(b"%05d" % i) for i in range(4000)])
    log.operate(*[Put(b"%05d" % i, b"new") for i in range(1, 4000, 2)])
    read += chunks
    assert before == contents(restored(read, moment))


def test_views_of_different_moments_do_not_disturb_each_other():
    log = Log()
    moments = []
    for i in range(5):
        log.put(b"k", b"%d" % i)
        log.put(b"k%d" % i)
        moments.append((contents(log.store), log.store.last_applied, log.store.snapshot()))
    for expected, moment, chunks in moments:
        assert expected == contents(restored(chunks, moment))


def test_a_snapshot_goes_on_when_the_store_is_restored_from_another_one():
    log = filled(10)
    before, moment = contents(log.store), log.store.last_applied
    chunks = log.store.snapshot()
    other = filled(10)
    other.put(b"00003", b"of the other store")
    log.store.restore(other.store.snapshot(), other.store.last_applied)
    log.put(b"00003", b"new")
    assert before == contents(restored(chunks, moment))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([b"a", b"b", b"c"])), min_size=1, max_size=30), st.data())
def test_a_view_taken_anywhere_shows_that_moment(changes, data):
    log = Log()
    taken_at = data.draw(st.integers(0, len(changes)))
    expected, moment, chunks = {}, BEFORE_LOG, iter(())
    for step in range(len(changes) + 1):
        if step == taken_at:
            expected, moment, chunks = contents(log.store), log.store.last_applied, log.store.snapshot()
        if step < len(changes):
            puts, key = changes[step]
            log.put(key, b"%d" % step) if puts else log.delete(key)
    assert expected == contents(restored(chunks, moment))


def test_a_view_is_consistent_while_another_thread_applies(eager_threads):
    """Each entry writes the same number under all keys, so a view that shows two numbers has seen half an entry."""
    store = new_store()
    keys = [b"%04d" % i for i in range(2500)]
    stop = threading.Event()

    def write() -> None:
        index = store.last_applied.index
        while not stop.is_set():
            index += 1
            some = keys if index % 3 else keys[::2]
            operations = [Put(key, b"%d" % index) for key in keys] if index % 3 else [Delete(key) for key in some]
            store.apply([entry(index, encode_operations(operations))])

    store.apply([entry(1, encode_operations([Put(key, b"1") for key in keys]))])
    moments = []
    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(20):
        digest = store.digest_view()  # takes its view between two entries of the writer
        moments.append((digest.log_id.index, digest.value.result()))
    stop.set()
    writer.join()

    replayed = new_store()
    replayed.apply([entry(1, encode_operations([Put(key, b"1") for key in keys]))])
    expected = {1: replayed.digest_view().value.result()}
    for index in range(2, moments[-1][0] + 1):
        operations = [Put(key, b"%d" % index) for key in keys] if index % 3 else [Delete(key) for key in keys[::2]]
        replayed.apply([entry(index, encode_operations(operations))])
        expected[index] = replayed.digest_view().value.result()
    assert [(index, expected[index]) for index, _ in moments] == moments


def test_a_view_is_released_when_it_was_read_to_its_end():
    store = filled(3000).store
    chunks = store.snapshot()
    assert store.view_count == 1
    assert len(list(chunks)) > 2
    assert store.view_count == 0


def test_a_view_is_released_when_its_reader_stops_half_way():
    store = filled(3000).store
    chunks = store.snapshot()
    next(chunks)
    chunks.close()
    gc.collect()
    assert store.view_count == 0


def test_a_view_is_released_when_nobody_ever_reads_it():
    store = filled(10).store
    chunks = store.snapshot()
    assert store.view_count == 1
    del chunks
    gc.collect()
    assert store.view_count == 0
