"""Writing the log in a thread of its own: raft_engine/runtime/log_worker.py."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from raft_engine.core.commands import AppendEntries, PurgeLog, ResetLog, SaveHardState, TruncateLog
from raft_engine.errors import StorageFailed
from raft_engine.runtime.log_worker import LogWorker
from raft_engine.storage.memory import MemoryLog
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import IoId, LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.vote import Vote

VOTE = HardState(Vote(Term(3), NodeId(1), False))


def entries(first: int, last: int) -> tuple[Entry, ...]:
    return tuple(make_entry(Term(1), NodeId(1), LogIndex(i), EntryKind.NORMAL, b"x") for i in range(first, last + 1))


def log_id(index: int) -> LogId:
    return LogId(Term(1), NodeId(1), LogIndex(index))


class RecordingLog(MemoryLog):
    """Says what it was asked for; its first sync waits for `gate`, and it fails at `fail_at`."""

    def __init__(self, fail_at: str = "", error: Exception | None = None) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.gate = threading.Event()
        self.syncing = threading.Event()
        self._fail_at = fail_at
        self._error = error or OSError(28, "No space left on device")

    def append(self, entries: Sequence[Entry]) -> None:
        self._note(f"append {entries[0].index}..{entries[-1].index}")
        super().append(entries)

    def truncate(self, after: LogIndex) -> None:
        self._note(f"truncate {after}")
        super().truncate(after)

    def purge(self, upto: LogId) -> None:
        self._note(f"purge {upto.index}")
        super().purge(upto)

    def reset(self, upto: LogId) -> None:
        self._note(f"reset {upto.index}")
        super().reset(upto)

    def save_hard_state(self, hard_state: HardState) -> None:
        self._note("save")
        super().save_hard_state(hard_state)

    def sync(self) -> None:
        self.syncing.set()
        assert self.gate.wait(10)
        self._note("sync")

    def _note(self, call: str) -> None:
        if self._fail_at and call.startswith(self._fail_at):
            self.syncing.set()
            raise self._error
        self.calls.append(call)


class Heard:
    def __init__(self) -> None:
        self.flushed: list[int] = []
        self.failed: list[BaseException] = []


def run(log: RecordingLog, first, *rest) -> Heard:
    """Hand over `first`; once its sync is under way, all the rest at once; let it finish."""
    heard = Heard()
    worker = LogWorker(log, heard.flushed.append, heard.failed.append)
    worker.put([first])
    assert log.syncing.wait(10)
    for command in rest:
        worker.put([command])
    log.gate.set()
    worker.stop()
    return heard


def test_what_gathers_during_a_sync_is_written_in_order_with_one_sync():
    log = RecordingLog()
    heard = run(
        log,
        AppendEntries(IoId(1), entries(1, 2)),
        AppendEntries(IoId(2), entries(3, 3)),
        AppendEntries(IoId(3), entries(4, 5)),
        SaveHardState(IoId(4), VOTE),
        TruncateLog(IoId(5), LogIndex(4)),
        AppendEntries(IoId(6), entries(5, 6)),
        PurgeLog(IoId(7), log_id(3)),
        ResetLog(IoId(8), log_id(20)),
    )
    later = ["append 3..5", "save", "truncate 4", "append 5..6", "purge 3", "reset 20", "sync"]
    assert ["append 1..2", "sync", *later] == log.calls
    assert heard.flushed == [1, 8]
    assert heard.failed == []


@pytest.mark.parametrize("fail_at", ["append", "sync", "save"])
def test_after_a_failure_nothing_is_written_and_nothing_is_reported(fail_at):
    log = RecordingLog(fail_at)
    heard = run(
        log,
        SaveHardState(IoId(1), VOTE),
        AppendEntries(IoId(2), entries(1, 1)),
        SaveHardState(IoId(3), VOTE),
    )
    assert [io_id for io_id in heard.flushed if io_id > 1] == []
    assert [StorageFailed] == [type(error) for error in heard.failed]
    assert "No space left" in str(heard.failed[0])
    assert log.calls.count("save") <= 1


def test_an_error_of_ours_is_reported_as_it_is():
    error = StorageFailed("disk is full")
    heard = run(RecordingLog("append", error), AppendEntries(IoId(1), entries(1, 1)))
    assert [error] == heard.failed


def test_stopping_finishes_what_is_queued():
    log = RecordingLog()
    heard = run(log, AppendEntries(IoId(1), entries(1, 1)), AppendEntries(IoId(2), entries(2, 2)))
    assert log.state().last.index == 2
    assert heard.flushed[-1] == 2
