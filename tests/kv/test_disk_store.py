"""The store on disk: what survives, what a crash leaves, and what is said when the disk or the file is bad."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Queue
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft_engine.errors import Damaged, NewerFormat, Stopped, StorageFailed
from raft_engine.kv import database, disk_store
from raft_engine.kv.commands import Applied, Delete, Put, encode_operations, encode_put
from raft_engine.kv.disk_store import DiskStore
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.kv.store import REMEMBERED_MAX
from raft_engine.storage.files import Files
from raft_engine.types.entry import Entry
from raft_engine.types.log_id import BEFORE_LOG
from tests.kv.entries import LEADER, STORES, TERM, Log, contents, digest, entry, new_store

KEYS = 20


@pytest.fixture(autouse=True)
def kind(tmp_path):
    """Only the disk here."""
    STORES.kind, STORES.directory = "disk", tmp_path
    yield
    STORES.close()


@pytest.fixture
def open_store(tmp_path):
    """Open (again) the store in one directory; every store is closed at the end."""
    opened: list[DiskStore] = []

    def opener(directory: Path = tmp_path / "sm", **settings) -> DiskStore:
        opened.append(DiskStore(directory, **{"write_after_s": 0.001, **settings}))
        return opened[-1]

    yield opener
    for store in opened:
        store.close()


def nth(index: int) -> Entry:
    """The index-th entry of a log that puts, replaces, deletes and repeats."""
    key = b"key%d" % (index % KEYS)
    if index % 7 == 0:
        return entry(index, encode_operations([Delete(key), Put(b"last", b"%d" % index)]))
    return entry(index, encode_put(key, b"value%d" % index * 20, None, b"once%d" % (index // 2) if index % 3 == 0 else None))


def state_after(index: int) -> MemoryStore:
    store = MemoryStore()
    store.apply([nth(each) for each in range(1, index + 1)])
    return store


def filled(store: DiskStore, upto: int, batch: int = 3) -> DiskStore:
    for start in range(store.last_applied.index + 1, upto + 1, batch):
        store.apply([nth(index) for index in range(start, min(start + batch, upto + 1))])
        store.flush()
    return store


# --- what survives -----------------------------------------------------------------------------------------------------


def test_a_new_store_has_applied_nothing(open_store):
    assert open_store().applied() == BEFORE_LOG


def test_everything_is_there_again_after_closing(open_store):
    before = open_store()
    before.apply([nth(index) for index in range(1, 101)])
    before.close()
    after = open_store()
    assert nth(100).log_id == after.applied() == after.last_applied
    expected = state_after(100)
    assert contents(expected) == contents(after)
    assert digest(expected) == digest(after)
    assert (expected.key_count, expected.data_bytes) == (after.key_count, after.data_bytes)
    assert expected.remembered_count == after.remembered_count


def test_only_what_waits_counts_towards_a_full_layer(open_store):
    """Values that were replaced before they were written are gone: they need no room, and nothing is written for them."""
    store = open_store(write_after_s=3600)
    value = bytes(64 * 1024)
    often = (
        disk_store.WAITING_BYTES_MAX // len(value) + 2
    )  # were they counted, the last one would wait until some are written
    store.apply([entry(index, encode_put(b"same", value)) for index in range(1, often)])
    for index in range(often, 2 * often):
        store.apply([entry(index, encode_put(b"same", value))])
    assert BEFORE_LOG == store.applied()
    for index in range(2 * often, 3 * often):
        store.apply([entry(index, encode_put(b"key%d" % index, value))])
    assert store.applied().index >= 2 * often


def test_a_repeated_command_is_recognised_after_a_restart(open_store):
    before = Log(open_store())
    before.put(b"k", b"v", None, b"once")
    before.store.close()
    after = Log(open_store())
    assert Applied(TERM, LEADER, 1, duplicate=True) == after.put(b"k", b"v", None, b"once")


def test_what_was_forgotten_stays_forgotten_on_the_disk(open_store, monkeypatch):
    monkeypatch.setattr(disk_store, "REMEMBERED_MAX", 3)
    log = Log(open_store())
    for number in range(5):
        log.put(b"k", b"v", None, b"once%d" % number)
        log.store.flush()
    again = log.put(b"k", b"v", None, b"once0")
    assert Applied(TERM, LEADER, 6) == again
    log.store.close()
    after = Log(open_store())
    assert after.store.remembered_count == 3
    assert Applied(TERM, LEADER, 4, duplicate=True) == after.put(b"k", b"v", None, b"once3")
    assert REMEMBERED_MAX > 3


def test_its_files_are_private(open_store, tmp_path):
    filled(open_store(), 10)
    assert {"state-1.db", "state-1.db-wal", "state-1.db-shm"} == {path.name for path in (tmp_path / "sm").iterdir()}
    assert {0o600} == {path.stat().st_mode & 0o777 for path in (tmp_path / "sm").iterdir()}


@settings(max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_memory_and_disk_have_the_same_state_however_it_is_batched(batches):
    memory, disk = MemoryStore(), new_store()
    index = 0
    for size in batches:
        entries = [nth(each) for each in range(index + 1, index + size + 1)]
        assert memory.apply(entries) == disk.apply(entries)
        index += size
    assert digest(memory) == digest(disk)
    assert list(memory.snapshot()) == list(disk.snapshot())


# --- crashes -----------------------------------------------------------------------------------------------------------

APPLY_FOREVER = """
import sys
from pathlib import Path
from raft_engine.kv.disk_store import DiskStore
from tests.kv.test_disk_store import nth
store = DiskStore(Path(sys.argv[1]), write_after_s=float(sys.argv[2]))
index = store.last_applied.index
print(index, flush=True)
while True:
    store.apply([nth(each) for each in range(index + 1, index + 20)])
    index += 19
    if index % 100 < 19:
        print(index, flush=True)
