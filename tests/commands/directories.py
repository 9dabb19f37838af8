"""Data directories of the bundled key-value store, made without a node: what the tests of this room share."""

from __future__ import annotations

import os
from pathlib import Path

from raft_engine.kv.commands import Check, Delete, Put, encode_operations, encode_put
from raft_engine.kv.disk_store import DiskStore
from raft_engine.testing.storage_suite import log_id, stored, write
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.ids import LogIndex, NodeId, Term
from tests.storage.test_data_dir import VOTED, started

LAST = log_id(1, 9)


def entry(index: int, data: bytes, kind: int = EntryKind.NORMAL) -> Entry:
    return make_entry(Term(1), NodeId(1), LogIndex(index), kind, data)


ENTRIES = [
    entry(2, b"", EntryKind.BLANK),
    *(entry(index, encode_put(b"key%d" % index, b"value %d" % index)) for index in range(3, 7)),
    entry(7, encode_operations([Check(b"key3", 3), Put(b"key3", b"new"), Delete(b"key4")], b"once")),
    entry(8, b"of another state machine"),
    entry(9, encode_put(b"\xff", b"")),
]


def make_directory(path: Path) -> Path:
    """A node that stopped: a vote in term 4, entries 4 to 9 of term 1, a snapshot up to 5, a state machine up to 9."""
    directory = started(path)
    directory.ensure_first_entry()
    directory.log.save_hard_state(VOTED)
    write(directory.log, ENTRIES)
    store = DiskStore(directory.state_machine_path, write_after_s=0.001)
    store.apply([*directory.log.read(LogIndex(0), LogIndex(5), 2**20)])
    directory.snapshots.build(log_id(1, 5), stored(1, 1, 1, 2, 3), store.snapshot())
    store.apply(ENTRIES[4:])
    store.flush()
    store.close()
    directory.log.purge(log_id(1, 3))
    directory.log.sync()
    directory.close()
    return path


def contents(path: Path) -> dict[str, tuple[bytes, os.stat_result]]:
    """Every byte below a directory, and every time, size and number that would tell of a write."""
    found = {}
    for file in sorted([path, *path.rglob("*")]):
        status = file.stat()
        told = (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        found[str(file.relative_to(path))] = (file.read_bytes() if file.is_file() else b"", told)
    return found


def damage(path: Path, offset: int = 200) -> None:
    """Flip bits inside the first records of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def first_segment(path: Path) -> Path:
    return min((path / "log").glob("*.seg"))
