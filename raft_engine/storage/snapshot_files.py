"""Snapshots on disk: built or received beside the newest one, then renamed into place.

Only the newest counts. Older ones are kept as copies, as many as wanted (by default none), and go after the newer one is
durable. A file that is being shipped stays open, so a transfer ends even if its snapshot was removed. What a crash left half
built or half received is removed at start, what an error left so, at once: it may be a full disk.
Source: Raft paper 7; dissertation 5.1; openraft `storage/v2/raft_state_machine.rs`.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import msgspec

from raft_engine.errors import StorageError
from raft_engine.storage.files import Files, storage_failed
from raft_engine.storage.freeing import STEP_BYTES, free, unname
from raft_engine.storage.snapshot_format import (
    ReadAt,
    check_snapshot,
    encode_snapshot,
    new_snapshot_id,
    read_chunks,
    read_meta,
)
from raft_engine.types.log_id import LogId
from raft_engine.types.membership import StoredMembership
from raft_engine.types.snapshot import SnapshotMeta

SNAPSHOT_DIRECTORY: Final = "snapshots"
SNAPSHOT_SUFFIX: Final = ".snap"
OPEN_SNAPSHOTS_MAX: Final = 4
"""Snapshots kept open for shipping: the newest and a few replaced ones whose transfers still run."""
_WRITE_BYTES: Final = 256 * 1024
SYNC_BYTES: Final = 512 * 1024
"""A snapshot is synced as it grows, built or received: a sync of the log that comes meanwhile waits until what is under way is on the
disk, 3 to 7 ms with 4 MiB, measured, and behind all of it hundreds."""
_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""An id becomes a file name: it comes from a peer, so it must not lead anywhere else."""
_BUILDING_NAME: Final = "building.tmp"
_RECEIVING_NAME: Final = "receiving.tmp"

_logger = logging.getLogger("raft_engine.storage")
_P = ParamSpec("_P")
_R = TypeVar("_R")


class _Receiving:
    """A snapshot that comes in pieces: `have` bytes are in the file; `is_verified`: all, and every checksum matches."""

    __slots__ = ("descriptor", "have", "is_verified", "meta", "synced")

    def __init__(self, meta: SnapshotMeta, descriptor: int) -> None:
        self.meta = meta
        self.descriptor = descriptor
        self.have = self.synced = 0
        self.is_verified = False


