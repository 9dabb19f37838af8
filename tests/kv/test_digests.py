"""Digests at marked moments."""

from __future__ import annotations

import threading
import weakref

import pytest

from raft_engine.errors import StorageFailed
from raft_engine.kv.commands import encode_put
from raft_engine.kv.digests import AWAITED_MAX, MARK_DATA, MARKS_MAX, Digests
from raft_engine.kv.stream import BLOCK_ROWS_MAX, ROWS_PER_REST
from raft_engine.types.entry import EntryKind
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import LogId
from tests.kv.entries import LEADER, TERM, Log, digest, entry, new_store

KEYS = BLOCK_ROWS_MAX + 2 * ROWS_PER_REST
"""Enough for a digest to be interrupted before it has read them all."""


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


def test_only_the_latest_marks_are_kept():
    log = Log()
    indexes = [mark(log) for _ in range(MARKS_MAX + 3)]
    kept = [index for index in indexes if log.store.digest_at(index)]
    assert indexes[3:] == kept
    assert all(log.store.digest_at(index).value.result() for index in kept)


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


# --- whose turn it is ----------------------------------------------------------------------------------------------------


class Walks:
    """Notes which views were walked over to the end, in order. The first walk stops at its beginning until `go_on` is set."""

    def __init__(self) -> None:
        self.ended: list[int] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()


class WatchedView:
    """A view whose reader is watched."""

    def __init__(self, view, walks: Walks) -> None:
        self._view = view
        self._walks = walks

    def __getattr__(self, name: str):
        return getattr(self._view, name)

    def rows(self):
        self._walks.begun.set()
        assert self._walks.go_on.wait(60)
        yield from self._view.rows()
        self._walks.ended.append(self._view.last_applied.index)


class TwoBlocks:
    """A view of enough keys for a digest to be interrupted."""

    remembered_count = 0

    def __init__(self, index: int) -> None:
        self.last_applied = LogId(TERM, LEADER, LogIndex(index))

    def rows(self):
        return ((b"%06d" % number, b"", 1) for number in range(KEYS))

    def remembered(self):
        return iter(())

    def close(self) -> None:
        """There is nothing to let go of."""


@pytest.fixture
def walks():
    made = Walks()
    yield made
    made.go_on.set()


@pytest.fixture
def digests():
    made = Digests()
    yield made
    made.close()


@pytest.fixture
def threads():
    """Returns the threads for digests that were begun in this test and live."""
    others = set(threading.enumerate())
    return lambda: [each for each in threading.enumerate() if each.name == "kv-digest" and each not in others]


def wait_for_the_end_of(found: list[threading.Thread]) -> None:
    for thread in found:
        thread.join(60)
        assert not thread.is_alive()


def catching_up(log: Log, walks: Walks, monkeypatch) -> list[int]:
    """Apply four marks at once, with writes between them; return their indexes."""
    take_view = log.store._view
    monkeypatch.setattr(log.store, "_view", lambda last_applied: WatchedView(take_view(last_applied), walks))
    entries = [entry(index, encode_put(b"%06d" % index, b"v")) for index in range(1, KEYS + 1)]
    last = len(entries)
    for index in range(last + 1, last + 9, 2):
        entries += [entry(index, encode_put(b"k", b"%d" % index)), entry(index + 1, MARK_DATA, EntryKind.BLANK)]
    log.store.apply(entries)
    return list(range(last + 2, last + 10, 2))


def test_a_node_that_catches_up_over_old_marks_walks_over_its_keys_for_the_newest_one_only(walks, monkeypatch):
    """Each walk over 10^6 keys takes 8 s; the ones for marks of the past would come before the one that is waited for."""
    log = Log()
    marks = catching_up(log, walks, monkeypatch)
    walks.go_on.set()
    assert log.store.digest_at(marks[-1]).value.result()
    assert marks[-1:] == walks.ended


