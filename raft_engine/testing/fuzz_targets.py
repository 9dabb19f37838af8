"""Every decoder of bytes from a disk, a peer or a client, with sound samples and how to put their checksums right.

Source: the formats, docs/formats.md.
"""

from __future__ import annotations

import random
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from raft_engine.errors import StorageError, TransportError
from raft_engine.kv.commands import Check, Condition, Delete, Put, decode_command, encode_operations, encode_put
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.kv.stream import decode_state
from raft_engine.management.exchange import Fields, decode_json
from raft_engine.management.problems import ProblemError
from raft_engine.management.routes import ENDPOINTS
from raft_engine.management.schema import OperationsRequest
from raft_engine.storage.damage_note import DamageNote, decode_note, encode_note
from raft_engine.storage.files import Files
from raft_engine.storage.hard_state import HARD_STATE_MAGIC, read_hard_state
from raft_engine.storage.identity import Identity, decode_identity, encode_identity
from raft_engine.storage.log_checks import MARKS_MAGIC, Marks, decode_marks, load_segment
from raft_engine.storage.retiring import Restore, Wipe, decode_plan
from raft_engine.storage.segment_format import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
    scan_segment,
)
from raft_engine.storage.segment_format import VERSION as SEGMENT_VERSION
from raft_engine.storage.segment_index import encode_index, make_index, read_index, read_table
from raft_engine.storage.segment_seal import Seals, checksums_in, checksums_of
from raft_engine.storage.snapshot_format import check_snapshot, encode_snapshot, read_chunks, read_meta
from raft_engine.storage.two_slots import SLOT_BYTES, Slot, encode_slot, newest_slot, read_slots
from raft_engine.testing.fuzz import Target
from raft_engine.testing.storage_suite import entry, log_id, membership, membership_entry, stored
from raft_engine.transport.codec import FrameReader, FrameWriter
from raft_engine.transport.handshake import (
    Answer,
    BootstrapHello,
    PeerHello,
    Refused,
    Welcome,
    decode_hello,
    decode_reply,
    encode_greeting,
)
from raft_engine.types.bootstrap import BirthState, BootstrapPrepare, BootstrapQuery, BootstrapReply
from raft_engine.types.entry import (
    HEADER_BYTES,
    Entry,
    EntryKind,
    RecordError,
    decode_record,
    decode_records,
    make_entry,
)
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import Incarnation, LogIndex, NodeId, PeerId, Term
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.membership import decode_membership, encode_membership
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
from raft_engine.types.snapshot import SnapshotMeta
from raft_engine.types.vote import Vote

_VOTE: Final = Vote(Term(3), NodeId(2), committed=True)
_ME: Final = PeerId(NodeId(1), Incarnation("01" * 16))
_OTHER: Final = PeerId(NodeId(2), Incarnation("ab" * 16))
_HEADER: Final = SegmentHeader(LogIndex(1), BEFORE_LOG, 12345)
_REUSED: Final = SegmentHeader(LogIndex(1), BEFORE_LOG, 54321, is_reused=True)
_ENTRIES: Final = (membership_entry(1, 1, 1, 2, 3), *(entry(1, at, bytes([at]) * at * 3) for at in range(2, 9)), entry(2, 9))
_INDEX_SUMMARY_FROM: Final = 20
_SLOT_CRC_AT: Final = 24


