"""The bundled key-value store: a state machine in memory.

A key's revision is the index of the entry that wrote it, so it is the same on every node. All operations of an entry take
effect together: conditions first, then every write. An entry with an idempotency key that was seen before does nothing and
has the first one's result.

Threads: `apply`, `snapshot` and `restore` are called by one thread. `get` may be called by any, at any time, and sees each
entry wholly or not at all. `scan` and `digest_view` wait for the batch that is being applied, and it for them.
Source: contract section 4; dissertation 6.3 (idempotency); etcd `mvcc` (revisions).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice, takewhile
from threading import Lock
from typing import Final

import msgspec

from raft_engine.kv.commands import (
    ABSENT,
    DELETE,
    PUT,
    Applied,
    BadCommand,
    ConditionFailed,
    Result,
    WireOperation,
    decode_command,
)
from raft_engine.kv.digests import MARK_DATA, Digest, Digests
from raft_engine.kv.sorted_keys import SortedKeys
from raft_engine.kv.stream import decode_state, encode_state
from raft_engine.kv.views import Item, Overlays, Remembered, StateView
from raft_engine.types.entry import HEADER_BYTES, Entry, EntryKind
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import BEFORE_LOG, LogId

REMEMBERED_MAX: Final = 65536
"""Idempotency keys that are remembered; the oldest is forgotten first, on every node alike."""
_FINGERPRINT_BYTES: Final = 16


class KeyValueStore:
    """`StateMachine` over byte keys and values."""

    def __init__(self) -> None:
        self._gate = Lock()
        self._items: dict[bytes, Item | None] = {}
        """None: being deleted by the entry that is being applied."""
        self._keys = SortedKeys()
        self._remembered: dict[bytes, Remembered] = {}
        self._remembered_in_order: deque[Remembered] = deque()
        self._overlays = Overlays()
        self._digests = Digests()
        self.last_applied = BEFORE_LOG
        self.data_bytes = 0
        """Bytes of all keys and values."""

    # --- StateMachine -----------------------------------------------------------------------------------------------

    def applied(self) -> LogId:
        """Nothing survives a restart by itself."""
        return BEFORE_LOG

    def apply(self, entries: Sequence[Entry]) -> list[Result | None]:
        """Apply entries in order; return a result for each command, None for everything else."""
        results: list[Result | None] = []
        with self._gate:
            for entry in entries:
                if entry.kind == EntryKind.NORMAL:
                    results.append(self._apply_command(entry))
                else:
                    results.append(None)
                    if entry.kind == EntryKind.BLANK and entry.data == MARK_DATA:
                        self._digests.mark(self._view(entry.log_id))
            if entries:
                self.last_applied = entries[-1].log_id
        return results

    def snapshot(self) -> Iterator[bytes]:
        """Return the state as of now, a block at a time; to be consumed in any thread, beside `apply`."""
        return encode_state(self._view(self.last_applied))

    def restore(self, chunks: Iterable[bytes], last_log_id: LogId) -> None:
        """Replace the whole state by that of a snapshot.

        Raises: NewerFormat, Damaged: it cannot be read; nothing has changed.
        """
        state = decode_state(chunks, last_log_id)
        with self._gate:
            # Living views keep the old dict, which nobody changes any more.
            self._items = state.items
            self._keys = SortedKeys(state.keys)
            self._remembered = {known.key: known for known in state.remembered}
            self._remembered_in_order = deque(state.remembered)
            self._overlays = Overlays()
            self.last_applied = last_log_id
            self.data_bytes = sum(map(len, state.keys)) + sum(len(item[0]) for item in state.items.values() if item)

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> Item | None:
        """Return value and revision, None if the key is absent."""
        return self._items.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> tuple[list[tuple[bytes, bytes, int]], bytes | None]:
        """Return the first keys that begin with `prefix` and come after `after`, with value and revision.

        Args:
            after: exclusive; empty: from the first.
            limit: at least 1.
        Returns: the items, and the key to go on after (None: these were all).
        """
        assert limit >= 1
        from_prefix = after < prefix
        with self._gate:
            candidates = self._keys.following(prefix if from_prefix else after, inclusive=from_prefix)
            keys = list(islice(takewhile(lambda key: key.startswith(prefix), candidates), limit + 1))
            items = [(key, *item) for key in keys[:limit] if (item := self._items[key])]
        return items, keys[limit - 1] if len(keys) > limit else None

    @property
    def key_count(self) -> int:
        return len(self._items)

    @property
    def remembered_count(self) -> int:
        """Idempotency keys that are known."""
        return len(self._remembered)

    @property
    def view_count(self) -> int:
        """Snapshots and digests that are being made."""
        return len(self._overlays.living)

    # --- digests ----------------------------------------------------------------------------------------------------

    def digest_at(self, index: LogIndex) -> Digest | None:
        """Return the digest of the state at a mark: a blank entry with the data `digest`. The last 8 are kept."""
        return self._digests.at(index)

    def take_mark(self, index: LogIndex) -> Digest | None:
        """Return `digest_at` and forget it."""
        return self._digests.take(index)

    def digest_view(self) -> Digest:
        """Return the digest of the present state (its `log_id` says which)."""
        with self._gate:
            return self._digests.of_now(self.last_applied, lambda: self._view(self.last_applied))

    def _view(self, last_applied: LogId) -> StateView:
        return StateView(last_applied, self._items, self._keys.frozen(), list(self._remembered_in_order), self._overlays)

    # --- applying ---------------------------------------------------------------------------------------------------

    def _apply_command(self, entry: Entry) -> Result:
        data = entry.record[HEADER_BYTES:]
        command = decode_command(data)
        if isinstance(command, BadCommand):
            return command
        key = command.idempotency_key
        if key is None:
            return self._operate(command.operations, entry)
        fingerprint = blake2b(data, digest_size=_FINGERPRINT_BYTES).digest()
        known = self._remembered.get(key)
        if known is not None:
            return _repeated(known, fingerprint)
        result = self._operate(command.operations, entry)
        self._remember(Remembered(key, fingerprint, result))
        return result

    def _remember(self, known: Remembered) -> None:
        self._remembered[known.key] = known
        self._remembered_in_order.append(known)
        if len(self._remembered) > REMEMBERED_MAX:
            del self._remembered[self._remembered_in_order.popleft().key]

    def _operate(self, operations: Sequence[WireOperation], entry: Entry) -> Applied | ConditionFailed:
        """Do all operations, or none because a condition does not hold."""
        first = operations[0]
        if len(operations) == 1 and first.kind == PUT and first.condition is None:
            # What nearly every entry is; the rest would come to the same.
            item = (first.value, entry.index)
            self._note_change(first.key, item)
            self._items[first.key] = item
        else:
            failed = self._failed_condition(operations)
            if failed is not None:
                return failed
            self._write(operations, entry.index)
        return Applied(entry.term, entry.node_id, entry.index)

    def _failed_condition(self, operations: Sequence[WireOperation]) -> ConditionFailed | None:
        for operation in operations:
            condition = operation.condition
            if condition is not None:
                item = self._items.get(operation.key)
                revision = None if item is None else item[1]
                if revision != (None if condition == ABSENT else condition):
                    return ConditionFailed(operation.key, revision)
        return None

    def _write(self, operations: Sequence[WireOperation], revision: LogIndex) -> None:
        """Carry out a command whose conditions hold, so that a reader in another thread sees all of it or nothing."""
        changes: dict[bytes, Item | None] = {}
        for operation in operations:
            if operation.kind == PUT:
                changes[operation.key] = (operation.value, revision)
            elif operation.kind == DELETE:
                changes[operation.key] = None
        gone = [key for key, item in changes.items() if self._note_change(key, item)]
        self._items.update(changes)  # one step: keys and values are plain bytes, so no other thread can come between
        for key in gone:
            del self._items[key]

    def _note_change(self, key: bytes, item: Item | None) -> bool:
        """Keep the old item for living views, and the order and size right; return whether the key must go."""
        old = self._items.get(key)
        if old is None:
            if item is not None:
                self._keys.add(key)
                self.data_bytes += len(key) + len(item[0])
        else:
            if self._overlays.living:
                self._overlays.keep(key, old)
            if item is None:
                self._keys.remove(key)
                self.data_bytes -= len(key) + len(old[0])
            else:
                self.data_bytes += len(item[0]) - len(old[0])
        return item is None


def _repeated(known: Remembered, fingerprint: bytes) -> Result:
    """Return the first result; but another command under the same key was never carried out, and must not look as if."""
    if known.fingerprint != fingerprint:
        return BadCommand("this idempotency key came with another command before; draw a new one for each command")
    return msgspec.structs.replace(known.result, duplicate=True)
