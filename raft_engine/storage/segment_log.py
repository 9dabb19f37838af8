"""The log on disk: append-only segments, one write and one sync per batch.

Rules.
- A crash leaves what a prefix of the calls would have left: writes to the hard state and to the log wait for each other.
- A segment is synced before the next one begins, so only the last one can end in a write cut short.
- `marks` says durably what the segments must agree with: up to where the log is purged, which segment is the newest, and a
  truncation that has begun. It is written before files are removed, so a crash in the middle is finished at the next start,
  and a file that goes missing otherwise is noticed.
- After a failed call nobody knows what is on the disk: every later write fails too.
Source: dissertation 11.7.3; etcd `server/storage/wal`; fsyncgate (2018); formats in `segment_format` and `two_slots`.
"""

from __future__ import annotations

import logging
import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import wraps
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Concatenate, Final, ParamSpec

import msgspec

from raft_engine.errors import Damaged, StorageError, StorageFailed
from raft_engine.storage.files import Files, storage_failed
from raft_engine.storage.hard_state import HardStateFile
from raft_engine.storage.interface import LogState
from raft_engine.storage.log_checks import (
    LOST_HINT,
    MARKS_MAGIC,
    MARKS_NAME,
    SEGMENT_SUFFIX,
    Marks,
    check_purge_mark,
    check_segment_names,
    decode_marks,
    load_segment,
    segment_paths,
)
from raft_engine.storage.outline import Outline
from raft_engine.storage.segment_format import (
    SEAL_BYTES,
    SEGMENT_HEADER_BYTES,
    Scan,
    SegmentHeader,
    encode_seal,
    encode_segment_header,
)
from raft_engine.storage.spare_segment import SpareSegment
from raft_engine.storage.two_slots import TwoSlots
from raft_engine.types.entry import Entry, RecordError, decode_record
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import BEFORE_LOG, LogId

