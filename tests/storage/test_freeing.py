"""Giving back the space of large files: raft_engine/storage/freeing.py and what snapshots do with it."""

from __future__ import annotations

import os
from itertools import pairwise
from types import SimpleNamespace

import pytest

from raft_engine.errors import StorageError
from raft_engine.storage import freeing, snapshot_files
from raft_engine.storage.files import Files
from raft_engine.storage.snapshot_files import SYNC_BYTES, SnapshotFiles
from raft_engine.testing.storage_suite import log_id, stored

STEP = 1000


class Watching(Files):
    """Notes what is cut, synced and left open."""

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self.synced: list[int] = []
        self.opened: set[int] = set()

    def open(self, path, *, create=False, write=True):
        descriptor = super().open(path, create=create, write=write)
        self.opened.add(descriptor)
        return descriptor

    def close(self, descriptor):
        super().close(descriptor)
        self.opened.discard(descriptor)

    def cut(self, descriptor, size):
        if size:
            assert os.fstat(descriptor).st_nlink == 0, "a file that still has a name loses nothing"
            self.cuts.append(size)
        super().cut(descriptor, size)

    def fdatasync(self, descriptor):
        self.synced.append(self.size(descriptor))
        super().fdatasync(descriptor)


@pytest.fixture
def rests(monkeypatch):
    """Small steps, and rests that are only noted."""
    found: list[float] = []
    monkeypatch.setattr(freeing, "STEP_BYTES", STEP)
    monkeypatch.setattr(snapshot_files, "STEP_BYTES", STEP)
    monkeypatch.setattr(freeing, "time", SimpleNamespace(sleep=found.append))
    return found


def build(snapshots: SnapshotFiles, index: int, chunks=(b"a" * 2500,)):
    return snapshots.build(log_id(1, index), stored(1, 1, 1, 2), chunks)


def test_a_file_without_a_name_is_given_back_in_steps_with_rests_between(tmp_path, rests):
    files, path = Watching(), tmp_path / "large"
    path.write_bytes(bytes(3 * STEP + 1))
    freeing.free(files, freeing.unname(files, path))
    assert [3 * STEP, 2 * STEP, STEP] == files.cuts
    assert [freeing.REST_S] * 3 == rests
    assert (set(), False) == (files.opened, path.exists())


def test_a_name_that_cannot_be_removed_leaves_the_file_whole_and_nothing_open(tmp_path, rests):
    class Refusing(Watching):
        def unlink(self, path):
            raise PermissionError(str(path))

    files, path = Refusing(), tmp_path / "large"
    path.write_bytes(bytes(3 * STEP))
    with pytest.raises(PermissionError):
        freeing.unname(files, path)
    assert (set(), 3 * STEP, []) == (files.opened, path.stat().st_size, rests)


def test_a_replaced_snapshot_is_given_back_in_steps(tmp_path, rests):
    files = Watching()
    snapshots = SnapshotFiles(tmp_path, files=files)
    build(snapshots, 10)
    newest = build(snapshots, 20)
    assert [2 * STEP, STEP] == files.cuts
    assert rests
    assert [b"a" * 2500] == list(snapshots.open(newest))
    snapshots.close()
    assert set() == files.opened


def test_a_replaced_snapshot_that_is_being_shipped_stays_whole(tmp_path, rests):
    files = Watching()
    snapshots = SnapshotFiles(tmp_path, files=files)
    old = build(snapshots, 10)
    first = snapshots.read_chunk(old, 0, 100)
    build(snapshots, 20)
    assert old.size_bytes == len(first + snapshots.read_chunk(old, 100, old.size_bytes))
    assert [] == files.cuts + rests
    snapshots.close()


def test_a_replaced_snapshot_that_is_being_read_stays_whole(tmp_path, rests):
    files = Watching()
    snapshots = SnapshotFiles(tmp_path, files=files)
    old = build(snapshots, 10, [b"a" * 2500, b"b" * 2500])
    reading = snapshots.open(old)
    assert b"a" * 2500 == next(reading)
    build(snapshots, 20)
    assert [b"b" * 2500] == list(reading)
    assert [] == files.cuts + rests
    with pytest.raises(StorageError, match="gone"):
        next(snapshots.open(old))
    snapshots.close()


def test_a_start_removes_what_is_too_much_at_once(tmp_path, rests):
    snapshots = SnapshotFiles(tmp_path, keep=2)
    build(snapshots, 10)
    newest = build(snapshots, 20)
    snapshots.close()
    files = Watching()
    snapshots = SnapshotFiles(tmp_path, files=files)
    assert [newest] == snapshots.kept()
    assert ([], [], set()) == (files.cuts, rests, files.opened)
    snapshots.close()


def test_a_snapshot_is_synced_in_small_steps_as_it_grows(tmp_path):
    files = Watching()
    snapshots = SnapshotFiles(tmp_path, files=files)
    build(snapshots, 10, [bytes(100_000)] * 60)
    assert files.synced
    assert max(later - earlier for earlier, later in pairwise([0, *files.synced])) <= 2 * SYNC_BYTES
    snapshots.close()
