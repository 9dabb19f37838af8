"""Sending entries to one target: raft_engine/runtime/peer_sender.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from raft_engine.core.commands import ReplicateEntries
from raft_engine.errors import Damaged, StorageError
from raft_engine.runtime import peer_sender
from raft_engine.runtime.entry_cache import EntryCache
from raft_engine.runtime.peer_sender import PeerSender
from raft_engine.storage.memory import MemoryLog
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.ids import IoId, LogIndex, NodeId, PeerId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.messages import AppendRequest
from raft_engine.types.vote import Vote
from tests.runtime.cluster import peer

TARGET = peer(2)
RECORD_BYTES = 36 + 64


def entries(first: int, last: int) -> list[Entry]:
    return [make_entry(Term(1), NodeId(1), LogIndex(i), EntryKind.NORMAL, b"x" * 64) for i in range(first, last + 1)]


def log_id(index: int) -> LogId:
    return LogId(Term(1), NodeId(1), LogIndex(index)) if index else BEFORE_LOG


class HandThreads:
    """Runs work when told to, as threads that take their time."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable, Callable]] = []

    def run(self, work, then) -> None:
        self.waiting.append((work, then))

    def finish_next(self) -> None:
        work, then = self.waiting.pop(0)
        then(work())


class Sent:
    """A transport that keeps what it should send: (prev, first, last, check)."""

    def __init__(self) -> None:
        self.appends: list[tuple[int, int, int, bool]] = []

    def send_append(self, target: PeerId, request: AppendRequest, entries: Sequence[Entry]) -> None:
        assert target == TARGET
        self.appends.append((request.prev.index, entries[0].index, entries[-1].index, request.check))


class Bench:
    def __init__(self, cached_from: int = 1, last: int = 100, payload_bytes: int = 10 * RECORD_BYTES) -> None:
        self.log = MemoryLog()
        self.log.append(entries(1, last))
        self.cache = EntryCache(cached_from - 1)
        self.cache.append(IoId(1), entries(cached_from, last))
        self.threads = HandThreads()
        self.sent = Sent()
        self.broken: list[str] = []
        self.sender = PeerSender(
            TARGET,
            payload_bytes_max=payload_bytes,
            cache=self.cache,
            log=self.log,
            threads=self.threads,
            transport=self.sent,
            broken=lambda _, reason: self.broken.append(reason),
        )

    def replicate(self, after: int, upto: int, session: int = 1) -> None:
        vote = Vote(Term(1), NodeId(1), True)
        self.sender.replicate(ReplicateEntries(TARGET, vote, session, True, 0, log_id(after), LogIndex(upto), LogIndex(0)))


def test_a_range_in_memory_goes_out_at_once():
    bench = Bench()
    bench.replicate(3, 7)
    assert bench.sent.appends == [(3, 4, 7, True)]


def test_a_range_above_the_byte_limit_goes_out_in_pieces_that_follow_each_other():
    bench = Bench()
    bench.replicate(0, 25)
    assert bench.sent.appends == [(0, 1, 10, True), (10, 11, 20, False), (20, 21, 25, False)]


def test_a_single_entry_above_the_byte_limit_still_travels():
    bench = Bench(payload_bytes=1)
    bench.replicate(0, 2)
    assert bench.sent.appends == [(0, 1, 1, True), (1, 2, 2, False)]


def test_what_a_target_has_not_answered_holds_back_the_rest(monkeypatch):
    monkeypatch.setattr(peer_sender, "WINDOW_BYTES", 20 * RECORD_BYTES)
    bench = Bench()
    bench.replicate(0, 50)
    assert bench.sent.appends == [(0, 1, 10, True), (10, 11, 20, False)]
    bench.sender.acknowledged(1, 10)
    assert bench.sent.appends[2:] == [(20, 21, 30, False)]


def test_an_answer_of_an_older_session_opens_no_window(monkeypatch):
    monkeypatch.setattr(peer_sender, "WINDOW_BYTES", 20 * RECORD_BYTES)
    bench = Bench()
    bench.replicate(0, 50)
    bench.sender.acknowledged(0, 20)
    assert len(bench.sent.appends) == 2


def test_a_new_session_forgets_what_the_old_one_still_had_to_send(monkeypatch):
    monkeypatch.setattr(peer_sender, "WINDOW_BYTES", 20 * RECORD_BYTES)
    bench = Bench()
    bench.replicate(0, 50)
    bench.replicate(30, 35, session=2)
    assert bench.sent.appends[2:] == [(30, 31, 35, True)]


def test_old_entries_are_read_from_the_log_and_later_ranges_wait_their_turn():
    bench = Bench(cached_from=51)
    bench.replicate(0, 10)
    bench.replicate(50, 55)
    assert bench.sent.appends == []
    bench.threads.finish_next()
    assert bench.sent.appends == [(0, 1, 10, True), (50, 51, 55, True)]


def test_what_was_read_for_an_older_session_is_not_sent():
    bench = Bench(cached_from=51)
    bench.replicate(0, 10)
    bench.replicate(50, 55, session=2)
    bench.threads.finish_next()
    assert bench.sent.appends == [(50, 51, 55, True)]


def test_what_was_read_while_entries_were_taken_back_is_not_sent():
    bench = Bench(cached_from=51)
    bench.replicate(0, 10)
    bench.cache.truncate(60)
    bench.threads.finish_next()
    assert bench.sent.appends == []


def test_entries_purged_under_the_reader_make_replication_start_over():
    bench = Bench(cached_from=51)
    bench.replicate(0, 10)
    bench.log.purge(log_id(20))
    bench.threads.finish_next()
    assert bench.sent.appends == []
    assert len(bench.broken) == 1


def test_a_damaged_entry_is_not_passed_over():
    bench = Bench(cached_from=51)

    def read(*_):
        raise Damaged("checksum does not match", path="log")

    bench.log.read = read
    bench.replicate(0, 10)
    with pytest.raises(StorageError, match="checksum"):
        bench.threads.finish_next()
