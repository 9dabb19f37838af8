"""What the files of a log must agree on, and what it means when they do not.

The marks say durably which segments there must be. A segment that is missing, that does not follow the one before, or whose
durable records are altered is a loss of what was acknowledged: the log must not be used.
Source: own; protocol-aware recovery (Alagappan et al., FAST 2018).
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.errors import Damaged
from raft_engine.storage.files import Files
from raft_engine.storage.hints import WAY_A_HINT
from raft_engine.storage.interface import LogRun
from raft_engine.storage.segment_format import (
    SEGMENT_HEADER_BYTES,
    Problem,
    Scan,
    SegmentHeader,
    decode_segment_header,
    scan_segment,
)
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.unreadable import UNREADABLE

MARKS_NAME: Final = "marks"
MARKS_MAGIC: Final = b"RAFTMARK"
SEGMENT_SUFFIX: Final = ".seg"
LOST_HINT: Final = f"what this node acknowledged is lost; {WAY_A_HINT}"


class Marks(msgspec.Struct, frozen=True):
    """`newest`: first index of the newest segment, 0: none. `truncate_after`: a truncation that has begun.

    `durable`: entries up to this one were durable when the marks were written. That is whenever they are written anyway, and
    when the log is closed: seals say so too, but the last one may share its sector with the last record.
    """

    purged: LogId = BEFORE_LOG
    newest: LogIndex = LogIndex(0)
    truncate_after: LogIndex | None = None
    durable: LogIndex = LogIndex(0)


def segment_paths(directory: Path, files: Files) -> dict[LogIndex, Path]:
    """Return the segments in a log directory by their first index."""
    paths = (directory / name for name in files.names(directory) if name.endswith(SEGMENT_SUFFIX))
    return {LogIndex(int(path.stem)): path for path in paths if path.stem.isdecimal()}


def decode_marks(value: bytes, path: Path) -> Marks:
    try:
        return msgspec.msgpack.decode(value, type=Marks)
    except UNREADABLE as error:
        raise Damaged(f"the log's marks cannot be read: {error}", path=str(path)) from error


def check_segment_names(paths: list[Path], marks: Marks, directory: Path) -> None:
    """Check that the first and the newest segment are there.

    Raises: Damaged: a segment is missing.
    """
    newest = int(paths[-1].stem) if paths else 0
    if newest != marks.newest:
        found = f"the newest one there begins with {newest}" if paths else "there is none"
        raise Damaged(
            f"the log segment that begins with entry {marks.newest} is missing: {found}", path=str(directory), hint=LOST_HINT
        )
    if paths and int(paths[0].stem) > marks.purged.index + 1:
        raise Damaged(
            f"log segments are missing: the log must go on after entry {marks.purged.index}, "
            f"the first one there begins with {int(paths[0].stem)}",
            path=str(directory),
            hint=LOST_HINT,
        )


def read_segment_header(path: Path, files: Files) -> tuple[SegmentHeader, int]:
    """Return a segment's header and the size of its file.

    Raises: Damaged, NewerFormat, OSError.
    """
    descriptor = files.open(path, write=False)
    try:
        return decode_segment_header(files.pread(descriptor, SEGMENT_HEADER_BYTES, 0), str(path)), files.size(descriptor)
    finally:
        files.close(descriptor)


def check_segment_header(header: SegmentHeader, path: Path, last: LogId | None) -> None:
    """Check that a segment follows the entry `last` (None: it is the first one).

    Raises: Damaged.
    """
    if header.first_index != int(path.stem) or (last is not None and header.previous != last):
        raise Damaged(
            f"this log segment follows {header.previous}, the one before ends with {last}: one is missing or misplaced",
            path=str(path),
            offset=0,
            hint=LOST_HINT,
        )


def load_segment(
    data: bytes, path: Path, last: LogId | None, marks: Marks, *, is_newest: bool
) -> tuple[SegmentHeader, Scan]:
    """Return a segment's header and records.

    Args:
        last: the last entry of the segment before, None for the first one.
    Raises: Damaged: something durable is altered or missing. A write cut short at the newest segment's end is no damage.
    """
    header = decode_segment_header(data, str(path))
    check_segment_header(header, path, last)
    upto, durable = (marks.truncate_after, marks.durable) if is_newest else (None, 0)
    scan = scan_segment(data, header, str(path), upto, durable)
    problem = scan.problem
    is_short = is_newest and scan.last.index < marks.durable
    if is_short and problem is None:
        problem = Problem("it was durable and is not there", scan.end, LogIndex(scan.last.index + 1), is_rot=True)
    if problem is not None and (problem.is_rot or is_short or not is_newest):
        raise Damaged(
            f"entry {problem.index}: {problem.reason}",
            path=str(path),
            offset=problem.offset,
            hint=LOST_HINT,
            record=problem.index,
        )
    return header, scan


def check_purge_mark(marks: Marks, last: LogId, runs: list[LogRun], directory: Path) -> None:
    """Check that the log reaches up to its purge mark, and that the entry there is the purged one.

    Raises: Damaged.
    """
    purged = marks.purged
    if last.index < purged.index:
        raise Damaged(f"the log ends with {last}, before the purged entry {purged}", path=str(directory), hint=LOST_HINT)
    if last.index == purged.index and last != purged:
        raise Damaged(f"the log ends with {last}, the purged entry was {purged}", path=str(directory), hint=LOST_HINT)
    number = bisect_right(runs, purged.index, key=lambda run: run.first_index) - 1
    if number >= 0 and (runs[number].term, runs[number].node_id) != (purged.term, purged.node_id):
        raise Damaged(
            f"entry {purged.index} is of term {runs[number].term}, the purged one was {purged}",
            path=str(directory),
            hint=LOST_HINT,
        )
