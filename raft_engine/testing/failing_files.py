"""A simulated disk of which one single call fails, in each way in which a disk call may fail.

    not done    nothing happened; after a failed sync the kernel calls the file's pages clean (fsyncgate, 2018)
    half done   the first half of a write, or of what a sync should have made durable, is there
    done        it happened, and was reported as failed all the same
Source: own; the kinds of failing syncs are those of Rebello et al., "Can Applications Recover from fsync Failures?" (ATC 2020).
"""

from __future__ import annotations

import enum
import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

from raft_engine.testing.sim_disk import SimDisk, SimFiles

_SYNCS = {"fsync", "fdatasync", "fsync_dir"}
_CHANGES = _SYNCS | {"pwrite", "cut", "rename", "unlink", "mkdir", "rmdir"}


class Extent(enum.Enum):
    """How much of the failing call happened."""

    NOT_DONE = "not done"
    HALF_DONE = "half done"
    DONE = "done"


class FailingFiles(SimFiles):
    """One process's view of a disk whose call number `fatal` (from 1) fails with `error`; every other call works.

    `failed` names the call once it failed: ("fdatasync", path).
    """

    def __init__(
        self,
        disk: SimDisk,
        fatal: int | None = None,
        error: int = errno.EIO,
        extent: Extent = Extent.NOT_DONE,
        dice: random.Random | None = None,
    ) -> None:
        super().__init__(disk, self._count, dice)
        self.calls = 0
        self.fatal = fatal
        self.failed: tuple[str, Path] | None = None
        self._error = error
        self._extent = extent
        self._do_anyway: Callable[[], None] | None = None

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> None:
        halves = {Extent.HALF_DONE: data[: len(data) // 2], Extent.DONE: data}
        happens = halves.get(self._extent)
        self._do_anyway = None if happens is None else lambda: self._write_quietly(descriptor, happens, offset)
        super().pwrite(descriptor, data, offset)

    def cut(self, descriptor: int, size: int) -> None:
        self._do_anyway = self._whole(lambda: SimFiles.cut(self, descriptor, size))
        super().cut(descriptor, size)

    def fdatasync(self, descriptor: int) -> None:
        self._do_anyway = lambda: self._half_sync(self._node(descriptor))
        super().fdatasync(descriptor)

    def fsync(self, descriptor: int) -> None:
        self._do_anyway = lambda: self._half_sync(self._node(descriptor))
        super().fsync(descriptor)

    def fsync_dir(self, path: Path) -> None:
        self._do_anyway = lambda: self._half_sync(self._existing(path))
        super().fsync_dir(path)

    def rename(self, source: Path, target: Path) -> None:
        self._do_anyway = self._whole(lambda: SimFiles.rename(self, source, target))
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._do_anyway = self._whole(lambda: SimFiles.unlink(self, path))
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self._do_anyway = self._whole(lambda: SimFiles.mkdir(self, path))
        super().mkdir(path)

    def rmdir(self, path: Path) -> None:
        self._do_anyway = self._whole(lambda: SimFiles.rmdir(self, path))
        super().rmdir(path)

    def _count(self, name: str, path: Path) -> None:
        if self.failed is not None:
            return
        self.calls += 1
        if self.calls != self.fatal:
            return
        self.failed = name, path
        if name in _CHANGES and self._do_anyway is not None:
            self._do_anyway()
        raise OSError(self._error, os.strerror(self._error), str(path))

    def _whole(self, call: Callable[[], None]) -> Callable[[], None] | None:
        """A call that changes a name or a size happens or does not."""
        return call if self._extent is Extent.DONE else None

    def _write_quietly(self, descriptor: int, data: bytes, offset: int) -> None:
        SimFiles.pwrite(self, descriptor, data, offset)

    def _half_sync(self, node: int) -> None:
        """Before the rest is forgotten: what did reach the disk."""
        if self._extent is not Extent.NOT_DONE:
            self.disk.sync_partly(node, 2 if self._extent is Extent.HALF_DONE else 1)
