"""Purged segments become later ones; what they held is never taken for what was written since. Crashes: test_crash_points."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from raft_engine.errors import Damaged
from raft_engine.storage.files import Files
from raft_engine.storage.inspection import describe
from raft_engine.storage.segment_format import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
    scan_segment,
)
from raft_engine.storage.segment_index import index_path
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.storage.segment_seal import BATCH_SEAL_BYTES
from raft_engine.storage.spare_segment import OLD_MAX
from raft_engine.testing.storage_suite import blanks, entry, log_id, read, write
from raft_engine.types.entry import Entry
from raft_engine.types.ids import LogIndex

SEGMENT_BYTES = 2048


def open_log(directory: Path, **options: object) -> SegmentLog:
    return SegmentLog(directory, segment_bytes=SEGMENT_BYTES, **{"prepare_ahead": False, **options})


def large(first: int, last: int, term: int = 1) -> list[Entry]:
    """Five of them fill a segment."""
    return [entry(term, index, bytes([index % 256]) * 300) for index in range(first, last + 1)]


def names(directory: Path, suffix: str) -> list[str]:
    return sorted(path.name for path in (directory / "log").glob("*" + suffix))


def used(directory: Path) -> list[bool]:
    """Tell of each segment whether it was one before."""
    paths = sorted((directory / "log").glob("*.seg"))
    return [decode_segment_header(path.read_bytes(), path.name).is_reused for path in paths]


@pytest.fixture
def log(tmp_path: Path):
    """Two segments were purged; the active one is the next to last of its size."""
    opened = open_log(tmp_path)
    write(opened, large(1, 17))
    opened.purge(log_id(1, 12))
    yield opened
    with suppress(OSError):  # the test closed it
        opened.close()


def test_a_purge_keeps_files_and_the_next_segments_are_these(log: SegmentLog, tmp_path: Path):
    assert len(names(tmp_path, ".old")) == 2
    inodes = {path.stat().st_ino for path in (tmp_path / "log").glob("*.old")}
    write(log, large(18, 30))
    assert names(tmp_path, ".old") == []
    assert used(tmp_path) == [False, False, True, True]
    assert inodes <= {path.stat().st_ino for path in (tmp_path / "log").glob("*.seg")}
    assert read(log, 13, 30) == large(13, 30)


def test_nothing_is_zeroed_for_a_segment_that_is_used_again(log: SegmentLog, tmp_path: Path):
    before = {path.read_bytes()[-1000:] for path in (tmp_path / "log").glob("*.old")}
    write(log, large(18, 21))
    after = (tmp_path / "log" / names(tmp_path, ".seg")[-1]).read_bytes()[-1000:]
    assert after in before


def test_no_more_than_a_few_are_kept_and_none_that_was_made_longer(tmp_path: Path):
    log = open_log(tmp_path)
    write(log, large(1, 40))
    write(log, [entry(1, 41, bytes(5000)), *large(42, 60)])
    log.purge(log_id(1, 59))
    assert len(names(tmp_path, ".old")) == OLD_MAX
    assert {(tmp_path / "log" / name).stat().st_size for name in names(tmp_path, ".old")} <= {
        SEGMENT_BYTES,
        SEGMENT_BYTES + 16,
    }
    log.close()


def test_they_are_found_by_a_later_start_and_may_be_deleted_before_it(log: SegmentLog, tmp_path: Path):
    log.close()
    (tmp_path / "log" / names(tmp_path, ".old")[0]).unlink()
    again = open_log(tmp_path)
    write(again, large(18, 30))
    assert used(tmp_path) == [False, False, True, False]
    again.close()


def test_what_stands_behind_the_last_batch_is_neither_read_nor_called_damage(log: SegmentLog, tmp_path: Path, caplog):
    write(log, large(18, 22))
    log.close()
    again = open_log(tmp_path)
    assert again.state().last == log_id(1, 22)
    assert caplog.text == ""
    again.close()
    report = describe(tmp_path)
    assert [note for note in report["notes"] if "cut short" in note] == []
    assert [problem for problem in report["problems"] if problem["path"].endswith(".seg")] == []


def test_a_batch_whose_end_did_not_reach_the_disk_is_cut_with_a_line_that_says_how_much(
    log: SegmentLog, tmp_path: Path, caplog
):
    write(log, large(18, 21))
    old = (tmp_path / "log" / names(tmp_path, ".seg")[-1]).read_bytes()
    log.append(large(22, 23))
    path = tmp_path / "log" / names(tmp_path, ".seg")[-1]
    log.close()
    torn = bytearray(path.read_bytes())
    torn[512:] = old[512:]
    path.write_bytes(torn)
    again = open_log(tmp_path)
    assert again.state().last == log_id(1, 21)
    assert "dropped" in caplog.text
    again.close()


def test_what_a_start_kept_of_a_batch_is_there_at_the_next_start_too(log: SegmentLog, tmp_path: Path):
    """The batch's checksum is that of all its entries, also of the one whose end was cut off: it vouches for none any more."""
    write(log, large(18, 20))
    log.append(large(21, 23))
    path = tmp_path / "log" / names(tmp_path, ".seg")[-1]
    log.close()
    content = path.read_bytes()
    cut = content.index(large(23, 23)[0].record) + 100
    path.write_bytes(content[:cut].ljust(len(content), b"\xa5"))
    started = open_log(tmp_path)
    assert started.state().last == log_id(1, 22)
    shutil.copytree(tmp_path, tmp_path.with_name("lost"))
    started.close()
    path = tmp_path.with_name("lost") / "log" / path.name
    last_seal = path.read_bytes().index(large(22, 22)[0].record) + len(large(22, 22)[0].record)
    with path.open("r+b") as file:
        file.seek(last_seal)
        file.write(bytes(BATCH_SEAL_BYTES))
    again = open_log(path.parents[1])
    assert read(again, 13, 22) == large(13, 22)
    again.close()


