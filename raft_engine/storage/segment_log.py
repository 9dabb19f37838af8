"""The log on disk: append-only segments, one write and one sync per batch.

Rules.
- A crash leaves what a prefix of the calls would have left: writes to the hard state and to the log wait for each other.
- A segment is synced before the next one begins, so only the last one can end in a write cut short.
- `marks` says durably what the segments must agree with: up to where the log is purged, which segment is the newest, and a
  truncation that has begun. It is written before files are removed, so a crash in the middle is finished at the next start,
  and a file that goes missing otherwise is noticed.
- A segment to which nothing is added any more has an index beside it (`segment_index`): a start reads that, decodes the records
  of the newest segment only, and of the others verifies as many bytes, the newest first, as its budget allows. An index may be
  missing or damaged at any time; the records decide.
- After a failed call nobody knows what is on the disk: every later write fails too.
Source: dissertation 11.7.3; etcd `server/storage/wal`; fsyncgate (2018); formats in `segment_format` and `two_slots`.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import wraps
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Concatenate, Final, ParamSpec
from zlib import crc32

import msgspec

from raft_engine.errors import Damaged, RaftError, StorageFailed
from raft_engine.storage.damage_note import NOTE_NAME, load_note
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
    check_segment_header,
    check_segment_names,
    decode_marks,
    load_segment,
    read_segment_header,
    segment_paths,
)
from raft_engine.storage.outline import Outline, memberships_in
from raft_engine.storage.sealing import Sealing
from raft_engine.storage.segment_format import (
    SEGMENT_HEADER_BYTES,
    Scan,
    SegmentHeader,
    encode_segment_header,
)
from raft_engine.storage.segment_index import (
    INDEX_SUFFIX,
    index_path,
    make_index,
    read_index,
    write_index,
)
from raft_engine.storage.segment_reader import SegmentReader
from raft_engine.storage.segment_seal import checksums_of
from raft_engine.storage.segment_state import Segment
from raft_engine.storage.segment_verification import Verification, is_unchanged
from raft_engine.storage.spare_segment import SpareSegment
from raft_engine.storage.two_slots import TwoSlots
from raft_engine.types.entry import Entry
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import BEFORE_LOG, LogId

LOG_DIRECTORY: Final = "log"
SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""16 MiB: zero-filling one takes tens of milliseconds, and a purge can free space in steps that small."""
VERIFIED_BYTES: Final = 256 * 1024 * 1024
"""How much of the sealed segments a start verifies: under half a second, and more than a log holds that is purged as it should be."""
_SPARE_WHEN_FILLED: Final = 4
"""The next segment is prepared when a quarter of the active one is used: early enough, never for a log that stays small."""

_logger = logging.getLogger("raft_engine.storage")
_P = ParamSpec("_P")


