"""The state machine's file in every crash: killed or powerless at each step of a commit, a checkpoint and a restore.

The files are copied before and after a step; in between lies what the step wrote. A crash leaves any beginning of that, cut at each
sector, or all but one of its sectors. Whatever is found must be the state after the entry that it names, that entry must be in
the log, and applying the rest of the log must lead to where the node was. What a killed process had committed is there.
SQLite orders its own writes by syncs (sqlite.org/wal.html): the write-ahead log before a checkpoint, the file before that log is used
again. Between two syncs nothing is taken for granted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from raft_engine.errors import Damaged
from raft_engine.kv.commands import Delete, Put, encode_operations, encode_put
from raft_engine.kv.database import Database, Meta, _write_meta
from raft_engine.kv.disk_store import DiskStore
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.storage.files import Files
from raft_engine.testing.sim_disk import SECTOR_BYTES
from raft_engine.types.entry import Entry
from tests.kv.entries import digest, entry

NAME, WAL = "state-1.db", "state-1.db-wal"
LOG_END = 60
"""The log has entries up to this one, durably; nothing behind it may ever be found applied."""

Image = dict[str, bytes]
"""Files of a directory, and what is in them."""


def nth(index: int) -> Entry:
    key = b"key%d" % (index % 20)
    if index % 7 == 0:
        return entry(index, encode_operations([Delete(key), Put(b"last", b"%d" % index)]))
    return entry(index, encode_put(key, b"value%d" % index * 40, None, b"once%d" % (index // 2) if index % 3 == 0 else None))


@cache
def digest_after(index: int) -> str:
    store = MemoryStore()
    store.apply([nth(each) for each in range(1, index + 1)])
    return digest(store)


class Step(NamedTuple):
    """What stood in the directory before and after; `committed`: the entry up to which the database goes before, and after."""

    name: str
    before: Image
    after: Image
    committed: tuple[int, int]


def image_of(directory: Path) -> Image:
    """SQLite's index of the write-ahead log (-shm) is made anew from that, and is left out."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm")}


def steps(directory: Path) -> Iterator[Step]:
    """Three commits, a checkpoint, and two commits that use the write-ahead log from its beginning."""
    store = DiskStore(directory, write_after_s=0.001)
    upto = 0
    for name, count in (("commit", 12), ("commit", 12), ("commit", 12), ("checkpoint", 0), ("commit", 6), ("commit", 18)):
        before, begun = image_of(directory), upto
        if name == "checkpoint":
            store._now.database.checkpoint(0)
        else:
            upto += count
            store.apply([nth(index) for index in range(begun + 1, upto + 1)])
            store.flush()
        yield Step(name, before, image_of(directory), (begun, upto))
    store.close()


def sectors(before: bytes, after: bytes) -> list[int]:
    """Return where sectors begin that a step changed."""
    size = max(len(before), len(after))
    return [at for at in range(0, size, SECTOR_BYTES) if before[at : at + SECTOR_BYTES] != after[at : at + SECTOR_BYTES]]


def torn(before: bytes, after: bytes) -> Iterator[bytes]:
    """Yield a file as it may be in the middle: each beginning of what was written, then all but each one of its sectors."""
    changed = sectors(before, after)
    for count in range(len(changed) + 1):
        yield with_sectors(before, after, changed[:count])
    for missing in changed:
        yield with_sectors(before, after, [at for at in changed if at != missing])


def with_sectors(before: bytes, after: bytes, which: list[int]) -> bytes:
    content = bytearray(before)
    for at in which:
        sector = after[at : at + SECTOR_BYTES]
        content.extend(bytes(max(0, at + len(sector) - len(content))))
        content[at : at + len(sector)] = sector
    return bytes(content)


def found(image: Image, directory: Path) -> int:
    """Open what a crash left, check that data and index belong together, and that the log leads on from there."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    for name, content in image.items():
        (directory / name).write_bytes(content)
    store = DiskStore(directory, write_after_s=0.001)
    try:
        index = store.applied().index
        assert index <= LOG_END
        assert digest_after(index) == digest(store)
        store.apply([nth(each) for each in range(index + 1, LOG_END + 1)])
        assert digest_after(LOG_END) == digest(store)
    finally:
        store.close()
    return index


def all_found(commit: Step, directory: Path) -> set[int]:
    """Return the applied indexes that are found after any crash in a commit."""
    return {found({NAME: commit.before[NAME], WAL: wal}, directory) for wal in torn(commit.before[WAL], commit.after[WAL])}


@pytest.fixture(autouse=True)
def kind() -> None:
    """Only the disk here."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return list(steps(tmp_path_factory.mktemp("recorded") / "sm"))


