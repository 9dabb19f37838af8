"""The key-value store on disk: for data larger than memory, and a start that replays next to nothing.

Applying changes a layer, a dictionary of what is not in the database yet; a thread writes layers into the database, each in one
transaction together with the log id up to which it goes. So an entry is applied in the time of a dictionary, many entries share one
transaction, and whatever was not written when the process died is applied again from the log: nothing was lost,
because nothing is applied that is not durable in the log. What waits is bounded; beyond that `apply` waits for the thread.

Readers look at the layers, newest first, and then at the database, or at what was read from it since it last changed. A layer
leaves the list after it was committed, so a reader who does not find it there finds its contents in the database. A snapshot or
digest closes the present layer; the thread opens a view of the database just after that layer was committed, and then goes on.

In the directory is one file `state-<n>.db` (SQLite adds `-wal` and `-shm`); a restored snapshot is built beside it as
`state-<n + 1>.db` and takes its place when it is durable.
"""

from __future__ import annotations

import heapq
import logging
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import msgspec

from raft_engine.errors import Panicked, RaftError, Stopped
from raft_engine.kv.commands import Result
from raft_engine.kv.database import Builder, Database, Numbered, Pinned, raise_ours
from raft_engine.kv.read_cache import ABSENT, ITEM_BYTES, Absent, ReadCache
from raft_engine.kv.store import REMEMBERED_MAX, KeyValueStore, Row
from raft_engine.kv.stream import KeyBlock, decode_blocks, encode_state
from raft_engine.kv.views import Item, Remembered, View
from raft_engine.storage.files import Files, storage_failed
from raft_engine.types.entry import Entry
from raft_engine.types.log_id import LogId

WRITE_AFTER_S: Final = 2.0
"""How long changes are collected before they are written: the longer, the more of them are changes of the same key or page.
Writing a random one of 10,000 keys costs a quarter of what it did when layers were closed after 0.1 s or 2 MiB."""
LAYER_BYTES: Final = 6 * 1024 * 1024
"""A layer of this size is written at once."""
WAITING_BYTES_MAX: Final = 18 * 1024 * 1024
WAITING_LAYERS_MAX: Final = 16
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
"""Size of the write-ahead log from which it is moved into the file."""
RESTORE_SYNC_BYTES: Final = 512 * 1024
"""A restored database is synced as it grows: everybody's syncs on that disk wait until what is under way is done, 3 to 13 ms with 8 MiB."""
COUNTED_ITEMS_MAX: Final = 1000
"""As many waiting changes are taken into account when somebody asks for the number of keys; more would keep others waiting."""
_SCAN_ROWS: Final = 100
_FILE_PATTERN: Final = re.compile(r"state-(\d+)\.db")
_BUILDING_NAME: Final = "building.db"
_COMPANIONS: Final = ("-wal", "-shm", "-journal")

logger = logging.getLogger("raft_engine.kv")


class _Layer:
    """Changes of consecutive entries which are not in the database yet. Frozen when it is no longer the newest."""

    __slots__ = ("applied", "items", "remembered", "size_bytes", "views", "window")

    def __init__(self) -> None:
        self.items: dict[bytes, Item | None] = {}
        """None: deleted."""
        self.remembered: dict[bytes, Numbered] = {}
        self.size_bytes = 0
        self.applied: LogId | None = None
        """How far it goes; known when it is frozen, like the window."""
        self.window = (0, 0)
        self.views: list[weakref.ref[_DiskView]] = []
        """To be opened when it is committed, if anybody still wants them."""


class _Now(msgspec.Struct, frozen=True):
    """Where everything is at this moment; replaced as a whole. `layers`: newest first, never empty.

    `read` is of this database as it is: whoever reads while a layer is written keeps what he found in the cache of before.
    """

    layers: tuple[_Layer, ...]
    database: Database
    read: ReadCache


