"""What stands in the log: an entry, encoded once when it is proposed and passed on as bytes ever after.

An entry *is* its record: the bytes on disk, on the wire and in memory are the same, checksum included, so that a
flipped bit is found wherever it happened. Record, version 1, little-endian:

    offset size
    0      4    length of the whole record in bytes (header and data)
    4      4    CRC-32 of everything from offset 8 to the end
    8      1    version (1)
    9      1    kind (EntryKind)
    10     2    reserved, zero
    12     8    term
    20     8    node id of the proposing leader
    28     8    index
    36     …    data

Source: own format; the fields are openraft's `Entry` and etcd's `raftpb.Entry`.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId

RECORD_VERSION: Final = 1
HEADER: Final = struct.Struct("<IIBBHQQQ")
HEADER_BYTES: Final = HEADER.size
_COVERED: Final = struct.Struct("<BBHQQQ")
_CRC_FROM: Final = 8
DATA_BYTES_MAX: Final = 64 * 1024 * 1024
"""Upper bound of an entry's data: what a decoder is willing to believe."""
_RECORD_BYTES_MAX: Final = HEADER_BYTES + DATA_BYTES_MAX


class EntryKind(enum.IntEnum):
    """What an entry's data means."""

    BLANK = 0
    """Nothing: a new leader's first entry, a barrier. Data may name a marker for the state machine."""
    NORMAL = 1
    """Application data."""
    MEMBERSHIP = 2
    """A `Membership`, encoded."""


_KIND_MAX: Final = int(EntryKind.MEMBERSHIP)


class RecordError(ValueError):
    """Bytes that are not a whole, undamaged record. `offset` is where in the given bytes the record begins."""

    def __init__(self, reason: str, offset: int, *, torn: bool) -> None:
        super().__init__(f"{reason} at offset {offset}")
        self.reason = reason
        self.offset = offset
        self.torn = torn


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One log entry; made by `make_entry` or `decode_records`, never by hand."""

    term: Term
    node_id: NodeId
    index: LogIndex
    kind: int
    record: bytes

    @property
    def log_id(self) -> LogId:
        return LogId(self.term, self.node_id, self.index)

    @property
    def data(self) -> bytes:
        return self.record[HEADER_BYTES:]

    def __str__(self) -> str:
        return f"T{self.term}-N{self.node_id}.{self.index}({EntryKind(self.kind).name.lower()}, {len(self.record)}B)"

    def __repr__(self) -> str:
        return self.__str__()


def make_entry(term: Term, node_id: NodeId, index: LogIndex, kind: int, data: bytes) -> Entry:
    """Return the entry with its record."""
    return make_entries(term, node_id, index, kind, [data])[0]


def make_entries(term: Term, node_id: NodeId, first: int, kind: int, datas: Iterable[bytes]) -> tuple[Entry, ...]:
    """Return entries that follow each other, from index `first` on, with their records; the only place where records are encoded."""
    kind, pack, crc32 = int(kind), HEADER.pack, zlib.crc32
    entries: list[Entry] = []
    for number, data in enumerate(datas, first):
        crc = crc32(data, crc32(_COVERED.pack(RECORD_VERSION, kind, 0, term, node_id, number)))
        record = pack(HEADER_BYTES + len(data), crc, RECORD_VERSION, kind, 0, term, node_id, number) + data
        entries.append(Entry(term, node_id, LogIndex(number), kind, record))
    return tuple(entries)


def decode_record(buffer: bytes | memoryview, offset: int = 0) -> Entry:
    """Return the entry whose record begins at `offset`.

    Raises: RecordError: cut short (`torn`), zeros, a wrong checksum, or another version.
    """
    available = len(buffer) - offset
    if available < HEADER_BYTES:
        raise RecordError("record header is cut short", offset, torn=True)
    length, crc, version, kind, _reserved, term, node_id, index = HEADER.unpack_from(buffer, offset)
    if not HEADER_BYTES <= length <= _RECORD_BYTES_MAX:
        raise RecordError(f"impossible record length {length}", offset, torn=length == 0)
    if length > available:
        raise RecordError("record is cut short", offset, torn=True)
    record = bytes(buffer[offset : offset + length])
    if zlib.crc32(memoryview(record)[_CRC_FROM:]) != crc:
        raise RecordError("checksum does not match", offset, torn=False)
    if version != RECORD_VERSION:
        raise RecordError(f"record version {version} is not known to this program", offset, torn=False)
    if kind > _KIND_MAX:
        raise RecordError(f"unknown entry kind {kind}", offset, torn=False)
    return Entry(Term(term), NodeId(node_id), LogIndex(index), kind, record)


def decode_records(buffer: bytes | memoryview) -> list[Entry]:
    """Return the entries of records that lie end to end.

    One loop on purpose: every entry passes here on every follower. What is wrong with a record, `decode_record` says.
    Raises: RecordError: a record is damaged or bytes are left over.
    """
    entries: list[Entry] = []
    add, unpack, crc32 = entries.append, HEADER.unpack_from, zlib.crc32
    whole = bytes(buffer)
    offset, end = 0, len(whole)
    last_header_at = end - HEADER_BYTES
    with memoryview(whole) as view:
        while offset < end:
            if offset <= last_header_at:
                length, crc, version, kind, _reserved, term, node_id, index = unpack(whole, offset)
                stop = offset + length
                if (
                    HEADER_BYTES <= length <= _RECORD_BYTES_MAX
                    and stop <= end
                    and crc32(view[offset + _CRC_FROM : stop]) == crc
                    and version == RECORD_VERSION
                    and kind <= _KIND_MAX
                ):
                    add(Entry(term, node_id, index, kind, whole[offset:stop]))
                    offset = stop
                    continue
            entry = decode_record(whole, offset)
            add(entry)
            offset += len(entry.record)
    return entries


def records_bytes(entries: Sequence[Entry]) -> int:
    """Return the size of the records of `entries` together."""
    return sum([len(entry.record) for entry in entries])  # the interpreter knows this loop better than maps
