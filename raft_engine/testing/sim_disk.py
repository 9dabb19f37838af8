"""A disk in memory that forgets what was not synced, and every way in which a power failure may leave it.

`SimDisk` is the disk of one machine: it outlives its processes. `SimFiles` is one process's view of it, to be given to the
stores in place of `Files`. What a process sees and what is durable are two trees; between them stands the list of changes
not yet synced.

    write, cut         durable when that file is synced
    name, unname, move durable when a directory they touch is synced
    failed sync        what it should have made durable of a file never will be, and later syncs succeed (fsyncgate, 2018);
                       names are not forgotten: a file system that cannot write its own records stops (Rebello et al.,
                       "Can Applications Recover from fsync Failures?", ATC 2020)

When the power fails any part of that list may have reached the disk: `crash_states` goes through prefixes, single changes
kept or lost, data without names, names without data, files of the right size without their content, and writes torn at every
sector. Within one directory, a change of a name that is kept does not depend on earlier ones; a move between directories is
one change.
Source: Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014); ALICE's persistence models.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.storage.files import DIRECTORY_MODE, Files

SECTOR_BYTES: Final = 512
"""What a disk writes whole or not at all."""
ROOT: Final = 0
_EVERY_SUBSET_UPTO: Final = 6
"""So many unsynced changes are kept and lost in every combination (64); of more, those that `_survivors` names."""
_NEW_YEAR: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Write(msgspec.Struct, frozen=True):
    """Bytes at an offset of a file."""

    node: int
    offset: int
    data: bytes


class Cut(msgspec.Struct, frozen=True):
    """A file's new size."""

    node: int
    size: int


class Name(msgspec.Struct, frozen=True):
    """A new file or directory."""

    directory: int
    name: str
    node: int
    is_directory: bool = False


class Unname(msgspec.Struct, frozen=True):
    """A name that goes."""

    directory: int
    name: str
    node: int


class Move(msgspec.Struct, frozen=True):
    """A name that becomes another one, in the same directory or in another, in place of what is there."""

    directory: int
    name: str
    target_directory: int
    target: str
    node: int


class Sync(msgspec.Struct, frozen=True):
    """A file or a directory whose changes are durable from here on."""

    node: int


Change = Write | Cut | Name | Unname | Move
Step = Change | Sync
Before = Callable[[str, Path], None]
"""Called with a call's name and its path before it happens; may raise `OSError`, or end the process with another exception."""


class Tree:
    """Files by node number, names by directory. Contents are shared between copies until they are written to."""

    __slots__ = ("contents", "names")

    def __init__(self) -> None:
        self.contents: dict[int, bytes | bytearray] = {}
        self.names: dict[int, dict[str, int]] = {ROOT: {}}

    def copy(self) -> Tree:
        tree = Tree()
        self.freeze()
        tree.contents = dict(self.contents)
        tree.names = {directory: dict(names) for directory, names in self.names.items()}
        return tree

    def freeze(self) -> None:
        for node, content in self.contents.items():
            if isinstance(content, bytearray):
                self.contents[node] = bytes(content)

    def add(self, node: int, *, is_directory: bool) -> None:
        """Add an empty file or directory that has no name yet."""
        if is_directory:
            self.names[node] = {}
        else:
            self.contents[node] = b""

    def apply(self, change: Change) -> None:
        match change:
            case Write(node, offset, data):
                content = self._changeable(node)
                if len(content) < offset:
                    content.extend(bytes(offset - len(content)))
                content[offset : offset + len(data)] = data
            case Cut(node, size):
                content = self._changeable(node)
                if size <= len(content):
                    del content[size:]
                else:
                    content.extend(bytes(size - len(content)))
            case Name(directory, name, node, _):
                self.names[directory][name] = node
            case Unname(directory, name, node):
                self._drop(directory, name, node)
            case Move(directory, name, target_directory, target, node):
                self._drop(directory, name, node)
                self.names[target_directory][target] = node

    def files(self, directory: int = ROOT, path: str = "") -> Iterator[tuple[str, bytes | None]]:
        """Yield every path that can be reached with its content; None for a directory."""
        for name, node in sorted(self.names[directory].items()):
            below = f"{path}/{name}"
            if node in self.names:
                yield below, None
                yield from self.files(node, below)
            else:
                yield below, bytes(self.contents[node])

    def _changeable(self, node: int) -> bytearray:
        content = self.contents[node]
        if isinstance(content, bytes):
            content = self.contents[node] = bytearray(content)
        return content

    def _drop(self, directory: int, name: str, node: int) -> None:
        if self.names[directory].get(name) == node:
            del self.names[directory][name]


