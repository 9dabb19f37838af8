"""What to do: everything the core can ask for. Imperatives.

The contract: commands start in the order given. Those of one kind also finish in that order; across kinds, completions come
in any order. Whatever must wait for a completion waits inside the core for the event that reports it. One message may be late: an
`AppendRequest` that wants no answer, which the hands hold until the next tick and drop when a later one says as much. Entries are readable
once their `AppendEntries` has started, durable only when `LogIoFlushed` says so.
`upto` is inclusive, `after` is exclusive.
Source: openraft `engine/command.rs`.
"""

from __future__ import annotations

import enum

import msgspec

from raft_engine.types.entry import Entry
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import IoId, LogIndex, NodeId, PeerId, Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.messages import Message, SnapshotChunk
from raft_engine.types.outcomes import Outcome, ReadOutcome, Refusal
from raft_engine.types.snapshot import SnapshotMeta
from raft_engine.types.vote import Vote

# --- log: in order, each completion reported by LogIoFlushed -----------------------------------------------------------


class SaveHardState(msgspec.Struct, frozen=True):
    io_id: IoId
    hard_state: HardState


class AppendEntries(msgspec.Struct, frozen=True):
    """`entries` follow the log's last entry without a gap."""

    io_id: IoId
    entries: tuple[Entry, ...]


class TruncateLog(msgspec.Struct, frozen=True):
    """Drop every entry after `after` (exclusive)."""

    io_id: IoId
    after: LogIndex


class PurgeLog(msgspec.Struct, frozen=True):
    """Drop every entry up to `upto` (inclusive)."""

    io_id: IoId
    upto: LogId


class ResetLog(msgspec.Struct, frozen=True):
    """Drop every entry; the log goes on after `upto` (an installed snapshot that the log does not match)."""

    io_id: IoId
    upto: LogId


# --- network: never reported, answers are messages ----------------------------------------------------------------------


class SendMessage(msgspec.Struct, frozen=True):
    target: PeerId
    message: Message


class ReplicateEntries(msgspec.Struct, frozen=True):
    """Read entries after `prev.index` up to `upto` and send them to `target` as one AppendRequest.

    Where the entries exceed a byte limit the range goes out as several requests in order, all of this session, each with the
    `prev` that fits; only the first has `check`.
    """

    target: PeerId
    vote: Vote
    session: int
    check: bool
    round: int
    prev: LogId
    upto: LogIndex
    committed: LogIndex


class SendSnapshotChunk(msgspec.Struct, frozen=True):
    """Read the next chunk of the newest snapshot (for `offset` > 0: of the same one) and send it to `target`."""

    target: PeerId
    vote: Vote
    session: int
    round: int
    meta: SnapshotMeta
    offset: int


class SetPeers(msgspec.Struct, frozen=True):
    """Keep connections to exactly these peers."""

    peers: dict[PeerId, NodeAddress]


# --- state machine: in order -------------------------------------------------------------------------------------------


class Apply(msgspec.Struct, frozen=True):
    """Apply entries after `after` up to `upto`; report `Applied`."""

    after: LogIndex
    upto: LogId


class BuildSnapshot(msgspec.Struct, frozen=True):
    """Build a snapshot of what is applied when this starts, beside further Apply commands.

    Report `SnapshotBuilt`, after the `Applied` of everything it covers.
    """


class StoreSnapshotChunk(msgspec.Struct, frozen=True):
    """Keep a received chunk; report `SnapshotChunkStored`."""

    sender: PeerId
    chunk: SnapshotChunk


class InstallSnapshot(msgspec.Struct, frozen=True):
    """Replace the state machine by the completely received snapshot; report `SnapshotInstalled`."""

    meta: SnapshotMeta


# --- callers -------------------------------------------------------------------------------------------------------------


class Respond(msgspec.Struct, frozen=True):
    ticket: Ticket
    outcome: Outcome


class RespondWrites(msgspec.Struct, frozen=True):
    """The writes of one Apply, answered together: (ticket, log id, result)."""

    writes: list[tuple[Ticket, LogId, object]]


class RespondReads(msgspec.Struct, frozen=True):
    """Reads that were asked for together, answered together."""

    tickets: list[Ticket]
    outcome: ReadOutcome | Refusal


class Report(msgspec.Struct, frozen=True):
    """Something an operator may want to read in the log; `event` is snake_case, never per entry."""

    event: str
    detail: str
    node: NodeId | None = None
    warning: bool = False


Command = (
    SaveHardState
    | AppendEntries
    | TruncateLog
    | PurgeLog
    | ResetLog
    | SendMessage
    | ReplicateEntries
    | SendSnapshotChunk
    | SetPeers
    | Apply
    | BuildSnapshot
    | StoreSnapshotChunk
    | InstallSnapshot
    | Respond
    | RespondWrites
    | RespondReads
    | Report
)


class CommandKind(enum.Enum):
    """Commands of one kind finish in order; different kinds run side by side."""

    LOG = "log"
    NETWORK = "network"
    STATE_MACHINE = "state_machine"
    CALLER = "caller"


def command_kind(command: Command) -> CommandKind:
    """Return which worker carries `command` out."""
    if isinstance(command, SaveHardState | AppendEntries | TruncateLog | PurgeLog | ResetLog):
        return CommandKind.LOG
    if isinstance(command, SendMessage | ReplicateEntries | SendSnapshotChunk | SetPeers):
        return CommandKind.NETWORK
    if isinstance(command, Apply | BuildSnapshot | StoreSnapshotChunk | InstallSnapshot):
        return CommandKind.STATE_MACHINE
    return CommandKind.CALLER
