"""What a snapshot looks like as bytes, on disk and on the wire.

    header    magic, version, length of the meta, CRC-32 of all that, the meta in msgpack
    chunks    length, CRC-32, bytes: as the state machine gave them
    trailer   a length no chunk can have, number of chunks, size of the whole, CRC-32 of everything before

The meta in the header has `size_bytes` 0, as it is written before the size is known; the trailer has the size.
Source: own format; the double checksum follows LevelDB's blocks and etcd's snapshot hash.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from raft_engine.errors import Damaged, NewerFormat
from raft_engine.types.log_id import LogId
from raft_engine.types.snapshot import SnapshotMeta
from raft_engine.types.unreadable import UNREADABLE

VERSION: Final = 1
CHUNK_BYTES_MAX: Final = 64 * 1024 * 1024
"""What a reader believes and allocates at most; the same bound as an entry's data."""
_MAGIC: Final = b"RAFTSNAP"
_META_BYTES_MAX: Final = 16 * 1024 * 1024
_HEADER: Final = struct.Struct("<8sHHII")
_CHUNK: Final = struct.Struct("<II")
_TRAILER: Final = struct.Struct("<IIQI")
_TRAILER_MARK: Final = 0xFFFFFFFF
_TRAILER_CRC_AT: Final = _TRAILER.size - 4
_meta_encoder = msgspec.msgpack.Encoder()
_meta_decoder = msgspec.msgpack.Decoder(SnapshotMeta)

ReadAt = Callable[[int, int], bytes]
"""Returns bytes of a snapshot: (offset, count) -> at most `count` bytes."""


def new_snapshot_id(last_log_id: LogId, random: int) -> str:
    """Return an id no other build has (`random`: 32 bits), readable by people: T5-N1.1180-8a3f01c2."""
    return f"T{last_log_id.term}-N{last_log_id.node_id}.{last_log_id.index}-{random:08x}"


def encode_snapshot(meta: SnapshotMeta, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the snapshot's bytes in pieces.

    Raises: ValueError: a chunk is larger than a reader would accept.
    """
    encoded_meta = _meta_encoder.encode(msgspec.structs.replace(meta, size_bytes=0))
    covered = _HEADER.pack(_MAGIC, VERSION, 0, len(encoded_meta), 0)[:-4]
    header = covered + zlib.crc32(encoded_meta, zlib.crc32(covered)).to_bytes(4, "little") + encoded_meta
    yield header
    size, running, count = len(header), zlib.crc32(header), 0
    for chunk in chunks:
        if len(chunk) > CHUNK_BYTES_MAX:
            raise ValueError(f"a snapshot chunk has {len(chunk)} bytes; at most {CHUNK_BYTES_MAX} are allowed")
        piece = _CHUNK.pack(len(chunk), zlib.crc32(chunk)) + chunk
        yield piece
        size, running, count = size + len(piece), zlib.crc32(piece, running), count + 1
    covered = _TRAILER.pack(_TRAILER_MARK, count, size + _TRAILER.size, 0)[:_TRAILER_CRC_AT]
    yield covered + zlib.crc32(covered, running).to_bytes(4, "little")


def read_meta(read_at: ReadAt, size: int, path: str) -> SnapshotMeta:
    """Return the meta of a snapshot of `size` bytes after checking its header and that its trailer stands at its end.

    Raises: Damaged, NewerFormat.
    """
    meta, _header = _read_header(read_at, size, path)
    trailer = read_at(size - _TRAILER.size, _TRAILER.size)
    if len(trailer) != _TRAILER.size:
        raise Damaged("the snapshot is cut short", path=path, offset=size - _TRAILER.size)
    mark, _count, whole, _crc = _TRAILER.unpack(trailer)
    if mark != _TRAILER_MARK or whole != size:
        raise Damaged("the snapshot does not end in its trailer", path=path, offset=size - _TRAILER.size)
    return meta


def read_chunks(read_at: ReadAt, size: int, path: str) -> Iterator[bytes]:
    """Yield the state machine's chunks, each verified; the end is reached only if the whole is undamaged.

    Raises: Damaged, NewerFormat.
    """
    _meta, header = _read_header(read_at, size, path)
    offset, running, count = len(header), zlib.crc32(header), 0
    end = size - _TRAILER.size
    while offset < end:
        prefix = read_at(offset, _CHUNK.size)
        length, crc = _CHUNK.unpack(prefix) if len(prefix) == _CHUNK.size else (_TRAILER_MARK, 0)
        if length > CHUNK_BYTES_MAX or offset + _CHUNK.size + length > end:
            raise Damaged("impossible length of a snapshot chunk", path=path, offset=offset)
        chunk = read_at(offset + _CHUNK.size, length)
        if len(chunk) != length or zlib.crc32(chunk) != crc:
            raise Damaged(f"checksum of snapshot chunk {count} does not match", path=path, offset=offset)
        yield chunk
        offset, running, count = offset + _CHUNK.size + length, zlib.crc32(chunk, zlib.crc32(prefix, running)), count + 1
    trailer = read_at(end, _TRAILER.size)
    if len(trailer) != _TRAILER.size:
        raise Damaged("the snapshot is cut short", path=path, offset=end)
    mark, chunk_count, whole, crc = _TRAILER.unpack(trailer)
    if (mark, chunk_count, whole) != (_TRAILER_MARK, count, size):
        raise Damaged("the snapshot's trailer does not fit its chunks", path=path, offset=end)
    if zlib.crc32(trailer[:_TRAILER_CRC_AT], running) != crc:
        raise Damaged("the snapshot's checksum does not match", path=path, offset=end)


def check_snapshot(read_at: ReadAt, meta: SnapshotMeta, path: str) -> None:
    """Verify every byte of a snapshot, and that it is the one `meta` describes.

    Raises: Damaged, NewerFormat.
    """
    found = read_meta(read_at, meta.size_bytes, path)
    if found != meta:
        raise Damaged(f"the snapshot is {found.snapshot_id}, not {meta.snapshot_id}", path=path)
    for _chunk in read_chunks(read_at, meta.size_bytes, path):
        pass


def _read_header(read_at: ReadAt, size: int, path: str) -> tuple[SnapshotMeta, bytes]:
    """Return the meta and the header's bytes."""
    if size < _HEADER.size + _TRAILER.size:
        raise Damaged("the snapshot is too short to be one", path=path, offset=0)
    fixed = read_at(0, _HEADER.size)
    if len(fixed) != _HEADER.size:
        raise Damaged("the snapshot is cut short", path=path, offset=0)
    magic, version, _reserved, meta_bytes, crc = _HEADER.unpack(fixed)
    if magic != _MAGIC:
        raise Damaged("not a snapshot", path=path, offset=0)
    if version > VERSION:
        raise NewerFormat(f"snapshot format {version} is newer than this program knows ({VERSION})", path=path)
    if meta_bytes > min(_META_BYTES_MAX, size - _HEADER.size - _TRAILER.size):
        raise Damaged("impossible length of the snapshot's meta", path=path, offset=0)
    encoded_meta = read_at(_HEADER.size, meta_bytes)
    if zlib.crc32(encoded_meta, zlib.crc32(fixed[:-4])) != crc:
        raise Damaged("checksum of the snapshot's header does not match", path=path, offset=0)
    try:
        meta = _meta_decoder.decode(encoded_meta)
    except UNREADABLE as error:
        raise Damaged(f"the snapshot's meta cannot be read: {error}", path=path, offset=_HEADER.size) from error
    return msgspec.structs.replace(meta, size_bytes=size), fixed + encoded_meta