"""


def test_a_killed_process_leaves_the_state_of_the_index_it_names(open_store, tmp_path):
    """It may be behind what was applied, as the log has the rest; but data and index always belong together."""
    root = Path(__file__).parents[2]
    for round_number in range(6):
        command = [sys.executable, "-c", APPLY_FOREVER, str(tmp_path / "sm"), "0.001" if round_number % 2 else "0.02"]
        with subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)}
        ) as process:
            assert process.stdout is not None
            began = int(process.stdout.readline())
            while int(process.stdout.readline()) < began + 200 + 150 * round_number:
                pass
            process.send_signal(signal.SIGKILL)
        store = open_store()
        expected = state_after(store.applied().index)
        assert digest(expected) == digest(store)
        assert (expected.key_count, expected.data_bytes) == (store.key_count, store.data_bytes)
        store.close()


def crashed_copy(source: Path, target: Path, change: Callable[[Path], None]) -> Path:
    """What the disk may hold after a crash: a copy made while the store is open, changed by `change(wal)`."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in ("state-1.db", "state-1.db-wal"):  # the index (-shm) is made anew from these
        shutil.copy(source / name, target / name)
    change(target / "state-1.db-wal")
    return target


def check_is_some_earlier_state(store: DiskStore, newest: int) -> int:
    index = store.applied().index
    assert index <= newest
    assert digest(state_after(index)) == digest(store)
    store.close()
    return index


def test_a_write_ahead_log_cut_anywhere_leaves_an_earlier_state(open_store, tmp_path):
    source = filled(open_store(), 60)
    size = (tmp_path / "sm" / "state-1.db-wal").stat().st_size
    found = set()
    for length in range(0, size + 1, 1024 * 9 + 512):
        directory = crashed_copy(tmp_path / "sm", tmp_path / "crashed", lambda wal, length=length: os.truncate(wal, length))
        if length < 32:  # not even the header, nor the tables
            continue
        found.add(check_is_some_earlier_state(open_store(directory), source.last_applied.index))
    assert len(found) > 10
    assert max(found) < 60


def test_a_torn_write_in_the_write_ahead_log_leaves_an_earlier_state(open_store, tmp_path):
    source = filled(open_store(), 60)
    size = (tmp_path / "sm" / "state-1.db-wal").stat().st_size
    found = set()
    for offset in range(40_000, size, 7919 * 3):

        def tear(wal: Path, offset: int = offset) -> None:
            with wal.open("r+b") as file:
                file.seek(offset)
                file.write(b"\xa5" * 512)  # and everything after it stays as it is

        directory = crashed_copy(tmp_path / "sm", tmp_path / "crashed", tear)
        found.add(check_is_some_earlier_state(open_store(directory), source.last_applied.index))
    assert len(found) > 5


# --- restoring ---------------------------------------------------------------------------------------------------------


