"""What is done to a `SnapshotStorage` when it is looked at in every crash: snapshots built, received, replaced.

After a crash there is a whole snapshot: the one before, or the one whose building or taking over was cut. What was built or
adopted is never lost, and nothing half done lies about.
Source: own; the contract of `storage/interface`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.errors import StorageError
from raft_engine.storage.files import Files
from raft_engine.storage.interface import SnapshotStorage
from raft_engine.storage.memory import MemorySnapshots
from raft_engine.testing.crash_points import DATA, Call, Script, Subject
from raft_engine.testing.storage_suite import log_id, stored
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import StoredMembership
from raft_engine.types.snapshot import SnapshotMeta

OpenSnapshots = Callable[[Path, Files], SnapshotStorage]


class SnapshotView(msgspec.Struct, frozen=True):
    """The newest snapshot; `last_log_id` None: there is none."""

    last_log_id: LogId | None = None
    membership: StoredMembership | None = None
    chunks: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"{self.last_log_id}, chunks of {[len(chunk) for chunk in self.chunks]} bytes"


class OpenedSnapshots:
    """A snapshot store, and how it is opened again."""

    def __init__(self, open_store: Callable[[], SnapshotStorage]) -> None:
        self._open_store = open_store
        self._store: SnapshotStorage | None = open_store()

    @property
    def store(self) -> SnapshotStorage:
        if self._store is None:
            raise StorageError("the snapshots could not be opened again", path=str(DATA))
        return self._store

    def reopen(self) -> None:
        self.close()
        self._store = self._open_store()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


SnapshotCall = Call[OpenedSnapshots, SnapshotView]
SnapshotScript = Script[OpenedSnapshots, SnapshotView]


def look(store: SnapshotStorage) -> SnapshotView:
    meta = store.newest()
    if meta is None:
        return SnapshotView()
    return SnapshotView(meta.last_log_id, meta.membership, tuple(store.open(meta)))


def snapshot_subject(open_store: OpenSnapshots) -> Subject[OpenedSnapshots, SnapshotView]:
    """Return what `explore` needs to know of a snapshot store; `open_store` opens it in a directory, on a given disk."""
    return Subject(
        open=lambda files: OpenedSnapshots(partial(open_store, DATA, files)),
        look=lambda opened: look(opened.store),
        close=OpenedSnapshots.close,
        blank=SnapshotView(),
        go_on=_go_on,
        refuses_after_failure=False,
    )


def _go_on(opened: OpenedSnapshots, _found: SnapshotView) -> SnapshotView:
    """The next snapshot is taken."""
    opened.store.build(log_id(999, 9999), stored(999, 9998, 7), [b"after the crash"])
    return look(opened.store)


def build(index: int, *chunks: bytes, term: int = 1) -> SnapshotCall:
    """A snapshot that ends with entry `index` is built; an older one than there is does not replace it."""
    made = SnapshotView(log_id(term, index), stored(1, 1, 1, 2, 3), chunks)

    def do(opened: OpenedSnapshots) -> OpenedSnapshots:
        opened.store.build(log_id(term, index), stored(1, 1, 1, 2, 3), chunks)
        return opened

    return Call(f"build {made}", do, partial(_newer, made), is_promise=True)


def receive(index: int, *chunks: bytes, piece: int = 700, part: float = 1.0, adopts: bool = True) -> SnapshotCall:
    """A leader's snapshot comes in pieces, or only a part of it does; it counts when it is adopted."""
    made = SnapshotView(log_id(2, index), stored(2, 2, 4, 5), chunks)
    meta, data = shipped(made)

    def do(opened: OpenedSnapshots) -> OpenedSnapshots:
        for offset in range(0, int(len(data) * part), piece):
            opened.store.receive(meta, offset, data[offset : offset + piece], done=offset + piece >= len(data))
        if adopts and part >= 1.0:
            opened.store.adopt(meta)
        return opened

    stages = partial(_newer, made) if adopts and part >= 1.0 else _unchanged
    return Call(f"receive {part:.0%} of {made}", do, stages, is_promise=True)


def reopen() -> SnapshotCall:
    def do(opened: OpenedSnapshots) -> OpenedSnapshots:
        opened.reopen()
        return opened

    return Call("reopen", do, _unchanged, is_promise=True)


def read_while(call: SnapshotCall) -> SnapshotCall:
    """The call is made while the newest snapshot is half read and half shipped; both go on to their ends."""

    def do(opened: OpenedSnapshots) -> OpenedSnapshots:
        meta = opened.store.newest()
        assert meta is not None
        before = look(opened.store)
        reading = opened.store.open(meta)
        first = next(reading)
        shipped_first = opened.store.read_chunk(meta, 0, 64)
        opened = call.do(opened)
        assert (first, *reading) == before.chunks
        rest: Iterator[bytes] = iter([opened.store.read_chunk(meta, 64, meta.size_bytes)])
        assert len(b"".join((shipped_first, *rest))) == meta.size_bytes
        return opened

    return Call(f"{call.name} while the one before is read", do, call.stages, call.is_promise)


def shipped(view: SnapshotView) -> tuple[SnapshotMeta, bytes]:
    """Return a snapshot as a leader ships it."""
    assert view.last_log_id is not None
    assert view.membership is not None
    leader = MemorySnapshots()
    meta = leader.build(view.last_log_id, view.membership, view.chunks)
    return meta, leader.read_chunk(meta, 0, meta.size_bytes)


def _newer(made: SnapshotView, before: SnapshotView) -> Sequence[SnapshotView]:
    assert made.last_log_id is not None
    if before.last_log_id is not None and before.last_log_id > made.last_log_id:
        return [before]
    return [before, made]


def _unchanged(before: SnapshotView) -> Sequence[SnapshotView]:
    return [before]


_SMALL: Final = (b"state",)
_CHUNKS: Final = (b"a" * 700, b"", b"b" * 1300, bytes(520))

SNAPSHOT_SCRIPTS: Final[tuple[SnapshotScript, ...]] = (
    Script("build one", [build(10, *_SMALL)]),
    Script("build an empty one", [build(10)]),
    Script("build chunks of many sizes", [build(10, *_CHUNKS), reopen()]),
    Script("build one after the other", [build(10, *_SMALL), build(20, *_CHUNKS), build(30, *_SMALL)]),
    Script("build the same again", [build(10, *_SMALL), build(10, *_CHUNKS)]),
    Script("build an older one", [build(20, *_SMALL), build(10, *_CHUNKS)]),
    Script("install", [receive(10, *_CHUNKS), reopen()]),
    Script("install over an existing one", [build(10, *_CHUNKS), receive(20, *_CHUNKS), build(30, *_SMALL)]),
    Script("install byte by byte", [receive(10, b"state", piece=37)]),
    Script("an install that stops", [build(10, *_SMALL), receive(20, *_CHUNKS, part=0.5), reopen(), build(30, *_SMALL)]),
    Script("an install that another one replaces", [receive(10, *_CHUNKS, part=0.5), receive(20, *_CHUNKS)]),
    Script("received and not adopted", [build(10, *_SMALL), receive(20, *_CHUNKS, adopts=False), reopen()]),
    Script("replaced while it is read", [build(10, *_CHUNKS), read_while(build(20, *_SMALL)), reopen()]),
    Script("installed while one is shipped", [build(10, *_CHUNKS), read_while(receive(20, *_CHUNKS))]),
)
"""What a snapshot store must survive."""
