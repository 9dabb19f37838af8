"""Reading entries and snapshots out of a data directory that nobody has to open: one segment in memory at a time.

Nothing is written and no lock is taken.
Source: as `storage/inspection`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from raft_engine.errors import Damaged
from raft_engine.storage.files import Files
from raft_engine.storage.log_checks import MARKS_MAGIC, MARKS_NAME, Marks, decode_marks, load_segment, segment_paths
from raft_engine.storage.segment_format import Scan, SegmentHeader, decode_segment_header, scan_segment
from raft_engine.storage.segment_log import LOG_DIRECTORY
from raft_engine.storage.snapshot_files import SNAPSHOT_DIRECTORY, SNAPSHOT_SUFFIX
from raft_engine.storage.snapshot_format import read_chunks, read_meta
from raft_engine.storage.two_slots import newest_slot, read_slots
from raft_engine.types.entry import Entry, decode_record
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import LogId
from raft_engine.types.snapshot import SnapshotMeta

FIRST: Final = LogIndex(1)
LAST: Final = LogIndex(2**63 - 1)
"""As an end: whatever is the last."""


def read_marks(path: Path, files: Files) -> Marks:
    """Return the marks of the log below a data directory.

    Raises: Damaged, NewerFormat, OSError.
    """
    marks_path = path / LOG_DIRECTORY / MARKS_NAME
    descriptor = files.open(marks_path, write=False)
    try:
        slots = read_slots(files, descriptor, MARKS_MAGIC, str(marks_path))
    finally:
        files.close(descriptor)
    return decode_marks(newest_slot(slots, str(marks_path)).value, marks_path)


def last_log_id(path: Path, files: Files) -> LogId:
    """Return the last entry of the log below a data directory, or the purged one before an empty log.

    Raises: Damaged, NewerFormat, OSError.
    """
    marks = read_marks(path, files)
    newest = segment_paths(path / LOG_DIRECTORY, files).get(marks.newest)
    if newest is None:
        return marks.purged
    return load_segment(files.read_whole(newest), newest, None, marks, is_newest=True)[1].last


def entries_in(path: Path, since: LogIndex = FIRST, upto: LogIndex = LAST) -> Iterator[Entry]:
    """Yield the entries from `since` to `upto`, both included, that are in the log of a data directory.

    Raises: Damaged: an entry is damaged, and all before it were yielded; NewerFormat, OSError.
    """
    files = Files()
    marks = read_marks(path, files)
    found = segment_paths(path / LOG_DIRECTORY, files)
    firsts = [first for first in sorted(found) if first <= min(marks.newest, upto)]
    begin = max(since, marks.purged.index + 1)
    needed = [first for first, following in pairwise([*firsts, LAST]) if following > begin]
    last: LogId | None = None
    for first in needed:
        data = files.read_whole(found[first])
        damaged: Damaged | None = None
        try:
            header, scan = load_segment(data, found[first], last, marks, is_newest=first == marks.newest)
        except Damaged as error:
            if error.record is None:
                raise
            damaged = error
            header, scan = salvaged(data, found[first])
        last = scan.last
        for index, offset in enumerate(scan.offsets, header.first_index):
            if begin <= index <= upto:
                yield decode_record(data, offset)
        if damaged is not None:
            raise damaged


def salvaged(data: bytes, path: Path) -> tuple[SegmentHeader, Scan]:
    """Return what stands in a segment before its first damaged record."""
    header = decode_segment_header(data, str(path))
    return header, scan_segment(data, header, str(path))


def newest_snapshot(path: Path) -> tuple[SnapshotMeta, Iterator[bytes]] | None:
    """Return the newest snapshot of a data directory and its chunks, each verified as it is read; None: there is none.

    Raises: Damaged, NewerFormat, OSError; also while the chunks are read.
    """
    files = Files()
    newest: tuple[SnapshotMeta, Path] | None = None
    for name in files.names(path / SNAPSHOT_DIRECTORY):
        if not name.endswith(SNAPSHOT_SUFFIX):
            continue
        file = path / SNAPSHOT_DIRECTORY / name
        descriptor = files.open(file, write=False)
        try:
            meta = read_meta(lambda at, count, it=descriptor: files.pread(it, count, at), files.size(descriptor), str(file))  # type: ignore[misc]
        finally:
            files.close(descriptor)
        if newest is None or meta.last_log_id > newest[0].last_log_id:
            newest = meta, file
    return None if newest is None else (newest[0], _chunks(newest[1], files))


def _chunks(file: Path, files: Files) -> Iterator[bytes]:
    descriptor = files.open(file, write=False)
    try:
        yield from read_chunks(lambda at, count: files.pread(descriptor, count, at), files.size(descriptor), str(file))
    finally:
        files.close(descriptor)