class FailingFiles(Files):
    """Fails the n-th call that changes something."""

    def __init__(self, fail_at: int) -> None:
        self._left = fail_at

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise OSError(5, "Input/output error")

    def fsync(self, descriptor: int) -> None:
        self._count()
        super().fsync(descriptor)

    def fsync_dir(self, path: Path) -> None:
        self._count()
        super().fsync_dir(path)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)


def test_a_restore_that_fails_anywhere_leaves_the_old_state_or_the_new_one(open_store, tmp_path):
    chunks: Sequence[bytes] = list(state_after(90).snapshot())
    outcomes = set()
    for fail_at in range(1, 7):
        directory = tmp_path / f"sm{fail_at}"
        filled(open_store(directory), 40).close()
        store = open_store(directory, files=FailingFiles(fail_at))
        with contextlib.suppress(StorageFailed):
            store.restore(iter(chunks), nth(90).log_id)
        store.close()
        after = open_store(directory)
        assert after.applied().index in {40, 90}
        assert digest(state_after(after.applied().index)) == digest(after)
        assert sum(path.suffix == ".db" for path in directory.iterdir()) == 1
        outcomes.add(after.applied().index)
    assert outcomes == {40, 90}


def test_a_damaged_snapshot_changes_nothing(open_store, tmp_path):
    store = filled(open_store(), 40)
    chunks = list(state_after(90).snapshot())
    with pytest.raises(Damaged):
        store.restore(chunks[:-1], nth(90).log_id)
    assert digest(state_after(40)) == digest(store)
    store.close()
    store = open_store()
    assert store.applied().index == 40
    assert "building.db" not in {path.name for path in (tmp_path / "sm").iterdir()}


def test_a_snapshot_begun_before_a_restore_shows_what_was_there(open_store):
    store = filled(open_store(), 40)
    chunks = store.snapshot()
    begin = [next(chunks)]
    store.restore(state_after(90).snapshot(), nth(90).log_id)
    assert list(state_after(40).snapshot()) == begin + list(chunks)
    assert digest(state_after(90)) == digest(store)


# --- bad disks and bad files -------------------------------------------------------------------------------------------


def test_a_full_disk_ends_it_and_what_was_written_before_is_there(open_store):
    store = filled(open_store(), 30)
    store._now.database._writer.execute("PRAGMA max_page_count = 1")
    store.apply([entry(31, encode_put(b"big", bytes(100_000)))])
    with pytest.raises(StorageFailed, match=r"SQLITE_FULL: database or disk is full \(.*state-1.db\); hint: free space"):
        store.flush()
    with pytest.raises(StorageFailed):
        store.apply([nth(32)])
    with pytest.raises(StorageFailed):
        store.snapshot()
    assert store.get(b"big") == (bytes(100_000), 31)
    store.close()
    after = open_store()
    assert digest(state_after(30)) == digest(after)


def test_a_failed_write_is_told_at_once_although_nothing_more_is_applied(open_store):
    store = open_store()
    told: Queue[Exception] = Queue()
    store.watch_failure(told.put)
    store._now.database._writer.execute("PRAGMA max_page_count = 1")
    store.apply([entry(1, encode_put(b"big", bytes(100_000)))])
    assert isinstance(told.get(), StorageFailed)


def test_whoever_comes_too_late_to_hear_of_a_failure_is_told_as_well(open_store):
    store = open_store()
    store._now.database._writer.execute("PRAGMA max_page_count = 1")
    store.apply([entry(1, encode_put(b"big", bytes(100_000)))])
    with pytest.raises(StorageFailed):
        store.flush()
    told: list[Exception] = []
    store.watch_failure(told.append)
    assert [type(error) for error in told] == [StorageFailed]


def test_a_snapshot_that_waits_for_a_failed_write_fails_too(open_store):
    store = open_store(write_after_s=60)
    store._now.database._writer.execute("PRAGMA max_page_count = 1")
    store.apply([entry(1, encode_put(b"big", bytes(100_000)))])
    with pytest.raises(StorageFailed):
        list(store.snapshot())


