"""Disks that misbehave, for the tests of the stores."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

from raft_engine.storage.files import Files

PAGE_BYTES = 512


class PowerCut(BaseException):
    """The process ends here; nothing in the stores may catch it."""


class CountingFiles(Files):
    """Counts the calls that change something; from the `fatal` one on, none happens any more.

    Nothing is really synced: what survives is decided by the test, and waiting for the disk would only take time.
    """

    def __init__(self, fatal: int | None = None) -> None:
        self.calls = 0
        self.fatal = fatal

    def count(self) -> None:
        self.calls += 1
        if self.fatal is not None and self.calls >= self.fatal:
            self.stop()

    def stop(self) -> None:
        raise PowerCut

    def pwrite(self, descriptor, data, offset):
        self.count()
        super().pwrite(descriptor, data, offset)

    def cut(self, descriptor, size):
        self.count()
        super().cut(descriptor, size)

    def fdatasync(self, descriptor):
        self.count()

    def fsync(self, descriptor):
        self.count()

    def fsync_dir(self, path):
        self.count()

    def rename(self, source, target):
        self.count()
        super().rename(source, target)

    def unlink(self, path):
        self.count()
        super().unlink(path)

    def mkdir(self, path):
        self.count()
        super().mkdir(path)

    def rmdir(self, path):
        self.count()
        super().rmdir(path)


class FailingFiles(CountingFiles):
    """The `fatal` call and all later ones fail with `error`: a disk that is full or broken."""

    def __init__(self, fatal: int | None = None, error: int = errno.EIO) -> None:
        super().__init__(fatal)
        self.error = error

    def stop(self) -> None:
        raise OSError(self.error, os.strerror(self.error))


class VolatileFiles(CountingFiles):
    """Remembers what was written and not synced; `lose` lets the power fail.

    Each page written since the last sync of its file survives or is lost by itself, whatever the order of the writes.
    """

    def __init__(self, fatal: int | None = None) -> None:
        super().__init__(fatal)
        self.unsynced: dict[int, dict[int, bytes]] = {}  # inode -> page number -> content before
        self.paths: dict[int, Path] = {}

    def open(self, path, *, create=False, write=True):
        descriptor = super().open(path, create=create, write=write)
        self.paths[os.fstat(descriptor).st_ino] = path
        return descriptor

    def rename(self, source, target):
        super().rename(source, target)
        if target.is_file():
            self.paths[target.stat().st_ino] = target

    def pwrite(self, descriptor, data, offset):
        self.count()
        inode = os.fstat(descriptor).st_ino
        before = self.unsynced.setdefault(inode, {})
        for page in range(offset // PAGE_BYTES, (offset + len(data) + PAGE_BYTES - 1) // PAGE_BYTES):
            if page not in before:
                before[page] = os.pread(descriptor, PAGE_BYTES, page * PAGE_BYTES)
        Files.pwrite(self, descriptor, data, offset)

    def _synced(self, descriptor):
        self.unsynced.pop(os.fstat(descriptor).st_ino, None)

    def fdatasync(self, descriptor):
        super().fdatasync(descriptor)
        self._synced(descriptor)

    def fsync(self, descriptor):
        super().fsync(descriptor)
        self._synced(descriptor)

    def lose(self, dice: random.Random) -> None:
        for inode, pages in self.unsynced.items():
            path = self.paths[inode]
            if not path.exists() or path.stat().st_ino != inode:
                continue
            with path.open("r+b") as file:
                for page, before in pages.items():
                    if dice.random() < 0.5:
                        file.seek(page * PAGE_BYTES)
                        file.write(before)
        self.unsynced.clear()
