"""How a message looks on the wire, and what is believed of what arrives.

Frame, version 1, little-endian:

    offset size
    0      4    length of the whole frame in bytes
    4      4    CRC-32 of everything from offset 8 to the end of the body
    8      24   sender: node id, incarnation (16 bytes)
    32     24   receiver: the same
    56     1    version (1)
    57     1    message kind
    58     2    reserved, zero
    60     4    length of the body
    64     …    body: the message as msgpack map, without entries
    …      …    the entries' records end to end, each with its own checksum (AppendRequest only)

Sender and receiver never change on one connection, so they are built once and compared as bytes. Entries are not encoded
again: a record goes from the log to the wire to the other log as it is. Maps, not arrays: an older node skips a field that
it does not know. Whatever is wrong with a frame, the answer is a TransportError and nothing of it is processed.
Source: own format; etcd `rafthttp/message_codec.go` (length in front, bound before allocation).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from raft_engine.errors import TransportError
from raft_engine.types.entry import DATA_BYTES_MAX, Entry, decode_records
from raft_engine.types.ids import PeerId
from raft_engine.types.messages import (
    AppendRequest,
    AppendResponse,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    SnapshotChunk,
    SnapshotChunkResponse,
    TransferRequest,
    TransferResponse,
    VoteRequest,
    VoteResponse,
)
from raft_engine.types.unreadable import UNREADABLE

WIRE_VERSION: Final = 1
FRAME_BYTES_MAX = DATA_BYTES_MAX + 1024 * 1024
"""The largest entry there may be, and room for the rest."""
LENGTH: Final = struct.Struct("<I")
_HEADER: Final = struct.Struct("<II48sBBHI")
_FRONT: Final = struct.Struct("<II")
_TAIL: Final = struct.Struct("<BBHI")
_PEER: Final = struct.Struct("<Q16s")
_COVERED_FROM: Final = _FRONT.size
HEADER_BYTES: Final = _HEADER.size
_INCARNATION_BYTES: Final = 16

# A kind's number is part of the format: new kinds are added at the end.
_KINDS: Final[tuple[type[Any], ...]] = (
    VoteRequest,
    VoteResponse,
    AppendRequest,
    AppendResponse,
    SnapshotChunk,
    SnapshotChunkResponse,
    TransferRequest,
    TransferResponse,
    ReadIndexRequest,
    ReadIndexResponse,
)
_KIND_OF: Final = {kind: number for number, kind in enumerate(_KINDS)}
_DECODERS: Final = tuple(msgspec.msgpack.Decoder(kind) for kind in _KINDS)
_APPEND: Final = _KIND_OF[AppendRequest]
_encoder: Final = msgspec.msgpack.Encoder()


class Misaddressed(TransportError):
    """A sound frame that names another sender or receiver, or another life of one of them."""


def pack_peer(peer: PeerId) -> bytes:
    """Return a peer's 24 bytes.

    Raises: TransportError: the incarnation is not 32 hex digits, or the id not an unsigned 64-bit number.
    """
    try:
        life = bytes.fromhex(peer.incarnation)
        if len(life) == _INCARNATION_BYTES:
            return _PEER.pack(peer.node_id, life)
    except (ValueError, struct.error):
        pass
    raise TransportError(f"peer ({peer.node_id!r}, {peer.incarnation!r}) is not a 64-bit node id and 32 hex digits")


class FrameWriter:
    """Turns messages from `sender` to `receiver` into frames."""

    def __init__(self, sender: PeerId, receiver: PeerId) -> None:
        self._prefix = pack_peer(sender) + pack_peer(receiver)

    def encode(self, message: Message) -> bytes:
        """Return the frame.

        Raises: TransportError: it would be larger than a receiver accepts.
        """
        if isinstance(message, AppendRequest) and message.entries:
            return self.encode_append(message, message.entries)
        return self._head(_KIND_OF[type(message)], _encoder.encode(message), 0)

    def encode_append(self, request: AppendRequest, entries: Sequence[Entry]) -> bytes:
        """Return the frame: header, body, then the records as they are.

        What exceeds the largest frame is left out at the end; the receiver's answer says how far it came.
        Raises: TransportError: not even the first entry fits.
        """
        if request.entries:
            request = msgspec.structs.replace(request, entries=())
        body = _encoder.encode(request)
        records = [entry.record for entry in entries]
        records_bytes = sum(map(len, records))
        while len(records) > 1 and HEADER_BYTES + len(body) + records_bytes > FRAME_BYTES_MAX:
            records_bytes -= len(records.pop())
        return b"".join((self._head(_APPEND, body, records_bytes), *records))

    def _head(self, kind: int, body: bytes, records_bytes: int) -> bytes:
        frame_bytes = HEADER_BYTES + len(body) + records_bytes
        if frame_bytes > FRAME_BYTES_MAX:
            raise TransportError(
                f"a {_KINDS[kind].__name__} of {frame_bytes} bytes exceeds the largest frame of {FRAME_BYTES_MAX} bytes"
            )
        covered = self._prefix + _TAIL.pack(WIRE_VERSION, kind, 0, len(body)) + body
        return _FRONT.pack(frame_bytes, zlib.crc32(covered)) + covered


class FrameReader:
    """Turns frames from `sender` to `receiver` into messages."""

    def __init__(self, sender: PeerId, receiver: PeerId) -> None:
        self._prefix = pack_peer(sender) + pack_peer(receiver)

    def decode(self, frame: bytes | memoryview) -> Message:
        """Return the message of one whole frame; nothing of `frame` is referred to afterwards.

        Raises:
            Misaddressed: it is for or from somebody else; the next frame may be fine.
            TransportError: it is damaged or not one of ours.
        """
        if len(frame) < HEADER_BYTES:
            raise TransportError(f"frame of {len(frame)} bytes is shorter than a header ({HEADER_BYTES} bytes)")
        length, crc, prefix, version, kind, _reserved, body_bytes = _HEADER.unpack_from(frame)
        body_end = HEADER_BYTES + body_bytes
        if length != len(frame) or body_end > length:
            raise TransportError(f"frame of {len(frame)} bytes claims {length} bytes with a body of {body_bytes} bytes")
        view = memoryview(frame)
        if zlib.crc32(view[_COVERED_FROM:body_end]) != crc:
            raise TransportError("frame checksum does not match: it was damaged on the way")
        if version != WIRE_VERSION:
            raise TransportError(f"wire version {version} is not known to this program (it speaks {WIRE_VERSION})")
        if prefix != self._prefix:
            raise Misaddressed(f"frame is from and for {_describe(prefix)}, expected {_describe(self._prefix)}")
        if kind >= len(_KINDS):
            raise TransportError(f"unknown message kind {kind}")
        return _decode_body(kind, view[HEADER_BYTES:body_end], view[body_end:])


def _decode_body(kind: int, body: memoryview, records: memoryview) -> Message:
    try:
        message: Message = _DECODERS[kind].decode(body)
        if isinstance(message, AppendRequest):
            if message.entries:
                raise TransportError("an AppendRequest has entries in its body; they belong behind it, with checksums")
            if records:
                msgspec.structs.force_setattr(message, "entries", tuple(decode_records(records)))
            return message
    except UNREADABLE as error:
        raise TransportError(f"a {_KINDS[kind].__name__} cannot be decoded: {error}") from error
    if records:
        raise TransportError(f"{len(records)} bytes are left over behind a {_KINDS[kind].__name__}")
    return message


def _describe(prefix: bytes) -> str:
    sender_id, sender_life = _PEER.unpack_from(prefix)
    receiver_id, receiver_life = _PEER.unpack_from(prefix, _PEER.size)
    return f"n{sender_id}.{sender_life.hex()[:6]} -> n{receiver_id}.{receiver_life.hex()[:6]}"
