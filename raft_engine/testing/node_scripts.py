"""What is done to a node's whole data directory when it is looked at in every crash.

Starting, being born, taking in a leader's snapshot, purging, being wiped with the vote kept, taking that back, and opening what
an earlier version wrote. A start brings log and snapshot in line as the engine does. Never lost: incarnation and boot counter, the
vote, entries and snapshots that were promised, and what a wipe put aside.
Source: own; `storage/data_dir`, `storage/retiring`; rejoin_safety, way A.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.errors import StorageError
from raft_engine.runtime.restoring import restore_node
from raft_engine.storage.data_dir import STATE_MACHINE_DIRECTORY, DataDir
from raft_engine.storage.files import Files, storage_failed
from raft_engine.storage.identity import FILE_NAME as IDENTITY_NAME
from raft_engine.storage.identity import Identity
from raft_engine.storage.interface import LogState
from raft_engine.storage.retiring import RETIRED_PATTERN
from raft_engine.storage.segment_index import INDEX_SUFFIX
from raft_engine.testing import log_scripts, snapshot_scripts
from raft_engine.testing.crash_points import DATA, Call, Script, Subject
from raft_engine.testing.log_scripts import SEGMENT_BYTES, LogView, Op, large
from raft_engine.testing.snapshot_scripts import SnapshotView, shipped
from raft_engine.testing.storage_suite import log_id, membership, stored
from raft_engine.types.bootstrap import BirthState
from raft_engine.types.entry import Entry, EntryKind, make_entry
from raft_engine.types.hard_state import HardState, Recovery
from raft_engine.types.ids import NOBODY, LogIndex, NodeId, Term
from raft_engine.types.log_id import BEFORE_LOG, LogId
from raft_engine.types.membership import encode_membership

MACHINE_FILE: Final = "data"
_REASON: Final = "rejoin of node 1"


class Part(msgspec.Struct, frozen=True):
    """What a wipe retires: log without the vote, snapshot, state machine; `before`: the recovery that was under way."""

    log: LogView
    snapshot: SnapshotView
    machine: bytes | None
    before: Recovery | None = None


class NodeView(msgspec.Struct, frozen=True):
    """All that a data directory holds.

    `incarnation` "": any. `boots`: at least so many starts were counted. `retired`: by name; of what is found, only names and
    state machines are looked at.
    """

    log: LogView
    incarnation: str = ""
    boots: int = 0
    birth: BirthState = BirthState.BLANK
    snapshot: SnapshotView = SnapshotView()
    machine: bytes | None = None
    retired: tuple[tuple[str, Part], ...] = ()
    leftovers: tuple[str, ...] = ()

    def __repr__(self) -> str:
        names = [(name, part.machine) for name, part in self.retired]
        recovery = self.log.hard_state.recovery
        return (
            f"{self.birth.name} {self.incarnation[:6]} boot {self.boots}, log {self.log!r}, {recovery}, snapshot {self.snapshot!r}, "
            f"machine {self.machine!r}, retired {names}, leftovers {self.leftovers}"
        )


BLANK_LOG: Final = LogView(LogState(), HardState(), b"")
NodeCall = Call["OpenedNode", NodeView]
NodeScript = Script["OpenedNode", NodeView]


class _Machine:
    """A state machine in memory that begins with the newest snapshot."""

    def __init__(self) -> None:
        self._applied = BEFORE_LOG

    def applied(self) -> LogId:
        return self._applied

    def apply(self, entries: Sequence[Entry]) -> Sequence[object]:  # noqa: ARG002 (the protocol names it)
        raise AssertionError("a node that only starts applies nothing")

    def snapshot(self) -> Iterator[bytes]:
        raise AssertionError("a node that only starts builds no snapshot")

    def restore(self, chunks: Iterable[bytes], last_log_id: LogId) -> None:
        for _chunk in chunks:
            self._applied = last_log_id


class OpenedNode:
    """A data directory after its node's start, and how it starts again."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._directory: DataDir | None = None
        self.start()

    @property
    def directory(self) -> DataDir:
        if self._directory is None:
            raise StorageError("the directory could not be opened again", path=str(DATA))
        return self._directory

    def start(self) -> None:
        self.close()
        directory = DataDir(
            DATA / "nodes" / "n1", "demo", NodeId(1), files=self.files, segment_bytes=SEGMENT_BYTES, prepare_ahead=False
        )
        try:
            restore_node(directory.log, directory.snapshots, _Machine())
            self._open_machine(directory)
        except BaseException:
            directory.close()
            raise
        self._directory = directory

    def _open_machine(self, directory: DataDir) -> None:
        """The state machine makes sure of what it finds, as every store does."""
        try:
            if self.files.exists(directory.state_machine_path):
                self.files.fsync_dir(directory.state_machine_path)
                self.files.fsync_dir(directory.path)
        except OSError as error:
            raise storage_failed(error, "opening the state machine", directory.path) from error

    def close(self) -> None:
        if self._directory is not None:
            self._directory.close()
            self._directory = None


