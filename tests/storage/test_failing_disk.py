"""A disk that is full or broken: the stores say so, acknowledge nothing more, and what was durable is still there."""

from __future__ import annotations

import errno

import pytest

from raft_engine.errors import Fatal, StorageFailed
from raft_engine.storage.files import Files, storage_failed
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.storage.snapshot_files import SnapshotFiles
from raft_engine.testing.storage_suite import blanks, log_id, read, stored, write
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.vote import Vote
from tests.storage.disks import FailingFiles

SAVED = HardState(Vote(Term(1), NodeId(1), committed=False))
WRITES = {
    "append": lambda log: log.append(blanks(11, 12)),
    "sync": lambda log: log.sync(),
    "save_hard_state": lambda log: log.save_hard_state(HardState(Vote(Term(2), NodeId(1), committed=False))),
    "truncate": lambda log: log.truncate(LogIndex(5)),
    "purge": lambda log: log.purge(log_id(1, 9)),
    "reset": lambda log: log.reset(log_id(3, 30)),
}


def open_log(directory, files):
    return SegmentLog(directory, files=files, segment_bytes=4096, prepare_ahead=False)


def working_log(directory) -> tuple[SegmentLog, FailingFiles]:
    files = FailingFiles()
    log = open_log(directory, files)
    log.save_hard_state(SAVED)
    write(log, blanks(1, 10))
    return log, files


def break_now(files: FailingFiles, error: int = errno.EIO) -> None:
    files.error, files.fatal = error, files.calls + 1


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", [name for name in WRITES if name != "sync"])
def test_a_write_that_fails_says_which_error_and_where(call, error, tmp_path):
    log, files = working_log(tmp_path)
    break_now(files, error)
    with pytest.raises(StorageFailed) as caught:
        WRITES[call](log)
    assert call in str(caught.value)
    assert errno.errorcode[error] in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "hint: " in str(caught.value)
    assert isinstance(caught.value, Fatal)
    log.close()


@pytest.mark.parametrize("failing", list(WRITES))
@pytest.mark.parametrize("later", list(WRITES))
def test_after_a_failure_every_write_fails_even_if_the_disk_works_again(failing, later, tmp_path):
    log, files = working_log(tmp_path)
    if failing == "sync":
        log.append(blanks(11, 11))
    break_now(files)
    with pytest.raises(StorageFailed):
        WRITES[failing](log)
    files.fatal = None
    with pytest.raises(StorageFailed):
        WRITES[later](log)
    log.close()


def test_a_failed_sync_is_not_retried_and_what_was_synced_is_kept(tmp_path):
    log, files = working_log(tmp_path)
    log.append(blanks(11, 12))
    break_now(files)
    for _ in range(2):
        with pytest.raises(StorageFailed):
            log.sync()
    log.close()
    log = open_log(tmp_path, Files())
    assert log.hard_state() == SAVED
    assert read(log, 1, 10) == blanks(1, 10)
    log.close()


def test_a_log_that_failed_can_still_be_read(tmp_path):
    log, files = working_log(tmp_path)
    break_now(files)
    with pytest.raises(StorageFailed):
        log.append(blanks(11, 12))
    assert read(log, 1, 10) == blanks(1, 10)
    log.close()


def test_opening_on_a_broken_disk_fails_clearly_at_every_call(tmp_path):
    log, _ = working_log(tmp_path / "node")
    log.close()
    probe = FailingFiles()
    open_log(tmp_path / "node", probe).close()
    for fatal in range(1, probe.calls + 1):
        with pytest.raises(StorageFailed, match="EIO"):
            open_log(tmp_path / "node", FailingFiles(fatal))
    log = open_log(tmp_path / "node", Files())
    assert log.state().last == log_id(1, 10)
    log.close()


def test_a_disk_that_fills_up_while_a_snapshot_is_built_leaves_the_old_one(tmp_path):
    files = FailingFiles(error=errno.ENOSPC)
    snapshots = SnapshotFiles(tmp_path, files=files)
    old = snapshots.build(log_id(1, 5), stored(1, 1, 1), [b"old"])
    for fatal in range(1, 5):
        files.fatal = files.calls + fatal
        with pytest.raises(StorageFailed, match="ENOSPC"):
            snapshots.build(log_id(1, 9), stored(1, 1, 1), [b"new"])
        files.fatal = None
        assert snapshots.newest() == old
        assert list(snapshots.open(old)) == [b"old"]
    snapshots.close()
    # The last failure came after the rename: then either is right, as long as it is whole.
    newest = SnapshotFiles(tmp_path).newest()
    assert newest is not None
    assert newest.last_log_id in {log_id(1, 5), log_id(1, 9)}


def test_an_error_nobody_thought_of_has_a_name_too(tmp_path):
    failed = storage_failed(OSError(errno.EMFILE, "Too many open files", str(tmp_path / "x")), "log append", tmp_path)
    assert str(failed).startswith("log append failed with EMFILE: Too many open files (")
    assert str(tmp_path / "x") in str(failed)
