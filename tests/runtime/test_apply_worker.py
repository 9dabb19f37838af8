"""Driving the state machine: raft_engine/runtime/apply_worker.py."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from raft_engine.core.commands import Apply, BuildSnapshot, InstallSnapshot, StoreSnapshotChunk
from raft_engine.core.events import Applied, SnapshotBuilt, SnapshotChunkStored, SnapshotInstalled
from raft_engine.errors import Panicked, SnapshotDeferred
from raft_engine.runtime import apply_worker
from raft_engine.runtime.apply_worker import ApplyWorker
from raft_engine.runtime.entry_cache import EntryCache
from raft_engine.storage.memory import MemoryLog, MemorySnapshots
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.ids import IoId, LogIndex, NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import StoredMembership, decode_membership
from raft_engine.types.messages import SnapshotChunk
from raft_engine.types.metrics import RestoringMetrics
from raft_engine.types.snapshot import SnapshotMeta
from raft_engine.types.vote import Vote
from tests.runtime.cluster import Words, first_entry, peer

FIRST = first_entry([1, 2, 3])


def word(index: int) -> Entry:
    return make_entry(Term(1), NodeId(1), LogIndex(index), EntryKind.NORMAL, f"w{index}".encode())


def log_id(index: int) -> LogId:
    return word(index).log_id if index > 1 else FIRST.log_id if index else BEFORE_LOG


class HandThreads:
    """Work and later turns, done when told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable, Callable]] = []
        self.later: list[Callable] = []

    def run(self, work, then) -> None:
        self.waiting.append((work, then))

    def soon(self, then) -> None:
        self.later.append(then)

    def finish_next(self) -> None:
        work, then = self.waiting.pop(0)
        then(work())

    def next_turn(self) -> None:
        self.later.pop(0)()


class Bench:
    """A log of the first configuration and nine words; the cache holds it from `cached_from` on."""

    def __init__(self, cached_from: int = 1) -> None:
        entries = [FIRST, *map(word, range(2, 11))]
        log = MemoryLog()
        log.append(entries)
        cache = EntryCache(cached_from - 1)
        cache.append(IoId(1), entries[cached_from - 1 :])
        self.machine = Words()
        self.snapshots = MemorySnapshots()
        self.threads = HandThreads()
        self.events = []
        self.worker = ApplyWorker(
            state_machine=self.machine,
            snapshots=self.snapshots,
            log=log,
            cache=cache,
            threads=self.threads,
            post=self.events.append,
            applied=BEFORE_LOG,
            membership=StoredMembership(),
        )

    def apply(self, after: int, upto: int) -> None:
        self.worker.put(Apply(LogIndex(after), log_id(upto)))

    def applied(self) -> list[int]:
        return [event.upto.index for event in self.events if isinstance(event, Applied)]

    def received(self, words: list[str], index: int) -> SnapshotMeta:
        """Have a leader's snapshot in the store, not yet taken over; return what it covers."""
        leader = MemorySnapshots()
        meta = leader.build(log_id(index), StoredMembership(), [json.dumps(words).encode()])
        data = leader.read_chunk(meta, 0, meta.size_bytes)
        assert self.snapshots.receive(meta, 0, data, done=True) == (len(data), True)
        return meta


def test_entries_in_memory_are_applied_at_once_with_a_result_for_each():
    bench = Bench()
    bench.apply(0, 3)
    assert bench.machine.words == ["w2", "w3"]
    assert bench.events == [Applied(log_id(3), [None, 0, 1])]


def test_a_long_range_is_applied_in_slices_between_which_others_get_their_turn(monkeypatch):
    monkeypatch.setattr(apply_worker, "SLICE_ENTRIES", 4)
    bench = Bench()
    bench.apply(0, 10)
    assert bench.applied() == [4]
    bench.threads.next_turn()
    bench.threads.next_turn()
    assert bench.applied() == [4, 8, 10]
    assert bench.machine.words == [f"w{i}" for i in range(2, 11)]


def test_entries_not_in_memory_are_read_first_and_later_ones_wait():
    bench = Bench(cached_from=6)
    bench.apply(0, 5)
    bench.apply(5, 8)
    assert bench.applied() == []
    bench.threads.finish_next()
    assert bench.applied() == [5, 8]


def test_a_snapshot_is_of_the_moment_it_was_asked_for_whatever_is_applied_meanwhile():
    bench = Bench()
    bench.apply(0, 3)
    bench.worker.put(BuildSnapshot())
    bench.apply(3, 6)
    bench.threads.finish_next()
    meta = bench.snapshots.newest()
    assert bench.events[-1] == SnapshotBuilt(meta)
    assert meta.last_log_id == log_id(3)
    assert json.loads(b"".join(bench.snapshots.open(meta))) == ["w2", "w3"]


def test_a_snapshot_carries_the_configuration_in_force_where_it_ends():
    bench = Bench()
    bench.apply(0, 2)
    bench.worker.put(BuildSnapshot())
    bench.threads.finish_next()
    assert bench.snapshots.newest().membership == StoredMembership(FIRST.log_id, decode_membership(FIRST.data))


