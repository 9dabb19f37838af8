"""Every call that touches the disk, one method each, and what else a store takes from outside.

Stores reach the disk through this class only, so a test can put another one in its place that records, delays, cuts short
or fails any of the calls. Files are private to their owner and never reached through a symbolic link.
Source: own; what must be synced when: Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014).
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from raft_engine.errors import StorageFailed

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
ZERO_CHUNK_BYTES: Final = 1024 * 1024
"""How much is zeroed in one call: large enough to be cheap, small enough not to occupy the disk's queue for long."""

_ADVICE: Final = {
    errno.ENOSPC: "free space on this disk, then start the node again",
    errno.EDQUOT: "raise the quota or free space, then start the node again",
    errno.EIO: "the disk or its driver fails: check the kernel log, replace the disk, then rejoin the node",
    errno.EROFS: "the file system is read-only: check the kernel log, remount it, then start the node again",
    errno.ENOENT: "a file or directory is not where it was: check data_dir, links and mounts, then start the node again",
    errno.EACCES: "check owner and mode of the data directory, then start the node again",
}


class Files:
    """The disk. Errors are the operating system's (`OSError`); the stores turn them into ours."""

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> int:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_RDWR if write else os.O_RDONLY) | (os.O_CREAT if create else 0)
        return os.open(path, flags, FILE_MODE)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def pread(self, descriptor: int, count: int, offset: int) -> bytes:
        """Return `count` bytes from `offset`, fewer only at the end of the file."""
        data = os.pread(descriptor, count, offset)
        while len(data) < count:
            more = os.pread(descriptor, count - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def read_whole(self, path: Path) -> bytes:
        descriptor = self.open(path, write=False)
        try:
            return self.pread(descriptor, self.size(descriptor), 0)
        finally:
            self.close(descriptor)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write all of `data`; a short write goes on where it stopped."""
        written = os.pwrite(descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)

    def cut(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def fdatasync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def fsync_dir(self, path: Path) -> None:
        """Make creations, renames and removals in `path` durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)  # noqa: PTH104 (one call per method)

    def unlink(self, path: Path) -> None:
        os.unlink(path)  # noqa: PTH108

    def mkdir(self, path: Path) -> None:
        os.mkdir(path, DIRECTORY_MODE)  # noqa: PTH102

    def make_parents(self, path: Path) -> None:
        """Create the directories above `path` that are missing."""
        path.parent.mkdir(parents=True, exist_ok=True)

    def rmdir(self, path: Path) -> None:
        os.rmdir(path)  # noqa: PTH106

    def exists(self, path: Path) -> bool:
        """Tell whether there is something at `path`, be it a link that leads nowhere."""
        return os.path.lexists(path)

    def is_directory(self, path: Path) -> bool:
        """Tell whether `path` is a directory, and not a link to one."""
        return path.is_dir() and not path.is_symlink()

    def names(self, path: Path) -> list[str]:
        """Return what stands in a directory, sorted; nothing if it is not there."""
        try:
            return sorted(os.listdir(path))  # noqa: PTH208
        except FileNotFoundError:
            return []

    def owner_and_mode(self, path: Path) -> tuple[int, int]:
        status = os.stat(path)  # noqa: PTH116
        return status.st_uid, status.st_mode

    def free_bytes(self, path: Path) -> int:
        """Return how much an ordinary user can still write on the disk that holds `path`."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def is_still_at(self, descriptor: int, path: Path) -> bool:
        """Tell whether the file at `path` is the open one, and not another one of its name, or none."""
        try:
            there = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return os.path.samestat(os.fstat(descriptor), there)

    def lock(self, descriptor: int) -> None:
        """Take the file for this process; `BlockingIOError` if another one has it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def random_bits(self, count: int) -> int:
        """Return a number that nobody else draws: for incarnations, salts and names."""
        return secrets.randbits(count)

    def utc_now(self) -> datetime:
        """Return the time of day, for names that people read."""
        return datetime.now(UTC)

    def zero(self, descriptor: int, since: int, until: int) -> None:
        """Overwrite bytes `since` … `until - 1` with zeros."""
        zeros = bytes(min(ZERO_CHUNK_BYTES, max(0, until - since)))
        for offset in range(since, until, ZERO_CHUNK_BYTES):
            self.pwrite(descriptor, zeros[: until - offset], offset)

    def replace(self, path: Path, data: bytes) -> None:
        """Give `path` this content atomically and durably."""
        building = path.with_name(path.name + ".tmp")
        descriptor = self.open(building, create=True)
        try:
            self.cut(descriptor, 0)
            self.pwrite(descriptor, data, 0)
            self.fsync(descriptor)
        finally:
            self.close(descriptor)
        self.rename(building, path)
        self.fsync_dir(path.parent)


def storage_failed(error: OSError, doing: str, path: Path) -> StorageFailed:
    """Return our exception for a failed disk call: what was being done, where, the error's name, what to do."""
    name = errno.errorcode.get(error.errno or 0, "OSError")
    advice = _ADVICE.get(error.errno or 0, "find out why the disk refuses, then start the node again")
    return StorageFailed(f"{doing} failed with {name}: {error.strerror or error} ({error.filename or path}); hint: {advice}")
