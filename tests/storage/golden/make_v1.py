"""Makes the golden directory of version 1: what this version writes, kept for every later one to open.

    python tests/storage/golden/make_v1.py DIRECTORY

It was run once, by the first version; `v1/` is never made anew, whatever the program writes by then. The values here are what a
later version must read from it.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from raft_engine.kv.commands import Condition, Delete, Put, encode_operations, encode_put
from raft_engine.kv.disk_store import DiskStore
from raft_engine.storage.data_dir import DataDir
from raft_engine.storage.files import Files
from raft_engine.testing.storage_suite import membership, membership_entry, stored
from raft_engine.transport.codec import FrameWriter
from raft_engine.transport.handshake import Answer, BootstrapHello, PeerHello, Refused, Welcome, encode_greeting
from raft_engine.types.bootstrap import (
    BirthState,
    BootstrapAbort,
    BootstrapPrepare,
    BootstrapQuery,
    BootstrapReply,
    BootstrapStart,
)
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import Boot, Incarnation, LogIndex, NodeId, PeerId, Term
from raft_engine.types.log_id import LogId
from raft_engine.types.messages import (
    AppendRequest,
    AppendResponse,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    SnapshotChunk,
    SnapshotChunkResponse,
    TransferRequest,
    TransferResponse,
    VoteRequest,
    VoteResponse,
)
from raft_engine.types.snapshot import SnapshotMeta
from raft_engine.types.vote import Vote

SEGMENT_BYTES = 2048
CLUSTER, NODE = "golden", NodeId(1)
VOTE = Vote(Term(5), NodeId(2), committed=True)
RECOVERY = Recovery(LogId(Term(4), NodeId(3), LogIndex(12)), "rejoin of node 1")
SNAPSHOT_AT, PURGED_AT = 20, 12
WIPED_UNTIL = LogId(Term(3), NodeId(3), LogIndex(2))
"""The barrier of a wipe before the rest was written."""


def leader_of(index: int) -> tuple[Term, NodeId]:
    """Two leaders, and the cluster's birth."""
    return (Term(0), NodeId(0)) if index == 1 else (Term(3), NodeId(1)) if index < 16 else (Term(5), NodeId(2))


def entry(index: int) -> Entry:
    term, leader = leader_of(index)
    if index == 1:
        return make_entry(term, leader, LogIndex(index), EntryKind.MEMBERSHIP, membership_entry(0, 1, 1, 2).data)
    if index == 25:
        return make_entry(term, leader, LogIndex(index), EntryKind.MEMBERSHIP, membership_entry(5, 25, 1, 2, 3).data)
    if index in {2, 16}:
        return make_entry(term, leader, LogIndex(index), EntryKind.BLANK, b"")
    return make_entry(term, leader, LogIndex(index), EntryKind.NORMAL, command(index))


def command(index: int) -> bytes:
    if index == 10:
        return encode_operations([Put(b"a", b"1", Condition(absent=True)), Delete(b"key/3"), Put(b"b", bytes(range(256)))])
    return encode_put(b"key/%d" % index, b"value %d " % index * 8, None, b"once %d" % index if index % 3 == 0 else None)


ENTRIES = [entry(index) for index in range(1, 31)]
KEYS = {b"a": b"1", b"b": bytes(range(256))} | {
    b"key/%d" % index: b"value %d " % index * 8 for index in range(4, 31) if index not in {10, 16, 25}
}