LOG_DIRECTORY: Final = "log"
SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""16 MiB: zero-filling one takes tens of milliseconds, and a purge can free space in steps that small."""
_SPARE_WHEN_FILLED: Final = 4
"""The next segment is prepared when a quarter of the active one is used: early enough, never for a log that stays small."""
_OUTLINE_BYTES: Final = 8 * 1024 * 1024

_logger = logging.getLogger("raft_engine.storage")
_P = ParamSpec("_P")


class _Segment:
    """One open segment. `offsets[i]` is where entry `first_index + i` begins, `end` where the next batch goes."""

    __slots__ = (
        "descriptor",
        "durable",
        "end",
        "first_index",
        "is_retired",
        "offsets",
        "path",
        "readers",
        "salt",
        "sealed_at",
        "size",
    )

    def __init__(self, path: Path, descriptor: int, header: SegmentHeader, size: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.first_index = header.first_index
        self.salt = header.salt
        self.size = size
        self.offsets = array("I")
        self.end = SEGMENT_HEADER_BYTES
        self.durable = 0
        self.sealed_at = 0  # where the last seal stands; at `end`: the next batch need not write one
        self.readers = 0
        self.is_retired = False

    @property
    def last_index(self) -> int:
        return self.first_index + len(self.offsets) - 1


def _fail_stop(method: Callable[Concatenate[SegmentLog, _P], None]) -> Callable[Concatenate[SegmentLog, _P], None]:
    """After the first failed disk call this and every later write raises `StorageFailed`."""

    @wraps(method)
    def guarded(self: SegmentLog, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if self.failure is not None:
            raise StorageFailed(str(self.failure))
        try:
            method(self, *args, **kwargs)
        except OSError as error:
            self.failure = storage_failed(error, f"log {method.__name__}", self.directory)
            raise self.failure from error

    return guarded


class SegmentLog:
    """A `LogStorage` in a directory: `hard_state` in it, segments and marks in `log/` below it."""

    def __init__(
        self,
        directory: Path,
        *,
        files: Files | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        prepare_ahead: bool = True,
        before_first_segment: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the log, verify all of it, and finish what a crash interrupted.

        Args:
            prepare_ahead: zero-fill the next segment in a thread; without it everything happens in the caller's.
            before_first_segment: called before the first segment is created: from then on a missing log is a loss.
        Raises: Damaged: an acknowledged entry may be missing or altered; NewerFormat; StorageFailed.
        """
        self.directory = directory / LOG_DIRECTORY
        self.failure: StorageFailed | None = None
        self._files = files or Files()
        self._segment_bytes = segment_bytes
        self._prepare_ahead = prepare_ahead
        self._before_first_segment = before_first_segment
        self._lock = threading.Lock()  # guards the index against readers: segments, offsets, ends, purged
        self._marks = Marks()
        self._changes = 0  # counts what readers must not straddle: truncations, purges, resets
        self._segments: list[_Segment] = []
        self._last = BEFORE_LOG
        self._outline = Outline(LogIndex(0))
        try:
            self._open(directory)
        except OSError as error:
            raise storage_failed(error, "opening the log", self.directory) from error

    # --- reading ---------------------------------------------------------------------------------------------------------

    def state(self) -> LogState:
        self._complete_outline()
        return LogState(self._marks.purged, self._last, tuple(self._outline.runs), tuple(self._outline.memberships))

    def hard_state(self) -> HardState:
        return self._hard_state.value

    def read(self, after: LogIndex, upto: LogIndex, bytes_max: int) -> list[Entry]:
        while True:
            entries = self._read_once(after, upto, bytes_max)
            if entries is not None:
                return entries

    # --- writing: one thread ----------------------------------------------------------------------------------------------

    @_fail_stop
    def append(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        assert entries[0].index == self._last.index + 1, f"{entries[0]} does not follow {self._last}"
        assert entries[-1].index == entries[0].index + len(entries) - 1, "entries are not consecutive"
        self._hard_state.sync()
        records = [entry.record for entry in entries]
        written = 0
        while written < len(records):
            segment = self._segment_with_room(len(records[written]))
            written += self._write(segment, records[written:] if written else records)
            self._last = entries[written - 1].log_id
        active = self._segments[-1]
        if self._prepare_ahead and active.end * _SPARE_WHEN_FILLED > active.size:
            self._spare.prepare()

    @_fail_stop
    def truncate(self, after: LogIndex) -> None:
        after = max(after, self._marks.purged.index)
        if after >= self._last.index:
            return
        self._sync()
        kept_count = max(1, sum(segment.first_index <= after for segment in self._segments))
        kept = self._segments[kept_count - 1]
        last = self._id_at(after)
        self._mark(newest=kept.first_index, truncate_after=after)
        with self._lock:
            self._changes += 1
            removed = self._segments[kept_count:]
            del self._segments[kept_count:]
            old_end = kept.end
            position = after + 1 - kept.first_index
            if position < len(kept.offsets):
                kept.end = kept.offsets[position]
                del kept.offsets[position:]
        self._last = last
        self._outline.forget_after(after)
        self._remove(removed)
        self._zero_tail(kept, min(old_end + SEAL_BYTES, self._files.size(kept.descriptor)))
        self._mark(truncate_after=None)

    @_fail_stop
    def purge(self, upto: LogId) -> None:
        if upto.index <= self._marks.purged.index:
            return
        if upto.index > self._last.index:
            self._reset(upto)
            return
        self._sync()
        self._mark(purged=upto)
        with self._lock:
            self._changes += 1
            gone = sum(segment.last_index <= upto.index for segment in self._segments[:-1])
            removed = self._segments[:gone]
            del self._segments[:gone]
        self._remove(removed)
        self._outline.forget_upto(upto.index)

    @_fail_stop
    def reset(self, upto: LogId) -> None:
        self._reset(upto)

    @_fail_stop
    def save_hard_state(self, hard_state: HardState) -> None:
        self._sync_segment()
        self._hard_state.save(hard_state)

    @_fail_stop
    def sync(self) -> None:
        self._sync()

    def close(self) -> None:
        self._spare.close()
        self._close_segments()
        self._marks_file.close()
        self._hard_state.close()

    # --- writing, in parts ------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        self._hard_state.sync()
        self._sync_segment()

    def _sync_segment(self) -> None:
        if not self._segments:
            return
        active = self._segments[-1]
        if active.durable < active.end:
            self._files.fdatasync(active.descriptor)
            active.durable = active.end
            self._seal(active)

    def _seal(self, segment: _Segment) -> None:
        """Say behind the last record that it is durable. Nobody waits for it: it is there for a later start to read."""
        if segment.end + SEAL_BYTES <= segment.size:
            self._files.pwrite(segment.descriptor, encode_seal(segment.salt, segment.end, segment.end), segment.end)
            segment.sealed_at = segment.end

    def _write(self, segment: _Segment, records: list[bytes]) -> int:
        """Write as many records as fit, at least one, and return how many."""
        start = segment.end + SEAL_BYTES
        offsets = list(accumulate(map(len, records), initial=start))
        if offsets[-1] > segment.size:
            records = records[: max(1, bisect_right(offsets, segment.size) - 1)]
        if segment.sealed_at == segment.end:
            self._files.pwrite(segment.descriptor, b"".join(records), start)
        else:
            seal = encode_seal(segment.salt, segment.end, segment.durable)
            self._files.pwrite(segment.descriptor, b"".join((seal, *records)), segment.end)
        count = len(records)
        with self._lock:
            segment.end = offsets[count]
            segment.offsets.extend(offsets[:count])
        return count

    def _segment_with_room(self, record_bytes: int) -> _Segment:
        """Return the active segment if the record fits, otherwise begin a new one (which takes any one record)."""
        if self._segments:
            active = self._segments[-1]
            if not active.offsets or active.end + SEAL_BYTES + record_bytes <= active.size:
                return active
            self._sync_segment()
        if self._marks.newest == 0:
            self._before_first_segment()
        header = SegmentHeader(LogIndex(self._last.index + 1), self._last, self._files.random_bits(32))
        path = self._segment_path(header.first_index)
        descriptor = self._spare.take(path, encode_segment_header(header))
        segment = _Segment(path, descriptor, header, self._files.size(descriptor))
        segment.durable = segment.end
        self._mark(newest=header.first_index)
        with self._lock:
            self._segments.append(segment)
        return segment

    def _reset(self, upto: LogId) -> None:
        self._sync()
        self._mark(purged=upto, newest=LogIndex(0), truncate_after=None)
        with self._lock:
            self._changes += 1
            removed = self._segments
            self._segments = []
        self._last = upto
        self._remove(removed)
        self._outline = Outline(upto.index)

    def _mark(self, **changes: object) -> None:
        """Change the marks, durably."""
        marks = msgspec.structs.replace(self._marks, **changes)
        self._marks_file.write(msgspec.msgpack.encode(marks))
        self._marks_file.sync()
        self._marks = marks

    def _remove(self, segments: list[_Segment]) -> None:
        """Remove files, newest first, so that no crash leaves a hole."""
        for segment in reversed(segments):
            self._files.unlink(segment.path)
            self._retire(segment)
        if segments:
            self._files.fsync_dir(self.directory)

    def _retire(self, segment: _Segment) -> None:
        """Close the file now, or when its last reader is done."""
        with self._lock:
            segment.is_retired = True
            is_free = segment.readers == 0
        if is_free:
            self._files.close(segment.descriptor)

    def _zero_tail(self, segment: _Segment, until: int) -> None:
        self._files.zero(segment.descriptor, segment.end, until)
        self._files.fdatasync(segment.descriptor)
        segment.durable = segment.end
        self._seal(segment)

    def _close_segments(self) -> None:
        with self._lock:
            segments = self._segments
            self._segments = []
        for segment in segments:
            self._retire(segment)

    def _segment_path(self, first_index: LogIndex) -> Path:
        return self.directory / f"{first_index:020d}{SEGMENT_SUFFIX}"

    # --- reading, in parts ------------------------------------------------------------------------------------------------

    def _read_once(self, after: LogIndex, upto: LogIndex, bytes_max: int) -> list[Entry] | None:
        """Return the entries, or None if the log was cut in the meantime: old and new entries must never be mixed."""
        with self._lock:
            changes = self._changes
            first, last = self._marks.purged.index + 1, self._segments[-1].last_index if self._segments else 0
        if after + 1 < first or upto > last or upto <= after:
            raise StorageError(
                f"entries {after + 1} to {upto} are not in the log ({first} to {last})", path=str(self.directory)
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
            with self._lock:
                if self._changes != changes:
                    return None
            if isinstance(error, OSError):
                raise storage_failed(error, "reading the log", self.directory) from error
            raise
        with self._lock:
            return entries if self._changes == changes else None

    def _read_segment(self, first: LogIndex, upto: LogIndex, bytes_max: int) -> list[Entry]:
        """Return entries from `first` on, of one segment: at least one, more as far as `bytes_max` goes."""
        borrowed = self._borrow(first, upto, bytes_max)
        if borrowed is None:
            return []
        segment, offsets, stop = borrowed
        try:
            data = self._files.pread(segment.descriptor, stop - offsets[0], offsets[0])
        finally:
            self._give_back(segment)
        entries: list[Entry] = []
        for index, offset in enumerate(offsets, first):
            try:
                entry = decode_record(data, offset - offsets[0])
            except RecordError as error:
                raise Damaged(
                    f"entry {index}: {error.reason}", path=str(segment.path), offset=offset, hint=LOST_HINT
                ) from error
            if entry.index != index:
                raise Damaged(
                    f"{entry} stands where index {index} belongs", path=str(segment.path), offset=offset, hint=LOST_HINT
                )
            entries.append(entry)
        return entries

    def _borrow(self, first: LogIndex, upto: LogIndex, bytes_max: int) -> tuple[_Segment, array[int], int] | None:
        """Return the segment with entry `first`, where the wanted records begin, and where the last of them ends.

        The segment's file stays open until `_give_back`. None: the entry was dropped in the meantime.
        """
        with self._lock:
            number = bisect_right(self._segments, first, key=_first_index) - 1
            if number < 0 or first > self._segments[number].last_index:
                return None
            segment = self._segments[number]
            offsets = segment.offsets
            position = first - segment.first_index
            limit = min(len(offsets), upto - segment.first_index + 1)
            byte_limit = offsets[position] + bytes_max
            stop = bisect_right(offsets, byte_limit, position + 1, limit)
            if stop > position + 1 and _end_of(segment, stop - 1) > byte_limit:
                stop -= 1
            segment.readers += 1
            return segment, offsets[position:stop], _end_of(segment, stop - 1)

    def _give_back(self, segment: _Segment) -> None:
        with self._lock:
            segment.readers -= 1
            is_last_reader = segment.is_retired and segment.readers == 0
        if is_last_reader:
            self._files.close(segment.descriptor)

    def _id_at(self, index: int) -> LogId:
        if index == self._marks.purged.index:
            return self._marks.purged
        return self.read(LogIndex(index - 1), LogIndex(index), 0)[0].log_id

    def _complete_outline(self) -> None:
        """Runs and memberships are known from the start on; what was appended since is looked at when somebody asks."""
        while self._outline.upto < self._last.index:
            for entry in self.read(self._outline.upto, self._last.index, _OUTLINE_BYTES):
                self._outline.add(entry)

    # --- opening ---------------------------------------------------------------------------------------------------------

    def _open(self, directory: Path) -> None:
        files = self._files
        if not files.exists(directory):
            files.mkdir(directory)
        if not files.exists(self.directory):
            files.mkdir(self.directory)
        with ExitStack() as undo:
            self._hard_state = HardStateFile(directory, files)
            undo.callback(self._hard_state.close)
            segments = segment_paths(self.directory, files)
            marks_path = self.directory / MARKS_NAME
            if segments and not files.exists(marks_path):
                raise Damaged("the log's marks are gone, its segments are not", path=str(marks_path), hint=LOST_HINT)
            self._marks_file = TwoSlots(files, marks_path, MARKS_MAGIC, msgspec.msgpack.encode(Marks()))
            undo.callback(self._marks_file.close)
            self._marks = decode_marks(self._marks_file.value, marks_path)
            self._spare = SpareSegment(self.directory, self._segment_bytes, files)
            undo.callback(self._close_segments)
            self._load(self._without_leftovers(segments))
            files.fsync_dir(self.directory)
            files.fsync_dir(directory)
            undo.pop_all()

    def _without_leftovers(self, paths: dict[LogIndex, Path]) -> list[Path]:
        """Return the segments that count, after removing those that a crash kept from being removed."""
        firsts = sorted(paths)
        unfinished = [first for first in firsts if first > self._marks.newest]
        following = pairwise(firsts)
        purged = [first for first, next_first in following if next_first <= self._marks.purged.index + 1]
        for first in sorted({*unfinished, *purged}, reverse=True):
            self._files.unlink(paths.pop(first))
        return [paths[first] for first in sorted(paths)]

    def _load(self, paths: list[Path]) -> None:
        marks = self._marks
        check_segment_names(paths, marks, self.directory)
        self._last = marks.purged
        for path in paths:
            is_newest = path is paths[-1]
            data = self._files.read_whole(path)
            header, scan = load_segment(data, path, self._last if path is not paths[0] else None, marks, is_newest=is_newest)
            segment = _Segment(path, self._files.open(path), header, len(data))
            segment.offsets, segment.end = scan.offsets, scan.end
            self._segments.append(segment)
            self._last = scan.last
            self._outline.add_scanned(scan.runs, scan.memberships, scan.last.index)
            if is_newest:
                self._finish_newest(segment, scan, data)
        check_purge_mark(marks, self._last, self._outline.runs, self.directory)
        self._outline.forget_upto(marks.purged.index)

    def _finish_newest(self, segment: _Segment, scan: Scan, data: bytes) -> None:
        """Cut off what a crash left behind the last good record, and make durable what counts from now on.

        The process before may have been killed between a write and its sync: what it left in the kernel's memory can be
        read, and would still be lost with the power. If its sync had failed, the kernel even takes those pages for clean, and
        another sync would do nothing: what no seal calls durable is therefore written once more.
        """
        if scan.problem is not None:
            _logger.warning(
                "a write to the log was cut short: dropped %d bytes behind entry %d, promised to nobody (%s, byte %d: %s)",
                scan.data_end - scan.end,
                segment.last_index,
                segment.path,
                scan.problem.offset,
                scan.problem.reason,
            )
        if self._marks.truncate_after is not None:
            self._files.zero(segment.descriptor, scan.end, segment.size)
        elif scan.data_end > scan.end:
            self._files.zero(segment.descriptor, scan.end, scan.data_end)
        durable = max(scan.durable, SEGMENT_HEADER_BYTES)
        if durable < scan.end:
            self._files.pwrite(segment.descriptor, data[durable : scan.end], durable)
        self._files.fdatasync(segment.descriptor)
        segment.durable = segment.end
        self._seal(segment)
        if self._marks.truncate_after is not None:
            self._mark(truncate_after=None)


def _first_index(segment: _Segment) -> LogIndex:
    return segment.first_index


def _end_of(segment: _Segment, position: int) -> int:
    """Return where the record at `position` ends, or the next begins (a seal may stand between)."""
    return segment.offsets[position + 1] if position + 1 < len(segment.offsets) else segment.end
