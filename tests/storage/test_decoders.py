"""Whatever bytes stand in a file, reading them ends in an answer or in an error of ours, and takes no memory it need not."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from raft_engine.errors import Damaged, NewerFormat, StorageError
from raft_engine.storage.identity import decode_identity
from raft_engine.storage.log_checks import Marks, decode_marks, load_segment
from raft_engine.storage.segment_format import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
    scan_segment,
)
from raft_engine.storage.snapshot_format import encode_snapshot, read_chunks, read_meta
from raft_engine.storage.two_slots import decode_slot
from raft_engine.testing.storage_suite import entry, membership_entry, stored
from raft_engine.types.entry import RecordError, decode_record, decode_records
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.snapshot import SnapshotMeta

HEADER = SegmentHeader(LogIndex(1), BEFORE_LOG, 12345)
RECORDS = [
    membership_entry(1, 1, 1, 2, 3),
    *(entry(1, index, bytes([index]) * index) for index in range(2, 12)),
    entry(2, 12, b""),
]


def segment() -> bytes:
    data = encode_segment_header(HEADER)
    for item in RECORDS:
        data += HEADER.seals.encode(len(data), len(data)) + item.record
    data += HEADER.seals.encode(len(data), len(data))
    return data.ljust(len(data) + 500, b"\0")


SEGMENT = segment()
SNAPSHOT = b"".join(encode_snapshot(SnapshotMeta(membership=stored(1, 1, 1, 2)), [b"abc", b"", b"x" * 500]))


def reader(data: bytes):
    return lambda offset, count: data[offset : offset + count] if offset >= 0 else b""


@st.composite
def damaged(draw, original: bytes) -> bytes:
    """The original with bytes changed, cut out or put in."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["change", "cut", "insert", "end"])):
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del data[at : at + draw(st.integers(1, 50))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=50))
            case "end":
                del data[at:]
    return bytes(data)


@given(st.binary(max_size=300))
def test_random_bytes_are_a_record_or_a_record_error(data):
    for decode in (decode_record, decode_records):
        try:
            decode(data)
        except RecordError:
            continue


@given(damaged(SEGMENT))
@settings(max_examples=400)
def test_a_damaged_segment_never_yields_an_entry_that_was_not_written(data):
    written = {item.record for item in RECORDS}
    try:
        scan = scan_segment(data, HEADER, "file")
    except NewerFormat:
        return
    assert {decode_record(data, offset).record for offset in scan.offsets} <= written
    assert scan.last.index == len(scan.offsets)
    assert scan.end <= max(len(data), SEGMENT_HEADER_BYTES)


@given(st.binary(max_size=400))
def test_random_bytes_as_a_segment_are_understood_or_refused(data):
    scan = scan_segment(encode_segment_header(HEADER) + data, HEADER, "file")
    assert scan.end >= SEGMENT_HEADER_BYTES
    try:
        decode_segment_header(data, "file")
    except (Damaged, NewerFormat):
        return


@given(damaged(SEGMENT), st.booleans())
@settings(max_examples=200)
def test_a_damaged_segment_is_loaded_or_refused(data, is_newest):
    try:
        load_segment(data, Path("00000000000000000001.seg"), None, Marks(), is_newest=is_newest)
    except (Damaged, NewerFormat):
        return


@given(damaged(SNAPSHOT))
@settings(max_examples=400)
def test_a_damaged_snapshot_is_refused(data):
    if data == SNAPSHOT:
        return
    try:
        read_meta(reader(data), len(data), "file")
        chunks = list(read_chunks(reader(data), len(data), "file"))
    except StorageError:
        return
    raise AssertionError(f"read {chunks!r} from a damaged snapshot")


@given(st.binary(max_size=300))
def test_random_bytes_as_a_snapshot_are_refused(data):
    try:
        read_meta(reader(data), len(data), "file")
    except (Damaged, NewerFormat):
        return
    raise AssertionError("read a snapshot from random bytes")


@given(st.binary(max_size=200))
def test_random_bytes_as_identity_marks_or_slot_are_refused(data):
    assert decode_slot(b"RAFTHARD", data, "file") is None
    try:
        decode_identity(data, "file")
    except (Damaged, NewerFormat):
        pass
    else:
        raise AssertionError("read an identity from random bytes")
    try:
        assert isinstance(decode_marks(data, Path("file")), Marks)
    except Damaged:
        return


def test_the_undamaged_originals_are_read_back():
    assert len(scan_segment(SEGMENT, HEADER, "file").offsets) == len(RECORDS)
    assert scan_segment(SEGMENT, HEADER, "file").problem is None
    assert list(read_chunks(reader(SNAPSHOT), len(SNAPSHOT), "file")) == [b"abc", b"", b"x" * 500]
