"""What a log and a state machine hold, as plain values: for scenarios, and for comparing with what a real store holds.

Source: own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from raft_engine.core.commands import AppendEntries, PurgeLog, ResetLog, SaveHardState, TruncateLog
from raft_engine.core.state import Restored
from raft_engine.types.entry import Entry, EntryKind
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import LogIndex, NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import StoredMembership, decode_membership
from raft_engine.types.snapshot import NO_SNAPSHOT, SnapshotMeta

LogCommand = SaveHardState | AppendEntries | TruncateLog | PurgeLog | ResetLog


@dataclass
class DiskImage:
    """What a log holds: durable, or durable plus what is still being written."""

    hard_state: HardState = field(default_factory=HardState)
    purged: LogId = BEFORE_LOG
    entries: list[Entry] = field(default_factory=list)

    def copy(self) -> DiskImage:
        return DiskImage(self.hard_state, self.purged, list(self.entries))

    @property
    def last(self) -> LogId:
        return self.entries[-1].log_id if self.entries else self.purged

    def do(self, command: LogCommand) -> None:
        if isinstance(command, SaveHardState):
            self.hard_state = command.hard_state
        elif isinstance(command, AppendEntries):
            assert command.entries[0].index == self.last.index + 1, "a gap in the log"
            self.entries.extend(command.entries)
        elif isinstance(command, TruncateLog):
            del self.entries[max(0, command.after - self.purged.index) :]
        elif isinstance(command, PurgeLog):
            del self.entries[: command.upto.index - self.purged.index]
            self.purged = command.upto
        else:
            self.entries.clear()
            self.purged = command.upto

    def read(self, after: int, upto: int) -> list[Entry]:
        return self.entries[after - self.purged.index : upto - self.purged.index]

    def holds(self, log_id: LogId) -> bool:
        if log_id.index <= self.purged.index:
            return True
        found = self.read(log_id.index - 1, log_id.index)
        return bool(found) and found[0].term == log_id.term


@dataclass
class Machine:
    """A state machine that can be compared: the log ids applied, folded into a hash."""

    last: LogId = BEFORE_LOG
    digest: bytes = b""
    membership: StoredMembership = field(default_factory=StoredMembership)

    def apply(self, entry: Entry) -> bytes:
        assert entry.index == self.last.index + 1, f"applied {entry} after {self.last}"
        self.last = entry.log_id
        self.digest = hashlib.sha256(self.digest + entry.record).digest()
        if entry.kind == EntryKind.MEMBERSHIP:
            self.membership = StoredMembership(entry.log_id, decode_membership(entry.data))
        return self.digest

    def copy(self) -> Machine:
        return Machine(self.last, self.digest, self.membership)


def restored_from(disk: DiskImage, machine: Machine, snapshot: SnapshotMeta | None) -> Restored:
    """Return what a node finds at start; a crash may have come between taking a snapshot over and resetting the log."""
    if snapshot is not None and not disk.holds(snapshot.last_log_id):
        disk.entries.clear()
        disk.purged = snapshot.last_log_id
    runs: list[tuple[LogIndex, Term, NodeId]] = []
    for entry in disk.entries:
        if not runs or runs[-1][1] != entry.term:
            runs.append((entry.index, entry.term, entry.node_id))
    memberships = tuple(
        StoredMembership(entry.log_id, decode_membership(entry.data))
        for entry in disk.entries
        if entry.kind == EntryKind.MEMBERSHIP
    )
    return Restored(disk.hard_state, disk.purged, disk.last, tuple(runs), memberships, snapshot or NO_SNAPSHOT, machine.last)