def test_an_older_mark_that_was_interrupted_has_its_digest_when_somebody_asks(walks, monkeypatch):
    log, singly = Log(), Log()
    expected = []
    marks = catching_up(log, walks, monkeypatch)
    for index in range(1, marks[-1] + 1):
        if index in marks:
            singly.append(MARK_DATA, EntryKind.BLANK)
            expected.append(digest(singly.store))
        else:
            singly.put(b"%06d" % index if index < marks[0] - 1 else b"k", b"v" if index < marks[0] - 1 else b"%d" % index)
    walks.go_on.set()
    assert log.store.digest_at(marks[-1]).value.result() == expected[-1]
    assert [log.store.digest_at(mark).value.result() for mark in marks] == expected
    assert log.store.view_count == 0


def test_marks_that_are_asked_for_are_computed_first_and_in_that_order(walks, digests):
    for index in range(1, 5):
        digests.mark(WatchedView(TwoBlocks(index), walks))
    asked = [digests.ask(index) for index in (2, 1, 2)]
    walks.go_on.set()
    assert all(each.value.result() for each in asked)
    assert digests.ask(4).value.result()
    assert [2, 1, 4] == walks.ended


def test_a_mark_may_be_asked_for_before_it_is_applied(walks, digests):
    assert digests.ask(1) is None
    for index in (1, 2):
        digests.mark(WatchedView(TwoBlocks(index), walks))
    walks.go_on.set()
    assert digests.ask(2).value.result()
    assert [1, 2] == walks.ended


def test_so_many_are_remembered_that_were_asked_for_before_they_were_applied(walks, digests):
    for index in range(1, AWAITED_MAX + 2):
        digests.ask(index)
    for index in (1, 2, 3):
        digests.mark(WatchedView(TwoBlocks(index), walks))
    walks.go_on.set()
    assert digests.ask(3).value.result()
    assert [2, 3] == walks.ended


def test_an_older_mark_that_nobody_asks_for_in_time_is_forgotten_and_the_newest_is_not(walks, threads):
    digests = Digests(unasked_s=0)
    first = WatchedView(TwoBlocks(1), walks)
    released = weakref.ref(first)
    digests.mark(first)
    assert walks.begun.wait(60)
    digests.mark(WatchedView(TwoBlocks(2), walks))
    del first
    walks.go_on.set()
    wait_for_the_end_of(threads())
    assert ([2], None) == (walks.ended, digests.ask(1))
    assert digests.ask(2).value.result()
    assert released() is None


def test_a_digest_that_newer_marks_push_out_is_cancelled_and_frees_its_view(walks, digests):
    """Also the one that is being worked on."""
    views = [WatchedView(TwoBlocks(index), walks) for index in range(1, MARKS_MAX + 3)]
    released = [weakref.ref(view) for view in views[:2]]
    digests.mark(views.pop(0))
    assert walks.begun.wait(60)
    digests.mark(views.pop(0))
    pushed_out = [digests.ask(1), digests.ask(2)]
    while views:
        digests.mark(views.pop(0))
    assert all(each.value.cancelled() for each in pushed_out)
    walks.go_on.set()
    assert digests.ask(MARKS_MAX + 2).value.result()
    assert [None, None] == [view() for view in released]
    assert [MARKS_MAX + 2] == walks.ended


def test_a_view_that_cannot_be_read_is_told_to_who_asks_and_the_next_one_is_read(digests):
    class Unreadable(TwoBlocks):
        def rows(self):
            raise StorageFailed("gone")

    digests.mark(Unreadable(1))
    with pytest.raises(StorageFailed, match="gone"):
        digests.ask(1).value.result()
    digests.mark(TwoBlocks(2))
    assert digests.ask(2).value.result()


def test_there_is_a_thread_only_while_there_is_something_to_do(threads):
    log = Log()
    log.put(b"k")
    digest(log.store)
    wait_for_the_end_of(threads())


def test_a_closed_store_lets_the_thread_of_its_digests_end_and_cancels_what_waits(walks, threads, monkeypatch):
    log = Log()
    marks = catching_up(log, walks, monkeypatch)
    asked = log.store.digest_at(marks[0])
    assert walks.begun.wait(60)
    assert len(threads()) == 1
    log.store.close()
    walks.go_on.set()
    wait_for_the_end_of(threads())
    assert asked.value.cancelled()
    assert (walks.ended, log.store.view_count) == ([], 0)
