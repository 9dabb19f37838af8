"""Old segments are verified beside the running log, and whoever runs the engine is told at once."""

from __future__ import annotations

import threading
from pathlib import Path

from raft_engine.errors import Damaged, RaftError
from raft_engine.storage.files import Files
from raft_engine.storage.interface import WorksBeside
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.testing.storage_suite import entry, read, write

SEGMENT_BYTES = 4096


def open_log(directory: Path, files: Files | None = None, **options: object) -> SegmentLog:
    return SegmentLog(directory, files=files, segment_bytes=SEGMENT_BYTES, **options)


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