def _writing(method: Callable[Concatenate[SnapshotFiles, _P], _R]) -> Callable[Concatenate[SnapshotFiles, _P], _R]:
    """Turn a failed disk call into `StorageFailed`."""

    @wraps(method)
    def guarded(self: SnapshotFiles, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise storage_failed(error, f"snapshot {method.__name__}", self.directory) from error

    return guarded


class SnapshotFiles:
    """A `SnapshotStorage` in `snapshots/` below a directory. Methods may be called from several threads."""

    def __init__(self, directory: Path, *, files: Files | None = None, keep: int = 1) -> None:
        """Find the newest snapshot and remove what a crash left behind.

        Args:
            keep: how many snapshots stay on the disk, at least 1.
        Raises: Damaged: a header or end is damaged; NewerFormat; StorageFailed.
        """
        assert keep >= 1, "the newest snapshot always stays"
        self._keep = keep
        self.directory = directory / SNAPSHOT_DIRECTORY
        self._files = files or Files()
        self._building = threading.Lock()  # one build at a time
        self._receiving_lock = threading.Lock()
        self._lock = threading.Lock()  # guards what follows
        self._kept: list[SnapshotMeta] = []  # oldest first
        self._open: OrderedDict[str, int] = OrderedDict()
        self._readers: set[tuple[str, int]] = set()  # snapshots that are read through `open`, and by which descriptor
        self._receiving: _Receiving | None = None
        try:
            self._start()
        except OSError as error:
            raise storage_failed(error, "opening the snapshots", self.directory) from error

    def newest(self) -> SnapshotMeta | None:
        with self._lock:
            return self._kept[-1] if self._kept else None

    def kept(self) -> list[SnapshotMeta]:
        """Return all complete snapshots on the disk, oldest first."""
        with self._lock:
            return list(self._kept)

    @_writing
    def build(self, last_log_id: LogId, membership: StoredMembership, chunks: Iterable[bytes]) -> SnapshotMeta:
        meta = SnapshotMeta(last_log_id, membership, new_snapshot_id(last_log_id, self._files.random_bits(32)))
        path = self.directory / _BUILDING_NAME
        with self._building:
            descriptor = self._files.open(path, create=True)
            try:
                self._files.cut(descriptor, 0)
                size = self._write_all(descriptor, encode_snapshot(meta, chunks))
                self._files.fsync(descriptor)
            except BaseException:
                self._discard(path)
                raise
            finally:
                self._files.close(descriptor)
            meta = msgspec.structs.replace(meta, size_bytes=size)
            self._publish(path, meta)
        return meta

    def open(self, meta: SnapshotMeta) -> Iterator[bytes]:
        path = self._path(meta.snapshot_id)
        try:
            with self._lock:
                descriptor = self._files.open(path, write=False)
                reader = meta.snapshot_id, descriptor
                self._readers.add(reader)
        except OSError as error:
            raise StorageError(f"snapshot {meta.snapshot_id} is gone: {error.strerror}", path=str(self.directory)) from error
        try:
            yield from read_chunks(self._reader(descriptor), self._files.size(descriptor), str(path))
        finally:
            self._readers.discard(reader)  # without the lock: a generator may be ended anywhere
            self._files.close(descriptor)

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        with self._lock:
            try:
                return self._files.pread(self._shipping(meta.snapshot_id), bytes_max, offset)
            except OSError as error:
                raise StorageError(
                    f"snapshot {meta.snapshot_id} cannot be read: {error.strerror}", path=str(self.directory)
                ) from error

    @_writing
    def receive(self, meta: SnapshotMeta, offset: int, data: bytes, *, done: bool) -> tuple[int, bool]:
        with self._receiving_lock:
            if meta == self.newest():
                return meta.size_bytes, True
            receiving = self._receive_into(meta)
            if offset <= receiving.have < offset + len(data) <= meta.size_bytes:
                missing = data[receiving.have - offset :]
                self._files.pwrite(receiving.descriptor, missing, receiving.have)
                receiving.have += len(missing)
                if receiving.have - receiving.synced >= SYNC_BYTES:
                    self._files.fdatasync(receiving.descriptor)
                    receiving.synced = receiving.have
            if done and receiving.have == meta.size_bytes and not receiving.is_verified:
                self._verify(receiving)
            return receiving.have, receiving.is_verified

    @_writing
    def adopt(self, meta: SnapshotMeta) -> None:
        with self._receiving_lock:
            if meta == self.newest():
                return
            receiving = self._receiving
            if receiving is None or receiving.meta != meta or not receiving.is_verified:
                raise StorageError(f"snapshot {meta.snapshot_id} was not received completely", path=str(self.directory))
            self._files.fsync(receiving.descriptor)
            self._forget_receiving()
            self._publish(self.directory / _RECEIVING_NAME, meta)

    def close(self) -> None:
        with self._receiving_lock:
            self._forget_receiving()
        with self._lock:
            while self._open:
                self._files.close(self._open.popitem()[1])

    # --- building and publishing ---------------------------------------------------------------------------------------

    def _write_all(self, descriptor: int, pieces: Iterable[bytes]) -> int:
        """Write pieces end to end, few and large writes, and return the size."""
        size = synced = 0
        waiting: list[bytes] = []
        waiting_bytes = 0
        for piece in pieces:
            waiting.append(piece)
            waiting_bytes += len(piece)
            if waiting_bytes >= _WRITE_BYTES:
                self._files.pwrite(descriptor, b"".join(waiting), size)
                size += waiting_bytes
                waiting, waiting_bytes = [], 0
            if size - synced >= SYNC_BYTES:
                self._files.fdatasync(descriptor)
                synced = size
        self._files.pwrite(descriptor, b"".join(waiting), size)
        return size + waiting_bytes

    def _discard(self, path: Path) -> None:
        """Remove a file that will not be finished; what caused it counts more than whether this succeeds."""
        with suppress(OSError):
            self._files.unlink(path)

    def _publish(self, path: Path, meta: SnapshotMeta) -> None:
        """Make a durable file the newest snapshot, unless a newer one arrived meanwhile; then remove those that are too old."""
        with self._lock:
            if self._kept and self._kept[-1].last_log_id > meta.last_log_id:
                self._files.unlink(path)
                return
            self._files.rename(path, self._path(meta.snapshot_id))
            self._files.fsync_dir(self.directory)
            self._kept.append(meta)
            unnamed = self._remove_old()
        for descriptor in unnamed:
            free(self._files, descriptor)

    def _remove_old(self) -> list[int]:
        """Remove what is too old; of large files nobody reads only the name: they are returned, for `free`."""
        unnamed = []
        while len(self._kept) > self._keep:
            old = self._kept[0]
            path = self._path(old.snapshot_id)
            if old.size_bytes > STEP_BYTES and not self._is_read(old.snapshot_id):
                unnamed.append(unname(self._files, path))
            else:
                self._files.unlink(path)
            del self._kept[0]
        return unnamed

    def _is_read(self, snapshot_id: str) -> bool:
        return snapshot_id in self._open or any(snapshot_id == read for read, _ in tuple(self._readers))

    # --- receiving -----------------------------------------------------------------------------------------------------

    def _receive_into(self, meta: SnapshotMeta) -> _Receiving:
        """Return the transfer of this snapshot; another one's bytes are dropped."""
        if self._receiving is None or self._receiving.meta != meta:
            if not _ID_PATTERN.fullmatch(meta.snapshot_id):
                raise StorageError(f"{meta.snapshot_id!r} is not a snapshot id", path=str(self.directory))
            self._forget_receiving()
            descriptor = self._files.open(self.directory / _RECEIVING_NAME, create=True)
            self._receiving = _Receiving(meta, descriptor)
            self._files.cut(descriptor, 0)
        return self._receiving

    def _verify(self, receiving: _Receiving) -> None:
        """Check all of it; if it is damaged the transfer begins anew."""
        try:
            check_snapshot(self._reader(receiving.descriptor), receiving.meta, str(self.directory / _RECEIVING_NAME))
        except StorageError as error:
            _logger.warning(
                "the received snapshot %s is damaged, it is fetched again: %s", receiving.meta.snapshot_id, error
            )
            receiving.have = receiving.synced = 0
            self._files.cut(receiving.descriptor, 0)
        else:
            receiving.is_verified = True

    def _forget_receiving(self) -> None:
        if self._receiving is not None:
            self._files.close(self._receiving.descriptor)
            self._receiving = None

    # --- reading -------------------------------------------------------------------------------------------------------

    def _reader(self, descriptor: int) -> ReadAt:
        return partial(_read_at, self._files, descriptor, self.directory)

    def _shipping(self, snapshot_id: str) -> int:
        """Return the open file of a snapshot; the one unused for longest is closed if there are too many."""
        if snapshot_id in self._open:
            self._open.move_to_end(snapshot_id)
            return self._open[snapshot_id]
        descriptor = self._files.open(self._path(snapshot_id), write=False)
        self._open[snapshot_id] = descriptor
        if len(self._open) > OPEN_SNAPSHOTS_MAX:
            self._files.close(self._open.popitem(last=False)[1])
        return descriptor

    def _path(self, snapshot_id: str) -> Path:
        if not _ID_PATTERN.fullmatch(snapshot_id):
            raise StorageError(f"{snapshot_id!r} is not a snapshot id", path=str(self.directory))
        return self.directory / (snapshot_id + SNAPSHOT_SUFFIX)

    # --- starting ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._files.exists(self.directory):
            self._files.mkdir(self.directory)
            self._files.fsync_dir(self.directory.parent)
        for name in self._files.names(self.directory):
            if name.endswith(".tmp"):
                self._files.unlink(self.directory / name)
        self._kept = sorted(read_snapshot_metas(self.directory, self._files), key=lambda meta: meta.last_log_id)
        self._files.fsync_dir(self.directory)
        for descriptor in self._remove_old():
            self._files.close(descriptor)  # at once: nobody is served yet


def read_snapshot_metas(directory: Path, files: Files) -> list[SnapshotMeta]:
    """Return the metas of the complete snapshots in a directory, their headers and ends checked.

    Raises: Damaged, NewerFormat, OSError.
    """
    metas: list[SnapshotMeta] = []
    for name in files.names(directory):
        if not name.endswith(SNAPSHOT_SUFFIX):
            continue
        path = directory / name
        descriptor = files.open(path, write=False)
        try:
            read_at = partial(_read_at, files, descriptor, path)
            metas.append(read_meta(read_at, files.size(descriptor), str(path)))
        finally:
            files.close(descriptor)
    return metas


def _read_at(files: Files, descriptor: int, path: Path, offset: int, count: int) -> bytes:
    try:
        return files.pread(descriptor, count, offset)
    except OSError as error:
        raise StorageError(f"the snapshot cannot be read: {error.strerror}", path=str(path)) from error
