"""What version 1 wrote is read by this version, every value of it; and this version goes on from there.

The golden directory was made by `golden/make_v1.py` and stays as it is: a version that changes a format adds another one.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from raft_engine.kv.commands import Applied
from raft_engine.kv.disk_store import DiskStore
from raft_engine.kv.inspection import describe_state_machine
from raft_engine.kv.memory_store import MemoryStore
from raft_engine.runtime.restoring import restore_node
from raft_engine.storage.data_dir import DataDir
from raft_engine.storage.inspection import describe
from raft_engine.storage.segment_format import decode_segment_header
from raft_engine.storage.segment_log import SegmentLog
from raft_engine.testing.storage_suite import blanks, membership, read, stored, write
from raft_engine.transport.codec import FrameReader
from raft_engine.transport.handshake import decode_hello, decode_reply
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.entry import EntryKind, make_entry
from raft_engine.types.hard_state import HardState
from raft_engine.types.ids import LogIndex, Term
from raft_engine.types.membership import StoredMembership
from tests.storage.golden import make_v2
from tests.storage.golden.make_v1 import (
    CLUSTER,
    ENTRIES,
    HELLOS,
    KEYS,
    LAST,
    ME,
    MESSAGES,
    NODE,
    OTHER,
    PURGED_AT,
    RECOVERY,
    REPLIES,
    SEGMENT_BYTES,
    SNAPSHOT_AT,
    VOTE,
    command,
    make,
)

GOLDEN = Path(__file__).parent / "golden" / "v1"
GOLDEN_SHA256 = "c57640629244a3c355fac8f144c785bc9cd7db2ac5cdceb1f7bf2edcb1cdb194"
RETIRED = "retired-20260101T000000Z"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A copy of the golden node, as private as a data directory must be."""
    shutil.copytree(GOLDEN / "node", tmp_path / "node")
    for path in (tmp_path / "node", *(tmp_path / "node").rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return tmp_path / "node"


def open_node(path: Path) -> DataDir:
    return DataDir(path, CLUSTER, NODE, segment_bytes=SEGMENT_BYTES, prepare_ahead=False)


def check_log(log: SegmentLog) -> None:
    assert read(log, PURGED_AT + 1, LAST.index) == ENTRIES[PURGED_AT:]
    state = log.state()
    assert (state.purged, state.last) == (ENTRIES[PURGED_AT - 1].log_id, LAST)
    assert state.memberships == (StoredMembership(ENTRIES[24].log_id, membership(1, 2, 3)),)
    assert [(run.first_index, run.term, run.node_id) for run in state.runs] == [(13, 3, 1), (16, 5, 2)]
    assert log.hard_state() == HardState(VOTE, RECOVERY)


def contents(store) -> dict[bytes, bytes]:
    return {key: store.get(key)[0] for key in KEYS}


def digest_of(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(directory)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def test_the_golden_directory_is_the_one_that_was_made():
    assert digest_of(GOLDEN) == GOLDEN_SHA256, "a golden directory is never altered: add one for the new version"


def test_who_the_node_is(node: Path):
    directory = open_node(node)
    identity = directory.identity
    assert (identity.cluster, identity.node_id, identity.incarnation) == (CLUSTER, NODE, ME.incarnation)
    assert (identity.cluster_id, identity.birth, identity.log_created) == ("cluster-id", BirthState.STARTED, True)
    assert identity.membership == membership(1, 2)
    assert identity.boot_count == 2
    directory.close()


def test_every_entry_and_the_vote(node: Path):
    directory = open_node(node)
    check_log(directory.log)
    directory.close()


def test_the_snapshot_and_the_state_in_it(node: Path):
    directory = open_node(node)
    newest = directory.snapshots.newest()
    assert newest is not None
    assert (newest.last_log_id, newest.membership) == (ENTRIES[SNAPSHOT_AT - 1].log_id, stored(0, 1, 1, 2))
    store = MemoryStore()
    store.restore(directory.snapshots.open(newest), newest.last_log_id)
    store.apply(ENTRIES[SNAPSHOT_AT:])
    assert contents(store) == KEYS
    directory.close()


def test_the_state_machines_database(node: Path):
    store = DiskStore(node / "sm")
    assert store.applied() == LAST
    assert contents(store) == KEYS
    repeated = make_entry(Term(6), NODE, LogIndex(31), EntryKind.NORMAL, command(30))
    assert store.apply([repeated]) == [Applied(LAST.term, LAST.node_id, LAST.index, duplicate=True)]
    store.close()


def test_a_start_finds_nothing_to_mend(node: Path):
    directory = open_node(node)
    store = DiskStore(directory.state_machine_path)
    assert restore_node(directory.log, directory.snapshots, store).last == LAST
    store.close()
    directory.close()


def test_inspect_finds_no_problem(node: Path):
    report = describe(node)
    assert report["problems"] == []
    assert report["log"]["last"] == {"term": 5, "node_id": 2, "index": 30}
    assert report["hard_state"]["recovery"]["reason"] == RECOVERY.reason
    state_machine, problems = describe_state_machine(node / "sm")
    assert problems == []
    assert state_machine is not None


def test_what_a_wipe_put_aside_comes_back(node: Path):
    directory = open_node(node)
    directory.log.reset(ENTRIES[0].log_id)
    directory.log.sync()
    aside = directory.restore_retired(RETIRED)
    directory.open_stores()
    assert read(directory.log, 1, 2) == ENTRIES[:2]
    assert directory.log.hard_state() == HardState(VOTE)
    assert (node / aside / "snapshots").is_dir()
    directory.close()


def test_the_node_goes_on_and_can_be_opened_again(node: Path):
    directory = open_node(node)
    write(directory.log, blanks(31, 60, term=6))
    directory.snapshots.build(ENTRIES[27].log_id, stored(5, 25, 1, 2, 3), [b"state"])
    directory.log.purge(ENTRIES[27].log_id)
    directory.log.truncate(LogIndex(50))
    directory.log.sync()
    directory.close()
    directory = open_node(node)
    assert read(directory.log, 29, 30) == ENTRIES[28:]
    assert directory.log.state().last.index == 50
    assert directory.identity.boot_count == 3
    directory.close()


def test_a_directory_of_before_there_were_indexes_gets_them(node: Path):
    indexes = sorted(path.name for path in (node / "log").glob("*.idx"))
    assert len(indexes) == 2
    for name in indexes:
        (node / "log" / name).unlink()
    directory = open_node(node)
    check_log(directory.log)
    directory.close()
    assert sorted(path.name for path in (node / "log").glob("*.idx")) == indexes
    for name in indexes:
        assert (node / "log" / name).read_bytes() == (GOLDEN / "node" / "log" / name).read_bytes()


def test_the_present_version_writes_the_same_segments(tmp_path: Path):
    """As long as their format does not change; fields of a map may be added without a new version, records have none."""
    make(tmp_path / "made")
    segments = sorted(GOLDEN.rglob("*.seg"))
    assert len(segments) == 4
    for path in segments:
        assert (tmp_path / "made" / path.relative_to(GOLDEN)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("number", range(len(MESSAGES)), ids=lambda number: type(MESSAGES[number]).__name__)
def test_every_message(number: int):
    (path,) = (GOLDEN / "wire").glob(f"{number:02d}-*.frame")
    assert FrameReader(OTHER, ME).decode(path.read_bytes()) == MESSAGES[number]


@pytest.mark.parametrize("number", range(len(HELLOS)))
def test_every_hello(number: int):
    (path,) = (GOLDEN / "wire").glob(f"{number:02d}-*.hello")
    assert decode_hello(path.read_bytes()) == HELLOS[number]


@pytest.mark.parametrize("number", range(len(REPLIES)))
def test_every_reply(number: int):
    (path,) = (GOLDEN / "wire").glob(f"{number:02d}-*.reply")
    assert decode_reply(path.read_bytes()) == REPLIES[number]


def test_looking_at_it_leaves_it_as_it_is(node: Path):
    before = {path: path.read_bytes() for path in node.rglob("*") if path.is_file()}
    describe(node)
    assert {path: path.read_bytes() for path in node.rglob("*") if path.is_file()} == before


# --- segments that were segments before ----------------------------------------------------------------------------------

USED_GOLDEN = Path(__file__).parent / "golden" / "v2"
USED_SHA256 = "d923bb2797c100f5d89cc2f175594e45ac3315e244526364a81fbc7ba0e97377"


@pytest.fixture
def used_log(tmp_path: Path) -> Path:
    shutil.copytree(USED_GOLDEN, tmp_path / "used")
    return tmp_path / "used"


def test_the_golden_log_of_used_segments_is_the_one_that_was_made():
    assert digest_of(USED_GOLDEN) == USED_SHA256, "a golden directory is never altered: add one for the new version"


def test_every_entry_of_used_segments_is_read(used_log: Path):
    headers = [decode_segment_header(path.read_bytes(), path.name) for path in sorted(used_log.rglob("*.seg"))]
    assert [False, False, True, False] == [header.is_reused for header in headers]
    log = SegmentLog(used_log, segment_bytes=SEGMENT_BYTES, prepare_ahead=False)
    assert read(log, make_v2.PURGED.index + 1, make_v2.ENTRIES[-1].index) == make_v2.ENTRIES
    write(log, blanks(32, 90, term=3))
    log.close()
    log = SegmentLog(used_log, segment_bytes=SEGMENT_BYTES, prepare_ahead=False)
    assert read(log, make_v2.PURGED.index + 1, 31) == make_v2.ENTRIES
    log.close()


def test_the_present_version_writes_the_same_used_segments(tmp_path: Path):
    make_v2.make(tmp_path / "made")
    for path in sorted(USED_GOLDEN.rglob("*.seg")):
        assert (tmp_path / "made" / path.relative_to(USED_GOLDEN)).read_bytes() == path.read_bytes(), path.name