def look(opened: OpenedNode) -> NodeView:
    directory, files = opened.directory, opened.files
    names = files.names(directory.path)
    inner = [f"{name}/{child}" for name in ("log", "snapshots") for child in files.names(directory.path / name)]
    return NodeView(
        log_scripts.look(directory.log),
        directory.identity.incarnation,
        directory.identity.boot_count,
        directory.identity.birth,
        snapshot_scripts.look(directory.snapshots),
        _machine_of(directory.path, files),
        tuple(
            (name, Part(BLANK_LOG, SnapshotView(), _machine_of(directory.path / name, files)))
            for name in names
            if RETIRED_PATTERN.fullmatch(name)
        ),
        tuple(name for name in inner if name.endswith(".tmp"))
        + tuple(name for name in names if name in {"wipe.json", "restore.json"}),
    )


def agrees(found: NodeView, expected: NodeView) -> bool:
    """Tell whether a directory holds what it must; no start may be forgotten."""
    return (
        (found.log, found.birth, found.snapshot, found.machine)
        == (expected.log, expected.birth, expected.snapshot, expected.machine)
        and expected.incarnation in {"", found.incarnation}
        and found.boots >= expected.boots
        and [(name, part.machine) for name, part in found.retired]
        == [(name, part.machine) for name, part in expected.retired]
        and not found.leftovers
    )


def _machine_of(path: Path, files: Files) -> bytes | None:
    file = path / STATE_MACHINE_DIRECTORY / MACHINE_FILE
    return files.read_whole(file) if files.exists(file) else None


def _go_on(opened: OpenedNode, _found: NodeView) -> NodeView:
    """The node writes one entry more, in a later term."""
    log = opened.directory.log
    log.save_hard_state(log_scripts.vote(999))
    last = log.state().last
    log.append([make_entry(Term(999), NodeId(1), LogIndex(last.index + 1), EntryKind.NORMAL, b"after the crash")])
    log.sync()
    return look(opened)


def _started_again(view: NodeView) -> NodeView:
    return msgspec.structs.replace(view, boots=view.boots + 1)


NODE_SUBJECT: Final[Subject[OpenedNode, NodeView]] = Subject(
    open=OpenedNode,
    look=look,
    close=OpenedNode.close,
    blank=NodeView(BLANK_LOG),
    go_on=_go_on,
    agrees=agrees,
    after_start=_started_again,
    is_checked=lambda path: not path.endswith(("/lock", ".tmp")) and f"/{STATE_MACHINE_DIRECTORY}/" not in path,
    refuses_after_failure=False,
)


# --- calls ---------------------------------------------------------------------------------------------------------------


def node_call(name: str, do: Callable[[OpenedNode], object], stages: Callable[[NodeView], Sequence[NodeView]]) -> NodeCall:
    """Return a call that is a promise when it returns."""

    def done(opened: OpenedNode) -> OpenedNode:
        do(opened)
        return opened

    return Call(name, done, stages, is_promise=True)


def birth(state: BirthState) -> NodeCall:
    """The node is prepared for its cluster, or started."""

    def do(opened: OpenedNode) -> None:
        identity = opened.directory.identity
        opened.directory.save_identity(_born(identity, state))

    return node_call(f"birth {state.name}", do, lambda before: [before, msgspec.structs.replace(before, birth=state)])


def first_entry() -> NodeCall:
    """The cluster's first configuration is written into the log of a node that was just born."""
    data = encode_membership(membership(1, 2, 3))
    entry = make_entry(Term(0), NOBODY, LogIndex(1), EntryKind.MEMBERSHIP, data)
    return node_call(
        "first entry",
        lambda opened: opened.directory.ensure_first_entry(),
        partial(_log_stages, [log_scripts.append([entry])]),
    )


def on_log(*ops: Op) -> NodeCall:
    """Calls of the log, and a sync."""

    def do(opened: OpenedNode) -> None:
        for op in [*ops, log_scripts.SYNC]:
            log_scripts.call(op, opened.directory.log)

    return node_call(", ".join(map(str, ops)), do, partial(_log_stages, ops))


def snapshot(index: int, *chunks: bytes, term: int = 1) -> NodeCall:
    """The node takes a snapshot of its own."""
    made = SnapshotView(log_id(term, index), stored(1, 1, 1, 2, 3), chunks)

    def do(opened: OpenedNode) -> None:
        opened.directory.snapshots.build(log_id(term, index), stored(1, 1, 1, 2, 3), chunks)

    return node_call(f"snapshot of {index}", do, lambda before: [before, msgspec.structs.replace(before, snapshot=made)])