def test_rot_in_a_durable_batch_is_damage(log: SegmentLog, tmp_path: Path):
    write(log, large(18, 22))
    write(log, large(23, 24))
    log.close()
    path = tmp_path / "log" / names(tmp_path, ".seg")[-1]
    content = bytearray(path.read_bytes())
    content[SEGMENT_HEADER_BYTES + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match="entry 21"):
        open_log(tmp_path)


def test_a_seal_of_a_former_life_means_nothing(log: SegmentLog, tmp_path: Path):
    """Also where it stands exactly where the next seal would."""
    write(log, large(18, 21))
    log.close()
    path = tmp_path / "log" / names(tmp_path, ".seg")[-1]
    data = path.read_bytes()
    header = decode_segment_header(data, path.name)
    scan = scan_segment(data, header, path.name)
    other = type(header)(header.first_index, header.previous, header.salt ^ 5, is_reused=True).seals
    forged = data[: scan.end] + other.encode(scan.end, scan.end) + blanks(22, 22)[0].record + data[scan.end + 60 :]
    assert scan_segment(forged, header, path.name).last == log_id(1, 21)


def test_the_header_says_what_it_is():
    for is_reused in (False, True):
        header = decode_segment_header(encode_segment_header(_header(is_reused=is_reused)), "file")
        assert header.is_reused == is_reused


def _header(*, is_reused: bool) -> SegmentHeader:
    return SegmentHeader(LogIndex(8), log_id(1, 7), 99, is_reused=is_reused)


# --- a log that is reset ------------------------------------------------------------------------------------------------


class Zeroed(Files):
    """Real files; counts what is filled with zeros."""

    count = 0

    def zero(self, descriptor, since, until):
        self.count += 1
        super().zero(descriptor, since, until)


def test_a_reset_keeps_files_and_nothing_is_zeroed_for_the_next_segments(tmp_path: Path):
    files = Zeroed()
    log = open_log(tmp_path, files=files)
    write(log, large(1, 17))
    inodes = {path.stat().st_ino for path in (tmp_path / "log").glob("*.seg")}
    zeroed = files.count
    log.reset(log_id(2, 30))
    assert (names(tmp_path, ".seg"), len(names(tmp_path, ".old"))) == ([], 4)
    write(log, large(31, 48, term=2))
    assert zeroed == files.count
    assert inodes == {path.stat().st_ino for path in (tmp_path / "log").glob("*.seg")}
    assert read(log, 31, 48) == large(31, 48, term=2)
    log.close()
    again = open_log(tmp_path)
    assert read(again, 31, 48) == large(31, 48, term=2)
    again.close()


def test_a_reset_keeps_no_segment_whose_entries_may_come_again(tmp_path: Path):
    """As a truncation keeps none: entries 11 and 12 would come again under their index."""
    log = open_log(tmp_path)
    write(log, large(1, 17))
    log.reset(log_id(2, 12))
    assert len(names(tmp_path, ".old")) == 2
    log.close()


def test_two_kept_segments_with_the_same_first_entry_are_not_taken_for_one(tmp_path: Path):
    """A reset far back, as no node makes it, lets an old first entry be one again."""
    log = open_log(tmp_path)
    write(log, large(1, 27))
    log.purge(log_id(1, 22))
    log.reset(log_id(2, 5))
    write(log, large(6, 11, term=3))
    log.purge(log_id(3, 10))
    write(log, large(12, 40, term=3))
    assert read(log, 11, 40) == large(11, 40, term=3)
    log.close()


# --- the index of a full segment is written beside ------------------------------------------------------------------------


class FailingReads(Files):
    """Gives nothing out of a file that was opened for writing, once that is asked for."""

    fails = False

    def pread(self, descriptor: int, count: int, offset: int) -> bytes:
        if self.fails:
            raise OSError(5, "Input/output error")
        return super().pread(descriptor, count, offset)


def test_an_index_that_cannot_be_made_stops_nobody(tmp_path: Path, caplog):
    files = FailingReads()
    log = open_log(tmp_path, files=files)
    write(log, large(1, 3))
    files.fails = True
    write(log, large(4, 9))
    files.fails = False
    assert read(log, 1, 9) == large(1, 9)
    log.close()
    assert "no index" in caplog.text
    again = open_log(tmp_path)
    assert read(again, 1, 9) == large(1, 9)
    again.close()


@pytest.mark.parametrize("prepare_ahead", [False, True])
def test_every_sealed_segment_has_its_index_when_the_log_is_closed(tmp_path: Path, prepare_ahead):
    log = open_log(tmp_path, prepare_ahead=prepare_ahead)
    write(log, large(1, 40))
    log.truncate(LogIndex(22))
    write(log, large(23, 33, term=2))
    log.purge(log_id(1, 8))
    write(log, large(34, 60, term=2))
    log.close()
    sealed = sorted((tmp_path / "log").glob("*.seg"))[:-1]
    assert [index_path(path).exists() for path in sealed] == [True] * len(sealed)
    again = open_log(tmp_path)
    again.verify()
    assert read(again, 23, 60) == large(23, 60, term=2)
    again.close()
    assert [segment["index"] for segment in describe(tmp_path)["log"]["segments"]][:-1] == ["valid"] * len(sealed)
