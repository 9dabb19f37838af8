"""The simulated disk forgets what a real one may forget, and nothing else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from raft_engine.testing.sim_disk import SimDisk, SimFiles, crash_states

A, B = Path("/a"), Path("/b")


def written(files: SimFiles, path: Path, data: bytes) -> int:
    descriptor = files.open(path, create=True)
    files.pwrite(descriptor, data, 0)
    return descriptor


def test_what_was_not_synced_is_lost_with_the_power():
    disk = SimDisk()
    files = SimFiles(disk)
    descriptor = written(files, A, b"old")
    files.fsync(descriptor)
    files.fsync_dir(Path("/"))
    files.pwrite(descriptor, b"new", 0)
    disk.power_fails()
    assert b"old" == disk.content(A)


def test_a_synced_file_without_a_synced_name_is_not_found():
    disk = SimDisk()
    files = SimFiles(disk)
    files.fsync(written(files, A, b"data"))
    disk.power_fails()
    assert not SimFiles(disk).exists(A)


def test_a_killed_process_loses_nothing_but_can_do_nothing_more():
    disk = SimDisk()
    files = SimFiles(disk)
    descriptor = written(files, A, b"data")
    disk.kill()
    assert b"data" == SimFiles(disk).read_whole(A)
    with pytest.raises(OSError, match="descriptor"):
        files.pwrite(descriptor, b"more", 4)


def test_after_a_failed_sync_the_next_one_succeeds_and_the_data_is_lost():
    disk = SimDisk()
    is_broken = [False]

    def before(call: str, path: Path) -> None:
        if call == "fsync" and is_broken[0]:
            raise OSError(errno.EIO, "broken", str(path))

    files = SimFiles(disk, before)
    descriptor = written(files, A, b"old")
    files.fsync(descriptor)
    files.fsync_dir(Path("/"))
    files.pwrite(descriptor, b"new", 0)
    is_broken[0] = True
    with pytest.raises(OSError, match="broken"):
        files.fsync(descriptor)
    is_broken[0] = False
    files.fsync(descriptor)
    assert b"new" == files.pread(descriptor, 3, 0)
    disk.power_fails()
    assert b"old" == disk.content(A)


def test_a_full_disk_takes_what_fits():
    files = SimFiles(SimDisk(capacity_bytes=5))
    descriptor = files.open(A, create=True)
    with pytest.raises(OSError, match="space"):
        files.pwrite(descriptor, b"12345678", 0)
    assert b"12345" == files.pread(descriptor, 8, 0)
    files.pwrite(descriptor, b"54321", 0)


def test_a_file_is_locked_by_one_process():
    disk = SimDisk()
    first, second = SimFiles(disk), SimFiles(disk)
    first.lock(first.open(A, create=True))
    with pytest.raises(BlockingIOError):
        second.lock(second.open(A))
    disk.kill()
    third = SimFiles(disk)
    third.lock(third.open(A))


def test_a_rename_without_a_sync_before_it_may_name_an_empty_file():
    disk = SimDisk(record=True)
    files = SimFiles(disk)
    written(files, A, b"data")
    files.rename(A, B)
    found = {tuple(state.image()) for _, _, state in crash_states(disk.journal)}
    assert (("/b", b""),) in found
    assert (("/b", b"data"),) in found
    assert (("/a", b"data"),) in found
    assert () in found


def test_a_write_is_torn_at_every_sector():
    disk = SimDisk(record=True)
    files = SimFiles(disk)
    descriptor = files.open(A, create=True)
    files.fsync_dir(Path("/"))
    files.pwrite(descriptor, b"x" * 1600, 100)
    found = {state.content(A) for done, _, state in crash_states(disk.journal) if done == len(disk.journal)}
    heads = {bytes(100) + b"x" * (sector - 100) for sector in (512, 1024, 1536)}
    tails = {bytes(sector) + b"x" * (1700 - sector) for sector in (512, 1024, 1536)}
    assert found == {b"", bytes(1700), bytes(100) + b"x" * 1600, *heads, *tails}
