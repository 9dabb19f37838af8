"""Seals: what stands between the batches of a segment and says what is to be believed.

A seal says how many bytes of its file were durable when it was written. One stands before every batch and one after every sync (the
next batch's takes its place). Its checksum covers its position and the segment's random salt, so no client's data can look like one.

In a segment whose file was zeros before, whatever follows the last record is zero or the rest of a write cut short. In one whose
file held older entries, what follows are those. There a seal also has the length of its batch and a checksum, begun with the salt, of
the checksums of its records: what fills the gap of a write that reached the disk in part cannot pass for a part of it, and where no
seal stands nothing was written. Its mark is made of the salt, so the seals of the file's former life are not even looked at.
Source: own; recycled write-ahead logs of PostgreSQL (xlog.c) and RocksDB (recyclable record types) have the same question.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from raft_engine.types.entry import HEADER_BYTES

_PLAIN: Final = struct.Struct("<IIQ")
_PLAIN_COVERED: Final = struct.Struct("<QQ")
_BATCH: Final = struct.Struct("<IIQII")
_BATCH_COVERED: Final = struct.Struct("<QQII")
SEAL_BYTES: Final = _PLAIN.size
BATCH_SEAL_BYTES: Final = _BATCH.size
PLAIN_MARK: Final = 0xB5E1A55E
_CHECKSUM: Final = slice(4, 8)
"""Where a record has its checksum."""
LEAST_MARK: Final = 0x80000000
"""Marks are no smaller than this, and no record is so long."""


class Seal(NamedTuple):
    """Bytes before `durable` were durable; `batch_bytes` of records follow, of whose checksums `batch_crc` is the checksum."""

    durable: int
    batch_bytes: int
    batch_crc: int


class Before(NamedTuple):
    """What seals say that stand behind some place: `durable`, as in a seal, and `written`, where the last one's batch ends."""

    durable: int
    written: int


class Seals:
    """The seals of one segment."""

    def __init__(self, salt: int, *, covers_batches: bool) -> None:
        self.covers_batches = covers_batches
        self.size = BATCH_SEAL_BYTES if covers_batches else SEAL_BYTES
        self.mark = LEAST_MARK | salt & ~LEAST_MARK & 0xFFFFFFFF if covers_batches else PLAIN_MARK
        self._salt = salt

    def encode(self, offset: int, durable: int, batch_bytes: int = 0, checksums: bytes = b"") -> bytes:
        """Return the seal that stands at `offset` and says that bytes before `durable` were durable.

        Args:
            batch_bytes: length of the records that follow. `checksums`: theirs, end to end. Both count where batches are covered.
        """
        if not self.covers_batches:
            return _PLAIN.pack(self.mark, zlib.crc32(_PLAIN_COVERED.pack(offset, durable), self._salt), durable)
        said = (durable, batch_bytes, zlib.crc32(checksums, self._salt))
        return _BATCH.pack(self.mark, zlib.crc32(_BATCH_COVERED.pack(offset, *said), self._salt), *said)

    def at(self, data: bytes, offset: int) -> Seal | None:
        """Return what the seal at `offset` says, or None if there is none."""
        if offset + self.size > len(data):
            return None
        mark, crc, *said = (_BATCH if self.covers_batches else _PLAIN).unpack_from(data, offset)
        covered = (_BATCH_COVERED if self.covers_batches else _PLAIN_COVERED).pack(offset, *said)
        if mark != self.mark or crc != zlib.crc32(covered, self._salt):
            return None
        return Seal(*said) if self.covers_batches else Seal(said[0], 0, 0)

    def is_whole(self, data: bytes, since: int, seal: Seal) -> bool:
        """Tell whether the records at `since` are those that the seal tells of; whether each is sound, its own checksum says."""
        checksums = checksums_in(data, since, since + seal.batch_bytes)
        return checksums is not None and zlib.crc32(checksums, self._salt) == seal.batch_crc

    def behind(self, data: bytes, since: int) -> Before:
        """Return what all seals say that stand at `since` or behind."""
        durable, written = 0, since
        mark = self.mark.to_bytes(4, "little")
        at = data.find(mark, since)
        while at >= 0:
            seal = self.at(data, at)
            if seal is not None:
                durable, written = max(durable, seal.durable), at + self.size + seal.batch_bytes
            at = data.find(mark, at + 1)
        return Before(durable, written)


def checksums_of(records: Sequence[bytes]) -> bytes:
    """Return the checksums of records, end to end."""
    return b"".join([record[_CHECKSUM] for record in records])


def checksums_in(data: bytes, since: int, until: int) -> bytes | None:
    """Return the checksums of the records between two places, or None if there are no whole records."""
    found: list[bytes] = []
    if until > len(data):
        return None
    while since < until:
        length = int.from_bytes(data[since : since + 4], "little")
        if not HEADER_BYTES <= length <= until - since:
            return None
        found.append(data[since + 4 : since + 8])
        since += length
    return b"".join(found)
