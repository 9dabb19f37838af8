"""What happened: everything the core can be told. Past participles.

The runtime (or the simulator) feeds these to `Engine.handle(event, now)`, in the order in which they happened.
Source: openraft `engine/mod.rs`, `core/notification.rs`.
"""

from __future__ import annotations

import msgspec

from raft_engine.types.ids import Incarnation, IoId, LogIndex, Millis, NodeId, PeerId, Ticket
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import NodeAddress
from raft_engine.types.messages import Message
from raft_engine.types.metrics import RuntimeFlags
from raft_engine.types.outcomes import NOTHING_EXPECTED, Expectation
from raft_engine.types.snapshot import SnapshotMeta


class Ticked(msgspec.Struct, frozen=True):
    """Time went on. Comes about five times per heartbeat interval; `enable_tick` off: never acted upon."""


# --- from peers -------------------------------------------------------------------------------------------------------


class MessageReceived(msgspec.Struct, frozen=True):
    """A message for this incarnation of this node; the transport has checked cluster and receiver."""

    sender: PeerId
    message: Message


class PeerConnected(msgspec.Struct, frozen=True):
    """The outgoing connection to `peer` stands, and the other side is that incarnation."""

    peer: PeerId


class PeerLost(msgspec.Struct, frozen=True):
    """The connection to `peer` broke or could not be made; what was in flight may be lost. May come repeatedly."""

    peer: PeerId
    reason: str


class PeerReplaced(msgspec.Struct, frozen=True):
    """At the address of `peer` another incarnation of the same id answers: the node was wiped and is blank or new."""

    peer: PeerId
    seen: Incarnation


class PeerRolledBack(msgspec.Struct, frozen=True):
    """`peer` came back on an older copy of its disk: what it promised since is forgotten, and it does not know. Repeatedly."""

    peer: PeerId
    why: str


# --- from the log (in the order of the commands) ---------------------------------------------------------------------


class LogIoFlushed(msgspec.Struct, frozen=True):
    """Every log command up to `io_id`, inclusive, is durable."""

    io_id: IoId


# --- from the state machine -------------------------------------------------------------------------------------------


class Applied(msgspec.Struct, frozen=True):
    """Entries up to `upto`, inclusive, are applied. `results` has one item per entry of the `Apply` command, in order."""

    upto: LogId
    results: list[object]


class SnapshotBuilt(msgspec.Struct, frozen=True):
    """A snapshot is durable. None: the state machine put it off."""

    meta: SnapshotMeta | None


class SnapshotChunkStored(msgspec.Struct, frozen=True):
    """A chunk was taken (or a gap noticed): `next_offset` bytes of the snapshot are there; `complete`: all, verified."""

    sender: PeerId
    session: int
    round: int
    meta: SnapshotMeta
    next_offset: int
    complete: bool


class SnapshotInstalled(msgspec.Struct, frozen=True):
    """The state machine now is the snapshot's state."""

    meta: SnapshotMeta


class SnapshotSendFailed(msgspec.Struct, frozen=True):
    """The snapshot for `target` could not be read (it was replaced or removed)."""

    target: PeerId
    session: int
    reason: str


# --- from callers -----------------------------------------------------------------------------------------------------


class ClientWrite(msgspec.Struct, frozen=True, gc=False):
    """One waiting write."""

    ticket: Ticket
    data: bytes


class ClientWritesRequested(msgspec.Struct, frozen=True):
    """All writes that came in since the last batch; one event however many they are."""

    writes: list[ClientWrite]


class WriteRequested(msgspec.Struct, frozen=True):
    """One write that is appended only if the leader is as expected. `data` None: a blank entry.

    `commit_ticket`: answered as soon as the entry is committed; `ticket` when it is applied. None: nobody wants to know.
    """

    ticket: Ticket
    data: bytes | None
    expect: Expectation = NOTHING_EXPECTED
    commit_ticket: Ticket | None = None


class ReadsRequested(msgspec.Struct, frozen=True):
    """All reads on the same terms that came in since the last batch; one event however many they are.

    `lease`: the leader's lease is enough. Otherwise a round of heartbeats confirms the leader (read index).
    """

    tickets: list[Ticket]
    lease: bool
    wait_ms: Millis


