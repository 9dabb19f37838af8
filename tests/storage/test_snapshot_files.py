"""What snapshots on disk do that the suite cannot see."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import msgspec
import pytest

from raft_engine.errors import Damaged, NewerFormat, StorageError, StorageFailed
from raft_engine.storage.files import Files
from raft_engine.storage.snapshot_files import OPEN_SNAPSHOTS_MAX, SnapshotFiles
from raft_engine.storage.snapshot_format import CHUNK_BYTES_MAX, encode_snapshot
from raft_engine.testing.storage_suite import log_id, stored
from raft_engine.types.snapshot import SnapshotMeta
from tests.storage.disks import CountingFiles, PowerCut, VolatileFiles

CHUNKS = [b"a" * 1000, b"", b"b" * 3000]


def build(snapshots: SnapshotFiles, index: int, chunks=CHUNKS) -> SnapshotMeta:
    return snapshots.build(log_id(1, index), stored(1, 1, 1, 2), chunks)


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "snapshots").iterdir())


def test_only_the_newest_snapshot_is_on_the_disk(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    metas = [build(snapshots, index) for index in (10, 20, 30)]
    assert files_in(tmp_path) == [metas[-1].snapshot_id + ".snap"]
    snapshots.close()


def test_as_many_as_wanted_stay_on_the_disk_and_the_newest_counts(tmp_path):
    snapshots = SnapshotFiles(tmp_path, keep=3)
    metas = [build(snapshots, index) for index in (10, 20, 30, 40, 50)]
    assert (snapshots.kept(), snapshots.newest()) == (metas[-3:], metas[-1])
    assert files_in(tmp_path) == sorted(meta.snapshot_id + ".snap" for meta in metas[-3:])
    assert [list(snapshots.open(meta)) for meta in snapshots.kept()] == [CHUNKS] * 3
    snapshots.close()


def test_a_start_that_shall_keep_fewer_removes_the_oldest(tmp_path):
    snapshots = SnapshotFiles(tmp_path, keep=3)
    metas = [build(snapshots, index) for index in (10, 20, 30)]
    snapshots.close()
    snapshots = SnapshotFiles(tmp_path, keep=2)
    assert snapshots.kept() == metas[-2:]
    assert files_in(tmp_path) == sorted(meta.snapshot_id + ".snap" for meta in metas[-2:])
    snapshots.close()


def test_an_adopted_snapshot_makes_the_oldest_go_as_a_built_one_does(tmp_path):
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    source, snapshots = SnapshotFiles(tmp_path / "source"), SnapshotFiles(tmp_path / "target", keep=2)
    shipped = build(source, 30)
    metas = [build(snapshots, index) for index in (10, 20)]
    snapshots.receive(shipped, 0, source.read_chunk(shipped, 0, shipped.size_bytes), done=True)
    snapshots.adopt(shipped)
    assert snapshots.kept() == [metas[1], shipped]
    source.close()
    snapshots.close()


def test_a_build_that_a_full_disk_ends_gives_back_what_it_took(tmp_path):
    class Full(Files):
        is_full = False

        def pwrite(self, descriptor, data, offset):
            if self.is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().pwrite(descriptor, data, offset)

    files = Full()
    snapshots = SnapshotFiles(tmp_path, files=files)
    old = build(snapshots, 10)

    def chunks():
        yield b"x" * 3_000_000
        files.is_full = True
        yield b"x" * 3_000_000

    with pytest.raises(StorageFailed, match="ENOSPC"):
        build(snapshots, 20, chunks())
    assert files_in(tmp_path) == [old.snapshot_id + ".snap"]
    assert snapshots.newest() == old
    snapshots.close()


def test_the_name_tells_people_what_is_inside(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    assert build(snapshots, 1180).snapshot_id.startswith("T1-N1.1180-")
    snapshots.close()


def test_the_size_is_that_of_the_file(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    meta = build(snapshots, 10)
    assert (tmp_path / "snapshots" / files_in(tmp_path)[0]).stat().st_size == meta.size_bytes
    snapshots.close()


def test_a_build_that_ends_after_a_newer_snapshot_was_adopted_does_not_replace_it(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    newer = build(snapshots, 50)
    build(snapshots, 40)
    assert snapshots.newest() == newer
    assert list(snapshots.open(newer)) == CHUNKS
    snapshots.close()


def test_chunks_that_fail_half_way_leave_the_old_snapshot(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    old = build(snapshots, 10)

    def breaking():
        yield b"x" * 100
        raise RuntimeError("the state machine broke")

    with pytest.raises(RuntimeError):
        build(snapshots, 20, breaking())
    assert snapshots.newest() == old
    assert files_in(tmp_path) == [old.snapshot_id + ".snap"]
    newest = build(snapshots, 30)
    assert list(snapshots.open(newest)) == CHUNKS
    snapshots.close()


def test_what_a_crash_left_half_done_is_removed_at_the_start(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    meta = build(snapshots, 10)
    other = SnapshotMeta(log_id(1, 20), stored(1, 1, 1), "T1-N1.20-00000000", 5000)
    snapshots.receive(other, 0, b"x" * 100, done=False)
    (tmp_path / "snapshots" / "building.tmp").write_bytes(b"half")
    snapshots = SnapshotFiles(tmp_path)
    assert files_in(tmp_path) == [meta.snapshot_id + ".snap"]
    snapshots.close()


def test_of_two_complete_snapshots_the_newer_counts(tmp_path):
    (tmp_path / "older").mkdir()
    older, newer = SnapshotFiles(tmp_path / "older"), SnapshotFiles(tmp_path)
    old, new = build(older, 10), build(newer, 20)
    name = old.snapshot_id + ".snap"
    (tmp_path / "older" / "snapshots" / name).rename(tmp_path / "snapshots" / name)
    snapshots = SnapshotFiles(tmp_path)
    assert snapshots.newest() == new
    assert files_in(tmp_path) == [new.snapshot_id + ".snap"]
    snapshots.close()


def test_every_flipped_bit_is_found(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    meta = build(snapshots, 10)
    path = tmp_path / "snapshots" / files_in(tmp_path)[0]
    content = path.read_bytes()
    for position in range(0, len(content), 41):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        with pytest.raises((Damaged, NewerFormat)):
            list(snapshots.open(meta))
    snapshots.close()


def test_a_snapshot_cut_short_is_refused_at_the_start(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    build(snapshots, 10)
    snapshots.close()
    path = tmp_path / "snapshots" / files_in(tmp_path)[0]
    content = path.read_bytes()
    for size in (0, 10, 30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(Damaged) as caught:
            SnapshotFiles(tmp_path)
        assert caught.value.path == str(path)


def test_a_replaced_snapshot_stays_open_for_its_readers_but_not_for_ever(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    metas = []
    for index in range(1, OPEN_SNAPSHOTS_MAX + 3):
        metas.append(build(snapshots, index))
        snapshots.read_chunk(metas[-1], 0, 10)
    assert len(snapshots._open) == OPEN_SNAPSHOTS_MAX
    assert len(snapshots.read_chunk(metas[-2], 0, 10)) == 10
    with pytest.raises(StorageError):
        snapshots.read_chunk(metas[0], 0, 10)
    snapshots.close()


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "x" * 200, "a\0b"])
def test_an_id_that_leads_elsewhere_is_refused(name, tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    meta = SnapshotMeta(log_id(1, 5), stored(1, 1, 1), name, 100)
    with pytest.raises(StorageError, match="not a snapshot id"):
        snapshots.receive(meta, 0, b"x" * 100, done=True)
    with pytest.raises(StorageError):
        snapshots.read_chunk(meta, 0, 10)
    assert files_in(tmp_path) == []
    snapshots.close()


def test_an_announced_size_takes_no_space(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    meta = SnapshotMeta(log_id(1, 5), stored(1, 1, 1), "T1-N1.5-00000000", 1 << 60)
    assert snapshots.receive(meta, 0, b"x" * 100, done=False) == (100, False)
    assert (tmp_path / "snapshots" / "receiving.tmp").stat().st_size == 100
    snapshots.close()


def test_a_chunk_larger_than_a_reader_accepts_is_refused_when_it_is_written():
    class Huge(bytes):
        def __len__(self):
            return CHUNK_BYTES_MAX + 1

    with pytest.raises(ValueError, match="at most"):
        list(encode_snapshot(SnapshotMeta(), [Huge()]))


def test_a_lost_snapshot_is_an_error_not_an_empty_state(tmp_path):
    snapshots = SnapshotFiles(tmp_path)
    meta = build(snapshots, 10)
    (tmp_path / "snapshots" / files_in(tmp_path)[0]).unlink()
    with pytest.raises(StorageError, match="gone"):
        list(snapshots.open(meta))
    snapshots.close()


def test_random_pieces_in_random_order_end_in_the_same_bytes(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    sender, receiver = SnapshotFiles(source), SnapshotFiles(target)
    meta = build(sender, 10, [os.urandom(700) for _ in range(10)])
    for seed in range(10):
        dice = random.Random(seed)
        another = msgspec.structs.replace(meta, snapshot_id=f"{meta.snapshot_id}{seed}")
        there, complete = 0, False
        while there < meta.size_bytes:
            offset = dice.randrange(max(0, there - 500), min(meta.size_bytes, there + 500))
            data = sender.read_chunk(meta, offset, dice.randrange(1, 900))
            there, complete = receiver.receive(another, offset, data, done=False)
            assert not complete
        assert (target / "snapshots" / "receiving.tmp").read_bytes() == sender.read_chunk(meta, 0, meta.size_bytes)
    assert receiver.receive(meta, 0, sender.read_chunk(meta, 0, meta.size_bytes), done=True) == (meta.size_bytes, True)
    sender.close()
    receiver.close()


@pytest.mark.parametrize("kind", [CountingFiles, VolatileFiles])
def test_killed_at_any_call_there_is_a_whole_snapshot_the_old_one_or_the_new_one(kind, tmp_path):
    (tmp_path / "source").mkdir()
    sender = SnapshotFiles(tmp_path / "source")
    sent = build(sender, 30)
    data = sender.read_chunk(sent, 0, sent.size_bytes)
    sender.close()

    def script(directory, files):
        snapshots = SnapshotFiles(directory, files=files)
        old = build(snapshots, 10)
        yield old
        yield build(snapshots, 20)
        snapshots.receive(sent, 0, data[:1500], done=False)
        snapshots.receive(sent, 1500, data[1500:], done=True)
        snapshots.adopt(sent)
        yield sent

    (tmp_path / "whole").mkdir()
    whole = CountingFiles()
    assert len(list(script(tmp_path / "whole", whole))) == 3
    for fatal in range(1, whole.calls + 1):
        directory = tmp_path / f"cut-{fatal}"
        directory.mkdir()
        files = kind(fatal)
        durable = []
        with pytest.raises(PowerCut):
            durable.extend(script(directory, files))
        if isinstance(files, VolatileFiles):
            files.lose(random.Random(fatal))
        snapshots = SnapshotFiles(directory, files=Files())
        newest = snapshots.newest()
        if newest is not None:
            assert list(snapshots.open(newest)) == CHUNKS, fatal
        assert (newest.last_log_id.index if newest else 0) >= (durable[-1].last_log_id.index if durable else 0), fatal
        snapshots.close()
