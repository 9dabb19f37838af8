"""Frames: every message comes through unchanged, and nothing else comes through."""

from __future__ import annotations

import struct
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_engine.errors import TransportError
from raft_engine.transport import codec
from raft_engine.transport.codec import HEADER_BYTES, WIRE_VERSION, FrameReader, FrameWriter, Misaddressed, pack_peer
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.ids import PeerId
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import Membership, NodeAddress, StoredMembership
from raft_engine.types.messages import (
    AppendRequest,
    AppendResponse,
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
from tests.transport.peers import append_request, peer

ALICE, BOB = peer(1), peer(2)
WRITER, READER = FrameWriter(ALICE, BOB), FrameReader(ALICE, BOB)

NUMBERS = st.integers(0, 2**63 - 1)
LOG_IDS = st.builds(LogId, NUMBERS, NUMBERS, NUMBERS)
VOTES = st.builds(Vote, NUMBERS, NUMBERS, st.booleans())
LIVES = st.dictionaries(NUMBERS, st.sampled_from([ALICE.incarnation, BOB.incarnation]), max_size=3)
ADDRESSES = st.builds(NodeAddress, st.text(max_size=20), st.text(max_size=20))
MEMBERSHIPS = st.builds(
    Membership, st.lists(LIVES, max_size=2).map(tuple), LIVES, st.dictionaries(NUMBERS, ADDRESSES, max_size=2)
)
METAS = st.builds(SnapshotMeta, LOG_IDS, st.builds(StoredMembership, LOG_IDS, MEMBERSHIPS), st.text(max_size=20), NUMBERS)
ENTRIES = st.lists(
    st.builds(make_entry, NUMBERS, NUMBERS, NUMBERS, st.sampled_from(EntryKind), st.binary(max_size=100)), max_size=5
)
FIELDS = {
    "vote": VOTES,
    "last_log_id": LOG_IDS,
    "prev": LOG_IDS,
    "matching": LOG_IDS,
    "conflict": LOG_IDS,
    "last": LOG_IDS,
    "meta": METAS,
    "data": st.binary(max_size=300),
    "entries": ENTRIES.map(tuple),
    "reason": st.text(max_size=20),
    "snapshot_id": st.text(max_size=20),
}
KINDS = (
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


def messages_of(kind):
    """Every field at random, so that a field the wire forgets is found."""
    by_type = {bool: st.booleans(), int: NUMBERS, float: st.floats(allow_nan=False)}
    return st.builds(
        kind,
        **{
            field.name: FIELDS.get(field.name, by_type.get(getattr(field.type, "__supertype__", field.type), st.nothing()))
            for field in msgspec.structs.fields(kind)
        },
    )


MESSAGES = st.one_of([messages_of(kind) for kind in KINDS])


def frame_of(message, writer: FrameWriter = WRITER) -> bytes:
    return writer.encode(message)


def forged(kind: int, body: bytes, records: bytes = b"", version: int = WIRE_VERSION) -> bytes:
    """Return a frame with a right checksum and anything in it."""
    covered = pack_peer(ALICE) + pack_peer(BOB) + struct.pack("<BBHI", version, kind, 0, len(body)) + body
    return struct.pack("<II", HEADER_BYTES + len(body) + len(records), zlib.crc32(covered)) + covered + records


def test_every_message_of_the_protocol_has_a_kind():
    assert set(KINDS) == set(codec._KINDS)


@given(MESSAGES)
def test_a_message_comes_out_as_it_went_in(message):
    assert message == READER.decode(frame_of(message))


@given(ENTRIES)
def test_entries_given_beside_a_request_travel_as_their_records(entries):
    frame = WRITER.encode_append(append_request(), entries)
    assert frame.endswith(b"".join(entry.record for entry in entries))
    assert append_request(entries=tuple(entries)) == READER.decode(frame)


def test_entries_beyond_the_largest_frame_stay_behind(monkeypatch):
    entries = [make_entry(1, 1, index, EntryKind.NORMAL, bytes(400)) for index in range(1, 6)]
    monkeypatch.setattr(codec, "FRAME_BYTES_MAX", 1400)
    message = READER.decode(WRITER.encode_append(append_request(), entries))
    assert message.entries == tuple(entries[:2])


def test_a_message_larger_than_the_largest_frame_is_refused_by_the_sender(monkeypatch):
    monkeypatch.setattr(codec, "FRAME_BYTES_MAX", 500)
    with pytest.raises(TransportError, match="exceeds the largest frame"):
        WRITER.encode_append(append_request(), [make_entry(1, 1, 1, EntryKind.NORMAL, bytes(400))])


@given(MESSAGES, st.data())
def test_a_frame_cut_short_is_refused(message, data):
    frame = frame_of(message)
    with pytest.raises(TransportError):
        READER.decode(frame[: data.draw(st.integers(0, len(frame) - 1))])


@given(MESSAGES, st.data())
def test_one_flipped_bit_anywhere_is_noticed(message, data):
    frame = bytearray(frame_of(message))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(TransportError):
        READER.decode(bytes(frame))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_transport_error(data):
    with pytest.raises(TransportError):
        READER.decode(data)


@given(st.integers(0, 255), st.binary(max_size=100), st.binary(max_size=100))
def test_a_frame_with_a_right_checksum_and_any_content_is_a_message_or_a_transport_error(kind, body, records):
    try:
        message = READER.decode(forged(kind, body, records))
    except TransportError:
        return
    assert type(message) is KINDS[kind]


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (forged(0, b"", version=2), "wire version 2"),
        (forged(99, b""), "unknown message kind 99"),
        (forged(8, msgspec.msgpack.encode({"request_id": "text"})), "ReadIndexRequest cannot be decoded"),
        (forged(8, msgspec.msgpack.encode({"request_id": 1}), b"more"), "4 bytes are left over"),
        (forged(8, b"\x91" * 100_000), "cannot be decoded"),
        (forged(8, b"\x82\xaarequest_id\x01\xa1x" + b"\x91" * 100_000), "cannot be decoded"),
        (forged(2, WRITER.encode(append_request())[HEADER_BYTES:], b"no record"), "record header is cut short"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said(frame, complaint):
    with pytest.raises(TransportError, match=complaint):
        READER.decode(frame)


def test_entries_inside_the_body_are_refused_as_nobody_has_checked_them():
    entry = make_entry(1, 1, 1, EntryKind.NORMAL, b"data")
    with pytest.raises(TransportError, match="belong behind it"):
        READER.decode(forged(2, msgspec.msgpack.encode(append_request(entries=(entry,)))))


def test_a_field_of_a_later_version_is_skipped():
    body = msgspec.msgpack.encode({"request_id": 5, "added_later": [1, 2]})
    assert ReadIndexRequest(5) == READER.decode(forged(8, body))


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [(peer(3), BOB), (peer(1, life=9), BOB), (ALICE, peer(3)), (ALICE, peer(2, life=9)), (BOB, ALICE)],
)
def test_a_frame_from_or_for_another_life_is_refused_as_such(sender, receiver):
    with pytest.raises(Misaddressed):
        READER.decode(frame_of(ReadIndexRequest(1), FrameWriter(sender, receiver)))


@pytest.mark.parametrize("name", [PeerId(1, "xyz"), PeerId(1, "ab" * 15), PeerId(-1, "ab" * 16), PeerId(2**64, "ab" * 16)])
def test_a_peer_without_a_proper_name_is_refused(name):
    with pytest.raises(TransportError, match="is not a 64-bit node id and 32 hex digits"):
        FrameWriter(ALICE, name)
