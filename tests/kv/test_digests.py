"""Digests at marked moments."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

from raft_engine.kv.digests import MARK_DATA, MARKS_MAX, Digest
from raft_engine.types.entry import EntryKind
from tests.kv.entries import Log, digest, new_store


def mark(log: Log) -> int:
    log.append(MARK_DATA, EntryKind.BLANK)
    return log.store.last_applied.index


def test_a_mark_holds_the_digest_of_its_moment():
    log = Log()
    log.put(b"k", b"old")
    expected = digest(log.store)
    index = mark(log)
    log.put(b"k", b"new")
    marked = log.store.digest_at(index)
    assert expected == marked.value.result()
    assert index == marked.log_id.index


def test_a_mark_in_the_middle_of_a_batch_sees_what_came_before_it_only():
    one_batch, singly = Log(), Log()
    singly.put(b"a")
    mark(singly)
    entries = Recorder()
    entries.put(b"a")
    entries.append(MARK_DATA, EntryKind.BLANK)
    entries.put(b"b")
    one_batch.store.apply(entries.recorded)
    assert singly.store.digest_at(2).value.result() == one_batch.store.digest_at(2).value.result()


class Recorder(Log):
    """Keeps the entries that a log would feed."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded = []
        apply = self.store.apply

        def record(entries):
            self.recorded += entries
            return apply(entries)

        self.store.apply = record


def test_nodes_that_applied_the_same_entries_have_the_same_digest_at_a_mark():
    replayed, rejoined = Log(), Log()
    replayed.put(b"k", b"v", None, b"once")
    rejoined.store.restore(replayed.store.snapshot(), replayed.store.last_applied)
    for log in (replayed, rejoined):
        log.put(b"k2")
        mark(log)
    assert replayed.store.digest_at(3).value.result() == rejoined.store.digest_at(3).value.result()


def test_other_blank_entries_mark_nothing():
    log = Log()
    log.append(b"", EntryKind.BLANK)
    log.append(b"other", EntryKind.BLANK)
    assert (log.store.digest_at(1), log.store.digest_at(2)) == (None, None)


def test_a_taken_mark_is_gone():
    log = Log()
    index = mark(log)
    assert log.store.take_mark(index) is not None
    assert (log.store.take_mark(index), log.store.digest_at(index)) == (None, None)


def test_only_the_latest_marks_are_kept():
    log = Log()
    indexes = [mark(log) for _ in range(MARKS_MAX + 3)]
    kept = [index for index in indexes if log.store.digest_at(index)]
    assert indexes[3:] == kept
    assert all(log.store.digest_at(index).value.result() for index in kept)


def test_a_digest_given_up_before_its_turn_frees_its_view():
    log = Log()
    log.put(b"k")
    go = threading.Event()
    with ThreadPoolExecutor(1) as thread, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(go.set)
        thread.submit(go.wait)
        with log.store._gate:
            view = log.store._view(log.store.last_applied)
        waiting = Digest(view, thread)
        del view
        assert (waiting.is_waiting, log.store.view_count) == (True, 1)
        waiting.give_up()
        assert (waiting.value.cancelled(), log.store.view_count) == (True, 0)


def test_the_present_digest_names_the_state_it_is_of():
    log = Log()
    log.put(b"k")
    asked = log.store.digest_view()
    assert log.store.last_applied == asked.log_id
    assert digest(log.store) == asked.value.result()


def test_many_who_ask_for_the_present_digest_share_one_view():
    log = Log()
    log.put(b"k")
    assert log.store.digest_view() is log.store.digest_view()


def test_views_of_digests_are_released():
    log = Log()
    for _ in range(3):
        log.store.digest_view().value.result()
        log.store.digest_at(mark(log)).value.result()
    assert log.store.view_count == 0


def test_a_new_store_has_the_digest_of_nothing():
    assert digest(new_store()) == digest(new_store())


def test_a_closed_store_lets_the_thread_of_its_digests_end():
    before = set(threading.enumerate())
    log = Log()
    log.put(b"k")
    digest(log.store)
    threads = {thread for thread in set(threading.enumerate()) - before if thread.name.startswith("kv-digest")}
    assert len(threads) == 1
    log.store.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
