"""What a log segment looks like as bytes, and telling a write cut short from rot.

    header    magic, version, first index, id of the entry before it, salt, CRC-32
    then      records (see `types/entry`), one after the other, and seals between them (see `segment_seal`)
    then      zeros to the end of the file; in version 2, what the file held before it became this segment

A seal says how many bytes of this file were durable when it was written. It settles what a bad record means:

    a seal behind it says it had been durable      rot: an acknowledged entry is damaged, the log must not be used
    none does                                      the last batch was cut short by a crash; nobody was told of it: cut it off

Looking for a later valid record instead would call it rot when a power failure kept the second page of the last batch and
lost the first. In version 2 a record is believed only in a batch that is whole as its seal says, or where seals or marks say that
it had been durable: anything else may be an older entry.
Source: own format; the question is that of protocol-aware recovery (Alagappan et al., FAST 2018).
"""

from __future__ import annotations

import struct
import zlib
from array import array
from typing import Final

import msgspec

from raft_engine.errors import Damaged, NewerFormat
from raft_engine.storage.interface import LogRun
from raft_engine.storage.segment_seal import LEAST_MARK, PLAIN_MARK, Seals
from raft_engine.types.entry import DATA_BYTES_MAX, HEADER, HEADER_BYTES, RECORD_VERSION, EntryKind
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import StoredMembership, decode_membership

VERSION: Final = 2
"""1: the file was zeros; 2: it was a segment before."""
_MAGIC: Final = b"RAFTSEGM"
_SEGMENT_HEADER: Final = struct.Struct("<8sHHI5QI")
SEGMENT_HEADER_BYTES: Final = _SEGMENT_HEADER.size
_RECORD_BYTES_MAX: Final = HEADER_BYTES + DATA_BYTES_MAX
assert min(PLAIN_MARK, LEAST_MARK) > _RECORD_BYTES_MAX, "a seal must not look like a record's length"
_RECORD_CRC_FROM: Final = 8
_MEMBERSHIP: Final = int(EntryKind.MEMBERSHIP)
_ZERO_STEP_BYTES: Final = 64 * 1024


class SegmentHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """`previous` is the id of entry `first_index - 1`; `salt` is random, drawn per segment; `is_reused`: the file was one before."""

    first_index: LogIndex
    previous: LogId
    salt: int
    is_reused: bool = False

    @property
    def seals(self) -> Seals:
        return Seals(self.salt, covers_batches=self.is_reused)


class Problem(msgspec.Struct, frozen=True):
    """The first thing in a segment that is neither record, seal nor the zeros at its end.

    `is_rot`: it had been durable. Otherwise a write was cut short there.
    """

    reason: str
    offset: int
    index: LogIndex
    is_rot: bool


class Scan(msgspec.Struct):
    """What stands in a segment: its good records, up to the end or to the first problem.

    `end` is where the next write goes, `data_end` where the zeros begin; bytes before `durable` were durable, as a seal says.
    """

    offsets: array[int]
    last: LogId
    runs: list[LogRun]
    memberships: list[StoredMembership]
    end: int
    data_end: int
    problem: Problem | None = None
    durable: int = 0


def encode_segment_header(header: SegmentHeader) -> bytes:
    previous = header.previous
    packed = _SEGMENT_HEADER.pack(
        _MAGIC,
        2 if header.is_reused else 1,
        0,
        0,
        header.first_index,
        previous.term,
        previous.node_id,
        previous.index,
        header.salt,
        0,
    )
    return packed[:-4] + zlib.crc32(packed[:-4]).to_bytes(4, "little")