class OneFile(Files):
    """A disk on which every path is one file with these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> int:  # noqa: ARG002 (one file for all)
        return 3

    def close(self, descriptor: int) -> None:
        """Nothing is open."""

    def size(self, descriptor: int) -> int:  # noqa: ARG002
        return len(self._data)

    def pread(self, descriptor: int, count: int, offset: int) -> bytes:  # noqa: ARG002
        return self._data[offset : offset + count]


def _crc(*parts: bytes | bytearray) -> bytes:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc.to_bytes(4, "little")


# --- records and segments ------------------------------------------------------------------------------------------------


def _read_record(data: bytes) -> None:
    found = decode_record(data)
    assert data.startswith(found.record)


def _read_records(data: bytes) -> None:
    assert b"".join(found.record for found in decode_records(data)) == data


def _with_record_crc(data: bytes, chance: random.Random) -> bytes:
    if len(data) < HEADER_BYTES:
        return data
    length = len(data).to_bytes(4, "little") if chance.random() < 0.7 else data[:4]
    return length + _crc(data[8:]) + data[8:]


def _with_record_crcs(data: bytes, chance: random.Random) -> bytes:
    """Go from record to record as a reader would, and make each checksum right."""
    mended = bytearray(data)
    _mend_records(mended, 0, chance)
    return bytes(mended)


def _mend_records(data: bytearray, offset: int, chance: random.Random, seals: Seals | None = None) -> None:
    mark = b"" if seals is None else seals.mark.to_bytes(4, "little")
    while offset + HEADER_BYTES <= len(data):
        if seals is not None and data[offset : offset + 4] == mark:
            durable = int.from_bytes(data[offset + 8 : offset + 16], "little")
            batch_bytes = int.from_bytes(data[offset + 16 : offset + 20], "little") if seals.covers_batches else 0
            batch_from = offset + seals.size
            _mend_records(data, batch_from, chance)
            checksums = checksums_in(bytes(data), batch_from, batch_from + batch_bytes) or b""
            data[offset:batch_from] = seals.encode(offset, durable, batch_bytes, checksums)
            offset = batch_from + batch_bytes
            continue
        length = int.from_bytes(data[offset : offset + 4], "little")
        if not HEADER_BYTES <= length <= len(data) - offset:
            return
        if chance.random() < 0.95:
            data[offset + 4 : offset + 8] = _crc(data[offset + 8 : offset + length])
        offset += length


def _segment(header: SegmentHeader, *, sealed: bool = True) -> bytes:
    """Return a segment; behind its records stand those of another one if it is reused."""
    seals, data = header.seals, encode_segment_header(header)
    for first in range(0, len(_ENTRIES), 2):
        records = [found.record for found in _ENTRIES[first : first + 2]]
        seal = seals.encode(len(data), len(data), sum(map(len, records)), checksums_of(records))
        data += (seal if sealed else b"") + b"".join(records)
    data += seals.encode(len(data), len(data))
    return data + _segment(_HEADER)[len(data) // 2 :] if header.is_reused else data.ljust(len(data) + 100, b"\0")


def _read_segment(data: bytes) -> None:
    header = decode_segment_header(data, "file")
    scan = scan_segment(data, header, "file")
    for offset in scan.offsets:
        decode_record(data, offset)
    assert SEGMENT_HEADER_BYTES <= scan.end <= len(data)
    for is_newest in (True, False):
        load_segment(data, Path(f"{header.first_index:020d}.seg"), None, Marks(), is_newest=is_newest)


def _with_segment_crcs(data: bytes, chance: random.Random) -> bytes:
    if len(data) < SEGMENT_HEADER_BYTES:
        return data
    mended = bytearray(data)
    mended[SEGMENT_HEADER_BYTES - 4 : SEGMENT_HEADER_BYTES] = _crc(data[: SEGMENT_HEADER_BYTES - 4])
    salt = int.from_bytes(data[SEGMENT_HEADER_BYTES - 12 : SEGMENT_HEADER_BYTES - 4], "little")
    seals = Seals(salt, covers_batches=data[8] == SEGMENT_VERSION)
    _mend_records(mended, SEGMENT_HEADER_BYTES, chance, seals)
    return bytes(mended)


def _index() -> bytes:
    scan = scan_segment(_segment(_HEADER), _HEADER, "file")
    return encode_index(make_index(_HEADER, scan, 99, 7), scan.offsets)


def _read_index(data: bytes) -> None:
    index = read_index(OneFile(data), Path("a.seg"), 1 << 20)
    if index is not None:
        index.describes(_HEADER, 1 << 20, _HEADER)
        read_table(OneFile(data), Path("a.seg"), index)


def _with_index_crc(data: bytes, chance: random.Random) -> bytes:
    if len(data) < _INDEX_SUMMARY_FROM:
        return data
    count = min(int.from_bytes(data[12:16], "little"), len(data) - _INDEX_SUMMARY_FROM)
    covered = data[:12] + (count if chance.random() < 0.9 else len(data)).to_bytes(4, "little")
    summary = data[_INDEX_SUMMARY_FROM : _INDEX_SUMMARY_FROM + count]
    return covered + _crc(covered, summary) + data[_INDEX_SUMMARY_FROM:]


# --- small files ---------------------------------------------------------------------------------------------------------


def _slots(magic: bytes, *values: object) -> bytes:
    pages = [encode_slot(magic, Slot(number, msgspec.msgpack.encode(value))) for number, value in enumerate(values, 1)]
    return b"".join(pages)


def _read_marks(data: bytes) -> None:
    slots = read_slots(OneFile(data), 3, MARKS_MAGIC, "file")
    decode_marks(newest_slot(slots, "file", "").value, Path("file"))


def _with_slot_crcs(data: bytes, chance: random.Random) -> bytes:
    pages = [data[:SLOT_BYTES], data[SLOT_BYTES : 2 * SLOT_BYTES]]
    return b"".join(_with_slot_crc(page, chance) for page in pages)


def _with_slot_crc(page: bytes, chance: random.Random) -> bytes:
    if len(page) < _SLOT_CRC_AT + 4:
        return page
    value_from = _SLOT_CRC_AT + 4
    count = min(int.from_bytes(page[12:16], "little"), len(page) - value_from)
    covered = page[:12] + count.to_bytes(4, "little") + page[16:_SLOT_CRC_AT]
    crc = _crc(covered, page[value_from : value_from + count])
    return covered + (crc if chance.random() < 0.95 else b"\0\0\0\0") + page[value_from:]


def _with_json_checksum(field: bytes, data: bytes, _chance: random.Random) -> bytes:
    """Make the checksum right of a file that has it before its last `field`."""
    at, end = data.find(b'"%s":' % field) + len(b'"%s":' % field), data.rfind(b"}")
    checksum = data.find(b'"checksum":"') + len(b'"checksum":"')
    if not len(b'"checksum":"') < checksum < at < end:
        return data
    return data[:checksum] + b"%08x" % zlib.crc32(data[at:end]) + data[checksum + 8 :]


# --- snapshots -----------------------------------------------------------------------------------------------------------

_META: Final = SnapshotMeta(log_id(2, 9), stored(1, 1, 1, 2, 3), "T2-N1.9-0000abcd")
_SNAPSHOT_META_FROM: Final = 20
_TRAILER_BYTES: Final = 20


def _read_snapshot(data: bytes) -> None:
    def read_at(offset: int, count: int) -> bytes:
        return data[offset : offset + count] if offset >= 0 else b""

    meta = read_meta(read_at, len(data), "file")
    for _chunk in read_chunks(read_at, len(data), "file"):
        pass
    check_snapshot(read_at, meta, "file")


def _with_snapshot_crcs(data: bytes, chance: random.Random) -> bytes:
    if len(data) < _SNAPSHOT_META_FROM + _TRAILER_BYTES:
        return data
    end = len(data) - _TRAILER_BYTES
    count = min(int.from_bytes(data[12:16], "little"), end - _SNAPSHOT_META_FROM)
    covered = data[:12] + count.to_bytes(4, "little")
    meta = data[_SNAPSHOT_META_FROM : _SNAPSHOT_META_FROM + count]
    mended = bytearray(covered + _crc(covered, meta) + data[_SNAPSHOT_META_FROM:])
    offset, chunks = _SNAPSHOT_META_FROM + count, 0
    while offset + 8 <= end:
        length = int.from_bytes(mended[offset : offset + 4], "little")
        if offset + 8 + length > end:
            break
        mended[offset + 4 : offset + 8] = _crc(mended[offset + 8 : offset + 8 + length])
        offset, chunks = offset + 8 + length, chunks + 1
    if chance.random() < 0.9:
        mended[end:-4] = struct.pack("<IIQ", 0xFFFFFFFF, chunks, len(mended))
    return bytes(mended[:-4] + _crc(bytes(mended[:-4])))


# --- between nodes -------------------------------------------------------------------------------------------------------

_MESSAGES: Final[tuple[Message, ...]] = (
    VoteRequest(Term(4), log_id(3, 9), pre_vote=True),
    VoteResponse(Term(4), pre_vote=True, granted=False, vote=_VOTE, last_log_id=log_id(3, 9), reason="lease"),
    AppendRequest(_VOTE, 7, check=True, round=9, prev=BEFORE_LOG, committed=LogIndex(1), entries=_ENTRIES),
    AppendRequest(_VOTE, 7, check=True, round=9, prev=BEFORE_LOG, committed=LogIndex(0)),
    AppendResponse(_VOTE, 7, True, 9, True, log_id(2, 9), BEFORE_LOG, BEFORE_LOG),
    SnapshotChunk(_VOTE, 7, 9, _META, 0, b"data" * 20, done=False),
    SnapshotChunkResponse(_VOTE, 7, 9, "id", 80, installed=False, last_log_id=log_id(2, 9)),
    TransferRequest(_VOTE, log_id(2, 9)),
    TransferResponse(_VOTE, accepted=False, reason="log"),
    ReadIndexRequest(5),
    ReadIndexResponse(5, LogIndex(9), NodeId(2)),
)
_FRAME_BODY_FROM: Final = 64
_PREFIX: Final = slice(8, 56)
_WRITER: Final = FrameWriter(_OTHER, _ME)
_READER: Final = FrameReader(_OTHER, _ME)
_FRAMES: Final = tuple(_WRITER.encode(message) for message in _MESSAGES)


def _with_frame_crc(data: bytes, chance: random.Random) -> bytes:
    if len(data) < _FRAME_BODY_FROM:
        return data
    body_bytes = min(int.from_bytes(data[60:64], "little"), len(data) - _FRAME_BODY_FROM)
    prefix = _FRAMES[0][_PREFIX] if chance.random() < 0.95 else data[_PREFIX]
    head = prefix + data[56:60] + body_bytes.to_bytes(4, "little")
    records = bytearray(data[_FRAME_BODY_FROM + body_bytes :])
    _mend_records(records, 0, chance)
    body = data[_FRAME_BODY_FROM : _FRAME_BODY_FROM + body_bytes]
    return len(data).to_bytes(4, "little") + _crc(head, body) + head + body + bytes(records)


_HELLOS: Final = (
    PeerHello(1, "demo", "c1", *_ME, *_OTHER),
    BootstrapHello(1, "demo", BootstrapQuery("demo")),
    BootstrapHello(1, "demo", BootstrapPrepare("demo", "c1", membership(1, 2, 3))),
)
_REPLIES: Final = (
    Welcome(1, "demo", "c1", *_ME),
    Answer(BootstrapReply(*_ME, BirthState.PREPARED, "c1", membership(1, 2, 3))),
    Refused("another cluster"),
)


def _with_greeting_length(data: bytes, _chance: random.Random) -> bytes:
    return len(data).to_bytes(4, "little") + b"raft" + data[8:]


# --- the key-value store -------------------------------------------------------------------------------------------------

_COMMANDS: Final = (
    encode_put(b"key", b"value", Condition(7), b"once"),
    encode_operations([Put(b"a", b"1"), Delete(b"b", Condition(absent=True)), Check(b"c", None)]),
)


def _apply_command(data: bytes) -> None:
    """Whatever stands in an entry is applied by every node alike, with a result."""
    decode_command(data)
    MemoryStore().apply([make_entry(Term(1), NodeId(1), LogIndex(1), EntryKind.NORMAL, data)])


def _state() -> bytes:
    store = MemoryStore()
    entries = [
        _kv_entry(number, encode_put(b"key%d" % number, b"v" * number, None, b"once%d" % number)) for number in range(1, 9)
    ]
    store.apply(entries)
    return b"".join(store.snapshot())


def _kv_entry(index: int, data: bytes) -> Entry:
    return make_entry(Term(1), NodeId(1), LogIndex(index), EntryKind.NORMAL, data)


def _read_state(data: bytes) -> None:
    third = len(data) // 3
    decode_state([data[:third], data[third:]], log_id(1, 8))


def _with_block_lengths(data: bytes, _chance: random.Random) -> bytes:
    """Make the last block end with the bytes."""
    offset = last = 0
    while offset + 4 <= len(data):
        last, offset = offset, offset + 4 + int.from_bytes(data[offset : offset + 4], "little")
    if len(data) < 4:
        return data
    return data[:last] + (len(data) - last - 4).to_bytes(4, "little") + data[last + 4 :]


# --- HTTP ----------------------------------------------------------------------------------------------------------------

_JSON_FIELDS: Final = Fields(content_type=b"application/json")
_BODIES: Final = (
    b'{"pre_vote":true,"expect":{"term":3,"leader":1,"membership_log_id":{"term":1,"node_id":1,"index":1}}}',
    b'{"upto":1200,"strict":false}',
    b'{"to":2,"allow":true,"ttl_ms":600000}',
    b'{"members":{"1":{"raft":"127.0.0.1:1","management":"http://127.0.0.1:2"}}}',
    b'{"voters":[1,2,3],"retain":false}',
    b'{"id":4,"raft":"127.0.0.1:1","management":"http://127.0.0.1:2","blocking":true}',
    b'{"exclude":[1]}',
    b'{"confirm_node":3,"confirm_cluster":"demo","recover_until":{"term":1,"node_id":1,"index":9}}',
    b'{"ops":[{"op":"put","key":"a","value_base64":"YQ=="},{"op":"delete","key":"b"},{"op":"check","key":"c","revision":1}]}',
)
_REQUESTS: Final = {row.request for row in ENDPOINTS if row.request is not None} | {OperationsRequest}
_DECODERS: Final = tuple(msgspec.json.Decoder(kind) for kind in sorted(_REQUESTS, key=lambda kind: kind.__name__))


def _read_bodies(data: bytes) -> None:
    """A body is understood if any of the actions takes it."""
    refusals = [error for decoder in _DECODERS for error in [_refusal(data, decoder)] if error is not None]
    if len(refusals) == len(_DECODERS):
        raise refusals[0]


def _refusal(data: bytes, decoder: msgspec.json.Decoder[Any]) -> ProblemError | None:
    try:
        decode_json(data, _JSON_FIELDS, decoder)
    except ProblemError as error:
        return error
    return None


_PLANS: Final = (
    msgspec.json.encode(Wipe("retired-20260101T000000Z", Recovery(log_id(3, 30), "rejoin"), None)),
    msgspec.json.encode(Restore("retired-20260101T000000Z", "retired-20260101T000000Z-2", ("log", "sm"), None)),
)


def _read_plans(data: bytes) -> None:
    try:
        decode_plan(data, Wipe, "file")
    except StorageError:
        decode_plan(data, Restore, "file")


_IDENTITY: Final = Identity(
    "demo", NodeId(1), Incarnation("01" * 16), 3, "c1", BirthState.STARTED, membership(1, 2, 3), log_created=True
)
_HARD_STATES: Final = (HardState(_VOTE), HardState(_VOTE, Recovery(log_id(3, 30), "rejoin of node 1")))

TARGETS: Final = {
    target.name: target
    for target in (
        Target("record", [found.record for found in _ENTRIES], _read_record, (RecordError,), _with_record_crc),
        Target("records", [b"".join(found.record for found in _ENTRIES)], _read_records, (RecordError,), _with_record_crcs),
        Target(
            "segment",
            [_segment(_HEADER), _segment(_HEADER, sealed=False), _segment(_REUSED)],
            _read_segment,
            (StorageError,),
            _with_segment_crcs,
        ),
        Target("segment index", [_index()], _read_index, (), _with_index_crc),
        Target(
            "hard state",
            [_slots(HARD_STATE_MAGIC, *_HARD_STATES)],
            lambda data: read_hard_state(Path("node"), OneFile(data)),
            (StorageError,),
            _with_slot_crcs,
        ),
        Target(
            "marks",
            [_slots(MARKS_MAGIC, Marks(), Marks(log_id(1, 5), LogIndex(3), LogIndex(9)))],
            _read_marks,
            (StorageError,),
            _with_slot_crcs,
        ),
        Target(
            "identity",
            [encode_identity(_IDENTITY)],
            lambda data: decode_identity(data, "file"),
            (StorageError,),
            partial(_with_json_checksum, b"identity"),
        ),
        Target(
            "note of damage",
            [encode_note(DamageNote("00000000000000000001.seg", "entry 7: no", 576, 7, "2026-01-01T00:00:00Z"))],
            lambda data: decode_note(data, "file"),
            (StorageError,),
            partial(_with_json_checksum, b"damage"),
        ),
        Target("plan of a wipe", _PLANS, _read_plans, (StorageError,)),
        Target(
            "snapshot",
            [b"".join(encode_snapshot(_META, [b"abc", b"", b"x" * 300]))],
            _read_snapshot,
            (StorageError,),
            _with_snapshot_crcs,
        ),
        Target("membership", [encode_membership(membership(1, 2, 3))], decode_membership, (msgspec.MsgspecError,)),
        Target("frame", _FRAMES, _READER.decode, (TransportError,), _with_frame_crc),
        Target(
            "hello", [encode_greeting(hello) for hello in _HELLOS], decode_hello, (TransportError,), _with_greeting_length
        ),
        Target(
            "reply", [encode_greeting(reply) for reply in _REPLIES], decode_reply, (TransportError,), _with_greeting_length
        ),
        Target("key-value command", _COMMANDS, _apply_command, ()),
        Target("key-value state", [_state()], _read_state, (StorageError,), _with_block_lengths),
        Target("body of a request", _BODIES, _read_bodies, (ProblemError,)),
    )
}
"""Every decoder, by its name."""
