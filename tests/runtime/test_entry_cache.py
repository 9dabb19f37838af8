"""Which entries are in memory: raft_engine/runtime/entry_cache.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raft_engine.runtime.entry_cache import ENTRY_OVERHEAD_BYTES, EntryCache
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.ids import IoId, LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId

SMALL = ENTRY_OVERHEAD_BYTES + 36 + 1


def entries(first: int, last: int, term: int = 1) -> list[Entry]:
    return [make_entry(Term(term), NodeId(1), LogIndex(i), EntryKind.NORMAL, b"x") for i in range(first, last + 1)]


def log_id(index: int) -> LogId:
    return LogId(Term(1), NodeId(1), LogIndex(index))


def test_appended_entries_can_be_read_before_they_are_flushed():
    cache = EntryCache(10)
    cache.append(IoId(1), entries(11, 14))
    assert entries(12, 13) == cache.read(11, 13)


def test_entries_from_before_the_start_are_not_here():
    cache = EntryCache(10)
    cache.append(IoId(1), entries(11, 12))
    assert cache.read(9, 12) is None


def test_unflushed_entries_stay_however_full_the_cache_is():
    cache = EntryCache(0, bytes_max=3 * SMALL)
    cache.append(IoId(1), entries(1, 10))
    assert entries(1, 10) == cache.read(0, 10)


def test_flushed_entries_give_way_to_new_ones():
    cache = EntryCache(0, bytes_max=4 * SMALL)
    cache.append(IoId(1), entries(1, 4))
    cache.flushed(IoId(1))
    cache.append(IoId(2), entries(5, 6))
    assert cache.read(0, 6) is None
    assert entries(5, 6) == cache.read(4, 6)


def test_a_flush_reported_for_truncated_entries_does_not_cover_their_successors():
    cache = EntryCache(0, bytes_max=2 * SMALL)
    cache.append(IoId(1), entries(1, 5))
    cache.truncate(2)
    cache.append(IoId(3), entries(3, 5, term=2))
    cache.flushed(IoId(1))
    cache.append(IoId(4), entries(6, 6, term=2))
    assert entries(3, 5, term=2) == cache.read(2, 5)


def test_truncation_tells_readers_that_what_they_read_may_be_replaced():
    cache = EntryCache(0)
    cache.append(IoId(1), entries(1, 5))
    before = cache.generation
    cache.truncate(2)
    assert cache.generation > before


def test_truncating_below_the_cached_range_empties_it():
    cache = EntryCache(10)
    cache.append(IoId(1), entries(11, 12))
    cache.truncate(7)
    cache.append(IoId(3), entries(8, 8))
    assert entries(8, 8) == cache.read(7, 8)


def test_purged_entries_are_gone_and_the_rest_stays():
    cache = EntryCache(0)
    cache.append(IoId(1), entries(1, 5))
    cache.purge(log_id(3))
    assert cache.read(2, 5) is None
    assert entries(4, 5) == cache.read(3, 5)


def test_after_a_reset_the_log_goes_on_behind_the_snapshot():
    cache = EntryCache(0)
    cache.append(IoId(1), entries(1, 5))
    cache.reset(log_id(40))
    cache.append(IoId(3), entries(41, 41))
    assert entries(41, 41) == cache.read(40, 41)


STEPS = st.lists(st.tuples(st.sampled_from(["append", "truncate", "purge", "flush"]), st.integers(0, 12)), max_size=40)


@given(steps=STEPS, bytes_max=st.integers(1, 8).map(lambda count: count * SMALL))
def test_what_the_cache_answers_is_what_a_plain_list_would_answer(steps, bytes_max):
    cache = EntryCache(0, bytes_max)
    log: dict[int, Entry] = {}
    purged = flushed_io = term = 0
    for io_id, (step, number) in enumerate(steps, start=1):
        last = max(log, default=purged)
        if step == "append":
            new = entries(last + 1, last + number, term)
            cache.append(IoId(io_id), new)
            log.update({entry.index: entry for entry in new})
        elif step == "truncate":
            after = max(purged, last - number)
            term += 1
            cache.truncate(after)
            log = {index: entry for index, entry in log.items() if index <= after}
        elif step == "purge" and flushed_io == io_id - 1:
            upto = min(last, purged + number)
            purged = max(purged, upto)
            cache.purge(log_id(purged))
            log = {index: entry for index, entry in log.items() if index > purged}
        elif step == "flush":
            flushed_io = io_id
            cache.flushed(IoId(io_id))
        last = max(log, default=purged)
        for after in range(purged, last):
            found = cache.read(after, last)
            assert found is None or found == [log[index] for index in range(after + 1, last + 1)]
