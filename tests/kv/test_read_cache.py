"""Items that were read lately: what stays, what goes, and that nobody is told what was."""

from __future__ import annotations

import pytest

from raft_engine.errors import Stopped
from raft_engine.kv import read_cache
from raft_engine.kv.disk_store import DiskStore
from raft_engine.kv.read_cache import ABSENT, ReadCache
from tests.kv.entries import STORES, Log, new_store

SIZE = read_cache.ITEM_BYTES + len(b"key0") + len(b"value")


@pytest.fixture(autouse=True)
def kind(tmp_path):
    """Only the disk here: the store in memory is a dictionary."""
    STORES.kind, STORES.directory = "disk", tmp_path
    yield
    STORES.close()


# --- the cache by itself ---------------------------------------------------------------------------------------------------


def test_what_was_not_kept_is_not_known():
    assert ABSENT is ReadCache().get(b"key0")


def test_that_there_is_no_such_key_is_known_too():
    cache = ReadCache()
    cache.keep(b"key0", None)
    assert cache.get(b"key0") is None


def test_it_holds_two_generations_and_no_more(monkeypatch):
    monkeypatch.setattr(read_cache, "GENERATION_BYTES", 3 * SIZE)

    def holds(number: int) -> bool:
        cache = ReadCache()
        for each in range(9):  # 0 to 3 and 4 to 7 fill a generation, 8 begins another
            cache.keep(b"key%d" % each, (b"value", each))
        return cache.get(b"key%d" % number) is not ABSENT

    assert [4, 5, 6, 7, 8] == [number for number in range(9) if holds(number)]


def test_what_is_read_again_stays(monkeypatch):
    monkeypatch.setattr(read_cache, "GENERATION_BYTES", 3 * SIZE)
    cache = ReadCache()
    for number in range(9):
        cache.keep(b"key%d" % number, (b"value", number))
        assert cache.get(b"key0") == (b"value", 0)


# --- under a store -----------------------------------------------------------------------------------------------------------


class Reads:
    """A store with one key in its database, and how often that is looked into."""

    def __init__(self, store: DiskStore) -> None:
        self.store = store
        self.log = Log(store)
        self.count = 0
        self.log.put(b"key", b"old")
        store.flush()
        self._get = store._now.database.get
        store._now.database.get = self.get

    def get(self, key: bytes):
        self.count += 1
        return self._get(key)


@pytest.fixture
def reads():
    return Reads(new_store())


def test_an_item_is_looked_for_in_the_database_once(reads):
    assert [(b"old", 1)] * 3 == [reads.store.get(b"key") for _ in range(3)]
    assert [None] * 3 == [reads.store.get(b"other") for _ in range(3)]
    assert reads.count == 2


def test_a_change_is_seen_whether_or_not_it_is_written(reads):
    assert reads.store.get(b"key") == (b"old", 1)
    reads.log.put(b"key", b"new")
    assert reads.store.get(b"key") == (b"new", 2)
    reads.store.flush()
    assert reads.store.get(b"key") == (b"new", 2)


def test_a_key_that_was_deleted_is_gone_and_one_that_came_is_there(reads):
    assert [(b"old", 1), None] == [reads.store.get(key) for key in (b"key", b"other")]
    reads.log.delete(b"key")
    reads.log.put(b"other", b"new")
    reads.store.flush()
    assert [None, (b"new", 3)] == [reads.store.get(key) for key in (b"key", b"other")]


def test_a_view_alone_changes_nothing_so_what_was_read_stays(reads):
    reads.store.get(b"key")
    list(reads.store.snapshot())
    reads.store.flush()
    assert (reads.store.get(b"key"), reads.count) == ((b"old", 1), 1)


def test_what_was_read_while_a_change_was_written_is_not_kept(reads):
    """The reader is overtaken between its look into the database and its note of what it saw."""
    database = reads.store._now.database

    def overtaken(key: bytes):
        database.get = reads.get
        found = reads.get(key)
        reads.log.put(b"key", b"new")
        reads.store.flush()
        return found

    database.get = overtaken
    assert reads.store.get(b"key") == (b"old", 1)
    assert reads.store.get(b"key") == (b"new", 2)


def test_a_restored_store_tells_nothing_of_what_was(reads, tmp_path):
    other = DiskStore(tmp_path / "other")
    Log(other).put(b"other", b"theirs")
    chunks, last = list(other.snapshot()), other.last_applied
    other.close()
    assert [(b"old", 1), None] == [reads.store.get(key) for key in (b"key", b"other")]
    reads.store.restore(chunks, last)
    assert [None, (b"theirs", 1)] == [reads.store.get(key) for key in (b"key", b"other")]


def test_a_closed_store_tells_nothing(reads):
    reads.store.get(b"key")
    reads.store.close()
    with pytest.raises(Stopped):
        reads.store.get(b"key")
