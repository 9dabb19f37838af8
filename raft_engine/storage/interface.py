"""What the engine needs of a log, a snapshot store and a state machine.

Durability contract. The runtime calls the writing methods of a `LogStorage` from one thread, in the order of the core's
commands, and then `sync`; when `sync` returns, everything written before is durable, and only then does the node promise
anything that rests on it. A method that fails raises; the engine then stops for good and never retries, because after a
failed fsync nobody knows what is on the disk.
Reads may come from other threads at any time, for entries that were written (flushed or not).
Source: openraft `storage/v2/`; dissertation 11.7.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from raft_engine.errors import RaftError
from raft_engine.types.entry import Entry
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import StoredMembership
from raft_engine.types.snapshot import SnapshotMeta


class LogRun(msgspec.Struct, frozen=True):
    """Consecutive entries of one leader: from `first_index` to the next run's, or to the log's end."""

    first_index: LogIndex
    term: Term
    node_id: NodeId


class LogState(msgspec.Struct, frozen=True):
    """What is in a log: entries `purged.index + 1` … `last.index`; `last` is `purged` if there are none.

    `runs` and `memberships` are in log order and cover the live entries only.
    """

    purged: LogId = BEFORE_LOG
    last: LogId = BEFORE_LOG
    runs: tuple[LogRun, ...] = ()
    memberships: tuple[StoredMembership, ...] = ()


@runtime_checkable
class WorksBeside(Protocol):
    """A log, snapshot store or state machine that also works when nobody has called it: whatever fails then ends the engine at
    once, and not only when the store is used next. Optional."""

    def watch_failure(self, told: Callable[[RaftError], None]) -> None:
        """Have `told` called, in any thread, when something has failed; now, if it already has. A later call replaces it."""


class LogStorage(Protocol):
    """Keeps entries and the hard state."""

    def state(self) -> LogState:
        """Return what is in the log; called at start, before the engine writes anything."""

    def hard_state(self) -> HardState:
        """Return the saved hard state, or the default one."""

    def read(self, after: LogIndex, upto: LogIndex, bytes_max: int) -> list[Entry]:
        """Return entries `after + 1` … `upto`, fewer if they exceed `bytes_max`, but at least one.

        Raises: StorageError: an entry is purged, absent or damaged.
        """

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow the last one without a gap."""

    def truncate(self, after: LogIndex) -> None:
        """Drop every entry after `after`; nothing if there is none."""

    def purge(self, upto: LogId) -> None:
        """Drop every entry up to `upto`, inclusive. A crash must not leave a hole."""

    def reset(self, upto: LogId) -> None:
        """Drop every entry and go on after `upto`."""

    def save_hard_state(self, hard_state: HardState) -> None:
        """Replace the hard state atomically."""

    def sync(self) -> None:
        """Return when everything written so far is durable."""

    def close(self) -> None:
        """Release files; nothing is called afterwards."""


class SnapshotStorage(Protocol):
    """Keeps complete snapshots and one partly received one. A snapshot's bytes are the same on every node."""

    def newest(self) -> SnapshotMeta | None:
        """Return the newest complete snapshot; partial ones are cleaned up at start."""

    def build(self, last_log_id: LogId, membership: StoredMembership, chunks: Iterable[bytes]) -> SnapshotMeta:
        """Write a snapshot from a state machine's chunks; durable on return. Runs in a thread. Older ones are removed."""

    def open(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """Yield the state machine's chunks of a complete snapshot, each verified.

        Raises: Damaged: a checksum does not match.
        """

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """Return raw bytes of a complete snapshot for shipping, also while it is being replaced by a newer one.

        Raises: StorageError: it is gone.
        """

    def receive(self, meta: SnapshotMeta, offset: int, data: bytes, *, done: bool) -> tuple[int, bool]:
        """Keep shipped bytes; return (bytes there, complete and verified). Another snapshot id starts anew.

        Bytes already there are skipped, a gap is refused by returning the old offset. Survives nothing but this process.
        """

    def adopt(self, meta: SnapshotMeta) -> None:
        """Make the completely received snapshot durable and the newest one; older ones are removed."""

    def close(self) -> None:
        """Release files."""


class StateMachine(Protocol):
    """The application. Called from one thread; `snapshot`'s iterator alone is consumed in another, and `restore` may be
    called in another while nothing else is."""

    def applied(self) -> LogId:
        """Return the last log id whose effect survives a restart by itself (`BEFORE_LOG` for a state machine in memory:
        it is then restored from the newest snapshot and the log)."""

    def apply(self, entries: Sequence[Entry]) -> Sequence[object]:
        """Apply entries in order, each exactly once; return one result each (None for blank and membership entries)."""

    def snapshot(self) -> Iterator[bytes]:
        """Return the state as of now in chunks; later `apply` calls must not show in them.

        Raises: SnapshotDeferred: not now, ask again later.
        """

    def restore(self, chunks: Iterable[bytes], last_log_id: LogId) -> None:
        """Replace the whole state by that of a snapshot."""
