"""What the stores ask the disk for in one breath."""

from __future__ import annotations

from pathlib import Path

from raft_engine.testing.sim_disk import SimDisk, SimFiles


def test_a_file_that_was_replaced_is_the_new_one_after_a_power_failure():
    disk = SimDisk()
    files = SimFiles(disk)
    files.mkdir(Path("/d"))
    files.fsync_dir(Path("/"))
    for content in (b"old", b"new"):
        files.replace(Path("/d/file"), content)
    disk.power_fails()
    assert SimFiles(disk).read_whole(Path("/d/file")) == b"new"