def decode_segment_header(data: bytes, path: str) -> SegmentHeader:
    """Return the header at the beginning of a segment.

    Raises: Damaged, NewerFormat.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        raise Damaged("the log segment is too short to be one", path=path, offset=0)
    magic, version, _, _, first_index, term, node_id, index, salt, crc = _SEGMENT_HEADER.unpack_from(data)
    if magic == _MAGIC and version > VERSION:
        raise NewerFormat(f"log format {version} is newer than this program knows ({VERSION})", path=path)
    if magic != _MAGIC or version < 1 or zlib.crc32(data[: SEGMENT_HEADER_BYTES - 4]) != crc or index + 1 != first_index:
        raise Damaged("the log segment's header is damaged", path=path, offset=0)
    return SegmentHeader(
        LogIndex(first_index), LogId(Term(term), NodeId(node_id), LogIndex(index)), salt, version == VERSION
    )


def scan_segment(  # noqa: C901, PLR0912, PLR0915 (see below)
    data: bytes, header: SegmentHeader, path: str, upto: LogIndex | None = None, durable_upto: int = 0
) -> Scan:
    """Return what stands in a whole segment, every checksum verified; entries after `upto` are not looked at.

    One loop on purpose: a call per record would make a restart with a million entries twice as long.

    Args:
        durable_upto: entries up to this one had been durable, whatever the seals say.
    Raises: NewerFormat: a record of a later version.
    """
    seals, is_reused = header.seals, header.is_reused
    scan = Scan(array("I"), header.previous, [], [], SEGMENT_HEADER_BYTES, len(data) if is_reused else _data_end(data))
    offset, index, data_end = SEGMENT_HEADER_BYTES, int(header.first_index), scan.data_end
    believed_until = offset if is_reused else data_end
    written, batch = offset, 0
    run, term_min = (-1, -1), header.previous.term
    last_index = index + len(data) if upto is None else upto
    last_header_at = len(data) - HEADER_BYTES
    view, unpack, crc32, note = memoryview(data), HEADER.unpack_from, zlib.crc32, scan.offsets.append
    seal_mark = seals.mark
    reason = ""
    while offset < data_end and index <= last_index:
        length, crc, version, kind, _reserved, term, node_id, found = (
            unpack(data, offset) if offset <= last_header_at else (seal_mark, 0, 0, 0, 0, 0, 0, 0)
        )
        if length == seal_mark:
            seal = seals.at(data, offset)
            if seal is not None:
                scan.durable = max(scan.durable, seal.durable)
                offset += seals.size
                written, batch = offset + seal.batch_bytes, seal.batch_bytes
                if batch and seals.is_whole(data, offset, seal):
                    believed_until = written
                continue
        if offset >= believed_until and index > durable_upto:
            behind = seals.behind(data, offset)
            written = max(written, behind.written)
            if behind.durable <= offset:
                reason = "the batch was cut short" if batch else ""
                break
            believed_until = behind.durable
        if offset > last_header_at:
            reason = "the record is cut short"
            break
        if not HEADER_BYTES <= length <= _RECORD_BYTES_MAX or offset + length > len(data):
            reason = f"impossible record length {length}"
            break
        if crc32(view[offset + _RECORD_CRC_FROM : offset + length]) != crc:
            reason = "checksum does not match"
            break
        if version != RECORD_VERSION:
            if version < RECORD_VERSION:
                reason = f"record version {version} was never one"
                break
            raise NewerFormat(f"record version {version} at byte {offset} is newer than this program knows", path=path)
        if found != index or term < term_min:
            reason = f"entry T{term}-N{node_id}.{found} stands where index {index} belongs"
            break
        if kind >= _MEMBERSHIP:
            if kind > _MEMBERSHIP:
                reason = f"unknown entry kind {kind}"
                break
            try:
                membership = decode_membership(data[offset + HEADER_BYTES : offset + length])
            except msgspec.MsgspecError as error:
                reason = f"the membership cannot be read: {error}"
                break
            scan.memberships.append(StoredMembership(LogId(Term(term), NodeId(node_id), LogIndex(index)), membership))
        if (term, node_id) != run:
            run, term_min = (term, node_id), term
            scan.runs.append(LogRun(LogIndex(index), Term(term), NodeId(node_id)))
        note(offset)
        batch = 0
        offset += length
        index += 1
        scan.end = offset
    if run[0] >= 0:
        scan.last = LogId(Term(run[0]), NodeId(run[1]), LogIndex(index - 1))
    if is_reused:
        scan.data_end = min(len(data), max(written, scan.end))
    if reason:
        scan.problem = Problem(reason, offset, LogIndex(index), is_rot=seals.behind(data, offset).durable > offset)
    return scan


def _data_end(data: bytes) -> int:
    """Return the length of `data` without the zeros at its end."""
    end = len(data)
    zeros = bytes(_ZERO_STEP_BYTES)
    while end >= _ZERO_STEP_BYTES and data[end - _ZERO_STEP_BYTES : end] == zeros:
        end -= _ZERO_STEP_BYTES
    start = max(0, end - _ZERO_STEP_BYTES)
    return start + len(data[start:end].rstrip(b"\0"))