class DiskStore(KeyValueStore):
    """A database and the layers above it."""

    def __init__(self, directory: Path, *, files: Files | None = None, write_after_s: float = WRITE_AFTER_S) -> None:
        """Open what is in the directory, or begin with nothing.

        Raises: Damaged, NewerFormat, StorageFailed.
        """
        super().__init__()
        self._directory = directory
        self._files = files or Files()
        self._write_after_s = write_after_s
        self._views: weakref.WeakSet[_DiskView] = weakref.WeakSet()
        self._failure: RaftError | None = None
        self._told: Callable[[RaftError], None] | None = None
        self._is_closed = False
        self._is_urgent = False
        self._is_idle = False
        self._changed = threading.Condition(self._gate)  # wakes the thread, and those who wait for it
        try:
            number = self._tidied_up()
        except OSError as error:
            raise storage_failed(error, "opening the state machine", directory) from error
        self._number = number
        database = Database(self._path(number))
        self._now = _Now((_Layer(),), database, ReadCache())
        self._take_over(database)
        self._thread = threading.Thread(target=self._write_layers, name="kv-writer", daemon=True)
        self._thread.start()

    def _tidied_up(self) -> int:
        """Remove what an interrupted restore left behind; return the number of the newest whole file."""
        if not self._directory.exists():
            self._files.mkdir(self._directory)
            self._files.fsync_dir(self._directory.parent)
        numbers = _numbered_files(self._directory)
        newest = max(numbers.values(), default=1)
        for path in [self._directory / _BUILDING_NAME, *(path for path, number in numbers.items() if number < newest)]:
            self._remove(path)
        return newest

    def _path(self, number: int) -> Path:
        return self._directory / f"state-{number}.db"

    def _remove(self, path: Path) -> None:
        for each in (path, *(path.with_name(path.name + suffix) for suffix in _COMPANIONS)):
            if each.exists():
                self._files.unlink(each)

    def _take_over(self, database: Database) -> None:
        """Go on from what is in the database."""
        meta = database.meta
        self.last_applied = self._durable = meta.applied
        self._window_from, self._window_to = meta.window_from, meta.window_to

    def watch_failure(self, told: Callable[[RaftError], None]) -> None:
        with self._gate:
            self._told, failure = told, self._failure
        if failure is not None:
            told(failure)

    # --- StateMachine -----------------------------------------------------------------------------------------------

    def applied(self) -> LogId:
        return self._durable

    def apply(self, entries: Sequence[Entry]) -> list[Result | None]:
        if self._failure is not None or self._is_full():
            self._wait_for_room()
        results = super().apply(entries)
        if self._is_idle or self._now.layers[0].size_bytes > LAYER_BYTES:
            with self._gate:
                self._changed.notify_all()
        return results

    def snapshot(self) -> Iterator[bytes]:
        with self._gate:
            view = self._view(self.last_applied)
        return encode_state(view)

    def restore(self, chunks: Iterable[bytes], last_log_id: LogId) -> None:
        self.flush()  # also opens the views that wait
        number = self._number + 1
        try:
            self._build(self._directory / _BUILDING_NAME, chunks, last_log_id)
            self._files.rename(self._directory / _BUILDING_NAME, self._path(number))
            self._files.fsync_dir(self._directory)
        except OSError as error:
            raise storage_failed(error, "restoring the state machine", self._directory) from error
        replacement = Database(self._path(number))
        with self._gate:
            replaced = self._now.database
            self._now = _Now((_Layer(),), replacement, ReadCache())
            self._number = number
            self._take_over(replacement)
        replaced.close()
        try:
            self._remove(replaced.path)  # views that are open keep their file
        except OSError as error:
            raise storage_failed(error, "removing the replaced state machine", self._directory) from error

    def _build(self, path: Path, chunks: Iterable[bytes], last_log_id: LogId) -> None:
        """Make a database of a snapshot, durable as a file but not yet under its name."""
        self._remove(path)
        descriptor = self._files.open(path, create=True)
        try:
            builder, synced = Builder(path), 0
            try:
                for block in decode_blocks(chunks, last_log_id):
                    if isinstance(block, KeyBlock):
                        builder.add_items(block.rows)
                    else:
                        builder.add_remembered(block.rows)
                    if builder.data_bytes - synced >= RESTORE_SYNC_BYTES:
                        self._files.fdatasync(descriptor)
                        synced = builder.data_bytes
                builder.finish(last_log_id)
            finally:
                builder.close()
            self._files.fsync(descriptor)
        except sqlite3.Error as error:
            raise_ours(error, "restoring the state machine", path)
        finally:
            self._files.close(descriptor)

    def flush(self) -> None:
        """Return when everything applied so far is in the database. Raises: StorageFailed, Damaged."""
        with self._gate:
            self._is_urgent = True
            self._changed.notify_all()
            while not self._is_written() and self._failure is None:
                self._changed.wait()
            self._check_sound()

    def close(self) -> None:
        with self._gate:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()
        self._now = _Now(self._now.layers, self._now.database, ReadCache())  # nobody reads from a closed store
        self._now.database.close()
        self._digests.close()

    def _is_written(self) -> bool:
        return len(self._now.layers) == 1 and self.last_applied == self._durable

    def _check_sound(self) -> None:
        if self._failure is not None:
            raise self._failure

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> Item | None:
        while True:
            now = self._now
            for layer in now.layers:
                item = layer.items.get(key, ABSENT)
                if not isinstance(item, Absent):
                    return item
            found = now.read.get(key)
            if not isinstance(found, Absent):
                return found
            try:
                found = now.database.get(key)
            except sqlite3.ProgrammingError:
                self._check_replaced(now.database)
            else:
                now.read.keep(key, found)
                return found

    def scan(self, prefix: bytes, after: bytes, limit: int) -> tuple[list[Row], bytes | None]:
        assert limit >= 1
        from_prefix = after < prefix
        with self._gate:
            self._check_open()
            rows = self._rows_from(prefix if from_prefix else after, inclusive=from_prefix, prefix=prefix)
            items = []
            for row in rows:
                if not row[0].startswith(prefix):
                    break
                items.append(row)
                if len(items) > limit:
                    break
        return items[:limit], items[limit - 1][0] if len(items) > limit else None

    def _rows_from(self, start: bytes, *, inclusive: bool, prefix: bytes) -> Iterator[Row]:
        """Yield the rows from `start` on, layers and database merged; at least as far as `prefix` goes."""
        waiting: dict[bytes, Item | None] = {}
        for layer in reversed(self._now.layers):
            waiting.update({key: item for key, item in layer.items.items() if key.startswith(prefix) and key >= start})
        if not inclusive:
            waiting.pop(start, None)
        stored = (row for row in self._stored_from(start, inclusive=inclusive) if row[0] not in waiting)
        changed = ((key, *item) for key in sorted(waiting) if (item := waiting[key]) is not None)
        return heapq.merge(stored, changed)

    def _stored_from(self, start: bytes, *, inclusive: bool) -> Iterator[Row]:
        while rows := self._now.database.scan(start, inclusive=inclusive, limit=_SCAN_ROWS):
            yield from rows
            start, inclusive = rows[-1][0], False

    @property
    def key_count(self) -> int:
        return self._counts()[0]

    @property
    def data_bytes(self) -> int:
        return self._counts()[1]

    def _counts(self) -> tuple[int, int]:
        """Return number and bytes of the keys; under a heavy load, of what is in the database already."""
        with self._gate:
            layers, database = self._now.layers, self._now.database
            meta = database.meta
            waiting: dict[bytes, Item | None] = {}
            if self._is_closed or sum(len(layer.items) for layer in layers) > COUNTED_ITEMS_MAX:
                return meta.key_count, meta.data_bytes
            for layer in reversed(layers):
                waiting.update(layer.items)
            return database.counts_after(waiting) if waiting else (meta.key_count, meta.data_bytes)

    @property
    def remembered_count(self) -> int:
        return self._window_to - self._window_from

    @property
    def view_count(self) -> int:
        return sum(view.is_open for view in tuple(self._views))

    def _check_replaced(self, database: Database) -> None:
        """A database found closed was replaced by a restored one, or the store is closed."""
        if self._now.database is database:
            raise Stopped("the key-value store is closed")

    def _check_open(self) -> None:
        if self._is_closed:
            raise Stopped("the key-value store is closed")

    # --- where the keys are -----------------------------------------------------------------------------------------

    def _find(self, key: bytes) -> Item | None:
        return self.get(key)

    def _change(self, changes: Mapping[bytes, Item | None]) -> None:
        layer = self._now.layers[0]
        items, size = layer.items, layer.size_bytes
        waiting_for = items.get
        for key, item in changes.items():
            waiting = waiting_for(key)
            if waiting is not None:
                size -= len(waiting[0])
            elif key not in items:
                size += ITEM_BYTES + len(key)
            if item is not None:
                size += len(item[0])
        items.update(changes)  # one step: keys and values are plain bytes, so no other thread can come between
        layer.size_bytes = size

    def _recall(self, key: bytes) -> Remembered | None:
        found = next((layer.remembered[key] for layer in self._now.layers if key in layer.remembered), None)
        if found is None:
            found = self._now.database.recall(key)
        return found.known if found is not None and found.number >= self._window_from else None

    def _remember(self, known: Remembered) -> None:
        layer = self._now.layers[0]
        layer.remembered[known.key] = Numbered(self._window_to, known)
        layer.size_bytes += len(known.key) + ITEM_BYTES
        self._window_to += 1
        self._window_from = max(self._window_from, self._window_to - REMEMBERED_MAX)

    # --- views ------------------------------------------------------------------------------------------------------

    def _view(self, last_applied: LogId) -> View:
        self._check_open()
        self._check_sound()
        view = _DiskView(last_applied)
        self._views.add(view)
        self._now.layers[0].views.append(weakref.ref(view))
        self._freeze(last_applied)
        self._changed.notify_all()
        return view

    # --- writing ----------------------------------------------------------------------------------------------------

    def _freeze(self, applied: LogId) -> None:
        """End the newest layer with the entry `applied` and begin another."""
        layer = self._now.layers[0]
        layer.applied = applied
        layer.window = (self._window_from, self._window_to)
        self._now = _Now((_Layer(), *self._now.layers), self._now.database, self._now.read)

    def _wait_for_room(self) -> None:
        """Return when so little waits that more may be applied. Raises: StorageFailed, Damaged: writing has failed."""
        with self._gate:
            self._changed.notify_all()
            while self._failure is None and self._is_full():
                self._changed.wait()
            self._check_sound()

    def _is_full(self) -> bool:
        layers = self._now.layers
        if len(layers) == 1:
            return layers[0].size_bytes > WAITING_BYTES_MAX
        return len(layers) > WAITING_LAYERS_MAX or sum(layer.size_bytes for layer in layers) > WAITING_BYTES_MAX

    def _write_layers(self) -> None:
        """What the thread does: write the oldest layer, until the store is closed and nothing is left."""
        try:
            while (layer := self._next_layer()) is not None:
                self._commit(layer)
        except RaftError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 (told to whoever applies next)
            self._fail(Panicked(f"writing the state machine: {type(error).__name__}: {error}"))

    def _next_layer(self) -> _Layer | None:
        """Return the oldest layer when it shall be written; None: closed, and everything is written."""
        with self._gate:
            while True:
                if len(self._now.layers) > 1:
                    return self._now.layers[-1]
                if self._is_written():
                    self._changed.notify_all()
                    if self._is_closed:
                        return None
                    self._is_idle = True
                    self._changed.wait()
                    self._is_idle = False
                else:
                    self._collect()
                    self._is_urgent = False
                    if len(self._now.layers) == 1:
                        self._freeze(self.last_applied)

    def _collect(self) -> None:
        """Let changes gather for a while."""
        until = time.monotonic() + self._write_after_s
        while len(self._now.layers) == 1 and not (self._is_urgent or self._is_closed):
            left = until - time.monotonic()
            if left <= 0 or self._now.layers[0].size_bytes > LAYER_BYTES:
                return
            self._changed.wait(left)

    def _commit(self, layer: _Layer) -> None:
        database, applied = self._now.database, layer.applied
        assert applied is not None, "only frozen layers are written"
        if layer.items or layer.remembered or applied != self._durable:
            database.write(layer.items, list(layer.remembered.values()), applied, layer.window)
        for reference in layer.views:
            _open_view(reference, database)
        database.checkpoint(CHECKPOINT_BYTES)
        with self._gate:
            self._durable = applied
            self._now = _Now(self._now.layers[:-1], database, ReadCache() if layer.items else self._now.read)
            self._changed.notify_all()

    def _fail(self, error: RaftError) -> None:
        logger.critical("the state machine cannot be written any more: %s", error)
        with self._gate:
            self._failure, told = error, self._told
            self._changed.notify_all()
            views = [reference() for layer in self._now.layers for reference in layer.views]
        for view in views:
            if view is not None:
                view.fail(error)
        if told is not None:
            told(error)


