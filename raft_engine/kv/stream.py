"""The whole state as bytes, always the same bytes for the same state: what a snapshot holds and what a digest is made of.

The stream is a head and then the body, in blocks: u32 length, msgpack array. A reader does not care how the stream was cut
into chunks.

    [0, version, last log id, number of keys, number of idempotency keys]
    [1, [[key, value, revision], …]]                          keys in ascending order
    [2, [[idempotency key, fingerprint, result], …]]          in the order in which they came

The digest is the SHA-256 of the body. The body says nothing of the log, so replaying entries and restoring a snapshot lead
to the same digest; blocks end by rules that look at nothing but the rows, so equal states have equal blocks.
Source: own format.
"""

from __future__ import annotations

import hashlib
import operator
import struct
import time
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from raft_engine.errors import Damaged, NewerFormat
from raft_engine.kv.views import Item, Remembered, View
from raft_engine.types.log_id import LogId
from raft_engine.types.unreadable import UNREADABLE

STREAM_VERSION: Final = 1
BLOCK_BYTES: Final = 256 * 1024
"""A block ends with the row that reaches this."""
BLOCK_ROWS_MAX: Final = 1000
"""Bounds how long a thread that makes a block keeps the others from running, however short the rows are."""
BLOCK_BYTES_MAX: Final = 4 * 1024 * 1024
"""More than any block has; what a reader is willing to believe."""
_ROW_BYTES: Final = 16
_LENGTH: Final = struct.Struct("<I")

Row = tuple[bytes, bytes, int]


class Head(msgspec.Struct, frozen=True, array_like=True, tag=0):
    version: int
    last_log_id: LogId
    key_count: Annotated[int, Meta(ge=0)]
    remembered_count: Annotated[int, Meta(ge=0)]


class KeyBlock(msgspec.Struct, frozen=True, array_like=True, tag=1):
    rows: list[Row]


class RememberedBlock(msgspec.Struct, frozen=True, array_like=True, tag=2):
    rows: list[Remembered]


class Restored(msgspec.Struct, frozen=True):
    """A state read back. `keys` are in order."""

    items: dict[bytes, Item | None]
    keys: list[bytes]
    remembered: list[Remembered]
    """Oldest first."""


ROWS_PER_REST: Final = 64
RESTS: Final = 3
"""Rests are so many times as long as what was done before: a quarter of one core is for the rows, the others come first."""
REST_MAX_S: Final = 0.005
"""Whoever consumes the rows may take long between two; that is no reason to rest as long."""
_encode = msgspec.msgpack.Encoder().encode
_decode_version = msgspec.msgpack.Decoder(tuple[Literal[0], int, msgspec.Raw, msgspec.Raw, msgspec.Raw]).decode
_decode = msgspec.msgpack.Decoder(Head | KeyBlock | RememberedBlock).decode


def encode_state(view: View) -> Iterator[bytes]:
    """Yield the whole stream, a block at a time."""
    yield _framed(Head(STREAM_VERSION, view.last_applied, view.key_count, view.remembered_count))
    yield from _encode_body(view)
    view.close()


def digest_steps(view: View) -> Generator[None, None, str]:
    """Compute the digest, a block at a time; return it, hexadecimal."""
    digest = hashlib.sha256()
    for block in _encode_body(view):
        digest.update(block)
        yield
    view.close()
    return digest.hexdigest()


def _encode_body(view: View) -> Iterator[bytes]:
    rows: list[Row] = []
    rows_bytes = 0
    for row in _unhurried(view.rows()):
        rows.append(row)
        rows_bytes += _ROW_BYTES + len(row[0]) + len(row[1])
        if rows_bytes >= BLOCK_BYTES or len(rows) == BLOCK_ROWS_MAX:
            yield _framed(KeyBlock(rows))
            rows, rows_bytes = [], 0
    if rows:
        yield _framed(KeyBlock(rows))
    remembered = view.remembered()
    while block := list(islice(remembered, BLOCK_ROWS_MAX)):
        yield _framed(RememberedBlock(block))


