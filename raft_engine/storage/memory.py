"""Stores that keep everything in memory: for tests, examples and the simulator.

They keep every rule of the interface but durability: what is written survives `close`, not the process.
Source: openraft `stores/memstore`.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from raft_engine.errors import StorageError
from raft_engine.storage.interface import LogRun, LogState
from raft_engine.storage.snapshot_format import ReadAt, check_snapshot, encode_snapshot, new_snapshot_id, read_chunks
from raft_engine.types.entry import Entry, EntryKind
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import StoredMembership, decode_membership
from raft_engine.types.snapshot import SnapshotMeta

_MEMORY = "memory"


class MemoryLog:
    """A `LogStorage` in a list."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._purged = BEFORE_LOG
        self._entries: list[Entry] = []
        self._hard_state = HardState()

    def state(self) -> LogState:
        with self._lock:
            entries = list(self._entries)
            purged = self._purged
        runs: list[LogRun] = []
        memberships: list[StoredMembership] = []
        for entry in entries:
            if not runs or (runs[-1].term, runs[-1].node_id) != (entry.term, entry.node_id):
                runs.append(LogRun(entry.index, entry.term, entry.node_id))
            if entry.kind == EntryKind.MEMBERSHIP:
                memberships.append(StoredMembership(entry.log_id, decode_membership(entry.data)))
        return LogState(purged, entries[-1].log_id if entries else purged, tuple(runs), tuple(memberships))

    def hard_state(self) -> HardState:
        return self._hard_state

    def read(self, after: LogIndex, upto: LogIndex, bytes_max: int) -> list[Entry]:
        with self._lock:
            first = after - self._purged.index
            last = upto - self._purged.index
            if first < 0 or last > len(self._entries) or first >= last:
                end = self._purged.index + len(self._entries)
                raise StorageError(
                    f"entries {after + 1} to {upto} are not in the log ({self._purged.index + 1} to {end})", path=_MEMORY
                )
            entries = self._entries[first:last]
        total = 0
        for count, entry in enumerate(entries):
            total += len(entry.record)
            if total > bytes_max and count > 0:
                return entries[:count]
        return entries

    def append(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        with self._lock:
            assert entries[0].index == self._purged.index + len(self._entries) + 1, "entries leave a gap"
            assert entries[-1].index == entries[0].index + len(entries) - 1, "entries are not consecutive"
            self._entries.extend(entries)

    def truncate(self, after: LogIndex) -> None:
        with self._lock:
            del self._entries[max(0, after - self._purged.index) :]

    def purge(self, upto: LogId) -> None:
        with self._lock:
            if upto.index > self._purged.index:
                del self._entries[: upto.index - self._purged.index]
                self._purged = upto

    def reset(self, upto: LogId) -> None:
        with self._lock:
            self._entries.clear()
            self._purged = upto

    def save_hard_state(self, hard_state: HardState) -> None:
        self._hard_state = hard_state

    def sync(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to release."""


class MemorySnapshots:
    """A `SnapshotStorage` in byte strings; the same bytes as `SnapshotFiles` writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: tuple[SnapshotMeta, bytes] | None = None
        self._replaced: tuple[SnapshotMeta, bytes] | None = None  # a transfer of it may still run
        self._receiving: tuple[SnapshotMeta, bytearray] | None = None

    def newest(self) -> SnapshotMeta | None:
        with self._lock:
            return self._newest[0] if self._newest else None

    def build(self, last_log_id: LogId, membership: StoredMembership, chunks: Iterable[bytes]) -> SnapshotMeta:
        meta = SnapshotMeta(last_log_id, membership, new_snapshot_id(last_log_id, secrets.randbits(32)))
        data = b"".join(encode_snapshot(meta, chunks))
        meta = msgspec.structs.replace(meta, size_bytes=len(data))
        self._publish(meta, data)
        return meta

    def open(self, meta: SnapshotMeta) -> Iterator[bytes]:
        data = self._find(meta)
        return read_chunks(_reader(data), len(data), _MEMORY)

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        return self._find(meta)[offset : offset + bytes_max]

    def receive(self, meta: SnapshotMeta, offset: int, data: bytes, *, done: bool) -> tuple[int, bool]:
        with self._lock:
            if self._newest is not None and self._newest[0] == meta:
                return meta.size_bytes, True
            if self._receiving is None or self._receiving[0] != meta:
                self._receiving = (meta, bytearray())
            have = self._receiving[1]
            if offset <= len(have) and offset + len(data) <= meta.size_bytes:
                have += data[len(have) - offset :]
            if len(have) < meta.size_bytes or not done:
                return len(have), False
            if not _is_undamaged(bytes(have), meta):
                self._receiving = None
                return 0, False
            return len(have), True

    def adopt(self, meta: SnapshotMeta) -> None:
        with self._lock:
            if self._newest is not None and self._newest[0] == meta:
                return
            if self._receiving is None or self._receiving[0] != meta or not _is_undamaged(bytes(self._receiving[1]), meta):
                raise StorageError(f"snapshot {meta.snapshot_id} was not received completely", path=_MEMORY)
            data = bytes(self._receiving[1])
            self._receiving = None
        self._publish(meta, data)

    def close(self) -> None:
        """Nothing to release; a partly received snapshot is forgotten."""
        self._receiving = None

    def _publish(self, meta: SnapshotMeta, data: bytes) -> None:
        with self._lock:
            if self._newest is None or self._newest[0].last_log_id <= meta.last_log_id:
                self._replaced = self._newest
                self._newest = (meta, data)

    def _find(self, meta: SnapshotMeta) -> bytes:
        with self._lock:
            for kept in (self._newest, self._replaced):
                if kept is not None and kept[0].snapshot_id == meta.snapshot_id:
                    return kept[1]
        raise StorageError(f"snapshot {meta.snapshot_id} is gone", path=_MEMORY)


def _reader(data: bytes) -> ReadAt:
    return lambda offset, count: data[offset : offset + count]


def _is_undamaged(data: bytes, meta: SnapshotMeta) -> bool:
    try:
        check_snapshot(_reader(data), meta, _MEMORY)
    except StorageError:
        return False
    return True
