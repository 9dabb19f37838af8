"""Having the file of the next segment before it is needed.

Overwriting blocks that were written before changes nothing in the file system's own records, so syncing them is about half
as dear as growing a file (6.2k against 3.8k syncs a second where it was measured; fallocate helps little, as its blocks
count as unwritten). Such files are to be had in two ways:
- A segment that left the log, purged or by a reset, is kept, and becomes the next one as it is: nothing is written twice. What it
  still holds are older entries, which is why such a segment has a version of its own (see `segment_format`).
- While there is none, as in a log that only grows, a new file is filled with zeros, beside the writer and piece by piece: all at once
  it would have the writer's syncs, and those of everybody on that disk, wait for tens of milliseconds.
Source: etcd `server/storage/wal/file_pipeline.go`; PostgreSQL and RocksDB recycle their write-ahead logs.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from raft_engine.storage.files import Files
from raft_engine.storage.segment_seal import BATCH_SEAL_BYTES

NAME: Final = "spare"
_BUILDING_NAME: Final = "spare.tmp"
OLD_SUFFIX: Final = ".old"
OLD_MAX: Final = 4
"""So many purged segments are kept, 64 MiB: as many as are written between two purges of a busy node."""
PIECE_BYTES: Final = 1024 * 1024
"""So much of a new file is zero-filled and synced at a time."""
_REST_TIMES: Final = 4
_REST_MAX_S: Final = 0.025
"""After each piece a rest, so many times as long as it took: a segment of 16 MiB is ready in less than half a second."""


class SpareSegment:
    """Segments that left the log, or else one zero-filled file, prepared in a thread of its own. Used by the log's writer only."""

    def __init__(self, directory: Path, size: int, files: Files) -> None:
        self._files = files
        self._size = size
        self._path = directory / NAME
        self._building = directory / _BUILDING_NAME
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        """Set while somebody waits for the spare: no rests then."""
        self._old = [directory / name for name in files.names(directory) if name.endswith(OLD_SUFFIX)]
        if files.exists(self._building):
            files.unlink(self._building)

    @property
    def is_reused(self) -> bool:
        """Whether the next file that is taken was a segment before."""
        return bool(self._old)

    def keep(self, segment: Path, size: int) -> bool:
        """Keep a segment that has left the log durably, by another name; return whether it was. The caller syncs the directory.

        One that was made longer for a large record is not kept, nor one beyond `OLD_MAX`, nor another one of the same name.
        """
        old = segment.with_suffix(OLD_SUFFIX)
        if len(self._old) >= OLD_MAX or old in self._old or not self._size <= size <= self._size + BATCH_SEAL_BYTES:
            return False
        self._files.rename(segment, old)
        self._old.append(old)
        return True

    def prepare(self) -> None:
        """Begin to make the spare, unless there is one or it is being made."""
        if not self._old and self._thread is None and not self._files.exists(self._path):
            self._hurry.clear()
            self._thread = threading.Thread(target=self._make_quietly, name="raft-log-spare", daemon=True)
            self._thread.start()

    def take(self, target: Path, header: bytes) -> int:
        """Make the spare the file `target`, beginning with `header`, and return it open; durable on return."""
        source = self._old.pop(0) if self._old else self._zeros()
        descriptor = self._files.open(source)
        try:
            self._files.pwrite(descriptor, header, 0)
            self._files.fdatasync(descriptor)
            self._files.rename(source, target)
            self._files.fsync_dir(target.parent)
        except BaseException:
            self._files.close(descriptor)
            raise
        return descriptor

    def close(self) -> None:
        self._wait()

    def _zeros(self) -> Path:
        self._wait()
        if not self._files.exists(self._path):
            self._make()
        return self._path

    def _wait(self) -> None:
        self._hurry.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _make_quietly(self) -> None:
        try:
            self._make()
        except OSError:
            return  # `take` tries again, and there the error stops the node

    def _make(self) -> None:
        descriptor = self._files.open(self._building, create=True)
        try:
            for since in range(0, self._size, PIECE_BYTES):
                begun = time.monotonic()
                self._files.zero(descriptor, since, min(since + PIECE_BYTES, self._size))
                self._files.fsync(descriptor)
                self._hurry.wait(min((time.monotonic() - begun) * _REST_TIMES, _REST_MAX_S))
        finally:
            self._files.close(descriptor)
        self._files.rename(self._building, self._path)
