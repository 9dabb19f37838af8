"""Sealed segments are verified by the start, the newest first, and beside the running log; what is found is never forgotten."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from raft_engine.errors import Damaged, NewerFormat, RaftError
from raft_engine.storage.damage_note import NOTE_NAME, encode_note, load_note
from raft_engine.storage.files import Files
from raft_engine.storage.interface import WorksBeside
from raft_engine.storage.segment_index import encode_index, index_path, read_index, read_table
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.testing.storage_suite import entry, log_id, read, write
from tests.storage.disks import FailingFiles

SEGMENT_BYTES = 4096


def open_log(directory: Path, files: Files | None = None, **options: object) -> SegmentLog:
    """Open a log that leaves sealed segments to be verified beside it, unless `options` say otherwise."""
    return SegmentLog(directory, files=files, segment_bytes=SEGMENT_BYTES, **{"verified_bytes": 0, **options})


def filled(directory: Path) -> list[Path]:
    log = open_log(directory)
    for index in range(1, 301):
        write(log, [entry(1, index, b"x" * 40)])
    log.close()
    return sorted((directory / "log").glob("*.seg"))


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def wrong_index(segment: Path) -> bytes:
    """Return an index whose own checksums are right, and that belongs to other records."""
    index = read_index(Files(), segment, SEGMENT_BYTES)
    assert index is not None
    table = read_table(Files(), segment, index)
    assert table is not None
    return encode_index(msgspec.structs.replace(index, content_crc=index.content_crc ^ 1), table)


class Heard:
    """Waits for an error."""

    def __init__(self) -> None:
        self.errors: list[RaftError] = []
        self.is_told = threading.Event()

    def __call__(self, error: RaftError) -> None:
        self.errors.append(error)
        self.is_told.set()


class Gate(Files):
    """Lets nobody read a segment from its beginning to its end before it is open, but for those who open the log."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.inside = threading.Event()
        self.seen: list[str] = []

    def open(self, path, *, create=False, write=True):
        if threading.current_thread().name == "raft-log-verify":
            self.seen.append(path.name)
            self.inside.set()
            self.is_open.wait()
        return super().open(path, create=create, write=write)


def test_a_log_is_one_that_works_beside(tmp_path):
    log = open_log(tmp_path)
    assert isinstance(log, WorksBeside)
    log.close()


def test_damage_that_the_start_did_not_see_is_told_without_anybody_reading_there(tmp_path):
    paths = filled(tmp_path)
    flip(paths[1], 700)
    log, heard = open_log(tmp_path), Heard()
    log.watch_failure(heard)
    heard.is_told.wait()
    assert isinstance(heard.errors[0], Damaged)
    assert heard.errors[0].path == str(paths[1])
    assert "rejoin-node" in heard.errors[0].hint
    log.close()


def test_every_segment_but_the_newest_is_looked_at_and_nothing_is_said_about_a_whole_log(tmp_path):
    paths = filled(tmp_path)
    files, heard = Gate(), Heard()
    log = open_log(tmp_path, files)
    files.is_open.set()
    log.watch_failure(heard)
    thread = log._verification._thread
    assert thread is not None
    thread.join()
    assert files.seen == [path.name for path in paths[:-1]]
    assert heard.errors == []
    log.close()


def test_reading_and_writing_go_on_meanwhile(tmp_path):
    filled(tmp_path)
    files = Gate()
    log = open_log(tmp_path, files)
    log.watch_failure(Heard())
    files.inside.wait()
    write(log, [entry(1, 301)])
    assert [item.index for item in read(log, 1, 301)] == list(range(1, 302))
    files.is_open.set()
    log.close()


def test_closing_the_log_ends_it(tmp_path):
    filled(tmp_path)
    files = Gate()
    log = open_log(tmp_path, files)
    log.watch_failure(Heard())
    files.inside.wait()
    files.is_open.set()
    log.close()
    assert len(files.seen) < 300
    assert all(thread.name != "raft-log-verify" for thread in threading.enumerate())


def test_without_threads_nothing_is_verified_by_itself(tmp_path):
    flip(filled(tmp_path)[1], 700)
    log, heard = open_log(tmp_path, prepare_ahead=False), Heard()
    log.watch_failure(heard)
    assert log._verification._thread is None
    log.close()
    assert heard.errors == []


# --- by the start --------------------------------------------------------------------------------------------------------


def test_damage_within_the_budget_refuses_the_start_with_entry_file_and_byte(tmp_path):
    paths = filled(tmp_path)
    flip(paths[1], 700)
    with pytest.raises(Damaged, match=r"entry \d+: checksum does not match") as caught:
        open_log(tmp_path, verified_bytes=1 << 20)
    assert caught.value.path == str(paths[1])
    assert caught.value.record is not None
    assert caught.value.offset is not None
    assert "rejoin-node" in caught.value.hint


def test_the_budget_is_spent_on_the_newest_segments_first(tmp_path):
    sealed = filled(tmp_path)[:-1]
    flip(sealed[-3], 700)
    log = open_log(tmp_path, verified_bytes=2 * SEGMENT_BYTES)
    log.close()
    with pytest.raises(Damaged):
        open_log(tmp_path, verified_bytes=3 * SEGMENT_BYTES)


