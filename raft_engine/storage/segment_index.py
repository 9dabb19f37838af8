"""What is in a segment that nothing is added to any more, so that a start reads this instead of the records.

    head      magic, version, length of the summary, CRC-32 of all that and of the summary
    summary   msgpack, see `SegmentIndex`
    table     where each record begins: little-endian, 4 bytes each; its CRC-32 is in the summary

An index lies beside its segment, is written when the next segment has begun, and is derived: it is never synced, whatever is
wrong with it or with writing it stops nobody, and it is made again from the records. It is believed only while it belongs to
this very segment, followed by the very segment that followed when it was written (both have random salts): what was cut off and
written anew has other neighbours. What it says about records is believed until one is read: each record's own checksum
decides, and `content_crc` tells a verification of the whole segment whether a byte has changed since.
Source: own; the summary is what etcd and LevelDB rebuild at each start, the table is Kafka's offset index, dense.
"""

from __future__ import annotations

import logging
import struct
import sys
import zlib
from array import array
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.storage.files import Files
from raft_engine.storage.interface import LogRun
from raft_engine.storage.segment_format import SEGMENT_HEADER_BYTES, Scan, SegmentHeader
from raft_engine.types.entry import HEADER_BYTES
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import StoredMembership
from raft_engine.types.unreadable import UNREADABLE

INDEX_VERSION: Final = 1
INDEX_SUFFIX: Final = ".idx"
_MAGIC: Final = b"RAFTSIDX"
_HEAD: Final = struct.Struct("<8sHHII")
_CRC_BYTES: Final = 4
_OFFSET_BYTES: Final = 4
_READ_BYTES: Final = 1024 * 1024
UNKNOWN_CRC: Final = -1
"""Instead of a content's checksum, while a thread is about to compute it; never on the disk."""
_FIRST_READ_BYTES: Final = 4096
"""Nearly every summary is shorter, and the disk reads a page anyway."""

_logger = logging.getLogger("raft_engine.storage")


class SegmentIndex(msgspec.Struct, frozen=True):
    """A sealed segment's summary.

    `end`: bytes from there on are no records. `next_salt`: of the segment that follows. `content_crc`: CRC-32 of the bytes
    before `end`, or `UNKNOWN_CRC`.
    """

    header: SegmentHeader
    last: LogId
    end: int
    next_salt: int
    table_crc: int
    content_crc: int
    runs: tuple[LogRun, ...] = ()
    memberships: tuple[StoredMembership, ...] = ()

    @property
    def count(self) -> int:
        """Return the number of records."""
        return self.last.index - self.header.first_index + 1

    def describes(self, header: SegmentHeader, size: int, following: SegmentHeader) -> bool:
        """Tell whether this is the index of a segment of `size` bytes, with `following` behind it."""
        return (
            self.header == header
            and SEGMENT_HEADER_BYTES + self.count * HEADER_BYTES <= self.end <= size
            and self.last == following.previous
            and self.next_salt == following.salt
        )


def index_path(segment: Path) -> Path:
    return segment.with_suffix(INDEX_SUFFIX)


def make_index(header: SegmentHeader, found: Scan, next_salt: int, content_crc: int) -> SegmentIndex:
    """Return the index of a segment with the records `found`; `next_salt` is that of the segment which follows."""
    return SegmentIndex(
        header,
        found.last,
        found.end,
        next_salt,
        zlib.crc32(_to_bytes(found.offsets)),
        content_crc,
        tuple(found.runs),
        tuple(found.memberships),
    )


def encode_index(index: SegmentIndex, offsets: array[int]) -> bytes:
    summary = msgspec.msgpack.encode(index)
    covered = _HEAD.pack(_MAGIC, INDEX_VERSION, 0, len(summary), 0)[:-_CRC_BYTES]
    crc = zlib.crc32(summary, zlib.crc32(covered))
    return covered + crc.to_bytes(_CRC_BYTES, "little") + summary + _to_bytes(offsets)