@pytest.mark.parametrize("number", [1, 2, 4, 5])
def test_a_commit_is_there_or_not_wherever_its_write_was_cut(number: int, recorded: list[Step], tmp_path: Path):
    step = recorded[number]
    assert step.name == "commit"
    assert sectors(step.before[NAME], step.after[NAME]) == []
    seen = all_found(step, tmp_path / "sm")
    assert seen <= set(step.committed) | ({recorded[2].committed[1]} if number >= 4 else set())
    assert seen >= set(step.committed)


def test_the_newest_commits_may_be_gone_with_the_power_and_nothing_but_they(recorded: list[Step], tmp_path: Path):
    """None of them was synced: what is left is cut anywhere, also in an earlier one."""
    step = recorded[2]
    wal = step.after[WAL]
    seen = [
        found({NAME: step.after[NAME], WAL: wal[:size]}, tmp_path / "sm") for size in range(0, len(wal), 7 * SECTOR_BYTES)
    ]
    assert seen == sorted(seen)
    assert {0, 12, 24} <= set(seen)


def test_a_checkpoint_that_is_cut_anywhere_loses_nothing(recorded: list[Step], tmp_path: Path):
    step = recorded[3]
    assert len(sectors(step.before[NAME], step.after[NAME])) > 20
    wal = step.before[WAL]
    seen = {found({NAME: content, WAL: wal}, tmp_path / "sm") for content in torn(step.before[NAME], step.after[NAME])}
    assert seen == {step.committed[0]}


def test_a_killed_process_loses_no_commit(recorded: list[Step], tmp_path: Path):
    assert [step.committed[1] for step in recorded] == [found(step.after, tmp_path / "sm") for step in recorded]


def test_an_applied_index_that_is_written_before_its_data_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """These tests can fail."""
    write = Database._write

    def in_two_transactions(self, changes, remembered, applied, window):
        _write_meta(self._writer, Meta(applied, self.meta.key_count, self.meta.data_bytes, *window))
        self._writer.execute("COMMIT")
        self._writer.execute("BEGIN IMMEDIATE")
        return write(self, changes, remembered, applied, window)

    monkeypatch.setattr(Database, "_write", in_two_transactions)
    step = list(steps(tmp_path / "recorded"))[1]
    with pytest.raises((AssertionError, Damaged)):
        all_found(step, tmp_path / "sm")


# --- restoring ---------------------------------------------------------------------------------------------------------


class Watched(Files):
    """Keeps what is in the directory before and after each call that changes something in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.images: list[Image] = []

    def _look(self) -> None:
        self.images.append(image_of(self._directory))

    def fdatasync(self, descriptor: int) -> None:
        self._look()
        super().fdatasync(descriptor)

    def fsync(self, descriptor: int) -> None:
        self._look()
        super().fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._look()
        super().rename(source, target)
        self._look()

    def unlink(self, path: Path) -> None:
        self._look()
        super().unlink(path)
        self._look()


def restored(directory: Path) -> list[Image]:
    """Restore the snapshot at entry 48 over a state at entry 24; return what was there at each step."""
    source = MemoryStore()
    source.apply([nth(each) for each in range(1, 49)])
    chunks = list(source.snapshot())
    store = DiskStore(directory, write_after_s=0.001)
    store.apply([nth(each) for each in range(1, 25)])
    store.flush()
    store._files = files = Watched(directory)
    store.restore(iter(chunks), nth(48).log_id)
    files.images.append(image_of(directory))
    store.close()
    return files.images


def test_a_restore_that_is_killed_at_any_step_leaves_the_old_state_or_the_new_one(tmp_path: Path):
    images = restored(tmp_path / "sm")
    seen = [found(image, tmp_path / "crashed") for image in images]
    assert seen == sorted(seen)
    assert set(seen) == {24, 48}


def test_a_restore_that_loses_its_power_at_any_step_leaves_the_old_state_or_the_new_one(tmp_path: Path):
    """What is being built is cut at each page, and counts for nothing; a name that was not synced is there or not."""
    images = restored(tmp_path / "sm")
    renamed = next(number for number, image in enumerate(images) if "state-2.db" in image)
    old, new = images[renamed - 1], images[renamed]
    building = old["building.db"]
    for size in range(0, len(building), 4096):
        assert found({**old, "building.db": building[:size]}, tmp_path / "crashed") == 24
    assert found(old, tmp_path / "crashed") == 24
    assert found(new, tmp_path / "crashed") == 48
    gone = {name: content for name, content in new.items() if not name.startswith("state-1")}
    for kept in (set(), {NAME}, {WAL}, {NAME, WAL}):
        assert found({**gone, **{name: new[name] for name in kept}}, tmp_path / "crashed") == 48