class SimDisk:
    """What one machine's disk holds. `record` keeps every step, for `crash_states`."""

    def __init__(self, *, capacity_bytes: int | None = None, record: bool = False) -> None:
        """Begin with an empty disk.

        Args:
            capacity_bytes: writes beyond it fail with ENOSPC.
        """
        self.visible = Tree()
        self.durable = Tree()
        self.pending: list[Change] = []
        self.capacity_bytes = capacity_bytes
        self.journal: list[Step] | None = [] if record else None
        self.locks: dict[int, SimFiles] = {}
        self.lives = 0
        self._next_node = ROOT + 1

    # --- what processes do -------------------------------------------------------------------------------------------------

    def new_node(self, *, is_directory: bool) -> int:
        node = self._next_node
        self._next_node += 1
        for tree in (self.visible, self.durable):
            tree.add(node, is_directory=is_directory)
        return node

    def change(self, change: Change) -> None:
        self.visible.apply(change)
        self.pending.append(change)
        if self.journal is not None:
            self.journal.append(change)

    def sync(self, node: int) -> None:
        if self.pending:
            for change in self._taken_from_pending(node):
                self.durable.apply(change)
        if self.journal is not None:
            self.journal.append(Sync(node))

    def forget(self, node: int) -> None:
        """A sync failed: the kernel calls those pages clean, and they never reach the disk."""
        self._taken_from_pending(node)

    def sync_partly(self, node: int, part: int) -> None:
        """Make durable one `part`-th of what a sync would: its first changes."""
        waiting = [change for change in self.pending if _is_about(change, node)]
        for change in waiting[: len(waiting) // part]:
            self.durable.apply(change)
            self.pending.remove(change)

    def used_bytes(self) -> int:
        return sum(map(len, self.visible.contents.values()))

    # --- what happens to it ------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Every process ends; what they wrote stays in the kernel's memory."""
        self.lives += 1
        self.locks.clear()

    def power_fails(self, kept: Iterable[Change] = ()) -> None:
        """Every process ends, and of what was not synced only `kept` has reached the disk."""
        self.kill()
        for change in kept:
            self.durable.apply(change)
        self.pending.clear()
        self.visible = self.durable.copy()

    def flip(self, path: Path, offset: int, mask: int = 0xFF) -> None:
        """Change bits of a byte that had been durable."""
        node = self.find(path)
        assert node is not None, path
        for tree in (self.visible, self.durable):
            content = tree.contents[node]
            if offset < len(content):
                tree.apply(Write(node, offset, bytes([content[offset] ^ mask])))

    def settle(self) -> None:
        """Everything that can be seen becomes durable, as on a machine that is shut down in order."""
        self.pending.clear()
        self.durable = self.visible.copy()

    def copy(self) -> SimDisk:
        """Return a disk in the same state, without processes and without a journal."""
        other = SimDisk(capacity_bytes=self.capacity_bytes)
        other.visible, other.durable = self.visible.copy(), self.durable.copy()
        other.pending = list(self.pending)
        other._next_node = self._next_node
        return other

    def repeat(self, step: Step) -> None:
        """Do once more what a journal says; the disk must be as it was when the journal began."""
        if isinstance(step, Sync):
            self.sync(step.node)
            return
        if isinstance(step, Name):
            node = self.new_node(is_directory=step.is_directory)
            assert node == step.node, "the journal did not begin with this disk"
        self.change(step)

    # --- looking -----------------------------------------------------------------------------------------------------------

    def find(self, path: Path) -> int | None:
        node = ROOT
        for part in path.parts[1:]:
            names = self.visible.names.get(node)
            if names is None or part not in names:
                return None
            node = names[part]
        return node

    def content(self, path: Path) -> bytes:
        node = self.find(path)
        assert node is not None, path
        return bytes(self.visible.contents[node])

    def image(self) -> tuple[tuple[str, bytes | None], ...]:
        """Return all that can be reached, to compare two disks by."""
        return tuple(self.visible.files())

    def _taken_from_pending(self, node: int) -> list[Change]:
        taken: list[Change] = []
        left: list[Change] = []
        for change in self.pending:
            (taken if _is_about(change, node) else left).append(change)
        self.pending = left
        return taken


class SimFiles(Files):
    """One process's view of a disk. After the disk's `kill` or `power_fails` none of its calls works any more."""

    def __init__(
        self,
        disk: SimDisk,
        before: Before | None = None,
        dice: random.Random | None = None,
        wall_ms: Callable[[], float] | None = None,
    ) -> None:
        """Open the disk for a process.

        Args:
            before: called before each call.
            dice: where random numbers come from, so that a seed repeats them; without it they are really random.
            wall_ms: the machine's time of day, since some new year; without it that is real, or with `dice` stands still.
        """
        self.disk = disk
        self.before = before
        self._dice = dice
        self._wall_ms = wall_ms
        self._life = disk.lives
        self._open: dict[int, tuple[int, Path]] = {}
        self._next_descriptor = 3

    # --- files -------------------------------------------------------------------------------------------------------------

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> int:  # noqa: ARG002 (modes are not simulated)
        self._call("open", path)
        node = self.disk.find(path)
        if node is None:
            if not create:
                raise _error(errno.ENOENT, path)
            node = self._create(path, is_directory=False)
        elif node in self.disk.visible.names:
            raise _error(errno.EISDIR, path)
        descriptor = self._next_descriptor
        self._next_descriptor += 1
        self._open[descriptor] = node, path
        return descriptor

    def close(self, descriptor: int) -> None:
        node, _path = self._open.pop(descriptor)
        if self.disk.locks.get(node) is self:
            del self.disk.locks[node]

    def size(self, descriptor: int) -> int:
        return len(self.disk.visible.contents[self._node(descriptor)])

    def pread(self, descriptor: int, count: int, offset: int) -> bytes:
        node, path = self._open[descriptor]
        self._call("pread", path)
        return bytes(self.disk.visible.contents[node][offset : offset + count])

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> None:
        node, path = self._open[descriptor]
        self._call("pwrite", path)
        room = self._room(node)
        if room is not None and offset + len(data) > room:
            if offset < room:
                self.disk.change(Write(node, offset, bytes(data[: room - offset])))
            raise _error(errno.ENOSPC, path)
        if data:
            self.disk.change(Write(node, offset, bytes(data)))

    def cut(self, descriptor: int, size: int) -> None:
        node, path = self._open[descriptor]
        self._call("cut", path)
        if size != len(self.disk.visible.contents[node]):
            self.disk.change(Cut(node, size))

    def fdatasync(self, descriptor: int) -> None:
        self._sync("fdatasync", *self._open[descriptor])

    def fsync(self, descriptor: int) -> None:
        self._sync("fsync", *self._open[descriptor])

    # --- names -------------------------------------------------------------------------------------------------------------

    def fsync_dir(self, path: Path) -> None:
        self._sync("fsync_dir", self._existing(path), path)

    def rename(self, source: Path, target: Path) -> None:
        self._call("rename", source)
        node = self._existing(source)
        self.disk.change(Move(self._parent(source), source.name, self._parent(target), target.name, node))

    def unlink(self, path: Path) -> None:
        self._call("unlink", path)
        self.disk.change(Unname(self._parent(path), path.name, self._existing(path)))

    def mkdir(self, path: Path) -> None:
        self._call("mkdir", path)
        if self.disk.find(path) is not None:
            raise _error(errno.EEXIST, path)
        self._create(path, is_directory=True)

    def make_parents(self, path: Path) -> None:
        for parent in reversed(path.parents):
            if self.disk.find(parent) is None:
                self.mkdir(parent)

    def rmdir(self, path: Path) -> None:
        self._call("rmdir", path)
        node = self._existing(path)
        if self.disk.visible.names[node]:
            raise _error(errno.ENOTEMPTY, path)
        self.disk.change(Unname(self._parent(path), path.name, node))

    # --- looking -----------------------------------------------------------------------------------------------------------

    def exists(self, path: Path) -> bool:
        return self.disk.find(path) is not None

    def is_directory(self, path: Path) -> bool:
        return self.disk.find(path) in self.disk.visible.names

    def names(self, path: Path) -> list[str]:
        node = self.disk.find(path)
        return [] if node is None else sorted(self.disk.visible.names[node])

    def owner_and_mode(self, path: Path) -> tuple[int, int]:
        is_directory = self._existing(path) in self.disk.visible.names
        return os.geteuid(), (stat.S_IFDIR | DIRECTORY_MODE if is_directory else stat.S_IFREG | 0o600)

    def free_bytes(self, path: Path) -> int:  # noqa: ARG002 (one disk for all)
        capacity = self.disk.capacity_bytes
        return 2**40 if capacity is None else max(0, capacity - self.disk.used_bytes())

    def lock(self, descriptor: int) -> None:
        node, path = self._open[descriptor]
        if node in self.disk.locks:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))
        self.disk.locks[node] = self

    def random_bits(self, count: int) -> int:
        return super().random_bits(count) if self._dice is None else self._dice.getrandbits(count)

    def utc_now(self) -> datetime:
        if self._wall_ms is not None:
            return _NEW_YEAR + timedelta(milliseconds=self._wall_ms())
        return super().utc_now() if self._dice is None else _NEW_YEAR

    # --- in parts ----------------------------------------------------------------------------------------------------------

    def _call(self, name: str, path: Path) -> None:
        if self._life != self.disk.lives:
            raise _error(errno.EBADF, path)
        if self.before is not None:
            self.before(name, path)

    def _sync(self, name: str, node: int, path: Path) -> None:
        try:
            self._call(name, path)
        except OSError:
            if self._life == self.disk.lives and node in self.disk.visible.contents:
                self.disk.forget(node)
            raise
        self.disk.sync(node)

    def _create(self, path: Path, *, is_directory: bool) -> int:
        parent = self._parent(path)
        node = self.disk.new_node(is_directory=is_directory)
        self.disk.change(Name(parent, path.name, node, is_directory))
        return node

    def _node(self, descriptor: int) -> int:
        return self._open[descriptor][0]

    def _existing(self, path: Path) -> int:
        node = self.disk.find(path)
        if node is None:
            raise _error(errno.ENOENT, path)
        return node

    def _parent(self, path: Path) -> int:
        node = self._existing(path.parent)
        if node not in self.disk.visible.names:
            raise _error(errno.ENOTDIR, path)
        return node

    def _room(self, node: int) -> int | None:
        """Return how long the file may become."""
        if self.disk.capacity_bytes is None:
            return None
        size = len(self.disk.visible.contents[node])
        return size + max(0, self.disk.capacity_bytes - self.disk.used_bytes())


