"""Log entries for a store, one after the other: what the tests of this room share."""

from __future__ import annotations

import tempfile
from pathlib import Path

from raft_engine.kv.commands import Result, encode_delete, encode_operations, encode_put
from raft_engine.kv.disk_store import DiskStore
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.kv.store import KeyValueStore
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.ids import LogIndex, NodeId, Term

TERM = Term(3)
LEADER = NodeId(1)


def entry(index: int, data: bytes, kind: int = EntryKind.NORMAL) -> Entry:
    return make_entry(TERM, LEADER, LogIndex(index), kind, data)


class Stores:
    """Makes the kind of store that the tests are being run against; see conftest."""

    def __init__(self) -> None:
        self.kind = "memory"
        self.directory: Path | None = None
        self._made: list[KeyValueStore] = []

    def new(self) -> KeyValueStore:
        if self.kind == "memory":
            store: KeyValueStore = MemoryStore()
        else:
            assert self.directory is not None
            store = DiskStore(Path(tempfile.mkdtemp(dir=self.directory)) / "sm", write_after_s=0.001)
        self._made.append(store)
        return store

    def close(self) -> None:
        for store in self._made:
            store.close()
        self._made.clear()


STORES = Stores()
new_store = STORES.new


class Log:
    """Feeds a store: every call is the next entry."""

    def __init__(self, store: KeyValueStore | None = None) -> None:
        self.store = new_store() if store is None else store

    def append(self, data: bytes, kind: int = EntryKind.NORMAL) -> Result | None:
        [result] = self.store.apply([entry(self.store.last_applied.index + 1, data, kind)])
        return result

    def put(self, key: bytes, value: bytes = b"v", condition=None, idempotency_key=None):
        return self.append(encode_put(key, value, condition, idempotency_key))

    def delete(self, key: bytes, condition=None, idempotency_key=None):
        return self.append(encode_delete(key, condition, idempotency_key))

    def operate(self, *operations, idempotency_key=None):
        return self.append(encode_operations(operations, idempotency_key))


def contents(store: KeyValueStore) -> dict[bytes, tuple[bytes, int]]:
    """Return everything in the store, read page by page."""
    found: dict[bytes, tuple[bytes, int]] = {}
    after: bytes | None = b""
    while after is not None:
        items, after = store.scan(b"", after, 7)
        found.update({key: (value, revision) for key, value, revision in items})
    return found


def digest(store: KeyValueStore) -> str:
    return store.digest_view().value.result()