def _unhurried(rows: Iterator[Row]) -> Iterator[Row]:
    """Yield rows, and rest after every few of them for longer than they took.

    A thread that has the interpreter is asked for it after 5 ms (`sys.getswitchinterval`) and not before, so a write would wait
    that long at each hop between the node's threads: 12 ms at the 99th percentile for one that wakes up beside a snapshot, where
    it is 1 ms with these rests. What writers notice, with and without, and how long it takes: docs/performance.md.
    """
    begun = time.monotonic()
    while part := list(islice(rows, ROWS_PER_REST)):
        yield from part
        time.sleep(min(RESTS * (time.monotonic() - begun), REST_MAX_S))
        begun = time.monotonic()


def _framed(block: Head | KeyBlock | RememberedBlock) -> bytes:
    body = _encode(block)
    return _LENGTH.pack(len(body)) + body


def decode_state(chunks: Iterable[bytes], last_log_id: LogId) -> Restored:
    """Return the state in a stream.

    Raises: as `decode_blocks`.
    """
    state = Restored({}, [], [])
    for block in decode_blocks(chunks, last_log_id):
        if isinstance(block, KeyBlock):
            state.keys.extend([row[0] for row in block.rows])
            state.items.update({key: (value, revision) for key, value, revision in block.rows})
        else:
            state.remembered.extend(block.rows)
    return state


def decode_blocks(chunks: Iterable[bytes], last_log_id: LogId) -> Iterator[KeyBlock | RememberedBlock]:
    """Yield the body of a stream, block by block; it was whole and sound only if this ends without an exception.

    Raises:
        NewerFormat: a later version wrote it.
        Damaged: it is not a whole stream, or one of another log id.
    """
    where = f"snapshot of the key-value store up to {last_log_id}"
    try:
        yield from _checked_blocks(_blocks(chunks), last_log_id, where)
    except UNREADABLE as error:
        raise Damaged(f"it cannot be read: {error}", path=where) from error


def _checked_blocks(blocks: Iterator[bytes], last_log_id: LogId, where: str) -> Iterator[KeyBlock | RememberedBlock]:
    head = _decode_head(next(blocks, b""), where)
    if head.last_log_id != last_log_id:
        raise Damaged(f"it holds the state after {head.last_log_id}", path=where)
    key_count = remembered_count = 0
    last_key = b""
    for block in map(_decode, blocks):
        if isinstance(block, KeyBlock):
            keys = [last_key, *[row[0] for row in block.rows]]
            if any(map(operator.ge, keys, keys[1:])):
                raise Damaged("its keys are not in order", path=where)
            last_key = keys[-1]
            key_count += len(block.rows)
        elif isinstance(block, RememberedBlock):
            remembered_count += len(block.rows)
        else:
            raise Damaged("it has a second head", path=where)
        yield block
    if (key_count, remembered_count) != (head.key_count, head.remembered_count):
        keys_found = f"{key_count} of {head.key_count} keys"
        remembered_found = f"{remembered_count} of {head.remembered_count} idempotency keys"
        raise Damaged(f"it is cut short: it has {keys_found} and {remembered_found}", path=where)


def _decode_head(block: bytes, where: str) -> Head:
    version = _decode_version(block)[1]
    if version != STREAM_VERSION:
        raise NewerFormat(f"it has format {version}; this program reads {STREAM_VERSION}", path=where)
    head = _decode(block)
    assert isinstance(head, Head), "the tag was looked at"
    return head


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the blocks of a stream that was cut anywhere.

    Raises: ValueError: it ends in the middle of a block, or a length is impossible.
    """
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        offset = 0
        while len(buffer) - offset >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, offset)
            if length > BLOCK_BYTES_MAX:
                raise ValueError(f"impossible block length {length}")
            end = offset + _LENGTH.size + length
            if end > len(buffer):
                break
            yield bytes(buffer[offset + _LENGTH.size : end])
            offset = end
        del buffer[:offset]
    if buffer:
        raise ValueError(f"{len(buffer)} bytes of an unfinished block are left over")