def test_chunks_are_kept_in_order_and_reported():
    bench = Bench()
    leader = MemorySnapshots()
    meta = leader.build(log_id(8), StoredMembership(), [b"[]"])
    middle = meta.size_bytes // 2
    vote = Vote(Term(1), NodeId(2), True)
    for offset, end in ((0, middle), (middle, meta.size_bytes)):
        data = leader.read_chunk(meta, offset, end - offset)
        chunk = SnapshotChunk(vote, 4, 7, meta, offset, data, end == meta.size_bytes)
        bench.worker.put(StoreSnapshotChunk(peer(2), chunk))
    bench.threads.finish_next()
    bench.threads.finish_next()
    assert bench.events == [
        SnapshotChunkStored(peer(2), 4, 7, meta, middle, False),
        SnapshotChunkStored(peer(2), 4, 7, meta, meta.size_bytes, True),
    ]


def test_a_leaders_snapshot_replaces_the_state_and_applying_goes_on_behind_it():
    bench = Bench()
    meta = bench.received(["theirs"], 8)
    bench.worker.put(InstallSnapshot(meta))
    bench.apply(8, 9)
    assert bench.machine.words == []
    bench.threads.finish_next()
    assert bench.events == [SnapshotInstalled(meta), Applied(log_id(9), [1])]
    assert bench.machine.words == ["theirs", "w9"]


def test_how_far_a_leaders_snapshot_is_restored_is_told_while_it_is():
    bench = Bench()
    meta = bench.received(["theirs"], 8)
    told = []

    def restore(chunks, _last_log_id):
        told.append(bench.worker.restoring)
        told.extend(bench.worker.restoring for _ in chunks)
        told.append(bench.worker.restoring)

    bench.machine.restore = restore
    bench.worker.put(InstallSnapshot(meta))
    bench.threads.finish_next()
    size = len(json.dumps(["theirs"]))
    nothing, everything = [RestoringMetrics(meta.last_log_id, done, meta.size_bytes) for done in (0, size)]
    assert [nothing, nothing, everything] == told
    assert bench.worker.restoring is None


def test_what_a_taken_in_snapshot_covers_is_not_applied_again():
    bench = Bench()
    bench.worker.put(InstallSnapshot(bench.received(["theirs"], 8)))
    bench.apply(0, 5)
    bench.apply(5, 10)
    bench.threads.finish_next()
    assert bench.machine.words == ["theirs", "w9", "w10"]


def test_a_leaders_snapshot_waits_for_the_own_one_being_built():
    bench = Bench()
    bench.apply(0, 3)
    meta = bench.received(["theirs"], 8)
    bench.worker.put(BuildSnapshot())
    bench.worker.put(InstallSnapshot(meta))
    bench.threads.finish_next()
    bench.threads.finish_next()
    assert [type(event) for event in bench.events] == [Applied, SnapshotBuilt, SnapshotInstalled]
    assert bench.snapshots.newest() == meta


def test_a_state_machine_with_too_few_results_is_a_bug():
    bench = Bench()
    bench.machine.apply = lambda _: []
    with pytest.raises(Panicked, match="0 results for 3 entries"):
        bench.apply(0, 3)


def test_a_state_machine_that_raises_is_named_with_what_it_was_at():
    def fail(*_):
        raise KeyError("k")

    bench = Bench()
    bench.machine.apply = fail
    with pytest.raises(Panicked, match=r"raised KeyError on applying entries T0-N0\.1 to T1-N1\.3, one of them: 'k'"):
        bench.apply(0, 3)
    bench = Bench()
    bench.machine.restore = fail
    bench.worker.put(InstallSnapshot(bench.received(["theirs"], 8)))
    with pytest.raises(Panicked, match=r"raised KeyError on taking in the snapshot at \S+\.8: 'k'"):
        bench.threads.finish_next()


def test_chunks_of_a_snapshot_that_end_in_an_exception_are_the_state_machines():
    def chunks():
        yield b"x"
        raise KeyError("k")

    bench = Bench()
    bench.apply(0, 3)
    bench.machine.snapshot = chunks
    bench.worker.put(BuildSnapshot())
    with pytest.raises(Panicked, match=r"raised KeyError on giving its snapshot at T1-N1\.3: 'k'"):
        bench.threads.finish_next()


def test_a_gap_in_what_is_asked_for_is_a_bug():
    with pytest.raises(AssertionError, match="a gap"):
        Bench().apply(4, 6)


def test_a_snapshot_that_the_state_machine_puts_off_is_reported_and_applying_goes_on():
    bench = Bench()
    bench.apply(0, 3)

    def not_now():
        raise SnapshotDeferred("a compaction is running")

    bench.machine.snapshot = not_now
    bench.worker.put(BuildSnapshot())
    bench.apply(3, 6)
    assert bench.events[1:2] == [SnapshotBuilt(None)]
    assert bench.applied() == [3, 6]