class ElectRequested(msgspec.Struct, frozen=True):
    ticket: Ticket
    pre_vote: bool
    wait_ms: Millis
    expect: Expectation = NOTHING_EXPECTED


class HeartbeatRequested(msgspec.Struct, frozen=True):
    ticket: Ticket
    wait_ms: Millis
    expect: Expectation = NOTHING_EXPECTED


class SnapshotRequested(msgspec.Struct, frozen=True):
    ticket: Ticket
    wait_ms: Millis
    expect: Expectation = NOTHING_EXPECTED


class PurgeLogRequested(msgspec.Struct, frozen=True):
    """`upto` is inclusive. `strict`: refuse instead of clamping to the snapshot."""

    ticket: Ticket
    upto: LogIndex
    strict: bool
    wait_ms: Millis
    expect: Expectation = NOTHING_EXPECTED


class TransferLeaderRequested(msgspec.Struct, frozen=True):
    ticket: Ticket
    to: NodeId
    wait_ms: Millis
    expect: Expectation = NOTHING_EXPECTED


class StepDownRequested(msgspec.Struct, frozen=True):
    """A leader that a committed configuration has removed shall give up its office."""

    ticket: Ticket
    expect: Expectation = NOTHING_EXPECTED


class AllowNextRevertRequested(msgspec.Struct, frozen=True):
    """`ttl_ms` 0: until used, disarmed, or leadership is lost."""

    ticket: Ticket
    to: NodeId
    allow: bool
    ttl_ms: Millis
    expect: Expectation = NOTHING_EXPECTED


class BarrierRequested(msgspec.Struct, frozen=True):
    """Append a no-op and answer when enough voters outside `exclude` hold it. `marker` goes into the entry's data."""

    ticket: Ticket
    exclude: frozenset[NodeId]
    wait_ms: Millis
    marker: bytes = b""
    expect: Expectation = NOTHING_EXPECTED


class MembershipChangeRequested(msgspec.Struct, frozen=True):
    """Other members, all of this in one change: learners are added, addresses set, voters changed, members removed.

    `voters`: the wanted set, None: as they are; then `add_voters` and `remove_voters` relative to it, which two operators may
    ask for at once. A new voter is a learner, or among `add_learners`. `retain`: voters that go become learners.
    `remove_members`: whatever they are. `blocking`: answer when added learners have caught up.
    """

    ticket: Ticket
    wait_ms: Millis
    voters: frozenset[NodeId] | None = None
    retain: bool = False
    add_learners: dict[PeerId, NodeAddress] = msgspec.field(default_factory=dict)
    remove_learners: frozenset[NodeId] = frozenset()
    blocking: bool = True
    add_voters: frozenset[NodeId] = frozenset()
    remove_voters: frozenset[NodeId] = frozenset()
    remove_members: frozenset[NodeId] = frozenset()
    set_addresses: dict[NodeId, NodeAddress] = msgspec.field(default_factory=dict)
    expect: Expectation = NOTHING_EXPECTED


class RuntimeFlagsChanged(msgspec.Struct, frozen=True):
    flags: RuntimeFlags


class ShutdownRequested(msgspec.Struct, frozen=True):
    """Answer every open ticket; nothing follows."""

    reason: str


LocalEvent = (
    Ticked
    | PeerConnected
    | PeerLost
    | PeerReplaced
    | PeerRolledBack
    | LogIoFlushed
    | Applied
    | SnapshotBuilt
    | SnapshotChunkStored
    | SnapshotInstalled
    | SnapshotSendFailed
    | ClientWritesRequested
    | WriteRequested
    | ReadsRequested
    | ElectRequested
    | HeartbeatRequested
    | SnapshotRequested
    | PurgeLogRequested
    | TransferLeaderRequested
    | StepDownRequested
    | AllowNextRevertRequested
    | BarrierRequested
    | MembershipChangeRequested
    | RuntimeFlagsChanged
    | ShutdownRequested
)
"""What the node's own hands, clock and callers report."""

Event = MessageReceived | LocalEvent