def write_index(files: Files, segment: Path, index: SegmentIndex, offsets: array[int]) -> None:
    """Put the index beside its segment. A disk that refuses costs a later start some time, nothing else."""
    path = index_path(segment)
    data = encode_index(index, offsets)
    try:
        descriptor = files.open(path, create=True)
        try:
            files.cut(descriptor, 0)
            files.pwrite(descriptor, data, 0)
        finally:
            files.close(descriptor)
    except OSError as error:
        _logger.warning("no index for %s, the next start reads the segment instead: %s", segment, error)


def read_index(files: Files, segment: Path, size: int) -> SegmentIndex | None:
    """Return the summary beside a segment of `size` bytes, or None if there is none that can be believed."""
    data = _read(files, segment, 0, _FIRST_READ_BYTES)
    summary_bytes = _summary_bytes(data)
    if summary_bytes is None or summary_bytes > size:
        return None
    missing = _HEAD.size + summary_bytes - len(data)
    if missing > 0:
        data += _read(files, segment, len(data), missing)
    return _decode_summary(data, summary_bytes)


def read_table(files: Files, segment: Path, index: SegmentIndex) -> array[int] | None:
    """Return where each record begins, or None if the table beside the segment is not the one of `index`."""
    summary_bytes = _summary_bytes(_read(files, segment, 0, _HEAD.size))
    if summary_bytes is None:
        return None
    table = _read(files, segment, _HEAD.size + summary_bytes, index.count * _OFFSET_BYTES)
    if len(table) != index.count * _OFFSET_BYTES or zlib.crc32(table) != index.table_crc:
        return None
    return _from_bytes(table)


def content_crc(files: Files, descriptor: int, end: int) -> int:
    """Return the CRC-32 of a file's bytes before `end`; both reading and computing let other threads run.

    Raises: OSError: the disk fails.
    """
    crc = 0
    for offset in range(0, end, _READ_BYTES):
        crc = zlib.crc32(files.pread(descriptor, min(_READ_BYTES, end - offset), offset), crc)
    return crc


def _read(files: Files, segment: Path, offset: int, count: int) -> bytes:
    """Return bytes of the index beside a segment; fewer, or none, if they are not there or cannot be read."""
    try:
        descriptor = files.open(index_path(segment), write=False)
        try:
            return files.pread(descriptor, count, offset)
        finally:
            files.close(descriptor)
    except FileNotFoundError:
        return b""
    except OSError as error:
        _logger.warning("the index beside %s cannot be read, the segment is read instead: %s", segment, error)
        return b""


def _summary_bytes(data: bytes) -> int | None:
    """Return the length that an index's head tells; None: it is no head that this program knows."""
    if len(data) < _HEAD.size:
        return None
    magic, version, _reserved, summary_bytes, _crc = _HEAD.unpack_from(data)
    return int(summary_bytes) if (magic, version) == (_MAGIC, INDEX_VERSION) else None


def _decode_summary(data: bytes, summary_bytes: int) -> SegmentIndex | None:
    summary = data[_HEAD.size : _HEAD.size + summary_bytes]
    crc = zlib.crc32(summary, zlib.crc32(data[: _HEAD.size - _CRC_BYTES]))
    if crc != _HEAD.unpack_from(data)[-1]:
        return None
    try:
        index = msgspec.msgpack.decode(summary, type=SegmentIndex)
    except UNREADABLE:
        return None
    return index if index.count >= 1 and index.content_crc != UNKNOWN_CRC else None


def _to_bytes(offsets: array[int]) -> bytes:
    if sys.byteorder == "big":
        offsets = offsets[:]
        offsets.byteswap()
    return offsets.tobytes()


def _from_bytes(table: bytes) -> array[int]:
    offsets = array("I")
    offsets.frombytes(table)
    if sys.byteorder == "big":
        offsets.byteswap()
    return offsets
