"""State machines: our store on disk and in memory beside bare SQLite and LMDB: applying, snapshots, and both at once.

    python benchmarks/state_machine.py            100,000 keys
    python benchmarks/state_machine.py --quick    one short round: does it run?

A batch is 100 entries that put values of 256 bytes under random keys. None of the systems has to sync at each commit, as the
Raft log holds what they may lose; they must only never be torn. Who takes part:

    ours             the key-value store on disk: layers in memory, SQLite behind them; what waits at the end counts, too
    memory           the same store in a dictionary
    SQLite           a transaction a batch, WAL, synchronous=NORMAL
    LMDB             a transaction a batch and its sync: without it the file may be torn
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rows import Options, Row, turns
from stores import main
from systems import WORK, BenchError

from raft_engine.kv.commands import encode_put
from raft_engine.kv.disk_store import DiskStore
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.kv.store import KeyValueStore
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.ids import LogIndex, NodeId, Term

KEYS = 100_000
VALUE = b"v" * 256
BATCH = 100
AHEAD = 20
"""Batches that are made before the clock runs."""

Batch = tuple[list[Entry], list[tuple[bytes, bytes]]]
"""The entries, and the keys and values in them for those who know no entries."""


class Machine(Protocol):
    def apply(self, batch: Batch) -> None: ...

    def finish(self) -> None:
        """Return when what was applied is where it belongs."""

    def snapshot(self) -> Iterator[object]:
        """Yield the state as of the call, whatever is applied meanwhile."""


class Store:
    """One of ours."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store

    def apply(self, batch: Batch) -> None:
        self._store.apply(batch[0])

    def finish(self) -> None:
        if isinstance(self._store, DiskStore):
            self._store.flush()

    def snapshot(self) -> Iterator[object]:
        return self._store.snapshot()


class Sqlite:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.execute("CREATE TABLE items(key BLOB PRIMARY KEY, value BLOB)")

    def apply(self, batch: Batch) -> None:
        self.connection.execute("BEGIN")
        self.connection.executemany("REPLACE INTO items VALUES (?, ?)", batch[1])
        self.connection.execute("COMMIT")

    def finish(self) -> None:
        """It is there."""

    def snapshot(self) -> Iterator[object]:
        reader = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        reader.execute("BEGIN")
        cursor = reader.execute("SELECT key, value FROM items ORDER BY key")
        while rows := cursor.fetchmany(256):
            yield rows
        reader.close()


class Lmdb:
    def __init__(self, path: Path) -> None:
        import lmdb

        self.environment = lmdb.open(str(path), map_size=8 * 1024**3)

    def apply(self, batch: Batch) -> None:
        with self.environment.begin(write=True) as transaction:
            for key, value in batch[1]:
                transaction.put(key, value)

    def finish(self) -> None:
        """It is there."""

    def snapshot(self) -> Iterator[object]:
        with self.environment.begin(buffers=False) as transaction:
            yield from transaction.cursor()


@contextmanager
def ours(directory: Path) -> Iterator[Machine]:
    store = DiskStore(directory)
    yield Store(store)
    store.close()


@contextmanager
def memory(_: Path) -> Iterator[Machine]:
    yield Store(MemoryStore())


@contextmanager
def bare_sqlite(directory: Path) -> Iterator[Machine]:
    directory.mkdir()
    machine = Sqlite(directory / "state.db")
    yield machine
    machine.connection.close()


@contextmanager
def bare_lmdb(directory: Path) -> Iterator[Machine]:
    try:
        machine = Lmdb(directory)
    except ImportError as error:
        raise BenchError('lmdb is not installed (pip install "raftctl[bench]")') from error
    yield machine
    machine.environment.close()


SYSTEMS = {"ours": ours, "memory": memory, "SQLite": bare_sqlite, "LMDB": bare_lmdb}


class Batches:
    """Batches of random puts, each system's own log."""

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._random = random.Random(1)
        self._index = 0

    def all_keys(self) -> Iterator[Batch]:
        for first in range(0, self._keys, BATCH):
            yield self._batch(range(first, min(self._keys, first + BATCH)))

    def some(self, count: int) -> list[Batch]:
        return [self._batch([self._random.randrange(self._keys) for _ in range(BATCH)]) for _ in range(count)]

    def _batch(self, numbers: range | list[int]) -> Batch:
        entries, items = [], []
        for number in numbers:
            self._index += 1
            key = b"key%08d" % number
            entries.append(make_entry(Term(1), NodeId(1), LogIndex(self._index), EntryKind.NORMAL, encode_put(key, VALUE)))
            items.append((key, VALUE))
        return entries, items


def apply_for(machine: Machine, batches: Batches, seconds: float) -> list[float]:
    """Apply for `seconds` of applying; return the time of each batch in seconds."""
    times: list[float] = []
    left = seconds
    while left > 0:
        for batch in batches.some(AHEAD):
            begun = time.perf_counter()
            machine.apply(batch)
            times.append(time.perf_counter() - begun)
            left -= times[-1]
    return times


def consume(machine: Machine) -> float:
    """Return how long it took to take a whole snapshot, in seconds."""
    begun = time.perf_counter()
    for _ in machine.snapshot():
        pass
    return time.perf_counter() - begun


def beside_snapshots(machine: Machine, batches: Batches, seconds: float) -> list[float]:
    """Return the time of each batch that was applied while another thread took one snapshot after the other."""
    is_over = threading.Event()

    def take() -> None:
        while not is_over.is_set():
            consume(machine)

    taking = threading.Thread(target=take)
    taking.start()
    times = apply_for(machine, batches, seconds)
    is_over.set()
    taking.join()
    return times


def p99_ms(times: list[float]) -> float:
    return 1000 * sorted(times)[min(len(times) - 1, int(0.99 * len(times)))]


def rows(options: Options) -> Iterator[Row]:
    keys = KEYS if options.seconds >= 1 else KEYS // 20
    rate = Row(f"state machine: puts/s, batches of {BATCH}, {keys:,} keys", "1/s", {"SQLite": 1.0, "LMDB": 1.0})
    snapshot = Row(f"state machine: keys/s into a snapshot of {keys:,} keys", "1/s", {})
    tail = Row(f"state machine: p99 of applying {BATCH} puts", "ms", {}, below=True)
    beside = Row(f"state machine: p99 of applying {BATCH} puts while snapshots are taken", "ms", {}, below=True)
    directory = WORK / "data" / f"state-machine-{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            machines = {name: stack.enter_context(opened(directory / name)) for name, opened in SYSTEMS.items()}
            batches = {name: Batches(keys) for name in machines}
            for name, machine in machines.items():
                for batch in batches[name].all_keys():
                    machine.apply(batch)
                machine.finish()
            for name in turns(list(machines), options.rounds):
                machine = machines[name]
                times = apply_for(machine, batches[name], options.seconds)
                begun = time.perf_counter()
                machine.finish()
                rate.add(name, len(times) * BATCH / (sum(times) + time.perf_counter() - begun))
                tail.add(name, p99_ms(times))
                snapshot.add(name, keys / consume(machine))
                beside.add(name, p99_ms(beside_snapshots(machine, batches[name], options.seconds)))
                machine.finish()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    growth = statistics.median(beside.samples["ours"]) / statistics.median(tail.samples["ours"])
    beside.notes.append(f"ours: {growth:.2f} times what it is without")
    yield from (rate, tail, snapshot, beside)


if __name__ == "__main__":
    sys.exit(main(__doc__ or "", rows, seconds=2.0))