def install(index: int, *chunks: bytes, resets: bool) -> NodeCall:
    """A leader's snapshot is taken in; the log goes on behind it if it does not hold the snapshot's last entry."""
    made = SnapshotView(log_id(2, index), stored(2, 2, 4, 5), chunks)
    meta, data = shipped(made)

    def do(opened: OpenedNode) -> None:
        directory = opened.directory
        directory.snapshots.receive(meta, 0, data[:700], done=False)
        directory.snapshots.receive(meta, 700, data[700:], done=True)
        directory.snapshots.adopt(meta)
        if resets:
            directory.log.reset(made.last_log_id or BEFORE_LOG)
            directory.log.sync()

    def stages(before: NodeView) -> Sequence[NodeView]:
        after = msgspec.structs.replace(before, snapshot=made)
        return [before, _log_stages([log_scripts.reset(log_id(2, index))], after)[-1] if resets else after]

    return node_call(f"install {made}", do, stages)


def machine(data: bytes) -> NodeCall:
    """The state machine writes a file of its own."""

    def do(opened: OpenedNode) -> None:
        path = opened.directory.state_machine_path
        try:
            if not opened.files.exists(path):
                opened.files.mkdir(path)
                opened.files.fsync_dir(path.parent)
            opened.files.replace(path / MACHINE_FILE, data)
        except OSError as error:
            raise storage_failed(error, "writing the state machine", path) from error

    return node_call("state machine", do, lambda before: [before, msgspec.structs.replace(before, machine=data)])


def restart() -> NodeCall:
    """The node is stopped in order and started again."""
    return node_call("restart", OpenedNode.start, lambda before: [before, _started_again(before)])


def wipe(until: LogId) -> NodeCall:
    """Log, snapshots and state machine are retired, the vote stays."""

    def do(opened: OpenedNode) -> None:
        opened.directory.wipe(until, _REASON)
        opened.directory.open_stores()

    def stages(before: NodeView) -> Sequence[NodeView]:
        kept = before.log.hard_state
        recovery = Recovery(until if kept.recovery is None else max(until, kept.recovery.until), _REASON)
        part = Part(before.log, before.snapshot, before.machine, kept.recovery)
        hard_state = msgspec.structs.replace(kept, recovery=recovery)
        wiped = _with_part(before, Part(BLANK_LOG, SnapshotView(), None), hard_state)
        return [before, msgspec.structs.replace(wiped, retired=_sorted(*before.retired, (_new_name(before), part)))]

    return node_call(f"wipe until {until}", do, stages)


def restore(name: str) -> NodeCall:
    """What was retired comes back; what is there now is retired."""

    def do(opened: OpenedNode) -> None:
        opened.directory.restore_retired(name)
        opened.directory.open_stores()

    def stages(before: NodeView) -> Sequence[NodeView]:
        back = dict(before.retired)[name]
        aside = Part(before.log, before.snapshot, before.machine, before.log.hard_state.recovery)
        others = [item for item in before.retired if item[0] != name]
        hard_state = msgspec.structs.replace(before.log.hard_state, recovery=back.before)
        restored = _with_part(before, back, hard_state)
        return [before, msgspec.structs.replace(restored, retired=_sorted(*others, (_new_name(before), aside)))]

    return node_call(f"restore {name}", do, stages)


def _with_part(view: NodeView, part: Part, hard_state: HardState) -> NodeView:
    log = msgspec.structs.replace(part.log, hard_state=hard_state)
    return msgspec.structs.replace(view, log=log, snapshot=part.snapshot, machine=part.machine)


def _sorted(*retired: tuple[str, Part]) -> tuple[tuple[str, Part], ...]:
    return tuple(sorted(retired, key=lambda item: item[0]))


def _new_name(before: NodeView) -> str:
    taken = {name for name, _part in before.retired}
    return next(name for name in map(retired_name, count(1)) if name not in taken)


def retired_name(number: int) -> str:
    """Return the name of the `number`-th retired directory; the simulated clock stands still."""
    return "retired-20260101T000000Z" + (f"-{number}" if number > 1 else "")


def _log_stages(ops: Sequence[Op], before: NodeView) -> Sequence[NodeView]:
    views = [before]
    for op in ops:
        views += [msgspec.structs.replace(before, log=log) for log in log_scripts.stages(op, views[-1].log)[1:]]
    return views


def _born(identity: Identity, state: BirthState) -> Identity:
    return msgspec.structs.replace(identity, birth=state, cluster_id="c1", membership=membership(1, 2, 3))


