"""A sync failed, the process ended, and a new one finds in the kernel's memory what the disk does not hold.

The kernel takes the pages of a failed sync for clean (fsyncgate, 2018): syncing once more does nothing and succeeds.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from raft_engine.errors import StorageFailed
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.testing.sim_disk import Change, SimDisk, SimFiles, Write
from raft_engine.testing.storage_suite import entry, log_id, read, write
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.vote import Vote

DATA = Path("/data")


class Machine:
    """A machine whose disk can be made to fail its syncs."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.fails = False
        files = SimFiles(self.disk)
        files.mkdir(DATA)
        files.fsync_dir(DATA.parent)

    def open(self) -> SegmentLog:
        return SegmentLog(DATA, files=SimFiles(self.disk, self._before), segment_bytes=2048, prepare_ahead=False)

    def restarted(self) -> SegmentLog:
        """Only the process ends."""
        self.fails = False
        self.disk.kill()
        return self.open()

    def rebooted(self, *kept: Change) -> SegmentLog:
        """The power is lost, and with it everything that is not on the disk, but for `kept`."""
        self.disk.power_fails(kept)
        return self.open()

    def _before(self, call: str, path: Path) -> None:
        if self.fails and call in {"fsync", "fdatasync"}:
            raise OSError(errno.EIO, "broken", str(path))


def vote(term: int) -> HardState:
    return HardState(Vote(Term(term), NodeId(1), False))


@pytest.fixture
def machine() -> Machine:
    made = Machine()
    log = made.open()
    log.save_hard_state(vote(1))
    write(log, [entry(1, 1), entry(1, 2)])
    return made


def test_entries_that_a_restarted_node_shows_are_on_the_disk(machine: Machine):
    log = machine.restarted()
    log.append([entry(1, 3), entry(1, 4)])
    machine.fails = True
    with pytest.raises(StorageFailed):
        log.sync()
    assert log_id(1, 4) == machine.restarted().state().last
    assert log_id(1, 4) == machine.rebooted().state().last


def test_entries_written_behind_them_are_found_again(machine: Machine):
    log = machine.restarted()
    log.append([entry(1, 3)])
    machine.fails = True
    with pytest.raises(StorageFailed):
        log.sync()
    write(machine.restarted(), [entry(1, 4)])
    assert [1, 2, 3, 4] == [found.index for found in read(machine.rebooted(), 1, 4)]


def test_a_vote_that_a_restarted_node_shows_is_on_the_disk(machine: Machine):
    log = machine.restarted()
    log.save_hard_state(vote(2))
    machine.fails = True
    with pytest.raises(StorageFailed):
        log.sync()
    assert vote(2) == machine.restarted().hard_state()
    assert vote(2) == machine.rebooted().hard_state()


def test_the_vote_after_it_may_be_cut_short(machine: Machine):
    log = machine.restarted()
    log.save_hard_state(vote(2))
    machine.fails = True
    with pytest.raises(StorageFailed):
        log.sync()
    log = machine.restarted()
    log.save_hard_state(vote(3))
    written = machine.disk.pending[-1]
    assert isinstance(written, Write)
    assert vote(2) == machine.rebooted(Write(written.node, written.offset, written.data[:30])).hard_state()


def test_what_was_cut_off_does_not_come_back(machine: Machine):
    log = machine.restarted()
    write(log, [entry(1, 3, b"x" * 100)])
    calls: list[str] = []

    def before(call: str, path: Path) -> None:
        calls.append(call)
        if call == "fdatasync" and path.suffix == ".seg" and "pwrite" in calls:
            raise OSError(errno.EIO, "broken", str(path))

    machine.disk.kill()
    files = SimFiles(machine.disk)
    broken = SegmentLog(DATA, files=files, segment_bytes=2048, prepare_ahead=False)
    files.before = before
    with pytest.raises(StorageFailed):
        broken.truncate(LogIndex(2))
    assert log_id(1, 2) == machine.restarted().state().last
    assert log_id(1, 2) == machine.rebooted().state().last
