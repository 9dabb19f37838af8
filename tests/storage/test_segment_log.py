"""What the log on disk does that the suite cannot see: torn tails, rot, missing files, and the order of its writes."""

from __future__ import annotations

import itertools
import logging
import shutil
import threading
from pathlib import Path

import pytest

from raft_engine.errors import Damaged, NewerFormat, StorageError
from raft_engine.storage.files import Files
from raft_engine.storage.segment_format import SEGMENT_HEADER_BYTES
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.storage.segment_seal import SEAL_BYTES
from raft_engine.testing.storage_suite import blanks, entry, log_id, membership_entry, read, write
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG
from raft_engine.types.vote import Vote

SEGMENT_BYTES = 4096


def open_log(directory: Path, **options) -> SegmentLog:
    return SegmentLog(directory, **{"segment_bytes": SEGMENT_BYTES, "prepare_ahead": False, **options})


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "log").glob("*.seg"))


def change(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def position_of(path: Path, record: bytes) -> int:
    return path.read_bytes().index(record)


def filled(directory: Path, last: int = 10, *, size: int = 40) -> list:
    entries = [entry(1, index, bytes([index % 256]) * size) for index in range(1, last + 1)]
    log = open_log(directory)
    for item in entries:
        write(log, [item])
    log.close()
    return entries


def killed(directory: Path, last: int) -> list:
    """As `filled`, but the directory is as a process leaves it that was killed."""
    running = directory.with_name("running")
    entries = [entry(1, index, bytes([index % 256]) * 40) for index in range(1, last + 1)]
    log = open_log(running)
    for item in entries:
        write(log, [item])
    shutil.copytree(running, directory)
    log.close()
    return entries


# --- a write cut short ------------------------------------------------------------------------------------------------


def test_a_record_cut_short_at_any_byte_is_dropped_and_said_so(tmp_path, caplog):
    entries = killed(tmp_path / "original", 5)
    path = segments(tmp_path / "original")[0]
    content = path.read_bytes()
    start = content.index(entries[4].record)
    for kept in range(len(entries[4].record)):
        copy = tmp_path / f"copy-{kept}"
        shutil.copytree(tmp_path / "original", copy)
        segments(copy)[0].write_bytes(content[: start + kept].ljust(len(content), b"\0"))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            log = open_log(copy)
        assert log.state().last == log_id(1, 4), kept
        assert read(log, 1, 4) == entries[:4]
        write(log, [entry(2, 5, b"instead")])
        log.close()
        reopened = open_log(copy)
        assert read(reopened, 1, 5) == [*entries[:4], entry(2, 5, b"instead")], kept
        reopened.close()
        assert ("cut short" in caplog.text) == (kept > 0), kept
        shutil.rmtree(copy)


def test_a_file_cut_short_at_any_byte_of_its_last_record_is_repaired(tmp_path):
    entries = killed(tmp_path / "original", 3)
    content = segments(tmp_path / "original")[0].read_bytes()
    start = content.index(entries[2].record)
    for kept in range(len(entries[2].record)):
        copy = tmp_path / f"copy-{kept}"
        shutil.copytree(tmp_path / "original", copy)
        segments(copy)[0].write_bytes(content[: start + kept])
        log = open_log(copy)
        assert read(log, 1, log.state().last.index) == entries[:2]
        write(log, entries[2:])
        log.close()
        reopened = open_log(copy)
        assert read(reopened, 1, 3) == entries
        reopened.close()
        shutil.rmtree(copy)


def test_an_unsynced_batch_that_lost_its_first_page_is_no_damage(tmp_path):
    log = open_log(tmp_path)
    write(log, blanks(1, 2))
    batch = [entry(1, index, b"x" * 200) for index in range(3, 10)]
    log.append(batch)
    log.close()  # not synced: nobody was told
    path = segments(tmp_path)[0]
    change(path, position_of(path, batch[0].record), bytes(300))
    log = open_log(tmp_path)
    assert log.state().last == log_id(1, 2)
    write(log, blanks(3, 4, term=2))
    log.close()
    assert open_log(tmp_path).state().last == log_id(2, 4)


def test_what_a_killed_process_left_unsynced_is_made_durable_before_it_counts(tmp_path):
    log = open_log(tmp_path)
    write(log, blanks(1, 2))
    log.append(blanks(3, 4))
    log.close()

    files = Tracing()
    log = open_log(tmp_path, files=files)
    assert ("sync", "log") in files.calls
    assert log.state().last == log_id(1, 4)
    log.close()


# --- rot --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 5, 9, 10])
def test_a_flipped_bit_in_a_durable_entry_is_found_and_named(number, tmp_path):
    entries = filled(tmp_path, 10)
    path = segments(tmp_path)[0]
    at = position_of(path, entries[number - 1].record)
    change(path, at + 50, b"\xff")
    with pytest.raises(Damaged) as caught:
        open_log(tmp_path)
    assert (caught.value.path, caught.value.offset) == (str(path), at)
    assert f"entry {number}" in str(caught.value)
    assert "rejoin-node" in caught.value.hint


def test_a_durable_entry_overwritten_with_zeros_is_rot(tmp_path):
    entries = filled(tmp_path, 10)
    path = segments(tmp_path)[0]
    change(path, position_of(path, entries[9].record), bytes(len(entries[9].record)))
    with pytest.raises(Damaged):
        open_log(tmp_path)


def test_rot_in_a_single_large_synced_batch_is_not_taken_for_a_torn_write(tmp_path):
    batch = [entry(1, index, bytes([index]) * 20) for index in range(1, 30)]
    log = open_log(tmp_path)
    write(log, batch)
    log.close()
    path = segments(tmp_path)[0]
    change(path, position_of(path, batch[14].record) + 40, b"\xff")
    with pytest.raises(Damaged):
        open_log(tmp_path)


def test_data_that_looks_like_a_seal_proves_nothing(tmp_path):
    log = open_log(tmp_path)
    write(log, blanks(1, 1))
    seal = (tmp_path / "log" / "00000000000000000001.seg").read_bytes()[
        SEGMENT_HEADER_BYTES : SEGMENT_HEADER_BYTES + SEAL_BYTES
    ]
    batch = [entry(1, 2, b"x" * 100), entry(1, 3, seal * 20)]
    log.append(batch)
    log.close()
    path = segments(tmp_path)[0]
    change(path, position_of(path, batch[0].record) + 50, b"\0")
    assert open_log(tmp_path).state().last == log_id(1, 1)


def test_rot_under_a_running_log_is_found_when_it_is_read(tmp_path):
    entries = [entry(1, index, b"a" * 30) for index in range(1, 6)]
    log = open_log(tmp_path)
    write(log, entries)
    path = segments(tmp_path)[0]
    at = position_of(path, entries[2].record)
    change(path, at + 45, b"b")
    assert read(log, 1, 2) == entries[:2]
    with pytest.raises(Damaged) as caught:
        log.read(LogIndex(2), LogIndex(4), 10_000)
    assert caught.value.offset == at
    log.close()


@pytest.mark.parametrize("offset", [0, 8, 20, 30, 60])
def test_a_damaged_segment_header_is_found(offset, tmp_path):
    filled(tmp_path, 2)
    path = segments(tmp_path)[0]
    change(path, offset, bytes([path.read_bytes()[offset] ^ 1]))
    with pytest.raises((Damaged, NewerFormat)):
        open_log(tmp_path)


# --- files that are missing or misplaced ------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 2, -1])
def test_a_missing_segment_is_noticed(which, tmp_path):
    filled(tmp_path, 300)
    assert len(segments(tmp_path)) > 4
    segments(tmp_path)[which].unlink()
    with pytest.raises(Damaged, match="missing"):
        open_log(tmp_path)


def test_all_segments_missing_is_noticed(tmp_path):
    filled(tmp_path, 10)
    for path in segments(tmp_path):
        path.unlink()
    with pytest.raises(Damaged, match="missing"):
        open_log(tmp_path)


def test_missing_marks_are_noticed(tmp_path):
    filled(tmp_path, 10)
    (tmp_path / "log" / "marks").unlink()
    with pytest.raises(Damaged, match="marks"):
        open_log(tmp_path)


def test_a_segment_under_another_name_is_noticed(tmp_path):
    filled(tmp_path, 300)
    first, second, *_ = segments(tmp_path)
    shutil.copy(first, second)
    with pytest.raises(Damaged):
        open_log(tmp_path)


def test_a_log_that_ends_before_its_purge_mark_is_noticed(tmp_path):
    entries = filled(tmp_path, 30)
    log = open_log(tmp_path)
    log.purge(log_id(1, 20))
    log.close()
    path = segments(tmp_path)[0]
    content = path.read_bytes()
    path.write_bytes(content[: content.index(entries[10].record)].ljust(len(content), b"\0"))
    with pytest.raises(Damaged, match="entry 11: it was durable and is not there"):
        open_log(tmp_path)


def test_a_later_format_is_refused_not_guessed(tmp_path):
    filled(tmp_path, 2)
    path = segments(tmp_path)[0]
    change(path, 8, b"\x09")
    with pytest.raises(NewerFormat):
        open_log(tmp_path)


# --- segments ---------------------------------------------------------------------------------------------------------


def test_segments_are_filled_with_zeros_before_they_are_used(tmp_path):
    log = open_log(tmp_path, segment_bytes=100_000)
    write(log, blanks(1, 1))
    assert segments(tmp_path)[0].stat().st_size == 100_000
    assert segments(tmp_path)[0].stat().st_blocks * 512 >= 100_000
    log.close()


def test_files_are_private(tmp_path):
    filled(tmp_path / "node", 200)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "node").rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "node").rglob("*") if path.is_dir()} == {0o700}


