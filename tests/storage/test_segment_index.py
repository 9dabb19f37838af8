"""Indexes of sealed segments: what a start reads instead of the records, and never believes against them."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_engine.errors import Damaged
from raft_engine.storage import segment_reader
from raft_engine.storage.damage_note import NOTE_NAME
from raft_engine.storage.files import Files
from raft_engine.storage.segment_format import SEGMENT_HEADER_BYTES
from raft_engine.storage.segment_index import SegmentIndex, encode_index, index_path, read_index, read_table
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.testing.storage_suite import entry, log_id, membership_entry, read, write
from raft_engine.types.ids import LogIndex

SEGMENT_BYTES = 4096
LAST = 300


class Counting(Files):
    """Counts what is read of each file."""

    def __init__(self) -> None:
        self.paths: dict[int, Path] = {}
        self.read_bytes: dict[str, int] = {}

    def open(self, path, *, create=False, write=True):
        descriptor = super().open(path, create=create, write=write)
        self.paths[descriptor] = path
        return descriptor

    def pread(self, descriptor, count, offset):
        data = super().pread(descriptor, count, offset)
        name = self.paths[descriptor].name
        self.read_bytes[name] = self.read_bytes.get(name, 0) + len(data)
        return data


def open_log(directory: Path, files: Files | None = None) -> SegmentLog:
    """Open a log that leaves sealed segments to whoever reads them."""
    return SegmentLog(directory, files=files, segment_bytes=SEGMENT_BYTES, prepare_ahead=False, verified_bytes=0)


def filled(directory: Path, last: int = LAST) -> list:
    """Write a log with three leaders and two memberships, one entry a batch."""
    entries = []
    for index in range(1, last + 1):
        term = 1 + (index > 100) + (index > 110)
        entries.append(
            membership_entry(term, index, 1, 2) if index in {1, 150} else entry(term, index, bytes([index % 256]) * 40)
        )
    log = open_log(directory)
    for item in entries:
        write(log, [item])
    log.close()
    return entries


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "log").glob("*.seg"))


def indexes(directory: Path) -> list[Path]:
    return sorted((directory / "log").glob("*.idx"))


def loaded_index(segment: Path) -> SegmentIndex:
    index = read_index(Files(), segment, segment.stat().st_size)
    assert index is not None
    return index


def change(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int) -> None:
    change(path, offset, bytes([path.read_bytes()[offset] ^ 1]))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- what it is for ---------------------------------------------------------------------------------------------------


def test_every_segment_but_the_newest_has_one(tmp_path):
    filled(tmp_path)
    assert len(segments(tmp_path)) > 4
    assert [index_path(segment) for segment in segments(tmp_path)[:-1]] == indexes(tmp_path)


def test_a_start_reads_no_records_but_those_of_the_newest_segment(tmp_path):
    filled(tmp_path)
    files = Counting()
    open_log(tmp_path, files).close()
    *sealed, newest = segments(tmp_path)
    assert {files.read_bytes[segment.name] for segment in sealed} == {SEGMENT_HEADER_BYTES}
    assert files.read_bytes[newest.name] > SEGMENT_BYTES


def test_with_or_without_indexes_the_state_is_the_same(tmp_path):
    entries = filled(tmp_path)
    log = open_log(tmp_path)
    state = log.state()
    log.close()
    for path in indexes(tmp_path):
        path.unlink()
    log = open_log(tmp_path)
    assert log.state() == state
    assert [(run.first_index, run.term) for run in state.runs] == [(1, 1), (101, 2), (111, 3)]
    assert [stored.log_id.index for stored in state.memberships] == [1, 150]
    assert read(log, 1, LAST) == entries
    log.close()


def test_an_index_written_when_sealing_and_one_made_at_a_start_are_the_same_bytes(tmp_path):
    filled(tmp_path)
    written = [path.read_bytes() for path in indexes(tmp_path)]
    for path in indexes(tmp_path):
        path.unlink()
    open_log(tmp_path).close()
    assert [path.read_bytes() for path in indexes(tmp_path)] == written


def test_the_same_is_true_of_a_segment_that_was_cut_and_sealed_again(tmp_path):
    filled(tmp_path)
    log = open_log(tmp_path)
    log.truncate(LogIndex(60))
    for index in range(61, 200):
        write(log, [entry(4, index, b"b" * 40)])
    log.close()
    log = open_log(tmp_path)
    for index in range(200, 300):
        write(log, [entry(4, index, b"c" * 40)])
    log.close()
    written = [path.read_bytes() for path in indexes(tmp_path)]
    assert len(written) > 4
    for path in indexes(tmp_path):
        path.unlink()
    open_log(tmp_path).close()
    assert [path.read_bytes() for path in indexes(tmp_path)] == written


def test_only_the_last_tables_that_were_read_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(segment_reader, "TABLES_MAX", 2)
    entries = filled(tmp_path)
    log = open_log(tmp_path)
    assert read(log, 1, LAST) == entries
    assert read(log, 1, LAST) == entries
    assert [segment.offsets is not None for segment in log._segments][-4:] == [False, True, True, True]
    log.close()


def test_a_log_keeps_one_segment_open_however_many_there_are(tmp_path):
    filled(tmp_path)
    before = open_files()
    log = open_log(tmp_path)
    read(log, 1, LAST)
    assert open_files() == before + 3  # hard state, marks, the newest segment
    log.close()
    assert open_files() == before


# --- missing, damaged, stale ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["magic", "version", "length", "checksum", "summary", "table", "end"])
def test_a_damaged_index_is_made_again_from_the_records(at, tmp_path):
    entries = filled(tmp_path)
    path = indexes(tmp_path)[1]
    whole = path.read_bytes()
    offset = {"magic": 0, "version": 8, "length": 12, "checksum": 16, "summary": 40, "table": len(whole) - 100}.get(at)
    if offset is None:
        path.write_bytes(whole[:-1])
    else:
        flip(path, offset)
    log = open_log(tmp_path)
    assert read(log, 1, LAST) == entries
    log.close()
    assert path.read_bytes() == whole


def test_with_any_byte_of_an_index_flipped_the_log_is_the_same(tmp_path):
    entries = filled(tmp_path, 120)
    path = indexes(tmp_path)[0]
    whole = path.read_bytes()
    for offset in range(len(whole)):
        flip(path, offset)
        log = open_log(tmp_path)
        assert log.state().last == entries[-1].log_id
        assert read(log, 1, 60) == entries[:60], offset
        log.close()
        assert path.read_bytes() == whole, offset


@given(data=st.binary(max_size=600), keeps_magic=st.booleans())
def test_no_bytes_whatever_are_taken_for_an_index_or_make_trouble(data, keeps_magic, tmp_path_factory):
    segment = tmp_path_factory.getbasetemp() / "00000000000000000001.seg"
    index_path(segment).write_bytes(b"RAFTSIDX\x01\0" * keeps_magic + data)
    assert read_index(Files(), segment, 1 << 20) is None


@pytest.mark.parametrize("size", [0, 1, 19, 20, 21])
def test_an_index_cut_short_is_made_again(size, tmp_path):
    entries = filled(tmp_path)
    path = indexes(tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    log = open_log(tmp_path)
    assert read(log, 1, LAST) == entries
    log.close()
    assert path.read_bytes() == whole


def test_an_index_of_a_later_version_is_not_read(tmp_path):
    entries = filled(tmp_path)
    change(indexes(tmp_path)[0], 8, b"\x02")
    log = open_log(tmp_path)
    assert read(log, 1, LAST) == entries
    log.close()


def test_an_index_that_promises_more_records_than_fit_is_not_believed(tmp_path):
    entries = filled(tmp_path)
    segment = segments(tmp_path)[0]
    index = loaded_index(segment)
    table = read_table(Files(), segment, index)
    huge = msgspec.structs.replace(index, last=log_id(1, 1 << 50))
    index_path(segment).write_bytes(encode_index(huge, table))
    log = open_log(tmp_path)
    assert read(log, 1, LAST) == entries
    log.close()


def test_the_index_of_another_segment_is_not_believed(tmp_path):
    entries = filled(tmp_path)
    first, second, *_ = indexes(tmp_path)
    shutil.copy(first, second)
    log = open_log(tmp_path)
    assert read(log, 1, LAST) == entries
    log.close()


def test_an_index_from_before_a_truncation_is_not_believed(tmp_path):
    """As a program leaves it that does not know indexes: it cuts segments and leaves the indexes where they are."""
    filled(tmp_path)
    path = indexes(tmp_path)[1]
    stale = path.read_bytes()
    log = open_log(tmp_path)
    log.truncate(LogIndex(loaded_index(segments(tmp_path)[1]).last.index - 1))
    later = [entry(5, log.state().last.index + number, b"d" * 40) for number in range(1, 200)]
    for item in later:
        write(log, [item])
    log.close()
    path.write_bytes(stale)
    log = open_log(tmp_path)
    assert read(log, later[0].index, later[-1].index) == later
    assert log.state().last == later[-1].log_id
    log.close()


def test_an_index_that_misleads_is_found_out_by_the_first_read_and_removed(tmp_path):
    entries = filled(tmp_path)
    segment = segments(tmp_path)[0]
    index = loaded_index(segment)
    table = read_table(Files(), segment, index)
    table[10] += 1
    path = index_path(segment)
    path.write_bytes(encode_index(msgspec.structs.replace(index, table_crc=zlib.crc32(table.tobytes())), table))
    log = open_log(tmp_path)
    with pytest.raises(Damaged, match="start the node again") as caught:
        log.read(LogIndex(9), LogIndex(12), 1 << 20)
    assert caught.value.path == str(path)
    log.close()
    log = open_log(tmp_path)
    assert read(log, 1, LAST) == entries
    log.close()


def test_an_index_without_its_segment_goes(tmp_path):
    filled(tmp_path)
    stray = tmp_path / "log" / "00000000000000009999.idx"
    stray.write_bytes(b"x")
    of_the_newest = index_path(segments(tmp_path)[-1])
    of_the_newest.write_bytes(b"x")
    open_log(tmp_path).close()
    assert not stray.exists()
    assert not of_the_newest.exists()


def test_indexes_go_with_their_segments(tmp_path):
    filled(tmp_path)
    log = open_log(tmp_path)
    log.purge(log_id(3, 200))
    assert [index_path(segment) for segment in segments(tmp_path)[:-1]] == indexes(tmp_path)
    log.truncate(LogIndex(210))
    assert [index_path(segment) for segment in segments(tmp_path)[:-1]] == indexes(tmp_path)
    log.reset(log_id(9, 900))
    assert indexes(tmp_path) == []
    log.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_an_index_stops_nobody(error, tmp_path, caplog):
    class Refusing(Files):
        def pwrite(self, descriptor, data, offset):
            if data.startswith(b"RAFTSIDX"):
                raise OSError(error, os.strerror(error))
            super().pwrite(descriptor, data, offset)

    log = open_log(tmp_path, Refusing())
    with caplog.at_level(logging.WARNING):
        for index in range(1, LAST + 1):
            write(log, [entry(1, index, b"x" * 40)])
    assert "no index for" in caplog.text
    assert [item.index for item in read(log, 1, LAST)] == list(range(1, LAST + 1))
    log.close()
    log = open_log(tmp_path)
    assert log.state().last == log_id(1, LAST)
    log.close()
    assert all(path.stat().st_size > 0 for path in indexes(tmp_path))


# --- damage that a start does not see ---------------------------------------------------------------------------------


def test_rot_in_a_sealed_segment_is_found_when_it_is_read(tmp_path):
    entries = filled(tmp_path)
    segment = segments(tmp_path)[1]
    first = int(segment.stem)
    at = segment.read_bytes().index(entries[first + 2].record)
    flip(segment, at + 50)
    log = open_log(tmp_path)
    assert read(log, 1, first + 2) == entries[: first + 2]
    with pytest.raises(Damaged) as caught:
        log.read(LogIndex(first + 2), LogIndex(first + 3), 1 << 20)
    assert (caught.value.path, caught.value.offset) == (str(segment), at)
    assert f"entry {first + 3}" in str(caught.value)
    assert "rejoin-node" in caught.value.hint
    log.close()


def test_rot_in_any_byte_of_a_sealed_segment_is_found_by_verifying(tmp_path):
    filled(tmp_path)
    segment = segments(tmp_path)[1]
    whole = segment.read_bytes()
    for offset in range(0, loaded_index(segment).end, 7):
        flip(segment, offset)
        if offset < SEGMENT_HEADER_BYTES:
            with pytest.raises(Damaged):
                open_log(tmp_path)
        else:
            log = open_log(tmp_path)
            with pytest.raises(Damaged, match=segment.name):
                log.verify()
            log.close()
            (tmp_path / "log" / NOTE_NAME).unlink()
        segment.write_bytes(whole)
    log = open_log(tmp_path)
    log.verify()
    log.close()


def test_verifying_finds_an_index_whose_records_are_others(tmp_path):
    filled(tmp_path)
    segment = segments(tmp_path)[1]
    index = loaded_index(segment)
    table = read_table(Files(), segment, index)
    wrong = msgspec.structs.replace(index, content_crc=index.content_crc ^ 1)
    index_path(segment).write_bytes(encode_index(wrong, table))
    log = open_log(tmp_path)
    with pytest.raises(Damaged, match="start the node again"):
        log.verify()
    log.close()
    log = open_log(tmp_path)
    log.verify()
    log.close()


def test_segments_dropped_while_they_are_verified_are_no_damage(tmp_path):
    filled(tmp_path)

    class Dropping(Files):
        log: SegmentLog | None = None

        def open(self, path, *, create=False, write=True):
            log, self.log = self.log, None
            if log is not None:
                log.purge(log_id(3, 250))
            return super().open(path, create=create, write=write)

    files = Dropping()
    log = open_log(tmp_path, files)
    files.log = log
    log.verify()
    assert log.state().purged == log_id(3, 250)
    log.close()


def test_a_log_written_before_there_were_indexes_gets_them_at_the_first_start(tmp_path):
    entries = filled(tmp_path)
    for path in indexes(tmp_path):
        path.unlink()
    log = open_log(tmp_path)
    assert len(indexes(tmp_path)) == len(segments(tmp_path)) - 1
    log.verify()
    assert read(log, 1, LAST) == entries
    log.close()