def _later(name: str, first: Sequence[NodeCall], calls: Sequence[NodeCall]) -> NodeScript:
    """Return a script that begins with a directory in which `first` was done, without a crash."""

    def prepare(files: Files) -> None:
        opened = OpenedNode(files)
        for call in first:
            call.do(opened)
        opened.close()

    before = _started_again(NODE_SUBJECT.blank)
    for call in first:
        before = call.stages(before)[-1]
    return Script(name, calls, prepare, before)


def _older(name: str, first: Sequence[NodeCall], calls: Sequence[NodeCall]) -> NodeScript:
    """Return a script that begins with a directory as it was before there were indexes and the later fields of an identity."""
    later = _later(name, first, calls)

    def prepare(files: Files) -> None:
        assert later.prepare is not None
        later.prepare(files)
        node = DATA / "nodes" / "n1"
        for child in files.names(node / "log"):
            if child.endswith(INDEX_SUFFIX):
                files.unlink(node / "log" / child)
        found = msgspec.json.decode(files.read_whole(node / IDENTITY_NAME))
        kept = {field: value for field, value in found["identity"].items() if field not in {"log_created", "boots"}}
        encoded = msgspec.json.encode(kept)
        files.replace(
            node / IDENTITY_NAME,
            msgspec.json.encode(
                {"format": 1, "checksum": f"{zlib.crc32(encoded):08x}", "identity": msgspec.Raw(encoded)},
            ),
        )

    return Script(name, calls, prepare, later.before)


_BORN: Final = (birth(BirthState.PREPARED), birth(BirthState.STARTED), first_entry())
_LIVED: Final = (*_BORN, on_log(log_scripts.save(log_scripts.vote(1)), log_scripts.append(large(1, 2, 9))))
_CHUNKS: Final = (b"a" * 700, b"b" * 900)
_PURGED: Final = (snapshot(6, b"state"), on_log(log_scripts.purge(log_id(1, 4))))
_RICH: Final = (*_LIVED, *_PURGED, machine(b"mine"))
_APPEND: Final = on_log(log_scripts.append(large(3, 1, 3)))
_WIPE: Final = wipe(log_id(3, 30))

NODE_SCRIPTS: Final[tuple[NodeScript, ...]] = (
    Script("first start", []),
    Script("started again and again", [restart(), restart(), restart()]),
    Script("born", [*_BORN, restart()]),
    Script("prepared and never started", [birth(BirthState.PREPARED), restart()]),
    Script("a log that comes by replication", [on_log(log_scripts.append(large(1, 1, 9))), restart()]),
    Script("snapshot and purge", [*_LIVED, *_PURGED, restart(), on_log(log_scripts.append(large(2, 10, 11)))]),
    _later("purge of everything", _LIVED, [snapshot(9, *_CHUNKS), on_log(log_scripts.purge(log_id(1, 9)))]),
    _later("snapshot after snapshot", _RICH, [snapshot(8, *_CHUNKS), on_log(log_scripts.purge(log_id(1, 8))), restart()]),
    Script("install on a blank node", [install(40, *_CHUNKS, resets=True), on_log(log_scripts.append(large(2, 41, 43)))]),
    _later("install behind the log's end", _LIVED, [install(40, *_CHUNKS, resets=True), restart()]),
    _later("install over an existing one", _RICH, [install(40, *_CHUNKS, resets=True), restart()]),
    _later(
        "install what the log holds",
        [*_LIVED, on_log(log_scripts.append(large(2, 10, 12)))],
        [install(11, *_CHUNKS, resets=False), restart()],
    ),
    _later("wipe", _RICH, [_WIPE, _APPEND]),
    Script("wipe a blank node", [_WIPE, restart()]),
    _later("wipe twice", [*_LIVED, _WIPE, _APPEND], [wipe(log_id(3, 20)), restart()]),
    _later("wipe and receive a snapshot", _LIVED, [wipe(log_id(2, 30)), install(40, *_CHUNKS, resets=True), restart()]),
    _later("wipe, then restore", _RICH, [_WIPE, restore(retired_name(1)), restart()]),
    _later("wipe, restore, wipe", [*_LIVED, machine(b"one"), _WIPE, machine(b"two")], [restore(retired_name(1)), _WIPE]),
    _older("an older directory is opened", _RICH, [on_log(log_scripts.append(large(2, 10, 14))), restart()]),
    _older("an older directory is wiped", _LIVED, [_WIPE, _APPEND, restart()]),
    _older("an older directory takes in a snapshot", _LIVED, [install(40, *_CHUNKS, resets=True), restart()]),
    _later("restore to an earlier recovery", [*_LIVED, _WIPE, _APPEND, wipe(log_id(4, 40))], [restore(retired_name(2))]),
)
"""What a data directory must survive."""