def test_purging_frees_whole_segments(tmp_path):
    filled(tmp_path, 300)
    before = len(segments(tmp_path))
    log = open_log(tmp_path)
    log.purge(log_id(1, 290))
    assert before > 4
    assert len(segments(tmp_path)) <= 2
    assert read(log, 291, 300)[0].index == 291
    log.close()


def test_the_spare_segment_is_prepared_beside_the_writer_and_used(tmp_path):
    log = open_log(tmp_path, prepare_ahead=True)
    for index in range(1, 400):
        write(log, [entry(1, index, b"x" * 30)])
    assert len(segments(tmp_path)) > 4
    log.close()
    assert open_log(tmp_path).state().last == log_id(1, 399)


def test_the_first_segment_is_prepared_before_there_is_an_entry(tmp_path):
    """A wiped node's log is blank until the snapshot is there: time enough to fill a file without haste."""
    log = open_log(tmp_path, prepare_ahead=True)
    log.close()
    assert (tmp_path / "log" / "spare").stat().st_size == SEGMENT_BYTES


def test_an_entry_larger_than_a_segment_gets_one_of_its_own(tmp_path):
    log = open_log(tmp_path)
    entries = [entry(1, 1, b"a"), entry(1, 2, b"b" * 3 * SEGMENT_BYTES), entry(1, 3, b"c")]
    write(log, entries)
    log.close()
    log = open_log(tmp_path)
    assert read(log, 1, 3) == entries
    assert len(segments(tmp_path)) == 3
    log.close()