def crash_states(journal: Sequence[Step], start: SimDisk | None = None) -> Iterator[tuple[int, str, SimDisk]]:
    """Yield what a crash after each step may leave: (steps done, what was lost, the disk as the next start finds it).

    No two states of one step are the same.

    Args:
        start: the disk when the journal began; None: an empty one.
    """
    disk = SimDisk() if start is None else start.copy()
    for done in range(len(journal) + 1):
        if done:
            disk.repeat(journal[done - 1])
        for what, state in power_losses(disk):
            yield done, what, state


def power_losses(disk: SimDisk) -> Iterator[tuple[str, SimDisk]]:
    """Yield what the power's failing now may leave: (what was lost, the disk as the next start finds it), no two the same."""
    seen: set[tuple[tuple[str, bytes | None], ...]] = set()
    for what, kept in _survivors(disk.pending):
        state = disk.copy()
        state.power_fails(kept)
        image = state.image()
        if image not in seen:
            seen.add(image)
            yield what, state


def _survivors(pending: list[Change]) -> Iterator[tuple[str, list[Change]]]:
    """Yield which of the changes that were not synced are found after a crash."""
    count = len(pending)
    yield "nothing lost", pending
    if not count:
        return
    yield "all unsynced lost", []
    if count <= _EVERY_SUBSET_UPTO:
        for bits in range(1, 2**count - 1):
            yield f"changes {bits:0{count}b} of {count}", [change for at, change in enumerate(pending) if bits >> at & 1]
    for number in range(1, count):
        yield f"only the first {number} of {count}", pending[:number]
    for number in range(count):
        yield f"all but change {number}", pending[:number] + pending[number + 1 :]
        yield f"only change {number}", [pending[number]]
    data: list[Change] = [change for change in pending if isinstance(change, Write | Cut)]
    yield "data without names", data
    yield "names without data", [change for change in pending if not isinstance(change, Write | Cut)]
    yield "sizes without content", [_emptied(change) for change in pending]
    for number, change in enumerate(pending):
        if isinstance(change, Write):
            for at in _tears(change):
                head, tail = _torn(change, at)
                yield f"change {number} torn: its first {at} bytes", [*pending[:number], head]
                yield (
                    f"change {number} torn: its first {at} bytes, and all later ones",
                    [
                        *pending[:number],
                        head,
                        *pending[number + 1 :],
                    ],
                )
                yield (
                    f"change {number} torn: without its first {at} bytes",
                    [*pending[:number], tail, *pending[number + 1 :]],
                )


def _tears(write: Write) -> range:
    """Return the lengths at which a write crosses a sector's end."""
    first = SECTOR_BYTES - write.offset % SECTOR_BYTES
    return range(first, len(write.data), SECTOR_BYTES)


def _torn(write: Write, at: int) -> tuple[Write, Write]:
    head = Write(write.node, write.offset, write.data[:at])
    return head, Write(write.node, write.offset + at, write.data[at:])


def _emptied(change: Change) -> Change:
    """Return the same change of size, without the bytes."""
    if isinstance(change, Write):
        return Write(change.node, change.offset + len(change.data), b"")
    return change


def _is_about(change: Change, node: int) -> bool:
    if isinstance(change, Write | Cut):
        return change.node == node
    if isinstance(change, Move):
        return node in {change.directory, change.target_directory}
    return change.directory == node


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