def test_an_altered_value_is_noticed_by_whoever_reads_it(open_store, tmp_path):
    filled(open_store(), 40).close()
    path = tmp_path / "sm" / "state-1.db"
    data = path.read_bytes()
    assert b"value37" in data
    path.write_bytes(data.replace(b"value37", b"value73"))
    store = open_store()
    [key] = [b"key17"]
    for read in (lambda: store.get(key), lambda: store.scan(b"", b"", 100), lambda: list(store.snapshot())):
        with pytest.raises(Damaged, match=r"key b'key17' is altered \(.*state-1.db\).*move its sm/ directory away"):
            read()
    assert store.get(b"key16") == contents(state_after(40))[b"key16"]


def test_a_file_that_is_no_database_is_damaged(open_store, tmp_path):
    (tmp_path / "sm").mkdir()
    (tmp_path / "sm" / "state-1.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(Damaged, match=r"file is not a database.*move its sm/ directory away") as refused:
        open_store()
    held = [each.resolve() for each in Path("/proc/self/fd").iterdir()]
    assert not [each for each in held if each.is_relative_to(tmp_path)], f"left open by {refused.value!r}"


def changed(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_an_altered_applied_index_is_noticed(open_store, tmp_path):
    filled(open_store(), 10).close()
    changed(tmp_path / "sm" / "state-1.db", "UPDATE meta SET log_index = 11")
    with pytest.raises(Damaged, match="how far it is applied is altered"):
        open_store()


def test_missing_rows_are_noticed_by_a_snapshot(open_store, tmp_path):
    filled(open_store(), 40).close()
    changed(tmp_path / "sm" / "state-1.db", "DELETE FROM items WHERE key = x'6c617374'")
    with pytest.raises(Damaged, match="it has 17 of 18 keys"):
        list(open_store().snapshot())


def test_a_later_format_is_refused(open_store, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "FORMAT", 2)
    open_store().close()
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match="it has format 2; this program reads 1"):
        open_store()


# --- bounds ------------------------------------------------------------------------------------------------------------


def test_applying_waits_when_too_much_is_not_written_yet(open_store, monkeypatch):
    store = open_store(write_after_s=60)
    largest = 0
    value = bytes(500_000)
    for index in range(1, 80):
        store.apply([entry(index, encode_put(b"%d" % index, value))])
        largest = max(largest, sum(layer.size_bytes for layer in store._now.layers))
    assert largest <= disk_store.WAITING_BYTES_MAX + 2 * len(value)
    assert store.key_count == 79


def test_the_write_ahead_log_is_moved_into_the_file_when_it_has_grown(open_store, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_store, "CHECKPOINT_BYTES", 100_000)
    store = open_store()
    for index in range(1, 200):
        store.apply([entry(index, encode_put(b"%d" % (index % 5), bytes(5000)))])
        store.flush()
    assert (tmp_path / "sm" / "state-1.db-wal").stat().st_size < 300_000


def test_a_closed_store_still_knows_its_size_and_refuses_the_rest(open_store):
    store = filled(open_store(), 40)
    store.close()
    assert store.key_count == state_after(40).key_count
    for call in (lambda: store.get(b"nowhere"), lambda: store.scan(b"", b"", 1), store.snapshot, store.digest_view):
        with pytest.raises(Stopped, match="closed"):
            call()


def test_a_restore_syncs_the_database_in_small_steps(open_store):
    class Measuring(Files):
        def __init__(self) -> None:
            self.sizes: list[int] = []

        def fdatasync(self, descriptor: int) -> None:
            self.sizes.append(self.size(descriptor))
            super().fdatasync(descriptor)

    source = MemoryStore()
    source.apply([entry(index, encode_put(b"key%03d" % index, bytes(100_000))) for index in range(1, 101)])
    files = Measuring()
    open_store(files=files).restore(source.snapshot(), nth(100).log_id)
    assert len(files.sizes) > 100 * 100_000 // (2 * disk_store.RESTORE_SYNC_BYTES)


def test_a_restore_rests_after_every_statement(tmp_path, monkeypatch):
    rests: list[float] = []
    clock = itertools.count()
    monkeypatch.setattr(database, "time", SimpleNamespace(monotonic=clock.__next__, sleep=rests.append))
    monkeypatch.setattr(database, "BUILD_REST_MAX_S", 100)
    builder = database.Builder(tmp_path / "new.db")
    builder.add_items([(b"%05d" % number, b"", number) for number in range(2 * database._ROWS_PER_STATEMENT + 1)])
    builder.close()
    assert [database.BUILD_RESTS] * 3 == rests