def test_the_first_segment_is_announced_before_it_exists(tmp_path):
    seen = []
    log = open_log(tmp_path, before_first_segment=lambda: seen.append(len(segments(tmp_path))))
    assert seen == []
    write(log, blanks(1, 300))
    assert seen == [0]
    log.close()


def test_a_gap_is_a_bug(tmp_path):
    log = open_log(tmp_path)
    with pytest.raises(AssertionError):
        log.append(blanks(2, 3))
    with pytest.raises(AssertionError):
        log.append([*blanks(1, 1), *blanks(3, 3)])
    assert log.state().last == BEFORE_LOG
    log.close()


# --- the order of writes ----------------------------------------------------------------------------------------------


class Tracing(Files):
    """Notes the calls on log and hard state."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def _note(self, call: str, descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        self.calls.append((call, "log" if name.endswith(".seg") else name))

    def pwrite(self, descriptor, data, offset):
        self._note("write", descriptor)
        super().pwrite(descriptor, data, offset)

    def fdatasync(self, descriptor):
        self._note("sync", descriptor)
        super().fdatasync(descriptor)


def traced(tmp_path) -> tuple[SegmentLog, Tracing]:
    files = Tracing()
    log = open_log(tmp_path, files=files)
    write(log, blanks(1, 1))
    files.calls.clear()
    return log, files


def vote(term: int) -> HardState:
    return HardState(Vote(Term(term), NodeId(1), committed=False))


def test_an_entry_waits_for_the_vote_before_it(tmp_path):
    log, files = traced(tmp_path)
    log.save_hard_state(vote(2))
    log.append(blanks(2, 2, term=2))
    assert files.calls.index(("sync", "hard_state")) < files.calls.index(("write", "log"))
    log.close()


def test_a_vote_waits_for_the_entry_before_it(tmp_path):
    log, files = traced(tmp_path)
    log.append(blanks(2, 2))
    log.save_hard_state(vote(2))
    assert files.calls.index(("sync", "log")) < files.calls.index(("write", "hard_state"))
    log.close()


def test_a_batch_is_one_write_and_one_sync(tmp_path):
    log, files = traced(tmp_path)
    log.append(blanks(2, 40))
    log.sync()
    # The last one is the seal: nobody waits for it.
    assert files.calls == [("write", "log"), ("sync", "log"), ("write", "log")]
    log.close()


def test_a_sync_with_nothing_to_do_does_nothing(tmp_path):
    log, files = traced(tmp_path)
    log.sync()
    assert files.calls == []
    log.close()


# --- readers beside the writer ----------------------------------------------------------------------------------------


def test_a_reader_never_sees_old_and_new_entries_mixed(tmp_path):
    log = open_log(tmp_path)
    write(log, [entry(1, index, b"x" * 20) for index in range(1, 60)])
    stop = threading.Event()
    seen: list[list[int]] = []
    errors: list[BaseException] = []

    def keep_reading():
        while not stop.is_set():
            try:
                terms = [item.term for item in log.read(LogIndex(20), LogIndex(59), 1 << 20)]
            except StorageError as error:
                if isinstance(error, Damaged):
                    errors.append(error)
                continue
            seen.append(terms)

    readers = [threading.Thread(target=keep_reading) for _ in range(2)]
    for reader in readers:
        reader.start()
    for term in range(2, 40):
        log.truncate(LogIndex(20))
        for first in range(21, 60, 13):
            log.append([entry(term, index, b"y" * 20) for index in range(first, min(first + 13, 60))])
        log.sync()
    stop.set()
    for reader in readers:
        reader.join()
    log.close()
    assert errors == []
    assert all(len(set(terms)) == 1 for terms in seen)


def test_a_segment_being_read_is_closed_after_its_last_reader(tmp_path):
    inside, go_on = threading.Event(), threading.Event()

    class Slow(Files):
        is_slow = False

        def pread(self, descriptor, count, offset):
            if self.is_slow and threading.current_thread() is not threading.main_thread():
                inside.set()
                go_on.wait()
            return super().pread(descriptor, count, offset)

    files = Slow()
    log = open_log(tmp_path, files=files)
    write(log, [entry(1, index, b"x" * 30) for index in range(1, 301)])
    files.is_slow = True
    results: list[object] = []

    def reads():
        try:
            results.append(log.read(LogIndex(0), LogIndex(3), 10_000))
        except StorageError as error:
            results.append(error)

    reader = threading.Thread(target=reads)
    reader.start()
    inside.wait()
    log.purge(log_id(1, 290))
    go_on.set()
    reader.join()
    assert isinstance(results[0], StorageError)
    assert not isinstance(results[0], Damaged)
    log.close()


def test_reading_across_segments_gives_every_entry_once(tmp_path):
    entries = filled(tmp_path, 300)
    log = open_log(tmp_path)
    for first, last, limit in itertools.product((1, 40, 77), (78, 200, 300), (1, 500, 5000, 1 << 20)):
        part = log.read(LogIndex(first - 1), LogIndex(last), limit)
        assert part == entries[first - 1 : first - 1 + len(part)]
        assert len(part) == 1 or sum(len(item.record) for item in part) <= limit
        assert limit < 1 << 20 or len(part) == last - first + 1
    log.close()


def test_memberships_appended_after_the_start_are_in_the_state(tmp_path):
    filled(tmp_path, 50)
    log = open_log(tmp_path)
    write(log, [membership_entry(2, 51, 1, 2), *blanks(52, 60, term=3)])
    assert [item.log_id.index for item in log.state().memberships] == [51]
    assert [(item.first_index, item.term) for item in log.state().runs] == [(1, 1), (51, 2), (52, 3)]
    log.close()
