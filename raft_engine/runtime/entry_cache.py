"""The newest entries in memory: what is not yet on the disk, and what followers and state machine will ask for next.

Entries are readable here as soon as their `AppendEntries` is handed to the log, before they are durable. Entries that are
not durable are never dropped, since nobody else has them; older ones give way when the byte bound is passed, and are then
read from the log.
Source: etcd `log_unstable.go`; openraft keeps none and reads from the store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from raft_engine.types.entry import Entry, records_bytes
from raft_engine.types.ids import IoId
from raft_engine.types.log_id import LogId

BYTES_MAX = 8 * 1024 * 1024
"""Half a second of the quickest load: what the state machine and followers that keep up still ask for. 16 MiB took no other figure
further and every node 7 MiB."""
ENTRY_OVERHEAD_BYTES = 200
"""What an entry costs beside its record: the objects around it (measured with sys.getsizeof)."""
_KEEP_WHEN_FULL = 0.95
"""Dropping a twentieth at a time keeps the list from being shifted for every batch."""
_CHUNKS = 256
"""Small batches are counted together, up to the bound divided by this."""


class EntryCache:
    """Entries `first` … `last`, without a gap. Used on the event loop only.

    What entries cost is counted when they come and noted for many at once (a chunk): to look at an old one again takes longer than to
    free it.
    """

    def __init__(self, last_index: int, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._chunk_bytes = bytes_max // _CHUNKS
        self._entries: list[Entry] = []
        self._first = last_index + 1
        self._bytes = 0
        self._chunks: deque[list[int]] = deque()
        """[index of its last entry, what its entries cost]; together all that are here."""
        self._flushed = last_index
        self._unflushed: deque[tuple[IoId, int]] = deque()
        self.generation = 0
        """Rises when entries are taken back: what a thread read before may since have been replaced."""

    @property
    def last_index(self) -> int:
        return self._first + len(self._entries) - 1

    def append(self, io_id: IoId, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        assert entries[0].index == self._first + len(self._entries), f"{entries[0]} does not follow {self.last_index}"
        self._entries.extend(entries)
        last, cost = entries[-1].index, _cost(entries)
        self._bytes += cost
        chunks = self._chunks
        if chunks and chunks[-1][1] < self._chunk_bytes:
            chunks[-1][0] = last
            chunks[-1][1] += cost
        else:
            chunks.append([last, cost])
        self._unflushed.append((io_id, last))
        if self._bytes > self._bytes_max:
            self._shrink()

    def flushed(self, io_id: IoId) -> None:
        """Everything handed to the log up to `io_id` is durable."""
        while self._unflushed and self._unflushed[0][0] <= io_id:
            self._flushed = self._unflushed.popleft()[1]

    def read(self, after: int, upto: int) -> list[Entry] | None:
        """Return entries `after + 1` … `upto`; None: some are no longer here."""
        start = after + 1 - self._first
        if start < 0:
            return None
        assert upto < self._first + len(self._entries), f"entry {upto} was never appended; the last one is {self.last_index}"
        return self._entries[start : upto + 1 - self._first]

    def truncate(self, after: int) -> None:
        """Entries after `after` are taken back."""
        self.generation += 1
        if after < self._first:
            self._clear(after)
            return
        del self._entries[after + 1 - self._first :]
        self._bytes = _cost(self._entries)
        self._chunks = deque([[after, self._bytes]] if self._entries else [])
        self._flushed = min(self._flushed, after)
        self._unflushed = deque((io_id, min(index, after)) for io_id, index in self._unflushed)

    def purge(self, upto: LogId) -> None:
        """Entries up to `upto` are gone from the log."""
        if upto.index > self.last_index:
            self._clear(upto.index)
        elif upto.index >= self._first:
            self._drop(upto.index)

    def reset(self, upto: LogId) -> None:
        """The log goes on after `upto`."""
        self.generation += 1
        self._clear(upto.index)

    def _clear(self, last_index: int) -> None:
        self._entries.clear()
        self._first = last_index + 1
        self._bytes = 0
        self._chunks.clear()
        self._flushed = last_index
        self._unflushed.clear()

    def _shrink(self) -> None:
        keep_bytes = self._bytes_max * _KEEP_WHEN_FULL
        upto, left = self._first - 1, self._bytes
        for last, cost in self._chunks:
            if last > self._flushed or left <= keep_bytes:
                break
            upto, left = last, left - cost
        self._drop(upto)

    def _drop(self, upto: int) -> None:
        """Drop the entries up to this one, which is here or was the last one dropped."""
        chunks, first = self._chunks, self._first
        while chunks and chunks[0][0] <= upto:
            last, cost = chunks.popleft()
            self._bytes -= cost
            first = last + 1
        if first <= upto:  # the beginning of a chunk
            cost = _cost(self._entries[first - self._first : upto + 1 - self._first])
            chunks[0][1] -= cost
            self._bytes -= cost
        del self._entries[: upto + 1 - self._first]
        self._first = upto + 1


def _cost(entries: Sequence[Entry]) -> int:
    return records_bytes(entries) + ENTRY_OVERHEAD_BYTES * len(entries)