def test_what_the_start_has_verified_is_not_read_again_beside_the_running_log(tmp_path):
    sealed = filled(tmp_path)[:-1]
    files = Gate()
    log = open_log(tmp_path, files, verified_bytes=2 * SEGMENT_BYTES)
    files.is_open.set()
    log.watch_failure(Heard())
    thread = log._verification._thread
    assert thread is not None
    thread.join()
    assert files.seen == [path.name for path in sealed[:-2]]
    log.close()


def test_an_index_that_says_something_else_of_whole_records_is_made_again_by_the_start(tmp_path):
    paths = filled(tmp_path)
    right, wrong = index_path(paths[0]).read_bytes(), wrong_index(paths[0])
    index_path(paths[0]).write_bytes(wrong)
    log = open_log(tmp_path, verified_bytes=1 << 20)
    log.close()
    assert index_path(paths[0]).read_bytes() == right


# --- what was found is not forgotten -------------------------------------------------------------------------------------


@pytest.fixture
def noted(tmp_path: Path) -> tuple[Path, Damaged]:
    """A log whose damage was found by a reader, and has healed since: a bit that had flipped in memory only."""
    segment = filled(tmp_path)[1]
    flip(segment, 700)
    log = open_log(tmp_path)
    with pytest.raises(Damaged) as caught:
        read(log, 1, 300)
    log.close()
    flip(segment, 700)
    return tmp_path, caught.value


@pytest.mark.parametrize("verified_bytes", [0, 1 << 20])
def test_every_later_start_refuses_and_names_entry_file_and_byte(noted, verified_bytes):
    directory, found = noted
    for _ in range(2):
        with pytest.raises(Damaged, match="while the node ran") as caught:
            open_log(directory, verified_bytes=verified_bytes)
        told = caught.value
        assert (found.path, found.offset, found.record) == (told.path, told.offset, told.record)
        assert "rejoin-node" in told.hint


def test_damage_found_beside_the_running_log_is_noted_before_anybody_is_told(tmp_path):
    paths = filled(tmp_path)
    flip(paths[1], 700)
    notes, told = [], threading.Event()

    def hear(_error: RaftError) -> None:
        notes.append(load_note(tmp_path / "log", Files()))
        told.set()

    log = open_log(tmp_path)
    log.watch_failure(hear)
    told.wait()
    log.close()
    assert [paths[1].name] == [note.segment for note in notes]


def test_the_note_goes_with_a_segment_that_is_purged_meanwhile(noted):
    directory, found = noted
    note = (directory / "log" / NOTE_NAME).read_bytes()
    (directory / "log" / NOTE_NAME).unlink()
    log = open_log(directory)
    log.purge(log_id(1, 250))
    log.close()
    assert not Path(found.path).exists()
    (directory / "log" / NOTE_NAME).write_bytes(note)
    log = open_log(directory)
    log.close()
    assert not (directory / "log" / NOTE_NAME).exists()


def test_the_first_damage_that_was_found_stays_noted(noted):
    directory, _ = noted
    first = load_note(directory / "log", Files())
    segments = sorted((directory / "log").glob("*.seg"))
    (directory / "log" / NOTE_NAME).unlink()
    log = open_log(directory)
    (directory / "log" / NOTE_NAME).write_bytes(encode_note(first))
    flip(segments[2], 700)
    with pytest.raises(Damaged):
        log.verify()
    log.close()
    assert first == load_note(directory / "log", Files())


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"", Damaged), (b'{"format":1}', Damaged), (b'{"format":2,"checksum":"","damage":{}}', NewerFormat)],
)
def test_a_note_that_cannot_be_read_refuses_too(noted, content, error):
    directory, _ = noted
    (directory / "log" / NOTE_NAME).write_bytes(content)
    with pytest.raises(error, match=NOTE_NAME):
        open_log(directory)


def test_every_byte_of_the_note_counts(noted):
    directory, _ = noted
    path = directory / "log" / NOTE_NAME
    whole = path.read_bytes()
    for offset in range(len(whole)):
        path.write_bytes(whole)
        flip(path, offset)
        with pytest.raises((Damaged, NewerFormat)):
            open_log(directory)


def test_a_note_that_the_disk_refuses_leaves_the_damage_told(tmp_path, caplog):
    flip(filled(tmp_path)[1], 700)
    files = FailingFiles()
    log = open_log(tmp_path, files)
    files.fatal = files.calls + 1
    with pytest.raises(Damaged):
        read(log, 1, 300)
    files.fatal = None
    log.close()
    assert "cannot be noted" in caplog.text


def test_an_index_that_is_wrong_is_no_damage_to_remember(tmp_path):
    paths = filled(tmp_path)
    index_path(paths[1]).write_bytes(wrong_index(paths[1]))
    log = open_log(tmp_path)
    with pytest.raises(Damaged, match="start the node again"):
        log.verify()
    log.close()
    assert not (tmp_path / "log" / NOTE_NAME).exists()