def _fail_stop(method: Callable[Concatenate[SegmentLog, _P], None]) -> Callable[Concatenate[SegmentLog, _P], None]:
    """After the first failed disk call this and every later write raises `StorageFailed`."""

    @wraps(method)
    def guarded(self: SegmentLog, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if self.failure is not None:
            raise StorageFailed(str(self.failure))
        try:
            method(self, *args, **kwargs)
        except StorageFailed as error:
            self.failure = error
            raise
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
        verified_bytes: int = VERIFIED_BYTES,
        before_first_segment: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the log, verify its files, the newest segment and as much as it may of those before, and finish what a crash interrupted.

        Older segments are verified when they are read, and by `verify`.

        Args:
            prepare_ahead: zero-fill the next segment and verify old ones in threads; without it everything happens in the caller's.
            verified_bytes: how much of the sealed segments is verified now, the newest first.
            before_first_segment: called before the first segment is created: from then on a missing log is a loss.
        Raises: Damaged: an acknowledged entry may be missing or altered; NewerFormat; StorageFailed.
        """
        self.directory = directory / LOG_DIRECTORY
        self.failure: StorageFailed | None = None
        self._files = files or Files()
        self._segment_bytes = segment_bytes
        self._prepare_ahead = prepare_ahead
        self._verified_bytes = verified_bytes
        self._before_first_segment = before_first_segment
        self._marks = Marks()
        self._segments: list[Segment] = []
        self._reader = SegmentReader(self.directory, self._segments, self._files)
        self._verification = Verification(self._reader.verify)
        self._sealing = Sealing(self._files, self._reader, beside=prepare_ahead)
        self._last = BEFORE_LOG
        self._outline = Outline(LogIndex(0))
        try:
            self._open(directory)
        except OSError as error:
            raise storage_failed(error, "opening the log", self.directory) from error
        if self._prepare_ahead and not self._segments:
            self._spare.prepare()  # of a wiped node: before entries come, and beside other nodes' syncs, which are not to wait

    # --- reading ---------------------------------------------------------------------------------------------------------

    def state(self) -> LogState:
        return LogState(self._marks.purged, self._last, tuple(self._outline.runs), tuple(self._outline.memberships))

    def hard_state(self) -> HardState:
        return self._hard_state.value

    def read(self, after: LogIndex, upto: LogIndex, bytes_max: int) -> list[Entry]:
        return self._reader.read(after, upto, bytes_max)

    def verify(self) -> None:
        """Verify the sealed segments that the start did not: those that exceeded its budget.

        May be called in any thread, beside everything else. Raises: Damaged, StorageFailed.
        """
        self._reader.verify()

    def watch_failure(self, told: Callable[[RaftError], None]) -> None:
        """Do what `verify` does in a thread, beside everything else, and have `told` called if something is damaged."""
        if self._prepare_ahead:
            self._verification.begin(told)

    # --- writing: one thread ----------------------------------------------------------------------------------------------

    @_fail_stop
    def append(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        assert entries[0].index == self._last.index + 1, f"{entries[0]} does not follow {self._last}"
        assert entries[-1].index == entries[0].index + len(entries) - 1, "entries are not consecutive"
        self._hard_state.sync()
        while entries:
            segment = self._segment_with_room(len(entries[0].record))
            count = self._write(segment, [entry.record for entry in entries])
            written = entries if count == len(entries) else entries[:count]
            memberships = memberships_in(written)
            segment.outline.add(written, memberships)
            self._outline.add(written, memberships)
            self._last = written[-1].log_id
            entries = entries[count:]
        active = self._segments[-1]
        if self._prepare_ahead and active.end * _SPARE_WHEN_FILLED > active.size:
            self._spare.prepare()

    @_fail_stop
    def truncate(self, after: LogIndex) -> None:
        after = max(after, self._marks.purged.index)
        if after >= self._last.index:
            return
        self._sync()
        self._sealing.wait()
        kept_count = max(1, sum(segment.first_index <= after for segment in self._segments))
        kept = self._segments[kept_count - 1]
        last = self._id_at(after)
        if kept is not self._segments[-1]:
            self._reactivate(kept)
        self._mark(newest=kept.first_index, truncate_after=after, durable=after)
        with self._reader.cutting():
            removed = self._segments[kept_count:]
            del self._segments[kept_count:]
            old_end = kept.end
            kept.cut(after + 1 - kept.first_index)
        self._last = last
        self._outline.forget_after(after)
        kept.outline.forget_after(after)
        self._remove(removed)
        self._zero_tail(kept, min(old_end + kept.seals.size, self._files.size(_open_file(kept))))
        self._mark(truncate_after=None, durable=after)

    @_fail_stop
    def purge(self, upto: LogId) -> None:
        if upto.index <= self._marks.purged.index:
            return
        if upto.index > self._last.index:
            self._reset(upto)
            return
        self._sync()
        self._sealing.wait()
        self._mark(purged=upto, durable=self._last.index)
        with self._reader.cutting():
            gone = sum(segment.last_index <= upto.index for segment in self._segments[:-1])
            removed = self._segments[:gone]
            del self._segments[:gone]
        self._remove(removed, keep=True)
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
        self._verification.stop()
        self._spare.close()
        self._sealing.wait()
        self._mark_end()
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
            self._files.fdatasync(_open_file(active))
            active.durable = active.end
            self._say_durable(active)

    def _say_durable(self, segment: Segment) -> None:
        """Put a seal behind the last record. Nobody waits for it: it is there for a later start to read.

        In a full segment it stands behind the end, so that rot in the last record is known for what it is there too.
        """
        self._files.pwrite(_open_file(segment), segment.seals.encode(segment.end, segment.end), segment.end)

    def _write(self, segment: Segment, records: list[bytes]) -> int:
        """Write as many records as fit, at least one, and return how many."""
        offsets = list(accumulate(map(len, records), initial=segment.end + segment.seals.size))
        if offsets[-1] > segment.size:
            records = records[: max(1, bisect_right(offsets, segment.size) - 1)]
        count = len(records)
        checksums = checksums_of(records) if segment.seals.covers_batches else b""
        seal = segment.seals.encode(segment.end, segment.durable, offsets[count] - offsets[0], checksums)
        self._files.pwrite(_open_file(segment), b"".join((seal, *records)), segment.end)
        with self._reader.lock:
            segment.add(offsets[:count], offsets[count])
        return count

    def _segment_with_room(self, record_bytes: int) -> Segment:
        """Return the active segment if the record fits, otherwise begin a new one (which takes any one record)."""
        active = self._segments[-1] if self._segments else None
        if active is not None:
            if active.count == 0 or active.end + active.seals.size + record_bytes <= active.size:
                return active
            self._sync_segment()
            self._files.fdatasync(_open_file(active))  # its last seal too: torn, it would be taken for rot from now on
        if self._marks.newest == 0:
            self._before_first_segment()
        header = SegmentHeader(
            LogIndex(self._last.index + 1), self._last, self._files.random_bits(32), self._spare.is_reused
        )
        path = self._segment_path(header.first_index)
        encoded = encode_segment_header(header)
        descriptor = self._spare.take(path, encoded)
        segment = Segment(path, header, self._files.size(descriptor))
        segment.descriptor, segment.durable = descriptor, segment.end
        self._mark(newest=header.first_index, durable=self._last.index)
        if active is not None:
            self._seal(active, header)
        self._reader.add(segment)
        return segment

    def _seal(self, segment: Segment, following: SegmentHeader) -> None:
        """Nothing is added to a segment any more: have its index written, for later starts."""
        descriptor, offsets = _open_file(segment), segment.offsets
        assert offsets is not None, "the active segment's table is in memory"
        segment.descriptor = None
        self._sealing.begin(segment, segment.seal(following), descriptor, offsets)

    def _reactivate(self, segment: Segment) -> None:
        """Make a sealed segment one that is added to; those behind it are about to be removed."""
        index = self._reader.reactivate(segment)
        segment.outline.add_scanned(index.runs, index.memberships, index.last.index)
        segment.descriptor = self._files.open(segment.path)
        self._unlink_index(segment)

    def _reset(self, upto: LogId) -> None:
        self._sync()
        self._sealing.wait()
        self._mark(purged=upto, newest=LogIndex(0), truncate_after=None, durable=upto.index)
        with self._reader.cutting():
            removed = self._segments[:]
            self._segments.clear()
        self._last = upto
        # Not those whose entries may come again under the same index; the others are what a purge leaves.
        self._remove([segment for segment in removed if segment.last_index > upto.index])
        self._remove([segment for segment in removed if segment.last_index <= upto.index], keep=True)
        self._outline = Outline(upto.index)

    def _mark(self, *, durable: int, **changes: object) -> None:
        """Change the marks, durably; entries up to `durable` are so already."""
        marks = msgspec.structs.replace(self._marks, durable=LogIndex(durable), **changes)
        self._marks_file.write(msgspec.msgpack.encode(marks))
        self._marks_file.sync()
        self._marks = marks
        self._reader.purged = marks.purged

    def _mark_end(self) -> None:
        """Say in another file, too, how far the log is durable: a last sector that rots is then not taken for a torn write."""
        active = self._segments[-1] if self._segments else None
        if self.failure is not None or active is None or active.durable < active.end:
            return
        if self._last.index > self._marks.durable:
            with suppress(OSError):
                self._mark(durable=self._last.index)

    def _remove(self, segments: list[Segment], *, keep: bool = False) -> None:
        """Remove files, newest first, so that no crash leaves a hole; `keep` some of them for later segments."""
        for segment in reversed(segments):
            if not keep or not self._spare.keep(segment.path, max(segment.size, segment.end)):
                self._files.unlink(segment.path)
            self._unlink_index(segment)
            self._close(segment)
        if segments:
            self._files.fsync_dir(self.directory)

    def _unlink_index(self, segment: Segment) -> None:
        if self._files.exists(index_path(segment.path)):
            self._files.unlink(index_path(segment.path))

    def _close(self, segment: Segment) -> None:
        self._reader.forget(segment)
        if segment.descriptor is not None:
            descriptor, segment.descriptor = segment.descriptor, None
            self._files.close(descriptor)

    def _zero_tail(self, segment: Segment, until: int) -> None:
        self._files.zero(_open_file(segment), segment.end, until)
        self._files.fdatasync(_open_file(segment))
        segment.durable = segment.end
        self._say_durable(segment)

    def _close_segments(self) -> None:
        with self._reader.cutting():
            segments = self._segments[:]
            self._segments.clear()
        for segment in segments:
            self._close(segment)

    def _segment_path(self, first_index: LogIndex) -> Path:
        return self.directory / f"{first_index:020d}{SEGMENT_SUFFIX}"

    def _id_at(self, index: int) -> LogId:
        if index == self._marks.purged.index:
            return self._marks.purged
        return self.read(LogIndex(index - 1), LogIndex(index), 0)[0].log_id

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
            self._reader.purged = self._marks.purged
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
        sealed = {index_path(path).name for first, path in paths.items() if first != self._marks.newest}
        for name in self._files.names(self.directory):
            if name.endswith(INDEX_SUFFIX) and name not in sealed:
                self._files.unlink(self.directory / name)
        return [paths[first] for first in sorted(paths)]

    def _load(self, paths: list[Path]) -> None:
        marks = self._marks
        check_segment_names(paths, marks, self.directory)
        self._refuse_noted_damage(paths)
        self._last = marks.purged
        heads = [read_segment_header(path, self._files) for path in paths]
        left = [self._verified_bytes - size for size in accumulate(size for _, size in reversed(heads[:-1]))][::-1]
        for path, head, (following, _), bytes_left in zip(paths, heads, heads[1:], left, strict=False):
            self._load_sealed(path, *head, following, is_verified=bytes_left >= 0)
        if paths:
            self._load_newest(paths[-1])
        check_purge_mark(marks, self._last, self._outline.runs, self.directory)
        self._outline.forget_upto(marks.purged.index)

    def _refuse_noted_damage(self, paths: list[Path]) -> None:
        """Refuse a log in which damage was found before, unless the segment is no part of it any more."""
        note = load_note(self.directory, self._files)
        if note is None:
            return
        if any(path.name == note.segment for path in paths):
            raise note.error(self.directory)
        self._files.unlink(self.directory / NOTE_NAME)

    def _load_sealed(
        self, path: Path, header: SegmentHeader, size: int, following: SegmentHeader, *, is_verified: bool
    ) -> None:
        """Take in what the segment's index says, or if there is none to be believed, what its records say."""
        last = self._last if self._segments else None
        check_segment_header(header, path, last)
        index = read_index(self._files, path, size)
        if (
            index is None
            or not index.describes(header, size, following)
            or (is_verified and not is_unchanged(self._files, path, index))
        ):
            is_verified = True
            data = self._files.read_whole(path)
            _, scan = load_segment(data, path, last, self._marks, is_newest=False)
            index = make_index(header, scan, following.salt, crc32(memoryview(data)[: scan.end]))
            write_index(self._files, path, index, scan.offsets)
        self._segments.append(Segment.sealed(path, size, index, is_verified=is_verified))
        self._last = index.last
        self._outline.add_scanned(index.runs, index.memberships, index.last.index)

    def _load_newest(self, path: Path) -> None:
        data = self._files.read_whole(path)
        last = self._last if self._segments else None
        header, scan = load_segment(data, path, last, self._marks, is_newest=True)
        segment = Segment.scanned(path, len(data), header, scan)
        segment.descriptor = self._files.open(path)
        self._segments.append(segment)
        self._last = scan.last
        self._outline.add_scanned(scan.runs, scan.memberships, scan.last.index)
        self._finish_newest(segment, scan, data)

    def _finish_newest(self, segment: Segment, scan: Scan, data: bytes) -> None:
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
        descriptor = _open_file(segment)
        if self._marks.truncate_after is not None:
            self._files.zero(descriptor, scan.end, segment.size)
        elif scan.data_end > scan.end:
            self._files.zero(descriptor, scan.end, scan.data_end)
        durable = max(scan.durable, SEGMENT_HEADER_BYTES)
        if durable < scan.end:
            self._files.pwrite(descriptor, data[durable : scan.end], durable)
        self._files.fdatasync(descriptor)
        segment.durable = segment.end
        self._say_durable(segment)
        if self._marks.truncate_after is not None or (scan.problem is not None and segment.seals.covers_batches):
            # What is left of a batch is vouched for by its seal no more, and what was shown once must be there at the next start.
            self._mark(truncate_after=None, durable=segment.last_index)


def _open_file(segment: Segment) -> int:
    assert segment.descriptor is not None, "only the active segment is written to"
    return segment.descriptor
