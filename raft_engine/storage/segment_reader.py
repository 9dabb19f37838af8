"""Reading any range of a log while its writer goes on.

Nothing of the log has to be in memory for it: the tables that say where a sealed segment's records begin are read from their
indexes when they are needed, and the last few are kept. Every record is verified when it is read.
Rules.
- A reader opens the file for itself, so a segment may be removed under it.
- Old and new entries are never mixed: a reader that was overtaken by a truncation, purge or reset begins anew.
- Damage of a record is noted on the disk before anybody is told of it.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from raft_engine.errors import Damaged, StorageError
from raft_engine.storage.damage_note import note_damage
from raft_engine.storage.files import Files, storage_failed
from raft_engine.storage.log_checks import LOST_HINT, Marks, load_segment
from raft_engine.storage.segment_index import SegmentIndex, read_table, write_index
from raft_engine.storage.segment_state import Segment
from raft_engine.storage.segment_verification import check_index, verify_segment
from raft_engine.types.entry import Entry, RecordError, decode_record
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import BEFORE_LOG

TABLES_MAX: Final = 8
"""Tables in memory: as many followers may be reading old entries. 16 MiB of small entries have a table of 1 MiB."""


class SegmentReader:
    """The segments of a log as readers see them, in any thread; `segments` is the writer's own list."""

    def __init__(self, directory: Path, segments: list[Segment], files: Files) -> None:
        self.lock = threading.Lock()
        """Held while segments, their tables and ends change."""
        self.purged = BEFORE_LOG
        self._directory = directory
        self._segments = segments
        self._files = files
        self._changes = 0  # counts what readers must not straddle
        self._tables: OrderedDict[Segment, None] = OrderedDict()  # sealed segments whose table is in memory

    def read(self, after: LogIndex, upto: LogIndex, bytes_max: int) -> list[Entry]:
        """Return entries `after + 1` … `upto`, fewer if they exceed `bytes_max`, but at least one.

        Raises: StorageError: an entry is purged or absent; Damaged; StorageFailed.
        """
        while True:
            entries = self._read_once(after, upto, bytes_max)
            if entries is not None:
                return entries

    def verify(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """Read the sealed segments that were not verified yet, and check that they are what they were when they were sealed.

        Args:
            go_on: asked before each segment.
        Raises: Damaged, StorageFailed.
        """
        with self.lock:
            sealed = [
                (segment, segment.index)
                for segment in self._segments
                if segment.index is not None and not segment.is_verified
            ]
        for segment, index in sealed:
            if not go_on():
                return
            try:
                verify_segment(self._files, segment.path, index)
                segment.is_verified = True
            except (Damaged, OSError) as error:
                with self.lock:
                    if segment.index is not index or segment not in self._segments:
                        continue  # it was dropped meanwhile
                if isinstance(error, OSError):
                    raise storage_failed(error, "verifying the log", self._directory) from error
                note_damage(self._directory, error, self._files)
                raise

    # --- for the writer ----------------------------------------------------------------------------------------------

    def add(self, segment: Segment) -> None:
        """Let a new segment be the active one; the one before was sealed."""
        with self.lock:
            if self._segments:
                self._touch(self._segments[-1])
            self._segments.append(segment)

    @contextmanager
    def cutting(self) -> Iterator[None]:
        """Lock readers out while entries are taken away."""
        with self.lock:
            self._changes += 1
            yield

    def reactivate(self, segment: Segment) -> SegmentIndex:
        """Let a sealed segment be the active one; return what its index was. Raises: Damaged, OSError."""
        table = self._table_of(segment)
        with self.lock:
            index = segment.index
            assert index is not None, "a sealed segment has an index"
            segment.index, segment.offsets = None, table
            self._tables.pop(segment, None)
            return index

    def forget(self, segment: Segment) -> None:
        with self.lock:
            self._tables.pop(segment, None)

    # --- in parts ----------------------------------------------------------------------------------------------------

    def _read_once(self, after: LogIndex, upto: LogIndex, bytes_max: int) -> list[Entry] | None:
        """Return the entries, or None if the log was cut in the meantime."""
        with self.lock:
            changes = self._changes
            first, last = self.purged.index + 1, self._segments[-1].last_index if self._segments else 0
        if after + 1 < first or upto > last or upto <= after:
            raise StorageError(
                f"entries {after + 1} to {upto} are not in the log ({first} to {last})", path=str(self._directory)
            )
        entries: list[Entry] = []
        budget = bytes_max
        try:
            while after < upto:
                part = self._read_segment(LogIndex(after + 1), upto, budget)
                if not part or (entries and len(part[0].record) > budget):
                    break
                entries += part
                after = LogIndex(after + len(part))
                budget -= sum(len(entry.record) for entry in part)
        except (Damaged, OSError) as error:
            with self.lock:
                if self._changes != changes:
                    return None
            if isinstance(error, OSError):
                raise storage_failed(error, "reading the log", self._directory) from error
            note_damage(self._directory, error, self._files)
            raise
        with self.lock:
            return entries if self._changes == changes else None

    def _read_segment(self, first: LogIndex, upto: LogIndex, bytes_max: int) -> list[Entry]:
        """Return entries from `first` on, of one segment: at least one, more as far as `bytes_max` goes."""
        found = self._find(first, upto, bytes_max)
        if found is None:
            return []
        segment, offsets, stop = found
        descriptor = self._files.open(segment.path, write=False)
        try:
            data = self._files.pread(descriptor, stop - offsets[0], offsets[0])
        finally:
            self._files.close(descriptor)
        try:
            return _decode(data, offsets, first, segment.path)
        except Damaged:
            with self.lock:
                index = segment.index
            if index is not None:
                check_index(self._files, segment.path, index)
            raise

    def _find(self, first: LogIndex, upto: LogIndex, bytes_max: int) -> tuple[Segment, array[int], int] | None:
        """Return the segment with entry `first`, where the wanted records begin, and where the last of them ends.

        None: the entry was dropped in the meantime.
        """
        while True:
            with self.lock:
                number = bisect_right(self._segments, first, key=_first_index) - 1
                if number < 0 or first > self._segments[number].last_index:
                    return None
                segment = self._segments[number]
                if segment.offsets is not None:
                    self._touch(segment)
                    return segment, *_range_of(segment, segment.offsets, first, upto, bytes_max)
            self._table_of(segment)

    def _table_of(self, segment: Segment) -> array[int]:
        """Return where a segment's records begin, from its index or, if that is no good, from the records."""
        with self.lock:
            table, index = segment.offsets, segment.index
        if table is not None:
            return table
        assert index is not None, "the active segment's table is always in memory"
        table = read_table(self._files, segment.path, index)
        if table is None:
            data = self._files.read_whole(segment.path)
            _, scan = load_segment(data, segment.path, index.header.previous, Marks(), is_newest=False)
            table = scan.offsets
            write_index(self._files, segment.path, index, table)
        with self.lock:
            if segment.offsets is None:
                segment.offsets = table
                self._touch(segment)
        return table

    def _touch(self, segment: Segment) -> None:
        """Note, under the lock, that a segment's table was used; that of another one may go, but not the active one's."""
        if segment.index is None:
            return
        self._tables[segment] = None
        self._tables.move_to_end(segment)
        while len(self._tables) > TABLES_MAX:
            self._tables.popitem(last=False)[0].offsets = None


def _decode(data: bytes, offsets: array[int], first: LogIndex, path: Path) -> list[Entry]:
    """Return the entries whose records begin at `offsets` of the file; `data` begins with the first one."""
    entries: list[Entry] = []
    for index, offset in enumerate(offsets, first):
        try:
            entry = decode_record(data, offset - offsets[0])
        except RecordError as error:
            raise Damaged(f"entry {index}: {error.reason}", path=str(path), offset=offset, hint=LOST_HINT) from error
        if entry.index != index:
            raise Damaged(f"{entry} stands where index {index} belongs", path=str(path), offset=offset, hint=LOST_HINT)
        entries.append(entry)
    return entries


def _range_of(
    segment: Segment, offsets: array[int], first: LogIndex, upto: LogIndex, bytes_max: int
) -> tuple[array[int], int]:
    """Return where the wanted records begin that lie within `bytes_max`, at least one, and where the last one ends."""
    position = first - segment.first_index
    limit = min(segment.count, upto - segment.first_index + 1)
    byte_limit = offsets[position] + bytes_max
    stop = bisect_right(offsets, byte_limit, position + 1, limit)
    if stop > position + 1 and segment.end_of(stop - 1) > byte_limit:
        stop -= 1
    return offsets[position:stop], segment.end_of(stop - 1)


def _first_index(segment: Segment) -> LogIndex:
    return segment.first_index
