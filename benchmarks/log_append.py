"""Appending to the log: our store beside bare files, SQLite and LMDB, everybody with every commit on the disk, in one run.

    python benchmarks/log_append.py            batches of 1, 10 and 100 entries
    python benchmarks/log_append.py --quick    one short round: does it run?

A commit is a batch of entries with values of 256 bytes that counts only when the disk has it. Who takes part:

    ours                    the engine's log store: framing, checksums, seals, one fdatasync a batch; purged as it goes, as a node does
                            that takes snapshots, so that segments are used again
    ours, never purged      the same while it only grows: each segment is a new file, zero-filled ahead in a thread
    zero-filled, fdatasync  the same bytes into a file of 16 MiB that was filled with zeros, over and over: as fast as this disk goes
    always new files        the same into a new file each 16 MiB, filled with zeros and synced when it is needed, as a log must
    growing, fdatasync      the same bytes at the end of a file
    growing, fsync          the same with fsync
    SQLite                  a table in WAL mode, synchronous=FULL, one transaction a batch
    LMDB                    its default: a sync at each commit
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rows import Options, Row, turns
from stores import main
from systems import WORK, BenchError

from raft_engine.storage.segment_log import SegmentLog
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import LogId

BATCHES = (1, 10, 100)
VALUE_BYTES = 256
FILE_BYTES = 16 * 1024 * 1024
KEPT_FILES = 2
"""Our log is purged up to where it was so many files of 16 MiB ago."""
AHEAD = 32
"""Batches that are made before the clock runs."""
BARE = "zero-filled, fdatasync"
GOALS = {BARE: 0.9, "SQLite": 1.8, "LMDB": 1.8}

Batch = list[Entry]
Commit = Callable[[Batch], None]


@contextmanager
def ours(directory: Path) -> Iterator[Commit]:
    log = SegmentLog(directory)
    ends: deque[LogId] = deque()
    bytes_since = 0

    def commit(batch: Batch) -> None:
        nonlocal bytes_since
        log.append(batch)
        log.sync()
        bytes_since += sum(len(entry.record) for entry in batch)
        if bytes_since >= FILE_BYTES:
            bytes_since = 0
            ends.append(batch[-1].log_id)
            if len(ends) > KEPT_FILES:
                log.purge(ends.popleft())

    yield commit
    log.close()


@contextmanager
def never_purged(directory: Path) -> Iterator[Commit]:
    log = SegmentLog(directory)

    def commit(batch: Batch) -> None:
        log.append(batch)
        log.sync()

    yield commit
    log.close()


def _zero_filled_file(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, bytes(FILE_BYTES), 0)
    os.fsync(descriptor)
    return descriptor


@contextmanager
def zero_filled(directory: Path) -> Iterator[Commit]:
    directory.mkdir()
    descriptor = _zero_filled_file(directory / "file")
    at = 0

    def commit(batch: Batch) -> None:
        nonlocal at
        data = b"".join([entry.record for entry in batch])
        if at + len(data) > FILE_BYTES:
            at = 0
        os.pwrite(descriptor, data, at)
        os.fdatasync(descriptor)
        at += len(data)

    yield commit
    os.close(descriptor)


@contextmanager
def new_files(directory: Path) -> Iterator[Commit]:
    directory.mkdir()
    number, at = 0, 0
    descriptor = _zero_filled_file(directory / "0")

    def commit(batch: Batch) -> None:
        nonlocal number, at, descriptor
        data = b"".join([entry.record for entry in batch])
        if at + len(data) > FILE_BYTES:
            os.close(descriptor)
            number, at = number + 1, 0
            descriptor = _zero_filled_file(directory / str(number))
        os.pwrite(descriptor, data, at)
        os.fdatasync(descriptor)
        at += len(data)

    yield commit
    os.close(descriptor)


def growing(sync: Callable[[int], None]) -> Callable[[Path], object]:
    @contextmanager
    def opened(directory: Path) -> Iterator[Commit]:
        directory.mkdir()
        descriptor = os.open(directory / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def commit(batch: Batch) -> None:
            os.write(descriptor, b"".join([entry.record for entry in batch]))
            sync(descriptor)

        yield commit
        os.close(descriptor)

    return opened


@contextmanager
def sqlite(directory: Path) -> Iterator[Commit]:
    directory.mkdir()
    connection = sqlite3.connect(directory / "log.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE log(position INTEGER PRIMARY KEY, record BLOB NOT NULL)")

    def commit(batch: Batch) -> None:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO log VALUES (?, ?)", [(entry.index, entry.record) for entry in batch])
        connection.execute("COMMIT")

    yield commit
    connection.close()


@contextmanager
def lmdb(directory: Path) -> Iterator[Commit]:
    try:
        import lmdb as library
    except ImportError as error:
        raise BenchError('lmdb is not installed (pip install "raftctl[bench]")') from error
    environment = library.open(str(directory), map_size=8 * 1024**3)

    def commit(batch: Batch) -> None:
        with environment.begin(write=True) as transaction:
            for entry in batch:
                transaction.put(entry.index.to_bytes(8, "big"), entry.record, append=True)

    yield commit
    environment.close()


SYSTEMS: dict[str, Callable[[Path], object]] = {
    "ours": ours,
    "ours, never purged": never_purged,
    BARE: zero_filled,
    "always new files": new_files,
    "growing, fdatasync": growing(os.fdatasync),
    "growing, fsync": growing(os.fsync),
    "SQLite": sqlite,
    "LMDB": lmdb,
}


class Writer:
    """One system with its place in the log."""

    def __init__(self, commit: Commit, count: int) -> None:
        self._commit = commit
        self._count = count
        self._next = 1
        self._value = os.urandom(VALUE_BYTES)
        self._run_one()

    def run(self, seconds: float) -> list[float]:
        """Return how long each commit took, in seconds, for as many as fit into `seconds` of committing."""
        times: list[float] = []
        left = seconds
        while left > 0:
            for batch in [self._batch() for _ in range(AHEAD)]:
                begun = time.perf_counter()
                self._commit(batch)
                times.append(time.perf_counter() - begun)
                left -= times[-1]
        return times

    def _run_one(self) -> None:
        """The first commit creates files."""
        self._commit(self._batch())

    def _batch(self) -> Batch:
        first, self._next = self._next, self._next + self._count
        return [
            make_entry(Term(1), NodeId(1), LogIndex(index), EntryKind.NORMAL, self._value)
            for index in range(first, self._next)
        ]


def rows(options: Options) -> Iterator[Row]:
    for count in BATCHES:
        rate = Row(f"log append: commits/s, {count} entries a commit", "1/s", dict(GOALS))
        middle = Row(f"log append: median time of a commit, {count} entries", "ms", {}, below=True)
        tail = Row(f"log append: p99 of a commit, {count} entries", "ms", {}, below=True)
        directory = WORK / "data" / f"log-append-{os.getpid()}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            with ExitStack() as stack:
                writers = {
                    name: Writer(stack.enter_context(opened(directory / name.replace(", ", "-"))), count)  # type: ignore[arg-type]
                    for name, opened in SYSTEMS.items()
                }
                for name in turns(list(writers), options.rounds):
                    times = sorted(writers[name].run(options.seconds))
                    rate.add(name, len(times) / sum(times))
                    middle.add(name, 1000 * statistics.median(times))
                    tail.add(name, 1000 * times[min(len(times) - 1, int(0.99 * len(times)))])
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        rate.notes.append(f"ours: {statistics.median(rate.samples['ours']) * count:,.0f} entries/s")
        yield from (rate, middle, tail)


if __name__ == "__main__":
    sys.exit(main(__doc__ or "", rows, seconds=1.0))
