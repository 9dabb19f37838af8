"""The bundled key-value store: what an entry does to the keys, wherever they are kept.

A key's revision is the index of the entry that wrote it, so it is the same on every node. All operations of an entry take
effect together: conditions first, then every write. An entry with an idempotency key that was seen before does nothing and
has the first one's result.

There are two, `DiskStore` and `MemoryStore`, and they lead to the same bytes: snapshots and digests of one are those of the
other, so a cluster may have both.

Threads: `apply`, `snapshot` and `restore` are called by one thread at a time. `get` may be called by any, at any time, and
sees each entry wholly or not at all. `scan` and `digest_view` wait for the batch that is being applied, and it for them.
Source: contract section 4; dissertation 6.3 (idempotency); etcd `mvcc` (revisions).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from threading import Lock
from typing import Final

import msgspec

from raft_engine.kv.commands import (
    ABSENT,
    DELETE,
    PUT,
    Applied,
    BadCommand,
    Command,
    ConditionFailed,
    Result,
    WireOperation,
    decode_command,
    decode_or_raise,
)
from raft_engine.kv.digests import MARK_DATA, Digest, Digests
from raft_engine.kv.views import Item, Remembered, View
from raft_engine.types.entry import HEADER_BYTES, Entry, EntryKind
from raft_engine.types.ids import LogIndex
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.unreadable import UNREADABLE

REMEMBERED_MAX: Final = 65536
"""Idempotency keys that are remembered; the oldest is forgotten first, on every node alike."""
_FINGERPRINT_BYTES: Final = 16
_NORMAL: Final = int(EntryKind.NORMAL)

Row = tuple[bytes, bytes, int]
"""A key, its value and its revision."""


class KeyValueStore(ABC):
    """`StateMachine` over byte keys and values. What is abstract is called with `_gate` held, if it is not public."""

    def __init__(self) -> None:
        self._gate = Lock()
        self._digests = Digests()
        self.last_applied = BEFORE_LOG

    # --- StateMachine -----------------------------------------------------------------------------------------------

    @abstractmethod
    def applied(self) -> LogId:
        """Return the last log id whose effect survives a restart by itself."""

    def apply(self, entries: Sequence[Entry]) -> list[Result | None]:
        """Apply entries in order; return a result for each command, None for everything else."""
        results: list[Result | None] = []
        note = results.append
        puts: dict[bytes, Item | None] = {}  # plain ones that follow each other, as nearly all entries do: changed together
        with self._gate:
            for entry in entries:
                if entry.kind != _NORMAL:
                    self._change_and_clear(puts)
                    if entry.kind == EntryKind.BLANK and entry.data == MARK_DATA:
                        self._digests.mark(self._view(entry.log_id))
                    note(None)
                    continue
                data = entry.record[HEADER_BYTES:]
                command: Command | BadCommand
                try:
                    command = decode_or_raise(data)
                except UNREADABLE:
                    command = decode_command(data)
                if type(command) is Command and command.idempotency_key is None and len(command.operations) == 1:
                    operation = command.operations[0]
                    if operation.kind == PUT and operation.condition is None:
                        puts[operation.key] = (operation.value, entry.index)
                        note(Applied(entry.term, entry.node_id, entry.index))
                        continue
                self._change_and_clear(puts)
                note(self._apply_command(command, data, entry))
            self._change_and_clear(puts)
            if entries:
                self.last_applied = entries[-1].log_id
        return results

    @abstractmethod
    def snapshot(self) -> Iterator[bytes]:
        """Return the state as of now, a block at a time; to be consumed in any thread, beside `apply`."""

    @abstractmethod
    def restore(self, chunks: Iterable[bytes], last_log_id: LogId) -> None:
        """Replace the whole state by that of a snapshot; may be called in any thread, beside readers.

        Raises: NewerFormat, Damaged: it cannot be read; nothing has changed.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files and threads. Counts can still be asked for, keys cannot."""

    # --- reading ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def get(self, key: bytes) -> Item | None:
        """Return value and revision, None if the key is absent."""

    @abstractmethod
    def scan(self, prefix: bytes, after: bytes, limit: int) -> tuple[list[Row], bytes | None]:
        """Return the first keys that begin with `prefix` and come after `after`, with value and revision.

        Args:
            after: exclusive; empty: from the first.
            limit: at least 1.
        Returns: the items, and the key to go on after (None: these were all).
        """

    @property
    @abstractmethod
    def key_count(self) -> int: ...

    @property
    @abstractmethod
    def data_bytes(self) -> int:
        """Bytes of all keys and values."""

    @property
    @abstractmethod
    def remembered_count(self) -> int:
        """Idempotency keys that are known."""

    @property
    @abstractmethod
    def view_count(self) -> int:
        """Snapshots and digests that are being made."""

    # --- digests ----------------------------------------------------------------------------------------------------

    def digest_at(self, index: LogIndex) -> Digest | None:
        """Return the digest of the state at a mark: a blank entry with the data `digest`. The last 8 are kept, if they are asked for.

        It counts as asked for from now on, also if its entry is yet to be applied.
        """
        return self._digests.ask(index)

    def digest_view(self) -> Digest:
        """Return the digest of the present state (its `log_id` says which)."""
        with self._gate:
            return self._digests.of_now(self.last_applied, lambda: self._view(self.last_applied))

    @abstractmethod
    def _view(self, last_applied: LogId) -> View:
        """Return the state as it is now, after the entry `last_applied`."""

    # --- where the keys are -----------------------------------------------------------------------------------------

    @abstractmethod
    def _find(self, key: bytes) -> Item | None: ...

    @abstractmethod
    def _change(self, changes: Mapping[bytes, Item | None]) -> None:
        """Put and delete (None) so that a reader in another thread sees all of it or nothing."""

    @abstractmethod
    def _recall(self, key: bytes) -> Remembered | None:
        """Return what came of the command with this idempotency key."""

    @abstractmethod
    def _remember(self, known: Remembered) -> None:
        """Keep it, and forget the oldest if there are more than `REMEMBERED_MAX`."""

    # --- applying ---------------------------------------------------------------------------------------------------

    def _change_and_clear(self, changes: dict[bytes, Item | None]) -> None:
        if changes:
            self._change(changes)
            changes.clear()

    def _apply_command(self, command: Command | BadCommand, data: bytes, entry: Entry) -> Result:
        if isinstance(command, BadCommand):
            return command
        key = command.idempotency_key
        if key is None:
            return self._operate(command.operations, entry)
        fingerprint = blake2b(data, digest_size=_FINGERPRINT_BYTES).digest()
        known = self._recall(key)
        if known is not None:
            return _repeated(known, fingerprint)
        result = self._operate(command.operations, entry)
        self._remember(Remembered(key, fingerprint, result))
        return result

    def _operate(self, operations: Sequence[WireOperation], entry: Entry) -> Applied | ConditionFailed:
        """Do all operations, or none because a condition does not hold."""
        failed = self._failed_condition(operations)
        if failed is not None:
            return failed
        self._write(operations, entry.index)
        return Applied(entry.term, entry.node_id, entry.index)

    def _failed_condition(self, operations: Sequence[WireOperation]) -> ConditionFailed | None:
        for operation in operations:
            condition = operation.condition
            if condition is not None:
                item = self._find(operation.key)
                revision = None if item is None else item[1]
                if revision != (None if condition == ABSENT else condition):
                    return ConditionFailed(operation.key, revision)
        return None

    def _write(self, operations: Sequence[WireOperation], revision: LogIndex) -> None:
        """Carry out a command whose conditions hold."""
        changes: dict[bytes, Item | None] = {}
        for operation in operations:
            if operation.kind == PUT:
                changes[operation.key] = (operation.value, revision)
            elif operation.kind == DELETE:
                changes[operation.key] = None
        self._change(changes)


def _repeated(known: Remembered, fingerprint: bytes) -> Result:
    """Return the first result; but another command under the same key was never carried out, and must not look as if."""
    if known.fingerprint != fingerprint:
        return BadCommand("this idempotency key came with another command before; draw a new one for each command")
    return msgspec.structs.replace(known.result, duplicate=True)