ME, OTHER = PeerId(NODE, Incarnation("01" * 16)), PeerId(NodeId(2), Incarnation("ab" * 16))
LAST = ENTRIES[-1].log_id
META = SnapshotMeta(ENTRIES[19].log_id, stored(0, 1, 1, 2), "T5-N2.20-000004d2", 1234)
MESSAGES: list[Message] = [
    VoteRequest(Term(6), LAST, pre_vote=True, leadership_transfer=True),
    VoteResponse(Term(6), pre_vote=False, granted=True, vote=VOTE, last_log_id=LAST, reason="lease", leader=NodeId(2)),
    AppendRequest(VOTE, 7, check=True, round=9, prev=ENTRIES[0].log_id, committed=LogIndex(3), entries=tuple(ENTRIES[1:4])),
    AppendResponse(VOTE, 7, check=True, round=9, accepted=False, matching=LAST, conflict=LAST, last=ENTRIES[3].log_id),
    SnapshotChunk(VOTE, 7, 9, META, 512, b"bytes of a snapshot", done=False),
    SnapshotChunkResponse(VOTE, 7, 9, META.snapshot_id, 531, installed=True, last_log_id=LAST),
    TransferRequest(VOTE, LAST),
    TransferResponse(VOTE, accepted=False, reason="log"),
    ReadIndexRequest(11),
    ReadIndexResponse(11, LogIndex(30), NodeId(2)),
]
LINEAGE = (Boot(3, "c3"), Boot(2, "c2"))
HELLOS = [
    PeerHello(1, CLUSTER, "cluster-id", *ME, *OTHER, LINEAGE),
    BootstrapHello(1, CLUSTER, BootstrapQuery(CLUSTER)),
    BootstrapHello(1, CLUSTER, BootstrapPrepare(CLUSTER, "cluster-id", membership(1, 2))),
    BootstrapHello(1, CLUSTER, BootstrapStart(CLUSTER, "cluster-id")),
    BootstrapHello(1, CLUSTER, BootstrapAbort(CLUSTER, "cluster-id")),
]
REPLIES = [
    Welcome(1, CLUSTER, "cluster-id", *ME, LINEAGE),
    Answer(BootstrapReply(*ME, BirthState.PREPARED, "cluster-id", membership(1, 2), "why not")),
    Refused("another cluster", is_stale=True),
]


class Still(Files):
    """The disk of a world in which nothing is random and no time passes."""

    def random_bits(self, count: int) -> int:
        return int("01" * 16, 16) if count == 128 else 1234

    def utc_now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


def make_node(path: Path) -> None:
    """A node that was born, wiped with its vote kept, and has come back: every kind of file there is."""
    files = Still()
    node = DataDir(path, CLUSTER, NODE, files=files, segment_bytes=SEGMENT_BYTES, prepare_ahead=False)
    born = msgspec.structs.replace(
        node.identity, birth=BirthState.STARTED, cluster_id="cluster-id", membership=membership(1, 2)
    )
    node.save_identity(born)
    node.ensure_first_entry()
    node.log.append([ENTRIES[1]])
    node.log.sync()
    node.wipe(WIPED_UNTIL, "rejoin of node 1")
    node.open_stores()
    store = DiskStore(node.state_machine_path, files=files)
    for first in range(0, len(ENTRIES), 5):
        batch = ENTRIES[first : first + 5]
        node.log.append(batch)
        node.log.sync()
        store.apply(batch)
        if batch[-1].index == SNAPSHOT_AT:
            node.snapshots.build(batch[-1].log_id, stored(0, 1, 1, 2), store.snapshot())
    node.log.purge(ENTRIES[PURGED_AT - 1].log_id)
    node.log.save_hard_state(HardState(VOTE, RECOVERY))
    node.log.sync()
    store.close()
    node.close()


def make(directory: Path) -> None:
    directory.mkdir()
    make_node(directory / "node")
    (directory / "node" / "lock").unlink()
    wire = directory / "wire"
    wire.mkdir()
    writer = FrameWriter(OTHER, ME)
    for number, message in enumerate(MESSAGES):
        (wire / f"{number:02d}-{type(message).__name__}.frame").write_bytes(writer.encode(message))
    for kind, greetings in (("hello", HELLOS), ("reply", REPLIES)):
        for number, greeting in enumerate(greetings):
            (wire / f"{number:02d}-{type(greeting).__name__}.{kind}").write_bytes(encode_greeting(greeting))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
