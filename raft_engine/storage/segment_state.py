"""What a running log knows of each of its segments.

Of a sealed one, to which nothing is added any more, only a few numbers stay in memory; where its records begin is read from
its index when somebody reads there (`segment_reader`).
"""

from __future__ import annotations

from array import array
from pathlib import Path

from raft_engine.storage.outline import Outline
from raft_engine.storage.segment_format import SEGMENT_HEADER_BYTES, Scan, SegmentHeader
from raft_engine.storage.segment_index import UNKNOWN_CRC, SegmentIndex, make_index
from raft_engine.types.ids import LogIndex


class Segment:
    """One segment. The last one of a log is active, all others are sealed.

    `end` is where the next batch goes, bytes before `durable` are synced.
    `descriptor`: of the active one only; a reader opens the file for itself. `outline`: of the active one only, too.
    `offsets`: where each record begins; None: not in memory.
    `is_verified`: this process has seen each of its records, or written it.
    """

    __slots__ = (
        "count",
        "descriptor",
        "durable",
        "end",
        "header",
        "index",
        "is_verified",
        "offsets",
        "outline",
        "path",
        "seals",
        "size",
    )

    def __init__(self, path: Path, header: SegmentHeader, size: int) -> None:
        self.path = path
        self.header = header
        self.seals = header.seals
        self.size = size
        self.descriptor: int | None = None
        self.offsets: array[int] | None = array("I")
        self.count = 0
        self.end = SEGMENT_HEADER_BYTES
        self.durable = 0
        self.index: SegmentIndex | None = None
        self.is_verified = True
        self.outline = Outline(header.previous.index)

    @classmethod
    def sealed(cls, path: Path, size: int, index: SegmentIndex, *, is_verified: bool) -> Segment:
        """Return a sealed segment as its index describes it."""
        segment = cls(path, index.header, size)
        segment.offsets, segment.count = None, index.count
        segment.end = segment.durable = index.end
        segment.index, segment.is_verified = index, is_verified
        return segment

    @classmethod
    def scanned(cls, path: Path, size: int, header: SegmentHeader, scan: Scan) -> Segment:
        """Return a segment as its records were found."""
        segment = cls(path, header, size)
        segment.offsets, segment.count, segment.end = scan.offsets, len(scan.offsets), scan.end
        segment.outline.add_scanned(scan.runs, scan.memberships, scan.last.index)
        return segment

    @property
    def first_index(self) -> LogIndex:
        return self.header.first_index

    @property
    def last_index(self) -> int:
        return self.header.first_index + self.count - 1

    def add(self, offsets: list[int], end: int) -> None:
        assert self.offsets is not None, "records are added to the active segment only"
        self.offsets.extend(offsets)
        self.count = len(self.offsets)
        self.end = end

    def cut(self, count: int) -> None:
        """Keep the first `count` records."""
        assert self.offsets is not None, "the table is needed"
        if count < self.count:
            self.end = self.offsets[count]
            del self.offsets[count:]
            self.count = count

    def end_of(self, position: int) -> int:
        """Return where the record at `position` ends, or the next begins (a seal may stand between)."""
        assert self.offsets is not None, "the table is needed"
        return self.offsets[position + 1] if position + 1 < self.count else self.end

    def seal(self, following: SegmentHeader) -> SegmentIndex:
        """Note that nothing is added any more, as `following` has begun; return the index, its content's checksum unknown."""
        assert self.offsets is not None, "the active segment's table is in memory"
        outline = self.outline
        found = Scan(self.offsets, following.previous, outline.runs, outline.memberships, self.end, self.end)
        self.index = make_index(self.header, found, following.salt, UNKNOWN_CRC)
        self.outline = Outline(outline.upto)
        return self.index