def _numbered_files(directory: Path) -> dict[Path, int]:
    return {path: int(found[1]) for path in directory.iterdir() if (found := _FILE_PATTERN.fullmatch(path.name))}


def newest_file(directory: Path) -> Path | None:
    """Return the database that counts in a directory, if there is one."""
    numbers = _numbered_files(directory) if directory.is_dir() else {}
    return max(numbers, key=lambda path: numbers[path], default=None)


class _DiskView:
    """A `View` of the database; whoever reads it first waits until it is open."""

    def __init__(self, last_applied: LogId) -> None:
        self._last_applied = last_applied
        self._pinned: Future[Pinned] = Future()
        self._finalizer = weakref.finalize(self, _let_go, self._pinned)
        self._finalizer.atexit = False

    @property
    def last_applied(self) -> LogId:
        return self._last_applied

    @property
    def key_count(self) -> int:
        return self._pinned.result().meta.key_count

    @property
    def remembered_count(self) -> int:
        meta = self._pinned.result().meta
        return meta.window_to - meta.window_from

    @property
    def is_open(self) -> bool:
        return self._finalizer.alive

    def rows(self) -> Iterator[Row]:
        return self._pinned.result().rows()

    def remembered(self) -> Iterator[Remembered]:
        return self._pinned.result().remembered()

    def close(self) -> None:
        self._finalizer()

    def open(self, database: Database) -> None:
        """Take hold of the database as it is now; nothing if nobody wants it any more."""
        if self._pinned.set_running_or_notify_cancel():
            try:
                self._pinned.set_result(database.pinned())
            except RaftError as error:
                self._pinned.set_exception(error)

    def fail(self, error: RaftError) -> None:
        if self._pinned.set_running_or_notify_cancel():
            self._pinned.set_exception(error)


def _open_view(reference: weakref.ref[_DiskView], database: Database) -> None:
    view = reference()
    if view is not None:
        view.open(database)


def _let_go(pinned: Future[Pinned]) -> None:
    if not pinned.cancel():
        pinned.add_done_callback(lambda done: None if done.exception() else done.result().close())
